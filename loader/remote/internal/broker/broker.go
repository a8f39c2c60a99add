// Package broker is what hosts and nodes need of a message broker. Packages nats and mqtt have one each.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/duplex"
)

// Node is a process that serves a plug-in, as discovery has it.
type Node struct {
	ID      string
	Name    string // of the plug-in
	Version string // of the plug-in
	Address string // where sessions are asked for
	Serves  bool   // it speaks this version of docs/remote.md
}

// ErrDown is Send's where there is no connection.
var ErrDown = errors.New("there is no connection to the broker")

// Message is one that has come to an address.
type Message struct {
	To     string // the address that it came to
	From   string // the address of who has sent it, or ""
	Data   []byte // the receiver's from now on
	Nobody bool   // the broker says that nobody has the address that something was sent to from here
}

// Broker carries messages. Its methods may be called from any goroutine.
type Broker interface {
	// Listen has take called for what comes to a new address, which nobody can guess, one after the other. It is below another of this process's, as a session's is below
	// its node's, or of its own where that is "". stop ends that, and may be called in take.
	Listen(below string, take func(Message)) (address string, stop func(), err error)
	// Send sends a message, of which nothing is kept. from is an address of this process's, to which answers go. It waits for nobody.
	Send(to, from string, data []byte) error
	// Why says why nothing comes from who was sent something, where the broker can tell: duplex.ErrGone, or what this client may not do. nil is where nothing is known.
	Why(ctx context.Context, to string) error
	// MaxMessage is how long a message may be, in bytes; 0 is any length.
	MaxMessage() int
	// Find asks which nodes serve a plug-in. It returns when those have answered that do so soon.
	Find(ctx context.Context, name string) ([]Node, error)
	// Knows reports whether there is no node where Find has found none: with other brokers some are heard of a moment later, by Watch.
	Knows() bool
	// Watch tells of nodes that come, and go, and of the connection when it breaks: what was under way may be lost then.
	Watch(name string, w Watcher) (stop func(), err error)
	// Up waits until there is a connection, or ctx ends. since is when it came to be there.
	Up(ctx context.Context) (since time.Time, err error)
	// Denied says what the broker has refused last, where it has: it may say so later than it is asked.
	Denied() error
	// Close ends the connection.
	Close()
}

// Watcher is told what Watch finds. Its functions do not wait.
type Watcher struct {
	Came func(Node)
	Went func(id string)
	Down func(why error)
}

// Target is a plug-in that somewhere is served: its name, and which versions are wanted.
type Target struct {
	Name     string
	versions *semver.Constraints // nil is any
	text     string
}

// ParseTarget reads name, or name@versions. The error says what is wrong with it.
func ParseTarget(text string) (Target, error) {
	name, versions, has := strings.Cut(text, "@")
	t := Target{Name: name, text: text}
	if !ValidName(name) {
		return t, fmt.Errorf("%q, which is no plug-in's name", name)
	}
	if has {
		c, err := semver.NewConstraint(versions)
		if err != nil || versions == "" {
			return t, fmt.Errorf("the versions %q", versions)
		}
		t.versions = c
	}
	return t, nil
}

// String is the text that was read.
func (t Target) String() string { return t.text }

// ValidName reports whether a text can be the name of a plug-in: 1 to 128 letters, digits, '_', '-' and '.'.
func ValidName(name string) bool {
	return len(name) > 0 && len(name) <= 128 && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	})
}

// Secret is 128 bits that nobody can guess, as one word of an address.
func Secret() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ValidID reports whether a node's ID, or the end of a session's address, can be one: a word of 1 to 64 letters, digits, '_' and '-'.
func ValidID(id string) bool { return ValidName(id) && len(id) <= 64 && !strings.Contains(id, ".") }

// isBelow reports whether an address is one word below another, as sessions are below their node.
func isBelow(address, of string) bool {
	rest, ok := strings.CutPrefix(address, of)
	between := strings.IndexAny(of, "./")
	return ok && between >= 0 && len(rest) > 1 && rest[0] == of[between] && ValidID(rest[1:])
}

// The bounds of what is kept of nodes, and of what one may say of itself, in bytes.
const (
	MostNodes   = 10_000
	MostSaid    = 4 << 10
	mostVersion = 256
)

// ValidVersion reports whether a plug-in's version is of a length that nodes may say.
func ValidVersion(version string) bool { return len(version) <= mostVersion }

// Takes reports whether a version is wanted. One that is no semantic version is, where any is.
func (t Target) Takes(version string) bool {
	if t.versions == nil {
		return true
	}
	v, err := semver.NewVersion(version)
	return err == nil && t.versions.Check(v)
}

// Newer compares two versions: more than 0 where a comes after b.
func Newer(a, b string) int {
	x, err := semver.NewVersion(a)
	y, err2 := semver.NewVersion(b)
	switch {
	case err == nil && err2 == nil:
		return x.Compare(y)
	case err == nil:
		return 1
	case err2 == nil:
		return -1
	}
	return strings.Compare(a, b)
}

// Token is a node's or a plug-in's name as one word of a subject: a dot is written "_-", which no name needs.
func Token(name string) string { return strings.ReplaceAll(name, ".", "_-") }

// Open is what a host sends to a node's address, to have a session (rule B2).
type Open struct {
	At      int64 // the host's clock, in ns
	Session bool  // an instance of its own (loader.NewSession), and not what all hosts share
}

// Append writes it.
func (o Open) Append(b []byte) []byte {
	b = append(b, "OPEN 1 "...)
	b = strconv.AppendInt(b, o.At, 10)
	if o.Session {
		b = append(b, " session"...)
	}
	return append(b, '\n')
}

// Opened is a node's answer.
type Opened struct {
	Address  string // where the session is
	At       int64  // the host's clock, as it was in Open
	NodeTime int64  // the node's, in ns
	Refused  string // why there is none; "" where there is one
}

// Append writes it.
func (o Opened) Append(b []byte) []byte {
	if o.Refused != "" {
		return append(append(append(b, "REFUSED "...), o.Refused...), '\n')
	}
	b = append(append(b, "OPENED "...), o.Address...)
	b = strconv.AppendInt(append(b, ' '), o.At, 10)
	b = strconv.AppendInt(append(b, ' '), o.NodeTime, 10)
	return append(b, '\n')
}

var errForm = errors.New("it is not as docs/remote.md has it")

// ParseOpen reads an Open.
func ParseOpen(m []byte) (o Open, err error) {
	words, err := fields(m)
	if err != nil || len(words) < 3 || len(words) > 4 || words[0] != "OPEN" {
		return o, errForm
	}
	if words[1] != "1" {
		return o, fmt.Errorf("version %.20q, and this node speaks version 1", words[1])
	}
	if o.At, err = strconv.ParseInt(words[2], 10, 64); err != nil || o.At < 0 {
		return o, errForm
	}
	if o.Session = len(words) == 4; o.Session && words[3] != "session" {
		return o, errForm
	}
	return o, nil
}

// ParseOpened reads an Opened.
func ParseOpened(m []byte) (o Opened, err error) {
	words, err := fields(m)
	switch {
	case err != nil:
		return o, err
	case words[0] == "REFUSED" && len(words) > 1:
		o.Refused = strings.ToValidUTF8(strings.Join(words[1:], " "), "\uFFFD")
		return o, nil
	case words[0] != "OPENED" || len(words) != 4 || words[1] == "":
		return o, errForm
	}
	o.Address = words[1]
	var err2 error
	o.At, err = strconv.ParseInt(words[2], 10, 64)
	o.NodeTime, err2 = strconv.ParseInt(words[3], 10, 64)
	if err != nil || err2 != nil || o.At < 0 || o.NodeTime < 0 {
		return o, errForm
	}
	return o, nil
}

// fields splits a message of one line, of 1 KiB at most.
func fields(m []byte) ([]string, error) {
	const most = 1 << 10
	if len(m) < 2 || len(m) > most || m[len(m)-1] != '\n' {
		return nil, errForm
	}
	return strings.Split(string(m[:len(m)-1]), " "), nil
}

// Dial asks the node at an address for a session, over conn's messages. silence is how long the node may say nothing. The Conn's Host is true.
func Dial(ctx context.Context, b Broker, node string, session bool, silence time.Duration) (*duplex.Conn, func(), error) {
	type arrived struct {
		opened Opened
		at     time.Time
		err    error
	}
	first := make(chan arrived, 1)
	made := make(chan *duplex.Conn, 1)
	var conn *duplex.Conn // take's alone, as peer
	peer := ""
	address, stop, err := b.Listen("", func(m Message) {
		switch {
		case conn == nil && m.Nobody:
			first <- arrived{err: duplex.ErrGone}
			conn = <-made
		case conn == nil:
			o, err := ParseOpened(m.Data)
			if peer = o.Address; err == nil && o.Refused == "" && !isBelow(peer, node) {
				err = fmt.Errorf("it gives %.60q as its session's address, which is not below its own, %s", peer, node)
			}
			first <- arrived{o, time.Now(), err}
			conn = <-made
		case m.Nobody:
			conn.Fail(duplex.ErrGone)
		case m.From != peer: // it is somebody else's
		default:
			conn.Deliver(m.Data)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*duplex.Conn, func(), error) {
		dead := duplex.New(duplex.Options{Send: func([]byte) error { return nil }, Silence: silence}, 0, -1)
		dead.Fail(err)
		made <- dead
		stop()
		return nil, nil, err
	}
	asked := time.Now()
	if err := b.Send(node, address, Open{duplex.Clock(asked), session}.Append(nil)); err != nil {
		return fail(err)
	}
	late := time.NewTimer(silence)
	defer late.Stop()
	why := make(chan error, 1)
	asking, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	doubt := time.AfterFunc(duplex.AskAfter, func() {
		if err := b.Why(asking, node); err != nil {
			why <- err
		}
	})
	defer doubt.Stop()
	select {
	case <-ctx.Done():
		return fail(ctx.Err())
	case err := <-why:
		return fail(err)
	case <-late.C:
		return fail(fmt.Errorf("%w for %v", duplex.ErrSilent, silence))
	case a := <-first:
		switch {
		case a.err != nil:
			return fail(a.err)
		case a.opened.Refused != "":
			return fail(&Refused{a.opened.Refused})
		}
		trip := a.at.Sub(asked)
		offset := time.Duration(a.opened.NodeTime - (duplex.Clock(asked) + int64(trip)/2))
		to := a.opened.Address
		c := duplex.New(duplex.Options{Send: func(m []byte) error { return b.Send(to, address, m) }, MaxMessage: b.MaxMessage(), Silence: silence, Host: true},
			offset, trip/2+1)
		made <- c
		return c, stop, nil
	}
}

// Refused says why a node gives no session.
type Refused struct{ Why string }

// Error returns the node's words.
func (r *Refused) Error() string { return r.Why }

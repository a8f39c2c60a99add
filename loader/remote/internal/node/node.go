// Package node is the side that runs a plug-in for hosts elsewhere, over any broker: it gives sessions, and bounds what they may take.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/duplex"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Options are a node's.
type Options struct {
	Broker   broker.Broker
	Shared   *serve.Shared
	Sessions int           // how many there may be at a time
	MaxBody  int64         // how long an input may be, in bytes; 0 is the wire's bound
	Silence  time.Duration // how long a host may say nothing while it is waited for
	Logger   *slog.Logger
	Metrics  *serve.Metrics // or nil
}

// Limits are what a node takes on, as the packages' Node has it. Filled has a value in the place of each that is 0.
type Limits struct {
	Workers  int
	Queue    int
	Sessions int
	MaxBody  int64
	Silence  time.Duration
	Grace    time.Duration
	Logger   *slog.Logger
}

// Filled returns them with what a 0 stands for.
func (l Limits) Filled() Limits {
	l.Workers = max(l.Workers, 1)
	if l.Queue == 0 {
		l.Queue = 4 * l.Workers
	}
	l.Queue = max(l.Queue, 0)
	if l.Sessions <= 0 {
		l.Sessions = 1024
	}
	if l.Silence <= 0 {
		l.Silence = 2 * time.Second
	}
	if l.Grace <= 0 {
		l.Grace = 10 * time.Second
	}
	if l.Logger == nil {
		l.Logger = slog.Default()
	}
	return l
}

// Node gives sessions. Its methods may be called from any goroutine.
type Node struct {
	o     Options
	ctx   context.Context // of sessions
	stop  context.CancelFunc
	plain context.Context // of brokers' own requests
	cut   context.CancelFunc

	mu       sync.Mutex
	sessions map[*duplex.Conn]struct{}
	opening  int
	leaving  bool
	running  sync.WaitGroup
}

// New makes a node.
func New(o Options) *Node {
	n := &Node{o: o, sessions: make(map[*duplex.Conn]struct{})}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.plain, n.cut = context.WithCancel(context.Background())
	return n
}

// Fault says why hosts could not find a plug-in.
func Fault(shared *serve.Shared) error {
	if version := shared.Plugin().Info().Manifest.Version; !broker.ValidVersion(version) {
		return fmt.Errorf("found %d bytes in the plug-in's version, expected 256 at most", len(version))
	}
	return nil
}

// Ask takes a host's wish for a session, which has come to the node's address. It does not wait.
func (n *Node) Ask(m broker.Message) {
	if m.From == "" || m.Nobody {
		return // there is nowhere to answer
	}
	o, err := broker.ParseOpen(m.Data)
	switch {
	case err != nil:
		n.refuse(m.From, err.Error())
		return
	case !n.enter():
		n.refuse(m.From, "the node has as many sessions as it takes, or is leaving")
		return
	}
	defer n.running.Done()
	var conn *duplex.Conn
	made := make(chan struct{})
	address, stop, err := n.o.Broker.Listen(m.To, func(of broker.Message) {
		<-made
		switch {
		case of.Nobody:
			conn.Fail(duplex.ErrGone)
		case of.From == m.From: // what others send is not the host's
			conn.Deliver(of.Data)
		}
	})
	if err != nil {
		n.leave(nil)
		n.refuse(m.From, "the node has no address for a session: "+err.Error())
		return
	}
	conn = duplex.New(duplex.Options{Send: func(b []byte) error { return n.o.Broker.Send(m.From, address, b) }, MaxMessage: n.o.Broker.MaxMessage(), Silence: n.o.Silence}, 0, -1)
	close(made)
	n.mu.Lock()
	n.sessions[conn] = struct{}{}
	n.opening--
	n.mu.Unlock()
	now := duplex.Clock(time.Now())
	if err := n.o.Broker.Send(m.From, address, broker.Opened{Address: address, At: o.At, NodeTime: now}.Append(nil)); err != nil {
		conn.Fail(err)
	}
	n.running.Add(1)
	go func() {
		defer n.running.Done()
		// What the host has said by its end is not answered any more.
		err := n.o.Shared.Session(n.ctx, conn, o.Session, serve.Options{MaxBody: n.o.MaxBody, Grace: leaving, Hello: hello, Metrics: n.o.Metrics})
		stop()
		n.leave(conn)
		if err != nil && !errors.Is(err, context.Canceled) && n.o.Logger != nil {
			n.o.Logger.Debug("a session has ended", "host", m.From, "why", err.Error())
		}
	}()
}

// How long a host may take for its hello, and how long calls may go on when the node leaves: Leave has a bound of its own.
const (
	hello   = 10 * time.Second
	leaving = 24 * time.Hour
)

func (n *Node) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leaving || len(n.sessions)+n.opening >= n.o.Sessions {
		return false
	}
	n.opening++
	n.running.Add(1)
	return true
}

// leave takes in that a session has ended; nil is of one that never began.
func (n *Node) leave(conn *duplex.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if conn == nil {
		n.opening--
		return
	}
	delete(n.sessions, conn)
}

// Plain runs the answer to a broker's own request beside this goroutine, which Leave waits for. It reports false, and runs nothing, where the node is leaving.
func (n *Node) Plain(answer func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leaving {
		return false
	}
	n.running.Add(1)
	go func() {
		defer n.running.Done()
		answer()
	}()
	return true
}

// The codes of plain answers that are not the function's (rule B7).
const (
	CodeBusy    = "503"
	CodeLate    = "408"
	CodeTooLong = "500"
)

// Call runs a function for a broker's own request, which says how many milliseconds its caller waits, or "". Host functions are not to be had. code is "" for an output; otherwise
// message says what went wrong, in some words and 1,024 bytes at most: no broker has to carry more, and none carries nothing.
func (n *Node) Call(function, timeout string, in []byte) (out []byte, code, message string) {
	ctx := n.plain
	ms, ok := wire.Number([]byte(timeout))
	if !ok && timeout != "" {
		return nil, strconv.Itoa(int(abi.StatusInvalid)), fmt.Sprintf("found Ferrule-Timeout %.40q, expected milliseconds, a decimal number", timeout)
	}
	if ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(min(ms, 1<<40))*time.Millisecond)
		defer cancel()
	}
	out, err := n.o.Shared.Call(ctx, function, in)
	var notRun *serve.NotRun
	switch {
	case err == nil:
		return out, "", ""
	case errors.As(err, &notRun) && notRun.Why == wire.Late:
		return nil, CodeLate, err.Error()
	case errors.As(err, &notRun):
		return nil, CodeBusy, err.Error()
	}
	status, words, _ := serve.Answer(err)
	const most = 1 << 10
	message = strings.ToValidUTF8(string(words[:min(len(words), most)]), "")
	return nil, strconv.Itoa(int(status)), cmp.Or(message, status.String())
}

func (n *Node) refuse(to, why string) {
	_ = n.o.Broker.Send(to, "", broker.Opened{Refused: why}.Append(nil))
}

// Sessions returns how many there are.
func (n *Node) Sessions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.sessions)
}

// Down takes in that the connection to the broker broke: what was under way may be lost, so every session is over, and its calls are asked to stop.
func (n *Node) Down(why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.sessions {
		conn.Fail(why)
	}
}

// Leave has no session given any more, tells hosts that no more calls are taken, and waits until those that run are done, or ctx ends; then they are ended. The error says that
// there were some: a host that had not taken its leave is none. It is a *Deaf where some do not end: the plug-in is not closed then, and who has opened it must not wait for that.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	n.leaving = true
	n.mu.Unlock()
	n.o.Shared.Leave()
	n.stop()
	done := make(chan struct{})
	go func() {
		n.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	_, running, waiting := n.o.Shared.Places()
	n.cut()
	n.Down(errLeft)
	ends := func() bool {
		select {
		case <-done:
			return true
		case <-time.After(asked):
			return false
		}
	}
	if !ends() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		why := n.o.Shared.Plugin().Shutdown(over) // ends what is isolated
		if !ends() {
			return &Deaf{why}
		}
	}
	if running+waiting == 0 {
		return nil
	}
	return ctx.Err()
}

// asked is how long calls may take to stop when they were asked to, and to come back when what they run in was ended.
const asked = time.Second

// Deaf says that calls go on that were asked to stop.
type Deaf struct{ Why error }

// Error says what runs.
func (d *Deaf) Error() string { return "they were asked to stop, and go on: " + d.Why.Error() }

// Unwrap returns what Shutdown says.
func (d *Deaf) Unwrap() error { return d.Why }

var errLeft = errors.New("the node has left")

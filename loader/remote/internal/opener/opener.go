// Package opener is what a host says to open plug-ins beyond this machine, for every broker: the options, the URL, and the engine.
package opener

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/fleet"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Options are those that every broker has.
type Options struct {
	engine.Given // By is the public package

	attempts   int
	maxMessage int64
	grace      time.Duration
	silence    time.Duration
	start      time.Duration
	fault      error // the first
}

// New returns the options of a package before any was given.
func New(by string) Options {
	return Options{Given: engine.Given{By: by}, attempts: 3, maxMessage: wire.MaxBody, grace: 150 * time.Millisecond, silence: 2 * time.Second, start: 10 * time.Second}
}

// Take applies a package's options, which set to, in their order.
func Take[T any, O ~func(*T) error](o *Options, to *T, opts []O) {
	o.fault = engine.Take(&o.Given, to, opts)
}

// Attempts is WithAttempts.
func (o *Options) Attempts(n int) error {
	o.attempts = n
	if n < 1 {
		return o.Faulty("WithAttempts", fmt.Sprint(n), "1 or more")
	}
	return o.Once("WithAttempts")
}

// MaxMessage is WithMaxMessage.
func (o *Options) MaxMessage(n int64) error {
	o.maxMessage = n
	if n < 1 || n > math.MaxInt32 {
		return o.Faulty("WithMaxMessage", fmt.Sprint(n), "1 to 2147483647")
	}
	return o.Once("WithMaxMessage")
}

// Grace is WithGrace.
func (o *Options) Grace(d time.Duration) error { return o.lasts("WithGrace", &o.grace, d) }

// Silence is WithSilence.
func (o *Options) Silence(d time.Duration) error { return o.lasts("WithSilence", &o.silence, d) }

// Start is WithStartTimeout.
func (o *Options) Start(d time.Duration) error { return o.lasts("WithStartTimeout", &o.start, d) }

func (o *Options) lasts(option string, to *time.Duration, d time.Duration) error {
	*to = d
	if d <= 0 {
		return o.Faulty(option, d.String(), "more than 0")
	}
	return o.Once(option)
}

// Way is how an engine reaches a broker.
type Way struct {
	Kind    string   // how errors speak of its plug-ins, such as "plug-ins on nodes of NATS"
	Schemes []string // of its URLs
	Server  string   // what has to be there, such as "a NATS server"
	Secrets string   // the option that credentials are for
	// Refuses reports whether an error of Connect is that the credentials are not those that are asked for.
	Refuses func(error) bool
	// Connect connects to one of the servers, until ctx ends; timeout is how long the server may take for anything afterwards.
	Connect func(ctx context.Context, s Servers, timeout time.Duration) (broker.Broker, error)
}

// Engine is an engine.Engine.
type Engine struct {
	options Options
	way     Way
}

// NewEngine returns the engine of a package, with the options that it was given.
func NewEngine(o Options, w Way) *Engine { return &Engine{o, w} }

// Name is engine.Engine's.
func (e *Engine) Name() string { return e.options.By + ".Engine" }

// Words is engine.Engine's.
func (e *Engine) Words() engine.Words {
	return engine.Words{Kind: e.way.Kind, Twice: "Give it once, with all its options",
		Overdue: fmt.Sprintf("its call is left to the node %v after it was asked to stop (%s.WithGrace)", e.options.grace, e.options.By),
		Import:  "imports: ", Start: wire.Start, Starting: "the server or the node"}
}

// Fault is engine.Engine's.
func (e *Engine) Fault() error { return e.options.fault }

// Recognises is engine.Engine's.
func (e *Engine) Recognises(f *engine.File) bool {
	scheme, _, ok := strings.Cut(f.Path, "://")
	return ok && slices.Contains(e.way.Schemes, scheme)
}

// Open is engine.Engine's.
func (e *Engine) Open(ctx context.Context, f *engine.File, eo *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	o := &e.options
	servers, target, err := parse(f.Path, e.way.Schemes)
	if err != nil {
		scheme, remedy := e.way.Schemes[0], "Correct it; credentials are for "+e.way.Secrets
		if other, option := engine.URL(f.Path); other != "" && !slices.Contains(e.way.Schemes, other) {
			remedy = "Open it with " + option
		}
		return nil, nil, &inspect.Error{Path: engine.WithoutUsers(f.Path), Kind: loader.ErrOption, Found: err.Error(), Expected: fmt.Sprintf("%s://HOST:PORT/NAME, or %[1]s://HOST:PORT/NAME@VERSIONS", scheme),
			Remedy: remedy}
	}
	begun := time.Now()
	within, cancel := context.WithDeadline(ctx, begun.Add(o.start))
	defer cancel()
	b, err := e.way.Connect(within, servers, o.start)
	if err != nil && ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		found, remedy := "no server that answers", "Start it, and check the address"
		if e.way.Refuses(err) {
			found, remedy = "a server that refuses the credentials, or asks for some", "Give them with "+e.way.Secrets
		}
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: fmt.Sprintf("%s (%v)", found, err), Err: err, Expected: e.way.Server, Remedy: remedy}
	}
	return fleet.Open(ctx, fleet.Options{Broker: b, Path: f.Path, Target: target, By: o.By, MaxMessage: o.maxMessage, Grace: o.grace, Silence: o.silence, Start: o.start, Begun: begun,
		Attempts: o.attempts}, eo, accept)
}

// Servers are those of one broker.
type Servers struct {
	Scheme string
	Hosts  []string // each with or without a port
}

// String is their URLs, with commas between.
func (s Servers) String() string { return s.Scheme + "://" + strings.Join(s.Hosts, ","+s.Scheme+"://") }

// ParseServers reads SCHEME://HOST:PORT, or several, SCHEME://HOST:PORT,HOST:PORT; each may have a scheme, which is that of the first.
func ParseServers(text string) (s Servers, err error) {
	scheme, hosts, ok := strings.Cut(text, "://")
	if !ok {
		return s, fmt.Errorf("%q, which is no URL", engine.ServersWithoutUsers(text))
	}
	s.Scheme = scheme
	for host := range strings.SplitSeq(hosts, ",") {
		host = strings.TrimPrefix(strings.TrimSpace(host), scheme+"://")
		if strings.Contains(host, "@") { // which is not repeated
			return s, errors.New("a user in the URL")
		}
		u, err := url.Parse(scheme + "://" + host)
		if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" {
			return s, fmt.Errorf("%q, which is no server", host)
		}
		s.Hosts = append(s.Hosts, u.Host)
	}
	return s, nil
}

// parse splits a URL, which has one of the schemes, into the servers, and what is asked for.
func parse(path string, schemes []string) (s Servers, t broker.Target, err error) {
	scheme, hosts, name := engine.SplitURL(path)
	switch {
	case scheme == "":
		return s, t, fmt.Errorf("no scheme, such as %s://, before the server", schemes[0])
	case !slices.Contains(schemes, scheme):
		return s, t, fmt.Errorf("a URL with the scheme %s", scheme)
	case name == "":
		return s, t, errors.New("a URL without a plug-in's name")
	}
	if s, err = ParseServers(scheme + "://" + hosts); err != nil {
		return s, t, err
	}
	if unescaped, err := url.PathUnescape(name); err == nil {
		name = unescaped
	}
	t, err = broker.ParseTarget(name)
	return s, t, err
}

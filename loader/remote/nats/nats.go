// Package nats opens plug-ins that run on other machines, which a NATS server reaches, and serves plug-ins there. See docs/remote.md.
//
//	p, err := loader.Open("nats://localhost:4222/discount@^2", nats.Plugin())
//
// A node (Serve, `ferrule serve --nats URL`) is a NATS micro service. Each call goes to the node that has the fewest of this host's; a node that is killed fails
// its calls with an error that is remote.ErrNodeLost, a moment later. Host functions, streams, logs, progress and sessions are as those of every plug-in; what is
// the node's is not the host's to give: the configuration, the number of instances, the state.
package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/fleet"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Option is one choice of Plugin's and Engine's; see the With… functions. Each is given once. What is wrong with one is a *loader.OpenError of the kind
// loader.ErrOption, which Open returns.
type Option func(*options) error

type options struct {
	conn       []nats.Option
	attempts   int
	maxMessage int64
	grace      time.Duration
	silence    time.Duration
	start      time.Duration
	given      map[string]bool
}

// Plugin has loader.Open take a nats: or tls: URL: it is loader.WithEngine of Engine. The path of the URL is the plug-in's name, and, behind an @, which of its
// versions are wanted, such as ^2, ~1.4 or >=1.2, <3; a newer one comes first. Several servers of a cluster are host:port,host:port.
func Plugin(opts ...Option) loader.Option { return loader.WithEngine(Engine(opts...)) }

// Engine returns an engine for loader.WithEngine that opens nats: and tls: URLs, beside engines for other plug-ins.
func Engine(opts ...Option) engine.Engine {
	e := &natsEngine{options: options{attempts: 3, maxMessage: wire.MaxBody, grace: 150 * time.Millisecond, silence: 2 * time.Second, start: 10 * time.Second,
		given: make(map[string]bool)}}
	for i, opt := range opts {
		err := error(nil)
		if opt == nil {
			err = faulty("Engine", fmt.Sprintf("nil as option %d", i+1), "options that are made by functions named With…")
		} else {
			err = opt(&e.options)
		}
		if err != nil && e.fault == nil {
			e.fault = err
		}
	}
	return e
}

func faulty(option, found, expected string) error {
	return &loader.OpenError{Kind: loader.ErrOption, Found: "nats." + option + " with " + found, Expected: expected, Remedy: "Change that option"}
}

func once(name string, set func(*options) error) Option {
	return func(o *options) error {
		if o.given[name] {
			return &loader.OpenError{Kind: loader.ErrOption, Found: "nats." + name + " twice", Expected: "it once", Remedy: "Leave one of them out: none replaces another"}
		}
		o.given[name] = true
		return set(o)
	}
}

// WithConnection adds options of package nats.go to those of the connection: credentials, such as nats.UserCredentials, nats.Nkey and nats.Token, a prefix of its
// inboxes, or a name. What they say of waiting for a connection, and of what is sent without one, does not count.
func WithConnection(opts ...nats.Option) Option {
	return once("WithConnection", func(o *options) error {
		for i, opt := range opts {
			if opt == nil {
				return faulty("WithConnection", fmt.Sprintf("nil as option %d", i+1), "options of nats.go")
			}
		}
		o.conn = append(o.conn, opts...)
		return nil
	})
}

// WithTLS has the connection be by TLS, with this configuration, such as whose certificates are trusted. config is not changed.
func WithTLS(config *tls.Config) Option {
	return once("WithTLS", func(o *options) error {
		if config == nil {
			return faulty("WithTLS", "nil", "a configuration")
		}
		o.conn = append(o.conn, nats.Secure(config.Clone()))
		return nil
	})
}

// WithAttempts sets on how many nodes a call may be run, one after the other, where the one before was lost; without it 3. Only a function, or a hook, whose meta
// text says that it is idempotent is run again. A node that is busy, or that leaves, has not run the call, and does not count.
func WithAttempts(n int) Option {
	return once("WithAttempts", func(o *options) error {
		o.attempts = n
		if n < 1 {
			return faulty("WithAttempts", fmt.Sprint(n), "1 or more")
		}
		return nil
	})
}

// WithMaxMessage sets how long an input or an output may be, in bytes; without it 256 MiB. What is longer fails its call with loader.ErrNoMemory. It has nothing
// to do with the longest message of the server, above which inputs and outputs go in pieces.
func WithMaxMessage(n int64) Option {
	return once("WithMaxMessage", func(o *options) error {
		o.maxMessage = n
		if n < 1 || n > math.MaxInt32 {
			return faulty("WithMaxMessage", fmt.Sprint(n), "1 to 2147483647")
		}
		return nil
	})
}

// WithGrace sets how long a call waits for its node's word when its context has ended; without it 150 ms. Then it is left to its node, which was asked to stop it,
// and fails with a *loader.DeadlineError. d is more than 0.
func WithGrace(d time.Duration) Option {
	return once("WithGrace", func(o *options) error { o.grace = d; return positive("WithGrace", d) })
}

// WithSilence sets how long a node that has a call may say nothing, when it was asked whether it is there, before it is lost; without it 2 seconds. A node whose
// connection has ended is lost at once. d is more than 0.
func WithSilence(d time.Duration) Option {
	return once("WithSilence", func(o *options) error { o.silence = d; return positive("WithSilence", d) })
}

// WithStartTimeout sets how long Open waits for the server, and for a node; without it 10 seconds. d is more than 0.
func WithStartTimeout(d time.Duration) Option {
	return once("WithStartTimeout", func(o *options) error { o.start = d; return positive("WithStartTimeout", d) })
}

func positive(option string, d time.Duration) error {
	if d <= 0 {
		return faulty(option, d.String(), "more than 0")
	}
	return nil
}

type natsEngine struct {
	options
	fault error
}

// Name is engine.Engine's.
func (e *natsEngine) Name() string { return "nats.Engine" }

// Words is engine.Engine's.
func (e *natsEngine) Words() engine.Words {
	return engine.Words{Kind: "plug-ins on nodes of NATS", Twice: "Give it once, with all its options",
		Overdue: fmt.Sprintf("its call is left to the node %v after it was asked to stop (nats.WithGrace)", e.grace),
		Import:  "imports: ", Start: wire.Start, Starting: "the server, or the node,"}
}

// Fault is engine.Engine's.
func (e *natsEngine) Fault() error { return e.fault }

// Recognises is engine.Engine's.
func (e *natsEngine) Recognises(f *engine.File) bool {
	scheme, _, ok := strings.Cut(f.Path, "://")
	return ok && (scheme == "nats" || scheme == "tls")
}

// Open is engine.Engine's.
func (e *natsEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	servers, target, err := parse(f.Path)
	if err != nil {
		return nil, nil, &inspect.Error{Path: withoutUsers(f.Path), Kind: loader.ErrOption, Found: err.Error(), Expected: "nats://HOST:PORT/NAME, or nats://HOST:PORT/NAME@VERSIONS",
			Remedy: "Correct it; credentials are for nats.WithConnection"}
	}
	b, err := connect(servers, e.start, e.conn)
	if err != nil {
		found, remedy := "no server that answers", "Start it, and check the address"
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
			found, remedy = "a server that refuses the credentials, or asks for some", "Give them with nats.WithConnection, such as nats.UserCredentials"
		}
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: fmt.Sprintf("%s (%v)", found, err), Err: err, Expected: "a NATS server", Remedy: remedy}
	}
	return fleet.Open(ctx, fleet.Options{Broker: b, Path: f.Path, Target: target, By: "nats", MaxMessage: e.maxMessage, Grace: e.grace, Silence: e.silence, Start: e.start,
		Attempts: e.attempts}, o, accept)
}

// withoutUsers is a URL without what may be a password.
func withoutUsers(path string) string {
	scheme, rest, _ := strings.Cut(path, "://")
	hosts, name, ok := strings.Cut(rest, "/")
	all := strings.Split(hosts, ",")
	for i, host := range all {
		if _, behind, has := strings.Cut(host, "@"); has {
			all[i] = "…@" + behind
		}
	}
	path = scheme + "://" + strings.Join(all, ",")
	if ok {
		path += "/" + name
	}
	return path
}

// parse splits a URL into that of the servers, and what is asked for.
func parse(path string) (servers string, t broker.Target, err error) {
	scheme, rest, _ := strings.Cut(path, "://")
	hosts, name, ok := strings.Cut(rest, "/")
	if !ok {
		return "", t, fmt.Errorf("a URL without a plug-in's name")
	}
	var all []string
	for host := range strings.SplitSeq(hosts, ",") {
		if strings.Contains(host, "@") { // which is not repeated
			return "", t, errors.New("a user in the URL")
		}
		u, err := url.Parse(scheme + "://" + host)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" {
			return "", t, fmt.Errorf("%q, which is no server", host)
		}
		all = append(all, u.String())
	}
	if unescaped, err := url.PathUnescape(name); err == nil {
		name = unescaped
	}
	t, err = broker.ParseTarget(name)
	return strings.Join(all, ","), t, err
}

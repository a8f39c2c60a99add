// Package mqtt opens plug-ins that run on other machines, which an MQTT 5 broker reaches, and serves plug-ins there. See docs/remote.md.
//
//	p, err := loader.Open("mqtt://localhost:1883/discount@^2", mqtt.Plugin())
//
// A node (Serve) announces itself in a retained message, and its last will says that it is gone. Each call goes to the node that has the fewest of this host's; a node that is
// killed fails its calls with an error that is remote.ErrNodeLost, a moment later. Host functions, streams, logs, progress and sessions are as those of every plug-in; what is
// the node's is not the host's to give: the configuration, the number of instances, the state.
package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/opener"
)

// Option is one choice of Plugin's and Engine's; see the With… functions. Each is given once. What is wrong with one is a *loader.OpenError of the kind
// loader.ErrOption, which Open returns.
type Option func(*options) error

type options struct {
	opener.Options
	access access
}

// access is how a broker lets one in.
type access struct {
	user, password string
	tls            *tls.Config
}

// Plugin has loader.Open take an mqtt: or mqtts: URL, which is by TLS: it is loader.WithEngine of Engine. The path of the URL is the plug-in's name, and, behind an @, which of
// its versions are wanted, such as ^2, ~1.4 or >=1.2, <3; a newer one comes first. Several brokers of a cluster are host:port,host:port.
func Plugin(opts ...Option) loader.Option { return loader.WithEngine(Engine(opts...)) }

// Engine returns an engine for loader.WithEngine that opens mqtt: and mqtts: URLs, beside engines for other plug-ins.
func Engine(opts ...Option) engine.Engine {
	o := &options{Options: opener.New("mqtt")}
	opener.Take(&o.Options, o, opts)
	return opener.NewEngine(o.Options, opener.Way{Kind: "plug-ins on nodes of MQTT", Schemes: []string{"mqtt", "mqtts"}, Server: "an MQTT 5 broker", Secrets: "mqtt.WithCredentials",
		Refuses: func(err error) bool { return errors.Is(err, errRefused) },
		Connect: func(ctx context.Context, s opener.Servers, timeout time.Duration) (broker.Broker, error) {
			b := newConnection(s, o.access, timeout)
			root := hostsRoot + "/" + level(o.access.user) + "/" + broker.Secret()
			b.will = will{topic: root, payload: []byte(gone)}
			b.own(root, mostToHost)
			if err := b.start(ctx); err != nil {
				return nil, err
			}
			return b, nil
		}})
}

// WithCredentials sets the user's name and password.
func WithCredentials(user, password string) Option {
	return func(o *options) error {
		o.access.user, o.access.password = user, password
		if user == "" {
			return o.Faulty("WithCredentials", "no user", "a user's name, and a password")
		}
		return o.Once("WithCredentials")
	}
}

// WithTLS has the connection be by TLS, with this configuration, such as whose certificates are trusted; an mqtts: URL without it trusts those of the system. config is not
// changed.
func WithTLS(config *tls.Config) Option {
	return func(o *options) error {
		if config == nil {
			return o.Faulty("WithTLS", "nil", "a configuration")
		}
		o.access.tls = config.Clone()
		return o.Once("WithTLS")
	}
}

// WithAttempts sets on how many nodes a call may be run, one after the other, where the one before was lost; without it 3. Only a function, or a hook, whose meta
// text says that it is idempotent is run again. A node that is busy, or that leaves, has not run the call, and does not count.
func WithAttempts(n int) Option { return func(o *options) error { return o.Attempts(n) } }

// WithMaxMessage sets how long an input or an output may be, in bytes; without it 256 MiB. What is longer fails its call with loader.ErrNoMemory. It has nothing
// to do with the longest packet of the broker, above which inputs and outputs go in pieces.
func WithMaxMessage(n int64) Option { return func(o *options) error { return o.MaxMessage(n) } }

// WithGrace sets how long a call waits for its node's word when its context has ended; without it 150 ms. Then it is left to its node, which was asked to stop it,
// and fails with a *loader.DeadlineError. d is more than 0.
func WithGrace(d time.Duration) Option { return func(o *options) error { return o.Grace(d) } }

// WithSilence sets how long a node that has a call may say nothing, when it was asked whether it is there, before it is lost; without it 2 seconds. A node whose
// last will has come is lost at once. d is more than 0.
func WithSilence(d time.Duration) Option { return func(o *options) error { return o.Silence(d) } }

// WithStartTimeout sets how long Open waits for the broker and a node, together, and NewSession for a node and the start of its instance; without it 10 seconds. d is more than 0.
func WithStartTimeout(d time.Duration) Option { return func(o *options) error { return o.Start(d) } }

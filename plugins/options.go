package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// Option is one choice of New's. What is wrong with one is an error of Start's.
type Option func(*System)

// Config has the system do what the config.yaml at path says: which plug-ins there are, with what grants, limits and settings, and in what order their
// hooks run. Without it, all plug-ins that are found are there, with what Public and Grants give them.
func Config(path string) Option {
	return func(s *System) {
		if s.configPath != "" {
			s.wrong("Config", "two files", "one")
		}
		s.configPath = path
	}
}

// Folder has the system look for plug-ins in these folders, not in those below them, beside the folders of config.yaml. A folder that is not there
// has none, which is a line in the log.
func Folder(paths ...string) Option {
	return func(s *System) { s.folders = append(s.folders, paths...) }
}

// Builtin adds plug-ins in Go that are compiled in. One is there as long as no file is found for a plug-in of its name.
func Builtin(plugins ...*builtin.Plugin) Option {
	return func(s *System) { s.builtins = append(s.builtins, plugins...) }
}

// Engines adds engines for files that are no native code, such as wasm.Engine of the module loader/wasm, and script.Engine of loader/script: the first one that recognises a file opens it. Native code the system opens
// by itself, and plug-ins in Go come by Builtin.
//
// Where config.yaml has the url of an HTTP server, or of a plug-in that a broker reaches, the first one that recognises it opens that: web.Engine of package loader/sidecar/web, nats.Engine
// or mqtt.Engine of the module loader/remote, which package plugins does not bring along. The token and the certificates of the entry are said to it, where it is an engine.Reaching.
//
// What config.yaml permits a plug-in is said to its engine, where that is an engine.Permitting; with another one a plug-in that has permits fails. Of an engine.Apart, such as that of scripts in
// Python, the native code runs in a worker, in the sandbox of that. Nothing of another one is isolated in a worker: isolate in its entry is an error.
func Engines(engines ...engine.Engine) Option {
	return func(s *System) {
		for _, e := range engines {
			s.addEngine(e)
		}
	}
}

// Watch has the system take over what changes in its config.yaml and in its folders, while it runs. A symbolic link on the way to one of them, or to a file in a folder,
// that leads elsewhere by now is such a change.
func Watch() Option { return func(s *System) { s.watching = true } }

// Logger sets where the system and its plug-ins write; slog.Default() without it. The levels of config.yaml hold in addition.
func Logger(l *slog.Logger) Option {
	return func(s *System) {
		if l == nil {
			s.wrong("Logger", "nil", "a logger")
			return
		}
		s.logger = l
	}
}

// OnEvent has tell told what happens, in order, one event after the other, on a goroutine of the system's. Close waits for it, so tell must not call
// Close. A tell that blocks delays events, and nothing else; while more than 4,096 wait, the oldest are dropped. One that panics is told the next event.
func OnEvent(tell func(Event)) Option {
	return func(s *System) {
		if tell == nil {
			s.wrong("OnEvent", "nil", "a function")
			return
		}
		s.events.tell = append(s.events.tell, tell)
	}
}

// Grants has decide asked for what a plug-in asks for and config.yaml does not grant. It is asked before anything of the plug-in runs, once for each
// name, and may be asked again when the plug-in is opened anew. It is called one question at a time, on any goroutine.
func Grants(decide func(Request) bool) Option {
	return func(s *System) { s.decide = decide }
}

// Request is something that a plug-in asks for.
type Request struct {
	Plugin  string // the plug-in's name
	Version string // the version that asks
	What    string // "function", "service", or a permit: "read", "write", "connect", "listen", "memory"
	Name    string // the function's name, or what the permit is for
	Why     string // the plug-in's own words; may be empty
}

// Required names plug-ins without which Start fails, beside those that config.yaml requires.
func Required(names ...string) Option {
	return func(s *System) { s.required = append(s.required, names...) }
}

// LoaderOptions has options asked for further options of loader.Open, for the plug-in of this name.
func LoaderOptions(options func(name string) []loader.Option) Option {
	return func(s *System) { s.loaderOptions = options }
}

// Counting has the system count and time calls for Stats from Start on. Without it they cost nothing, and Stats has none.
func Counting() Option { return func(s *System) { s.counting = true } }

// PointOption is one choice of a point's. What is wrong with one is an error of Start's.
type PointOption func(*point)

// OnError sets what a hook that fails does to the dispatch.
func OnError(policy Policy) PointOption {
	return func(p *point) {
		if policy == byKind || policy > Join {
			p.wrong("OnError", fmt.Sprint(policy), "Stop, Skip or Join")
			return
		}
		p.policy = policy
	}
}

// DefaultLimit is how long a hook may take at a point without a Limit.
const DefaultLimit = 5 * time.Second

// Limit sets how long one hook may take, 0 for as long as it likes; without it that is DefaultLimit, and at a Wrap, where all that a hook stands around is in its
// time, there is none. A plug-in's own limit in config.yaml
// comes first where it is shorter. Then the hook is asked to stop; isolated, it is killed when it does not. In this process it then holds its caller,
// and is left out for all others as if by Breaker. Time in which the plug-in waits for an instance does not count.
func Limit(d time.Duration) PointOption {
	return func(p *point) {
		if d < 0 {
			p.wrong("Limit", d.String(), "0 or more")
			return
		}
		p.limit, p.limited = d, true
	}
}

// Breaker sets how many failures in a row have a hook left out, and for how long the first time; that doubles each time up to a minute. Without
// it that is 5, and a second. With 0 failures no hook is ever left out. What a caller's context or invalid input brings about is no failure.
func Breaker(failures int, first time.Duration) PointOption {
	return func(p *point) {
		if failures < 0 || failures > 0 && first <= 0 {
			p.wrong("Breaker", fmt.Sprintf("%s and %v", sentence.Count(failures, "failure"), first), "0 failures, or more and a time")
			return
		}
		p.after, p.leaveOut = failures, first
	}
}

// Parallel has a Notify or a Collect call all hooks at the same time.
func Parallel() PointOption {
	return func(p *point) {
		if p.kind != KindNotify && p.kind != KindCollect {
			p.wrong("Parallel", "a point of the kind "+string(p.kind), "notify or collect")
		}
		p.parallel = true
	}
}

// Needs names functions that a plug-in must export to attach to the point. One that does not fails before it is opened.
func Needs(functions ...string) PointOption {
	return func(p *point) { p.needs = append(p.needs, functions...) }
}

// Codec sets how values become bytes, in place of loader.JSON.
func Codec(c loader.Codec) PointOption {
	return func(p *point) {
		if c == nil {
			p.wrong("Codec", "nil", "a codec")
			return
		}
		p.codec = c
	}
}

// Keep has a Notify keep the last event of each kind, for plug-ins that come later: they are told these first, each once, in the order in which they
// happened. kind says of which kind an event is, which the point's Call was given; events of the kind "" are not kept. T is the point's, or an interface that it has.
func Keep[T any](kind func(event T) string) PointOption {
	return func(p *point) {
		if p.kind != KindNotify || kind == nil {
			p.wrong("Keep", "a point of the kind "+string(p.kind)+", or nil", "notify, and a function")
			return
		}
		p.history = &history{of: reflect.TypeFor[T](), kind: func(event any) string {
			e, _ := event.(T) // an interface that is nil is the zero T
			return kind(e)
		}}
	}
}

// Documented says what the point is for, which tools show.
func Documented(doc string) PointOption { return func(p *point) { p.doc = doc } }

// OfferOption is one choice of Offer's.
type OfferOption func(*offer)

// Doc says what a host function does, which tools show.
func Doc(doc string) OfferOption { return func(o *offer) { o.doc = doc } }

// Public offers a host function to every plug-in: none needs a grant for it.
func Public() OfferOption { return func(o *offer) { o.public = true } }

// PerSecond bounds how often each plug-in may call a host function: at most n times within any one second, wherever that begins, and the call fails beyond
// that, with a status of loader.ErrFailed. A call that fails so does not count. The times of the last n calls of each plug-in are kept, 24 bytes each.
func PerSecond(n int) OfferOption {
	return func(o *offer) {
		if n <= 0 {
			o.fault = fmt.Sprintf("PerSecond with %d for %s", n, o.name)
		}
		o.perSecond = n
	}
}

// With sets how values become bytes, in place of loader.JSON.
func With(c loader.Codec) OfferOption { return func(o *offer) { o.codec = c } }

// offer is a host function that the application offers.
type offer struct {
	name      string
	doc       string
	public    bool
	perSecond int
	codec     loader.Codec
	fn        loader.HostFunc
	fault     string
}

// Offer offers a host function, before Start, to the plug-ins that are granted it. One that is offered later is had by
// nobody: that is ErrLate, in the log and as an error of Reload. The values become JSON, unless With says otherwise; a []byte
// is handed on as it is. fn is called on any goroutine, at the same time; Caller says for which plug-in. An error of it is a loader.HostFunc's.
func Offer[In, Out any](sys *System, name string, fn func(context.Context, In) (Out, error), opts ...OfferOption) {
	o := &offer{name: name, codec: loader.JSON}
	for _, opt := range opts {
		if opt == nil {
			o.fault = "Offer of " + name + " with nil for an option"
			continue
		}
		opt(o)
	}
	switch {
	case !abi.ValidName(name):
		o.fault = fmt.Sprintf("Offer with the name %q", name)
	case fn == nil:
		o.fault = "Offer of " + name + " with nil"
	case o.codec == nil:
		o.fault = "Offer of " + name + " with nil for a codec"
	}
	if o.fault == "" {
		o.fn = hostFunc(o.codec, fn)
	}
	sys.offer(o)
}

// hostFunc is a host function on bytes.
func hostFunc[In, Out any](c loader.Codec, fn func(context.Context, In) (Out, error)) loader.HostFunc {
	if raw, ok := any(fn).(func(context.Context, []byte) ([]byte, error)); ok {
		return raw
	}
	return loader.FuncWith(c, fn)
}

package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Shared is a plug-in that was opened once, for any number of sessions: each host's calls may meet any instance, and the configuration is who has opened it's.
// What it asks of its host is asked of the host whose call it is for. Its methods may be called from any goroutine, at any time.
type Shared struct {
	about  *abi.Description // what hosts are told: nothing is started, changed or saved by them
	own    *abi.Description // the same of an instance of a host's own
	plugin *loader.Plugin
	funcs  [2]map[string]*loader.Func
	places chan struct{}
	queue  int64
	waits  atomic.Int64
	leaves chan struct{} // closed by Leave
	once   sync.Once
	counts map[string]*Count
	logger *slog.Logger
}

// Count is what has become of the calls of one function, or hook, since the plug-in was opened.
type Count struct {
	Calls, Failed, NotRun, Running atomic.Int64
	Time                           atomic.Int64 // that calls have run, in ns
}

// Share opens a plug-in for Shared's sessions: places is how many calls run at a time, of all hosts, 1 or more, and queue how many more may wait for a place; others
// are answered as not run. opts are Open's, beside what hosts offer. A line that no call of a host's is behind goes to logger, which is not nil, from any goroutine; so does a crash of the plug-in in a worker,
// which hosts hear as a panic.
//
// The error is of the numbers, of a logger that is nil, of a Plugin that says nothing of itself, or what p.Open returned; nothing is open then.
func Share(p Plugin, places, queue int, logger *slog.Logger, opts ...loader.Option) (*Shared, error) {
	if places < 1 || queue < 0 {
		return nil, fmt.Errorf("serve: found %d places and a queue of %d, expected 1 or more, and 0 or more", places, queue)
	}
	if logger == nil {
		return nil, errors.New("serve: found nil as the logger, expected one. slog.New(slog.DiscardHandler) drops all lines")
	}
	if p.About == nil {
		return nil, p.unknown()
	}
	s := &Shared{places: make(chan struct{}, places), queue: int64(queue), leaves: make(chan struct{}), counts: make(map[string]*Count), logger: logger}
	own, about := *p.About, *p.About
	own.HasStart, own.HasStop, own.HasConfigure, own.HasSave, own.HasResume = true, false, false, false, false
	// What may be handed over is the node's; a manifest that says how has the services for it. p.About is only read.
	manifest := *own.Manifest
	own.Manifest, manifest.State = &manifest, ""
	own.Manifest.Keys = slices.DeleteFunc(slices.Clone(own.Manifest.Keys), func(k abi.KeyValue) bool { return k.Key == "state" })
	about = own
	about.HasStart = false
	s.own, s.about = &own, &about
	all := append(opts[:len(opts):len(opts)], loader.WithLogger(slog.New(&router{to: logger.Handler()})))
	for _, of := range [][]abi.Symbol{p.About.Imports, p.About.Wants} {
		for _, f := range of {
			all = append(all, loader.WithHostFunc(f.Name, func(ctx context.Context, in []byte) ([]byte, error) {
				c, ok := ctx.Value(callKey{}).(*call)
				if !ok {
					return nil, fmt.Errorf("%s is a host's, and no call of one is behind this: %w", f.Name, abi.StatusUnsupported)
				}
				return c.s.ask(ctx, f.Name, in)
			}))
		}
	}
	var err error
	if s.plugin, err = p.Open(all...); err != nil {
		return nil, err
	}
	if s.funcs, err = functions(p.About, s.plugin); err != nil {
		_ = s.plugin.Close()
		return nil, err
	}
	for _, of := range [][]abi.Symbol{p.About.Funcs, p.About.Hooks} {
		for _, f := range of {
			s.counts[f.Name] = new(Count)
		}
	}
	return s, nil
}

// About is what hosts are told of the plug-in; own, of an instance of a host's own. It is only read.
func (s *Shared) About(own bool) *abi.Description {
	if own {
		return s.own
	}
	return s.about
}

// Plugin is the open plug-in, which Close closes.
func (s *Shared) Plugin() *loader.Plugin { return s.plugin }

// Counts has what has become of the calls, by function. It is only read.
func (s *Shared) Counts() map[string]*Count { return s.counts }

// Places says how many calls run at a time, how many run now, and how many wait.
func (s *Shared) Places() (all, taken, waiting int) {
	return cap(s.places), len(s.places), int(s.waits.Load())
}

// Leave has calls that come from now on answered as not run. Those that run, and those that wait, are not touched.
func (s *Shared) Leave() { s.once.Do(func() { close(s.leaves) }) }

// Close closes the plug-in as loader.Plugin.Close does: it waits for calls that run, and calls that come later fail. It ends no session: who has begun some ends them before, by their context. A second Close
// returns the same.
func (s *Shared) Close() error { return s.plugin.Close() }

// Session serves one host as the function Session does: it returns when the session is over, has closed conn then, and the error is that one's. With own the host has an instance of its own, which it gives a configuration.
func (s *Shared) Session(ctx context.Context, conn io.ReadWriteCloser, own bool, o Options) error {
	return Session(ctx, conn, Plugin{About: s.About(own), shared: s}, o)
}

// Call runs a function for who speaks another protocol than the wire: with its place, for which it may wait, and its count. The input is only read, and the caller's again on return; the output is a new
// slice, the caller's. The error is a *NotRun where nothing was run, or the call's, as loader.Func.Call's; of a function that is not there it is abi.StatusUnsupported.
func (s *Shared) Call(ctx context.Context, name string, in []byte) ([]byte, error) {
	fn := s.funcs[0][name]
	if fn == nil {
		return nil, fmt.Errorf("there is no function %s: %w", name, abi.StatusUnsupported)
	}
	if why := s.enter(ctx); why != 0 {
		s.counts[name].NotRun.Add(1)
		return nil, &NotRun{why}
	}
	defer s.exit()
	var err error
	var out []byte
	s.counted(name, func() bool {
		out, err = fn.Call(ctx, in)
		return err == nil
	})
	tellCrash(s.logger, err)
	return out, err
}

// NotRun says that a call did nothing, and why.
type NotRun struct{ Why wire.Reason }

// Error gives the reason.
func (n *NotRun) Error() string { return "the call was not run: " + n.Why.String() }

// enter takes a place, for which it may wait; or says why not.
func (s *Shared) enter(ctx context.Context) wire.Reason {
	if why := s.tryEnter(ctx); why != wire.Busy {
		return why
	}
	if s.waits.Add(1) > s.queue {
		s.waits.Add(-1)
		return wire.Busy
	}
	defer s.waits.Add(-1)
	select {
	case s.places <- struct{}{}:
		if isOver(ctx) { // both had come
			<-s.places
			return wire.Late
		}
		return 0
	case <-ctx.Done():
		return wire.Late
	}
}

// tryEnter is enter that does not wait.
func (s *Shared) tryEnter(ctx context.Context) wire.Reason {
	select {
	case <-s.leaves:
		return wire.Leaving
	default:
	}
	if isOver(ctx) {
		return wire.Late
	}
	select {
	case s.places <- struct{}{}:
		return 0
	default:
		return wire.Busy
	}
}

// isOver reports whether a context has ended, or its deadline is over and nobody was told yet: where this process was stopped, timers come late.
func isOver(ctx context.Context) bool {
	at, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(at)
}

func (s *Shared) exit() { <-s.places }

// counted counts a call, which reports whether it has succeeded.
func (s *Shared) counted(name string, call func() bool) {
	n := s.counts[name]
	if n == nil {
		n = new(Count)
	}
	n.Calls.Add(1)
	n.Running.Add(1)
	begin := time.Now()
	succeeded := false
	defer func() {
		n.Time.Add(int64(time.Since(begin)))
		if !succeeded {
			n.Failed.Add(1)
		}
		n.Running.Add(-1) // last: a call that does not run is counted everywhere
	}()
	succeeded = call()
}

// functions finds all that a plug-in has, by name.
func functions(about *abi.Description, of interface {
	Func(name string) (*loader.Func, error)
	Hook(point string) (*loader.Func, error)
}) (funcs [2]map[string]*loader.Func, err error) {
	funcs = [2]map[string]*loader.Func{{}, {}}
	for _, f := range about.Funcs {
		if funcs[0][f.Name], err = of.Func(f.Name); err != nil {
			return funcs, err
		}
	}
	for _, h := range about.Hooks {
		if funcs[1][h.Name], err = of.Hook(h.Name); err != nil {
			return funcs, err
		}
	}
	return funcs, nil
}

// router hands a line to the host whose call it is of, and one of no call's to who has opened the plug-in.
type router struct {
	to   slog.Handler
	make func(h *logger) slog.Handler // what was added to the logger
}

func (l *router) of(ctx context.Context) slog.Handler {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return l.to
	}
	h := slog.Handler(&logger{s: c.s})
	if l.make != nil {
		h = l.make(&logger{s: c.s})
	}
	return h
}

// Enabled is slog.Handler's.
func (l *router) Enabled(ctx context.Context, level slog.Level) bool {
	return l.of(ctx).Enabled(ctx, level)
}

// Handle is slog.Handler's.
func (l *router) Handle(ctx context.Context, r slog.Record) error { return l.of(ctx).Handle(ctx, r) }

func (l *router) with(to slog.Handler, add func(slog.Handler) slog.Handler) slog.Handler {
	before := l.make
	return &router{to, func(h *logger) slog.Handler {
		if before != nil {
			return add(before(h))
		}
		return add(h)
	}}
}

// WithAttrs is slog.Handler's.
func (l *router) WithAttrs(attrs []slog.Attr) slog.Handler {
	return l.with(l.to.WithAttrs(attrs), func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup is slog.Handler's.
func (l *router) WithGroup(name string) slog.Handler {
	return l.with(l.to.WithGroup(name), func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

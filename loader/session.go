package loader

import (
	"bytes"
	"context"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// Session is an instance of a plug-in for one user of it: its calls go there, and nobody else's. It is where a plug-in keeps what belongs
// together across calls, such as a cursor, a handle, or what is between begin and end (rule R15); without a session a call may meet any
// instance. Its methods may be called from any goroutine at the same time.
type Session struct {
	plugin       *Plugin
	engine       engine.Plugin
	funcs, hooks map[string]*Func
}

// NewSession starts an instance of the plug-in, beside the others, whose number is WithInstances': how many sessions there are is the
// caller's to bound. config is what ferrule_start gets; it is copied. With nil that is what the plug-in was opened with, or what
// Configure has given it since. What the plug-in declares of its threads holds for the instance.
//
// ctx is that of the start: host functions that ferrule_start calls get it. In this process a start is not given up half way; isolated,
// NewSession returns when ctx ends, and the start goes on in the background, within isolate.WithStartTimeout, after which its worker is killed. The caller closes the session; Close and Shutdown of the plug-in do so, too. The error is a *UsageError, an
// *OpenError when the instance does not start, or what Func.Append returns.
func (p *Plugin) NewSession(ctx context.Context, config []byte) (*Session, error) {
	e, ok := p.engine.(engine.Sessions)
	if !ok {
		return nil, p.cannot("NewSession")
	}
	s, err := e.NewSession(ctx, bytes.Clone(config))
	if err != nil {
		with := "that NewSession was given"
		if config == nil {
			with = "that was accepted last (Configure), or that Open was given (WithConfig)"
		}
		return nil, startedWith(with, callError(p.Name(), "", 0, nil, err, ctx))
	}
	session := &Session{plugin: p, engine: s}
	session.funcs, session.hooks = p.functions(s)
	return session, nil
}

// startedWith says of an instance that could not be started which configuration it had, and what to do about that; of one that panicked or broke a rule the remedy is another.
func startedWith(which string, err error) error {
	if open, ok := err.(*OpenError); ok && open.Remedy == ofConfiguration {
		open.Remedy = "It was started with the configuration " + which + ": correct that where it is the reason"
	}
	return err
}

// Plugin returns the plug-in that the session is of.
func (s *Session) Plugin() *Plugin { return s.plugin }

// Func returns the exported function with this name, for calls in this session, as Plugin.Func does. Where the instance has panicked, or its
// worker has ended, the call in which that happened fails as any call would; all later ones fail with a *UsageError of the kind ErrLost:
// the instance is not started anew in silence.
func (s *Session) Func(name string) (*Func, error) { return s.plugin.funcOf(s.funcs, name) }

// Hook is Func for what the plug-in attaches to an extension point.
func (s *Session) Hook(point string) (*Func, error) { return s.plugin.hookOf(s.hooks, point) }

// Call calls the exported function with this name in the session, as Plugin.Call does.
func (s *Session) Call(ctx context.Context, name string, in []byte) ([]byte, error) {
	f, err := s.Func(name)
	if err != nil {
		return nil, err
	}
	return f.Append(ctx, nil, in)
}

// Close refuses new calls in the session, waits for those that run, and stops its instance. It must not be called by a host
// function in a call of the session: it would wait for itself. A second Close waits for the first and returns the same. The error is nil in
// this process, and where the session is lost; isolated it may be a *CrashError. When the plug-in is being closed, that stops the instance, and Close
// waits for it. Isolated, while all of 256 lanes are held by views, Close waits until one is released (View.Release).
func (s *Session) Close() error { return s.plugin.closed(s.engine.Close()) }

// Shutdown is Close with a bound, as Plugin.Shutdown is. Isolated, the worker is not killed when ctx ends, because others use it: the
// error is a *ShutdownError that says what still runs.
func (s *Session) Shutdown(ctx context.Context) error { return s.plugin.closed(s.engine.Shutdown(ctx)) }

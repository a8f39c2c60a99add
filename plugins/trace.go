package plugins

import (
	"context"
	"errors"

	"github.com/ferrule-dev/ferrule/loader"
)

// Call is a call in one direction or the other, as Trace is told of it.
type Call struct {
	Plugin   string // that is called, or calls
	Point    string // whose hook is called; "" of a function
	Function string // of the plug-in, that is called; "" of a hook
	Host     string // the host function or service that the plug-in calls; "" where it is called
}

// Trace has begin told of each call of a hook or of a Func, and of each host function and service that a plug-in calls, on the caller's goroutine before it
// runs. It runs with the context that begin returns, which must come from ctx; a host function gets one that comes from that of the call in which it was
// called. end is told what came of it, once, when it is over: nil, an error, or loader.ErrPass where the plug-in has nothing to say; nil for
// end is for nobody to be told. Each is called from any goroutine, at the same time. A second Trace stands inside the first. Without one, calls
// cost nothing more.
func Trace(begin func(ctx context.Context, call Call) (inside context.Context, end func(err error))) Option {
	return func(s *System) {
		if begin == nil {
			s.wrong("Trace", "nil", "a function")
			return
		}
		s.trace = &trace{s.trace, begin}
	}
}

// trace is one Trace, and those around it.
type trace struct {
	outer *trace
	start func(context.Context, Call) (context.Context, func(error))
}

// begin begins a call in all of them.
func (t *trace) begin(ctx context.Context, call Call) (inside context.Context, end func(error)) {
	outer := func(error) {}
	if t.outer != nil {
		ctx, outer = t.outer.begin(ctx, call)
	}
	inside, own := t.start(ctx, call)
	if inside == nil {
		inside = ctx
	}
	if own == nil {
		return inside, outer
	}
	return inside, func(err error) {
		defer outer(err)
		own(err)
	}
}

// errEnded is what came of a call that has not returned.
var errEnded = errors.New("it has panicked, or ended its goroutine (runtime.Goexit)")

// traced is a host function with the system's trace around it.
func (s *System) traced(plugin, name string, fn loader.HostFunc) loader.HostFunc {
	if s.trace == nil {
		return fn
	}
	return func(ctx context.Context, in []byte) (out []byte, err error) {
		inside, end := s.trace.begin(ctx, Call{Plugin: plugin, Host: name})
		err = errEnded
		defer func() { end(err) }()
		return fn(inside, in)
	}
}

// names says what is called.
func (a *attachment) names() Call {
	if a.point.kind == "" {
		return Call{Plugin: a.entry.name, Function: a.name}
	}
	return Call{Plugin: a.entry.name, Point: a.point.name}
}

// traced makes a call with the system's trace around it.
func (a *attachment) traced(ctx context.Context, call func(ctx context.Context) ([]byte, loader.Status, error)) (out []byte, status loader.Status, err error) {
	trace := a.point.sys.trace
	if trace == nil {
		return call(ctx)
	}
	inside, end := trace.begin(ctx, a.names())
	err = errEnded
	defer func() {
		if err == nil && status != 0 {
			end(status)
			return
		}
		end(err)
	}()
	return call(inside)
}

package loader

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/panics"
)

// WithCallTimeout sets how long any call of the plug-in's functions and hooks may run, whatever its context says; without it there is no
// limit. d is more than 0. Func.WithTimeout gives one function another limit.
//
// When the time is over, the call is asked to stop, as when its context ends (rule R17): in this process no sooner than d after it began,
// and some 2 ms later at the most. What the function then returns counts: a result that comes late is a result, and
// ErrCancelled is a *CallError that wraps context.DeadlineExceeded and names the limit. The contexts of its host functions end as well, and so a call
// of a plug-in that is made with one of them; so does the context of a function of package builtin, and the streams of Func.Stream break off, which
// says what it then waits for.
//
// A function that does not stop holds its caller, in this process; see WithOverdue. Isolated, its worker is killed after the grace period
// (isolate.WithGrace), and the call fails with a *DeadlineError.
//
// The limit is for running. Waiting for an instance, for a worker, or for one that panicked to be started anew does not count; what host functions take
// does. ferrule_start and the like have no such limit. A batch goes to the plug-in in parts, of up to 256 records in this
// process, and isolated of up to 65,536 and 1 MiB of inputs, and each part may run as long as one call. When its time is over, Func.Batch returns an
// error that names the limit, and the records that ran until then are in the Batch.
//
// In this process it costs a call some nanoseconds, where a context with a deadline for each call costs ten times the call.
func WithCallTimeout(d time.Duration) Option {
	return once("WithCallTimeout", func(o *options) error {
		if d <= 0 {
			return optionError("WithCallTimeout", d.String(), "more than 0; leave it out for no limit")
		}
		o.timeout = d
		return nil
	})
}

// WithTimeout returns the same function with a limit of its own, in place of that of WithCallTimeout, which says what it does. With 0, or less, it
// has none. It is made once, and used for many calls, of all kinds; what it shares with f is everything else, and f stays as it is.
func (f *Func) WithTimeout(d time.Duration) *Func {
	own := *f
	own.fn.Limit = nil
	if d > 0 {
		own.fn.Limit = &engine.Limit{After: d, By: "Func.WithTimeout", Func: f.name}
	}
	return &own
}

// WithOverdue has tell called when a function does not stop: once for each call that has not come back some 50 ms after it was asked to because of its
// limit (WithCallTimeout, Func.WithTimeout), isolated also before its worker is killed. name is that of the function or the hook. tell is called on
// another goroutine, for one call at a time, in their order, with no lock of the plug-in's held: no call waits for it. A panic of it is a
// line in the plug-in's log.
//
// Without it, there is a line in the log (WithLogger) for the first such call of each function.
func WithOverdue(tell func(name string, limit time.Duration)) Option {
	return once("WithOverdue", func(o *options) error {
		if tell == nil {
			return optionError("WithOverdue", "nil", "a function; leave it out for a line in the log")
		}
		o.overdue = tell
		return nil
	})
}

// Caller returns the name of the plug-in whose call ctx is of: in a host function, with the context that it was given, or one that comes
// from it; also where ferrule_start and the like have called it, or the plug-in has between calls, and in a handler of log lines. ok is false for any other context, and
// when that call is over: then it is the plug-in's that had called for that call, where that one still runs.
func Caller(ctx context.Context) (name string, ok bool) {
	if ctx == nil {
		return "", false
	}
	return callctx.Owner(ctx)
}

// overdue tells of the calls that do not stop, on a goroutine that there is while there are any to tell of.
type overdue struct {
	tell func(*engine.Limit)

	mu      sync.Mutex
	queue   []*engine.Limit
	running bool
}

// Overdue is engine.Host's.
func (o *overdue) Overdue(limit *engine.Limit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append(o.queue, limit)
	if !o.running {
		o.running = true
		go o.run()
	}
}

// next returns the call to tell of, nil where there is none any more.
func (o *overdue) next() *engine.Limit {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		o.running, o.queue = false, nil
		return nil
	}
	limit := o.queue[0]
	o.queue = o.queue[1:]
	return limit
}

func (o *overdue) run() {
	ended := true
	defer func() {
		if ended { // tell has ended the goroutine
			go o.run()
		}
	}()
	for limit := o.next(); limit != nil; limit = o.next() {
		o.tell(limit)
	}
	ended = false
}

// tellsOf returns who is told of calls that do not stop: tell, or the log. remedy says what to do about it.
func (s *services) tellsOf(tell func(string, time.Duration), remedy string) func(*engine.Limit) {
	if tell != nil {
		return func(l *engine.Limit) {
			defer func() {
				if value := recover(); value != nil {
					s.log(context.Background(), slog.LevelError, "WithOverdue: the function that is told of "+l.Func+" panicked: "+panics.Text(value))
				}
			}()
			tell(l.Func, l.After)
		}
	}
	said := make(map[string]bool)
	return func(l *engine.Limit) {
		if !said[l.Func] {
			said[l.Func] = true
			s.log(context.Background(), slog.LevelWarn, fmt.Sprintf("%s was asked to stop %v, since %s, and has not: %s", l.Func, l,
				time.Now().Add(-engine.OverdueAfter).Format(time.TimeOnly), remedy))
		}
	}
}

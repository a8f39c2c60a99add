package callctx

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// Bound knows when the limit of a call is over.
type Bound interface {
	// Until returns when the limit of c is over, and which it is; ok is false where c is over. It runs no foreign code.
	Until(c *Call) (at time.Time, limit *engine.Limit, ok bool)
}

// Until is a Bound that is known.
type Until struct {
	At    time.Time
	Limit *engine.Limit
}

// Until is Bound's.
func (u *Until) Until(*Call) (time.Time, *engine.Limit, bool) { return u.At, u.Limit, true }

// limited is the limit of a Call. As a context the Call ends with it: a context that does is made when it is first asked for what
// depends on it, so that calls whose host functions do not ask pay for no timer. It is not ended with the call, because what was
// made of it may be kept, and is ended by its timer.
type limited struct {
	bound Bound
	made  atomic.Pointer[ends]
}

type ends struct {
	context.Context
	limit  *engine.Limit
	cancel context.CancelFunc // of one that was made in vain
}

// NewLimited is NewCalls for calls with limits, which bound knows.
func NewLimited(c Caller, owner string, holds any, n int, bound Bound) *Calls {
	calls := NewCalls(c, owner, holds, n)
	calls.limited = true
	limits := make([]limited, n)
	for i := range limits {
		limits[i].bound = bound
		calls.calls[i].limit = &limits[i]
	}
	return calls
}

// Limited reports whether they are of calls with limits.
func (c *Calls) Limited() bool { return c.limited }

// made returns the context that ends with the limit, nil where there is none yet.
func (c *Call) made() *ends {
	if c.limit == nil {
		return nil
	}
	return c.limit.made.Load()
}

// within returns the context that ends with the limit, which it may make, or the caller's. It runs foreign code.
func (c *Call) within() context.Context {
	if made := c.made(); made != nil {
		return made
	}
	if c.limit == nil || c.over.Load() != 0 {
		return c.Context
	}
	at, limit, ok := c.limit.bound.Until(c)
	if !ok {
		return c.Context
	}
	w := &ends{limit: limit}
	w.Context, w.cancel = context.WithDeadlineCause(c.Context, at, limit)
	if !c.limit.made.CompareAndSwap(nil, w) {
		w.cancel()
	}
	return c.limit.made.Load()
}

// Deadline is the caller's, or that of the limit, whichever comes first.
func (c *Call) Deadline() (time.Time, bool) { return c.within().Deadline() }

// Done is closed when the caller's context ends, or the limit is over.
func (c *Call) Done() <-chan struct{} { return c.within().Done() }

// Err says whether it has ended.
func (c *Call) Err() error { return c.within().Err() }

// Expired reports whether the call's context has ended because of its limit. It runs no foreign code.
func (c *Call) Expired() bool {
	made := c.made()
	if made == nil {
		return false
	}
	cause, ok := context.Cause(made.Context).(*engine.Limit)
	return ok && cause == made.limit
}

// Owner returns the name of the plug-in whose call in progress ctx comes from; ok is false where it comes from none. It runs foreign code.
func Owner(ctx context.Context) (name string, ok bool) {
	c := outerOf(ctx).running()
	if c == nil {
		return "", false
	}
	return c.owner, true
}

// outerOf returns the innermost call that ctx comes from, in progress or not.
func outerOf(ctx context.Context) *Call {
	switch v := ctx.Value(key{}).(type) {
	case *Call:
		return v
	case *Progress:
		return v.outer
	}
	return nil
}

// Package callctx is the chain of calls that a context carries. A host function gets a context that names the call it
// serves; a call that is made with that context, or with one derived from it, is known to come from there, whatever
// plug-in and engine it goes to. So a call that would wait for itself is refused instead of waiting for ever.
package callctx

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Caller is what an engine needs to know of the context of a call. A context is foreign code, which may panic, end its
// goroutine, block or call back; so Ask asks it once, before the call has taken anything.
type Caller struct {
	Context context.Context
	Done    <-chan struct{} // nil when the context cannot end
	Over    bool            // it had ended when it was asked
	Outer   *Call           // the innermost call in progress that the context comes from, or nil

	Progress *Progress // who wants to know how far the call is, or nil
}

// Background is the Caller of context.Background().
var Background = Caller{Context: context.Background()}

// Ask returns the context's Caller. The error is engine.ErrNilContext, or engine.ErrTooDeep when the call would nest deeper
// than engine.MaxDepth: the Caller is good for what is no call then.
func Ask(ctx context.Context) (Caller, error) {
	var c Caller
	err := c.Ask(ctx)
	return c, err
}

// AskUnended is Ask, which refuses a context that has ended, as GaveUp says it.
func AskUnended(ctx context.Context) (Caller, error) {
	c, err := Ask(ctx)
	if err == nil && c.Over {
		err = c.GaveUp()
	}
	return c, err
}

// Ask is the function Ask into c, field by field. It is for calls with a context that the slot does not know: copying what
// was just written costs as much as all the rest, because the processor waits for the narrow writes before the wide reads.
func (c *Caller) Ask(ctx context.Context) error {
	if raw.IsBackground(ctx) {
		*c = Background
		return nil
	}
	if ctx == nil {
		return engine.ErrNilContext
	}
	c.Context, c.Done, c.Over = ctx, ctx.Done(), false
	if c.Done != nil {
		c.Over = ctx.Err() != nil
	}
	c.Outer, c.Progress = nil, nil
	switch v := ctx.Value(key{}).(type) {
	case *Call:
		c.Outer = v
	case *Progress:
		c.Outer, c.Progress = v.outer, v
	}
	if c.Outer != nil {
		c.Outer = c.Outer.running()
		if c.Outer != nil && c.Outer.depth >= engine.MaxDepth && depth(c.Outer) >= engine.MaxDepth {
			return engine.ErrTooDeep
		}
	}
	return nil
}

// Ended reports whether the context has ended. It runs no foreign code.
func (c *Caller) Ended() bool {
	if c.Done == nil {
		return false
	}
	select {
	case <-c.Done:
		return true
	default:
		return false
	}
}

// Cause returns why the context has ended, never nil. It runs foreign code.
func (c *Caller) Cause() error {
	if err := engine.Cause(c.Context); err != nil {
		return err
	}
	return context.Canceled // its Done is closed, whatever else it says
}

// GaveUp returns the error of a call that was not made, or not finished, because the context has ended. It runs foreign code.
func (c *Caller) GaveUp() error { return &engine.Ended{Cause: c.Cause()} }

// Lock takes a lock, which is a channel with room for one, until refused is closed, as a plug-in's is that takes no calls any more, or the
// context ends. The error is Append's for a call that waited in vain; the lock is not taken then.
func (c *Caller) Lock(lock chan<- struct{}, refused <-chan struct{}) error {
	select {
	case lock <- struct{}{}:
		return nil
	case <-refused:
		return engine.ErrClosed
	case <-c.Done:
		return c.GaveUp()
	}
}

// WithoutCancel returns the Caller for what is not to be given up half way. It runs no foreign code.
func (c *Caller) WithoutCancel() Caller {
	return Caller{Context: lasting{context.WithoutCancel(c.Context)}, Outer: c.Outer}
}

// lasting has nothing behind it (see WithNext): what is called with it is no hook.
type lasting struct{ context.Context }

func (l lasting) Value(k any) any {
	if k == (next{}) {
		return nil
	}
	return l.Context.Value(k)
}

// Call is one call in progress. It is the context that the call's host functions get, so they may keep it for longer.
type Call struct {
	*Calls
	limit *limited // nil where it has no limit of its own
	over  atomic.Uint32
}

type key struct{}

// Value adds one value to the caller's context: the call itself.
func (c *Call) Value(k any) any {
	switch k {
	case key{}:
		return c
	case next{}: // it is the call's alone, and not that of what its host functions call
		return nil
	}
	if within := c.made(); within != nil {
		return within.Value(k) // for those who look for what ends it
	}
	return c.Context.Value(k)
}

// next is the key of what stands behind a wrapper.
type next struct{}

// WithNext returns a context whose calls have what stands behind them; see Next.
func WithNext(ctx context.Context, behind any) context.Context {
	return context.WithValue(ctx, next{}, behind)
}

// Next returns what WithNext gave the context of a call, which c is, or nil.
func (c *Calls) Next() any { return c.Context.Value(next{}) }

// End says that the call is over.
func (c *Call) End() { raw.StoreUint32(&c.over, 1) }

// Holds returns what the call was made with: what it has of its engine.
func (c *Call) Holds() any { return c.holds }

// running returns c when it is in progress, else the innermost call in progress that it came from, or nil.
func (c *Call) running() *Call {
	for c != nil && c.over.Load() != 0 {
		c = c.outer
	}
	return c
}

// Running yields the calls in progress that led to c, c included, the innermost first. c may be nil.
func (c *Call) Running() iter.Seq[*Call] {
	return func(yield func(*Call) bool) {
		for at := c.running(); at != nil; at = at.outer.running() {
			if !yield(at) {
				return
			}
		}
	}
}

func depth(c *Call) (n int) {
	for range c.Running() {
		n++
	}
	return n
}

// Calls makes the Calls that have one Caller and hold the same, one after the other: each needs an identity of its own,
// and not an allocation of its own. It is for one goroutine at a time.
type Calls struct {
	context.Context // the caller's
	outer           *Call
	depth           int // how many calls are in progress with one of these; may be too high, because others ended since
	holds           any
	owner           string
	limited         bool
	calls           []Call // not yet given out
}

// NewCalls returns a source of n Calls of the plug-in with the name owner.
func NewCalls(c Caller, owner string, holds any, n int) *Calls {
	calls := &Calls{Context: c.Context, outer: c.Outer.running(), depth: 1, holds: holds, owner: owner, calls: make([]Call, n)}
	if calls.outer != nil {
		calls.depth += calls.outer.depth
	}
	return calls
}

// Single is room for one Call, within what its caller allocates anyway. It is used once.
type Single struct {
	calls Calls
	call  Call
}

// Take returns the Call, of the plug-in with the name owner.
func (s *Single) Take(c *Caller, owner string, holds any) *Call {
	s.calls.Context, s.calls.outer, s.calls.depth, s.calls.holds, s.calls.owner = c.Context, c.Outer.running(), 1, holds, owner
	if s.calls.outer != nil {
		s.calls.depth += s.calls.outer.depth
	}
	s.call.Calls = &s.calls
	return &s.call
}

// Take returns the next Call, or nil when there is no other.
func (c *Calls) Take() *Call {
	if len(c.calls) == 0 {
		return nil
	}
	next := &c.calls[0]
	c.calls = c.calls[1:]
	next.Calls = c
	return next
}

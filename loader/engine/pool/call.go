package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// Call is one use of an instance: a call of a function, or starting, changing, saving or stopping it. As a context it is the caller's, and
// names the call: calls that are made with it are known to come from here. Its methods are for the goroutine that runs the Code's
// function, until that returns; others, and who may have kept it, begin with Enter.
type Call struct {
	ctx   *callctx.Call
	pool  *Pool
	inst  *instance
	users atomic.Int64 // who use it now, and whether it is over

	run       *running // the call of a function that it is of, or the change of an instance; nil for the others
	kind      kind
	again     bool            // another call uses it again
	abandoned <-chan struct{} // see Abandoned

	streams  atomic.Pointer[streams] // nil where the call has none
	progress [2]atomic.Uint64        // how much is done, and of how much
	idle     chan struct{}           // closed when it is over and the last of them has left; made where there are any then
}

// kind is what a Call is of.
type kind uint8

const (
	ofFunction kind = iota
	ofStart
	ofChange  // of Configure, Save and Resume
	ofStop    //
	ofBetween // what happens between calls
)

// over is the bit of Call.users that lets nobody in any more.
const over = 1 << 62

type key struct{}

// Deadline, Done and Err are the caller's, or those of the call's limit.
func (c *Call) Deadline() (time.Time, bool) { return c.ctx.Deadline() }

// Done is closed when the caller's context has ended, or the call's limit is over.
func (c *Call) Done() <-chan struct{} { return c.ctx.Done() }

// Err says why it has ended.
func (c *Call) Err() error { return c.ctx.Err() }

// Value adds the call to what the caller's context has.
func (c *Call) Value(k any) any {
	if k == (key{}) {
		return c
	}
	return c.ctx.Value(k)
}

// Enter returns the Call that ctx is of, for one use that Exit ends, on any goroutine; nil where it is of none that is in progress.
func Enter(ctx context.Context) *Call {
	if ctx == nil {
		return nil
	}
	c, ok := ctx.Value(key{}).(*Call)
	if !ok {
		return nil
	}
	for {
		n := c.users.Load()
		if n&over != 0 {
			return nil
		}
		if c.users.CompareAndSwap(n, n+1) {
			return c
		}
	}
}

// Exit ends a use that Enter began.
func (c *Call) Exit() {
	if c.users.Add(-1) == over {
		close(c.idle)
	}
}

// end lets nobody in any more, waits for those who are in, and ends the call.
func (c *Call) end() {
	if c.again {
		for c.users.Load() != 0 { // nobody, as Code.Lent says, and otherwise none that the next call must find
			time.Sleep(time.Millisecond)
		}
	} else if !c.users.CompareAndSwap(0, over) {
		c.idle = make(chan struct{})
		if c.users.Or(over) != 0 {
			<-c.idle
		}
	}
	c.ctx.End()
}

// State returns what SetState was given in the instance's Start; nil in Start, and between calls.
func (c *Call) State() any {
	if c.kind == ofBetween || c.kind == ofStart {
		return nil
	}
	return c.inst.state
}

// SetState sets the instance's state. It is for Start alone.
func (c *Call) SetState(state any) { c.inst.state = state }

// Spoil says that the instance is no good any more, although the call has a result: it is started anew before its next one.
func (c *Call) Spoil() { c.pool.poison(c.inst) }

// Spoiler returns what does so from any goroutine, at any time, also when no call runs, such as when the process has ended that an instance is. It is for Start, and
// does not wait for anybody. It is of that start: of an instance that was stopped it spoils nothing.
func (c *Call) Spoiler() func() {
	p, at := c.pool, c.inst.found()
	return func() { p.poisonAt(at) }
}

// Vacant returns what reports whether no call is in the instance, on the way to its function or back. It is for Start, as Spoiler: nobody enters an instance any more that was spoilt. What it returns may be
// called from any goroutine, at any time, and waits for no call. It is of that start: an instance that was stopped has no calls.
func (c *Call) Vacant() func() bool {
	p, at := c.pool, c.inst.found()
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.settle()
		inst := at.Load()
		return inst == nil || inst.calls == 0
	}
}

// Streams says which streams the call has.
func (c *Call) Streams() (has abi.Stream) {
	if st := c.streams.Load(); st != nil {
		if st.source != nil {
			has |= abi.StreamIn
		}
		if st.sink != nil {
			has |= abi.StreamOut
		}
	}
	return has
}

// Resumes reports whether the call is of Start, and Resume comes right behind it.
func (c *Call) Resumes() bool { return c.kind == ofStart && c.inst.resumes }

// Starts reports whether the call is of Start.
func (c *Call) Starts() bool { return c.kind == ofStart }

// Number returns the number of the instance, from 0.
func (c *Call) Number() int { return c.inst.number }

// About is what the plug-in says of itself.
func (c *Call) About() *abi.Description { return c.pool.code.About }

// Abandoned is closed when nobody waits any more for what the call does and cannot be given up half way, as Start; nil where that is not known.
// Code that can be ended at any moment ends then.
func (c *Call) Abandoned() <-chan struct{} { return c.abandoned }

// Ended returns what is closed when the caller's context ends; nil where it never does. The call's limit is not in it; see Limit.
func (c *Call) Ended() <-chan struct{} {
	if c.run == nil {
		return nil
	}
	return c.run.done
}

// Limit returns when the call's limit is over, the zero time where it has none.
func (c *Call) Limit() (time.Time, *engine.Limit) {
	if c.run == nil || c.run.limit == nil {
		return time.Time{}, nil
	}
	return c.run.until, c.run.limit
}

// Watched reports whether somebody wants to know how far the call is.
func (c *Call) Watched() bool {
	return c.run != nil && c.run.watched
}

// Context returns the context for what the call asks of its host, where the Code does not hand the Call itself to a plug-in's functions: it may
// be kept for longer than the call runs.
func (c *Call) Context() context.Context { return c.ctx }

// Nested reports whether the call comes from others in progress, of any plug-in.
func (c *Call) Nested() bool {
	calls := 0
	for range c.ctx.Running() {
		calls++
	}
	return calls > 1 || callctx.Served(func(*callctx.Call) bool { return true })
}

// Wait says that the call is about to wait for want, as callctx.Wait does.
func (c *Call) Wait(want callctx.Wanted) (*callctx.Waiter, error) { return callctx.Wait(c.ctx, want) }

// Holder is the call as one that others may have to wait for.
func (c *Call) Holder() *callctx.Call { return c.ctx }

// Host has the host run what an ordinal stands for (engine.Host's Call), whose panic is a status. ctx is the call's, or comes from it.
func (c *Call) Host(ctx context.Context, ordinal uint32, in []byte) (out []byte, status abi.Status) {
	defer c.serves()()
	defer func() {
		if value := recover(); value != nil {
			out, status = c.pool.host.Panicked(ctx, ordinal, value)
		}
	}()
	return c.pool.host.Call(ctx, ordinal, in)
}

// Next has the host run what stands behind a wrapper (rule R33).
func (c *Call) Next(ctx context.Context, in []byte) ([]byte, abi.Status) {
	return c.Host(behind{ctx, c}, engine.Next, in)
}

// behind is a context that knows what stands behind its call.
type behind struct {
	context.Context
	call *Call
}

// Next is what the host asks for.
func (b behind) Next() any { return b.call.ctx.Next() }

// Log hands a line with its fields (rule R31) to the host. ctx is the call's, or comes from it.
func (c *Call) Log(ctx context.Context, level abi.Level, text, fields []byte) {
	defer c.serves()()
	c.pool.host.Log(ctx, level, text, fields)
}

// Progress says how much is done, and of how much (rule R30).
func (c *Call) Progress(done, total uint64) {
	c.progress[1].Store(total)
	c.progress[0].Store(done)
}

// nothing is what serves returns where it has done nothing.
func nothing() {}

// serves says that this goroutine runs what the plug-in asks of the host, until the function that it returns is called.
func (c *Call) serves() (end func()) {
	if c.run != nil && c.run.goroutine != 0 && c.run.goroutine == goroutine.ID() {
		return nothing // which is known
	}
	return c.ctx.Serve()
}

// Read reads from the call's input stream (rule R24) into b: 0 bytes at its end. The status is abi.StatusFailed where the stream broke off,
// abi.StatusCancelled, and abi.StatusUnsupported where the call has no such stream.
func (c *Call) Read(b []byte) (n int, status abi.Status) {
	status = c.piece(len(b), func(piece []byte) { n = copy(b, piece) })
	return n, status
}

// Piece is Read that lends what there is, n bytes at most, to be read only until the next one. It is for one goroutine at a time.
func (c *Call) Piece(n int) (piece []byte, status abi.Status) {
	status = c.piece(n, func(lent []byte) { piece = lent })
	return piece, status
}

func (c *Call) piece(n int, take func([]byte)) abi.Status {
	st := c.streams.Load()
	if st == nil || st.source == nil {
		return abi.StatusUnsupported
	}
	st.reading.Lock()
	defer st.reading.Unlock()
	if len(st.rest) == 0 && n > 0 && !st.atEnd {
		piece, status := []byte(nil), abi.StatusCancelled
		if !st.asked() {
			piece, status = st.source.Next(st.done)
		}
		if status != abi.StatusOK {
			return status
		}
		st.rest, st.atEnd = piece, len(piece) == 0
	}
	n = min(n, len(st.rest))
	take(st.rest[:n:n])
	st.rest = st.rest[n:]
	return abi.StatusOK
}

// Write passes a piece on to the call's output stream, whole. The status is as Read's.
func (c *Call) Write(piece []byte) abi.Status {
	st := c.streams.Load()
	if st == nil || st.sink == nil {
		return abi.StatusUnsupported
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	if st.asked() {
		return abi.StatusCancelled
	}
	return st.sink.Put(st.done, piece)
}

// streams are those of a call.
type streams struct {
	done             <-chan struct{} // the call's context's, or, of a call with a limit, over
	over             chan struct{}   // closed when the call is asked to stop; nil without a limit
	stopped          sync.Once       // over is closed
	reading, writing sync.Mutex
	source           stream.Source // or nil; guarded by reading, as what follows
	rest             []byte        // of the last piece
	atEnd            bool
	sink             stream.Sink // or nil; guarded by writing
}

func newStreams(st *stream.Streams, done <-chan struct{}, limit *engine.Limit) *streams {
	s := &streams{done: done}
	if limit != nil {
		s.over = make(chan struct{})
		s.done = s.over
	}
	if st.In != nil {
		s.source = stream.NewSource(st.In)
	}
	if st.Out != nil {
		s.sink = stream.NewSink(st.Out)
	}
	return s
}

// stop wakes who waits in one, where the call has a limit: it was asked to stop.
func (s *streams) stop() { s.stopped.Do(func() { close(s.over) }) }

// asked reports whether the call was asked to stop.
func (s *streams) asked() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// end ends both, and wakes who waits in one. It is for one goroutine, once.
func (s *streams) end() {
	if s != nil && s.source != nil {
		s.source.End()
	}
	if s != nil && s.sink != nil {
		s.sink.End()
	}
}

package builtin

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// open is a plug-in that was opened (engine.Plugin).
//
// A call owns its place in an instance while it runs. Who comes first gets a place first. No function of the plug-in's, of
// the host's or of a context's runs with mu held.
type open struct {
	*described
	host     engine.Host
	settings engine.Settings
	most     int // how many calls may run at a time; 0 is any number

	mu        sync.Mutex
	instances []*instance
	byRoom    byRoom                // the same
	calls     map[*running]struct{} // in progress
	top       map[uintptr]*on       // by goroutine: the innermost call that runs on it
	waiting   list.List             // of *waiter; the first one came first
	nested    map[*waiter]struct{}  // those that come from other calls
	gate      *gate                 // or nil
	gating    chan struct{}         // a lock: who shuts the gate, or stops the instances, has it
	parent    *open                 // of a session; else nil
	sessions  map[*open]struct{}    // that are open
	users     sync.WaitGroup        // counts sessions, those that start, too
	numbers   int                   // the number of the next instance
	closing   bool
	refused   chan struct{} // closed with closing
	drained   chan struct{} // closed when closing and no call is left
	over      chan struct{} // closed when every instance is stopped
	closeOnce sync.Once
}

// start opens a plug-in: every instance is started.
func start(ctx context.Context, d *described, host engine.Host, o *engine.Options) (*open, error) {
	p := newOpen(d, host, o)
	for i, inst := range p.instances {
		err := ctx.Err()
		if err == nil {
			err = p.make(inst, nil, p.settings.Get())
		}
		if err == nil && o.State != nil {
			c := callctx.Background
			err = p.resume(&c, inst, o.State[i])
		}
		if err != nil {
			_ = p.Close() // the failure to start is what the caller needs to know
			return nil, err
		}
	}
	return p, nil
}

// newOpen is start without starting.
func newOpen(d *described, host engine.Host, o *engine.Options) *open {
	p := &open{described: d, host: host, calls: make(map[*running]struct{}), top: make(map[uintptr]*on), nested: make(map[*waiter]struct{}),
		gating: make(chan struct{}, 1), sessions: make(map[*open]struct{}), numbers: o.Instances, refused: make(chan struct{}),
		drained: make(chan struct{}), over: make(chan struct{})}
	p.settings.Set(o.Config)
	if d.Threads == abi.Concurrent {
		p.most = o.MaxCalls
	}
	for range o.Instances {
		inst := &instance{number: len(p.instances)}
		if d.Threads == abi.Pinned {
			inst.thread = newThread()
		}
		inst.index = len(p.instances)
		p.instances = append(p.instances, inst)
	}
	p.byRoom = slices.Clone(p.instances)
	return p
}

// call has r's instance run a function with in, where its functions run.
func (p *open) call(r *running, fn engine.Fn, in []byte) (out []byte, status abi.Status) {
	do := func() ([]byte, abi.Status) {
		return p.run(&r.scope, p.name(fn), func() ([]byte, error) { return p.funcs[fn.Index](&r.scope, slices.Clip(in)) })
	}
	if r.inst.thread == nil {
		return do()
	}
	out, status = []byte("it ended its goroutine"), abi.StatusPanic
	r.inst.thread.do(func() {
		defer p.runsHere(r)()
		out, status = do()
	})
	return out, status
}

// calling is a call of one function with several inputs, in one place, with these streams, which may be nil. said gets the outcome of each until it returns false;
// struck says that the function was asked to stop because of its limit.
func (p *open) calling(c *callctx.Caller, fn engine.Fn, in [][]byte, st *streams, said func(out []byte, status abi.Status, struck bool) bool) error {
	r, err := p.acquire(c)
	if err != nil {
		st.end()
		return err
	}
	sound := false
	defer func() { p.leave(r, !sound) }() // also when the function ends this goroutine
	if st != nil {
		r.streams.Store(st)
		defer st.end() // who waits in one is awake when the call waits for all
	}
	if c.Progress != nil {
		meter := c.Progress.Start(&r.progress[0], &r.progress[1], *c, p.Name, r)
		defer meter.Stop()
	}
	struck := func() bool { return false }
	if fn.Limit != nil {
		at, end := p.limit(r, c, fn.Limit, st)
		defer end()
		struck = func() bool { return !time.Now().Before(at) && !c.Ended() }
	}
	for _, in := range in {
		out, status := p.call(r, fn, in)
		if more := said(out, status, struck()); status == abi.StatusPanic || !more {
			sound = status != abi.StatusPanic
			return nil
		}
	}
	sound = true
	return nil
}

func (p *open) name(fn engine.Fn) string {
	if n := len(p.about.Funcs); fn.Index >= n {
		return p.about.Hooks[fn.Index-n].Name
	}
	return p.about.Funcs[fn.Index].Name
}

// Stream is engine.Plugin's.
func (p *open) Stream(ctx context.Context, fn engine.Fn, dst, in []byte, st *stream.Streams) (out []byte, status abi.Status, err error) {
	c, err := callctx.Ask(ctx)
	if err != nil {
		return dst, 0, err
	}
	own := newStreams(st, c.Done, fn.Limit)
	defer func() { // whatever has become of the call, also where a host function ends this goroutine: the writer is not used after it
		written := own.sink == nil || own.sink.Wait(c.Done, stream.Patience(err))
		if err == nil && status == abi.StatusOK && !written {
			out, status = append(dst, stream.NotWritten...), abi.StatusCancelled
		}
	}()
	return p.append(&c, fn, dst, in, own)
}

// Append is engine.Plugin's.
func (p *open) Append(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	c, err := callctx.Ask(ctx)
	if err != nil {
		return dst, 0, err
	}
	return p.append(&c, fn, dst, in, nil)
}

func (p *open) append(c *callctx.Caller, fn engine.Fn, dst, in []byte, st *streams) ([]byte, abi.Status, error) {
	var status abi.Status
	var limit error
	out := dst
	err := p.calling(c, fn, [][]byte{in}, st, func(result []byte, s abi.Status, struck bool) bool {
		out, status = append(dst, result...), s
		if struck && s == abi.StatusCancelled {
			limit = fn.Limit
		}
		return false
	})
	if err != nil {
		return dst, 0, err
	}
	return out, status, limit
}

// View is engine.Plugin's. The output is a copy: what the function returned may be memory that it goes on to use.
func (p *open) View(ctx context.Context, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	out, status, err := p.Append(ctx, fn, nil, in)
	if err != nil && status == abi.StatusOK {
		return nil, 0, err
	}
	return &engine.View{Bytes: out, Release: func() {}}, status, err
}

// batchSize is how many records of a batch run in one place, before others have their turn.
const batchSize = 256

// Batch is engine.Plugin's.
func (p *open) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed, b.Limit = b.Out[:0], b.Records[:0], false, nil
	c, err := callctx.Ask(ctx)
	if err != nil || len(in) == 0 {
		return err
	}
	// After a panic the rest has an instance that was started anew; and after a while others have their turn.
	for err == nil && len(b.Records) < len(in) && (len(b.Records) == 0 || !c.Ended()) {
		rest := in[len(b.Records):]
		part := min(len(rest), batchSize)
		ends, stopped := len(b.Records)+part, false
		err = p.calling(&c, fn, rest[:part], nil, func(out []byte, status abi.Status, struck bool) bool {
			if struck {
				b.Limit, stopped = fn.Limit, true
			}
			start := len(b.Out)
			b.Out = append(b.Out, out...)
			b.Records = append(b.Records, engine.Record{Start: start, End: len(b.Out), Status: status})
			b.Failed = b.Failed || status != abi.StatusOK
			return !c.Ended() && !struck
		})
		if err == nil && stopped && len(b.Records) < ends {
			return &engine.Ended{Cause: fn.Limit}
		}
	}
	if err == nil && len(b.Records) < len(in) {
		return c.GaveUp()
	}
	return err
}

// Close is engine.Plugin's.
func (p *open) Close() error { return p.Shutdown(context.Background()) }

// Shutdown is engine.Plugin's.
func (p *open) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return engine.ErrNilContext
	}
	c := callctx.Caller{Context: ctx, Done: ctx.Done()}
	p.refuse()
	select {
	case <-p.over:
		return nil
	default:
	}
	select {
	case <-p.over:
		return nil
	case <-c.Done:
		p.mu.Lock()
		calls := len(p.calls)
		p.mu.Unlock()
		if calls == 0 { // it is being stopped, which takes no time where Stop takes none
			select {
			case <-p.over:
				return nil
			case <-time.After(stopPatience):
			}
		}
		return &engine.Unfinished{Calls: calls, Cause: c.Cause()}
	}
}

// refuse refuses calls from now on, those that wait, too, and those of sessions, and has the plug-in end when those that run have ended.
func (p *open) refuse() {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closing = true
		close(p.refused)
		p.turnAway()
		p.calm()
		for s := range p.sessions { // whose locks are taken within the plug-in's, never the other way round
			s.refuse()
		}
		go p.end()
	})
}

// turnAway has all who wait find out why they have no place. mu is held.
func (p *open) turnAway() {
	for first := p.waiting.Front(); first != nil; first = p.waiting.Front() {
		w := first.Value.(*waiter)
		p.unqueue(w)
		w.place <- nil
	}
}

// gone is why a call that has waited has no place.
func (p *open) gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost() {
		return engine.ErrLost
	}
	return engine.ErrClosed
}

// lost reports whether the plug-in is a session's whose instance has panicked, and is not started anew. mu is held.
func (p *open) lost() bool { return p.parent != nil && p.instances[0].poisoned && !p.closing }

// stopPatience is how long Shutdown goes on waiting, when its context has ended, for an instance that is being stopped.
const stopPatience = 100 * time.Millisecond

// end stops all instances, once no call runs.
func (p *open) end() {
	<-p.drained
	p.gating <- struct{}{} // and nobody changes them
	p.users.Wait()
	for _, inst := range p.instances {
		p.drop(inst, nil)
		inst.thread.end()
	}
	close(p.over)
	if p.parent != nil {
		p.parent.ended(p)
	}
}

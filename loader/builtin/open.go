package builtin

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
)

// open is a plug-in that was opened (engine.Plugin).
//
// A call owns its place in an instance while it runs. Who comes first gets a place first. No function of the plug-in's, of
// the host's or of a context's runs with mu held.
type open struct {
	*described
	host   engine.Host
	config []byte
	most   int // how many calls may run at a time; 0 is any number

	mu        sync.Mutex
	instances []*instance
	calls     map[*running]struct{} // in progress
	waiting   []*waiter             // the first one came first
	closing   bool
	drained   chan struct{} // closed when closing and no call is left
	over      chan struct{} // closed when every instance is stopped
	closeOnce sync.Once
}

// instance is one state of the plug-in. state and started change only while nobody else is in it; mu guards the others.
type instance struct {
	state    any
	started  bool // it is to be stopped
	calls    int
	poisoned bool    // it panicked, and is to be started anew
	renewing bool    // it is being started anew
	thread   *thread // of a pinned one
}

// running is one call in progress, and the context that its function gets.
type running struct {
	*callctx.Call
	open      *open
	inst      *instance
	goroutine uintptr // the one that its function runs on, or 0; guarded by open.mu
	renews    bool    // it has to start the instance anew first; its own
	over      atomic.Bool
}

// waiter is a call that waits for a place. It gets one that it owns, or nil when the plug-in is closed.
type waiter struct {
	caller *callctx.Caller
	place  chan *running
}

type key struct{}

// Value adds the call to what the context has.
func (r *running) Value(k any) any {
	if k == (key{}) {
		return r
	}
	return r.Call.Value(k)
}

// current returns the call that ctx is of.
func current(ctx context.Context, what string) *running {
	if ctx != nil {
		if r, ok := ctx.Value(key{}).(*running); ok && !r.over.Load() {
			return r
		}
	}
	panic(fmt.Sprintf("builtin.%s: found a context that is of no call in progress, expected the one that the plug-in's function was given", what))
}

// start opens a plug-in: every instance is started.
func start(ctx context.Context, d *described, host engine.Host, o *engine.Options) (*open, error) {
	p := &open{described: d, host: host, config: o.Config, calls: make(map[*running]struct{}), drained: make(chan struct{}), over: make(chan struct{})}
	if d.Threads == abi.Concurrent {
		p.most = o.MaxCalls
	}
	for range o.Instances {
		inst := new(instance)
		if d.Threads == abi.Pinned {
			inst.thread = newThread()
		}
		p.instances = append(p.instances, inst)
	}
	for _, inst := range p.instances {
		err := ctx.Err()
		if err == nil {
			err = p.make(inst, callctx.Background)
		}
		if err != nil {
			_ = p.Close() // the failure to start is what the caller needs to know
			return nil, err
		}
	}
	return p, nil
}

// Owner is callctx.Wanted's.
func (p *open) Owner() string { return p.Name }

// Holders is callctx.Wanted's: any call that ends makes room, but those in an instance that panicked, which all have to.
func (p *open) Holders() [][]*callctx.Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sets [][]*callctx.Call
	if p.free() != nil {
		sets = append(sets, []*callctx.Call{nil})
	}
	broken := make(map[*instance][]*callctx.Call)
	for r := range p.calls {
		if r.inst.poisoned {
			broken[r.inst] = append(broken[r.inst], r.Call)
		} else {
			sets = append(sets, []*callctx.Call{r.Call})
		}
	}
	for _, set := range broken {
		sets = append(sets, set)
	}
	return sets
}

// inside returns in how many of the plug-in's calls a call is that me makes: by its context, and by the goroutine. mu is held.
func (p *open) inside(c *callctx.Caller, me uintptr) int {
	byContext, byGoroutine := 0, 0
	for outer := range c.Outer.Running() {
		if outer.Holds() == any(p) {
			byContext++
		}
	}
	for r := range p.calls {
		if me != 0 && r.goroutine == me {
			byGoroutine++
		}
	}
	return max(byContext, byGoroutine)
}

// free returns an instance that a call may enter, first of all one that is to be started anew; or nil. mu is held.
func (p *open) free() (best *instance) {
	if p.most > 0 && len(p.calls) >= p.most {
		return nil
	}
	for _, inst := range p.instances {
		switch {
		case inst.poisoned && inst.calls == 0:
			return inst
		case inst.poisoned || inst.renewing || p.Threads != abi.Concurrent && inst.calls > 0:
		case best == nil || inst.calls < best.calls:
			best = inst
		}
	}
	return best
}

// enter gives a call a place, where there is one. One that is in an instance which is to be renewed has to do that first. mu is held.
func (p *open) enter(c *callctx.Caller) *running {
	inst := p.free()
	if inst == nil {
		return nil
	}
	r := &running{Call: callctx.NewCalls(*c, p, 1).Next(), open: p, inst: inst, renews: inst.poisoned}
	inst.calls++
	if r.renews {
		inst.poisoned, inst.renewing = false, true
	}
	p.calls[r] = struct{}{}
	return r
}

// dispatch gives places to those who wait. mu is held.
func (p *open) dispatch() {
	for len(p.waiting) > 0 {
		r := p.enter(p.waiting[0].caller)
		if r == nil {
			return
		}
		p.waiting[0].place <- r
		p.waiting = p.waiting[1:]
	}
}

// leave ends a call. poisoned says that its instance panicked.
func (p *open) leave(r *running, poisoned bool) {
	r.over.Store(true)
	r.End()
	p.mu.Lock()
	defer p.mu.Unlock()
	r.inst.calls--
	r.inst.poisoned = r.inst.poisoned || poisoned || r.renews // and so was not renewed
	if r.renews {
		r.inst.renewing = false
	}
	delete(p.calls, r)
	p.dispatch()
	if p.closing && len(p.calls) == 0 {
		close(p.drained)
	}
}

// poison says that the instance has panicked: nobody enters it before it was renewed.
func (p *open) poison(inst *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	inst.poisoned = true
}

// acquire finds the call a place in an instance that is in order, and waits for one where there is none.
func (p *open) acquire(c *callctx.Caller) (*running, error) {
	r, err := p.place(c)
	if err != nil {
		return nil, err
	}
	if !r.renews {
		return r, nil
	}
	defer func() {
		if r.renews {
			p.leave(r, true)
		}
	}()
	p.drop(r.inst)
	if err := p.make(r.inst, c.WithoutCancel()); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r.renews, r.inst.renewing = false, false
	p.dispatch() // others may enter a concurrent one
	return r, nil
}

// place is acquire of an instance that may have to be renewed first.
func (p *open) place(c *callctx.Caller) (*running, error) {
	ended, me := c.Ended(), cross.Goroutine()
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, engine.ErrClosed
	}
	inside := p.inside(c, me)
	alone := inside > 0 && inside >= len(p.calls) && p.free() == nil // nobody else makes room
	switch {
	case inside >= engine.MaxDepth:
		p.mu.Unlock()
		return nil, engine.ErrTooDeep
	case alone: // also where it could have waited for longer
		p.mu.Unlock()
		return nil, engine.ErrReentrant
	case ended:
		p.mu.Unlock()
		return nil, c.GaveUp()
	}
	if len(p.waiting) == 0 || inside > 0 { // those who wait may wait for the one that it is in
		if r := p.enter(c); r != nil {
			r.goroutine = me
			p.mu.Unlock()
			return r, nil
		}
	}
	mine := &waiter{c, make(chan *running, 1)}
	p.waiting = append(p.waiting, mine)
	p.mu.Unlock()
	wait, err := callctx.Wait(c.Outer, p)
	if err != nil {
		if r := p.giveUp(mine); r != nil {
			p.leave(r, false)
		}
		return nil, err
	}
	var r *running
	select {
	case r = <-mine.place:
		if r == nil {
			err = engine.ErrClosed
		}
	case <-c.Done:
		r = p.giveUp(mine)
	}
	wait.Done()
	if err == nil && c.Ended() {
		if r != nil {
			p.leave(r, false)
		}
		return nil, c.GaveUp()
	}
	if r != nil {
		p.mu.Lock()
		r.goroutine = me
		p.mu.Unlock()
	}
	return r, err
}

// giveUp ends waiting. It returns the place that the waiter was given at the same moment, or nil.
func (p *open) giveUp(mine *waiter) *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, mine); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return nil
	}
	return <-mine.place // it was answered before
}

// make has Start make the state of an instance that nobody else is in. The error is a *engine.StartError. c is the caller that its
// host functions know.
func (p *open) make(inst *instance, c callctx.Caller) error {
	inst.started = true
	if p.Start == nil {
		return nil
	}
	r := &running{Call: callctx.NewCalls(c, p, 1).Next(), open: p, inst: inst}
	defer func() {
		r.over.Store(true)
		r.End()
	}()
	var state any
	var message []byte
	var status abi.Status
	inst.apart(func() {
		message, status = []byte("Start ended its goroutine"), abi.StatusPanic
		message, status = p.run(r, func() (_ []byte, err error) {
			state, err = p.Start(r, p.config)
			return nil, err
		}, "Start")
	})
	if status != abi.StatusOK {
		inst.started = false
		return &engine.StartError{Status: status, Message: string(message)}
	}
	inst.state = state
	return nil
}

// drop stops an instance that no function is in.
func (p *open) drop(inst *instance) {
	state, started := inst.state, inst.started
	inst.state, inst.started = nil, false
	if !started || p.Stop == nil {
		return
	}
	inst.apart(func() {
		returned := false
		defer func() {
			if value := recover(); value != nil || !returned {
				text := "Stop ended its goroutine"
				if value != nil {
					text = fmt.Sprintf("Stop panicked: %v", value)
				}
				p.host.Log(context.Background(), abi.LogWarn, []byte(text))
			}
		}()
		p.Stop(state)
		returned = true
	})
}

// run runs a function of the plug-in's for r, on this goroutine, and makes a status of what comes of it. Where it ends the goroutine, run
// does not return.
func (p *open) run(r *running, fn func() ([]byte, error), name string) (out []byte, status abi.Status) {
	defer func() {
		if value := recover(); value != nil {
			out, status = fmt.Appendf(nil, "%s panicked: %v", name, value), abi.StatusPanic
			p.poison(r.inst) // before the handler, which may take its time
			p.host.Log(r, abi.LogError, fmt.Appendf(nil, "%s\n%s", out, debug.Stack()))
		}
	}()
	result, err := fn()
	if err != nil {
		return engine.Failure(err)
	}
	return result, abi.StatusOK
}

// call has r's instance run a function with in, where its functions run.
func (p *open) call(r *running, fn engine.Fn, in []byte) (out []byte, status abi.Status) {
	name := p.name(fn)
	if r.inst.thread == nil {
		return p.run(r, func() ([]byte, error) { return p.funcs[fn](r, in) }, name)
	}
	out, status = []byte(name+" ended its goroutine"), abi.StatusPanic
	r.inst.thread.do(func() {
		p.mu.Lock()
		caller := r.goroutine
		r.goroutine = cross.Goroutine()
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			r.goroutine = caller
			p.mu.Unlock()
		}()
		out, status = p.run(r, func() ([]byte, error) { return p.funcs[fn](r, in) }, name)
	})
	return out, status
}

// calling is a call of one function with several inputs, in one place. said gets the outcome of each until it returns false.
func (p *open) calling(c *callctx.Caller, fn engine.Fn, in [][]byte, said func(out []byte, status abi.Status) bool) error {
	r, err := p.acquire(c)
	if err != nil {
		return err
	}
	sound := false
	defer func() { p.leave(r, !sound) }() // also when the function ends this goroutine
	for _, in := range in {
		out, status := p.call(r, fn, in)
		if more := said(out, status); status == abi.StatusPanic || !more {
			sound = status != abi.StatusPanic
			return nil
		}
	}
	sound = true
	return nil
}

func (p *open) name(fn engine.Fn) string {
	if n := len(p.about.Funcs); int(fn) >= n {
		return p.about.Hooks[int(fn)-n].Name
	}
	return p.about.Funcs[fn].Name
}

// Append is engine.Plugin's.
func (p *open) Append(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	c, err := callctx.Ask(ctx)
	if err != nil {
		return dst, 0, err
	}
	var status abi.Status
	out := dst
	err = p.calling(&c, fn, [][]byte{in}, func(result []byte, s abi.Status) bool {
		out, status = append(dst, result...), s
		return false
	})
	if err != nil {
		return dst, 0, err
	}
	return out, status, nil
}

// View is engine.Plugin's. The output is a copy: what the function returned may be memory that it goes on to use.
func (p *open) View(ctx context.Context, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	out, status, err := p.Append(ctx, fn, nil, in)
	if err != nil {
		return nil, 0, err
	}
	return &engine.View{Bytes: out, Release: func() {}}, status, nil
}

// batchSize is how many records of a batch run in one place, before others have their turn.
const batchSize = 256

// Batch is engine.Plugin's.
func (p *open) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed = b.Out[:0], b.Records[:0], false
	c, err := callctx.Ask(ctx)
	if err != nil || len(in) == 0 {
		return err
	}
	// After a panic the rest has an instance that was started anew; and after a while others have their turn.
	for err == nil && len(b.Records) < len(in) && (len(b.Records) == 0 || !c.Ended()) {
		rest := in[len(b.Records):]
		err = p.calling(&c, fn, rest[:min(len(rest), batchSize)], func(out []byte, status abi.Status) bool {
			start := len(b.Out)
			b.Out = append(b.Out, out...)
			b.Records = append(b.Records, engine.Record{Start: start, End: len(b.Out), Status: status})
			b.Failed = b.Failed || status != abi.StatusOK
			return !c.Ended()
		})
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
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.closing = true
		for _, w := range p.waiting {
			w.place <- nil
		}
		p.waiting = nil
		if len(p.calls) == 0 {
			close(p.drained)
		}
		p.mu.Unlock()
		go p.end()
	})
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

// stopPatience is how long Shutdown goes on waiting, when its context has ended, for an instance that is being stopped.
const stopPatience = 100 * time.Millisecond

// end stops all instances, once no call runs.
func (p *open) end() {
	<-p.drained
	for _, inst := range p.instances {
		p.drop(inst)
		inst.thread.end()
	}
	close(p.over)
}

// call runs a host function for the plug-in.
func (r *running) call(ctx context.Context, name string, in []byte) (out []byte, err error) {
	imports := r.open.about.Imports
	ordinal, ok := slices.BinarySearchFunc(imports, name, func(s abi.Symbol, name string) int { return bytes.Compare([]byte(s.Name), []byte(name)) })
	if !ok {
		panic(fmt.Sprintf("builtin.Import: found %q, expected one of the plug-in's Imports", name))
	}
	out, status := r.open.hostCall(ctx, uint32(ordinal), in)
	if status != abi.StatusOK {
		return nil, &Refused{Import: name, Status: status, Message: string(out)}
	}
	return bytes.Clone(out), nil
}

// hostCall has the host run a function, whose panic is a status.
func (p *open) hostCall(ctx context.Context, ordinal uint32, in []byte) (out []byte, status abi.Status) {
	defer func() {
		if value := recover(); value != nil {
			out, status = p.host.Panicked(ctx, ordinal, value)
		}
	}()
	return p.host.Call(ctx, ordinal, in)
}

// thread is a goroutine that is locked to its thread, for a pinned instance.
type thread struct{ work chan func() }

func newThread() *thread {
	t := &thread{make(chan func())}
	go t.serve()
	return t
}

// serve does the work that comes, until there is none; a function that ends the goroutine gets the next work another one.
func (t *thread) serve() {
	runtime.LockOSThread()
	idle := false
	defer func() {
		if !idle {
			go t.serve()
		}
	}()
	for fn := range t.work {
		fn()
	}
	idle = true
}

func (t *thread) end() {
	if t != nil {
		close(t.work)
	}
}

// do runs fn on the thread, and returns when it has ended.
func (t *thread) do(fn func()) {
	done := make(chan struct{})
	t.work <- func() {
		defer close(done)
		fn()
	}
	<-done
}

// apart runs what starts or stops an instance on a goroutine that nobody else needs: its thread's, or one of its own. fn may end it.
func (i *instance) apart(fn func()) {
	if i.thread != nil {
		i.thread.do(fn)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

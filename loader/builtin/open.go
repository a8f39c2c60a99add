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
)

// open is a plug-in that was opened (engine.Plugin).
//
// A call owns its place in an instance while it runs. No function of the plug-in's, of the host's or of a context's runs with mu held.
type open struct {
	*described
	host   engine.Host
	config []byte
	most   int // how many calls may run at a time; 0 is any number

	mu        sync.Mutex
	instances []*instance
	calls     []*running    // in progress, those that start and stop instances included
	changed   chan struct{} // closed, and replaced, when a call that waits may find a place
	closing   bool
	drained   chan struct{} // closed when closing and no call is left
	over      chan struct{} // closed when every instance is stopped
	closeOnce sync.Once
}

// instance is one state of the plug-in. Its members are guarded by mu, but state, which changes only while no call is in it.
type instance struct {
	state    any
	started  bool // it has a state to be dropped
	calls    int
	poisoned bool    // it panicked, and is to be started anew
	thread   *thread // of a pinned one
}

// running is one call in progress, and the context that its function gets.
type running struct {
	*callctx.Call
	open *open
	inst *instance
	over atomic.Bool
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
	p := &open{described: d, host: host, config: o.Config, changed: make(chan struct{}), drained: make(chan struct{}), over: make(chan struct{})}
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
			err = p.begin(inst, nil)
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

// Holders is callctx.Wanted's: whoever is in an instance may be the one who makes room.
func (p *open) Holders() [][]*callctx.Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := make([]*callctx.Call, len(p.calls))
	for i, r := range p.calls {
		calls[i] = r.Call
	}
	return callctx.Each(calls)
}

// enter says that a call is in the instance, which the caller has found free. mu is held.
func (p *open) enter(inst *instance, c *callctx.Caller) *running {
	r := &running{Call: callctx.NewCalls(*c, p, 1).Next(), open: p, inst: inst}
	inst.calls++
	p.calls = append(p.calls, r)
	return r
}

// leave ends that. poisoned says that the instance panicked.
func (p *open) leave(r *running, poisoned bool) {
	r.over.Store(true)
	r.End()
	p.mu.Lock()
	defer p.mu.Unlock()
	r.inst.calls--
	r.inst.poisoned = r.inst.poisoned || poisoned
	p.calls = slices.DeleteFunc(p.calls, func(other *running) bool { return other == r })
	p.notify()
	if p.closing && len(p.calls) == 0 {
		close(p.drained)
	}
}

// notify has all calls that wait look again. mu is held.
func (p *open) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// acquire finds the call a place in an instance, and waits for one where there is none.
func (p *open) acquire(c *callctx.Caller) (*running, error) {
	for {
		ended := c.Ended()
		p.mu.Lock()
		if p.closing {
			p.mu.Unlock()
			return nil, engine.ErrClosed
		}
		inst := p.free()
		switch {
		case inst == nil || ended:
		case inst.poisoned: // nobody is in it
			r := p.enter(inst, &callctx.Caller{Context: context.Background(), Outer: c.Outer})
			p.mu.Unlock()
			if err := p.renew(r); err != nil {
				return nil, err
			}
			continue
		default:
			r := p.enter(inst, c)
			p.mu.Unlock()
			return r, nil
		}
		own := 0 // of the calls in progress, those that this one comes from
		for outer := range c.Outer.Running() {
			if outer.Holds() == any(p) {
				own++
			}
		}
		alone := own > 0 && own >= len(p.calls) // and so nobody else makes room
		changed := p.changed
		p.mu.Unlock()
		switch {
		case inst == nil && alone:
			return nil, engine.ErrReentrant // also where it could have waited for longer
		case ended:
			return nil, c.GaveUp()
		}
		wait, err := callctx.Wait(c.Outer, p)
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-c.Done:
		}
		wait.Done()
	}
}

// free returns the instance that a call may enter, which is poisoned when there is no sound one and nobody is in it; or nil. mu is held.
func (p *open) free() *instance {
	if p.most > 0 && len(p.calls) >= p.most {
		return nil
	}
	var best *instance
	for _, inst := range p.instances {
		switch {
		case inst.poisoned && inst.calls > 0, p.Threads != abi.Concurrent && inst.calls > 0:
		case best == nil, best.poisoned && !inst.poisoned, best.poisoned == inst.poisoned && inst.calls < best.calls:
			best = inst
		}
	}
	return best
}

// begin starts an instance that nobody is in. The error is a *engine.StartError. outer is the call by which it is renewed, or nil.
func (p *open) begin(inst *instance, outer *callctx.Call) error {
	if p.Start == nil {
		return nil
	}
	p.mu.Lock()
	r := p.enter(inst, &callctx.Caller{Context: context.Background(), Outer: outer})
	p.mu.Unlock()
	defer p.leave(r, false)
	return p.make(r)
}

// make has Start make the instance's state.
func (p *open) make(r *running) error {
	var state any
	message, status := p.run(r, func() (_ []byte, err error) {
		state, err = p.Start(r, p.config)
		return nil, err
	}, "Start")
	if status != abi.StatusOK {
		return &engine.StartError{Status: status, Message: string(message)}
	}
	r.inst.state, r.inst.started = state, true
	return nil
}

// renew stops an instance that panicked and starts it anew. r is in it, alone, and leaves it.
func (p *open) renew(r *running) error {
	sound := false
	defer func() {
		p.mu.Lock()
		r.inst.poisoned = !sound
		p.mu.Unlock()
		p.leave(r, false)
	}()
	p.drop(r.inst)
	if p.Start != nil {
		if err := p.make(r); err != nil {
			return err
		}
	}
	sound = true
	return nil
}

// drop stops an instance that no function is in.
func (p *open) drop(inst *instance) {
	state, started := inst.state, inst.started
	inst.state, inst.started = nil, false
	if !started || p.Stop == nil {
		return
	}
	stop := func() {
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
	}
	if inst.thread != nil {
		inst.do(stop)
		return
	}
	done := make(chan struct{}) // whoever drops it has more to do, whatever Stop does to its goroutine
	go func() {
		defer close(done)
		stop()
	}()
	<-done
}

// run runs a function of the plug-in's for r, and makes a status of what comes of it. Where it ends its goroutine, and that is
// the caller's, run does not return, and r has left; a pinned instance's is another one.
func (p *open) run(r *running, fn func() ([]byte, error), name string) (out []byte, status abi.Status) {
	status, out = abi.StatusPanic, []byte(name+" ended its goroutine")
	r.inst.do(func() {
		defer func() {
			if value := recover(); value != nil {
				out = fmt.Appendf(nil, "%s panicked: %v", name, value)
				p.host.Log(r, abi.LogError, fmt.Appendf(nil, "%s\n%s", out, debug.Stack()))
			}
		}()
		result, err := fn()
		if err != nil {
			out, status = engine.Failure(err)
			return
		}
		out, status = result, abi.StatusOK
	})
	return out, status
}

// enterAndRun is a call of one function with several inputs, which said gets the outcome of until it returns false.
func (p *open) enterAndRun(c *callctx.Caller, fn engine.Fn, in [][]byte, said func(out []byte, status abi.Status) bool) error {
	r, err := p.acquire(c)
	if err != nil {
		return err
	}
	sound := false
	defer func() { p.leave(r, !sound) }() // also when the function ends this goroutine
	name := p.name(fn)
	for _, in := range in {
		out, status := p.run(r, func() ([]byte, error) { return p.funcs[fn](r, in) }, name)
		if !said(out, status) {
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
	err = p.enterAndRun(&c, fn, [][]byte{in}, func(result []byte, s abi.Status) bool {
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

// Batch is engine.Plugin's.
func (p *open) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed = b.Out[:0], b.Records[:0], false
	c, err := callctx.Ask(ctx)
	if err != nil || len(in) == 0 {
		return err
	}
	// After a panic the rest has an instance that was started anew.
	for err == nil && len(b.Records) < len(in) && (len(b.Records) == 0 || !c.Ended()) {
		err = p.enterAndRun(&c, fn, in[len(b.Records):], func(out []byte, status abi.Status) bool {
			start := len(b.Out)
			b.Out = append(b.Out, out...)
			b.Records = append(b.Records, engine.Record{Start: start, End: len(b.Out), Status: status})
			b.Failed = b.Failed || status != abi.StatusOK
			return status != abi.StatusPanic && !c.Ended()
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
		p.notify()
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

// do runs fn where the instance's functions run, and returns when it has ended.
func (i *instance) do(fn func()) {
	if i.thread == nil {
		fn()
		return
	}
	done := make(chan struct{})
	i.thread.work <- func() {
		defer close(done)
		fn()
	}
	<-done
}

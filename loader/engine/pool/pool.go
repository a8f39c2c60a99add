// Package pool runs the calls of plug-ins whose instances are made in Go, for engines whose plug-ins run in this process and are no native code:
// Go functions, WebAssembly, programs that are spoken to. It knows which call may enter which instance, and when (rules R13, R15, R16), who
// waits, which calls come from which and would wait for themselves, how instances are started anew, changed, handed over and stopped, and
// carries streams, limits and progress. What an instance is, and how a function of it runs, is the engine's [Code].
//
// It is experimental: it may change in a minor version, as package engine may (docs/promises.md).
package pool

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// Code is what an engine runs of one plug-in. Its functions may panic, which is abi.StatusPanic, and end their goroutine.
//
// Each returns an outcome: what comes of it, with abi.StatusOK, or the message of another status; or, where there is no status, an error, which is one of
// package engine's: an *engine.Violation, after which the instance goes on, or what has ended the instance, such as an *engine.Overrun. After
// abi.StatusPanic, and such an error, the instance is stopped, and started anew before its next call.
type Code struct {
	About *abi.Description // only read

	// Exclusive says that an instance takes one call at a time, on any goroutine, whatever the manifest says of threads, and that the Call is not handed to
	// a plug-in's functions as a context: use Call.Context. Such calls cost the least.
	Exclusive bool
	// Lent says that who has the Call, or its Host's functions, lets go of them before Call returns, whatever the plug-in's function keeps: it is used again. The
	// plug-in's functions get Call.Context.
	Lent bool
	// Spare is how many more instances there may be than the host asks for. Each is started when a call finds no other free.
	Spare int

	// Apart says that calls of one instance have nothing to do with each other, as where each may run somewhere else: after one that panicked, or failed with an
	// error, the instance goes on. A Call that finds the instance itself no good says so (Call.Spoil).
	Apart bool

	Names Names

	// Start makes an instance: it calls SetState. in is the configuration. nil is of a plug-in whose instances have no state.
	Start Control
	// Call runs a function, by its place among the Funcs, and behind these the Hooks, and appends its output to dst. in is the caller's until it returns.
	Call func(c *Call, fn int, dst, in []byte) (out []byte, status abi.Status, err error)
	// Stop drops an instance, which no call is in; or nil. SetState's state is there.
	Stop func(c *Call)
	// Configure gives an instance new settings, which are in. nil is of a plug-in whose instances are started anew for that.
	Configure Control
	// Save returns an instance's state, and Resume has one that was just started take it, as in. Both are there, or none is.
	Save, Resume Control
}

// Control is a function that starts, changes or saves an instance. No call runs in it meanwhile.
type Control func(c *Call, in []byte) (out []byte, status abi.Status, err error)

// Names are what errors call the functions of a Code that are no functions of the plug-in's.
type Names struct{ Start, Stop, Configure, Save, Resume string }

// Pool is a plug-in that was opened: an engine.Plugin, with engine.Sessions, engine.Configurable and engine.Holder.
//
// A call owns its place in an instance while it runs. Who comes first gets a place first. No function of the plug-in's, of
// the host's or of a context's runs with mu held.
type Pool struct {
	code     *Code
	name     string
	host     engine.Host
	settings engine.Settings
	shared   bool // an instance takes any number of calls
	alone    bool // it takes one
	claims   bool // calls may claim one; see claim
	most     int  // how many calls may run at a time; 0 is any number

	instances []*instance
	prefer    [64]atomic.Uint32 // the place of the instance that a goroutine had last, by its hint

	mu        sync.Mutex
	byRoom    byRoom               // of the instances
	calls     []*running           // in progress
	top       map[uintptr]*on      // by goroutine: the innermost call that runs on it
	waiting   list.List            // of *waiter; the first one came first
	nested    map[*waiter]struct{} // those that come from other calls
	gate      *gate                // or nil
	gating    chan struct{}        // a lock: who shuts the gate, or stops the instances, has it
	parent    *Pool                // of a session; else nil
	sessions  map[*Pool]struct{}   // that are open
	users     sync.WaitGroup       // counts sessions, those that start, too
	numbers   int                  // the number of the next session's instance: behind those of all instances, which may be
	closing   bool
	refused   chan struct{} // closed with closing
	drained   chan struct{} // closed when closing and no call is left
	over      chan struct{} // closed when every instance is stopped
	closeOnce sync.Once
}

var (
	_ engine.Sessions     = (*Pool)(nil)
	_ engine.Configurable = (*Pool)(nil)
	_ engine.Holder       = (*Pool)(nil)
)

// Open opens a plug-in: every instance is started that the options ask for. host is what Accept has returned. The error is a *engine.StartError, or
// that of Code.Start. When ctx ends, so does what starts, where it looks at Call.Abandoned.
func Open(ctx context.Context, code *Code, host engine.Host, o *engine.Options) (*Pool, error) {
	p := newPool(code, host, o)
	for i, inst := range p.instances[:o.Instances] {
		err := ctx.Err()
		if err == nil {
			inst.resumes = o.State != nil
			err = p.make(inst, nil, p.settings.Get(), ctx.Done())
			inst.resumes = false
		}
		if err == nil && o.State != nil {
			c := callctx.Background
			c.Done = ctx.Done()
			err = p.resume(&c, inst, o.State[i])
		}
		if err != nil {
			_ = p.Close() // the failure to start is what the caller needs to know
			return nil, err
		}
	}
	p.mu.Lock()
	p.unsettle()
	p.mu.Unlock()
	return p, nil
}

// newPool is Open without starting.
func newPool(code *Code, host engine.Host, o *engine.Options) *Pool {
	threads := code.About.Manifest.Threads
	p := &Pool{code: code, name: cmp.Or(o.Owner, code.About.Manifest.Name), host: host, alone: code.Exclusive, shared: threads == abi.Concurrent && !code.Exclusive,
		top: make(map[uintptr]*on), nested: make(map[*waiter]struct{}), gating: make(chan struct{}, 1), sessions: make(map[*Pool]struct{}),
		numbers: o.Instances + code.Spare, refused: make(chan struct{}), drained: make(chan struct{}), over: make(chan struct{})}
	p.claims = p.alone || threads != abi.Pinned
	p.settings.Set(o.Config)
	if threads == abi.Concurrent {
		p.most = o.MaxCalls
	}
	for number := range p.numbers {
		inst := &instance{number: number, index: number, spare: number >= o.Instances}
		if threads == abi.Pinned && !p.alone {
			inst.thread = newThread()
		}
		p.instances = append(p.instances, inst)
	}
	p.byRoom = slices.Clone(p.instances)
	for _, inst := range p.instances {
		p.ranks(inst)
	}
	return p
}

// run has r's instance run a function with in, where its functions run.
func (p *Pool) run(r *running, fn engine.Fn, dst, in []byte) (out []byte, status abi.Status, err error) {
	if r.inst.thread == nil {
		return p.runHere(r, fn, dst, in)
	}
	return p.runThere(r, fn, dst, in)
}

// runThere is run on the instance's thread.
func (p *Pool) runThere(r *running, fn engine.Fn, dst, in []byte) (out []byte, status abi.Status, err error) {
	out, status = append(dst, "it ended its goroutine"...), abi.StatusPanic
	r.inst.thread.do(func() {
		defer p.runsHere(r)()
		out, status, err = p.runHere(r, fn, dst, in)
	})
	return out, status, err
}

// runHere is run on this goroutine.
func (p *Pool) runHere(r *running, fn engine.Fn, dst, in []byte) (out []byte, status abi.Status, err error) {
	defer func() {
		if value := recover(); value != nil {
			out, status, err = append(dst, p.panicked(&r.Call, p.function(fn), value)...), abi.StatusPanic, nil
		}
	}()
	return p.code.Call(&r.Call, fn.Index, dst, slices.Clip(in))
}

// extras are what a call has that most calls do not: streams, a limit, somebody who wants to know how far it is.
type extras struct {
	st    *streams
	end   func() // of the limit; nil without one
	at    time.Time
	meter *callctx.Meter
}

// begins gives a call that has its place what else it has.
func (p *Pool) begins(r *running, c *callctx.Caller, fn engine.Fn, st *streams) (x extras) {
	r.extra = true
	if st != nil {
		x.st = st
		r.streams.Store(st)
	}
	if r.watched = c.Progress != nil; r.watched {
		r.progress[0].Store(0) // another call in its place may have said something
		r.progress[1].Store(0)
		x.meter = c.Progress.Start(&r.progress[0], &r.progress[1], *c, p.name, r)
	}
	if fn.Limit != nil {
		x.at, x.end = p.limit(r, c, fn.Limit, st)
	}
	return x
}

// ends ends it. Who waits in a stream is awake when the call waits for all.
func (x *extras) ends() {
	if x.end != nil {
		x.end()
	}
	x.meter.Stop()
	x.st.end()
}

// struck reports whether the function was asked to stop because of its limit.
func (x *extras) struck(c *callctx.Caller) bool {
	return x.end != nil && !time.Now().Before(x.at) && !c.Ended()
}

func (p *Pool) function(fn engine.Fn) string {
	about := p.code.About
	if n := len(about.Funcs); fn.Index >= n {
		return about.Hooks[fn.Index-n].Name
	}
	return about.Funcs[fn.Index].Name
}

// Stream is engine.Plugin's.
func (p *Pool) Stream(ctx context.Context, fn engine.Fn, dst, in []byte, st *stream.Streams) (out []byte, status abi.Status, err error) {
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
	return p.append(c, fn, dst, in, own)
}

// Append is engine.Plugin's.
func (p *Pool) Append(ctx context.Context, fn engine.Fn, dst, in []byte) (out []byte, status abi.Status, err error) {
	var c callctx.Caller
	if err := c.Ask(ctx); err != nil {
		return dst, 0, err
	}
	if p.claims && fn.Limit == nil && c.Progress == nil && !c.Over {
		if r := p.tryClaim(&c); r != nil {
			sound := false
			defer func() {
				if sound {
					p.unclaim(r)
				} else { // also when a host function ends this goroutine
					p.spoil(r)
				}
			}()
			out, status, err = p.runHere(r, fn, dst, in)
			if sound = !p.ruined(status, err); err != nil {
				out, status = dst, 0
			}
			return out, status, err
		}
	}
	return p.append(c, fn, dst, in, nil)
}

// spoil ends a call whose instance is no good any more.
func (p *Pool) spoil(r *running) {
	p.poison(r.inst) // which has the lock know of it
	p.leave(r, true)
}

func (p *Pool) append(c callctx.Caller, fn engine.Fn, dst, in []byte, st *streams) (out []byte, status abi.Status, err error) {
	r, err := p.acquire(&c)
	if err != nil {
		st.end()
		return dst, 0, err
	}
	sound := false
	defer func() { p.leave(r, !sound) }() // also when the function ends this goroutine
	x := p.begins(r, &c, fn, st)
	defer x.ends()
	out, status, err = p.run(r, fn, dst, in)
	sound = !p.ruined(status, err)
	switch {
	case err != nil:
		return dst, 0, err
	case status == abi.StatusCancelled && x.struck(&c):
		return out, status, fn.Limit
	}
	return out, status, nil
}

// View is engine.Plugin's. The output is a copy: what the function returned may be memory that it goes on to use.
func (p *Pool) View(ctx context.Context, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	out, status, err := p.Append(ctx, fn, nil, in)
	if err != nil && status == abi.StatusOK {
		return nil, 0, err
	}
	return &engine.View{Bytes: out, Release: func() {}}, status, err
}

// batchSize is how many records of a batch run in one place, before others have their turn.
const batchSize = 256

// Batch is engine.Plugin's.
func (p *Pool) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed, b.Limit = b.Out[:0], b.Records[:0], false, nil
	c, err := callctx.Ask(ctx)
	if err != nil || len(in) == 0 {
		return err
	}
	// After a panic the rest has an instance that was started anew; and after a while others have their turn.
	for err == nil && len(b.Records) < len(in) && (len(b.Records) == 0 || !c.Ended()) {
		rest := in[len(b.Records):]
		err = p.part(c, fn, rest[:min(len(rest), batchSize)], b)
	}
	if err == nil && len(b.Records) < len(in) {
		return c.GaveUp()
	}
	return err
}

// part runs a part of a batch in one place: until its end, a panic, or the caller's end.
func (p *Pool) part(c callctx.Caller, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	r, err := p.acquire(&c)
	if err != nil {
		return err
	}
	sound := false
	defer func() { p.leave(r, !sound) }()
	x := p.begins(r, &c, fn, nil)
	defer x.ends()
	for i, in := range in {
		start := len(b.Out)
		out, status, err := p.run(r, fn, b.Out, in)
		sound = !p.ruined(status, err)
		violation, broke := err.(*engine.Violation)
		if err != nil && !broke {
			return err
		}
		if broke {
			out, status = b.Out, 0
		}
		b.Out = out
		b.Records = append(b.Records, engine.Record{Start: start, End: len(out), Status: status, Err: violation})
		b.Failed = b.Failed || status != abi.StatusOK || broke
		struck := x.struck(&c)
		if struck {
			b.Limit = fn.Limit
		}
		if !sound || c.Ended() || struck {
			if struck && i+1 < len(in) {
				return &engine.Ended{Cause: fn.Limit}
			}
			return nil
		}
		sound = false // for a function that ends this goroutine
	}
	sound = true
	return nil
}

// Close is engine.Plugin's.
func (p *Pool) Close() error { return p.Shutdown(context.Background()) }

// Shutdown is engine.Plugin's.
func (p *Pool) Shutdown(ctx context.Context) error {
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
		p.settle()
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
func (p *Pool) refuse() {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.settle()
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
func (p *Pool) turnAway() {
	for first := p.waiting.Front(); first != nil; first = p.waiting.Front() {
		w := first.Value.(*waiter)
		p.unqueue(w)
		w.place <- nil
	}
}

// gone is why a call that has waited has no place.
func (p *Pool) gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost() {
		return engine.ErrLost
	}
	return engine.ErrClosed
}

// lost reports whether the plug-in is a session's whose instance has panicked, and is not started anew. mu is held.
func (p *Pool) lost() bool { return p.parent != nil && p.instances[0].poisoned && !p.closing }

// stopPatience is how long Shutdown goes on waiting, when its context has ended, for an instance that is being stopped.
const stopPatience = 100 * time.Millisecond

// end stops all instances, once no call runs.
func (p *Pool) end() {
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

package native

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/native/fpenv"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// instance is one plug-in state.
type instance struct {
	plugin   *Plugin
	number   int     // from 0; see engine.KeyInstance
	state    uintptr // what ferrule_start left in the frame; written when no call of the instance runs
	control  *slot   // for start and stop, outside the slots that calls take; locked but while controlCall runs, so that none does
	thread   *thread // pinned instances only
	running  bool    // started and not yet stopped; guarded by renewing, or by open and close being alone
	poisoned atomic.Bool
	renewing chan struct{} // a lock that nobody has to wait for
	renewals uint          // guarded by renewing

	starting atomic.Bool                // ferrule_start runs
	making   sync.Mutex                 // guards between
	between  atomic.Pointer[background] // nil where the plug-in has not asked for it
}

// change is an instance that is started or stopped, for the calls that do it.
type change instance

// controlCall runs start or stop, with the instance's own slot. It is on a goroutine of its own, because a host function
// may end it, and on the instance's thread where it has one.
func (inst *instance) controlCall(c callctx.Caller, fn uintptr, in []byte) (out []byte, status abi.Status, err *engine.Violation) {
	s := inst.control
	lasting := c.WithoutCancel()
	s.setCaller(&lasting) // a start or stop is not given up half way; the slot is busy from here on
	room := make([]byte, scratchRoom)
	ended := true
	onAnotherGoroutine(func() {
		defer s.disclaim() // as in thread.serve
		status = s.call(fn, in, room)
		ended = false
	})
	if ended {
		s.frame.Out, s.frame.OutLen, s.frame.Release, status = 0, 0, 0, abi.StatusPanic
	}
	state := s.frame.State
	out, err = s.take(nil, room, status)
	if ended || s.left.Swap(false) {
		out, status, err = []byte(endedGoroutine), abi.StatusPanic, nil
	}
	s.setCaller(&callctx.Background)
	s.tidy() // and locked from here on
	if image := inst.plugin.image; err == nil && status == abi.StatusOK && (fn == image.start || fn == image.resume) {
		inst.state = state // R6, R15
	}
	return out, status, err
}

// onAnotherGoroutine runs fn on a goroutine of its own, and returns when it has returned or ended the goroutine.
func onAnotherGoroutine(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

var endedGoroutine = engine.ErrEnded.Error()

// start makes the instance's state. No call of it runs. state is what ferrule_resume gets then; nil is nothing.
func (inst *instance) start(c callctx.Caller, config, state []byte) error {
	inst.state = 0
	if fn := inst.plugin.image.start; fn != 0 {
		out, status, err := inst.startWith(c, fn, config)
		if err != nil {
			return &engine.StartError{Err: err}
		}
		if status != abi.StatusOK {
			return &engine.StartError{Status: status, Message: string(out)}
		}
	}
	inst.running = true
	if state == nil {
		return nil
	}
	out, status, violation := inst.controlCall(c, inst.plugin.image.resume, state)
	if violation == nil && status == abi.StatusOK {
		return nil
	}
	failed := &engine.StartError{Symbol: abi.SymbolResume, Status: status, Message: string(out)}
	if violation != nil {
		*failed = engine.StartError{Symbol: abi.SymbolResume, Err: violation}
	}
	_ = inst.stop(c) // what it says is of no use beside the failure
	return failed
}

// stop drops the instance's state, if it has one. No call of it runs. What goes wrong is for the log: there is nobody who could do
// something about it. It is returned, because the handler is foreign code: it is called with nothing held that its calls would wait for.
func (inst *instance) stop(c callctx.Caller) (warning string) {
	if !inst.running {
		return ""
	}
	inst.running = false
	inst.between.Load().stops()
	defer inst.closeBackground()
	fn := inst.plugin.image.stop
	if fn == 0 {
		return ""
	}
	out, status, err := inst.controlCall(c, fn, nil)
	switch {
	case err != nil:
		return "ferrule_stop: " + err.Error()
	case status != abi.StatusOK:
		return fmt.Sprintf("ferrule_stop: %s: %s", status, out)
	}
	return ""
}

// renew has a call go on that has found the instance poisoned. It stops the instance, once its running calls have ended, and
// starts it anew (R16); or else, where the call need not wait so long, it returns a slot of another instance, of which the
// caller is the owner then. Where the call comes from the instance itself, others are all that it can have.
func (inst *instance) renew(c *callctx.Caller) (*slot, error) {
	if inst.plugin.parent != nil {
		return nil, engine.ErrLost
	}
	s, ended, err := inst.tryRenew(c)
	if ended {
		return nil, c.GaveUp() // it is asked for why when nothing is held that others may want
	}
	return s, err
}

// tryRenew is renew. ended says that it gave up because the call's context has ended.
func (inst *instance) tryRenew(c *callctx.Caller) (s *slot, ended bool, err error) {
	p := inst.plugin
	p.renewers.Add(1)
	defer p.renewers.Add(-1)
	var own quiet
	stopping := p.stopping(c)
	for wait := 10 * time.Microsecond; ; wait = min(2*wait, rest(int(p.renewers.Load()))) {
		renewed := p.nextRenewal()
		if p.isRefused() { // Close keeps the locks
			return nil, false, engine.ErrClosed
		}
		if done, err := inst.renewNow(c, &own); done || err != nil {
			return nil, false, err
		}
		stress.Yield()
		if s := p.takeSound(c); s != nil {
			return s, false, nil
		}
		again := false
		for _, other := range p.instances {
			if other != inst && other.poisoned.Load() {
				done, err := other.renewNow(c, new(quiet))
				if err != nil {
					return nil, false, err
				}
				again = again || done
			}
		}
		if again {
			continue
		}
		want := p.repairs(c)
		if want == nil && p.isRefused() { // and has taken the slots away
			return nil, false, engine.ErrClosed
		} else if want == nil {
			return nil, false, engine.ErrReentrant // it would wait for itself
		}
		if _, ok := c.Context.(Canceller); ok && c.Context.Value(Impatient) != nil {
			return nil, false, ErrPoisoned
		}
		waiter, err := callctx.Wait(c.Outer, want) // again each time: what it waits for changes
		if err != nil {
			return nil, false, err
		}
		select {
		case <-time.After(wait): // a Canceller has no Done
			ended = cancelled(c)
		case <-c.Done:
			ended = true
		case <-renewed:
		case <-p.refused:
		case <-stopping:
			ended, err = c.Ended(), engine.ErrReentrant
		}
		waiter.Done()
		if ended || err != nil {
			return nil, ended, err
		}
	}
}

// ErrPoisoned is the error of a call that is not to wait; see Impatient.
var ErrPoisoned = errors.New("the instance has panicked, and calls that it runs have not ended")

// rest is how long a call waits at most until it looks again, where so many wait for a renewal. All of them look some four times a
// millisecond together, and hear of a renewal at once: thousands that looked every millisecond would leave the calls that they
// wait for no processor.
func rest(waiting int) time.Duration {
	return min(max(1, time.Duration(waiting)/4)*time.Millisecond, 100*time.Millisecond)
}

// nextRenewal returns what is closed when the next instance has been renewed.
func (p *Plugin) nextRenewal() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.renewed
}

func (p *Plugin) announceRenewal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.renewed)
	p.renewed = make(chan struct{})
}

// isRefused reports whether the engine is closed, or about to be.
func (p *Plugin) isRefused() bool {
	select {
	case <-p.refused:
		return true
	default:
		return false
	}
}

// quiet is how far a look at an instance's slots has come that finds out whether its calls have ended since it was poisoned.
type quiet struct {
	renewals uint // of the instance, when the look began
	slots    int  // of the engine's, those before which have been idle since
}

// renewNow renews the instance where nothing keeps it from that now, and reports whether it is, by whomever, no longer
// poisoned.
func (inst *instance) renewNow(c *callctx.Caller, q *quiet) (done bool, err error) {
	warning := ""
	defer func() { inst.plugin.warn(c.Context, warning) }() // when the lock below is free
	select {
	case inst.renewing <- struct{}{}:
	default:
		return false, nil
	}
	defer func() { <-inst.renewing }()
	if !inst.poisoned.Load() {
		return true, nil
	}
	if inst.changes(c) || nested(c) && inst.hasBetween() { // its stop would wait for this call, or may
		return false, nil
	}
	if q.renewals != inst.renewals {
		*q = quiet{renewals: inst.renewals}
	}
	// A call that takes a slot from now on finds the instance poisoned, and leaves.
	for slots := *inst.plugin.slots.Load(); q.slots < len(slots); q.slots++ {
		if inst.plugin.instanceOf(q.slots) == inst && slots[q.slots].phase.Load() != idle && !slots[q.slots].held.Load() {
			return false, nil
		}
	}
	warning = inst.stop(*c)
	if err := inst.start(*c, inst.plugin.settings.Get(), nil); err != nil {
		return false, err
	}
	inst.renewals++
	inst.poisoned.Store(false)
	inst.plugin.announceRenewal()
	return true, nil
}

// takeSound takes an idle slot of an instance that is not poisoned, or makes one; nil where neither can be.
func (p *Plugin) takeSound(c *callctx.Caller) *slot {
	sound := func(inst *instance) bool { return !inst.poisoned.Load() }
	if !slices.ContainsFunc(p.instances, sound) {
		return nil
	}
	for i, s := range *p.slots.Load() {
		if sound(p.instanceOf(i)) && s.tryAcquire() {
			return s
		}
	}
	inside := p.inside(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil
	}
	return p.makeSlots(inside)
}

// repair is what a call waits for that has found an instance poisoned: that an instance can be renewed, or a slot of one that
// need not be.
type repair struct {
	*Plugin
	outer []bool // for each instance, whether the call comes from it, which so cannot be renewed
}

// repairs returns what the call, which has found an instance poisoned, can wait for; nil when that would be itself.
func (p *Plugin) repairs(c *callctx.Caller) *repair {
	if nested(c) {
		return nil // any of the calls that run may be one that it comes from
	}
	r := &repair{p, make([]bool, len(p.instances))}
	possible := false
	for i, inst := range p.instances {
		inside := inst.inside(c)
		r.outer[i] = inside > 0 || inst.changes(c)
		if inst.poisoned.Load() {
			possible = possible || !r.outer[i]
			continue
		}
		for at := i; at < len(*p.slots.Load()); at += len(p.instances) {
			inside--
		}
		possible = possible || inside < 0 // not all of its slots are those of calls that this one comes from
	}
	if !possible {
		return nil
	}
	return r
}

// Holders is callctx.Wanted's.
func (r *repair) Holders() (sets [][]*callctx.Call) {
	for i, inst := range r.instances {
		if inst.poisoned.Load() && !r.outer[i] {
			sets = append(sets, inst.holders())
		}
	}
	for i, s := range *r.slots.Load() {
		if !r.instanceOf(i).poisoned.Load() {
			sets = append(sets, []*callctx.Call{s.holder()})
		}
	}
	return sets
}

// nested reports whether the call comes from another one of the plug-in's, in a worker, where it is not known from which.
func nested(c *callctx.Caller) bool {
	_, ok := c.Context.(Canceller)
	return ok && c.Context.Value(Nested) != nil
}

// hasBetween reports whether the plug-in does something between calls with the instance.
func (inst *instance) hasBetween() bool { return inst.between.Load() != nil }

// cancelled reports whether the context of c is a Canceller that has ended.
func cancelled(c *callctx.Caller) bool {
	own, ok := c.Context.(Canceller)
	return ok && own.CancelWord().Load() != 0
}

// inside returns how many calls that run on the instance the call comes from: by its context, or by its goroutine.
func (inst *instance) inside(c *callctx.Caller) int {
	byContext, byGoroutine := 0, 0
	for outer := range c.Outer.Running() {
		if outer.Holds() == any(inst) {
			byContext++
		}
	}
	for i, s := range *inst.plugin.slots.Load() {
		// On the thread of a pinned instance the goroutine serves the call.
		if inst.thread == nil && inst.plugin.instanceOf(i) == inst && s.outerOfGoroutine() {
			byGoroutine++
		}
	}
	callctx.Served(func(outer *callctx.Call) bool {
		if outer.Holds() == any(inst) {
			byGoroutine++
		}
		return false
	})
	return max(byContext, byGoroutine)
}

// changes reports whether the call comes from the start or the stop of the instance, or from what its stop waits for: what it
// does between calls.
func (inst *instance) changes(c *callctx.Caller) bool {
	return inst.control.outerOfGoroutine() || c.ComesFrom(func(outer *callctx.Call) bool {
		holds := outer.Holds()
		return holds == any((*change)(inst)) || holds == any(inst.between.Load())
	})
}

// holders returns the calls in host functions that the instance's renewal waits for: all that it runs, and who starts or
// stops it already.
func (inst *instance) holders() (calls []*callctx.Call) {
	for i, s := range *inst.plugin.slots.Load() {
		if inst.plugin.instanceOf(i) == inst && s.inUse() {
			calls = append(calls, s.current.Load())
		}
	}
	if c := inst.control.current.Load(); c != nil && inst.control.inUse() {
		calls = append(calls, c)
	}
	return calls
}

// run crosses on the instance's own thread where it has one, else on this one.
func (s *slot) run(crossing func() abi.Status) abi.Status {
	if s == s.inst.control {
		crossing = keepControl(crossing)
	}
	if t := s.inst.thread; t != nil {
		t.jobs <- job{s, crossing}
		return <-s.done
	}
	return crossing()
}

// keepControl is crossing, after which the thread has the floating-point control that it had before. It is for start and
// stop, where libraries set things up; that a function's call leaves it alone is rule R20.
func keepControl(crossing func() abi.Status) func() abi.Status {
	return func() abi.Status {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		control := fpenv.Get()
		defer control.Set()
		return crossing()
	}
}

// thread is the one operating system thread on which a pinned instance runs.
type thread struct{ jobs chan job }

type job struct {
	slot     *slot
	crossing func() abi.Status
}

func startThread() *thread {
	t := &thread{jobs: make(chan job)}
	go t.serve()
	return t
}

// serve runs crossings until stop. The goroutine ends while it is locked, so that the thread ends with it, and what the
// plug-in keeps in thread-local storage with the thread.
func (t *thread) serve() {
	runtime.LockOSThread()
	var current *slot
	defer func() {
		if current != nil { // a host function called runtime.Goexit; see serviceCall
			go t.serve()
			current.left.Store(true)
			current.frame.Out, current.frame.OutLen, current.frame.Release = 0, 0, 0
			current.disclaim() // before this goroutine ends: the next one that the runtime makes may be at its address
			current.done <- abi.StatusPanic
		}
	}()
	for j := range t.jobs {
		current = j.slot
		raw.StoreUintptr(&current.owner, goroutine.ID())
		status := j.crossing()
		current = nil
		j.slot.done <- status
	}
}

func (t *thread) stop() { close(t.jobs) }

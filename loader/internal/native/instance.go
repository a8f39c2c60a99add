package native

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
	"github.com/ferrule-dev/ferrule/loader/internal/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/fpenv"
)

// instance is one plug-in state.
type instance struct {
	engine   *Engine
	state    uintptr // what ferrule_start left in the frame; written when no call of the instance runs
	control  *slot   // for start and stop, outside the slots that calls take; locked but while controlCall runs, so that none does
	thread   *thread // pinned instances only
	running  bool    // started and not yet stopped; guarded by renewing, or by open and close being alone
	poisoned atomic.Bool
	renewing chan struct{} // a lock that a context can give up waiting for
}

// change is an instance that is started or stopped, for the calls that do it.
type change instance

// controlCall runs start or stop, with the instance's own slot. It is on a goroutine of its own, because a host function
// may end it, and on the instance's thread where it has one.
func (inst *instance) controlCall(c callctx.Caller, fn uintptr, in []byte) (out []byte, status abi.Status, err *engine.Violation) {
	s := inst.control
	s.setCaller(c.WithoutCancel()) // a start or stop is not given up half way; the slot is busy from here on
	room := make([]byte, scratchRoom)
	ended := true
	apart(func() {
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
	cmem.StoreUintptr(&s.owner, 0)
	s.setCaller(callctx.Background)
	s.tidy() // and locked from here on
	if err == nil && status == abi.StatusOK {
		inst.state = state // R15: start has set it; after stop nobody reads it
	}
	return out, status, err
}

// apart runs fn on a goroutine of its own, and returns when it has returned or ended the goroutine.
func apart(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

var endedGoroutine = engine.ErrEnded.Error()

// start makes the instance's state. No call of it runs.
func (inst *instance) start(c callctx.Caller) error {
	inst.state = 0
	if fn := inst.engine.image.start; fn != 0 {
		out, status, err := inst.controlCall(c, fn, inst.engine.config)
		if err != nil {
			return &engine.StartError{Err: err}
		}
		if status != abi.StatusOK {
			return &engine.StartError{Status: status, Message: string(out)}
		}
	}
	inst.running = true
	return nil
}

// stop drops the instance's state, if it has one. No call of it runs. What goes wrong is logged: there is nobody who
// could do something about it.
func (inst *instance) stop(c callctx.Caller) {
	if !inst.running {
		return
	}
	inst.running = false
	fn := inst.engine.image.stop
	if fn == 0 {
		return
	}
	out, status, err := inst.controlCall(c, fn, nil)
	var text string
	switch {
	case err != nil:
		text = "ferrule_stop: " + err.Error()
	case status != abi.StatusOK:
		text = fmt.Sprintf("ferrule_stop: %s: %s", status, out)
	default:
		return
	}
	apart(func() { inst.engine.host.Log(c.Context, abi.LogWarn, []byte(text)) })
}

// renew stops a poisoned instance, once its running calls have ended, and starts it anew (R16).
func (inst *instance) renew(c *callctx.Caller) error {
	if inst.needs(c) {
		return engine.ErrReentrant // it would wait for itself
	}
	ended, err := inst.tryRenew(c)
	if ended {
		return c.GaveUp() // it is asked for why when nothing is held that others may want
	}
	return err
}

// tryRenew is renew for a call that does not come from one that it would wait for. ended says that it gave up because the
// call's context has ended.
func (inst *instance) tryRenew(c *callctx.Caller) (ended bool, err error) {
	e := inst.engine
	waiter, err := callctx.Wait(c.Outer, inst)
	if err != nil {
		return false, err
	}
	defer waiter.Done()
	for wait := 10 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		select {
		case inst.renewing <- struct{}{}:
		case <-time.After(wait): // a Canceller has no Done
			if c.Ended() || cancelled(c) {
				return true, nil
			}
			continue
		case <-c.Done:
			return true, nil
		case <-e.refused: // Close keeps the lock
			return false, engine.ErrClosed
		}
		break
	}
	defer func() { <-inst.renewing }()
	if !inst.poisoned.Load() {
		return false, nil
	}
	// A call that takes a slot from now on finds the instance poisoned, and leaves.
	for _, s := range *e.slots.Load() {
		for wait := 10 * time.Microsecond; s.inst == inst && s.phase.Load() != idle; wait = min(2*wait, time.Millisecond) {
			select {
			case <-e.refused:
				return false, engine.ErrClosed
			case <-c.Done:
				return true, nil
			case <-time.After(wait):
				if cancelled(c) {
					return true, nil
				}
			}
		}
	}
	inst.stop(*c)
	if err := inst.start(*c); err != nil {
		return false, err
	}
	inst.poisoned.Store(false)
	return false, nil
}

// cancelled reports whether the context of c is a Canceller that has ended.
func cancelled(c *callctx.Caller) bool {
	own, ok := c.Context.(Canceller)
	return ok && own.CancelWord().Load() != 0
}

// needs reports whether the call comes from one that runs on the instance, or starts or stops it: by its context, or by
// its goroutine.
func (inst *instance) needs(c *callctx.Caller) bool {
	if _, ok := c.Context.(Canceller); ok && c.Context.Value(Nested) != nil {
		return true
	}
	for outer := range c.Outer.Running() {
		switch held := outer.Holds().(type) {
		case *instance:
			if held == inst {
				return true
			}
		case *change:
			if (*instance)(held) == inst {
				return true
			}
		}
	}
	for _, s := range *inst.engine.slots.Load() {
		if s.outerOfGoroutine() && s.inst == inst {
			return true
		}
	}
	return inst.control.outerOfGoroutine()
}

// Plugin is callctx.Wanted's.
func (inst *instance) Plugin() string { return inst.engine.Plugin() }

// Holders is callctx.Wanted's: to be renewed, an instance waits for all its calls, and for who renews it already.
func (inst *instance) Holders() (calls []*callctx.Call, all bool) {
	for _, s := range append([]*slot{inst.control}, *inst.engine.slots.Load()...) {
		if c := s.current.Load(); c != nil && s.inUse() && (c.Holds() == any(inst) || c.Holds() == any((*change)(inst))) {
			calls = append(calls, c)
		}
	}
	return calls, true
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
			current.done <- abi.StatusPanic
		}
	}()
	for j := range t.jobs {
		current = j.slot
		cmem.StoreUintptr(&current.owner, cross.Goroutine())
		status := j.crossing()
		current = nil
		j.slot.done <- status
	}
}

func (t *thread) stop() { close(t.jobs) }

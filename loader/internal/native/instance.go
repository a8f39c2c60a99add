package native

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
)

// instance is one plug-in state.
type instance struct {
	engine   *Engine
	state    uintptr // what ferrule_start left in the frame; written when no call of the instance runs
	control  *slot   // for start and stop, outside the slots that calls take
	thread   *thread // pinned instances only
	running  bool    // started and not yet stopped; guarded by renewing, or by open and close being alone
	poisoned atomic.Bool
	renewing chan struct{} // a lock that a context can give up waiting for
}

// controlCall runs start or stop, with the instance's own slot.
func (inst *instance) controlCall(ctx context.Context, fn uintptr, in []byte) (out []byte, status abi.Status, err *engine.Violation) {
	s := inst.control
	s.phase.Store(busy)
	s.setContext(context.WithoutCancel(ctx)) // a start or stop is not given up half way
	room := make([]byte, scratchRoom)
	status = s.call(fn, in, room)
	state := s.frame.State
	out, err = s.take(nil, room, status)
	s.setContext(context.Background())
	s.tidy()
	s.phase.Store(idle)
	if err == nil && status == abi.StatusOK {
		inst.state = state // R15: start has set it; after stop nobody reads it
	}
	return out, status, err
}

// start makes the instance's state. No call of it runs.
func (inst *instance) start(ctx context.Context) error {
	inst.state = 0
	if fn := inst.engine.image.start; fn != 0 {
		out, status, err := inst.controlCall(ctx, fn, inst.engine.config)
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
func (inst *instance) stop(ctx context.Context) {
	if !inst.running {
		return
	}
	inst.running = false
	fn := inst.engine.image.stop
	if fn == 0 {
		return
	}
	out, status, err := inst.controlCall(ctx, fn, nil)
	var text string
	switch {
	case err != nil:
		text = "ferrule_stop: " + err.Error()
	case status != abi.StatusOK:
		text = fmt.Sprintf("ferrule_stop: %s: %s", status, out)
	default:
		return
	}
	inst.engine.host.Log(ctx, abi.LogWarn, []byte(text))
}

// renew stops a poisoned instance, once its running calls have ended, and starts it anew (R16).
func (inst *instance) renew(ctx context.Context) error {
	for wait, locked := 10*time.Microsecond, false; !locked; wait = min(2*wait, time.Millisecond) {
		select {
		case inst.renewing <- struct{}{}:
			locked = true
		case <-time.After(wait): // a Canceller has no Done
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-inst.renewing }()
	if !inst.poisoned.Load() {
		return nil
	}
	e := inst.engine
	if held(ctx, e) > 0 || ctx.Value(Nested) != nil {
		return engine.ErrReentrant // it would wait for itself
	}
	// A call that takes a slot from now on finds the instance poisoned, and leaves.
	for _, s := range *e.slots.Load() {
		for wait := 10 * time.Microsecond; s.inst == inst && s.phase.Load() != idle; wait = min(2*wait, time.Millisecond) {
			e.mu.Lock()
			closing := e.closing
			e.mu.Unlock()
			if closing {
				return engine.ErrClosed
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(wait):
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
		}
	}
	inst.stop(ctx)
	if err := inst.start(ctx); err != nil {
		return err
	}
	inst.poisoned.Store(false)
	return nil
}

// run crosses on the instance's own thread where it has one, else on this one.
func (s *slot) run(crossing func() abi.Status) abi.Status {
	if t := s.inst.thread; t != nil {
		t.jobs <- job{s, crossing}
		return <-s.done
	}
	return crossing()
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
			current.frame.Out, current.frame.OutLen, current.frame.Release = 0, 0, 0
			current.done <- abi.StatusPanic
		}
	}()
	for j := range t.jobs {
		current = j.slot
		status := j.crossing()
		current = nil
		j.slot.done <- status
	}
}

func (t *thread) stop() { close(t.jobs) }

package native

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
)

// slotsPerCore is how many slots a concurrent plug-in has for each processor before calls look for an idle one among
// those there are.
const slotsPerCore = 16

// unready reports whether something is to be done before a call with ctx can use the slot. Only the owner calls it.
func (s *slot) unready(e *Engine, ctx context.Context) bool {
	return s.engine != e || !cmem.Same(s.ctx, ctx) || s.cancellable || s.inst.poisoned.Load()
}

// acquire makes the caller the owner of a slot, ready for a call with ctx. It is s, where the caller owns one already.
func (e *Engine) acquire(ctx context.Context, s *slot) (*slot, error) {
	for ; ; s = nil {
		if s == nil {
			var err error
			if s, err = e.acquireAny(ctx); err != nil {
				return nil, err
			}
		}
		if s.engine != e { // closed meanwhile, and the slot went to another plug-in
			s.engine.release(s)
			return nil, engine.ErrClosed
		}
		if !cmem.Same(s.ctx, ctx) {
			s.setContext(ctx)
		}
		if s.cancellable {
			if ctx.Err() != nil {
				e.release(s)
				return nil, context.Cause(ctx)
			}
			e.watch.ensure()
		}
		if !s.inst.poisoned.Load() {
			return s, nil
		}
		inst := s.inst
		e.release(s)
		if err := inst.renew(ctx); err != nil {
			return nil, err
		}
	}
}

// acquireAny takes any idle slot, makes one where the plug-in is concurrent, or waits for one.
func (e *Engine) acquireAny(ctx context.Context) (*slot, error) {
	slots := *e.slots.Load()
	concurrent := e.image.lib.Manifest.Threads == abi.Concurrent
	// A call that comes here found its first choice taken. Where more slots make that rarer, there soon are more: two
	// goroutines that keep to one slot would pass its cache line back and forth.
	few := concurrent && len(slots) < slotsPerCore*runtime.GOMAXPROCS(0)
	for i, first := 0, int(cmem.Hint()); i < len(slots) && !few; i++ {
		if s := slots[(first+i)%len(slots)]; s.tryAcquire() {
			return s, nil
		}
	}
	seen := len(slots)
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil, engine.ErrClosed
	}
	slots = *e.slots.Load()
	for _, s := range slots {
		if few && len(slots) == seen {
			break // nobody else has made more meanwhile
		}
		if s.claimIdle() {
			e.mu.Unlock()
			s.clean()
			return s, nil
		}
	}
	if concurrent {
		more := append(make([]*slot, 0, 2*len(slots)), slots...)
		for len(more) < cap(more) {
			more = append(more, e.newSlot(e.instances[len(more)%len(e.instances)]))
		}
		s := more[len(slots)]
		s.phase.Store(busy)
		e.slots.Store(&more)
		e.mu.Unlock()
		return s, nil
	}
	if held(ctx, e) >= len(slots) {
		e.mu.Unlock()
		return nil, engine.ErrReentrant
	}
	mine := make(chan *slot, 1)
	for _, s := range slots {
		s.attend()
		if s.claimIdle() {
			e.mu.Unlock()
			s.clean()
			return s, nil
		}
	}
	e.waiting = append(e.waiting, mine)
	e.mu.Unlock()
	for again := 50 * time.Microsecond; ; again = min(4*again, time.Second) {
		select {
		case s := <-mine:
			if s == nil {
				return nil, engine.ErrClosed
			}
			return s, nil
		case <-ctx.Done():
			if !e.stopWaiting(mine) {
				if s := <-mine; s != nil { // it was handed over at the same moment
					e.release(s)
				}
			}
			return nil, context.Cause(ctx)
		case <-time.After(again): // see giveBack
			for _, s := range slots {
				if s.tryAcquire() {
					if e.stopWaiting(mine) {
						return s, nil
					}
					e.release(s)
					break
				}
			}
		}
	}
}

// stopWaiting takes a waiting call out of the queue, and reports false when it is not in there any more: its channel
// has an answer then.
func (e *Engine) stopWaiting(mine chan *slot) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.waiting, mine)
	if i < 0 {
		return false
	}
	e.waiting = slices.Delete(e.waiting, i, i+1)
	return true
}

// release gives a slot back.
func (e *Engine) release(s *slot) {
	if !s.giveBack() {
		e.releaseSlow(s)
	}
}

// releaseSlow shuts the slot's visitors out, tidies up behind them, and hands it to the next call that waits.
func (e *Engine) releaseSlow(s *slot) {
	s.tidy()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closing:
		e.closeSlot(s)
	case len(e.waiting) > 0:
		next := e.waiting[0]
		e.waiting = slices.Delete(e.waiting, 0, 1)
		if len(e.waiting) == 0 {
			s.others.And(^attend)
		}
		s.unlock()
		next <- s
	default:
		s.others.And(^attend)
		s.phase.Store(idle)
	}
}

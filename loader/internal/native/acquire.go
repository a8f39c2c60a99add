package native

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// slotsPerCore is how many slots a concurrent plug-in has for each processor before calls look for an idle one among
// those there are.
const slotsPerCore = 16

// choose returns the slot that a call tries first, or nil when the engine has none any more.
func (e *Plugin) choose() *slot {
	slots := *e.slots.Load()
	switch n := uint32(len(slots)); n {
	case 0:
		return nil
	case 1:
		return slots[0]
	default:
		return slots[raw.Hint()%n]
	}
}

// unready reports whether something is to be done before a call with ctx can use the slot. Only the owner calls it.
func (s *slot) unready(e *Plugin, ctx context.Context) bool {
	return s.engine != e || !raw.Same(s.caller.Context, ctx) || s.unwatched || s.inst.poisoned.Load()
}

// acquire makes the caller the owner of a slot, ready for a call with ctx. It is s, if that can be had; owned says that it
// was. No foreign code runs while a slot is taken: the context is asked before, unless the slot knows it.
func (e *Plugin) acquire(ctx context.Context, s *slot, owned bool) (*slot, error) {
	c := callctx.Background
	switch {
	case raw.IsBackground(ctx):
		owned = owned || s != nil && s.tryAcquire()
	case owned && s.engine == e && raw.Same(s.caller.Context, ctx):
		c = s.caller // Append has seen that it has not ended
	default:
		if owned {
			s.engine.release(s)
		}
		if err := c.Ask(ctx); err != nil {
			return nil, err
		}
		owned = s != nil && s.tryAcquire()
	}
	for ended := c.Over; ; {
		if !owned {
			var err error
			if s, err = e.acquireAny(&c); err != nil {
				return nil, err
			}
			ended = c.Ended()
		}
		if s.engine != e { // closed meanwhile, and the slot went to another plug-in
			s.engine.release(s)
			return nil, engine.ErrClosed
		}
		if ended {
			e.release(s)
			return nil, c.GaveUp()
		}
		if !raw.Same(s.caller.Context, ctx) {
			s.setCaller(&c)
		}
		if s.unwatched {
			e.watch.add(s)
		}
		if !s.inst.poisoned.Load() {
			return s, nil
		}
		inst := s.inst
		e.release(s)
		stress.Yield()
		var err error
		if s, err = inst.renew(&c); err != nil {
			return nil, err
		}
		owned, ended = s != nil, c.Ended()
	}
}

// acquireAny takes any idle slot, makes one where the plug-in is concurrent, or waits for one. It may be another engine's,
// when this one was closed meanwhile.
func (e *Plugin) acquireAny(c *callctx.Caller) (*slot, error) {
	slots := *e.slots.Load()
	// A call that comes here found its first choice taken. Where more slots make that rarer, there soon are more: two
	// goroutines that keep to one slot would pass its cache line back and forth.
	few := len(slots) < e.mostSlots && len(slots) < slotsPerCore*runtime.GOMAXPROCS(0)
	for i, first := 0, int(raw.Hint()); i < len(slots) && !few; i++ {
		if s := slots[(first+i)%len(slots)]; s.tryAcquire() {
			return s, nil
		}
	}
	inside := e.inside(c)
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
	if s := e.makeSlots(inside); s != nil {
		e.mu.Unlock()
		return s, nil
	}
	if inside >= len(slots) {
		e.mu.Unlock()
		return nil, engine.ErrReentrant
	}
	if len(slots) < e.mostSlots {
		e.mu.Unlock()
		return nil, engine.ErrTooDeep
	}
	mine := make(chan *slot, 1)
	for _, s := range slots {
		s.attend()
		stress.Yield()
		if s.claimIdle() {
			e.mu.Unlock()
			s.clean()
			return s, nil
		}
	}
	e.waiting = append(e.waiting, mine)
	e.mu.Unlock()
	stress.Yield()
	return e.wait(c, slots, mine)
}

// makeSlots makes more slots, where there may be more and the call, which comes from so many others of the plug-in's, is not
// the innermost of an endless recursion. It returns one that is the caller's, or nil: of an instance that is not poisoned,
// where one gets a slot. The caller holds e.mu.
func (e *Plugin) makeSlots(inside int) *slot {
	slots := *e.slots.Load()
	if len(slots) >= e.mostSlots || inside >= engine.MaxDepth && len(slots) >= engine.MaxDepth {
		return nil
	}
	more := append(make([]*slot, 0, min(2*len(slots), e.mostSlots)), slots...)
	own := len(slots)
	for i := own; i < cap(more); i++ {
		if !e.instanceOf(i).poisoned.Load() {
			own = i
			break
		}
	}
	for i := len(slots); i < cap(more); i++ {
		phase := idle
		if i == own {
			phase = busy
		}
		more = append(more, e.newSlot(e.instanceOf(i), phase))
	}
	e.slots.Store(&more)
	return more[own]
}

// instanceOf returns the instance of the engine's slot i. The slot itself says so to its owner only.
func (e *Plugin) instanceOf(i int) *instance { return e.instances[i%len(e.instances)] }

// inside returns how many of the engine's slots are in use by calls that the call comes from: by its context, and by the
// goroutine that it is on.
func (e *Plugin) inside(c *callctx.Caller) int {
	byContext, byGoroutine := 0, 0
	for outer := range c.Outer.Running() {
		if inst, ok := outer.Holds().(*instance); ok && inst.engine == e {
			byContext++
		}
	}
	for _, s := range *e.slots.Load() {
		if s.outerOfGoroutine() {
			byGoroutine++
		}
	}
	return max(byContext, byGoroutine)
}

// wait waits for a slot that is handed over in mine, which is in the queue.
func (e *Plugin) wait(c *callctx.Caller, slots []*slot, mine chan *slot) (*slot, error) {
	s, ended, err := e.handed(c, slots, mine)
	if ended {
		return nil, c.GaveUp() // it is asked for why when it does not wait any more
	}
	return s, err
}

// handed is wait, which says that the call's context has ended instead of why.
func (e *Plugin) handed(c *callctx.Caller, slots []*slot, mine chan *slot) (s *slot, ended bool, err error) {
	waiter, err := callctx.Wait(c.Outer, e)
	if err != nil {
		e.giveUp(mine)
		return nil, false, err
	}
	defer waiter.Done()
	again := 50 * time.Microsecond
	timer := time.NewTimer(again)
	defer timer.Stop()
	for {
		select {
		case s := <-mine:
			if s == nil {
				return nil, false, engine.ErrClosed
			}
			return s, false, nil
		case <-c.Done:
			e.giveUp(mine)
			return nil, true, nil
		case <-timer.C: // see giveBack
			for _, s := range slots {
				if s.tryAcquire() {
					if s.engine == e && e.stopWaiting(mine) {
						return s, false, nil
					}
					s.engine.release(s)
					break
				}
			}
			again = min(4*again, time.Second)
			timer.Reset(again)
		}
	}
}

// giveUp takes a waiting call out of the queue, or gives back what it was handed at the same moment.
func (e *Plugin) giveUp(mine chan *slot) {
	if !e.stopWaiting(mine) {
		if s := <-mine; s != nil {
			e.release(s)
		}
	}
}

// Plugin is callctx.Wanted's.
func (e *Plugin) Owner() string { return e.image.lib.Manifest.Name }

// Holders is callctx.Wanted's: calls wait for any slot.
func (e *Plugin) Holders() [][]*callctx.Call {
	var calls []*callctx.Call
	for _, s := range *e.slots.Load() {
		calls = append(calls, s.holder())
	}
	return callctx.Each(calls)
}

// holder returns the call in a host function that has the slot, or nil.
func (s *slot) holder() *callctx.Call {
	if s.inUse() {
		return s.current.Load()
	}
	return nil
}

// stopWaiting takes a waiting call out of the queue, and reports false when it is not in there any more: its channel
// has an answer then.
func (e *Plugin) stopWaiting(mine chan *slot) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.waiting, mine)
	if i < 0 {
		return false
	}
	e.waiting = slices.Delete(e.waiting, i, i+1)
	return true
}

// release gives a slot back. s is e's.
func (e *Plugin) release(s *slot) {
	if s.marked() {
		s.unmark()
	}
	s.disclaim()
	if !s.giveBack() {
		e.releaseSlow(s)
	}
}

// releaseSlow shuts the slot's visitors out, tidies up behind them, and hands it to the next call that waits.
func (e *Plugin) releaseSlow(s *slot) {
	s.tidy()
	stress.Yield()
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

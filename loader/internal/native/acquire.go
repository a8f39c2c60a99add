package native

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// slotsPerCore is how many slots a concurrent plug-in has for each processor before calls look for an idle one among
// those there are.
const slotsPerCore = 16

// choose returns the slot that a call tries first, or nil when the plug-in has none any more.
func (p *Plugin) choose() *slot {
	if s := p.only.Load(); s != nil {
		return s
	}
	slots := *p.slots.Load()
	if len(slots) == 0 {
		return nil
	}
	return slots[uint64(raw.Hint())*uint64(len(slots))>>raw.HintBits]
}

// setSlots replaces the slots that calls may take. Whoever still has the ones before finds out from the slot itself.
func (p *Plugin) setSlots(slots []*slot) {
	p.slots.Store(&slots)
	if len(slots) == 1 {
		p.only.Store(slots[0])
	} else {
		p.only.Store(nil)
	}
}

// acquire makes the caller the owner of a slot that is ready for a call with ctx. No foreign code runs while a slot is taken:
// the context is asked before.
func (p *Plugin) acquire(ctx context.Context) (*slot, error) {
	s := p.choose()
	if s == nil || !s.knows(ctx) || !raw.IsBackground(ctx) && ctx.Err() != nil {
		return p.acquireUnready(ctx)
	}
	stress.Yield()
	if !s.claimIdle() {
		return p.acquireUnready(ctx)
	}
	stress.Yield()
	if s.others.Load() != 0 || s.plugin != p || !s.knows(ctx) || s.inst.poisoned.Load() {
		s.unclaim()
		return p.acquireUnready(ctx)
	}
	return s, nil
}

// unclaim gives back a slot that was just claimed. It is kept out of line: what it takes in line makes calls slower.
//
//go:noinline
func (s *slot) unclaim() {
	s.clean()
	s.plugin.release(s)
}

// acquireUnready is acquire where something is to be done for it. It is kept out of line, as unclaim is.
//
//go:noinline
func (p *Plugin) acquireUnready(ctx context.Context) (*slot, error) {
	var c callctx.Caller
	if err := c.Ask(ctx); err != nil {
		return nil, err
	}
	s, ended := p.choose(), c.Over
	if s != nil && !s.tryAcquire() {
		s = nil
	}
	for {
		if s == nil {
			var err error
			if s, err = p.acquireAny(&c); err != nil {
				return nil, err
			}
			ended = c.Ended() || cancelled(&c)
		}
		if s.plugin != p { // closed meanwhile, and the slot went to another plug-in
			s.plugin.release(s)
			return nil, engine.ErrClosed
		}
		if ended {
			p.release(s)
			return nil, c.GaveUp()
		}
		inst := s.inst
		if !inst.poisoned.Load() {
			s.adapt(&c)
			return s, nil
		}
		p.release(s)
		stress.Yield()
		var err error
		if s, err = inst.renew(&c); err != nil {
			return nil, err
		}
		ended = c.Ended() || cancelled(&c)
	}
}

// adapt gets a slot ready for a call of c. Only the owner calls it.
func (s *slot) adapt(c *callctx.Caller) {
	if !s.knows(c.Context) {
		s.setCaller(c)
	}
	if s.cancellable && !s.watched {
		s.plugin.watch.add(s)
	}
}

// acquireAny takes any idle slot, makes one where the plug-in is concurrent, or waits for one. It may be another engine's,
// when this one was closed meanwhile.
func (p *Plugin) acquireAny(c *callctx.Caller) (*slot, error) {
	slots := *p.slots.Load()
	// A call that comes here found its first choice taken. Where more slots make that rarer, there soon are more: two
	// goroutines that keep to one slot would pass its cache line back and forth.
	few := len(slots) < p.mostSlots && len(slots) < slotsPerCore*runtime.GOMAXPROCS(0)
	for i, first := 0, int(raw.Hint()); i < len(slots) && !few; i++ {
		if s := slots[(first+i)%len(slots)]; s.tryAcquire() {
			return s, nil
		}
	}
	enough := len(slots)
	if few {
		enough++ // unless somebody else has made more meanwhile
	}
	s, mine, err := p.claimOrQueue(c, p.inside(c), enough)
	switch {
	case err != nil:
		return nil, err
	case s != nil:
		s.clean()
		return s, nil
	}
	stress.Yield()
	return p.wait(c, mine)
}

// claimOrQueue claims an idle slot, of which there are to be enough before one that there is will do; makes one; or has the call
// wait for one, which is handed over in mine. The call comes from so many others of the plug-in's.
func (p *Plugin) claimOrQueue(c *callctx.Caller, inside, enough int) (s *slot, mine chan *slot, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, nil, engine.ErrClosed
	}
	slots := *p.slots.Load()
	if len(slots) >= enough {
		for _, s := range slots {
			if s.claimIdle() {
				return s, nil, nil
			}
		}
	}
	if s := p.makeSlots(inside); s != nil {
		return s, nil, nil
	}
	changes := p.changing(c)
	switch {
	case p.gate != nil && changes, inside >= len(slots):
		return nil, nil, engine.ErrReentrant
	case len(slots) < p.mostSlots && (p.gate == nil || inside > 0):
		return nil, nil, engine.ErrTooDeep
	}
	for _, s := range slots {
		s.attend()
		stress.Yield()
		if s.claimIdle() {
			return s, nil, nil
		}
	}
	mine = make(chan *slot, 1)
	p.waiting = append(p.waiting, waiter{mine, inside > 0, changes})
	return nil, mine, nil
}

// makeSlots makes more slots, where there may be more and the call, which comes from so many others of the plug-in's, is not
// the innermost of an endless recursion. It returns one that is the caller's, or nil: of an instance that is not poisoned,
// where one gets a slot. The caller holds p.mu.
func (p *Plugin) makeSlots(inside int) *slot {
	slots := *p.slots.Load()
	if p.gate != nil && inside == 0 {
		return nil
	}
	if p.gate != nil {
		if s := p.gate.lend(); s != nil {
			return s
		}
	}
	if len(slots) >= p.mostSlots || inside >= engine.MaxDepth && len(slots) >= engine.MaxDepth {
		return nil
	}
	room := min(2*len(slots), p.mostSlots)
	if p.gate != nil { // the others would be anybody's
		room = len(slots) + 1
	}
	more := append(make([]*slot, 0, room), slots...)
	own := len(slots)
	for i := own; i < cap(more); i++ {
		if !p.instanceOf(i).poisoned.Load() {
			own = i
			break
		}
	}
	for i := len(slots); i < cap(more); i++ {
		phase := idle
		if i == own {
			phase = busy
		}
		more = append(more, p.newSlot(p.instanceOf(i), phase))
	}
	p.setSlots(more)
	return more[own]
}

// instanceOf returns the instance of the engine's slot i. The slot itself says so to its owner only.
func (p *Plugin) instanceOf(i int) *instance { return p.instances[i%len(p.instances)] }

// inside returns how many of the engine's slots are in use by calls that the call comes from: by its context, and by the
// goroutine that it is on.
func (p *Plugin) inside(c *callctx.Caller) int {
	byContext, byGoroutine := 0, 0
	for outer := range c.Outer.Running() {
		if inst, ok := outer.Holds().(*instance); ok && inst.plugin == p {
			byContext++
		}
	}
	for i, s := range *p.slots.Load() {
		if p.instanceOf(i).thread == nil && s.outerOfGoroutine() { // or the goroutine serves the call
			byGoroutine++
		}
	}
	callctx.Served(func(outer *callctx.Call) bool {
		if inst, ok := outer.Holds().(*instance); ok && inst.plugin == p {
			byGoroutine++
		}
		return false
	})
	return max(byContext, byGoroutine)
}

// wait waits for a slot that is handed over in mine, which is in the queue.
func (p *Plugin) wait(c *callctx.Caller, mine chan *slot) (*slot, error) {
	s, ended, err := p.handed(c, mine)
	if ended {
		return nil, c.GaveUp() // it is asked for why when it does not wait any more
	}
	return s, err
}

// handed is wait, which says that the call's context has ended instead of why.
func (p *Plugin) handed(c *callctx.Caller, mine chan *slot) (s *slot, ended bool, err error) {
	waiter, err := callctx.Wait(c.Outer, p)
	if err != nil {
		p.giveUp(mine)
		return nil, false, err
	}
	defer waiter.Done()
	stopping := p.stopping(c)
	again := 50 * time.Microsecond
	timer := time.NewTimer(again)
	defer timer.Stop()
	for {
		select {
		case s := <-mine:
			switch {
			case s != nil:
				return s, false, nil
			case p.isRefused():
				return nil, false, engine.ErrClosed
			}
			return nil, false, engine.ErrReentrant // the gate was shut
		case <-c.Done:
			p.giveUp(mine)
			return nil, true, nil
		case <-stopping:
			p.giveUp(mine)
			return nil, c.Ended(), engine.ErrReentrant
		case <-timer.C: // see giveBack
			for _, s := range *p.slots.Load() {
				if s.tryAcquire() {
					if s.plugin == p && p.stopWaiting(mine) {
						return s, false, nil
					}
					s.plugin.release(s)
					break
				}
			}
			again = min(4*again, time.Second)
			timer.Reset(again)
		}
	}
}

// giveUp takes a waiting call out of the queue, or gives back what it was handed at the same moment.
func (p *Plugin) giveUp(mine chan *slot) {
	if !p.stopWaiting(mine) {
		if s := <-mine; s != nil {
			p.release(s)
		}
	}
}

// Owner is callctx.Wanted's.
func (p *Plugin) Owner() string { return cmp.Or(p.options.Owner, p.image.lib.Manifest.Name) }

// Holders is callctx.Wanted's: calls wait for any slot.
func (p *Plugin) Holders() [][]*callctx.Call {
	var calls []*callctx.Call
	for _, s := range *p.slots.Load() {
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
func (p *Plugin) stopWaiting(mine chan *slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.waiting, func(w waiter) bool { return w.slot == mine })
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return true
}

// release gives a slot back. s is p's.
func (p *Plugin) release(s *slot) {
	if s.marked() {
		_ = s.unmark(abi.StatusOK, nil)
	}
	s.disclaim()
	if !s.giveBack() {
		p.releaseSlow(s)
	}
}

// releaseSlow shuts the slot's visitors out, tidies up behind them, and hands it to the next call that waits.
func (p *Plugin) releaseSlow(s *slot) {
	s.tidy()
	stress.Yield()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closing:
		p.closeSlot(s)
	case p.next() >= 0:
		i := p.next()
		next := p.waiting[i].slot
		p.waiting = slices.Delete(p.waiting, i, i+1)
		if len(p.waiting) == 0 && p.gate == nil {
			s.others.And(^attend)
		}
		s.unlock()
		next <- s
	case p.gate != nil:
		p.gate.keep(s, len(*p.slots.Load()))
	default:
		s.others.And(^attend)
		s.phase.Store(idle)
	}
}

// waiter is a call that waits for a slot.
type waiter struct {
	slot    chan *slot // gets nil when it is not to wait any more
	within  bool       // it comes from another call of the plug-in's
	changes bool       // it comes from what a change of an instance waits for; see instance.changes
}

// next returns the place of the waiting call that gets the next slot, or -1: with the gate shut, of those that come from calls which
// the gate waits for. The caller holds p.mu.
func (p *Plugin) next() int {
	if p.gate == nil {
		return min(len(p.waiting), 1) - 1
	}
	return slices.IndexFunc(p.waiting, func(w waiter) bool { return w.within })
}

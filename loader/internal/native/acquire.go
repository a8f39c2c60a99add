package native

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// slotsPerCore is how many slots a concurrent plug-in has for each processor before calls look for an idle one among
// those there are.
const slotsPerCore = 16

// choose returns the slot that a call tries first, or nil when the engine has none any more.
func (p *Plugin) choose() *slot {
	slots := *p.slots.Load()
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
func (s *slot) unready(p *Plugin, ctx context.Context) bool {
	return s.plugin != p || !raw.Same(s.caller.Context, ctx) || s.unwatched || s.inst.poisoned.Load()
}

// acquire makes the caller the owner of a slot, ready for a call with ctx. It is s, if that can be had; owned says that it
// was. No foreign code runs while a slot is taken: the context is asked before, unless the slot knows it.
func (p *Plugin) acquire(ctx context.Context, s *slot, owned bool) (*slot, error) {
	c := callctx.Background
	switch {
	case raw.IsBackground(ctx):
		owned = owned || s != nil && s.tryAcquire()
	case owned && s.plugin == p && raw.Same(s.caller.Context, ctx):
		c = s.caller // Append has seen that it has not ended
	default:
		if owned {
			s.plugin.release(s)
		}
		if err := c.Ask(ctx); err != nil {
			return nil, err
		}
		owned = s != nil && s.tryAcquire()
	}
	for ended := c.Over; ; {
		if !owned {
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
		if !raw.Same(s.caller.Context, ctx) {
			s.setCaller(&c)
		}
		if s.unwatched {
			p.watch.add(s)
		}
		if !s.inst.poisoned.Load() {
			return s, nil
		}
		inst := s.inst
		p.release(s)
		stress.Yield()
		var err error
		if s, err = inst.renew(&c); err != nil {
			return nil, err
		}
		owned, ended = s != nil, c.Ended() || cancelled(&c)
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
	inside := p.inside(c)
	seen := len(slots)
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, engine.ErrClosed
	}
	slots = *p.slots.Load()
	for _, s := range slots {
		if few && len(slots) == seen {
			break // nobody else has made more meanwhile
		}
		if s.claimIdle() {
			p.mu.Unlock()
			s.clean()
			return s, nil
		}
	}
	if s := p.makeSlots(inside); s != nil {
		p.mu.Unlock()
		return s, nil
	}
	if p.gate != nil && p.changing(c) {
		p.mu.Unlock()
		return nil, engine.ErrReentrant
	}
	if inside >= len(slots) {
		p.mu.Unlock()
		return nil, engine.ErrReentrant
	}
	if len(slots) < p.mostSlots && (p.gate == nil || inside > 0) {
		p.mu.Unlock()
		return nil, engine.ErrTooDeep
	}
	mine := make(chan *slot, 1)
	for _, s := range slots {
		s.attend()
		stress.Yield()
		if s.claimIdle() {
			p.mu.Unlock()
			s.clean()
			return s, nil
		}
	}
	p.waiting = append(p.waiting, waiter{mine, inside > 0})
	p.mu.Unlock()
	stress.Yield()
	return p.wait(c, slots, mine)
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
	p.slots.Store(&more)
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
	for _, s := range *p.slots.Load() {
		if s.outerOfGoroutine() {
			byGoroutine++
		}
	}
	return max(byContext, byGoroutine)
}

// wait waits for a slot that is handed over in mine, which is in the queue.
func (p *Plugin) wait(c *callctx.Caller, slots []*slot, mine chan *slot) (*slot, error) {
	s, ended, err := p.handed(c, slots, mine)
	if ended {
		return nil, c.GaveUp() // it is asked for why when it does not wait any more
	}
	return s, err
}

// handed is wait, which says that the call's context has ended instead of why.
func (p *Plugin) handed(c *callctx.Caller, slots []*slot, mine chan *slot) (s *slot, ended bool, err error) {
	waiter, err := callctx.Wait(c.Outer, p)
	if err != nil {
		p.giveUp(mine)
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
			p.giveUp(mine)
			return nil, true, nil
		case <-timer.C: // see giveBack
			for _, s := range slots {
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
func (p *Plugin) Owner() string { return p.image.lib.Manifest.Name }

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
	slot   chan *slot
	within bool // it comes from another call of the plug-in's
}

// next returns the place of the waiting call that gets the next slot, or -1: with the gate shut, of those that come from calls which
// the gate waits for. The caller holds p.mu.
func (p *Plugin) next() int {
	if p.gate == nil {
		return min(len(p.waiting), 1) - 1
	}
	return slices.IndexFunc(p.waiting, func(w waiter) bool { return w.within })
}

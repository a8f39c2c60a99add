package pool

import (
	"container/heap"
	"container/list"
	"math"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// running is one call in progress: a place in an instance, that it owns.
type running struct {
	Call
	goroutine uintptr // that it was made on, or 0
	on        on
	at        int  // its place in calls
	renews    bool // it has to start the instance anew first; its own, and false when it is over
	changes   bool // it is no call, but changes an instance; see changing

	extra   bool // something was set that another call must not find
	watched bool
	done    <-chan struct{} // the caller's
	until   time.Time       // of its limit
	limit   *engine.Limit   // or nil

	single callctx.Single // of a Call that is used once
}

// on is a call on a goroutine that it runs on. A goroutine's calls lie one in the other.
type on struct {
	call  *running
	below *on
}

// waiter is a call that waits for a place. It gets one that it owns, or nil when the plug-in is closed.
type waiter struct {
	caller    *callctx.Caller
	goroutine uintptr
	place     chan *running
	queued    *list.Element // in waiting, or nil
	within    bool          // it comes from calls of the plug-in's
	again     chan struct{} // what it waits for may have become itself; nil where it comes from no call
}

// byRoom is a heap: the instance that a call is to enter comes first.
type byRoom []*instance

func (b byRoom) Len() int           { return len(b) }
func (b byRoom) Less(i, j int) bool { return b[i].rank < b[j].rank }
func (b byRoom) Swap(i, j int)      { b[i], b[j] = b[j], b[i]; b[i].index, b[j].index = i, j }
func (b byRoom) Push(any)           {} // instances neither come nor go
func (b byRoom) Pop() any           { return nil }

// full is the rank of an instance that no call may enter.
const full = math.MaxInt

// ranks says that the instance has changed: one that is to be started anew comes first, then those with the fewest calls. mu is held.
func (p *Pool) ranks(inst *instance) {
	switch {
	case inst.poisoned && inst.calls == 0:
		inst.rank = -1
	case inst.poisoned || inst.renewing || !p.shared && inst.calls > 0:
		inst.rank = full
	case inst.spare:
		inst.rank = full - 1
	default:
		inst.rank = inst.calls
	}
	heap.Fix(&p.byRoom, inst.index)
}

// free returns an instance that a call may enter, or nil. mu is held.
func (p *Pool) free() *instance {
	if p.most > 0 && len(p.calls) >= p.most || p.byRoom[0].rank == full {
		return nil
	}
	return p.byRoom[0]
}

// enter gives a call a place, where there is one. In an instance that is to be renewed it has to do that first. mu is held.
func (p *Pool) enter(c *callctx.Caller, goroutine uintptr) *running {
	inst := p.free()
	if inst == nil {
		return nil
	}
	r := p.prepare(inst, c, goroutine, p.alone)
	r.renews = inst.poisoned || inst.spare
	if r.renews {
		inst.poisoned, inst.renewing = false, true
		inst.lose() // before what it was ends, late, and is taken for what is to be
	}
	p.register(r)
	return r
}

// push says that the call runs on the goroutine, and pop that it does not any more. mu is held.
func (p *Pool) push(o *on, r *running, goroutine uintptr) {
	if goroutine != 0 {
		*o = on{r, p.top[goroutine]}
		p.top[goroutine] = o
	}
}

func (p *Pool) pop(o *on, goroutine uintptr) {
	if goroutine == 0 {
		return
	}
	if top := p.top[goroutine]; top != o { // see settle
		for top.below != o {
			top = top.below
		}
		top.below = o.below
		return
	}
	if o.below == nil {
		delete(p.top, goroutine)
	} else {
		p.top[goroutine] = o.below
	}
}

// register says that the call is in progress in its instance. mu is held.
func (p *Pool) register(r *running) {
	p.push(&r.on, r, r.goroutine)
	r.inst.calls++
	p.ranks(r.inst)
	r.at = len(p.calls)
	p.calls = append(p.calls, r)
}

// runsHere says that the call runs on this goroutine, too, until what it returns is called.
func (p *Pool) runsHere(r *running) (ends func()) {
	o, me := new(on), goroutine.ID()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.push(o, r, me)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pop(o, me)
	}
}

// inside returns the plug-in's calls that a call comes from: by its context, and by its goroutine. mu is held.
func (p *Pool) inside(c *callctx.Caller, goroutine uintptr) map[*running]bool {
	p.settle()
	var all map[*running]bool
	add := func(r *running) {
		if all == nil {
			all = make(map[*running]bool)
		}
		all[r] = true
	}
	c.ComesFrom(func(outer *callctx.Call) bool {
		if r, ok := outer.Holds().(*running); ok && r.pool == p {
			add(r)
		}
		return false
	})
	if goroutine != 0 {
		for o := p.top[goroutine]; o != nil; o = o.below {
			add(o.call)
		}
	}
	return all
}

// comesFromChange reports whether one of these is no call. mu is held.
func (p *Pool) comesFromChange(inside map[*running]bool) bool {
	for r := range inside {
		if r.changes {
			return true
		}
	}
	return false
}

// hopeless reports whether a call that comes from these would wait for nobody but them. mu is held.
func (p *Pool) hopeless(inside map[*running]bool) bool {
	if len(inside) == 0 || p.free() != nil {
		return false
	}
	if p.most > 0 && len(p.calls) >= p.most && len(inside) >= len(p.calls) {
		return true
	}
	in := make(map[*instance]int)
	for r := range inside {
		in[r.inst]++
	}
	for _, inst := range p.instances {
		switch broken := inst.poisoned || inst.renewing; {
		case broken && in[inst] == 0, !broken && inst.calls > in[inst]:
			return false // others leave it
		}
	}
	return true
}

// Owner is callctx.Wanted's.
func (p *Pool) Owner() string { return p.name }

// Holders is callctx.Wanted's: any call that ends makes room, but those in an instance that panicked, which all have to.
func (p *Pool) Holders() [][]*callctx.Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle()
	var sets [][]*callctx.Call
	if p.free() != nil {
		sets = append(sets, []*callctx.Call{nil})
	}
	broken := make(map[*instance][]*callctx.Call)
	for _, r := range p.calls {
		if r.inst.poisoned {
			broken[r.inst] = append(broken[r.inst], r.ctx)
		} else {
			sets = append(sets, []*callctx.Call{r.ctx})
		}
	}
	for _, set := range broken {
		sets = append(sets, set)
	}
	return sets
}

// place finds the call a place, in an instance that may have to be renewed first, and waits for one where there is none.
func (p *Pool) place(c *callctx.Caller) (*running, error) {
	ended, me := c.Ended(), goroutine.ID()
	p.mu.Lock()
	p.settle()
	if p.closing || p.lost() {
		p.mu.Unlock()
		return nil, p.gone()
	}
	inside := p.inside(c, me)
	switch {
	case p.comesFromChange(inside):
		p.mu.Unlock()
		return nil, engine.ErrReentrant
	case len(inside) >= engine.MaxDepth:
		p.mu.Unlock()
		return nil, engine.ErrTooDeep
	case p.hopeless(inside), p.stuck(c): // also where it could have waited for longer
		p.mu.Unlock()
		return nil, engine.ErrReentrant
	case ended:
		p.mu.Unlock()
		return nil, c.GaveUp()
	}
	if p.waiting.Len() == 0 && p.gate == nil || len(inside) > 0 { // those who wait may wait for the one that it is in
		if r := p.enter(c, me); r != nil {
			p.mu.Unlock()
			return r, nil
		}
	}
	caller := *c // which need not be allocated where nobody waits
	w := &waiter{caller: &caller, goroutine: me, place: make(chan *running, 1), within: len(inside) > 0}
	w.queued = p.waiting.PushBack(w)
	if len(inside) > 0 || c.Outer != nil || p.outOf(c) != nil {
		w.again = make(chan struct{}, 1)
		p.nested[w] = struct{}{}
	}
	p.mu.Unlock()
	r, err := p.wait(w)
	if err == nil && c.Ended() {
		if r != nil {
			p.leave(r, r.renews)
		}
		return nil, c.GaveUp()
	}
	return r, err
}

// wait waits until w has its place. Where the call's context ends before, it returns nil.
func (p *Pool) wait(w *waiter) (*running, error) {
	wait, err := callctx.Wait(w.caller.Outer, p)
	if err != nil {
		return p.giveUp(w, err)
	}
	defer wait.Done()
	stopping := p.stopping(w.caller)
	for {
		select {
		case r := <-w.place:
			if r == nil {
				return nil, p.gone()
			}
			return r, nil
		case <-w.caller.Done:
			return p.giveUp(w, nil)
		case <-stopping:
			if w.caller.Ended() {
				return p.giveUp(w, nil)
			}
			return p.giveUp(w, engine.ErrReentrant)
		case <-w.again:
			err := wait.Again()
			p.mu.Lock()
			if p.hopeless(p.inside(w.caller, w.goroutine)) || p.stuck(w.caller) {
				err = engine.ErrReentrant
			}
			p.mu.Unlock()
			if err != nil {
				return p.giveUp(w, err)
			}
		}
	}
}

// giveUp ends waiting because of err. It returns the place that the waiter was given at the same moment, where it was.
func (p *Pool) giveUp(w *waiter, err error) (*running, error) {
	p.mu.Lock()
	queued := w.queued != nil
	if queued {
		p.unqueue(w)
	}
	p.mu.Unlock()
	if queued {
		return nil, err
	}
	if r := <-w.place; r != nil { // it was answered before
		return r, nil
	}
	return nil, p.gone()
}

// unqueue takes the waiter out of the queue. mu is held.
func (p *Pool) unqueue(w *waiter) {
	p.waiting.Remove(w.queued)
	w.queued = nil
	delete(p.nested, w)
}

// dispatch gives places to those who wait. mu is held.
func (p *Pool) dispatch() {
	if p.lost() {
		p.turnAway()
	}
	for at := p.waiting.Front(); at != nil; {
		w := at.Value.(*waiter)
		at = at.Next()
		if p.gate != nil && !w.within {
			continue
		}
		r := p.enter(w.caller, w.goroutine)
		if r == nil {
			return
		}
		p.unqueue(w)
		w.place <- r
	}
}

// lookAgain has those look again who wait within calls: an instance has panicked, or calls of such a one have ended. mu is held.
func (p *Pool) lookAgain() {
	for w := range p.nested {
		select {
		case w.again <- struct{}{}:
		default:
		}
	}
}

// leave ends a call, once what it uses of the host's has returned. poisoned says that its instance panicked, or was not renewed. r is another
// call's from then on: nobody looks at it any more.
func (p *Pool) leave(r *running, poisoned bool) {
	r.end()
	p.left(r, poisoned)
}

// left takes in that a call has ended.
func (p *Pool) left(r *running, poisoned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pop(&r.on, r.goroutine)
	last := p.calls[len(p.calls)-1]
	p.calls[r.at], last.at = last, r.at
	p.calls = p.calls[:len(p.calls)-1]
	inst := r.inst
	inst.calls--
	if r.renews {
		r.renews = false                                  // whoever has r next may not pass by what sets it
		inst.renewing, inst.poisoned = false, !inst.spare // it is as it was
	} else {
		inst.poisoned = inst.poisoned || poisoned
	}
	broken := inst.poisoned && inst.calls > 0
	p.ranks(inst)
	p.dispatch()
	if broken {
		p.lookAgain()
	}
	p.calm()
	p.unsettle()
}

// poison says that the instance has panicked: nobody enters it before it was renewed.
func (p *Pool) poison(inst *instance) {
	var at atomic.Pointer[instance]
	at.Store(inst)
	p.poisonAt(&at)
}

// poisonAt is poison of the instance that is there now: Configure puts one in the place of another, and nil is one that was stopped.
func (p *Pool) poisonAt(at *atomic.Pointer[instance]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	inst := at.Load()
	if inst == nil {
		return
	}
	p.settle()
	inst.poisoned = true
	p.ranks(inst)
	p.lookAgain()
}

// acquire finds the call a place in an instance that is in order, and waits for one where there is none.
func (p *Pool) acquire(c *callctx.Caller) (*running, error) {
	r, err := p.place(c)
	if err != nil || !r.renews {
		return r, err
	}
	renewed := false
	defer func() {
		if !renewed { // it failed, or ended this goroutine
			p.leave(r, true)
		}
	}()
	p.mu.Lock()
	itself := p.outOf(c) == r.inst
	p.mu.Unlock()
	if itself { // Stop would wait for it
		return nil, engine.ErrReentrant
	}
	p.drop(r.inst, r)
	if err := p.make(r.inst, r, p.settings.Get(), c.Done); err != nil {
		return nil, abandoned(err, c)
	}
	p.mu.Lock()
	r.renews, r.inst.renewing, r.inst.spare = false, false, false
	p.ranks(r.inst)
	p.dispatch() // others may enter a concurrent one
	p.mu.Unlock()
	renewed = true
	if c.Ended() {
		p.leave(r, false)
		return nil, c.GaveUp()
	}
	return r, nil
}

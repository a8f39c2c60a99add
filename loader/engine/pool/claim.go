package pool

import (
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// claim is how a call takes an instance that no other call is in without the plug-in's lock: the lock is what all calls of all
// processors would wait for. Where an instance takes several calls, the second one finds it claimed, and takes the lock.
//
// An instance that is free, and in order, is free to whoever sets its word to claiming. Whoever has to know of all calls, under the lock, settles
// the plug-in first: then all words are kept, and the lock alone says who is where, until nobody waits any more, nothing is shut, and
// nothing closed.
type claim struct {
	word  atomic.Uint32
	own   *running       // of the call that has claimed it last, used again where the Call is nobody's to keep; nil before the first
	calls *callctx.Calls // those of the caller whose context has these words
	words [2]uintptr
}

// The states of a claim's word.
const (
	kept     uint32 = iota // the lock guards it
	free                   // to be claimed
	claiming               // somebody has it, and is not ready to be seen
	claimed                // by a call that the lock does not know of
)

// callsAtOnce is how many identities of calls are made at a time for a context that has called before.
const callsAtOnce = 64

// tryClaim finds the call a place without the lock; nil where that cannot be had.
func (p *Pool) tryClaim(c *callctx.Caller) *running {
	n, hint, first := len(p.instances), uint32(0), 0
	if n > 1 { // two goroutines that keep to one instance would pass its cache line back and forth
		hint = raw.Hint() % uint32(len(p.prefer))
		first = int(p.prefer[hint].Load())
	}
	for i := range n {
		at := first + i
		if at >= n {
			at -= n
		}
		inst := p.instances[at]
		if inst.word.Load() != free || !inst.word.CompareAndSwap(free, claiming) {
			continue
		}
		if i > 0 {
			p.prefer[hint].Store(uint32(at))
		}
		r := p.prepare(inst, c, goroutine.ID(), p.alone || p.code.Lent)
		inst.own = r
		raw.StoreUint32(&inst.word, claimed)
		return r
	}
	return nil
}

// unclaim ends a call of an instance that is in order.
func (p *Pool) unclaim(r *running) {
	r.end()
	if !r.inst.word.CompareAndSwap(claimed, free) { // the lock knows of it by now
		p.left(r, false)
	}
}

// prepare makes a call in an instance, which is the caller's, of the one that it had before where that is to be used again. The lock may be held.
func (p *Pool) prepare(inst *instance, c *callctx.Caller, goroutine uintptr, again bool) *running {
	if !again {
		r := &running{goroutine: goroutine, done: c.Done}
		r.ctx, r.pool, r.inst, r.run = r.single.Take(c, p.name, r), p, inst, r
		return r
	}
	r := inst.own
	if r == nil {
		r = new(running)
		r.pool, r.inst, r.run, r.again = p, inst, r, true
		inst.own = r
	}
	if r.extra { // what few calls have
		r.extra, r.watched, r.limit = false, false, nil
		r.streams.Store(nil)
	}
	r.goroutine, r.done = goroutine, c.Done
	words := [2]uintptr{}
	words[0], words[1] = raw.Words(c.Context)
	known := inst.words == words // a context that calls again and again comes from nowhere; calls keep it, so that its words are its own
	if known && c.Outer == nil {
		if r.ctx = inst.claim.calls.Take(); r.ctx != nil {
			return r
		}
	}
	n := 1
	if known && c.Outer == nil {
		n = callsAtOnce
	}
	inst.claim.calls, inst.words = callctx.NewCalls(*c, p.name, r, n), words
	r.ctx = inst.claim.calls.Take()
	return r
}

// settle has the lock know of all calls, and of all that come. mu is held.
func (p *Pool) settle() {
	if !p.claims {
		return
	}
	for _, inst := range p.instances {
		for done := false; !done; {
			switch was := inst.word.Load(); was {
			case kept:
				done = true
			case free:
				done = inst.word.CompareAndSwap(free, kept)
			case claimed:
				if done = inst.word.CompareAndSwap(claimed, kept); done {
					p.register(inst.own)
				}
			case claiming: // for as long as some loads and stores take
				runtime.Gosched()
			}
		}
	}
}

// unsettle lets calls claim instances again, where nobody needs to know of them. mu is held.
func (p *Pool) unsettle() {
	if !p.claims || p.waiting.Len() > 0 || p.gate != nil || p.closing || p.most > 0 {
		return
	}
	if !p.alone && slices.ContainsFunc(p.instances, func(inst *instance) bool { return inst.poisoned }) {
		return // the next call starts it anew, whichever others are free
	}
	for _, inst := range p.instances {
		if inst.calls == 0 && !inst.poisoned && !inst.renewing && !inst.spare && inst.word.Load() == kept {
			inst.word.Store(free)
		}
	}
}

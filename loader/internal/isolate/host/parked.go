package host

import (
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// Most calls find a lane that a call of the same plug-in has just given back, and nobody else wants it. Such a lane is parked:
// it is the next call's without the group's mu, for which callers on many processors would wait.
//
// A parked lane is nobody's, and is counted still: in Plugin.calls, seat.inUse and worker.refs, as the lane of a call is. All that
// follows goes by these rules:
//
//   - Plugin.parks is the seat whose lanes are parked. It is nil while there is anything that a call would have to look at with mu held: no
//     seat, a worker that is dying, a gate, closing, somebody who waits for a lane. Whoever makes one of these true, with mu held, calls
//     stopParking, and goes by the books only then. give allows it again.
//   - Whoever takes a parked lane, or has parked one, looks at parks afterwards. If parking has ended meanwhile, the lane goes the way
//     with mu held. So either stopParking finds the lane parked, or the one who has it finds that parking has ended.
//   - What other goroutines read of a lane with mu held changes without it in two places only, take and park: on, which is atomic, and caller,
//     which callerMu guards. Of a parked lane all else is as renew leaves it.

// parked are the lanes of a seat that are parked: a stack, because the worker is most likely to wait awake for the lane that was
// used last.
type parked struct {
	_    [64]byte // no other word that calls read is in this cache line
	head atomic.Uint64
	_    [56]byte
}

// The head has a lane's index and 1, or 0 where there is none, below a count of all changes: who takes the first lane is to know that the next one
// is next still.
const parkedIndex = 1<<16 - 1

// push is for one who owns the lane.
func (s *seat) push(l *hostLane) {
	for {
		head := s.parked.head.Load()
		l.next.Store(uint32(head & parkedIndex))
		if s.parked.head.CompareAndSwap(head, (head|parkedIndex)+1|uint64(l.Index()+1)) {
			return
		}
	}
}

// pop takes the lane that was used last, or returns nil.
func (s *seat) pop() *hostLane {
	for {
		head := s.parked.head.Load()
		if head&parkedIndex == 0 {
			return nil
		}
		l := s.worker.numbered[head&parkedIndex-1]
		if s.parked.head.CompareAndSwap(head, (head|parkedIndex)+1|uint64(l.next.Load())) {
			return l
		}
	}
}

// takeParked makes a call the owner of a parked lane, or returns nil: then the call is to ask with mu held. It is for calls that
// come from no other one of the plug-in's.
func (p *Plugin) takeParked(c *callctx.Caller) *hostLane {
	s := p.parks.Load()
	if s == nil || c.Outer != nil || p.hosting.Load() > 0 || c.Ended() {
		return nil
	}
	p.mu.pass()
	l := s.pop()
	if l == nil {
		return nil
	}
	p.mu.pass()
	l.nested = false
	if *c != callctx.Background {
		l.callerMu.Lock()
		l.caller = *c
		l.callerMu.Unlock()
	}
	l.on.Store(max(goroutine.ID(), somewhere))
	p.mu.pass()
	if p.parks.Load() != s {
		p.mu.Lock()
		p.giveBack(l)
		p.mu.Unlock()
		return nil
	}
	if c.Done != nil && !p.watching.Load() { // the watcher looks once more before it ends
		p.mu.Lock()
		p.watches()
		p.mu.Unlock()
	}
	return l
}

// park gives a lane back for the plug-in's next call, and reports whether it has: else it is to be given back with mu held.
func (p *Plugin) park(l *hostLane) bool {
	s := l.seat
	if p.parks.Load() != s || l.session != nil || l.viewed || l.batch || l.limit != nil || l.Extended() > 0 {
		return false
	}
	if l.caller != callctx.Background {
		l.callerMu.Lock()
		asked := !l.asked.IsZero()
		if !asked {
			l.caller = callctx.Background
		}
		l.callerMu.Unlock()
		if asked {
			return false
		}
	}
	l.on.Store(nowhere)
	p.mu.pass()
	s.push(l)
	p.mu.pass()
	if p.parks.Load() != s {
		p.mu.Lock()
		s.unpark()
		p.mu.Unlock()
	}
	return true
}

// mayPark allows parking where nothing is in its way. The caller holds p.mu, as for the functions that follow.
func (p *Plugin) mayPark() {
	s := p.seat
	if s != nil && p.parks.Load() != s && !p.closing && p.gate == nil && p.queued == 0 && len(s.worker.controls) == 0 && !s.worker.dead.Load() {
		p.parks.Store(s)
	}
}

// unpark gives all lanes of the seat back that are parked, and reports whether there was one.
func (s *seat) unpark() bool {
	head := s.parked.head.Load()
	for !s.parked.head.CompareAndSwap(head, (head|parkedIndex)+1) {
		head = s.parked.head.Load()
	}
	next := head & parkedIndex
	for next != 0 {
		l := s.worker.numbered[next-1]
		next = uint64(l.next.Load())
		s.plugin.giveBack(l)
	}
	return head&parkedIndex != 0
}

// stopParking is for what calls are to look at from now on, with mu held.
func (s *seat) stopParking() (some bool) {
	s.plugin.parks.CompareAndSwap(s, nil)
	return s.unpark()
}

// unpark is seat.unpark for all plug-ins of the worker.
func (w *worker) unpark() (some bool) {
	for _, s := range w.seats {
		some = s.unpark() || some
	}
	return some
}

// stopParking is seat.stopParking for all plug-ins of the worker.
func (w *worker) stopParking() (some bool) {
	for _, s := range w.seats {
		some = s.stopParking() || some
	}
	return some
}

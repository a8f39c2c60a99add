package native

import (
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// A call with a limit of its own reads no clock: that alone would cost more than the call does. It writes down which one it is, the
// watcher writes down when it has first seen it run, and asks it to stop when that was so long ago. So it is asked two looks
// after its limit at the latest, and never before.

// terms are the calls of a slot that have a limit, one after the other. They are apart from the slot, which is small for calls that have none.
type terms struct {
	limit   *engine.Limit  // written before number
	count   uintptr        // how many there were; only for the slot's owner
	number  atomic.Uintptr // of the one that runs; 0 while none does
	seen    atomic.Uintptr // the last one that the watcher has seen run, since when it did, and the last one that it asked to stop
	since   atomic.Int64
	overdue atomic.Uintptr
	_       [128 - 6*8]byte // neighbours share no cache line
}

// timed reports whether the slot's call has a limit. Only visitors call it.
func (s *slot) timed() bool {
	t := s.terms.Load()
	return t != nil && t.number.Load() != 0
}

// begin gives the call that the slot's owner is about to make a limit, which begins now. It is kept out of line: what it takes in line makes calls
// without a limit slower.
//
//go:noinline
func (s *slot) begin(l *engine.Limit) {
	t := s.terms.Load()
	if t == nil || !s.watched {
		t = s.beginWatched()
	}
	s.goes |= withLimit
	t.limit = l
	t.count += 2
	stress.Yield()
	raw.StoreUintptr(&t.number, t.count|1) // never 0
}

// beginWatched has the watcher look at the slot.
func (s *slot) beginWatched() *terms {
	if s.terms.Load() == nil {
		s.terms.Store(new(terms))
	}
	if !s.watched {
		s.plugin.watch.add(s)
	}
	return s.terms.Load()
}

// expire ends that, before the slot is given back. Until then the watcher, a visitor, sees this call; from then on the next one or none.
func (s *slot) expire() {
	s.goes &^= withLimit
	raw.StoreUintptr(&s.terms.Load().number, 0)
}

// struck reports whether the call with a limit was asked to stop because of that, by the word or by the context of its host functions, and
// not because its context has ended. Only the owner calls it, before expire.
func (s *slot) struck() bool {
	if s.caller.Ended() {
		return false
	}
	if t := s.terms.Load(); t.overdue.Load() == t.number.Load() {
		return true
	}
	c := s.current.Load()
	return c != nil && c.Expired()
}

// epoch is what term.since counts from.
var epoch = time.Now()

// Until is callctx.Bound's, for the context that the call's host functions get.
func (s *slot) Until(c *callctx.Call) (at time.Time, limit *engine.Limit, ok bool) {
	if !s.enter() {
		return at, nil, false
	}
	defer s.exit()
	t := s.terms.Load()
	number := t.number.Load()
	if number == 0 || s.current.Load() != c {
		return at, nil, false // it was another call
	}
	since := time.Now()
	if t.seen.Load() == number {
		since = epoch.Add(time.Duration(t.since.Load()))
	}
	return since.Add(t.limit.After), t.limit, true
}

// lookAtLimit is the watcher's, who is a visitor. It reads the clock after it has seen the call: the time at which the watcher began
// its round is before some calls do, by as much as the round was held up, and those would be asked to stop too early.
func (s *slot) lookAtLimit(w *watched) {
	t := s.terms.Load()
	if t == nil {
		return
	}
	number := t.number.Load()
	if number == 0 {
		return
	}
	now := time.Now()
	switch number {
	case t.overdue.Load():
		if !w.told && now.Sub(w.asked) >= engine.OverdueAfter {
			w.told = true
			s.plugin.host.Overdue(t.limit)
		}
	case t.seen.Load():
		if now.Sub(epoch)-time.Duration(t.since.Load()) >= t.limit.After {
			t.overdue.Store(number)
			s.ask()
			w.asked, w.told = now, false
		}
	default: // it was not seen before
		t.since.Store(int64(now.Sub(epoch)))
		t.seen.Store(number)
	}
}

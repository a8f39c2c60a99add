package lane

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// maxSpin is the longest that a side spins for the other one's turn, but for probes. It is the bound of what a call can cost
// in processor time on each side beyond its work.
const maxSpin = 50 * time.Microsecond

// Two sides that both sleep stay asleep: each one's spin is over before the other has been woken, which takes the longer
// the slower a system's way to do that is. So a side that slept through so many waits although the other's work was short
// spins once for as long as waking up may take; the other one then finds it awake, and answers in time for the next spin.
// As long as that does not help it does so ever more rarely: in the end it costs 1/64 of probeSpin a wait.
const (
	firstProbe = 4
	lastProbe  = 64
	probeSpin  = time.Millisecond
)

// processors are those of the machine that this process may use.
var processors = runtime.NumCPU()

// spinners is how many of this process's goroutines spin: never more than there are processors. After a moment each of
// them offers its own to whoever wants it.
var spinners atomic.Int32

// spinner decides how long to spin before sleeping, from how long the waits before took.
type spinner struct {
	usual time.Duration
	slept int // waits slept through since the last probe, or since the other side's work was too long to spin for
	probe int // how many of them before the next probe

	// How long each side has the turn goes to the other one when that sleeps: it cannot tell the work from the waking up.
	noticed      time.Duration // when the turn came, by now; 0 when that is not known
	ours, theirs *atomic.Uint32

	// Two sides on one processor wait for each other's turn on it, which takes ten times as long as anything else here. So
	// the host says where it is, and the worker leaves from there.
	cpu    *atomic.Uint32 // control.hostCPU, or nil
	worker bool           // whether this is the worker's side
	left   time.Duration  // when it left, by now
}

// apart sees to it that the two sides are not on the same processor.
func (s *spinner) apart() {
	const again = 200 * time.Microsecond // after that, at the earliest
	switch {
	case s.cpu == nil:
	case !s.worker:
		s.cpu.Store(processor() + 1)
	case s.cpu.Load() != 0 && now()-s.left > again && s.cpu.Load() == processor()+1:
		s.left = now()
		s.cpu.Store(0)
		leave()
	}
}

// budget returns how long to spin: twice the usual wait, or not at all where that is too long to spin for.
func (s *spinner) budget() time.Duration {
	if s.slept >= max(s.probe, firstProbe) {
		return probeSpin
	}
	if s.usual > maxSpin {
		return 0
	}
	return min(maxSpin, 2*s.usual+2*time.Microsecond)
}

// note takes in how long a wait took. One long wait is forgotten after some short ones.
func (s *spinner) note(took time.Duration) { s.usual = (s.usual + min(took, 4*maxSpin)) / 2 }

// slowBells says that waking up takes so long here that it hides how long the other side worked. Where it is quick, as a
// futex is, nothing has to be found out by probes.
const slowBells = bellPipes > 0

// woken takes in a wait that was slept through, and how long the other side says that it worked meanwhile. A side that
// lies has this one spin in vain, within the bounds.
func (s *spinner) woken(took time.Duration) {
	if !slowBells { // some of it is the waking up, and two sides that took that for work would keep each other asleep
		if took < 2*maxSpin {
			took = min(took, maxSpin)
		}
		s.note(took)
		return
	}
	if s.theirs != nil {
		took = min(took, time.Duration(s.theirs.Load()))
	}
	s.note(took)
	if took <= maxSpin {
		s.slept++
	} else {
		s.slept = 0
	}
}

// tell says to the other side, which sleeps, how long this one had the turn.
func (s *spinner) tell() {
	if slowBells && s.ours != nil && s.noticed != 0 {
		s.ours.Store(uint32(min(max(now()-s.noticed, 0), math.MaxUint32)))
	}
}

// await waits until word is not value any more, at most for about limit, and with a limit also no longer than until it is
// woken: the caller has more to look at than the word. sleeps says so to the other side while it sleeps.
func (s *spinner) await(word *atomic.Uint32, value uint32, sleeps *atomic.Uint32, b *bell, limit time.Duration) {
	if word.Load() != value {
		s.noticed = 0
		s.note(0)
		return
	}
	var took time.Duration
	if budget := s.budget(); budget > 0 {
		spun := false
		if spinners.Add(1) <= int32(processors) {
			spun, took = s.spin(word, value, budget)
		}
		spinners.Add(-1)
		if budget == probeSpin {
			s.slept, s.probe = 0, min(2*max(s.probe, firstProbe), lastProbe)
		} else if spun {
			s.probe = firstProbe
		}
		if spun {
			if slowBells {
				s.noticed = now()
			}
			s.note(took)
			return
		}
	}
	start := now() - took
	for word.Load() == value && limit > 0 {
		publish(sleeps, 1)
		if word.Load() == value {
			b.wait(word, value, limit)
		}
		sleeps.Store(0)
		if limit != Forever {
			break
		}
	}
	s.noticed = now()
	if word.Load() == value { // the limit is over, or it was an alarm
		s.note(s.noticed - start)
	} else {
		s.woken(s.noticed - start)
	}
}

const (
	// alone is how long a side spins before it lets others have its processor now and then: the other side may wait for
	// that very one.
	alone = 3 * time.Microsecond

	// A side looks so many times before it first looks at the clock, which takes a good part of the time that an answer does.
	// That is some brief.
	unclocked = 32
	brief     = time.Microsecond
)

// spin spins until word is not value any more, and reports false when budget is spent before; and how long that took, about.
func (s *spinner) spin(word *atomic.Uint32, value uint32, budget time.Duration) (spun bool, took time.Duration) {
	for range unclocked {
		pause()
		if word.Load() != value {
			return true, brief
		}
	}
	start := now() - brief
	for long := false; ; {
		spent := now() - start
		if spent > budget {
			return false, spent
		}
		if spent > alone || processors == 1 {
			if !long && processors > 1 {
				s.apart()
			}
			long = true
			yield()
		}
		for range 16 {
			pause()
			if word.Load() != value {
				return true, spent
			}
		}
	}
}

// Forever is a limit that does not end.
const Forever = time.Duration(1<<63 - 1)

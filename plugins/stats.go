package plugins

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
)

// Stat is what was counted of one hook or function of a plug-in since Start, all versions together.
type Stat struct {
	Plugin   string // the plug-in's name
	Point    string // of a hook; "" of a function
	Function string // of a function; "" of a hook

	Calls    uint64        // that were made
	Passed   uint64        // that had nothing to say
	Failed   uint64        // that returned another status, with what follows
	Crashed  uint64        // of these: the worker has crashed. A call that met a suspended plug-in had none
	Late     uint64        // of these: the limit, or the caller's context, had ended
	Sampled  uint64        // how many calls were timed: about one of 64
	Time     time.Duration // of the sampled ones, together
	Longest  time.Duration // of the sampled ones
	LeftOut  time.Duration // for how long the hook is left out from now; 0 is not
	Err      error         // of a hook that is left out, its last failure; nil of others
	Versions int           // how many versions there were
}

// Mean returns the mean time of the calls that were timed; 0 where none was.
func (s Stat) Mean() time.Duration {
	if s.Sampled == 0 {
		return 0
	}
	return s.Time / time.Duration(s.Sampled)
}

// Stats returns what was counted, by plug-in, point and function; nil without Counting, and never nil with it. It costs the calls nothing: the numbers are read
// where they are.
func (s *System) Stats() []Stat {
	if !s.counting {
		return nil
	}
	now := time.Now()
	all := []Stat{}
	for _, e := range s.all() {
		e.mu.Lock()
		for _, a := range e.attached {
			st := a.count.read()
			st.Plugin, st.Versions = e.name, 1+e.replaced
			if a.point.kind == "" {
				st.Function = a.name
			} else {
				st.Point = a.name
				st.LeftOut, st.Err = a.breaker.left(now)
				st.Err = e.told(st.Err)
			}
			all = append(all, st)
		}
		e.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Stat) int {
		return cmp.Or(cmp.Compare(a.Plugin, b.Plugin), cmp.Compare(a.Point, b.Point), cmp.Compare(a.Function, b.Function))
	})
	return all
}

// counter counts the calls of one hook or function. Its numbers are written by whoever calls.
type counter struct {
	calls, passed, failed, crashed, late atomic.Uint64
	sampled, nanoseconds, longest        atomic.Uint64
}

// counter returns a new one where calls are counted.
func (s *System) counter() *counter {
	if !s.counting {
		return nil
	}
	return new(counter)
}

// every is how many calls there are for one that is timed: reading the clock twice costs more than a call in this process. The first is.
const every = 64

// begin counts a call; the time is zero where it is not timed.
func (c *counter) begin() (begun time.Time) {
	if c.calls.Add(1)%every == 1 {
		return time.Now()
	}
	return begun
}

// end is what came of the call.
func (c *counter) end(begun time.Time, status loader.Status, err error) {
	if !begun.IsZero() {
		c.timed(uint64(time.Since(begun)))
	}
	if err != nil || status != 0 {
		c.odd(status, err)
	}
}

func (c *counter) timed(ns uint64) {
	c.sampled.Add(1)
	c.nanoseconds.Add(ns) // before longest, which is a part of it
	for {
		longest := c.longest.Load()
		if ns <= longest || c.longest.CompareAndSwap(longest, ns) {
			return
		}
	}
}

func (c *counter) odd(status loader.Status, err error) {
	if err == nil && status == loader.ErrPass {
		c.passed.Add(1)
		return
	}
	if errors.Is(err, loader.ErrClosed) {
		c.calls.Add(^uint64(0)) // it was not run: the version was closed meanwhile, and another one has taken over
		return
	}
	c.failed.Add(1)
	var deadline *loader.DeadlineError
	switch {
	case errors.Is(err, loader.ErrSuspended): // it was not called
	case errors.Is(err, loader.ErrCrash):
		c.crashed.Add(1)
	case status == loader.ErrCancelled || errors.Is(err, loader.ErrCancelled) || errors.As(err, &deadline):
		c.late.Add(1)
	}
}

// read returns the numbers. What a number is a part of is read after it, as it is written before it: so no part is more than the whole.
func (c *counter) read() Stat {
	s := Stat{Crashed: c.crashed.Load(), Late: c.late.Load(), Longest: time.Duration(c.longest.Load())}
	s.Passed, s.Failed = c.passed.Load(), c.failed.Load()
	s.Time, s.Sampled = time.Duration(c.nanoseconds.Load()), c.sampled.Load()
	s.Calls = c.calls.Load()
	return s
}

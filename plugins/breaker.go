package plugins

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// breaker leaves a hook out for a while that failed several times in a row, so that one that is broken costs others little. After
// that while one call is let through; when it succeeds, all are again, and when it fails, the while doubles.
type breaker struct {
	// clear is the function to call as long as nothing has failed since the last success, and is nil otherwise: it is all that the hot path asks. It and target are
	// written with mu held, and so is trouble.
	clear   atomic.Pointer[loader.Func]
	target  atomic.Pointer[loader.Func] // the function of the version that runs; nil while none does
	trouble atomic.Bool                 // something has failed since the last success

	mu       sync.Mutex
	slow     bool          // clear is always nil: every call is looked at. Set before anything is called
	failures int           // in a row
	open     bool          // no call is let through before until
	until    time.Time     // when one is
	wait     time.Duration // how long it was left out the last time
	tripped  bool          // it is left out because a call has not come back
	trying   bool          // the one call that was let through has not come back
	last     error         // the last failure since the last success; nil where there was none
}

// The bounds of a breaker where a point has none of its own.
const (
	breakAfter  = 5               // failures in a row
	breakFor    = time.Second     // the first time
	breakAtMost = 1 * time.Minute // however often it failed
)

// aim sets the function to call; nil is none.
func (b *breaker) aim(f *loader.Func) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.target.Store(f)
	b.set(b.trouble.Load())
}

// set says whether there is trouble, with mu held.
func (b *breaker) set(trouble bool) {
	b.trouble.Store(trouble)
	if trouble || b.slow {
		b.clear.Store(nil)
		return
	}
	b.clear.Store(b.target.Load())
}

// enter reports whether a call may be made, and if not, for how long none will be. trial is whether it is the one that was let through: its
// outcome must be told, by succeeded, failed or abandoned.
func (b *breaker) enter(now time.Time) (ok, trial bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return true, false, 0
	case b.trying:
		return false, false, max(0, b.until.Sub(now))
	case now.Before(b.until):
		return false, false, b.until.Sub(now)
	}
	b.trying = true
	return true, true, 0
}

// succeeded notes a success, and reports whether the hook was left out before.
func (b *breaker) succeeded(trial bool) (closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open && !trial {
		return false // it began before the hook was left out: it says nothing about now
	}
	closed = b.open
	b.failures, b.open, b.tripped, b.wait, b.trying, b.last = 0, false, false, 0, false, nil
	b.set(false)
	return closed
}

// failed notes a failure, and reports whether the hook is left out from now on, and for how long; again is whether it was until now. after is how many failures in a row
// that takes, and first for how long the first time; with after 0 it never is.
func (b *breaker) failed(now time.Time, err error, trial bool, after int, first time.Duration) (opened, again bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.last = err
	b.set(true) // also where it is never left out: the next success is looked at
	if after == 0 {
		return false, false, 0
	}
	switch {
	case trial && b.open:
		b.trying, again = false, true
	case b.open || b.failures < after:
		return false, false, 0
	}
	b.tripped = false
	return true, again, b.leaveOut(now, first)
}

// mark has the next success looked at, as after a failure.
func (b *breaker) mark() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(true)
}

// trip leaves the hook out at once, whatever it did before; err says why.
func (b *breaker) trip(now time.Time, err error, first time.Duration) (opened bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return false, 0
	}
	b.set(true)
	b.tripped, b.last = true, err
	return true, b.leaveOut(now, first)
}

// leaveOut is called with mu held.
func (b *breaker) leaveOut(now time.Time, first time.Duration) time.Duration {
	b.wait = min(max(first, 2*b.wait), max(first, breakAtMost))
	b.open, b.until = true, now.Add(b.wait)
	return b.wait
}

// abandoned takes the call back that was let through: it was not made, or says nothing about the hook.
func (b *breaker) abandoned(trial bool) {
	if !trial {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// renew is aim where another version has taken the hook's place: what was, is forgotten.
func (b *breaker) renew(f *loader.Func) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.target.Store(f)
	b.failures, b.open, b.tripped, b.wait, b.trying, b.last = 0, false, false, 0, false, nil
	b.set(false)
}

// left returns for how long the hook is left out, and its last failure; 0 where it is not.
func (b *breaker) left(now time.Time) (wait time.Duration, last error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return 0, nil
	}
	return max(1, b.until.Sub(now)), b.last
}

// why says what the hook has done.
func (b *breaker) why() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trying {
		return "is being tried again"
	}
	if b.tripped {
		return "has not come back from a call"
	}
	return fmt.Sprintf("failed %s in a row", sentence.Count(b.failures, "time"))
}

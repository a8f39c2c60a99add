package callctx

import (
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// Wanted is what a call may have to wait for. Its methods run under the lock of this package, and so wait for nothing
// and run no foreign code.
type Wanted interface {
	// Owner returns the name of the plug-in that it belongs to.
	Owner() string
	// Holders returns who holds it now: the wait ends when all calls of any one set have ended. nil stands for a call that
	// is in no host function, and for what is free.
	Holders() (sets [][]*Call)
}

// Each returns sets of one call each: any of them is enough.
func Each(calls []*Call) [][]*Call {
	sets := make([][]*Call, len(calls))
	for i := range calls {
		sets[i] = calls[i : i+1]
	}
	return sets
}

// Waiter is a call that waits.
type Waiter struct {
	within []*Call // the calls in progress that it was made in
	want   Wanted
}

// waits knows the calls that wait, where they were made within other calls: only those can close a circle.
var waits struct {
	mu     sync.Mutex
	within map[*Call][]*Waiter
}

// Wait says that a call made within outer is about to wait for want. The error is an *engine.Deadlock when it would wait
// for ever, because those who hold what it wants wait for those who led to it; else Done is due when the wait is over.
//
// A call is taken to wait for what was called with its context. A host function that starts something with its context,
// and does not wait for it, may be refused what it could have had.
func Wait(outer *Call, want Wanted) (*Waiter, error) {
	w := &Waiter{slices.Collect(outer.Running()), want}
	if len(w.within) == 0 {
		return w, nil
	}
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if waits.within == nil {
		waits.within = make(map[*Call][]*Waiter)
	}
	for _, c := range w.within {
		waits.within[c] = append(waits.within[c], w)
	}
	if circle := w.circle(); circle != nil {
		w.forget()
		return nil, circle
	}
	return w, nil
}

// Again is Wait for a call that waits already, when what it wants may be held in another way than it was.
func (w *Waiter) Again() error {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if circle := w.circle(); circle != nil {
		w.forget()
		return circle
	}
	return nil
}

// Done says that the wait is over.
func (w *Waiter) Done() {
	if len(w.within) > 0 {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		w.forget()
	}
}

func (w *Waiter) forget() {
	for _, c := range w.within {
		others := waits.within[c]
		if i := slices.Index(others, w); i >= 0 {
			others = slices.Delete(others, i, i+1)
		}
		if len(others) == 0 {
			delete(waits.within, c)
		} else {
			waits.within[c] = others
		}
	}
}

// circle returns not nil when w would wait for ever: when nobody that it depends on can go on.
func (w *Waiter) circle() *engine.Deadlock {
	// All whom w depends on, with what they wait for. What stays in stuck cannot go on.
	stuck := make(map[*Waiter][][]*Call)
	for todo := []*Waiter{w}; len(todo) > 0; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, seen := stuck[next]; seen {
			continue
		}
		sets := next.want.Holders()
		stuck[next] = sets
		waiting := func(c *Call) bool { return len(waits.within[c]) > 0 }
		if next == w && slices.ContainsFunc(sets, func(set []*Call) bool { return !slices.ContainsFunc(set, waiting) }) {
			return nil // the usual case
		}
		for _, c := range slices.Concat(sets...) {
			todo = append(todo, waits.within[c]...)
		}
	}
	// waiting returns a waiter within c that is stuck, or nil.
	waiting := func(c *Call) *Waiter {
		for _, other := range waits.within[c] {
			if _, ok := stuck[other]; ok {
				return other
			}
		}
		return nil
	}
	for changed := true; changed; {
		changed = false
		for other, sets := range stuck {
			stays := func(c *Call) bool { return waiting(c) != nil }
			free := slices.ContainsFunc(sets, func(set []*Call) bool { return !slices.ContainsFunc(set, stays) })
			if free || len(sets) == 0 {
				delete(stuck, other)
				changed = true
			}
		}
	}
	if _, ok := stuck[w]; !ok {
		return nil
	}
	circle := new(engine.Deadlock)
	seen := make(map[*Waiter]int)
	for at := w; at != nil; {
		if first, ok := seen[at]; ok {
			circle.Plugins = circle.Plugins[first:] // what leads to the circle is not part of it
			break
		}
		seen[at] = len(circle.Plugins)
		circle.Plugins = append(circle.Plugins, at.want.Owner())
		var next *Waiter
		for _, c := range slices.Concat(stuck[at]...) {
			if next = waiting(c); next != nil {
				break
			}
		}
		at = next
	}
	return circle
}

package callctx

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// serving knows the goroutines that run host functions for calls which are not on them: for a plug-in's own threads, in a call or between
// calls (rules R14 and R27). What such a goroutine calls is so known to come from there, whatever its context is. It is in parts, by
// goroutine, because every isolated call looks.
var serving [1 << servingBits]serves

type serves struct {
	count atomic.Int32 // of goroutines: where it is 0, nobody takes the lock
	mu    sync.Mutex
	on    map[uintptr]*served // by goroutine, the innermost
	_     [64 - 24]byte       // neighbours share no cache line
}

const servingBits = 6

// part returns the part of serving that the goroutine is in. Its number is an address, of which the lowest bits are all but
// the same for all.
func part(goroutine uintptr) *serves {
	return &serving[uint32(goroutine>>4)*0x9E3779B1>>(32-servingBits)]
}

type served struct {
	call  *Call
	below *served
}

// Serve says that this goroutine, which is not the call's own, runs a host function for it, until the function that it returns is called.
// Where goroutines have no numbers it says nothing.
func (c *Call) Serve() (end func()) {
	me := goroutine.ID()
	if me == 0 {
		return func() {}
	}
	part := part(me)
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.on == nil {
		part.on = make(map[uintptr]*served)
	}
	below := part.on[me]
	part.on[me] = &served{c, below}
	if below == nil {
		part.count.Add(1)
	}
	return func() {
		part.mu.Lock()
		defer part.mu.Unlock()
		if below != nil {
			part.on[me] = below
			return
		}
		delete(part.on, me)
		part.count.Add(-1)
	}
}

// Served calls visit with the calls in progress for which this goroutine runs host functions, and with those that these
// come from by their contexts: each once, the innermost first, until it returns true, and reports whether it has. visit may
// hold locks, and waits for nothing.
func Served(visit func(*Call) bool) bool {
	me := goroutine.ID()
	part := part(me)
	if part.count.Load() == 0 { // of this goroutine's own making, or none of its
		return false
	}
	part.mu.Lock()
	at := part.on[me]
	part.mu.Unlock()
	var seen []*Call
	for ; at != nil; at = at.below { // no other goroutine changes what is below
		for c := range at.call.Running() {
			if slices.Contains(seen, c) {
				continue
			}
			if visit(c) {
				return true
			}
			seen = append(seen, c)
		}
	}
	return false
}

// ComesFrom reports whether own says so of a call in progress that a call of c's, made on this goroutine, comes from: by its context, or
// because the goroutine serves it. The calls that are on the goroutine themselves are their engine's to know.
func (c *Caller) ComesFrom(own func(*Call) bool) bool {
	for outer := range c.Outer.Running() {
		if own(outer) {
			return true
		}
	}
	return Served(own)
}

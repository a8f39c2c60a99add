//go:build ferrule_stress

// Package stress makes the hazards of the boundary happen on purpose: with the build tag ferrule_stress, every
// crossing collects garbage and moves the goroutine's stack, so that a pointer which the collector or a stack move
// would invalidate is caught by the ordinary tests. Without the tag it costs nothing.
package stress

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"
)

// Enabled reports whether the build tag ferrule_stress is set.
const Enabled = true

var crossings atomic.Uint64

// Cross stands at each crossing of the boundary, in both directions.
func Cross() {
	n := crossings.Add(1)
	growStack(int(n%7) + 1)
	// A collection takes a hundred times as long as a crossing: tests that cross a million times still end.
	if n < 2000 || n%257 == 0 {
		runtime.GC()
	}
	overwrite()
}

// Yield stands at each step of the protocol by which calls take slots and give them back: others may come in between.
func Yield() {
	switch n := rand.Uint32N(256); {
	case n == 0:
		time.Sleep(time.Microsecond)
	case n < 64:
		runtime.Gosched()
	}
}

// growStack recurses through frames of 4 KiB, so that the stack is copied to a larger one; collections shrink it again.
//
//go:noinline
func growStack(depth int) byte {
	var frame [4096]byte
	frame[depth] = byte(depth)
	if depth > 0 {
		frame[0] = growStack(depth - 1)
	}
	return frame[0] + frame[depth]
}

// overwrite takes memory that a collection may just have freed and fills it, so that a reader of freed memory notices.
func overwrite() {
	for size := 64; size <= 8192; size *= 2 {
		b := make([]byte, size)
		for i := range b {
			b[i] = 0xDB
		}
		runtime.KeepAlive(b)
	}
}

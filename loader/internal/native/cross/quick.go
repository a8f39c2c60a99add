package cross

import (
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// The quick crossing (rule R34) enters a function on this thread's system stack, as the ordinary one does, and leaves
// out what the runtime does for functions that may wait, or come back into Go: the goroutine keeps its processor. Until
// the function returns, nothing can stop the world, and there is no way from it into Go.
//
// It relies on where the runtime keeps a few words. QuickMark compares them with what an ordinary crossing leaves there,
// once, in the process itself; where one is elsewhere, and on every platform and Go release on which the torture was not
// run, there is no quick crossing.

// Offsets in the runtime's g and m: for the assembly, which has no other source of them. QuickMark proves them.
const (
	gStackLo = 0
	gStackHi = 8
	gM       = 48
	gSP      = 56 // g.sched, a gobuf, from here on
	gPC      = 64
	gG       = 72
	gBP      = 96
	mG0      = 0

	// GMark is where, in the thread's g0, EnterQuick leaves the mark while a function runs: g0.sched.lr, which nothing
	// reads of a g0. A service that finds it there sets its lowest bit and refuses.
	GMark = 88
)

// EnterQuick enters fn with the frame, where QuickMark is not 0. fn must keep rule R34. refused says that it used a host
// service, which was refused. Sound because the goroutine keeps its processor, so that no stack moves and nothing is
// collected before fn returns; otherwise as Enter is.
func EnterQuick(fn uintptr, frame *abi.Call) (status abi.Status, refused bool) {
	stress.Cross()
	s, r := enterQuick(fn, uintptr(unsafe.Pointer(frame)))
	stress.Cross()
	return abi.Status(s), r != 0
}

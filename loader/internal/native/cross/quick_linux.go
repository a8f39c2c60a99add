//go:build !ferrule_portable && !race && !msan && !asan && linux && amd64 && !go1.28

package cross

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"
)

// QuickMark returns what EnterQuick leaves in the thread's g0 while a function runs, or 0 where there is no quick
// crossing: this process's runtime is not what the assembly takes it for, or FERRULE_NOQUICK is set in the environment.
var QuickMark = sync.OnceValue(func() uintptr {
	if os.Getenv("FERRULE_NOQUICK") != "" || !proven() {
		return 0
	}
	return markAddr()
})

//go:noescape
func enterQuick(fn, arg uintptr) (status int32, refused uint32)

func currentG() uintptr
func markAddr() uintptr
func witnessAddr() uintptr

// quickFunction is what a goroutine seems to be in while a function runs: its name is in the trace of a crash. Nothing
// calls it.
//
//lint:ignore U1000 the assembly takes an address in it
func quickFunction()

// testimony is what witness, a C function in assembly, saw on the way.
type testimony struct {
	goroutine uintptr // in: the g that enters it
	g, sp     uintptr // the thread's g, and the stack pointer
	gSP       uintptr // the words of the goroutine's g.sched
	gPC, gBP  uintptr
	mark      uintptr // the word that is to be the mark, of the thread's g
}

// witnessed is what witness returns.
const witnessed = -1017

// proven reports whether the runtime keeps its words where the assembly takes them to be. An ordinary crossing is looked
// at, in which the runtime itself leaves its goroutine and finds g0's stack; and then a quick one. A wrong offset leads to
// a word that does not fit, or to a fault, which is a panic here.
func proven() (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := currentG()
	ordinary := &testimony{goroutine: g}
	if enter(witnessAddr(), unsafe.Pointer(ordinary)) != witnessed {
		return false
	}
	m := word(g + gM)
	if m == 0 || m%unsafe.Alignof(m) != 0 {
		return false
	}
	g0 := word(m + mG0)
	lo, hi := word(g+gStackLo), word(g+gStackHi)
	onStack := func(p uintptr) bool { return lo <= p && p < hi }
	var here byte
	switch {
	case g0 == g || g0 != ordinary.g || word(g0+gM) != m,
		word(g+gG) != g || word(g0+gG) != g0,
		!onStack(uintptr(unsafe.Pointer(&here))) || !onStack(ordinary.gSP) || !onStack(ordinary.gBP),
		ordinary.mark != 0:
		return false
	}
	if f := runtime.FuncForPC(ordinary.gPC); f == nil || f.Name() != "runtime.systemstack_switch" {
		return false
	}
	sp := word(g0 + gSP) // the runtime entered the witness closely below it
	if sp <= ordinary.sp || sp-ordinary.sp > 256 {
		return false
	}
	quick := &testimony{goroutine: g}
	status, refused := enterQuick(witnessAddr(), uintptr(unsafe.Pointer(quick)))
	runtime.KeepAlive(quick)
	return status == witnessed && refused == 0 && quick.g == g0 && quick.sp == sp&^15-8 && quick.gPC == markAddr() &&
		onStack(quick.gSP) && quick.mark == markAddr() && currentG() == g && word(g0+GMark) == 0
}

// word reads a word of the runtime's. Sound for an address that is right; for any other it is a fault, see proven.
func word(addr uintptr) uintptr { return **(**uintptr)(unsafe.Pointer(&addr)) }

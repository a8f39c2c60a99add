package lane

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The Go runtime's clock moves in steps of half a millisecond and more on this system, which are longer than any wait that
// is worth spinning for. The counter's steps are of 100 ns.
var (
	kernel    = windows.NewLazySystemDLL("kernel32.dll")
	counter   = kernel.NewProc("QueryPerformanceCounter").Addr()
	frequency = perSecond()
)

func perSecond() int64 {
	n := int64(1) // never fails since Windows XP
	_, _, _ = syscall.SyscallN(kernel.NewProc("QueryPerformanceFrequency").Addr(), uintptr(unsafe.Pointer(&n)))
	return n
}

// now is the time since some moment.
func now() time.Duration {
	var n int64
	_, _, _ = syscall.SyscallN(counter, uintptr(unsafe.Pointer(&n)))
	return time.Duration(n/frequency*int64(time.Second) + n%frequency*int64(time.Second)/frequency)
}

//go:build linux && (amd64 || arm64)

package worker

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/transport"
)

// What the handler of faults uses. It is read and written in assembly.
var (
	//lint:ignore U1000 the handler reads it
	faultRecord *transport.Fault // in the memory shared with the host, or nil
	//lint:ignore U1000 the handler reads it
	faultProcess int32
	//lint:ignore U1000 the handler reads it
	faultDefault [32]byte // a struct sigaction: SIG_DFL
)

func faultAddresses() (handler, restorer uintptr)

// recordFaults has the first fault of this process written to record, before the signal ends it as by default. Threads of the
// plug-in's own have no alternate stack: where theirs overflows the kernel ends the process by itself.
func recordFaults(record *transport.Fault) {
	faultRecord, faultProcess = record, int32(unix.Getpid())
	const restorerGiven, onStack, withInfo = 0x04000000, 0x08000000, 4
	action := struct {
		handler  uintptr
		flags    uint64
		restorer uintptr
		mask     uint64
		_        uint64
	}{flags: onStack | withInfo}
	if action.handler, action.restorer = faultAddresses(); action.restorer != 0 {
		action.flags |= restorerGiven
	}
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL} {
		// Sound because the kernel copies the structure, and does not keep the pointer.
		_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

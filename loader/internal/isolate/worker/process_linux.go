package worker

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// surrender gives the signals of faults back to the system, so that a fault of the plug-in's ends the process with the
// signal itself. The Go runtime would print its own state and exit with code 2, and so does for a fault of its own.
func surrender() {
	var action [32]byte // struct sigaction: SIG_DFL, without flags
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS} {
		// Sound because the kernel copies the structure, and does not keep the pointer.
		_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

// dieWithHost ends the process when the host is gone. The system does that by itself, by the parent-death signal; this is
// for a host that was gone before that was set. It reads past the runtime's poller, which a plug-in can close.
func dieWithHost(alive *os.File) {
	var one [1]byte
	for {
		if n, err := unix.Read(int(alive.Fd()), one[:]); n == 0 && err == nil {
			os.Exit(0)
		} else if err != nil && err != unix.EINTR {
			return
		}
	}
}

//go:build unix && !linux

package worker

import (
	"os"
	"syscall"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// surrender gives the signals of faults back to the system, so that a fault of the plug-in's ends the process with the
// signal itself. The Go runtime would print its own state and exit with code 2, and so does for a fault of its own.
//
// It asks the C library, because these systems promise no system calls. signal is ISO C: two words, no structure whose
// layout is the system's; a null handler is SIG_DFL on all of them. Built, not run: see
// docs/macos.md for what it relies on.
//
// SIGXCPU is among them because the Go runtime ignores it, and macOS sends nothing else when RLIMIT_CPU is reached, the
// hard limit included.
func surrender() {
	set, err := purego.Dlsym(purego.RTLD_DEFAULT, "signal")
	if err != nil {
		return // a fault is exit code 2 then
	}
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS,
		unix.SIGXCPU} {
		_, _, _ = purego.SyscallN(set, uintptr(sig), 0)
	}
}

// dieWithHost ends the process when the host is gone, and with it what the plug-in has started and what is still in this
// session. These systems have no parent-death signal. It reads past the runtime's poller, which a plug-in can close.
func dieWithHost(alive *os.File) {
	var one [1]byte
	for {
		if n, err := unix.Read(int(alive.Fd()), one[:]); n == 0 && err == nil {
			if unix.Getpgrp() == unix.Getpid() { // else the group is not the worker's own
				_ = unix.Kill(0, unix.SIGKILL)
			}
			os.Exit(0)
		} else if err != nil && err != unix.EINTR {
			return
		}
	}
}

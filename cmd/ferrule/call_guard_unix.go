//go:build unix

package main

import (
	"syscall"

	"github.com/ebitengine/purego"
)

// surrender gives the signals of faults back to the system, so that a fault of the plug-in's ends this process with the
// signal itself. The Go runtime would print its own state, which says nothing about the plug-in, and exit with code 2.
func surrender() {
	signal, err := purego.Dlsym(purego.RTLD_DEFAULT, "signal")
	if err != nil {
		return // a fault is exit code 2 then, which is none of guarded's either
	}
	const systemDefault = 0 // SIG_DFL
	for _, s := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGABRT,
		syscall.SIGTRAP, syscall.SIGSYS} {
		_, _, _ = purego.SyscallN(signal, uintptr(s), systemDefault)
	}
}

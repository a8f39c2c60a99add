//go:build unix

package sidecar

import (
	"os"
	"os/signal"
	"syscall"
)

// inherited returns a descriptor that this process was started with. It is not for what this process starts. Who reads it waits on a thread: the system wakes that thread, and nothing else
// has to run for it.
func inherited(n int) *os.File {
	syscall.CloseOnExec(n)
	_ = syscall.SetNonblock(n, false)
	return os.NewFile(uintptr(n), "the wire")
}

// standard returns the standard streams, and takes them away from all else: what is printed gets to the standard error, and the standard input is empty.
func standard() (in, out *os.File) {
	in, out = os.Stdin, os.Stdout
	if own, err := syscall.Dup(syscall.Stdout); err == nil {
		if redirect(syscall.Stderr, syscall.Stdout) == nil {
			out = inherited(own)
		} else {
			_ = syscall.Close(own)
		}
	}
	if own, err := syscall.Dup(syscall.Stdin); err == nil {
		if null, err := os.Open(os.DevNull); err == nil && redirect(int(null.Fd()), syscall.Stdin) == nil {
			in = inherited(own)
			_ = null.Close()
		} else {
			_ = syscall.Close(own)
		}
	}
	return in, out
}

// ignorePipes has a write to a pipe that nobody reads be an error of that write: a plug-in is stopped also where the host was killed.
func ignorePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

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
	out = os.Stdout
	if own, err := syscall.Dup(syscall.Stdout); err == nil {
		if redirect(syscall.Stderr, syscall.Stdout) == nil {
			out = inherited(own)
		} else {
			_ = syscall.Close(own)
		}
	}
	in = os.Stdin
	if own, ok := emptyInput(); ok {
		in = inherited(own)
	}
	return in, out
}

// emptyInput has the standard input be empty, and returns a descriptor of what it was. That stays open, so that what is still written to it is no error.
func emptyInput() (own int, ok bool) {
	own, err := syscall.Dup(syscall.Stdin)
	if err != nil {
		return 0, false
	}
	syscall.CloseOnExec(own)
	null, err := os.Open(os.DevNull)
	if err == nil {
		defer null.Close()
		err = redirect(int(null.Fd()), syscall.Stdin)
	}
	if err != nil {
		_ = syscall.Close(own)
	}
	return own, err == nil
}

// ignorePipes has a write to a pipe that nobody reads be an error of that write: a plug-in is stopped also where the host was killed.
func ignorePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

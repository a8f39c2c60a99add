package sidecar

import "os"

// inherited returns a handle that this process was started with.
func inherited(n int) *os.File { return os.NewFile(uintptr(n), "the wire") }

// standard returns the standard streams; what is printed gets to the standard error.
func standard() (in, out *os.File) {
	in, out = os.Stdin, os.Stdout
	os.Stdout = os.Stderr
	return in, out
}

// emptyInput leaves the standard input as it is.
func emptyInput() (own int, ok bool) { return 0, false }

// ignorePipes is for systems that have signals for them.
func ignorePipes() {}

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

// standardInput is the standard input as it is.
func standardInput() *os.File { return os.Stdin }

// ignorePipes is for systems that have signals for them.
func ignorePipes() {}

//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// keepTerminal returns a function that puts the terminal's settings back to what they are now, where something that a
// plug-in has started has changed them.
func keepTerminal() (restore func()) {
	for _, f := range []*os.File{os.Stdin, os.Stderr, os.Stdout} {
		fd := int(f.Fd())
		before, err := unix.IoctlGetTermios(fd, getTermios)
		if err != nil {
			continue
		}
		return func() {
			if now, err := unix.IoctlGetTermios(fd, getTermios); err == nil && *now != *before {
				_ = unix.IoctlSetTermios(fd, setTermios, before)
			}
		}
	}
	return func() {}
}

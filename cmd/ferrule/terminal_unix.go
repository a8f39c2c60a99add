//go:build unix

package main

import "golang.org/x/sys/unix"

// isTerminal reports whether the descriptor is a terminal: only those have settings.
func isTerminal(fd uintptr) bool {
	_, err := unix.IoctlGetTermios(int(fd), getTermios)
	return err == nil
}

// escapes reports whether the terminal understands escape sequences; TERM says so where it does not.
func escapes(uintptr) bool { return true }

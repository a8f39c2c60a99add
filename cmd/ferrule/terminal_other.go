//go:build !unix && !windows

package main

// isTerminal knows no terminals on this system.
func isTerminal(uintptr) bool { return false }

func escapes(uintptr) bool { return false }

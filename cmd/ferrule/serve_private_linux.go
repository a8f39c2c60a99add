package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// private has a socket that is about to be bound be its user's alone: the file gets the mode that the socket has by then.
func private(_, _ string, c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return failed
}

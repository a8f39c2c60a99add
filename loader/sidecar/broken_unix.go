//go:build unix

package sidecar

import (
	"errors"
	"syscall"
)

// isBrokenPipe reports whether an error says that nobody is at the other end any more.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

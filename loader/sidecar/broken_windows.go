package sidecar

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isBrokenPipe reports whether an error says that nobody is at the other end any more.
func isBrokenPipe(err error) bool {
	for _, gone := range []error{windows.ERROR_BROKEN_PIPE, windows.ERROR_NO_DATA, windows.ERROR_PIPE_NOT_CONNECTED, windows.WSAECONNRESET} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

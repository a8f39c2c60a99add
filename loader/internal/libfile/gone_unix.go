//go:build unix && !linux

package libfile

import "golang.org/x/sys/unix"

// processGone reports whether there is no process with this number.
func processGone(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH }

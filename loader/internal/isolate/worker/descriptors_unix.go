//go:build unix && !linux

package worker

import (
	"slices"

	"golang.org/x/sys/unix"
)

// closeOthers closes every descriptor that was inherited, but the standard streams and those in own, and reports whether none
// is left. What this process has opened itself is marked to be closed at exec, and stays: the Go runtime uses it. Built, not
// run.
func closeOthers(own []uintptr) bool {
	const bound = 64 << 10
	for fd := 3; fd < bound; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 && !slices.Contains(own, uintptr(fd)) {
			_ = unix.Close(fd)
		}
	}
	var limit unix.Rlimit // the highest number that there can be, unless the limit was lowered since
	return unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && uint64(limit.Cur) <= bound
}

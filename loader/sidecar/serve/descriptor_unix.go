//go:build unix

package serve

import (
	"os"

	"golang.org/x/sys/unix"
)

// descriptor returns one that this process was started with. It is not for what this process starts.
func descriptor(n int) *os.File {
	unix.CloseOnExec(n)
	return os.NewFile(uintptr(n), "the wire")
}

// standardOutput takes the standard output away from all else that writes to it: what does so gets to the standard error.
func standardOutput() *os.File {
	own, err := unix.FcntlInt(uintptr(unix.Stdout), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil || redirect(unix.Stderr, unix.Stdout) != nil {
		return os.Stdout
	}
	return os.NewFile(uintptr(own), "the wire")
}

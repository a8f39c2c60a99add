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

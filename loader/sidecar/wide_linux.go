package sidecar

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A pipe has room for 64 KiB where nobody asks for more: who writes a long message and who reads it wait for each other 16 times in each MiB.
const (
	wide = 256 << 10 // of 1 MiB more is not to be had that one could measure
	// mostWide is how many pipes this process makes wide at a time. The system lets one user's pipes have 64 MiB together (fs.pipe-user-pages-soft), and
	// gives all that come later two pages each: a quarter of that is enough.
	mostWide = 16 << 20 / wide
)

var wides atomic.Int32 // pipes that are wide

// widen gives a pipe more room, where the system lets it, and reports whether it has. Then narrowed is called when the pipe is closed.
func widen(f *os.File) bool {
	if wides.Add(1) <= mostWide && setSize(f) {
		return true
	}
	narrowed()
	return false
}

func setSize(f *os.File) (set bool) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Control(func(descriptor uintptr) {
		_, err := unix.FcntlInt(descriptor, unix.F_SETPIPE_SZ, wide)
		set = err == nil
	})
	return set && err == nil
}

// narrowed says that a wide pipe is no more.
func narrowed() { wides.Add(-1) }

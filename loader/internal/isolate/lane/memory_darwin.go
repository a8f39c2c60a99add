package lane

import (
	"os"

	"golang.org/x/sys/unix"
)

// punch gives the memory and the disk space of a part of the file back to the system, where its file system can.
// Built, not run: see docs/macos.md for what it relies on.
func punch(f *os.File, at, size uint64) {
	// The structure fpunchhole_t begins as this one does: two words that are 0, and then the place and the length.
	_ = unix.FcntlFstore(f.Fd(), unix.F_PUNCHHOLE, &unix.Fstore_t{Offset: int64(at), Length: int64(size)})
}

package native

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PrivateCopy is a file in memory, sealed: nobody can write to it any more. It has no name in any file system, and is
// gone when the last mapping of it is.
type PrivateCopy struct {
	*os.File
	size int64
}

// MakeCopy makes a private copy of the file at path.
func MakeCopy(path string) (*PrivateCopy, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("ferrule", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3 does not know MFD_EXEC, and does not need it
		fd, err = unix.MemfdCreate("ferrule", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd:ferrule")
	size, err := io.Copy(f, src)
	if err == nil {
		const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &PrivateCopy{f, size}, nil
}

var copies atomic.Uint64

// path returns where the system's loader finds the copy, as long as it is open. The loader takes two libraries with one
// path for the same, and a descriptor's number comes back; so each path is spelled differently.
func (c *PrivateCopy) path([]byte, string) (string, error) {
	var spelling strings.Builder
	for n := copies.Add(1); n > 0; n >>= 1 {
		spelling.WriteString([]string{"/", "/."}[n&1])
	}
	return fmt.Sprintf("/proc/self/fd%s/%d", spelling.String(), c.Fd()), nil
}

func (c *PrivateCopy) close() { _ = c.Close() }

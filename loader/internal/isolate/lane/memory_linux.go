package lane

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func createFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("ferrule", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("shared memory: memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), "memfd:ferrule"), nil
}

// sealFile forbids the worker to make the file shorter, which would end the host by SIGBUS.
func sealFile(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	return err
}

// punch gives the memory of a part of the file back to the system.
func punch(f *os.File, at, size uint64) {
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(size))
}

// keepFromForks leaves the memory to this process alone. A child that a plug-in forks, and that returns from its function, would else be a second one
// to serve the lane: whose results a call gets would be chance. It dies when it touches what it has not.
func keepFromForks(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTFORK) }

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

// wiped returns size bytes of which a child that is forked of this process, and has executed nothing, finds the first head bytes to be 0 and the others as they
// were; nil where the system has no such memory. It lives as long as the process.
func wiped(head, size int) []byte {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil
	}
	if unix.Madvise(b[:page], unix.MADV_WIPEONFORK) != nil {
		_ = unix.Munmap(b)
		return nil
	}
	return b[page-head:][:size:size]
}

// vanish ends a forked child, of whose threads there is this one.
func vanish() {
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

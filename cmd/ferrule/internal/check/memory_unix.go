//go:build unix

package check

import (
	"os"

	"golang.org/x/sys/unix"
)

// guarded returns at least size bytes of fresh memory, whole pages, with a page behind them that cannot be touched.
func guarded(size int) ([]byte, error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	b, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	if err := unix.Mprotect(b[size:], unix.PROT_NONE); err != nil {
		return nil, err
	}
	return b[:size:size], nil
}

// forbid makes memory of guarded such that nobody may touch it, or everybody again.
func forbid(b []byte, yes bool) error {
	if yes {
		return unix.Mprotect(b, unix.PROT_NONE)
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE)
}

// protect makes memory of guarded read-only, or writable again.
func protect(b []byte, readOnly bool) error {
	if readOnly {
		return unix.Mprotect(b, unix.PROT_READ)
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE)
}

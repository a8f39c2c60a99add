package check

import (
	"os"

	"golang.org/x/sys/windows"
)

// guarded returns at least size bytes of fresh memory, whole pages, with a page behind them that cannot be touched.
func guarded(size int) ([]byte, error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	start, err := windows.VirtualAlloc(0, uintptr(size+page), windows.MEM_RESERVE|windows.MEM_COMMIT,
		windows.PAGE_READWRITE)
	if err != nil {
		return nil, err
	}
	var old uint32
	if err := windows.VirtualProtect(start+uintptr(size), uintptr(page), windows.PAGE_NOACCESS, &old); err != nil {
		return nil, err
	}
	return view(start, uintptr(size)), nil
}

// forbid makes memory of guarded such that nobody may touch it, or everybody again.
func forbid(b []byte, yes bool) error {
	var old, mode uint32 = 0, windows.PAGE_READWRITE
	if yes {
		mode = windows.PAGE_NOACCESS
	}
	return windows.VirtualProtect(addr(b), uintptr(len(b)), mode, &old)
}

// protect makes memory of guarded read-only, or writable again.
func protect(b []byte, readOnly bool) error {
	var old, mode uint32 = 0, windows.PAGE_READWRITE
	if readOnly {
		mode = windows.PAGE_READONLY
	}
	return windows.VirtualProtect(addr(b), uintptr(len(b)), mode, &old)
}

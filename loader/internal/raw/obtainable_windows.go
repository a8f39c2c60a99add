package raw

import "golang.org/x/sys/windows"

// obtainable reports whether the system gives this process n bytes, which are given back.
func obtainable(n uint64) bool {
	at, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err == nil {
		_ = windows.VirtualFree(at, 0, windows.MEM_RELEASE)
	}
	return err == nil
}

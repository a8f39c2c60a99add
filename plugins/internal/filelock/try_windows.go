package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Try takes f's lock, alone or shared with others who share it, unless somebody has it who does not let it. It lasts until f is closed. Locks of
// Windows forbid others to read and write what is locked; so it is a byte that is far behind every file's end.
func Try(f *os.File, exclusive bool) (bool, error) {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	switch err := windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30}); {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return false, nil
	default:
		return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
}

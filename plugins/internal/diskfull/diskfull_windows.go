package diskfull

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Is reports whether there is no room: on the disk, or in a quota.
func Is(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

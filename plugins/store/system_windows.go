package store

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/windows"
)

// writable says nothing on Windows: who may write to a folder in a user's profile comes from the profile's access control list, which is that of the user.
func writable(fs.FileInfo) (found, remedy string) { return "", "" }

// diskFull reports whether there is no room: on the disk, or in a quota.
func diskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

func unknown(error) bool { return false }

func links(fs.FileInfo) uint64 { return 1 }

package readonlyfs

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Is reports whether a disk is protected against writing. That is no fs.ErrPermission.
func Is(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

//go:build unix

package readonlyfs

import (
	"errors"
	"syscall"
)

// Is reports whether a file system was mounted for reading only.
func Is(err error) bool { return errors.Is(err, syscall.EROFS) }

//go:build unix

package diskfull

import (
	"errors"
	"syscall"
)

// Is reports whether there is no room: on the disk, in a quota, or under a limit on the size of files.
func Is(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

//go:build !windows

package files

import (
	"errors"
	"syscall"
)

// notFolder reports whether a part of a path is a file, so that nothing can lie in it.
func notFolder(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

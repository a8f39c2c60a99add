//go:build unix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// writable says how others than this user and root may write to a file or folder, and the beginning of a command against that; "" where they may not.
func writable(info fs.FileInfo) (found, remedy string) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch me := uint32(os.Geteuid()); {
	case ok && stat.Uid != me && stat.Uid != 0:
		return fmt.Sprintf("one that belongs to user %d, while this is user %d", stat.Uid, me), fmt.Sprintf("Run as its owner, or give it to this user: chown -R %d ", me)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("one that others may write to (%s)", info.Mode()), "Take that from them: chmod -R go-w "
	}
	return "", ""
}

// unknown reports whether a file system does not know a call.
func unknown(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink)
	}
	return 1
}

package native

import (
	"os"

	"golang.org/x/sys/unix"
)

// noexec reports whether the file system of a file is mounted so that nothing may be run from it.
func noexec(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Flags&unix.ST_NOEXEC != 0
}

// procMounted reports whether there is a /proc.
func procMounted() bool {
	_, err := os.Lstat("/proc/self/fd")
	return err == nil
}

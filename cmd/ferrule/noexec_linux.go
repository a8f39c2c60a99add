package main

import "golang.org/x/sys/unix"

// isNoexec reports whether a file lies on a file system that is mounted so that nothing may be run from it.
func isNoexec(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Flags&unix.ST_NOEXEC != 0
}

package libfile

import "golang.org/x/sys/unix"

// NoExec reports whether what is at a path lies on a file system that is mounted so that nothing may be run from it.
func NoExec(path string) bool {
	var s unix.Statfs_t
	err := again(func() error { return unix.Statfs(path, &s) })
	return err == nil && s.Flags&unix.ST_NOEXEC != 0
}

// NoExec reports whether the file lies on a file system that is mounted so that nothing may be run from it.
func (f *File) NoExec() bool {
	var s unix.Statfs_t
	err := again(func() error { return unix.Fstatfs(f.fd, &s) })
	return err == nil && s.Flags&unix.ST_NOEXEC != 0
}

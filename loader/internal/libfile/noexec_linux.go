package libfile

import "golang.org/x/sys/unix"

// NoExec reports whether the file lies on a file system that is mounted so that nothing may be run from it.
func (f *File) NoExec() bool {
	var s unix.Statfs_t
	err := again(func() error { return unix.Fstatfs(f.fd, &s) })
	return err == nil && s.Flags&unix.ST_NOEXEC != 0
}

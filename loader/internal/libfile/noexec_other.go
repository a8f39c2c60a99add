//go:build !linux

package libfile

// NoExec reports whether what is at a path lies on a file system that is mounted so that nothing may be run from it. Here that is not looked at.
func NoExec(string) bool { return false }

// NoExec reports whether the file lies on a file system that is mounted so that nothing may be run from it. Here that is
// not looked at.
func (f *File) NoExec() bool { return false }

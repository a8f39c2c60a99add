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

// mappable reports whether a file may be mapped as code.
func mappable(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	code, err := unix.Mmap(fd, 0, 1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return err == unix.ENOMEM
	}
	return unix.Munmap(code) == nil
}

// procMounted reports whether there is a /proc.
func procMounted() bool {
	_, err := os.Lstat("/proc/self/fd")
	return err == nil
}

package native

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mappable reports whether a file may be mapped as code. known is false where that cannot be tried: path may be a name alone, where memory was too short to look for it.
func mappable(path string) (may, known bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	code, err := unix.Mmap(fd, 0, 1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	switch err {
	case nil:
		return unix.Munmap(code) == nil, true
	case unix.ENOMEM, unix.EAGAIN:
		return true, true
	}
	return false, true
}

// limited reports whether this process may have less memory than there is.
func limited() bool {
	for _, resource := range []int{unix.RLIMIT_AS, unix.RLIMIT_DATA} {
		var limit unix.Rlimit
		if unix.Getrlimit(resource, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
			return true
		}
	}
	return false
}

// allMapped reports whether the process has as many mappings as the system allows, but for fewer than a library needs. It does so in
// little memory: there may be none to have.
func allMapped() bool {
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	most, notNumber := strconv.Atoi(string(bytes.TrimSpace(text)))
	maps, notThere := os.Open("/proc/self/maps")
	if err != nil || notNumber != nil || notThere != nil {
		return false
	}
	defer maps.Close()
	buf, n := make([]byte, 4<<10), 0
	for {
		read, err := maps.Read(buf)
		n += bytes.Count(buf[:read], []byte("\n"))
		if err != nil {
			return n > most-16
		}
	}
}

// procMounted reports whether there is a /proc.
func procMounted() bool {
	_, err := os.Lstat("/proc/self/fd")
	return err == nil
}

package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// uncountedUser says why RLIMIT_NPROC would mean nothing to this process, or nothing: the system's root, and whoever
// has its capabilities, may make any number of processes. The root of a user namespace may not.
func uncountedUser() (why string) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295" {
		return ""
	}
	if os.Getuid() == 0 {
		return "the worker runs as root, for whom the system does not count processes"
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	const exempt = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_RESOURCE
	if err := unix.Capget(&header, &sets[0]); err != nil || sets[0].Effective&exempt != 0 {
		return "the worker has CAP_SYS_ADMIN or CAP_SYS_RESOURCE, for which the system does not count processes"
	}
	return ""
}

// tasksOfUser returns how many threads, of all processes, this user has, as far as this process sees them.
func tasksOfUser() (uint64, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var n uint64
	uid := uint32(os.Getuid())
	for _, process := range processes {
		// One that ends meanwhile does not count.
		info, err := os.Stat(process)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != uid {
			continue
		}
		tasks, _ := os.ReadDir(filepath.Join(process, "task"))
		n += uint64(len(tasks))
	}
	return n, nil
}

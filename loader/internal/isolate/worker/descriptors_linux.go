package worker

import (
	"math"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// closeOthers closes every descriptor but the standard streams and those in own, and reports whether none is left. It is
// called before anything of the plug-in's is in the process.
//
// A host leaks what is not marked to be closed at exec: C code in it, or whoever started it (socket activation, a shell).
// Those lack the mark here, too, and are closed. What has the mark was opened by this process since: by the Go runtime,
// which goes on using it, or by the program's own init functions that ran before, which may hold what the plug-in must not
// have. The latter become /dev/null, so that whoever still uses such a number meets no other file.
func closeOthers(own []uintptr) bool {
	keep := []int{0, 1, 2}
	for _, fd := range own {
		keep = append(keep, int(fd))
	}
	all, complete := openDescriptors()
	sure := true
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(null)
	}
	for _, fd := range all {
		if fd == null || slices.Contains(keep, fd) {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		runtimes, known := ofRuntime(fd)
		switch {
		case err != nil: // it was what the list was read by
		case flags&unix.FD_CLOEXEC == 0:
			_ = unix.Close(fd)
		case runtimes:
			sure = sure && known
			keep = append(keep, fd)
		case null < 0 || unix.Dup3(null, fd, unix.O_CLOEXEC) != nil:
			_ = unix.Close(fd)
		default:
			keep = append(keep, fd)
		}
	}
	above := max(slices.Max(keep), null) + 1
	return (unix.CloseRange(uint(above), math.MaxUint32, 0) == nil || complete) && sure
}

// openDescriptors lists the open descriptors, and reports whether that is certain to be all of them. Without /proc it looks at
// all numbers below a bound; what is above is close_range's.
func openDescriptors() (all []int, complete bool) {
	const bound = 64 << 10
	if folder, err := os.Open("/proc/self/fd"); err == nil {
		names, err := folder.Readdirnames(-1)
		folder.Close()
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err == nil {
				all = append(all, fd)
			}
		}
		if err == nil && len(all) > 0 {
			return all, true
		}
	}
	all = nil
	for fd := range bound {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			all = append(all, fd)
		}
	}
	return all, false
}

// ofRuntime reports whether a descriptor that this process has opened may be one that the Go runtime uses: its poller, what
// wakes that, and the limits of its control group. None of these gives access to anything else. Without /proc it is not sure
// which of the anonymous ones it is, and the runtime must not lose its own.
func ofRuntime(fd int) (yes, sure bool) {
	const anonymousInodes = 0x09041934 // ANON_INODE_FS_MAGIC
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false, true
	}
	switch fs.Type {
	case unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY, true
	case anonymousInodes:
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		return err != nil || target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]", err == nil
	}
	return false, true
}

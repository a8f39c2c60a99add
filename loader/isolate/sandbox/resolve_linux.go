package sandbox

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// resolve is what the workers of a plug-in get that is opened now: the policy, whose paths are absolute, and what is there.
func (p Policy) resolve() ([]byte, error) {
	c := config{Policy: p}
	for _, list := range []struct {
		name, remedy string
		paths        []string
	}{{"Read", readRemedy, p.Read}, {"Write", writeRemedy, p.Write}} {
		for _, path := range list.paths {
			found, err := find(path)
			if err != nil {
				return nil, unusable(list.name, path, err, list.remedy)
			}
			c.Found = append(c.Found, found)
		}
	}
	return json.Marshal(c)
}

const (
	readRemedy  = "Leave out what is not there"
	writeRemedy = "Make it before the plug-in is opened"
)

// find follows the links of a path. What is a worker's own in /proc the worker finds itself; nobody makes links there.
func find(path string) (wire.Library, error) {
	if isOwn(path) {
		return wire.Library{Path: []byte(path)}, nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return wire.Library{}, err
	}
	var stat unix.Stat_t
	if err := unix.Lstat(real, &stat); err != nil {
		return wire.Library{}, err
	}
	return wire.Library{Path: []byte(real), Device: uint64(stat.Dev), Inode: stat.Ino}, nil
}

// isOwn reports whether a path leads each process to something else: into its own folder of /proc.
func isOwn(path string) bool {
	path = filepath.Clean(path) + "/"
	return strings.HasPrefix(path, "/proc/self/") || strings.HasPrefix(path, "/proc/thread-self/")
}

// openOwn opens what is in the process's own folder of /proc. Links from there to elsewhere are not followed: they lead to
// what the process has open, which may be anything.
func openOwn(path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	return unix.Openat2(unix.AT_FDCWD, path, &how)
}

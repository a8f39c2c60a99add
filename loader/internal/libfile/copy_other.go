//go:build !linux

package libfile

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// private is a copy with a name, in a folder of this user's that only this process uses. The systems' loaders load by path
// only. What holds: nobody but this user and the administrator can change it; it does not follow the file at the path that
// was opened; no other process shares or removes it. Built, not run on macOS: see docs/macos.md.
type private struct {
	at    string
	size  int64
	owned bool // this process has written it, and removes it
}

// makeCopy makes a private copy of the file.
func makeCopy(f *File, name string) (private, error) {
	cache, err := cacheDir()
	if err != nil {
		return private{}, err
	}
	folder := filepath.Join(cache, "ferrule")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return private{}, err
	}
	sweep(folder)
	dir, err := os.MkdirTemp(folder, fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return private{}, err
	}
	p := private{filepath.Join(dir, name), f.Size, true}
	to, err := os.OpenFile(p.at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.whole(func(Identity) error {
			return readAll(f, 0, f.Size, func(b []byte, at int64) error {
				_, err := to.WriteAt(b, at)
				return err
			})
		})
		if errClose := to.Close(); err == nil {
			err = errClose
		}
	}
	if err != nil {
		p.close()
		return private{}, err
	}
	return p, nil
}

// What to do where a copy cannot be made.
const (
	copyForbidden = "Let the process write to the folder ferrule in the user's cache folder"
	copyNoSpace   = "Free space where the user's cache folder is"
	copyElsewhere = "See that the user has a cache folder, to which the process can write"
)

// prefix begins the name of a process's folder; its number follows.
const prefix = "process-"

// sweep removes what processes have left behind that are gone: those that were killed, and on Windows, which cannot remove
// a library that is loaded, all.
func sweep(folder string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, e := range entries {
		number, ours := strings.CutPrefix(e.Name(), prefix)
		number, _, _ = strings.Cut(number, "-")
		if pid, err := strconv.Atoi(number); ours && err == nil && processGone(pid) {
			_ = os.RemoveAll(filepath.Join(folder, e.Name()))
		}
	}
}

// Memory is for systems that load a library by its descriptor.
func Memory(string, []byte) (*Copy, error) { return Hold(nil) }

// Hold is for systems that load a library by its descriptor.
func Hold(*File) (*Copy, error) {
	return nil, fmt.Errorf("no libraries are loaded by descriptors on %s", runtime.GOOS)
}

// TooLarge reports whether the file is to be given to a worker rather than a copy: never, where it is given by its name.
func TooLarge(*File) bool { return false }

// data returns how many bytes of the file are no holes, at most.
func (f *File) data() int64 { return f.Size }

// Check returns ErrChanged when the bytes may be others than when the file was opened. Those of a copy never are.
func (private) Check() error { return nil }

// Received returns a copy that another process has handed to this one, by Handoff or under the path At.
func Received(_ *os.File, path string) (*Copy, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return alone(private{path, info.Size(), false}), nil
}

// Held reports whether it is the file itself.
func (private) Held() bool { return false }

// Handoff returns the descriptor that a worker is to get, or nil.
func (private) Handoff() *os.File { return nil }

// At returns the path by which other processes find the copy, or "".
func (p private) At() string { return p.at }

// ID tells the copy from every other one that there is at the same time, also of those that another process has made.
func (p private) ID() string { return p.at }

// Size returns how many bytes there are.
func (p private) Size() int64 { return p.size }

// ReadAt is io.ReaderAt's.
func (p private) ReadAt(b []byte, off int64) (int, error) {
	f, err := os.Open(p.at)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, off)
}

// Path returns where this process's loader finds the copy, as long as it is not released.
func (p private) Path() string { return p.at }

// cacheDir returns the user's cache folder, also where the environment does not say where that is: a worker's is empty.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil {
		return dir, nil
	}
	u, err1 := user.Current()
	if err1 != nil || u.HomeDir == "" {
		return "", err
	}
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(u.HomeDir, "AppData", "Local"), nil
	case "darwin", "ios":
		return filepath.Join(u.HomeDir, "Library", "Caches"), nil
	}
	return filepath.Join(u.HomeDir, ".cache"), nil
}

// close removes the copy. A library that is loaded stays usable without its file; on Windows the file stays then, and is
// swept up later.
func (p private) close() {
	if p.owned {
		_ = os.Remove(p.at)
		_ = os.Remove(filepath.Dir(p.at))
	}
}

//go:build unix

package libfile

import (
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// File is an open library.
type File struct {
	fd       int
	Size     int64 // in bytes, when it was opened
	identity Identity
	sum      Digest   // once SHA256 was called
	summed   Identity // as of that, or zero
}

// Identity is what the system says of a file. Its comparison says whether it is the same file, and unchanged: writing,
// renaming and linking it, and changing its rights, all move the time of change.
type Identity struct {
	ID
	size, modified, changed int64
}

// ID tells a file from every other one that there is at the same time.
type ID struct{ dev, ino uint64 }

func identityOf(s *unix.Stat_t) Identity {
	return Identity{ID{uint64(s.Dev), uint64(s.Ino)}, s.Size, s.Mtim.Nano(), s.Ctim.Nano()}
}

// Identify returns the identity and the kind of the file that is at path now.
func Identify(path string) (Identity, fs.FileMode, error) {
	var s unix.Stat_t
	if err := again(func() error { return unix.Stat(path, &s) }); err != nil {
		return Identity{}, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return identityOf(&s), kindOf(&s), nil
}

// IdentifyOpen is Identify of a file that is open.
func IdentifyOpen(f *os.File) (Identity, fs.FileMode, error) {
	var s unix.Stat_t
	c, err := f.SyscallConn()
	if err != nil {
		return Identity{}, 0, err
	}
	failed := c.Control(func(fd uintptr) {
		err = again(func() error { return unix.Fstat(int(fd), &s) })
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return Identity{}, 0, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return identityOf(&s), kindOf(&s), nil
}

// Renamed reports whether what differs between the two may come from renaming or linking the file, and from changing its
// rights: what it contains, as far as its length and time tell, is the same.
func (i Identity) Renamed(since Identity) bool {
	return i.ID == since.ID && i.size == since.size && i.modified == since.modified
}

func (f *File) identify() (Identity, error) {
	var s unix.Stat_t
	err := again(func() error { return unix.Fstat(f.fd, &s) })
	return identityOf(&s), err
}

// kindOf returns the type bits of a mode.
func kindOf(s *unix.Stat_t) fs.FileMode {
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}

// OpenRegular is the second half of Open, for a path at which Identify has just found a regular file.
//
// It goes past package os, whose files are made ready for the poller first, in six system calls that a regular file has
// no use for.
func OpenRegular(path string) (*File, fs.FileMode, error) {
	f := new(File)
	// It may be something else by now, on which opening would wait.
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	err := again(func() (err error) { f.fd, err = unix.Open(path, flags, 0); return err })
	if err != nil {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var s unix.Stat_t
	if err := again(func() error { return unix.Fstat(f.fd, &s) }); err != nil {
		f.Close()
		return nil, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if kind := kindOf(&s); kind != 0 {
		f.Close()
		return nil, kind, ErrNotRegular
	}
	f.identity, f.Size = identityOf(&s), s.Size
	return f, 0, nil
}

// ReadAt is io.ReaderAt's.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) { return readAt(f.fd, p, off) }

func readAt(fd int, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		switch m, err := unix.Pread(fd, p[n:], off+int64(n)); {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	return n, nil
}

// Close closes the file.
func (f *File) Close() { _ = unix.Close(f.fd) }

// again calls a system call as long as a signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

//go:build unix

package libfile

import (
	"io"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// File is an open library.
type File struct {
	fd   int
	Size int64 // in bytes, when it was looked at
}

// Open opens the file at path, of which Stat has said info.
//
// It goes past package os, whose files are made ready for the poller first, in six system calls that a regular file has
// no use for.
func Open(path string, info fs.FileInfo) (*File, fs.FileMode, error) {
	if !info.Mode().IsRegular() {
		return nil, info.Mode(), ErrNotRegular
	}
	for {
		// It may be something else by now, on which opening would wait; reading at an offset then fails.
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return &File{fd, info.Size()}, 0, nil
	}
}

// ReadAt is io.ReaderAt's.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		switch m, err := unix.Pread(f.fd, p[n:], off+int64(n)); {
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

func id(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino)
	}
	return 0
}

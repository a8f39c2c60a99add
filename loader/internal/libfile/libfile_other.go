//go:build !unix

package libfile

import (
	"io/fs"
	"os"
)

// File is an open library.
type File struct {
	*os.File
	Size     int64 // in bytes, when it was opened
	identity Identity
	sum      Digest   // once SHA256 was called
	summed   Identity // as of that, or zero
}

// Identity is what the system says of a file. Its comparison says whether it is the same file, and unchanged. Here the
// system's loader knows a file by its path, and so does this package.
type Identity struct {
	ID
	size, modified int64
}

// ID tells a file from every other one that there is at the same time.
type ID struct{ path string }

func identityOf(path string, info fs.FileInfo) Identity {
	return Identity{ID{path}, info.Size(), info.ModTime().UnixNano()}
}

// Identify returns the identity and the kind of the file that is at path now.
func Identify(path string) (Identity, fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Identity{}, 0, err
	}
	return identityOf(path, info), info.Mode().Type(), nil
}

// IdentifyOpen is Identify of a file that is open.
func IdentifyOpen(f *os.File) (Identity, fs.FileMode, error) {
	info, err := f.Stat()
	if err != nil {
		return Identity{}, 0, err
	}
	return identityOf(f.Name(), info), info.Mode().Type(), nil
}

// Renamed reports whether what differs between the two may come from renaming or linking the file, and from changing its
// rights. Here nothing tells of these.
func (i Identity) Renamed(since Identity) bool { return i == since }

func (f *File) identify() (Identity, error) {
	info, err := f.Stat()
	if err != nil {
		return Identity{}, err
	}
	return identityOf(f.identity.path, info), nil
}

// OpenRegular is the second half of Open, for a path at which Identify has just found a regular file.
func OpenRegular(path string) (*File, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	if kind := info.Mode().Type(); kind != 0 {
		f.Close()
		return nil, kind, ErrNotRegular
	}
	return &File{File: f, Size: info.Size(), identity: identityOf(path, info)}, 0, nil
}

// Close closes the file.
func (f *File) Close() { _ = f.File.Close() }

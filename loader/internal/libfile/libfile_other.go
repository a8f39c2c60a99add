//go:build !unix

package libfile

import (
	"io/fs"
	"os"
)

// File is an open library.
type File struct {
	*os.File
	Size int64 // in bytes, when it was opened
}

// Open opens the file at path, of which Stat has said info.
func Open(path string, info fs.FileInfo) (*File, fs.FileMode, error) {
	if !info.Mode().IsRegular() {
		return nil, info.Mode(), ErrNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		f.Close()
		return nil, info.Mode(), err
	}
	return &File{f, info.Size()}, 0, nil
}

// Close closes the file.
func (f *File) Close() { _ = f.File.Close() }

func id(fs.FileInfo) uint64 { return 0 }

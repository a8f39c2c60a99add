// Package libfile opens the files of libraries for reading: regular files and nothing else, without waiting, and with as
// few system calls as that takes, because it is part of opening every plug-in.
package libfile

import (
	"errors"
	"io/fs"
	"os"
)

// ErrNotRegular is what Open returns, with the mode, for a directory, a device and the like.
var ErrNotRegular = errors.New("not a regular file")

// Stat is os.Stat, and the first half of opening a library: its outcome goes to Open. A device is recognized here,
// before it is opened, which may do anything.
func Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// ID returns a number that differs between most files; what os.SameFile calls the same have the same.
func ID(info fs.FileInfo) uint64 { return id(info) }

package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// HeadSize is how many bytes Head returns at most.
const HeadSize = 4 << 10

// File is what a host asks to open. The file at the path is opened at most once: by whom first looks into it, and whoever
// needs it afterwards gets the same. It is used by one goroutine at a time.
type File struct {
	Path string // as the host gave it; not the path of a file where the engine needs none

	file *libfile.File // nil before it was opened, and after Take
	head []byte
	err  error // why it could not be opened, or read

	all      []byte // of a file that is in memory
	inMemory bool
}

// Head returns the file's first bytes, HeadSize at most. The error is an *inspect.Error.
func (f *File) Head() ([]byte, error) {
	if f.head != nil || f.err != nil {
		return f.head, f.err
	}
	if f.inMemory {
		f.head = f.all[:min(len(f.all), HeadSize):min(len(f.all), HeadSize)]
		return f.head, nil
	}
	var kind fs.FileMode
	var abs string
	if abs, f.err = Absolute(f.Path); f.err != nil { // as whoever opens it by its path does: some systems know a file by that
		return nil, f.err
	}
	if f.file, kind, f.err = libfile.Open(abs); f.err != nil {
		f.err = OpenError(f.Path, kind, f.err, "a file", "Give the path of the file itself")
		return nil, f.err
	}
	head := make([]byte, min(f.file.Size, HeadSize))
	n, err := f.file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		f.err = OpenError(f.Path, 0, err, "", "")
		return nil, f.err
	}
	f.head = head[:n:n]
	return f.head, nil
}

// Bytes returns all of the file, most bytes at the longest, with this digest, where it is not nil: for an engine that needs no file any more then. They are only read: those of a file in
// memory are who has given them's. The error is an *inspect.Error.
func (f *File) Bytes(digest *Digest, most int64) ([]byte, error) {
	if _, err := f.Head(); err != nil {
		return nil, err
	}
	all := f.all
	if f.inMemory {
		if int64(len(all)) > most {
			return nil, tooLong(f.Path, int64(len(all)), most)
		}
	} else {
		file := f.Take()
		if file == nil {
			return nil, OpenError(f.Path, 0, errTaken, "", "Open it once")
		}
		defer file.Close()
		if file.Size > most {
			return nil, tooLong(f.Path, file.Size, most)
		}
		all = make([]byte, file.Size)
		if n, err := file.ReadAt(all, 0); n < len(all) {
			return nil, OpenError(f.Path, 0, err, "", "")
		}
	}
	if digest == nil {
		return all, nil
	}
	if sum := sha256.Sum256(all); sum != *digest {
		return nil, OtherDigest(f.Path, sum, *digest)
	}
	return all, nil
}

func tooLong(path string, found, most int64) error {
	return &inspect.Error{Path: path, Kind: inspect.ErrMalformed, Found: "a file of " + count.Of(found, "byte"), Expected: fmt.Sprintf("%d bytes at most", most),
		Remedy: "Check that it is a plug-in"}
}

var errTaken = errors.New("another engine has the file")

// Digest is an SHA-256.
type Digest = [sha256.Size]byte

// ErrDigest is the kind of an *inspect.Error about a file with another digest than the one that was asked for.
var ErrDigest = errors.New("not the expected file")

// OtherDigest is such an error.
func OtherDigest(path string, found, expected Digest) error {
	return &inspect.Error{Path: path, Kind: ErrDigest, Found: fmt.Sprintf("SHA-256 %x", found), Expected: fmt.Sprintf("SHA-256 %x", expected),
		Remedy: "Get the plug-in from where its digest comes from, or update the digest if the change is meant"}
}

// Take returns the open file, which is the caller's to close, or nil when it was not opened yet.
func (f *File) Take() *libfile.File {
	file := f.file
	f.file = nil
	return file
}

// Close closes the file, where it was opened and not taken.
func (f *File) Close() {
	if file := f.Take(); file != nil {
		file.Close()
	}
}

// OpenError says why the file at path cannot be opened, or read. kind is what is there with libfile.ErrNotRegular, and expected and
// remedy are for that.
func OpenError(path string, kind fs.FileMode, err error, expected, remedy string) error {
	if err != libfile.ErrNotRegular {
		return &inspect.Error{Path: path, Kind: inspect.ErrRead, Err: err, Remedy: libfile.Remedy(err)}
	}
	return &inspect.Error{Path: path, Kind: inspect.ErrNotRegular, Found: libfile.Kind(kind), Expected: expected, Remedy: remedy}
}

// Absolute returns the path from the root of the file system. The error is an *inspect.Error.
func Absolute(path string) (string, error) {
	if path == "" {
		return "", &inspect.Error{Kind: inspect.ErrNotRegular, Found: "an empty path", Expected: "a library's path",
			Remedy: "Pass the path of a .so, .dylib or .dll file"}
	}
	abs, err := abspath.Of(path)
	if err != nil {
		return "", &inspect.Error{Path: path, Kind: inspect.ErrRead, Err: err, Remedy: "Check the path"}
	}
	return abs, nil
}

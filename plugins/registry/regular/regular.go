// Package regular opens files whose paths come from elsewhere, such as from a repository: a named pipe there would be waited for without end, and a device has no end.
//
// It is experimental: it may change in a minor version (docs/promises.md).
package regular

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// ErrKind is the cause of an error about what is neither a regular file nor a folder.
var ErrKind = errors.New("expected a regular file")

// ErrLong is the cause of an error about a file that is too long.
var ErrLong = errors.New("it is too long")

// Open opens a file to read it, or a folder. It waits for nobody: anything else is ErrKind, in an *fs.PathError as all its errors are. A symbolic link is followed.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := check(path, info); err != nil { // to open it may do something, with some devices
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0) // it may be another by now
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = check(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Read reads a file of at most most bytes; a longer one is ErrLong.
func Read(path string, most int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = &fs.PathError{Op: "read", Path: path, Err: ErrLong}
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

func check(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() || info.IsDir() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: &kind{info.Mode().Type()}}
}

// kind is an ErrKind that says what was found.
type kind struct{ mode fs.FileMode }

func (k *kind) Error() string { return "found " + name(k.mode) + ", " + ErrKind.Error() }
func (k *kind) Unwrap() error { return ErrKind }

func name(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

package config

import (
	"errors"
	"io/fs"

	"github.com/ferrule-dev/ferrule/plugins/internal/readonlyfs"
)

// said is an error of the system's in words that say what to do.
type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.err }

// unread is why the file at path could not be read.
func unread(path string, err error) error {
	text := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = "found no file, expected the application's configuration. Make one there, an empty file will do, or name another"
	case errors.Is(err, fs.ErrPermission):
		text = "found a file or a folder that this user may not read, expected one that it may. Change its permissions, or run as another user"
	default:
		return err
	}
	return &fs.PathError{Op: "read", Path: path, Err: &said{text, err}}
}

// unsaved is why the file at path could not be saved.
func unsaved(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) && !readonlyfs.Is(err) {
		return err
	}
	return &fs.PathError{Op: "save", Path: path, Err: &said{"found a folder that this user may not write to, expected one in which a new file can take the old one's place. Change its permissions, or run as another user", err}}
}

//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// makeFIFOs makes those of two FIFOs that are not there, which only this user may open. remove takes away what it has made.
func makeFIFOs(paths ...string) (remove func(), err error) {
	var made []string
	remove = func() {
		for _, path := range made {
			_ = os.Remove(path)
		}
	}
	for _, path := range paths {
		switch info, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist):
			if err := unix.Mkfifo(path, 0o600); err != nil {
				remove()
				return nil, unreadable("--fifo", &fs.PathError{Op: "mkfifo", Path: path, Err: err})
			}
			made = append(made, path)
		case err != nil:
			remove()
			return nil, unreadable("--fifo", err)
		case info.Mode().Type() != fs.ModeNamedPipe:
			remove()
			return nil, usage("--fifo with "+path+", which is no FIFO", "a FIFO, or a path where there is nothing", "")
		}
	}
	return remove, nil
}

func serveFIFOs(ctx context.Context, in, out string, p serve.Plugin, o serve.Options) error {
	return serve.FIFOs(ctx, in, out, p, o)
}

// refusedHere is what this system says where nobody listens.
var refusedHere error = unix.ECONNREFUSED

// turn waits until nobody else looks at a socket in the same folder, and returns what lets the next one do so.
func turn(path string) (release func(), err error) {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil { // a file system without such locks
		folder.Close()
		return func() {}, nil
	}
	return func() { folder.Close() }, nil
}

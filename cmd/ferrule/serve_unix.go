//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

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

// turnWithin is how long turn waits. Who has it looks at a socket, and no more.
var turnWithin = 5 * time.Second

// turn waits until nobody else looks at the socket, and returns what lets the next one do so. It is a lock on a file beside the socket that only this user may open, so that nobody
// else can hold it, and which is there no longer than that. A folder need not be readable for it.
func turn(ctx context.Context, path string) (release func(), err error) {
	path += ".lock"
	late, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		switch err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			now, err := os.Lstat(path)
			own, err2 := f.Stat()
			if err == nil && err2 == nil && os.SameFile(now, own) {
				return func() {
					_ = os.Remove(path) // first: who waits for it finds that it is another one's
					f.Close()
				}, nil
			}
		case unix.EWOULDBLOCK, unix.EINTR:
		default: // a file system without such locks
			f.Close()
			return func() { _ = os.Remove(path) }, nil
		}
		f.Close()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.Done():
			if ctx.Err() != nil { // which ends both
				return nil, ctx.Err()
			}
			return nil, &exit{code: exitFailed, err: &wrong{"a lock at " + path + " that somebody has held for " + turnWithin.String(), "nobody who holds it",
				"See who does (fuser " + path + "), and end that"}}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

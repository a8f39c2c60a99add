// Package filelock has locks among processes: on files that are there for that alone (Acquire), and on others that are in use (Try). The system gives them
// back when a process ends, however it ends. They are advisory: they bind those who ask.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"
)

// wait is the time between two tries. A wait for the system itself could not be ended by a context.
const wait = 10 * time.Millisecond

// A Lock is held by one goroutine of one process at a time.
type Lock struct {
	root *os.Root
	name string
	file *os.File
}

// Acquire waits until it has the lock that the file name in root stands for, and makes that file, with a mode less the umask. Release takes the file away, but
// on Windows.
func Acquire(ctx context.Context, root *os.Root, name string, mode fs.FileMode) (*Lock, error) {
	for {
		l, err := TryAcquire(root, name, mode)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// TryAcquire is Acquire without waiting: it returns nil when somebody else has the lock.
func TryAcquire(root *os.Root, name string, mode fs.FileMode) (*Lock, error) {
	info, before := root.Lstat(name)
	if before == nil && !info.Mode().IsRegular() { // a link would be followed, and its file made
		return nil, notRegular(name, info)
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, mode)
	if errors.Is(err, fs.ErrPermission) { // another user's, who holds it or was killed: to lock it one need not write it
		if there, openErr := root.Open(name); openErr == nil {
			f, err = there, nil
		}
	}
	if err != nil {
		return nil, err
	}
	ok, err := Try(f, true)
	if ok {
		ok, err = Current(root, name, f)
	}
	if ok {
		return &Lock{root, name, f}, nil
	}
	f.Close()
	if err != nil && errors.Is(before, fs.ErrNotExist) { // it was made for a lock that is not to be had
		_ = root.Remove(name)
	}
	return nil, err
}

// Unsupported reports whether an error says that the file system has no locks, as NFS has none without its daemon.
func Unsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.ENOLCK)
}

// Release gives the lock back. The file goes while it is still locked; who has opened it before will see that it is not the current one. On Windows
// it stays: while others have it open, its name can neither go nor be used again.
func (l *Lock) Release() {
	if runtime.GOOS != "windows" {
		_ = l.root.Remove(l.name) // a file that stays is used again
	}
	l.file.Close()
}

// Current reports whether f is the file that name leads to now. It may have been taken away between being opened and being locked.
func Current(root *os.Root, name string, f *os.File) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := root.Lstat(name)
	switch {
	case os.IsNotExist(err):
		return false, nil
	case err != nil:
		return false, err
	case !there.Mode().IsRegular():
		return false, notRegular(name, there)
	}
	return os.SameFile(mine, there), nil
}

func notRegular(name string, info fs.FileInfo) error {
	return &fs.PathError{Op: "lock", Path: name, Err: fmt.Errorf("found %s, expected a regular file, which may be deleted", info.Mode())}
}

// Wait waits until it has f's lock.
func Wait(ctx context.Context, f *os.File, exclusive bool) error {
	for {
		ok, err := Try(f, exclusive)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

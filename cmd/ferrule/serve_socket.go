package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// listenUnix listens at a unix socket that only this user may connect to. One that somebody has left behind it takes away; one that answers, and anything else that is
// there, it does not.
func listenUnix(ctx context.Context, flag, path string) (net.Listener, error) {
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		return nil, usage(flag+" "+path+", a path of "+plural(len(path), "byte"), plural(most, "byte")+" at most, which is all that sockets can have", "")
	}
	unusable := func(err error) error { return &exit{code: exitUsage, err: &unread{flag, path, err}} } // whatever file beside it the error is of
	release, err := turn(ctx, path)
	var given *exit
	switch {
	case err == nil:
	case ctx.Err() != nil || errors.As(err, &given):
		return nil, err
	default:
		return nil, unusable(err)
	}
	defer release()
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, unusable(err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, usage(flag+" "+path+", where there is something else", "nothing there, or a socket that was left behind", "Name another path")
	default:
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			conn.Close()
			return nil, inUse(path, nil)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, refusedHere) && !errors.Is(err, fs.ErrNotExist):
			return nil, inUse(path, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, unusable(err)
		}
	}
	l, err := (&net.ListenConfig{Control: private}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, unusable(err)
	}
	own := &ownSocket{Listener: l, path: path}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // by then it may be another one's
	if err = os.Chmod(path, 0o600); err == nil {
		own.file, err = os.Lstat(path)
	}
	if err != nil {
		_ = os.Remove(path)
		l.Close()
		return nil, unusable(err)
	}
	return own, nil
}

// inUse is the error of a socket that answers, or may.
func inUse(path string, err error) error {
	found := "a socket at " + path + " on which somebody listens"
	if err != nil {
		found = "a socket at " + path + " that may be in use (" + err.Error() + ")"
	}
	return &exit{code: exitFailed, err: &wrong{found, "none, or one that was left behind", "Name another path, or end who listens there"}}
}

// ownSocket is a listener whose socket is taken away at its end, where it still is its own.
type ownSocket struct {
	net.Listener
	path string
	file fs.FileInfo

	once sync.Once
	err  error
}

// Close is net.Listener's.
func (o *ownSocket) Close() error {
	o.once.Do(func() { // by the second time it may be another one's, of the same number
		if now, err := os.Lstat(o.path); err == nil && os.SameFile(now, o.file) {
			_ = os.Remove(o.path) // first: as long as this one listens nobody else takes its place
		}
		o.err = o.Listener.Close()
	})
	return o.err
}

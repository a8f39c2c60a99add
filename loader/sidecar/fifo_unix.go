//go:build unix

package sidecar

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/eager"
	"github.com/ferrule-dev/ferrule/loader/sidecar/link"
)

// fifos are the host's ends of two FIFOs.
type fifos struct {
	in, out *os.File // the sidecar reads in, and writes out
	begun   bool     // something came: from then on, an end is the end
	eager   *eager.Reader
	rooms   [2]room // of in and out
	once    sync.Once
	closed  chan struct{}
}

// openFIFOs opens the two, as soon as nobody has a session over them, and the sidecar has opened its end of in.
func openFIFOs(ctx context.Context, in, out string) (link.Stream, error) {
	f := &fifos{closed: make(chan struct{})}
	var err error
	if f.out, err = openFIFO(out, unix.O_RDONLY); err != nil {
		return nil, err
	}
	if err = left(ctx, f.out, out); err != nil {
		f.out.Close()
		return nil, err
	}
	for {
		// Not to block is what tells that nobody is there, and has package os wait without a thread.
		if f.in, err = openFIFO(in, unix.O_WRONLY); err == nil {
			break
		}
		if !errors.Is(err, syscall.ENXIO) { // nobody reads it
			f.out.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.out.Close()
			return nil, err
		case <-time.After(again):
		}
	}
	f.eager = eager.New(f.out)
	return f, nil
}

// left reads what a session that is over has left for a host that did not read it, up to its end. Until then the sidecar has the FIFO open, and a hello would be of that session.
func left(ctx context.Context, out *os.File, path string) error {
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for unread := make([]byte, 4<<10); ; {
		_, err := out.Read(unread)
		switch {
		case err == nil:
		case err == io.EOF:
			return nil
		case ctx.Err() != nil:
			return &inspect.Error{Kind: loader.ErrRead, Found: "a session over " + path + " that is not over", Expected: "none: two FIFOs are one session at a time",
				Remedy: "End its host, or the sidecar where it does not close the FIFO at a session's end (rule W17 of docs/wire.md)"}
		default:
			return err
		}
	}
}

func openFIFO(path string, mode int) (*os.File, error) {
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		f.Close()
		if err == nil {
			err = &inspect.Error{Kind: loader.ErrNotRegular, Found: "no FIFO at " + path, Expected: "one (mkfifo)", Remedy: "Check the path"}
		}
		return nil, err
	}
	return f, nil
}

// Read reads what the sidecar writes. Before it has opened its end, there is nothing, and not the end.
func (f *fifos) Read(b []byte) (int, error) { return f.read(f.out.Read, b) }

// Eagerly is Read, as package eager has it.
func (f *fifos) Eagerly(b []byte) (int, error) { return f.read(f.eager.Eagerly, b) }

func (f *fifos) read(from func(b []byte) (int, error), b []byte) (int, error) {
	for {
		n, err := from(b)
		if n > 0 {
			f.begun = true
			f.rooms[1].had(f.out, n)
		}
		if err != io.EOF || f.begun {
			return n, err
		}
		select {
		case <-f.closed:
			return 0, os.ErrClosed
		case <-time.After(again):
		}
	}
}

func (f *fifos) Write(b []byte) (int, error) {
	f.rooms[0].had(f.in, len(b))
	return f.in.Write(b)
}

func (f *fifos) SetReadDeadline(t time.Time) error { return f.out.SetReadDeadline(t) }

func (f *fifos) Close() error {
	f.once.Do(func() {
		close(f.closed)
		for i := range f.rooms {
			f.rooms[i].close()
		}
		f.in.Close()
		f.out.Close()
	})
	return nil
}

func openNamedPipe(context.Context, string) (link.Stream, error) {
	return nil, &inspect.Error{Kind: loader.ErrOption, Found: "npipe: on a system that is not Windows", Expected: "unix:PATH or fifo:IN,OUT", Remedy: "Give such a URL"}
}

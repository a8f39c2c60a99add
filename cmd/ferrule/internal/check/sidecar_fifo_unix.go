//go:build unix

package check

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// fifos are a host's ends of two FIFOs.
type fifos struct {
	in, out *os.File
	begun   bool
	closed  atomic.Bool
}

// openFIFOs opens the two, as soon as the sidecar has closed the second, at the end of the session before, and reads the first.
func openFIFOs(ctx context.Context, in, out string) (twoWay, error) {
	f := &fifos{}
	var err error
	if f.out, err = os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	if err = left(ctx, f.out); err != nil {
		f.out.Close()
		return nil, err
	}
	for {
		if f.in, err = os.OpenFile(in, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			break
		}
		if !errors.Is(err, syscall.ENXIO) {
			f.out.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.out.Close()
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
	return f, nil
}

// left reads what the session before has left in a FIFO, up to its end.
func left(ctx context.Context, out *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.Copy(io.Discard, struct{ io.Reader }{out})
	if ctx.Err() != nil && err != nil {
		err = errors.New("the sidecar has not closed " + out.Name() + " at the end of a session (rule W17 of docs/wire.md)")
	}
	return err
}

// Read takes the end for one only once something has come: before, the sidecar has not opened its end.
func (f *fifos) Read(b []byte) (int, error) {
	for {
		n, err := f.out.Read(b)
		f.begun = f.begun || n > 0
		if err != io.EOF || f.begun || f.closed.Load() {
			return n, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *fifos) Write(b []byte) (int, error) { return f.in.Write(b) }
func (f *fifos) CloseWrite() error           { return f.in.Close() }

func (f *fifos) Close() error {
	f.closed.Store(true)
	return errors.Join(f.in.Close(), f.out.Close())
}

func openNamedPipe(context.Context, string) (twoWay, error) {
	return nil, &inspect.Error{Kind: inspect.ErrRead, Found: "npipe: on a system that is not Windows", Expected: "unix:PATH or fifo:IN,OUT"}
}

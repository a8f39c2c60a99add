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

// openFIFOs opens the two, as soon as the sidecar reads the first.
func openFIFOs(ctx context.Context, in, out string) (twoWay, error) {
	f := &fifos{}
	for {
		var err error
		if f.in, err = os.OpenFile(in, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			break
		}
		if !errors.Is(err, syscall.ENXIO) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
	var err error
	if f.out, err = os.OpenFile(out, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		f.in.Close()
		return nil, err
	}
	return f, nil
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

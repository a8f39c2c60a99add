package check

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

func openFIFOs(context.Context, string, string) (twoWay, error) {
	return nil, &inspect.Error{Kind: inspect.ErrRead, Found: "fifo: on Windows", Expected: "npipe:NAME or tcp:HOST:PORT"}
}

// namedPipe is a host's end of a pipe by name, whose two directions end together.
type namedPipe struct{ *os.File }

func (namedPipe) CloseWrite() error { return nil }

// openNamedPipe opens \\.\pipe\NAME, for reading and writing at the same time, as soon as there is one that is free.
func openNamedPipe(ctx context.Context, name string) (twoWay, error) {
	if !strings.HasPrefix(name, `\\`) {
		name = `\\.\pipe\` + name
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	for {
		// Without FILE_FLAG_OVERLAPPED a write would wait for the read that waits. The sidecar gets no more than this process's name.
		handle, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING,
			windows.FILE_FLAG_OVERLAPPED|windows.SECURITY_SQOS_PRESENT|windows.SECURITY_IDENTIFICATION, 0)
		if err == nil {
			return namedPipe{os.NewFile(uintptr(handle), name)}, nil
		}
		if !errors.Is(err, windows.ERROR_PIPE_BUSY) && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		select {
		case <-ctx.Done():
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		case <-time.After(5 * time.Millisecond):
		}
	}
}

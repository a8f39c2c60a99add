package sidecar

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/link"
)

func openFIFOs(context.Context, string, string) (link.Stream, error) {
	return nil, &inspect.Error{Kind: loader.ErrOption, Found: "fifo: on Windows", Expected: "npipe:NAME or tcp:HOST:PORT", Remedy: "Give such a URL"}
}

// openNamedPipe opens \\.\pipe\NAME, for reading and writing at the same time, as soon as there is one that is free.
func openNamedPipe(ctx context.Context, name string) (link.Stream, error) {
	if !strings.HasPrefix(name, `\\`) {
		name = `\\.\pipe\` + name
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	for {
		// Without FILE_FLAG_OVERLAPPED a write would wait for the read that waits. The server gets no more than this process's name.
		handle, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING,
			windows.FILE_FLAG_OVERLAPPED|windows.SECURITY_SQOS_PRESENT|windows.SECURITY_IDENTIFICATION, 0)
		if err == nil {
			return os.NewFile(uintptr(handle), name), nil
		}
		if !errors.Is(err, windows.ERROR_PIPE_BUSY) && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		select {
		case <-ctx.Done():
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		case <-time.After(again):
		}
	}
}

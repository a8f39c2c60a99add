package worker

import (
	"os"

	"golang.org/x/sys/windows"
)

// keep makes an inherited handle this process's own: what the plug-in starts does not inherit it.
func keep(handle uintptr) {
	_ = windows.SetHandleInformation(windows.Handle(handle), windows.HANDLE_FLAG_INHERIT, 0)
}

// closeOthers does nothing: the host has listed what this process inherits, which is what its layer "own handles" says.
func closeOthers([]uintptr) bool { return false }

// prepareLibc does nothing: each library may have a C library of its own.
func prepareLibc() {}

// leave ends the process after an orderly stop. The system tells the libraries, whose C libraries then write what they have
// buffered, and run their handlers of atexit.
func leave() { os.Exit(0) }

// dieWithHost ends the process when the host is gone. The system does that by itself, when the host's job object goes with
// it; this is for a host that was gone before this process was put into the job. It reads past os.File, so that a handle
// that the plug-in has closed is no reason to end.
func dieWithHost(alive *os.File) {
	var one [1]byte
	var n uint32
	for {
		switch err := windows.ReadFile(windows.Handle(alive.Fd()), one[:], &n, nil); err {
		case nil:
		case windows.ERROR_BROKEN_PIPE:
			os.Exit(0)
		default:
			return
		}
	}
}

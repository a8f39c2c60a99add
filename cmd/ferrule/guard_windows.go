package main

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/windows"
)

// inherit has the guarded child inherit files.
func inherit(cmd *exec.Cmd, files ...*os.File) error {
	value := ""
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	for _, f := range files {
		h := syscall.Handle(f.Fd())
		if err := windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT,
			windows.HANDLE_FLAG_INHERIT); err != nil {
			return err
		}
		cmd.SysProcAttr.AdditionalInheritedHandles = append(cmd.SysProcAttr.AdditionalInheritedHandles, h)
		value += " " + strconv.FormatUint(uint64(h), 10)
	}
	cmd.Env = append(os.Environ(), guardEnv+"="+value)
	return nil
}

// inherited are the files in a guarded child. What that starts does not inherit them.
func inherited(values []string) (files []*os.File, err error) {
	for _, value := range values {
		h, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, err
		}
		if err := windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT, 0); err != nil {
			return nil, err
		}
		files = append(files, os.NewFile(uintptr(h), "inherited"))
	}
	return files, nil
}

// surrender does nothing here: a fault ends the process with the Go runtime's own report.
func surrender() {}

// flusher returns a function that writes out what is in the buffers of the C libraries' streams: this process ends without
// C's exit.
func flusher() func() { return flushLibraries }

func flushLibraries() {
	for _, name := range []string{"ucrtbase.dll", "msvcrt.dll"} {
		var library windows.Handle
		text, err := windows.UTF16PtrFromString(name)
		if err != nil || windows.GetModuleHandleEx(windows.GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, text, &library) != nil {
			continue // nothing has loaded it
		}
		if flush, err := windows.GetProcAddress(library, "fflush"); err == nil {
			_, _, _ = syscall.SyscallN(flush, 0)
		}
	}
}

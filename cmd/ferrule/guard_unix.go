//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// inherit has the guarded child inherit files.
func inherit(cmd *exec.Cmd, files ...*os.File) error {
	value := ""
	for i := range files {
		value += " " + strconv.Itoa(3+i)
	}
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), guardEnv+"="+value)
	return nil
}

// inherited are the files in a guarded child. What that starts does not inherit them.
func inherited(values []string) (files []*os.File, err error) {
	for _, value := range values {
		fd, err := strconv.Atoi(value)
		if err != nil || fd < 3 {
			return nil, errors.New("no descriptor")
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, err
		}
		files = append(files, os.NewFile(uintptr(fd), "inherited"))
	}
	return files, nil
}

// surrender gives the signals of faults back to the system, so that a fault of the plug-in's ends this process with the
// signal itself. The Go runtime would print its own state, which says nothing about the plug-in, and exit with code 2.
func surrender() {
	signal, err := purego.Dlsym(purego.RTLD_DEFAULT, "signal")
	if err != nil {
		return // a fault ends the process with the runtime's report
	}
	const systemDefault = 0 // SIG_DFL
	for _, s := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGABRT,
		syscall.SIGTRAP, syscall.SIGSYS} {
		_, _, _ = purego.SyscallN(signal, uintptr(s), systemDefault)
	}
}

// flusher returns a function that writes out what is in the buffers of the C library's streams: this process ends without
// C's exit. It is looked up beforehand: the system's loader may wait for a plug-in's constructor later.
func flusher() func() {
	flush, err := purego.Dlsym(purego.RTLD_DEFAULT, "fflush")
	if err != nil {
		return func() {}
	}
	return func() { _, _, _ = purego.SyscallN(flush, 0) }
}

//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is what these systems need to wait for a process without reaping it: a kernel queue that tells of its end.
// Built, not run: see docs/macos.md for what it relies on.
type system struct{ queue int } // -1 when it ended before the queue was told of it

// layers is empty: nothing but the program itself ends it when this process is gone.
func (system) layers() []string { return nil }

// byPath returns the path that the program is started by, and what it inherits.
func (c *Command) byPath() (string, []*os.File) { return c.Path, c.Files }

// start makes the process.
func (p *alone) start(binary string, argv []string, attr *os.ProcAttr) (err error) {
	attr.Sys = &syscall.SysProcAttr{Setsid: true}
	if p.queue, err = unix.Kqueue(); err != nil { // a child does not inherit it
		return os.NewSyscallError("kqueue", err)
	}
	if p.Process, err = os.StartProcess(binary, argv, attr); err != nil {
		_ = unix.Close(p.queue)
		return err
	}
	var exit unix.Kevent_t
	unix.SetKevent(&exit, p.Pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit.Fflags = unix.NOTE_EXIT
	for {
		_, err = unix.Kevent(p.queue, []unix.Kevent_t{exit}, nil, nil)
		if err != unix.EINTR {
			break
		}
	}
	switch err {
	case nil:
		return nil
	case unix.ESRCH: // a zombie by now, or about to be one: it is this process's child, and nobody else reaps it
		_ = unix.Close(p.queue)
		p.queue = -1
		return nil
	}
	_ = unix.Close(p.queue)
	_ = p.Process.Kill()
	_, _ = p.Process.Wait()
	return os.NewSyscallError("kevent", err)
}

// ended waits for the process to end, and does not reap it.
func (p *alone) ended() {
	if p.queue < 0 {
		return
	}
	defer unix.Close(p.queue)
	events := make([]unix.Kevent_t, 1)
	for {
		if n, err := unix.Kevent(p.queue, nil, events, nil); n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

// endSession does nothing: these systems do not tell which processes are in a session.
func endSession(int) {}

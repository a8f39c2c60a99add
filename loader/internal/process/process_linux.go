package process

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is what this system needs to know of a process: nothing but its number.
type system struct{}

func (system) layers() []string { return []string{"dies with the host"} }

// byPath returns the path that the program is started by, and what it inherits: that of its descriptor, which it has to inherit
// for that.
func (c *Command) byPath() (string, []*os.File) {
	n := len(c.Files)
	if c.ByPath || c.Program == nil {
		return c.Path, c.Files
	}
	return "/proc/self/fd/" + strconv.Itoa(n), append(c.Files[:n:n], c.Program)
}

// start makes the process.
func (p *alone) start(binary string, argv []string, attr *os.ProcAttr) (err error) {
	attr.Sys = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	onForkThread(func() { p.Process, err = os.StartProcess(binary, argv, attr) })
	return err
}

// forks are served by one thread that never ends: the parent-death signal is sent when the thread ends that started the
// process, not the process that it is part of.
var (
	forks    chan func()
	forkOnce sync.Once
)

func onForkThread(fn func()) {
	forkOnce.Do(func() {
		forks = make(chan func())
		go func() {
			runtime.LockOSThread()
			for fn := range forks {
				fn()
			}
		}()
	})
	done := make(chan struct{})
	forks <- func() { defer close(done); fn() }
	<-done
}

// ended waits for the process to end, and does not reap it.
func (p *alone) ended() {
	for {
		if err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

// endSession ends the processes of a session whose leader has ended and was not reaped, so that its number is its own.
// They may start others meanwhile.
func endSession(session int) {
	for range 10 {
		found := false
		for _, pid := range processes() {
			if state, of := stat(pid); of == session && state != 'Z' && pid != session {
				found = true
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if !found {
			return
		}
	}
}

// processes returns those that this one sees: none where /proc is of another PID namespace, whose numbers are others' here.
func processes() (pids []int) {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat returns a process's state, as a letter, and its session.
func stat(pid int) (state byte, session int) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 'Z', 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name before may have blanks in it
	if len(fields) < 4 {
		return 'Z', 0
	}
	session, _ = strconv.Atoi(fields[3])
	return fields[0][0], session
}

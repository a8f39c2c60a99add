package isolated

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is what this system needs to know of a process: nothing but its number.
type system struct{}

func (system) layers() []string { return []string{"dies with the host"} }

// start starts the process.
func (p *process) start(binary string, argv []string, attr *os.ProcAttr) (err error) {
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
func (p *process) ended() {
	for {
		if err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

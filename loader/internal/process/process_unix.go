//go:build unix

package process

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// alone is a process without a keeper.
type alone struct {
	*os.Process
	system

	mu     sync.Mutex
	reaped bool // its number may be another process's
}

// Variables are added to every program's environment where it does not set them: there are none here.
var Variables []string

// start is Start.
func start(ctx context.Context, c *Command) (Child, error) {
	var handles []uintptr
	for i := 3; i < len(c.Files); i++ {
		handles = append(handles, uintptr(i))
	}
	env := c.environment(handles)
	child, err := startKept(ctx, c, env)
	if err == errNoKeeper {
		return startAlone(c, env)
	}
	return child, err
}

// errNoKeeper says that a program is to be started without a keeper.
var errNoKeeper = errors.New("there are no keepers here")

// startAlone starts a program without a keeper.
func startAlone(c *Command, env []string) (Child, error) {
	p := new(alone)
	path, files := c.byPath()
	if err := p.start(path, c.Args, &os.ProcAttr{Dir: "/", Env: env, Files: files}); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *alone) PID() int { return p.Pid }

func (p *alone) OS() *os.Process { return p.Process }

func (p *alone) Layers() []string { return append([]string{"no terminal"}, p.system.layers()...) }

// Kill ends the process and those that it has started, as long as they have not left its session. A process that may not be
// killed, because this one has given up its rights since, goes on.
func (p *alone) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.Pid, unix.SIGKILL)
		_ = unix.Kill(p.Pid, unix.SIGKILL)
	}
}

func (p *alone) Wait() (os.Signal, int) {
	p.ended() // without reaping it: its number stays its own, so that Kill meets nobody else
	p.Kill()
	endSession(p.Pid)
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	state, err := p.Process.Wait()
	if err != nil {
		return nil, -1
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal(), -1
	}
	return nil, state.ExitCode()
}

func (p *alone) Unsaid() string { return unsaidBySystem }

// Bury has nothing to wait for.
func (p *alone) Bury() {}

// OutOfTime reports whether a signal is the one of a process that has used up its limit of processor time.
func OutOfTime(signal os.Signal) bool { return signal == syscall.SIGXCPU }

// Explain says in words what an exit code means to the system: here nothing, faults are signals.
func Explain(int) string { return "" }

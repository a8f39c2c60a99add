//go:build unix

package host

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
)

// process is a worker's process.
type process struct {
	*os.Process
	system
	alive *os.File // the end of a pipe that is closed when this process ends

	mu     sync.Mutex
	reaped bool   // its number may be another process's
	bare   string // the layer that its environment is; may be empty
}

// openFlags are what a program's file is opened with: what is at its path may be a pipe by now, on which opening would wait.
const openFlags = unix.O_NONBLOCK | unix.O_NOCTTY

// start starts x as a worker that inherits files, and writes its streams to output. ctx is how long to wait for it.
func start(ctx context.Context, x *executable, name string, env []string, sandbox bool, files []*os.File, output *tail) (child, *os.Process, error) {
	f, err := newOutfit()
	if err != nil {
		return nil, nil, err
	}
	inherited := append([]*os.File{f.null, f.inner[0], f.inner[0], f.inner[1]}, files...)
	var handles []uintptr
	for i := range inherited[3:] {
		handles = append(handles, uintptr(3+i))
	}
	bare := bareLayer(env)
	env = append(env[:len(env):len(env)], workerside.Variable+"="+workerside.Value(sandbox, handles...))
	c, err := startKept(ctx, x, name, env, inherited, f.alive, bare)
	if err == errNoKeeper {
		c, err = startAlone(x, name, env, inherited, f.alive, bare)
	}
	if err != nil {
		f.close()
		return nil, nil, err
	}
	f.started(output)
	return c, nil, nil
}

// errNoKeeper says that a worker is to be started without a keeper.
var errNoKeeper = errors.New("there are no keepers here")

// startAlone starts a worker without a keeper.
func startAlone(x *executable, name string, env []string, files []*os.File, alive *os.File, bare string) (child, error) {
	p := &process{alive: alive, bare: bare}
	path, files := x.byPath(files)
	if err := p.start(path, []string{name}, &os.ProcAttr{Dir: "/", Env: env, Files: files}); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.Pid }

// layers are what the process itself has of a sandbox.
func (p *process) layers() []string {
	layers := append([]string{"own session"}, p.system.layers()...)
	if p.bare != "" {
		layers = append(layers, p.bare)
	}
	return layers
}

// kill ends the process and those that it has started, as long as they have not left its session. A process that may not
// be killed, because this one has given up its rights since, ends by itself: the pipe is closed by which it knows that its
// host is there.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive.Close()
	if !p.reaped {
		_ = unix.Kill(-p.Pid, unix.SIGKILL)
		_ = unix.Kill(p.Pid, unix.SIGKILL)
	}
}

// wait waits for the process to end, and says how.
func (p *process) wait() (os.Signal, int) {
	p.ended() // without reaping it: its number stays its own, so that kill meets nobody else
	p.kill()
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

func (p *process) unsaid() string { return unsaidBySystem }

// bury has nothing to wait for.
func (p *process) bury() {}

// outOfTime reports whether a signal is the one of a process that has used up its limit of processor time.
func outOfTime(signal os.Signal) bool { return signal == syscall.SIGXCPU }

// explain says in words what an exit code means to the system: here nothing, faults are signals.
func explain(int) string { return "" }

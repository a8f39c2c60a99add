//go:build unix

package isolated

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	workerside "github.com/ferrule-dev/ferrule/loader/internal/worker"
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

// outfit is what a worker's process begins with, and what its host keeps of that.
type outfit struct {
	files         []*os.File // its descriptors, from 0 on
	env           []string
	output, alive *os.File    // the host's: the end that its output is read from, and the one that tells that the host is there
	inner         [2]*os.File // the other ends
}

// newOutfit makes one of the environment and the files that a worker is to have.
func newOutfit(env []string, sandbox bool, files []*os.File) (f *outfit, err error) {
	f = new(outfit)
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.output, f.inner[0], err = os.Pipe(); err != nil {
		return nil, err
	}
	if f.inner[1], f.alive, err = os.Pipe(); err != nil {
		return nil, err
	}
	null, err := nullFile()
	if err != nil {
		return nil, err
	}
	f.files = append([]*os.File{null, f.inner[0], f.inner[0], f.inner[1]}, files...)
	var handles []uintptr
	for i := range f.files[3:] {
		handles = append(handles, uintptr(3+i))
	}
	f.env = append(env[:len(env):len(env)], workerside.Variable+"="+workerside.Value(sandbox, handles...))
	return f, nil
}

// started is called when the process has its own.
func (f *outfit) started(output *tail) {
	f.inner[0].Close()
	f.inner[1].Close()
	output.read(f.output)
}

// close is called when there is no process.
func (f *outfit) close() {
	for _, file := range []*os.File{f.output, f.alive, f.inner[0], f.inner[1]} {
		if file != nil {
			file.Close()
		}
	}
}

// startProcess starts x as a worker that inherits files, and writes its streams to output.
func startProcess(x *executable, name string, env []string, sandbox bool, files []*os.File, output *tail) (*process, error) {
	f, err := newOutfit(env, sandbox, files)
	if err != nil {
		return nil, err
	}
	p := &process{alive: f.alive, bare: bareLayer(env)}
	path, all := x.byPath(f.files)
	if err := p.start(path, []string{name}, &os.ProcAttr{Dir: "/", Env: f.env, Files: all}); err != nil {
		f.close()
		return nil, err
	}
	f.started(output)
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

// explain says in words what an exit code means to the system: here nothing, faults are signals.
func explain(int) string { return "" }

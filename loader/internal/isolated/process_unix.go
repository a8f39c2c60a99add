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

// startProcess starts binary as a worker that inherits files, and writes its streams to output.
func startProcess(binary, name string, env []string, sandbox bool, files []*os.File, output *tail) (*process, error) {
	var pipes [4]*os.File // output, alive: the read and the write end of each
	var null *os.File
	var err error
	defer func() {
		for _, i := range []int{1, 2} { // the worker's
			if pipes[i] != nil {
				pipes[i].Close()
			}
		}
	}()
	if pipes[0], pipes[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	if pipes[2], pipes[3], err = os.Pipe(); err == nil {
		null, err = nullFile()
	}
	p := &process{alive: pipes[3], bare: bareLayer(env)}
	if err == nil {
		inherited := append([]*os.File{null, pipes[1], pipes[1], pipes[2]}, files...)
		var handles []uintptr
		for i := range inherited[3:] {
			handles = append(handles, uintptr(3+i))
		}
		err = p.start(binary, []string{name}, &os.ProcAttr{
			Dir:   "/",
			Env:   append(env[:len(env):len(env)], workerside.Variable+"="+workerside.Value(sandbox, handles...)),
			Files: inherited,
		})
	}
	if err != nil {
		pipes[0].Close()
		if pipes[3] != nil {
			pipes[3].Close()
		}
		return nil, err
	}
	output.read(pipes[0])
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

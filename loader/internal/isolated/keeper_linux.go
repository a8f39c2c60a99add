//go:build amd64 || arm64

package isolated

import (
	"errors"
	"os"
	"syscall"

	"github.com/ferrule-dev/ferrule/loader/internal/keeper"
	workerside "github.com/ferrule-dev/ferrule/loader/internal/worker"
)

// kept is a worker's process under a keeper, which ends all that it has started.
type kept struct {
	*keeper.Process
	bare string
}

// withKeeper is whether workers are started under keepers where there are some. Tests set it.
var withKeeper = true

// startKept is startProcess with a keeper. The error is errNoKeeper where there is none to be had.
func startKept(x *executable, name string, env []string, sandbox bool, files []*os.File, output *tail) (child, error) {
	if !withKeeper || x.file == nil || 4+len(files) > keeper.MaxFiles {
		return nil, errNoKeeper
	}
	var pipes [4]*os.File // output, alive: the read and the write end of each
	var null *os.File
	var err error
	started := false
	defer func() {
		for i, f := range pipes {
			if f != nil && !(started && i == 0) {
				f.Close()
			}
		}
	}()
	if pipes[0], pipes[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	if pipes[2], pipes[3], err = os.Pipe(); err != nil {
		return nil, err
	}
	if null, err = nullFile(); err != nil {
		return nil, err
	}
	inherited := append([]*os.File{null, pipes[1], pipes[1], pipes[2]}, files...)
	var handles []uintptr
	for i := range inherited[3:] {
		handles = append(handles, uintptr(3+i))
	}
	c := keeper.Command{Program: x.file, Root: x.root, Args: []string{name}, Files: inherited,
		Env: append(env[:len(env):len(env)], workerside.Variable+"="+workerside.Value(sandbox, handles...))}
	p, err := keeper.Start(c, pipes[3], onForkThread)
	var exec *keeper.ExecError
	if err == keeper.ErrUnsupported || errors.As(err, &exec) {
		return nil, errNoKeeper
	}
	if err != nil {
		return nil, err
	}
	started = true
	output.read(pipes[0])
	return &kept{p, bareLayer(env)}, nil
}

func (k *kept) pid() int { return k.PID() }

// layers are what the process itself has of a sandbox.
func (k *kept) layers() []string {
	layers := []string{"own session", "dies with the host", "leaves no processes"}
	if k.bare != "" {
		layers = append(layers, k.bare)
	}
	return layers
}

func (k *kept) kill() { k.Kill() }

func (k *kept) wait() (os.Signal, int) {
	status, ok := k.Wait()
	switch {
	case !ok: // somebody has killed the keeper; the kernel kills the worker then
		return nil, -1
	case status.Signaled():
		return status.Signal(), -1
	}
	return nil, syscall.WaitStatus(status).ExitStatus()
}

func (k *kept) bury() { k.Bury() }

//go:build amd64 || arm64

package host

import (
	"context"
	"os"
	"syscall"

	"github.com/ferrule-dev/ferrule/loader/internal/process/keeper"
)

// kept is a worker's process under a keeper, which ends all that it has started.
type kept struct {
	*keeper.Process
	alive *os.File // the end of a pipe that is closed when this process ends: the worker ends by that, too
	bare  string
}

// withKeeper is whether workers are started under keepers where there are some. Tests set it.
var withKeeper = true

// startKept starts a worker under a keeper. The error is errNoKeeper where the system has none; what may be over the next time
// is an error like others.
func startKept(ctx context.Context, x *executable, name string, env []string, files []*os.File, alive *os.File, bare string) (child, error) {
	if !withKeeper || x.file == nil {
		return nil, errNoKeeper
	}
	p, err := keeper.Start(ctx, keeper.Command{Program: x.file, Root: x.root, Args: []string{name}, Files: files, Env: env}, onForkThread)
	switch err {
	case nil:
		return &kept{p, alive, bare}, nil
	case keeper.ErrUnsupported:
		return nil, errNoKeeper
	}
	return nil, err
}

func (k *kept) pid() int { return k.PID() }

// layers are what the process itself has of a sandbox.
func (k *kept) layers() []string {
	layers := []string{"own session", "dies with the host"}
	if keeper.FindsAll() {
		layers = append(layers, "leaves no processes")
	}
	if k.bare != "" {
		layers = append(layers, k.bare)
	}
	return layers
}

// kill ends the worker in two ways that do not need its keeper, which may be stopped. The second one is for a host that has
// given up the right to kill it.
func (k *kept) kill() {
	k.Kill()
	k.alive.Close()
}

func (k *kept) wait() (os.Signal, int) {
	status, ok := k.Wait()
	switch {
	case !ok:
		return nil, -1
	case status.Signaled():
		return status.Signal(), -1
	}
	return nil, syscall.WaitStatus(status).ExitStatus()
}

func (k *kept) unsaid() string {
	return "ended by the host, because somebody had killed its keeper; what it had started may be there still"
}

func (k *kept) bury() { k.Bury() }

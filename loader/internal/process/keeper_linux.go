//go:build amd64 || arm64

package process

import (
	"context"
	"os"

	"github.com/ferrule-dev/ferrule/loader/internal/process/keeper"
)

// kept is a program's process under a keeper, which ends all that it has started.
type kept struct{ *keeper.Process }

// startKept starts a program under a keeper. The error is errNoKeeper where the system has none; what may be over the next time
// is an error like others.
func startKept(ctx context.Context, c *Command, env []string) (Child, error) {
	if c.Alone || c.Program == nil {
		return nil, errNoKeeper
	}
	p, err := keeper.Start(ctx, keeper.Command{Program: c.Program, Root: c.Root, Args: c.Args, Files: c.Files, Env: env}, onForkThread)
	switch err {
	case nil:
		return kept{p}, nil
	case keeper.ErrUnsupported:
		return nil, errNoKeeper
	}
	return nil, err
}

func (kept) OS() *os.Process { return nil }

func (kept) Layers() []string {
	layers := []string{"no terminal", "dies with the host"}
	if keeper.FindsAll() {
		layers = append(layers, "leaves no processes")
	}
	return layers
}

func (k kept) Wait() (os.Signal, int) {
	status, ok := k.Process.Wait()
	switch {
	case !ok:
		return nil, -1
	case status.Signaled():
		return status.Signal(), -1
	}
	return nil, status.ExitStatus()
}

func (kept) Unsaid() string {
	return "ended by the host, because somebody had killed its keeper; what it had started may be there still"
}

package host

import (
	"context"
	"os"

	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// started is a worker's process.
type started struct {
	process.Child
	alive *os.File // the end of a pipe that is closed when this process ends: the worker ends by that, too
	bare  string   // the layer that its environment is; may be empty
}

// withKeeper is whether workers are started under keepers where there are some. Tests set it.
var withKeeper = true

// start starts x as a worker that inherits files, and writes its streams to output. ctx is how long to wait for it.
//
// On Windows it is in its job from right after its start: until then, if this process ends, it finds out by the pipe and ends, too.
// Nothing of the plug-in runs before this function returns.
func start(ctx context.Context, x *executable, name string, env []string, sandbox bool, files []*os.File, output *process.Tail) (process.Child, error) {
	f, err := newOutfit()
	if err != nil {
		return nil, err
	}
	c := x.command()
	c.Args, c.Env, c.Alone = []string{name}, env, !withKeeper
	c.Files = append([]*os.File{f.null, f.inner[0], f.inner[0], f.inner[1]}, files...)
	c.Tell = func(handles []uintptr) []string {
		return []string{workerside.Variable + "=" + workerside.Value(sandbox, handles...)}
	}
	child, err := process.Start(ctx, c)
	if err != nil {
		f.close()
		return nil, err
	}
	f.started(output)
	return &started{child, f.alive, bareLayer(env)}, nil
}

// Layers are what the process itself has of a sandbox.
func (s *started) Layers() []string {
	layers := s.Child.Layers()
	if s.bare != "" {
		layers = append(layers, s.bare)
	}
	return layers
}

// Kill ends the worker in two ways. The second one is for a host that has given up the right to kill it.
func (s *started) Kill() {
	s.Child.Kill()
	s.alive.Close()
}

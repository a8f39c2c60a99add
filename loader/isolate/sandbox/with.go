package sandbox

import (
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/host"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func init() {
	mark.OfSandbox()
	if requested, sandbox := worker.Requested(); requested && sandbox {
		worker.Main(apply)
	}
}

// With puts the worker under the policy before it opens the plug-in's library. It is given once: a second one is an error. The policy
// is copied when isolate.InWorker is called.
//
// Open fails with an *loader.OpenError of the kind loader.ErrOption where the policy makes no sense, and of the kind loader.ErrSandbox where
// this system cannot keep to it, or a path is not there; a call that needs a new worker fails with the latter when a path leads to
// something else by then. What keeps to it is in Plugin.Isolation's Layers.
func With(p Policy) isolate.Option {
	return func(o *host.Options) error {
		if err := o.Once("sandbox.With"); err != nil {
			return err
		}
		p, err := p.absolute()
		if err != nil {
			e := *err.(*loader.OpenError) // every error of absolute's is a mistake in the policy
			e.Kind = loader.ErrOption
			return &e
		}
		o.Sandbox, o.Memory, o.Time, o.CPU = p.resolve, p.Memory, p.Time, p.CPU
		return nil
	}
}

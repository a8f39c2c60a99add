package main

import (
	"fmt"
	"slices"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// inWorker is the engine of a library that is to be isolated, in that sandbox where there is one.
func inWorker(policy *sandbox.Policy, opts ...isolate.Option) loader.Option {
	if policy != nil {
		opts = append(slices.Clip(opts), sandbox.With(*policy))
	}
	return isolate.InWorker(opts...)
}

// inModule is the engine of a WebAssembly module that may have what the sandbox's flags say.
func inModule(policy *sandbox.Policy) (loader.Option, error) {
	if policy == nil {
		return engines.Wasm(engine.Permits{})
	}
	if policy.Processes > 0 {
		return nil, usage(fmt.Sprintf("--procs %d for a WebAssembly module", policy.Processes), "none: a module starts no processes", "Leave it out")
	}
	if len(policy.Connect) > 0 {
		return nil, usage("--allow-connect for a WebAssembly module", "none: a module has no network", "Serve it what it needs there by --import, or leave it out")
	}
	return engines.Wasm(engine.Permits{Read: policy.Read, Write: policy.Write, Memory: policy.Memory})
}

package main

import (
	"fmt"
	"slices"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
)

// enginesOfSystem are the engines for the plug-ins of a config.yaml. Which of them the application has is not known: all there are. Nothing is opened with them, and so what
// runs Python may be missing.
func enginesOfSystem() plugins.Option {
	return plugins.Engines(wasm.Engine(), script.Engine(script.WithPython("python.so", nil)))
}

// inWorker is the engine of a library that is to be isolated, in that sandbox where there is one.
func inWorker(policy *sandbox.Policy, opts ...isolate.Option) loader.Option {
	if policy != nil {
		opts = append(slices.Clip(opts), sandbox.With(*policy))
	}
	return isolate.InWorker(opts...)
}

// inBox is the engine of a WebAssembly module, or a script in JavaScript, that may have what the sandbox's flags say.
func inBox(lib *inspect.Library, policy *sandbox.Policy) (loader.Option, error) {
	open, what, it := func(p engine.Permits) (loader.Option, error) { return engines.Wasm(p) }, "a WebAssembly module", "a module"
	if engines.IsJavaScript(lib) {
		open, what, it = func(p engine.Permits) (loader.Option, error) { return engines.JavaScript(p) }, "a script in JavaScript", "such a script"
	}
	if policy == nil {
		return open(engine.Permits{})
	}
	if policy.Processes > 0 {
		return nil, usage(fmt.Sprintf("--procs %d for %s", policy.Processes, what), "none: "+it+" starts no processes", "Leave it out")
	}
	if len(policy.Connect) > 0 {
		return nil, usage("--allow-connect for "+what, "none: "+it+" has no network", "Serve it what it needs there by --import, or leave it out")
	}
	if engines.IsJavaScript(lib) && len(policy.Read)+len(policy.Write) > 0 {
		return nil, usage("--allow-read or --allow-write for "+what, "none: "+it+" has no files but those that it imports", "Serve it what it needs there by --import, or leave it out")
	}
	return open(engine.Permits{Read: policy.Read, Write: policy.Write, Memory: policy.Memory})
}

// adapter is what runs a script in Python, which is built where it is not there yet.
func (a *app) adapter(path string) (string, error) {
	ctx, stop := interruptible(0)
	defer stop()
	return engines.Adapter(ctx, path, func(folder string) {
		fmt.Fprintf(a.err, "ferrule: building what runs scripts in Python, for the first time, into %s\n", escape.Line(folder))
	})
}

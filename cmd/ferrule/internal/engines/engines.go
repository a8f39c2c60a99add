// Package engines has the engines of this command, beside those for libraries: what files of other kinds are opened with.
package engines

import (
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// Memory is how much memory a module has where nothing is permitted, in bytes.
const Memory = wasm.DefaultMemory

// IsModule reports whether a library is a WebAssembly module: it runs in this process, in a sandbox of its own, wherever it is opened, and on every
// system. lib may be nil.
func IsModule(lib *inspect.Library) bool { return lib != nil && lib.Format == inspect.Wasm }

// Wasm is the engine for WebAssembly modules, for a plug-in that may have this.
func Wasm(p engine.Permits, opts ...wasm.Option) (loader.Option, error) {
	e, err := wasm.Engine(opts...).(engine.Permitting).With(p)
	if err != nil {
		return nil, err
	}
	return loader.WithEngine(e), nil
}

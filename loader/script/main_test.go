package script_test

import (
	"path/filepath"
	"testing"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// form is one way to run scripts.
type form struct {
	engine engine.Engine
	ext    string // of the script that has everything
}

func forms(tb testing.TB) map[string]form {
	tb.Helper()
	library, snake := fixture.JavaScriptAdapter(tb), fixture.PythonAdapter(tb)
	return map[string]form{
		"wasm":             {script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled")))), ".js"},
		"library":          {script.Engine(script.WithMemory(64<<20), script.WithAdapter(library, loader.Native())), ".js"},
		"worker":           {script.Engine(script.WithMemory(64<<20), script.WithAdapter(library, isolate.Engine())), ".js"},
		"python":           {script.Engine(script.WithPython(snake, nil)), ".py"},
		"python, in place": {script.Engine(script.WithPython(snake, loader.Native())), ".py"},
	}
}

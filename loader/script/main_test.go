package script_test

import (
	"os"
	"testing"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/script"
)

func TestMain(m *testing.M) {
	os.Exit(m.Run())
}

// form is one way to run scripts.
type form struct {
	engine engine.Engine
	ext    string // of the script that has everything
}

func forms(testing.TB) map[string]form {
	return map[string]form{
		"wasm":             {script.Engine(), ".js"},
		"library":          {script.Engine(script.WithMemory(64<<20), script.WithAdapter("/tmp/js.so", loader.Native())), ".js"},
		"worker":           {script.Engine(script.WithMemory(64<<20), script.WithAdapter("/tmp/js.so", isolate.Engine())), ".js"},
		"python":           {script.Engine(script.WithPython("/tmp/python.so", nil)), ".py"},
		"python, in place": {script.Engine(script.WithPython("/tmp/python.so", loader.Native())), ".py"},
	}
}

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

func engines(testing.TB) map[string]engine.Engine {
	return map[string]engine.Engine{"wasm": script.Engine(), "library": script.Engine(script.WithMemory(64<<20), script.WithAdapter("/tmp/js.so", loader.Native())),
		"worker": script.Engine(script.WithMemory(64<<20), script.WithAdapter("/tmp/js.so", isolate.Engine()))}
}

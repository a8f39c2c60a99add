package loader_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// TestOpenURLWithoutItsEngine: whoever opens a URL without an engine for it is told which one to give, and not that there is no such file; no password is repeated.
func TestOpenURLWithoutItsEngine(t *testing.T) {
	goPlugins := loader.WithEngine(builtin.Engine())
	for name, opts := range map[string][]loader.Option{
		"no engine": nil, "native": {loader.WithEngine(loader.Native())}, "worker": {isolate.InWorker()}, "Go": {goPlugins}, "native and Go": {loader.WithEngine(loader.Native()), goPlugins},
	} {
		for path, option := range map[string]string{
			"nats://ada:secret@h:4222/x": "nats.Plugin(), of package github.com/ferrule-dev/ferrule/loader/remote/nats", "tls://h/x": "nats.Plugin()",
			"mqtt://h,bob:secret@i/x": "mqtt.Plugin(), of package github.com/ferrule-dev/ferrule/loader/remote/mqtt", "mqtts://h/x": "mqtt.Plugin()",
			"https://h/x": "web.Server(), of package", "http+unix:/x": "web.Server()", "tcp:h:1": "sidecar.Program(), of package", "unix:/nowhere": "sidecar.Program()",
		} {
			_, err := loader.Open(path, opts...)
			require.ErrorIs(t, err, loader.ErrNoEngine, name)
			scheme, _, _ := strings.Cut(path, ":")
			assert.ErrorContains(t, err, "found a URL that begins with "+scheme+":, expected ", name)
			assert.ErrorContains(t, err, "Add "+option, name)
			assert.NotContains(t, err.Error(), "secret")
			_, err = loader.Inspect(path)
			require.ErrorIs(t, err, loader.ErrRead)
			assert.ErrorContains(t, err, option)
			assert.NotContains(t, err.Error(), "secret")
		}
		for _, path := range []string{"nats", "nats:x", "ftp://h/x", "./tcp:x"} {
			_, err := loader.Open(path, opts...)
			assert.NotContains(t, err.Error(), "a URL", "it is a file's name: "+path)
		}
	}
	if runtime.GOOS == "windows" {
		return // no file has a colon in its name
	}
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("tcp:x", []byte("a file that is there"), 0o600))
	_, err := loader.Open("tcp:x")
	require.ErrorIs(t, err, loader.ErrNotLibrary)
}

// TestOpenWasmWithoutItsEngine: whoever opens a module without an engine for it is told which one to give, whatever others there are.
func TestOpenWasmWithoutItsEngine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.wasm")
	// It imports extism:host/env "n", and exports nothing.
	module := "\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x02\x15\x01\x0fextism:host/env\x01n\x00\x00"
	require.NoError(t, os.WriteFile(path, []byte(module), 0o600))
	goPlugins := loader.WithEngine(builtin.Engine())
	for name, opts := range map[string][]loader.Option{
		"no engine": nil, "native": {loader.WithEngine(loader.Native())}, "worker": {isolate.InWorker()},
		"Go": {goPlugins}, "native and Go": {loader.WithEngine(loader.Native()), goPlugins}, "a private copy": {loader.WithPrivateCopy()},
	} {
		_, err := loader.Open(path, opts...)
		require.ErrorIs(t, err, loader.ErrNoEngine, name)
		assert.ErrorContains(t, err, "found a WebAssembly module, expected ", name)
		assert.ErrorContains(t, err, "Add loader.WithEngine(wasm.Engine()), of package github.com/ferrule-dev/ferrule/loader/wasm", name)
		assert.ErrorContains(t, err, path, name)
	}
}

// TestOpenScriptsWithoutTheirEngine: whoever opens a script without an engine for it is told which one to give, and of a script without a header how one looks.
func TestOpenScriptsWithoutTheirEngine(t *testing.T) {
	goPlugins := loader.WithEngine(builtin.Engine())
	for file, c := range map[string]struct{ text, found, remedy string }{
		"a.js":    {"// ferrule: name=a version=1\n", "a script in JavaScript", "Add loader.WithEngine(script.Engine()), of package github.com/ferrule-dev/ferrule/loader/script."},
		"a.txt":   {"// ferrule: name=a version=1\n", "a script in JavaScript", "Add loader.WithEngine(script.Engine())"},
		"a.py":    {"# ferrule: name=a version=1\n", "a script in Python", "Add loader.WithEngine(script.Engine(script.WithPython(adapter, nil))), of package github.com/ferrule-dev/ferrule/loader/script, whose BuildPython builds the adapter."},
		"bare.js": {"export const f = 1;\n", "", "Where it is a plug-in for script.Engine(), write that header before its first statement"},
		"bare.py": {"f = 1\n", "", "Where it is a plug-in for script.Engine(), write that header before its first statement"},
	} {
		path := filepath.Join(t.TempDir(), file)
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		for name, opts := range map[string][]loader.Option{
			"no engine": nil, "native": {loader.WithEngine(loader.Native())}, "worker": {isolate.InWorker()},
			"Go": {goPlugins}, "native and Go": {loader.WithEngine(loader.Native()), goPlugins}, "a private copy": {loader.WithPrivateCopy()},
		} {
			_, err := loader.Open(path, opts...)
			if c.found == "" {
				if name != "Go" && name != "native and Go" { // which say what they open
					require.ErrorIs(t, err, loader.ErrNotLibrary, name)
					assert.ErrorContains(t, err, c.remedy, name)
				}
				continue
			}
			require.ErrorIs(t, err, loader.ErrNoEngine, name)
			assert.ErrorContains(t, err, "found "+c.found+", expected ", name)
			assert.ErrorContains(t, err, c.remedy, name)
			assert.ErrorContains(t, err, path, name)
		}
	}
}

package loader_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

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

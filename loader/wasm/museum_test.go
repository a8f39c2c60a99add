package wasm_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/museum"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// The museum's modules were compiled once and are kept: what they do is what their transcripts say. See abi/museum/README.md.
func TestMuseum(t *testing.T) {
	open := func(path string, opts ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(path, append(opts[:len(opts):len(opts)], loader.WithEngine(wasm.Engine()))...)
	}
	for _, exhibit := range museum.Modules(t) {
		t.Run(exhibit, func(t *testing.T) {
			script, err := os.ReadFile(museum.Path(exhibit, "transcript.txt"))
			require.NoError(t, err)
			museum.Compare(t, true, museum.Path(exhibit, "transcript.txt"), museum.Play(t, open, museum.Path(exhibit, museum.Module), string(script)))
		})
	}
}

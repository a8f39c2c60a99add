package wasm_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// One module is opened by many at the same time, from the folder where it is kept: in each round by those that come first, and from memory by the others.
func TestOpenedFromTheCacheAtTheSameTime(t *testing.T) {
	path, engine := fixture.WasmC(t, "echo"), wasm.Engine(wasm.WithCache(t.TempDir()))
	for range 20 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				p, err := loader.Open(path, loader.WithEngine(engine))
				if !assert.NoError(t, err) {
					return
				}
				out, err := p.Call(t.Context(), "echo", []byte("x"))
				assert.NoError(t, err)
				assert.Equal(t, "x", string(out))
				assert.NoError(t, p.Close())
			})
		}
		all.Wait()
	}
}

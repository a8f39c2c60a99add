package wasm_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

func openRust(t *testing.T, name string) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(fixture.WasmRust(t, "fixture-"+name), loader.WithEngine(wasm.Engine()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// What Rust code starts on a thread of its own fails: a panic of the call, which says so, and the plug-in goes on.
func TestNoThreads(t *testing.T) {
	for name, fn := range map[string]string{"logs": "enabled", "room": "room_thread", "panics": "panics"} {
		t.Run(name, func(t *testing.T) {
			p := openRust(t, name)
			for range 2 {
				_, err := p.Call(ctx, fn, []byte("thread"))
				require.ErrorIs(t, err, loader.ErrPanic)
				assert.ErrorContains(t, err, "failed to spawn thread")
			}
		})
	}
}

// Nothing unwinds, so a panic that its author would catch ends the instance: its words are the call's error, and the next call has another instance.
func TestPanics(t *testing.T) {
	p := openRust(t, "panics")
	for _, how := range []string{"caught", "resumed"} {
		_, err := p.Call(ctx, "panics", []byte(how))
		require.ErrorIs(t, err, loader.ErrPanic)
		assert.ErrorContains(t, err, "caught by the author")
		out, err := p.Call(ctx, "panics", []byte("none"))
		require.NoError(t, err)
		assert.Equal(t, "no panic", string(out))
	}
}

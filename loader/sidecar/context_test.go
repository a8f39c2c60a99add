package sidecar_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// A context is for opening: one that ends right after that ends nothing that is open.
func TestContextOfOpenEnds(t *testing.T) {
	url := listening(t, "unix", fixture.C(t, "echo"))
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := loader.OpenContext(ctx, url, sidecar.Program())
		cancel()
		require.NoError(t, err)
		for range 20 {
			_, err = p.Call(t.Context(), "echo", []byte("x"))
			require.NoError(t, err)
		}
		require.NoError(t, p.Close())
	}
}

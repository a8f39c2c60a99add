//go:build unix

package serve_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// TestFIFOsEnd: serving over FIFOs ends with its context, wherever the host is: not there, or there and not reading.
func TestFIFOsEnd(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]bool{"nobody": false, "a host that does not read": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
			require.NoError(t, syscall.Mkfifo(in, 0o600))
			require.NoError(t, syscall.Mkfifo(out, 0o600))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			outcome := make(chan error, 1)
			go func() { outcome <- serve.FIFOs(ctx, in, out, plugin(nil), serve.Options{}) }()
			if host {
				f, err := os.OpenFile(in, os.O_WRONLY, 0)
				require.NoError(t, err)
				defer f.Close()
				_, err = io.WriteString(f, "HELLO 1\n\n")
				require.NoError(t, err)
			}
			cancel()
			assert.NoError(t, <-outcome)
		})
	}
	assert.ErrorIs(t, serve.FIFOs(t.Context(), filepath.Join(t.TempDir(), "none"), "", plugin(nil), serve.Options{}), os.ErrNotExist)
}

//go:build unix

package sidecar_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func servedByFIFOs(ctx context.Context, p serve.Plugin, in, out string) error {
	return serve.FIFOs(ctx, in, out, p, serve.Options{})
}

// openFIFOs opens a library behind two FIFOs.
func openFIFOs(t testing.TB, library string, opts ...loader.Option) (*loader.Plugin, error) {
	dir, err := os.MkdirTemp("", "fs") // t.TempDir's path may have commas
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	require.NoError(t, unix.Mkfifo(in, 0o600))
	require.NoError(t, unix.Mkfifo(out, 0o600))
	start(t, exec.Command(self(t), "serve", library, "fifo", in, out))
	return loader.Open("fifo:"+in+","+out, append(opts[:len(opts):len(opts)], sidecar.Program(sidecar.WithStartTimeout(5*time.Second)))...)
}

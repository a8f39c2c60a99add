//go:build unix

package sidecar_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// An interpreter may be a script itself, by whatever it is named: version managers put such ones into the PATH.
func TestInterpreterIsAScript(t *testing.T) {
	folder := t.TempDir()
	interpreter := filepath.Join(folder, "interpret")
	require.NoError(t, os.WriteFile(interpreter, []byte("#!/bin/sh\nexec \"$@\"\n"), 0o700))
	script := filepath.Join(folder, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!"+interpreter+" /bin/sh\nexec \"$@\"\n"), 0o700))
	library := fixture.C(t, "echo")
	for name, c := range map[string]struct {
		path string
		opts []sidecar.Option
	}{
		"WithInterpreter": {self(t), []sidecar.Option{sidecar.WithInterpreter(interpreter), sidecar.WithArgs("serve", library)}},
		"first line":      {script, []sidecar.Option{sidecar.WithArgs(self(t), "serve", library)}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := loader.Open(c.path, sidecar.Program(c.opts...))
			require.NoError(t, err)
			defer p.Close()
			echo, err := p.Func("echo")
			require.NoError(t, err)
			out, err := echo.Call(t.Context(), []byte("hello"))
			require.NoError(t, err)
			require.Equal(t, "hello", string(out))
		})
	}
}

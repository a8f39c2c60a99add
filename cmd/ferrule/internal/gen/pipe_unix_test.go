//go:build unix

package gen

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPipes: a named pipe is not waited for, wherever it stands in the way; and a device is not read.
func TestPipes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{goFile, "other.go", "cmd/vowels/main.go", "cmd/vowels/other.go", "other.c", "other.s", "other.h", "other_windows.S", "other.syso", "other.f90", "go.mod", "go.sum", "go.work"} {
		dir := module(t, smallest)
		path := filepath.Join(dir, filepath.FromSlash(name))
		_ = os.Remove(path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, syscall.Mkfifo(path, 0o666))
		want := "found " + path + ", which is neither a file nor a link to one, expected a regular file of this name, or none. Move it."
		for _, check := range []bool{false, true} {
			_, err := Run(t.Context(), Options{Dir: dir, Check: check})
			assert.EqualError(t, err, want, name)
		}
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Symlink("/dev/zero", path))
		_, err := Run(t.Context(), Options{Dir: dir})
		assert.EqualError(t, err, want, name)
		assert.NoFileExists(t, filepath.Join(dir, "cmd", "vowels", "module.go"))
	}
	dir := module(t, smallest)
	run(t, dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "cmd", "other"), 0o777))
	for _, name := range []string{"cmd/other/main.go", "pipe", "_pipe.c", ".pipe.h"} { // of another program, and what the go command does not read
		require.NoError(t, syscall.Mkfifo(filepath.Join(dir, filepath.FromSlash(name)), 0o666))
	}
	assert.Empty(t, run(t, dir).Changed())
}

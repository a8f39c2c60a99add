//go:build unix

package lock_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// A lock that a repository brings as a pipe or a link to a device is neither waited for nor read, and nothing is made beside the device.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe, zero := filepath.Join(dir, "pipe"), filepath.Join(dir, "zero")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	require.NoError(t, os.Symlink("/dev/zero", zero))
	for _, path := range []string{pipe, zero} {
		_, err := lock.Load(path)
		assert.ErrorIs(t, err, registry.ErrLock)
		err = lock.Update(t.Context(), path, func(*lock.Lock) error { panic("it is not asked") })
		assert.ErrorIs(t, err, registry.ErrLock)
		assert.ErrorContains(t, err, path)
		assert.ErrorContains(t, err, "something else than a file in the place of the lock")
	}
}

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNewest: versions are compared by their numbers, and what is no release is none.
func TestNewest(t *testing.T) {
	folder := t.TempDir()
	_, err := newest(folder)
	require.ErrorContains(t, err, "there is no release")
	for _, tag := range []string{"v9.0.0", "v10.2.0", "v10.10.0", "v10.9.0", "v11.0.0-rc.1", "v011.0.0", "vendor", "latest"} {
		require.NoError(t, os.Mkdir(filepath.Join(folder, tag), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "v12.0.0"), nil, 0o600))
	tag, err := newest(folder)
	require.NoError(t, err)
	assert.Equal(t, "v10.10.0", tag)
	_, err = newest(filepath.Join(folder, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

//go:build unix

package regular_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// What is no regular file is refused without waiting, also behind a link, and what is too long without being read.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, syscall.Mkfifo(at("pipe"), 0o644))
	require.NoError(t, os.Symlink("/dev/zero", at("zero")))
	require.NoError(t, os.Symlink("pipe", at("link")))
	require.NoError(t, os.WriteFile(at("file"), []byte("1234"), 0o644))
	require.NoError(t, os.Symlink("file", at("good")))
	for name, found := range map[string]string{"pipe": "a named pipe", "link": "a named pipe", "zero": "a device"} {
		_, err := regular.Read(at(name), 4)
		assert.ErrorIs(t, err, regular.ErrKind, name)
		assert.ErrorContains(t, err, found, name)
	}
	text, err := regular.Read(at("good"), 4)
	require.NoError(t, err)
	assert.Equal(t, "1234", string(text))
	_, err = regular.Read(at("file"), 3)
	assert.ErrorIs(t, err, regular.ErrLong)
	_, err = regular.Read(at("none"), 3)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = regular.Read(dir, 3)
	assert.Error(t, err)
}

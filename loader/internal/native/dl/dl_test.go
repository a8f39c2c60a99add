package dl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// copied returns a library's path that no other test has loaded.
func copied(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(fixture.C(t, name))
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "ferrule-*") // TempDir fails on Windows, which does not remove a library that is loaded
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "copy"+fixture.Ext())
	require.NoError(t, os.WriteFile(path, data, 0o755))
	return path
}

func TestOpenLookupClose(t *testing.T) {
	path := copied(t, "echo")
	assert.False(t, Loaded(path))
	lib, err := Open(path)
	require.NoError(t, err)
	assert.True(t, Loaded(path))
	addr, err := lib.Lookup("ferrule_fn_echo")
	require.NoError(t, err)
	assert.NotZero(t, addr)
	_, err = lib.Lookup("ferrule_fn_missing")
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.NotEmpty(t, e.Text)
	again, err := Open(path)
	require.NoError(t, err)
	assert.Equal(t, lib, again, "a library is loaded once")
	require.NoError(t, lib.Close())
	assert.True(t, Loaded(path), "for the second time that it was opened")
	require.NoError(t, again.Close())
	if os.Getenv(fixture.Libc) != "musl" { // which unloads nothing
		assert.False(t, Loaded(path))
	}
}

// What the system keeps is told, and telling it does not keep it, nor load it.
func TestLoadedWhatIsKept(t *testing.T) {
	path := copied(t, "version_nodelete")
	lib, err := Open(path)
	require.NoError(t, err)
	require.NoError(t, lib.Close())
	assert.True(t, Loaded(path))
	assert.False(t, Loaded(copied(t, "version_nodelete")), "another copy")
}

func TestOpenErrors(t *testing.T) {
	for _, path := range []string{"", "a\x00b", filepath.Join(t.TempDir(), "missing"+fixture.Ext())} {
		_, err := Open(path)
		assert.Error(t, err, "%q", path)
	}
	assert.False(t, Loaded(filepath.Join(t.TempDir(), "missing"+fixture.Ext())))
}

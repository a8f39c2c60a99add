package index_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// A folder's errors are a registry's, also where a context has ended, and its links lead nowhere outside of it.
func TestFolderLinks(t *testing.T) {
	built, err := index.Build(acme, 1, time.Now(), []index.Entry{{Name: "tax", Versions: []string{"1.0.0"}}}, nil, nil)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, built.Write(dir, nil))
	from := index.Folder(dir)
	root, _, err := from.Root(t.Context())
	require.NoError(t, err)
	assert.Equal(t, built.Root, root)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = from.Root(ended)
	_, err2 := from.Shard(ended, "sha256:"+strings.Repeat("0", 64), 10)
	for _, err := range []error{err, err2} {
		var e *registry.Error
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, registry.ErrUnavailable)
		assert.ErrorIs(t, err, context.Canceled)
	}

	file := filepath.Join(dir, index.RootFile)
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.Rename(file, outside))
	if err := os.Symlink(outside, file); err != nil {
		t.Skip("Windows asks for a privilege: ", err)
	}
	_, _, err = from.Root(t.Context())
	require.ErrorIs(t, err, registry.ErrUnavailable)
	inside := filepath.Join(dir, "inside")
	require.NoError(t, os.Rename(outside, inside))
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Symlink("inside", file))
	root, _, err = from.Root(t.Context())
	require.NoError(t, err)
	assert.Equal(t, built.Root, root)
}

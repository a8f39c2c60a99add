package files_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
)

func TestNamesAndIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "releases")
	f, err := files.NewFolder(path)
	require.NoError(t, err)
	_, err = f.Names(t.Context())
	assert.ErrorIs(t, err, registry.ErrUnavailable, "there is no folder")
	library := filepath.Join(t.TempDir(), "library")
	require.NoError(t, os.WriteFile(library, []byte("library"), 0o666))
	for _, name := range []string{"tax", "audit", "a.json"} {
		require.NoError(t, f.Push(t.Context(), &registry.Release{Name: name, Version: "1.0.0"}, map[string]registry.Content{"linux/amd64": {Path: library}}))
	}
	require.NoError(t, os.WriteFile(filepath.Join(path, "latest", ".json"), nil, 0o666))
	names, err := f.Names(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"a.json", "audit", "tax"}, names)

	// Of many that publish at once none goes back.
	entries, left, err := index.Gather(t.Context(), f, names)
	require.NoError(t, err)
	assert.Empty(t, left)
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for serial := range uint64(8) {
		built, err := index.Build("registry.example/acme", serial+1, day, entries, nil, nil)
		require.NoError(t, err)
		wg.Go(func() {
			if err := f.PushIndex(t.Context(), built, nil); err != nil {
				assert.ErrorIs(t, err, registry.ErrStale)
			}
		})
	}
	wg.Wait()
	x, err := index.Open(t.Context(), f.Index(), index.Options{MaxAge: -1, Now: func() time.Time { return day }})
	require.NoError(t, err)
	assert.EqualValues(t, 8, x.Seen().Serial)
	assert.Equal(t, 3, x.Len())
}

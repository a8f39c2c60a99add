package engines_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
)

// TestNoCacheFolder: where what runs Python cannot be put anywhere, no compiler is asked for, but another cache folder.
func TestNoCacheFolder(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("XDG_CACHE_HOME is of other systems")
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	t.Setenv("HOME", "")
	for _, cache := range []string{file, ""} { // no folder can be made in it; none is said
		t.Setenv("XDG_CACHE_HOME", cache)
		_, err := engines.Adapter(t.Context(), "a.py", func(string) { t.Error("nothing is built") })
		assert.ErrorContains(t, err, "no folder in which what runs it can be built")
		assert.ErrorContains(t, err, "Name one in the environment by XDG_CACHE_HOME.")
		assert.NotContains(t, err.Error(), "compiler")
	}
}

package abspath_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/abspath"
)

// The file at the absolute path is the one that the system opens by the path as it was given.
func TestOf(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it takes .. for what is before the name, as filepath.Abs does")
	}
	top, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, folder := range []string{"real/deep", "here"} {
		require.NoError(t, os.MkdirAll(filepath.Join(top, folder), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(top, folder, "f"), []byte(folder), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(top, "real/f"), []byte("real"), 0o600))
	require.NoError(t, os.Symlink("../real/deep", filepath.Join(top, "here/link")))
	require.NoError(t, os.Symlink("real/f", filepath.Join(top, "alias")))
	t.Chdir(filepath.Join(top, "here", "link")) // and PWD says so
	for path, want := range map[string]string{
		"f":                                  "here/link/f",
		"./f":                                "here/link/f",
		"../f":                               "real/f",
		"..":                                 "real",
		"../":                                "real",
		"../deep/../../here/f":               "here/f",
		"..//deep//f":                        "real/deep/f",
		"../../alias":                        "alias",
		"..f":                                "here/link/..f",
		top + "/here/link/../f":              "real/f",
		top + "/here/link/../../here/link/f": "here/link/f",
		top + "/here/../here/link/f":         "here/link/f",
		top + "/here/link/f":                 "here/link/f",
		"../missing":                         "real/missing",
	} {
		got, err := abspath.Of(path)
		require.NoError(t, err, path)
		assert.Equal(t, filepath.Join(top, want), got, path)
		text, failed := os.ReadFile(path)
		again, failedAgain := os.ReadFile(got)
		assert.Equal(t, failed == nil, failedAgain == nil, path)
		assert.Equal(t, string(text), string(again), path)
	}
	got, err := abspath.Of("none/../f")
	require.NoError(t, err)
	assert.NoFileExists(t, got, "the system finds none there")
}

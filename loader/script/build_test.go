package script_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
)

// FERRULE_TEST_BUILD has both be built.
func TestBuild(t *testing.T) {
	if os.Getenv("FERRULE_TEST_BUILD") == "" {
		t.Skip("it takes a minute: make script")
	}
	dir := t.TempDir()
	require.NoError(t, script.BuildJavaScript(t.Context(), filepath.Join(dir, "js.so")))
	require.NoError(t, script.BuildPython(t.Context(), filepath.Join(dir, "python.so"), ""))
}

// TestKeepPython: a library is built once for one Python, and anew for another; where it cannot be, the error says what is missing.
func TestKeepPython(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the adapters of scripts are built by a shell")
	}
	fixture.Tool(t, "python3-config", "apt-get install python3-dev")
	folder, built := filepath.Join(t.TempDir(), "kept"), 0
	keep := func() (string, error) { return script.KeepPython(t.Context(), folder, "", func() { built++ }) }
	first, err := keep()
	require.NoError(t, err)
	again, err := keep()
	require.NoError(t, err)
	assert.Equal(t, first, again)
	assert.Equal(t, 1, built)
	p, err := loader.Open("testdata/everything.py", loader.WithEngine(script.Engine(script.WithPython(first, nil))), loader.WithHostFunc("double", double))
	require.NoError(t, err)
	require.NoError(t, p.Close())

	t.Setenv("PYTHON_CONFIG", "no-such-config")
	_, err = keep()
	assert.ErrorIs(t, err, script.ErrNotBuilt)
	assert.ErrorContains(t, err, "no-such-config")
	t.Setenv("PYTHON_CONFIG", "")
	bin := t.TempDir() // a PATH with what build.sh takes, and no Python
	for _, name := range []string{"sh", "dirname", "mktemp", "rm", "cat"} {
		at, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(at, filepath.Join(bin, name)))
	}
	t.Setenv("PATH", bin)
	_, err = keep()
	assert.ErrorIs(t, err, script.ErrNotBuilt)
	assert.ErrorContains(t, err, "apt-get install python3-dev")
	assert.Equal(t, 3, built)

	require.NoError(t, os.Chmod(folder, 0o777))
	_, err = keep()
	assert.ErrorContains(t, err, "chmod go-w")
	left, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{first}, left, "what could not be built leaves nothing")
}

package check_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// What the environment names relative to the working directory is found by the workers, which run in folders of their own.
func TestRelativeEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, folder := range []string{"tmp", "lib"} {
		require.NoError(t, os.Mkdir(folder, 0o700))
	}
	build := func(output, source string, more ...string) {
		require.NoError(t, os.WriteFile(output+".c", []byte(source), 0o600))
		args := append([]string{"-fPIC", "-shared", "-I" + filepath.Join(fixture.Root(), "include"), "-o", output, output + ".c"}, more...)
		out, err := exec.Command(fixture.Tool(t, "gcc", "apt-get install gcc"), args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	build("lib/libneeded.so", "int needed(void) { return 0; }")
	build("p.so", `#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1.0.0"));
int needed(void);
FERRULE_FN(calls) { call->out_len = 0; return needed(); }
`, "-Llib", "-lneeded")
	t.Setenv("TMPDIR", "tmp")
	for _, path := range []string{"lib", "nowhere:./lib", "$ORIGIN/nowhere;lib"} {
		t.Setenv("LD_LIBRARY_PATH", path)
		o := options(t)
		o.Only = []string{"open", "input-empty"}
		v, err := check.Run(t.Context(), "p.so", o)
		require.NoError(t, err)
		assert.True(t, v.Pass, "%s: %+v", path, v.Results)
	}
	left, err := os.ReadDir("tmp")
	require.NoError(t, err)
	assert.Empty(t, left)
}

package host

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A program whose dynamic linker is missing is not said to be missing itself.
func TestWithoutDynamicLinker(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the test's own program is looked at as Linux has them")
	}
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("the emulator is what looks for the dynamic linker")
	}
	data, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	at := bytes.Index(data, []byte("/ld-"))
	if at < 0 {
		t.Skip("the test's own program is linked statically")
	}
	copy(data[at:], "/no-")
	program := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(program, data, 0o755))
	started := exec.Command(program).Start()
	require.Error(t, started)
	err = (&executable{path: program}).notStarted(started)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "its dynamic linker /")
	assert.ErrorContains(t, err, "CGO_ENABLED=0")

	missing := filepath.Join(t.TempDir(), "missing")
	started = exec.Command(missing).Start()
	assert.Equal(t, started, (&executable{path: missing}).notStarted(started))
}

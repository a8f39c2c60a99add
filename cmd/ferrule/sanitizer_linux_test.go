package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// Of a library that is built with AddressSanitizer is said how to load it, by the command and to a program, and that works.
func TestSanitizerIsPreloaded(t *testing.T) {
	t.Parallel()
	fixture.NotMusl(t, "it has no sanitizers")
	gcc := fixture.Tool(t, "gcc", "apt-get install gcc")
	dir := t.TempDir()
	source, library := filepath.Join(dir, "p.c"), filepath.Join(dir, "p.so")
	require.NoError(t, os.WriteFile(source, []byte(`#include <ferrule.h>
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1.0.0"));
FERRULE_FN(nothing) { (void)call; return FERRULE_OK; }
`), 0o600))
	out, err := exec.Command(gcc, "-shared", "-fPIC", "-fsanitize=address", "-I", filepath.Join(fixture.Root(), "include"), "-o", library, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, how := range []string{"--isolated=false", "--isolated"} {
		_, stderr, code := ferrule(t, "", "call", how, library, "nothing")
		assert.Equal(t, exitCrashed, code, how)
		assert.Contains(t, stderr, ". Load AddressSanitizer's runtime before the library: LD_PRELOAD=$(gcc -print-file-name=libasan.so) in the "+
			"environment of this command, without --isolated; ferrule check does so by itself.", how)
	}
	runtime, err := exec.Command(gcc, "-print-file-name=libasan.so").Output()
	require.NoError(t, err)
	preload := "LD_PRELOAD=" + strings.TrimSpace(string(runtime))
	cmd := exec.Command(binary, "call", library, "nothing")
	cmd.Env = append(os.Environ(), preload)
	out, err = cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)

	_, err = loader.Open(library, isolate.InWorker(isolate.WithBinary(binary)))
	var open *loader.OpenError
	require.ErrorAs(t, err, &open)
	assert.Contains(t, open.Remedy, "isolate.WithEnv with LD_PRELOAD= and what gcc -print-file-name=libasan.so says")
	p, err := loader.Open(library, isolate.InWorker(isolate.WithBinary(binary), isolate.WithEnv(preload)))
	require.NoError(t, err)
	_, err = p.Call(t.Context(), "nothing", nil)
	assert.NoError(t, err)
	assert.NoError(t, p.Close())
}

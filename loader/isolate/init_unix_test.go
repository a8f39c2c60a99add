//go:build unix

package isolate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A worker's program that does not come as far as to serve is told apart from a library that crashes it.
func TestProgramThatEndsInInit(t *testing.T) {
	fixture.NotMusl(t, "a program that go builds uses glibc")
	fixture.Loadable(t)
	program := filepath.Join(t.TempDir(), "badinit")
	// By the tags of this test, which decide what a worker inherits.
	out, err := exec.Command("go", "build", "-tags", buildSetting("-tags"), "-o", program, "./testdata/badinit").CombinedOutput()
	require.NoError(t, err, "%s", out)
	open := func(opts ...isolate.Option) (*loader.OpenError, *loader.CrashError) {
		p, err := loader.Open(fixture.C(t, "echo"), isolate.InWorker(append(opts, isolate.WithBinary(program))...))
		if err == nil {
			require.NoError(t, p.Close())
			return nil, nil
		}
		var opened *loader.OpenError
		var crash *loader.CrashError
		require.ErrorAs(t, err, &opened)
		require.ErrorAs(t, err, &crash)
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.NotContains(t, err.Error(), "constructors")
		return opened, crash
	}
	opened, _ := open()
	require.Nil(t, opened, "a worker like any other: %v", opened)

	opened, crash := open(isolate.WithEnv("FERRULE_TEST_INIT=panic"))
	require.NotNil(t, opened)
	assert.Contains(t, crash.Reason, "panic: no configuration file (github.com/ferrule-dev/ferrule/loader/isolate/testdata/badinit/early.init.0")
	assert.Contains(t, crash.Reason, "early.go:9")
	assert.Contains(t, opened.Remedy, "FERRULE_WORKER")

	opened, crash = open(isolate.WithEnv("FERRULE_TEST_INIT=exit"))
	require.NotNil(t, opened)
	assert.Equal(t, 3, crash.ExitCode)
	assert.Contains(t, crash.Reason, "exit code 3 before it could serve")
	assert.Contains(t, opened.Remedy, "init function")

	require.NoError(t, os.Chmod(program, 0o600))
	opened, crash = open()
	require.NotNil(t, opened)
	assert.Contains(t, crash.Reason, "not started: ")
	assert.Contains(t, opened.Remedy, "can execute")

	// The library's own crash still is one.
	_, err = loader.Open(fixture.C(t, "fault_constructor"), isolate.InWorker())
	assert.ErrorContains(t, err, "constructors")
}

// buildSetting returns what this test was built with, such as its tags.
func buildSetting(key string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == key {
				return s.Value
			}
		}
	}
	return ""
}

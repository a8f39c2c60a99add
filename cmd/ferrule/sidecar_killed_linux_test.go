package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestTimeoutBeforeTheProgram: whose time ends between the keeper's clone and the program's first instruction leaves no program behind, however slow that way is.
func TestTimeoutBeforeTheProgram(t *testing.T) {
	t.Parallel()
	strace := fixture.Tool(t, "strace", "apt-get install strace")
	if out, err := exec.Command(strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("this system lets nobody be traced: %s", out)
	}
	dir := t.TempDir()
	program, file := filepath.Join(dir, "sleeps.sh"), filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\necho $$ >"+file+"\nexec sleep 1000\n"), 0o755))
	// strace is back when all that it traces is.
	cmd := exec.Command(strace, "-f", "-o", os.DevNull, "-P", "/dev/tty", "-e", "trace=openat", "-e", "inject=openat:delay_enter=2000000",
		binary, "call", "--timeout", "700ms", "--sidecar", program, "f", "--in", "x")
	cmd.WaitDelay = time.Second
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	assert.True(t, late.Stop(), "something was left, and ran on: %s", out)
	var ended *exec.ExitError
	require.ErrorAs(t, err, &ended, "%s", out)
	assert.Equal(t, exitCrashed, ended.ExitCode(), "%s", out)
	assert.Contains(t, string(out), "out of time after 700ms (--timeout)")
	assert.NoFileExists(t, file, "its keeper was killed, and the program ran")
}

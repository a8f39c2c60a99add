//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestInspectUnreadableFolder: a folder that this user may not read is said to be that. Root may read every one, so the command is another user's then.
func TestInspectUnreadableFolder(t *testing.T) {
	dir, err := os.MkdirTemp("", "") // t.TempDir is below a folder that is this user's alone
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	folder, command := filepath.Join(dir, "folder"), filepath.Join(dir, "ferrule")
	require.NoError(t, os.Mkdir(folder, 0))
	// By another process: a file that this one has open for writing cannot be run, not even by a child that was forked meanwhile.
	require.NoError(t, exec.Command("install", "-m", "755", binary, command).Run())

	cmd := exec.Command(command, "inspect", folder)
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var stderr bytes.Buffer
	cmd.Stderr, cmd.Dir = &stderr, dir
	_ = cmd.Run()
	assert.Equal(t, exitOpen, cmd.ProcessState.ExitCode())
	assert.Contains(t, stderr.String(), "found a folder that this user may not read, expected")
	assert.Contains(t, stderr.String(), "run this as a user who may read it")
}

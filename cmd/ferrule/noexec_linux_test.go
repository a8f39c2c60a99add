package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestDoctorOnNoexec: a library that lies where nothing may be run from is not well, as opening it fails.
func TestDoctorOnNoexec(t *testing.T) {
	s := newShop(t, "folders: [plugins]\nplugins: [plugin_aaaa]\n")
	if err := unix.Mount("tmpfs", s.path("plugins"), "tmpfs", unix.MS_NOEXEC, "size=4m"); err != nil {
		t.Skipf("a file system is mounted: %v", err)
	}
	defer func() { assert.NoError(t, unix.Unmount(s.path("plugins"), unix.MNT_DETACH)) }()
	text, err := os.ReadFile(fixture.C(t, "system"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.path("plugins", "p"+fixture.Ext()), text, 0o755))
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, "wrong: config.yaml:2:11: plugin_aaaa: not a place to run code from\n  found     that the file system of plugins/p.so is mounted noexec\n")
	require.NoError(t, unix.Mount("", s.path("plugins"), "", unix.MS_REMOUNT, ""))
	stdout, _, _ = s.run("doctor")
	assert.NotContains(t, stdout, "noexec")
}

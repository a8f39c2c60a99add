package files_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
)

// TestPushWithoutRoom: a full disk, and one that may only be read, are said to be that, and nothing of the release stays: no other try is of use until there is room.
func TestPushWithoutRoom(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=32k"); err != nil {
		t.Skipf("a file system is mounted: %v", err)
	}
	defer func() { assert.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) }()
	small, large := filepath.Join(t.TempDir(), "small"), filepath.Join(t.TempDir(), "large")
	require.NoError(t, writeFile(small, "a"))
	noise := make([]byte, 50<<10) // which a bundle does not make smaller
	_, _ = rand.Read(noise)
	require.NoError(t, writeFile(large, string(noise)))
	folder, err := files.NewFolder(filepath.Join(mount, "reg"))
	require.NoError(t, err)
	bundle, err := files.NewBundle(filepath.Join(mount, "all.zip"))
	require.NoError(t, err)
	for _, to := range []registry.Pusher{folder, bundle} {
		push := func(more string) error {
			return to.Push(t.Context(), &registry.Release{Name: "tax", Version: "1.0.0", Tag: "v1"}, map[string]registry.Content{"darwin/arm64": {Path: small}, "linux/amd64": {Path: more}})
		}
		err := push(large)
		require.ErrorIs(t, err, registry.ErrRefused)
		assert.NotErrorIs(t, err, registry.ErrUnavailable)
		assert.ErrorContains(t, err, "found no room there, expected room for the release: ")
		assert.ErrorContains(t, err, unix.ENOSPC.Error()+". Free space there")
		left, err := os.ReadDir(filepath.Join(mount, "reg"))
		require.NoError(t, err)
		assert.Empty(t, left)
		left, err = os.ReadDir(mount)
		require.NoError(t, err)
		assert.Len(t, left, 1)
	}
	require.NoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, to := range []registry.Pusher{folder, bundle} {
		err := to.Push(t.Context(), &registry.Release{Name: "tax", Version: "1.0.0", Tag: "v1"}, map[string]registry.Content{"linux/amd64": {Path: small}})
		require.ErrorIs(t, err, registry.ErrRefused)
		assert.ErrorContains(t, err, "a file system that may only be read")
	}
}

package files_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
)

// TestPushWithoutRoom: a full disk, and one that may only be read, are said to be that, and nothing of the release stays: no other try is of use until there is room.
// Of a release that is there already, what its own index names by then stays, and the next try goes on from it. A folder that was there before stays, too.
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
	begun := filepath.Join(mount, "reg", "v1", "part")
	require.NoError(t, os.MkdirAll(filepath.Dir(begun), 0o755))
	for _, to := range []registry.Pusher{folder, bundle} {
		push := func(more string) error {
			return to.Push(t.Context(), &registry.Release{Name: "tax", Version: "1.0.0", Tag: "v1/part/two"}, map[string]registry.Content{"darwin/arm64": {Path: small}, "linux/amd64": {Path: more}})
		}
		err := push(large)
		require.ErrorIs(t, err, registry.ErrRefused)
		assert.NotErrorIs(t, err, registry.ErrUnavailable)
		assert.ErrorContains(t, err, "found no room there, expected room for the release: ")
		assert.ErrorContains(t, err, unix.ENOSPC.Error()+". Free space there")
		left, err := os.ReadDir(filepath.Join(mount, "reg"))
		require.NoError(t, err)
		require.Len(t, left, 1)
		assert.Equal(t, "v1", left[0].Name())
		assert.NoDirExists(t, begun)
		left, err = os.ReadDir(mount)
		require.NoError(t, err)
		assert.Len(t, left, 1)
	}

	cut := "tax-darwin-arm64.dylib" // of a Push that was cut off
	require.NoError(t, writeFile(filepath.Join(mount, "reg", "v1", cut), "b"))
	require.ErrorIs(t, folder.Push(t.Context(), &registry.Release{Name: "tax", Version: "1.0.0", Tag: "v1"},
		map[string]registry.Content{"darwin/amd64": {Path: small}, "darwin/arm64": {Path: small}, "linux/amd64": {Path: large}}), registry.ErrRefused)
	left, err := os.ReadDir(filepath.Join(mount, "reg", "v1"))
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, cut, left[0].Name())

	page := os.Getpagesize() // what a file system in memory has room for
	release := registry.Release{Name: "tax", Version: "1.0.0", Tag: "v1"}
	add := func(to registry.Pusher, platform string) error {
		return to.Push(t.Context(), &release, map[string]registry.Content{platform: {Path: small}})
	}
	size := func(name string) int {
		info, err := os.Stat(name)
		require.NoError(t, err)
		return int(info.Size())
	}
	elsewhere := t.TempDir()
	measured, err := files.NewFolder(elsewhere)
	require.NoError(t, err)
	require.NoError(t, add(measured, "darwin/arm64"))
	index := filepath.Join("v1", "tax.json")
	release.Summary = strings.Repeat("x", page-40-size(filepath.Join(elsewhere, index)))
	require.NoError(t, add(folder, "darwin/arm64"))
	own, all := filepath.Join(mount, "reg", index), filepath.Join(mount, "reg", "latest", "tax.json")
	require.LessOrEqual(t, size(own), page)
	var free unix.Statfs_t
	require.NoError(t, unix.Statfs(mount, &free))
	filler := filepath.Join(mount, "filler")
	require.NoError(t, writeFile(filler, strings.Repeat("x", (int(free.Bfree)-3)*page))) // of the rest, the file takes one, the index two while it is written, and then one
	require.ErrorIs(t, add(folder, "linux/amd64"), registry.ErrRefused)
	text, err := os.ReadFile(own)
	require.NoError(t, err)
	assert.Contains(t, string(text), "linux/amd64")
	text, err = os.ReadFile(all)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "linux/amd64")
	added, err := filepath.Glob(filepath.Join(mount, "reg", "v1", "*linux*amd64*"))
	require.NoError(t, err)
	assert.Len(t, added, 1, "the index names it")
	assert.NoDirExists(t, filepath.Join(mount, "reg", ".new"))
	require.NoError(t, os.Remove(filler))
	require.NoError(t, add(folder, "linux/amd64"))
	text, err = os.ReadFile(all)
	require.NoError(t, err)
	assert.Contains(t, string(text), "linux/amd64")

	require.NoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, to := range []registry.Pusher{folder, bundle} {
		err := to.Push(t.Context(), &registry.Release{Name: "tax", Version: "1.0.0", Tag: "v1"}, map[string]registry.Content{"linux/amd64": {Path: small}})
		require.ErrorIs(t, err, registry.ErrRefused)
		assert.ErrorContains(t, err, "a file system that may only be read")
	}
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

func init() {
	// The mounts are those of the child's own namespace, and go with it.
	before["tmpfs"] = func(text string) error {
		folder, options, _ := strings.Cut(text, " ")
		return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", folder, "tmpfs", 0, options))
	}
	before["read-only"] = func(folder string) error {
		return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(folder, folder, "", unix.MS_BIND, ""),
			unix.Mount("", folder, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	tasks["full"] = taskFull
}

// mounted has a child that may mount.
func mounted(t testing.TB, do task) string {
	t.Helper()
	cmd := reexec.Command(t, do)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || strings.Contains(string(out), "error: operation not permitted") {
		t.Skip("this system lets nobody have mounts of his own")
	}
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestAReadOnlyMount(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	s := open(t, folder)
	file := put(t, s)
	require.NoError(t, s.Close())
	reads(t, mounted(t, task{Do: "reader", Folder: folder, Text: text, Before: map[string]string{"read-only": folder}}), file.Path, "read-only file system")
}

// taskFull puts a file of three pages while there is room for less, at each point at which it can run out of pages or of inodes, and a last time with room.
func taskFull(do task, s *store.Store) error {
	ctx := context.Background()
	data := strings.Repeat("a page has 4096 bytes of this...", 3*128)
	filler := filepath.Join(do.Folder, "filler")
	worked, failed := 0, 0
	try := func(what string, room int) (err error) {
		if s, err = store.Open(do.Folder); err != nil {
			return err
		}
		defer s.Close()
		file, err := s.Put(ctx, digestOf(data), int64(len(data)), "sample.so", slowly(task{Text: data}))
		if err == nil {
			worked++
			got, err := os.ReadFile(file.Path)
			if err != nil || string(got) != data {
				return fmt.Errorf("%d %s: found %d bytes, %w", room, what, len(got), err)
			}
			if err := s.Close(); err != nil {
				return err
			}
			return os.RemoveAll(filepath.Join(do.Folder, "sha256"))
		}
		failed++
		if !errors.Is(err, registry.ErrStore) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "Free space there, ferrule gc is one way, or give another folder") {
			return fmt.Errorf("%d %s: %w", room, what, err)
		}
		if _, err := s.Find(ctx, digestOf(data)); !errors.Is(err, registry.ErrNotFound) {
			return fmt.Errorf("%d %s: found %w, expected nothing", room, what, err)
		}
		if left, _ := filepath.Glob(filepath.Join(do.Folder, "half", "*")); len(left) > 0 {
			return fmt.Errorf("%d %s: found %s, expected that no half file keeps the disk full", room, what, left)
		}
		return nil
	}
	for room := range 8 {
		var disk unix.Statfs_t
		if err := unix.Statfs(do.Folder, &disk); err != nil {
			return err
		}
		if err := os.WriteFile(filler, make([]byte, (int(disk.Bfree)-room)*int(disk.Bsize)), 0o600); err != nil {
			return err
		}
		if err := try("pages", room); err != nil {
			return err
		}
		if err := os.Remove(filler); err != nil {
			return err
		}
	}
	fmt.Println("pages", worked, failed)
	worked, failed = 0, 0
	for room := range 12 {
		for _, folder := range []string{"sha256", "half", "lock", "aside"} {
			if err := os.RemoveAll(filepath.Join(do.Folder, folder)); err != nil {
				return err
			}
		}
		var disk unix.Statfs_t
		if err := unix.Statfs(do.Folder, &disk); err != nil {
			return err
		}
		if err := os.Mkdir(filler, 0o700); err != nil {
			return err
		}
		for i := range int(disk.Ffree) - 1 - room {
			if err := os.WriteFile(filepath.Join(filler, fmt.Sprint(i)), nil, 0o600); err != nil {
				return err
			}
		}
		if err := try("inodes", room); err != nil {
			return err
		}
		if err := os.RemoveAll(filler); err != nil {
			return err
		}
	}
	fmt.Println("inodes", worked, failed)
	return try("all", 0)
}

func TestAFullDisk(t *testing.T) {
	folder := t.TempDir()
	out := mounted(t, task{Do: "full", Folder: folder, Before: map[string]string{"tmpfs": folder + " size=256k,nr_inodes=64,mode=700"}})
	var worked, failed [2]int
	_, err := fmt.Sscanf(out, "pages %d %d\ninodes %d %d", &worked[0], &failed[0], &worked[1], &failed[1])
	require.NoError(t, err, out)
	for i := range worked {
		assert.Positive(t, worked[i], out)
		assert.Greater(t, failed[i], 2, out)
	}
}

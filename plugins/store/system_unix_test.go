//go:build unix

package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// nobody is a user who is not the one of the tests.
const nobody = 65534

func init() {
	before["umask"] = func(text string) error {
		mask, err := strconv.ParseInt(text, 8, 32)
		syscall.Umask(int(mask))
		return err
	}
	before["user"] = func(text string) error {
		id, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		if err := syscall.Setgid(id); err != nil {
			return err
		}
		return syscall.Setuid(id)
	}
	tasks["reader"] = taskReader
	tasks["owner"] = taskOwner
}

func asRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
}

// public is a folder that every user may read.
func public(t testing.TB) string {
	dir, err := os.MkdirTemp("", "store")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func output(t testing.TB, do task) string {
	t.Helper()
	out, err := reexec.Command(t, do).Output()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestFoldersThatOthersMayWriteTo(t *testing.T) {
	for name, c := range map[string]struct {
		at   string
		mode fs.FileMode
	}{
		"by all":                  {".", 0o777},
		"by all, as in /tmp":      {".", 0o777 | fs.ModeSticky},
		"by a group":              {".", 0o770},
		"the folder of files":     {"sha256", 0o757},
		"the folder of one file":  {"sha256/" + digestOf(text)[7:], 0o722},
		"the folder of halves":    {"half", 0o702},
		"what is put aside":       {"aside", 0o720},
		"the folder of the locks": {"lock", 0o777},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(filepath.Join(t.TempDir(), "store"))
			require.NoError(t, err)
			put(t, s)
			require.NoError(t, s.Close())
			folder := s.Folder()
			at := filepath.Join(folder, c.at)
			require.NoError(t, os.Chmod(at, c.mode))
			s, err = store.Open(folder)
			if err == nil {
				_, err = s.Find(t.Context(), digestOf(text))
				_, again := s.Put(t.Context(), digestOf(text), -1, "sample.so", never(t))
				assert.Equal(t, err, again)
				s.Close()
			}
			require.ErrorIs(t, err, registry.ErrStore)
			assert.ErrorContains(t, err, "found one that others may write to")
			assert.ErrorContains(t, err, "Take that from them: chmod -R go-w "+strconv.Quote(at))
			require.NoError(t, os.Chmod(at, c.mode&^0o022)) // as it says
			s = open(t, folder)
			_, err = s.Find(t.Context(), digestOf(text))
			require.NoError(t, err)
		})
	}
}

func TestAFileThatOthersMayWriteTo(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	file := put(t, s)
	require.NoError(t, os.Chmod(file.Path, 0o757))
	_, err := s.Find(t.Context(), file.Digest)
	assert.ErrorIs(t, err, registry.ErrDigest)
	assert.ErrorContains(t, err, "found one that others may write to (-rwxr-xrwx), expected a file that nobody may write to")
	assert.Equal(t, file, put(t, s))
}

func TestAFIFOInAFilesPlace(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	file := put(t, s)
	require.NoError(t, os.Remove(file.Path))
	require.NoError(t, syscall.Mkfifo(file.Path, 0o444))
	half := filepath.Join(s.Folder(), "half", file.Digest[7:])
	require.NoError(t, syscall.Mkfifo(half, 0o644))
	_, err := s.Find(t.Context(), file.Digest)
	assert.ErrorIs(t, err, registry.ErrDigest)
	assert.ErrorContains(t, err, "found a special file (p")
	assert.Equal(t, file, put(t, s))
}

func TestFoldersOfOthers(t *testing.T) {
	asRoot(t)
	for _, at := range []string{".", "sha256", "sha256/" + digestOf(text)[7:], "lock"} {
		s, err := store.Open(filepath.Join(t.TempDir(), "store"))
		require.NoError(t, err)
		put(t, s)
		require.NoError(t, s.Close())
		path := filepath.Join(s.Folder(), at)
		require.NoError(t, os.Chown(path, nobody, nobody))
		s, err = store.Open(s.Folder())
		if err == nil {
			_, err = s.Find(t.Context(), digestOf(text))
			s.Close()
		}
		assert.ErrorIs(t, err, registry.ErrStore, at)
		assert.ErrorContains(t, err, "found one that belongs to user 65534, while this is user 0, expected one that only its owner may write to: this user, or root")
		assert.ErrorContains(t, err, "Run as its owner, or give it to this user: chown -R 0 "+strconv.Quote(path))
	}
}

// The modes are the same whatever the umask is.
func TestModes(t *testing.T) {
	for _, mask := range []string{"0", "022", "077"} {
		for folder, mode := range map[string]fs.FileMode{"private": 0o700, "public": 0o755} {
			top := t.TempDir()
			path := filepath.Join(top, folder)
			if folder == "public" {
				require.NoError(t, os.Mkdir(path, 0o755))
			}
			output(t, task{Do: "put", Folder: path, Text: text, Before: map[string]string{"umask": mask}})
			seen := 0
			require.NoError(t, filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
				require.NoError(t, err)
				info, err := d.Info()
				require.NoError(t, err)
				want := mode
				if !d.IsDir() {
					want = 0o555
					seen++
				}
				assert.Equal(t, want, info.Mode().Perm(), "%s with umask %s", at, mask)
				return nil
			}))
			assert.Equal(t, 1, seen)
		}
	}
}

// taskReader uses a store that it may only read, and says what it is told.
func taskReader(do task, s *store.Store) error {
	ctx := context.Background()
	digest := digestOf(do.Text)
	file, err := s.Find(ctx, digest)
	if err != nil {
		return err
	}
	same, err := s.Put(ctx, digest, -1, "other.so", nil)
	if err != nil || same != file {
		return fmt.Errorf("found %v, %w, expected %v", same, err, file)
	}
	fmt.Println("found", file.Path)
	_, err = s.Put(ctx, digestOf("another"), -1, "other.so", nil)
	fmt.Println("put:", err)
	_, _, err = s.GC(ctx, func(string) bool { return false }, 0)
	fmt.Println("gc:", err)
	fmt.Println("delete:", s.Delete(ctx, digest))
	return nil
}

// reads checks what a reader says.
func reads(t testing.TB, out, path, cause string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	require.Len(t, lines, 5, out)
	assert.Equal(t, "found "+path, lines[0])
	for i, verb := range []string{"put: ", "gc: ", "delete: "} {
		assert.Contains(t, lines[i+1], verb+filepath.Dir(filepath.Dir(filepath.Dir(path))))
		assert.Contains(t, lines[i+1], "the store cannot be used: "+cause)
		assert.Contains(t, lines[i+1], "install as the folder's owner, or give a folder for the store that this user may write to")
	}
}

func TestAStoreThatMayOnlyBeRead(t *testing.T) {
	asRoot(t)
	folder := filepath.Join(public(t), "store")
	require.NoError(t, os.Mkdir(folder, 0o755))
	s := open(t, folder)
	file := put(t, s)
	do := task{Do: "reader", Folder: folder, Text: text, Before: map[string]string{"user": strconv.Itoa(nobody)}}
	reads(t, output(t, do), file.Path, "permission denied")
	for _, at := range []string{".", "sha256", "half", "lock", "aside", "sha256/" + file.Digest[7:]} {
		require.NoError(t, os.Chmod(filepath.Join(folder, at), 0o555))
	}
	reads(t, output(t, do), file.Path, "permission denied")
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(folder, "half"))) // a store that was made by copying
	require.NoError(t, os.RemoveAll(filepath.Join(folder, "lock")))
	reads(t, output(t, do), file.Path, "permission denied")
}

// taskOwner is a user who is not root, for whom modes count: a kill between a half file's last mode and its rename is no end.
func taskOwner(do task, s *store.Store) error {
	digest := digestOf(do.Text)
	half := filepath.Join(s.Folder(), "half", digest[7:])
	if err := os.MkdirAll(filepath.Dir(half), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(half, []byte(do.Text[:3]), 0o555); err != nil {
		return err
	}
	if err := taskPut(do, s); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	s, err := store.Open(do.Folder)
	if err != nil {
		return err
	}
	_, n, err := s.GC(context.Background(), func(string) bool { return false }, 0)
	fmt.Println("gc:", n, err)
	return nil
}

func TestAUserWhoIsNotRoot(t *testing.T) {
	asRoot(t)
	dir := public(t)
	require.NoError(t, os.Chown(dir, nobody, nobody))
	do := task{Do: "owner", Folder: filepath.Join(dir, "store"), Text: text, Before: map[string]string{"user": strconv.Itoa(nobody)}}
	assert.Contains(t, output(t, do), "gc: 1 <nil>")
	_, err := store.Open(do.Folder)
	assert.ErrorIs(t, err, registry.ErrStore, "root loads nothing from there")
}

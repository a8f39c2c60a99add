package libfile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

func opened(t *testing.T, path string) *File {
	t.Helper()
	f, _, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

// contents reads a copy to its end.
func contents(t *testing.T, c *Copy) []byte {
	t.Helper()
	data := make([]byte, c.Size())
	_, err := c.ReadAt(data, 0)
	require.NoError(t, err)
	return data
}

// An identity is the same by every path to a file, and another after each change.
func TestIdentity(t *testing.T) {
	path := write(t, "lib.so", []byte("one"))
	before, kind, err := Identify(path)
	require.NoError(t, err)
	assert.Zero(t, kind)
	f := opened(t, path)
	assert.Equal(t, before, f.Identity())
	_, err = f.SHA256()
	assert.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("longer"), 0o644))
	after, _, err := Identify(path)
	require.NoError(t, err)
	assert.NotEqual(t, before, after)
	assert.Equal(t, before.ID, after.ID)
	_, err = f.SHA256()
	assert.ErrorIs(t, err, ErrChanged)

	_, _, err = Identify(filepath.Join(filepath.Dir(path), "missing"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, kind, err = Identify(filepath.Dir(path))
	require.NoError(t, err)
	assert.True(t, kind.IsDir())
	_, kind, err = Open(filepath.Dir(path))
	assert.Equal(t, ErrNotRegular, err)
	assert.True(t, kind.IsDir())
}

// Who replaces a library does it by a rename, which also moves the old file's time of change: the file that is being read stays
// the one it was. It is read again, as its times no longer tell whether somebody wrote to it; somebody who did is found.
func TestChangedWhileItIsRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file is renamed there that is open")
	}
	for _, c := range []struct {
		name   string
		change func(path string) error
		want   error
		reads  int
	}{
		{"nothing", func(string) error { return nil }, nil, 1},
		{"replaced", func(path string) error { return os.Rename(write(t, "new.so", []byte("new")), path) }, nil, 2},
		{"renamed", func(path string) error { return os.Rename(path, path+".old") }, nil, 2},
		{"linked", func(path string) error { return os.Link(path, path+".link") }, nil, 2},
		{"removed", os.Remove, nil, 2},
		{"other rights", func(path string) error { return os.Chmod(path, 0o600) }, nil, 2},
		{"written to", func(path string) error { return os.WriteFile(path, []byte("two"), 0o644) }, ErrChanged, 1},
		{"longer", func(path string) error { return os.WriteFile(path, []byte("longer"), 0o644) }, ErrChanged, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "lib.so", []byte("one"))
			f := opened(t, path)
			reads := 0
			tick() // the system's times have no finer steps
			assert.ErrorIs(t, f.whole(func(Identity) error {
				if reads++; reads == 1 {
					return c.change(path)
				}
				return nil
			}), c.want)
			assert.Equal(t, c.reads, reads)
			sum, err := f.SHA256()
			assert.ErrorIs(t, err, c.want)
			share, errShare := Share(f, "lib.so", nil)
			assert.ErrorIs(t, errShare, c.want)
			if c.want == nil {
				assert.Equal(t, Digest(sha256.Sum256([]byte("one"))), sum)
				assert.Equal(t, "one", string(contents(t, share)))
				share.Release()
			}
		})
	}

	// Somebody who never stops is not waited for.
	path := write(t, "lib.so", []byte("one"))
	f, reads := opened(t, path), 0
	assert.ErrorIs(t, f.whole(func(Identity) error {
		reads++
		tick()
		return os.Chmod(path, 0o600+fs.FileMode(reads%2))
	}), ErrChanged)
	assert.Equal(t, 1+rereads, reads)
}

// tick waits until a change of a file has another time than one before.
func tick() { time.Sleep(20 * time.Millisecond) }

// A file that has become shorter since it was opened is no file of zeros.
func TestFileCutShort(t *testing.T) {
	path := write(t, "lib.so", bytes.Repeat([]byte("x"), 1<<20))
	f := opened(t, path)
	require.NoError(t, os.Truncate(path, 1000))
	_, err := f.SHA256()
	assert.ErrorIs(t, err, ErrChanged)
	_, err = Share(f, "lib.so", nil)
	assert.ErrorIs(t, err, ErrChanged)
	assert.Empty(t, copies.byFile, "a failure is not kept")
}

// Those who open one file share a copy, and so do those who know that their files have the same digest; the last one ends it.
func TestShare(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	data := bytes.Repeat([]byte("library "), 100_000)
	sum := Digest(sha256.Sum256(data))
	path, other := write(t, "lib.so", data), write(t, "lib.so", data)
	var shared [20]*Copy
	var all sync.WaitGroup
	for i := range shared {
		f := opened(t, path)
		all.Go(func() {
			var digest *Digest
			if i%2 == 0 {
				digest = &sum
			}
			c, err := Share(f, "lib.so", digest)
			assert.NoError(t, err)
			shared[i] = c
		})
	}
	all.Wait()
	byDigest, err := Share(opened(t, other), "lib.so", &sum)
	require.NoError(t, err)
	for _, c := range shared {
		require.NotNil(t, c)
		assert.Same(t, byDigest.entry, c.entry)
	}
	withoutDigest, err := Share(opened(t, other), "lib.so", nil)
	require.NoError(t, err)
	assert.Same(t, byDigest.entry, withoutDigest.entry, "it is known by now that the other file is the same")
	withoutDigest.Release()
	require.NoError(t, os.WriteFile(path, []byte("overwritten"), 0o644))
	assert.True(t, bytes.Equal(data, contents(t, byDigest)))
	assert.NoError(t, byDigest.Check())

	wrong := Digest{1}
	_, err = Share(opened(t, other), "lib.so", &wrong)
	assert.Equal(t, &DigestError{sum}, err)
	_, err = Share(opened(t, path), "lib.so", &wrong)
	assert.Equal(t, &DigestError{Digest(sha256.Sum256([]byte("overwritten")))}, err)

	for _, c := range shared {
		assert.True(t, bytes.Equal(data[:100], contents(t, c)[:100]))
		c.Release()
	}
	byDigest.Release()
	assert.Empty(t, copies.byFile)
	assert.Empty(t, copies.byHash)
}

// Each process has a copy of its own: the one that lets go of it takes nothing from the other one, which has the same file, with
// the same digest.
func TestCopiesOfTwoProcesses(t *testing.T) {
	const variable = "FERRULE_TEST_COPY_OF"
	data := []byte("library")
	sum := Digest(sha256.Sum256(data))
	if path := os.Getenv(variable); path != "" { // the other process
		c, err := Share(opened(t, path), "lib.so", &sum)
		require.NoError(t, err)
		fmt.Println("\nmade")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the first one has released its own
		at, err := os.ReadFile(c.Path())
		require.NoError(t, err)
		assert.Equal(t, data, at)
		c.Release()
		return
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	path := write(t, "lib.so", data)
	before, err := Share(opened(t, path), "lib.so", &sum)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestCopiesOfTwoProcesses$")
	cmd.Env, cmd.Stderr = append(os.Environ(), variable+"="+path), os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	for line := ""; line != "made\n"; {
		line, err = lines.ReadString('\n')
		require.NoError(t, err)
	}
	before.Release()
	after, err := Share(opened(t, path), "lib.so", &sum) // which also removes what processes have left that are gone
	require.NoError(t, err)
	defer after.Release()
	require.NoError(t, in.Close())
	text, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait(), "%s", text)
	at, err := os.ReadFile(after.Path())
	require.NoError(t, err, "the other one has released its own")
	assert.Equal(t, data, at)
}

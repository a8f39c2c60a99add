package libfile

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Nobody can write to a copy, not even through its descriptor, and it has the file's name and no path.
func TestCopyIsSealed(t *testing.T) {
	f := opened(t, write(t, "lib.so", []byte("library")))
	c, err := Share(f, strings.Repeat("n", 300), nil)
	require.NoError(t, err)
	defer c.Release()
	fd := int(c.Handoff().Fd())
	_, err = unix.Pwrite(fd, []byte("L"), 0)
	assert.ErrorIs(t, err, unix.EPERM)
	assert.ErrorIs(t, unix.Ftruncate(fd, 0), unix.EPERM)
	assert.ErrorIs(t, unix.Ftruncate(fd, 100), unix.EPERM)
	assert.ErrorIs(t, os.WriteFile(c.Path(), []byte("L"), 0o644), unix.EPERM)
	name, err := os.Readlink(strings.ReplaceAll(c.Path(), "/.", ""))
	require.NoError(t, err)
	assert.Contains(t, name, "/memfd:"+strings.Repeat("n", 249))
	assert.NotEqual(t, c.Path(), c.Path(), "the system's loader takes two libraries with one path for the same")
	assert.Equal(t, "library", string(contents(t, c)))
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.NotZero(t, flags&unix.FD_CLOEXEC)
}

// A sparse file takes as much memory as it takes on its disk; with a digest that it does not have it takes none.
func TestCopyOfSparseFile(t *testing.T) {
	const long = tooLarge + 1<<20
	path := write(t, "lib.so", []byte("the beginning"))
	require.NoError(t, os.Truncate(path, long))
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("the middle"), long/2)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	f := opened(t, path)
	assert.False(t, TooLarge(f), "it is long, and not large")

	_, err = Share(f, "lib.so", &Digest{})
	var digest *DigestError
	require.ErrorAs(t, err, &digest)
	assert.Empty(t, copies.byFile, "nothing was copied")

	c, err := Share(f, "lib.so", &digest.Found)
	require.NoError(t, err)
	defer c.Release()
	var s unix.Stat_t
	require.NoError(t, unix.Fstat(int(c.Handoff().Fd()), &s))
	assert.EqualValues(t, long, s.Size)
	assert.Less(t, s.Blocks*512, int64(1<<20))
	for at, want := range map[int64]string{0: "the beginning\x00", long / 2: "the middle\x00", long - 4: "\x00\x00\x00\x00"} {
		got := make([]byte, len(want))
		_, err := c.ReadAt(got, at)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}

// What is held in place of a copy is the file, wherever it is put, until somebody writes to it.
func TestHold(t *testing.T) {
	path := write(t, "lib.so", bytes.Repeat([]byte("x"), 1000))
	f := opened(t, path)
	c, err := Hold(f)
	require.NoError(t, err)
	defer c.Release()
	assert.True(t, c.Held())
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, os.WriteFile(path, []byte("another"), 0o644))
	assert.NoError(t, c.Check())
	assert.Equal(t, strings.Repeat("x", 1000), string(contents(t, c)))
	require.NoError(t, os.WriteFile(path+".old", []byte("overwritten"), 0o644))
	assert.ErrorIs(t, c.Check(), ErrChanged)
}

// A fifo that comes to the path once it was looked at is refused; nobody waits for its writer.
func TestFifoInPlace(t *testing.T) {
	path := write(t, "lib.so", []byte("library"))
	require.NoError(t, os.Remove(path))
	require.NoError(t, unix.Mkfifo(path, 0o644))
	for _, open := range []func(string) (*File, os.FileMode, error){Open, OpenRegular} {
		_, kind, err := open(path)
		assert.Equal(t, ErrNotRegular, err)
		assert.Equal(t, "a fifo", Kind(kind))
	}
}

// What a copy costs, and what a digest does on top of it.
func BenchmarkShare(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20, 64 << 20} {
		path := b.TempDir() + "/lib.so"
		require.NoError(b, os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef"), size/16), 0o644))
		share := func(b *testing.B, digest bool) {
			b.SetBytes(int64(size))
			for b.Loop() {
				f, _, err := Open(path)
				require.NoError(b, err)
				var sum *Digest
				if digest {
					found, err := f.SHA256()
					require.NoError(b, err)
					sum = &found
				}
				c, err := Share(f, "lib.so", sum)
				require.NoError(b, err)
				c.Release()
				f.Close()
			}
		}
		b.Run(fmt.Sprintf("copy/%dKiB", size>>10), func(b *testing.B) { share(b, false) })
		b.Run(fmt.Sprintf("digest/%dKiB", size>>10), func(b *testing.B) { share(b, true) })
	}
}

// What nobody shares has a digest, too, which nobody finds it by.
func TestDigestOfWhatNobodyShares(t *testing.T) {
	data := []byte("library")
	memory, err := Memory("x", data)
	require.NoError(t, err)
	defer memory.Release()
	held, err := Hold(opened(t, write(t, "lib.so", data)))
	require.NoError(t, err)
	defer held.Release()
	for _, c := range []*Copy{memory, held} {
		sum, err := c.SHA256()
		require.NoError(t, err)
		assert.Equal(t, Digest(sha256.Sum256(data)), sum)
		assert.Empty(t, copies.byHash)
	}
}

// What cannot be copied says what to do about it, not to see the cause.
func TestCopyRemedy(t *testing.T) {
	for err, want := range map[error]string{unix.EMFILE: "ulimit -n", unix.ENFILE: "fs.file-max", unix.ENOMEM: "Free memory", unix.EIO: "disk",
		unix.ENOSPC: "Free memory", unix.EACCES: "vm.memfd_noexec", unix.EPERM: "memfd_create", unix.ENOSYS: "memfd_create", unix.EFBIG: "ulimit -f"} {
		assert.Contains(t, CopyRemedy(fmt.Errorf("memfd_create: %w", err)), want, "%v", err)
	}
	assert.Contains(t, Remedy(unix.EACCES), "permissions")
	assert.Contains(t, Remedy(unix.ENOENT), "path")
}

// The path that a copy is loaded by stays in the loader's list when the descriptor is closed. A debugger opens it: it may lead nowhere, but to
// nothing of the debugger's own, and to no pipe that got the number meanwhile.
func TestPathOfACopyIsNobodyElses(t *testing.T) {
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur <= few {
		t.Skipf("a process may have no more than %d descriptors here", limit.Cur)
	}
	library := write(t, "lib.so", []byte("library"))
	f := opened(t, library)
	for name, make := range map[string]func() (*Copy, error){
		"memory": func() (*Copy, error) { return Memory("lib.so", []byte("library")) },
		"held":   func() (*Copy, error) { return Hold(f) },
		"received": func() (*Copy, error) {
			file, err := os.Open(library)
			require.NoError(t, err)
			return Received(file, "")
		},
	} {
		c, err := make()
		require.NoError(t, err)
		path := c.Path()
		assert.Regexp(t, fmt.Sprintf(`^/proc/%d/fd[/.]*/[0-9]+$`, os.Getpid()), path, name)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "library", string(text))
		number, err := strconv.Atoi(filepath.Base(path))
		require.NoError(t, err)
		assert.GreaterOrEqual(t, number, few, name)
		c.Release()
		assert.NoFileExists(t, path)
	}
}

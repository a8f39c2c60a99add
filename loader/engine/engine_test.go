package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// A file in memory is as one on disk, to whoever reads its bytes, also where it is empty: nothing is opened.
func TestMemory(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("long", engine.HeadSize)} {
		f := engine.Memory(filepath.Join(t.TempDir(), "none"), []byte(text))
		head, err := f.Head()
		require.NoError(t, err)
		assert.Equal(t, text[:min(len(text), engine.HeadSize)], string(head))
		assert.Nil(t, f.Take())
		sum := sha256.Sum256([]byte(text))
		for _, digest := range []*engine.Digest{nil, &sum} {
			all, err := f.Bytes(digest, int64(len(text)))
			require.NoError(t, err)
			assert.Equal(t, text, string(all))
		}
		_, err = f.Bytes(&engine.Digest{}, int64(len(text)))
		require.ErrorIs(t, err, engine.ErrDigest)
		if text != "" {
			_, err = f.Bytes(nil, int64(len(text))-1)
			require.ErrorIs(t, err, inspect.ErrMalformed)
			assert.ErrorContains(t, err, fmt.Sprintf("expected %d bytes at most", len(text)-1))
		}
		f.Close()
	}
}

// The file is the one that was there when somebody first looked into it, whatever is at the path by then.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin")
	long := strings.Repeat("first", 2000)
	require.NoError(t, os.WriteFile(path, []byte(long), 0o600))
	f := &engine.File{Path: path}
	defer f.Close()
	assert.Nil(t, f.Take(), "nobody has looked into it")
	head, err := f.Head()
	require.NoError(t, err)
	assert.Equal(t, long[:engine.HeadSize], string(head))

	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, os.WriteFile(path, []byte("second"), 0o600))
	again, err := f.Head()
	require.NoError(t, err)
	assert.Equal(t, head, again)
	taken := f.Take()
	require.NotNil(t, taken)
	defer taken.Close()
	all := make([]byte, taken.Size)
	_, err = taken.ReadAt(all, 0)
	require.NoError(t, err)
	assert.Equal(t, long, string(all))
	assert.Nil(t, f.Take(), "it has one owner")

	empty := &engine.File{Path: filepath.Join(t.TempDir(), "empty")}
	defer empty.Close()
	require.NoError(t, os.WriteFile(empty.Path, nil, 0o600))
	head, err = empty.Head()
	require.NoError(t, err)
	assert.Empty(t, head)
}

func TestFileThatCannotBeRead(t *testing.T) {
	for path, kind := range map[string]error{filepath.Join(t.TempDir(), "missing"): inspect.ErrRead, t.TempDir(): inspect.ErrNotRegular} {
		f := &engine.File{Path: path}
		for range 2 {
			_, err := f.Head()
			var e *inspect.Error
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, kind)
			assert.Equal(t, path, e.Path)
		}
		assert.Nil(t, f.Take())
		f.Close()
	}
}

// By a relative path it is the file that its absolute path names, for systems that know a file by its path.
func TestFileByRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("plugin", []byte("text"), 0o600))
	f := &engine.File{Path: "plugin"}
	_, err := f.Head()
	require.NoError(t, err)
	abs, err := filepath.Abs("plugin")
	require.NoError(t, err)
	want, _, err := libfile.Identify(abs)
	require.NoError(t, err)
	taken := f.Take()
	assert.Equal(t, want, taken.Identity())
	taken.Close()

	_, err = (&engine.File{}).Head()
	assert.ErrorIs(t, err, inspect.ErrNotRegular)
	assert.ErrorContains(t, err, "an empty path")
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		err     error
		message string
		status  abi.Status
	}{
		{errors.New("no customer"), "no customer", abi.StatusFailed},
		{fmt.Errorf("no customer: %w", abi.StatusInvalid), "no customer", abi.StatusInvalid},
		{abi.StatusUnsupported, "", abi.StatusUnsupported},
		{fmt.Errorf("wait: %w", context.Canceled), "wait: context canceled", abi.StatusCancelled},
		{context.DeadlineExceeded, "context deadline exceeded", abi.StatusCancelled},
		{fmt.Errorf("own: %w", abi.Status(1234)), "own", 1234},
		{fmt.Errorf("x: %w", abi.StatusOK), "x", abi.StatusFailed},
		{fmt.Errorf("x: %w", abi.StatusPanic), "x: panic", abi.StatusFailed},
		{fmt.Errorf("x: %w", abi.StatusMisuse), "x: misuse", abi.StatusFailed},
		{fmt.Errorf("x: %w", abi.StatusMore), "x: more room needed", abi.StatusFailed},
		{fmt.Errorf("x: %w", abi.Status(999)), "x: status 999", abi.StatusFailed},
		{fmt.Errorf("x: %w", abi.Status(-5)), "x: status -5", abi.StatusFailed},
	} {
		message, status := engine.Failure(c.err)
		assert.Equal(t, c.status, status, "%v", c.err)
		assert.Equal(t, c.message, string(message))
	}
}

// TestSuspended: what is left of a suspension is rounded up: none is left only where none is.
func TestSuspended(t *testing.T) {
	for want, left := range map[string]time.Duration{"1ms": 1, "1s": time.Second, "1.001s": time.Second + 1} {
		crash := &engine.Crash{Suspended: left}
		assert.ErrorContains(t, crash, "suspended for another "+want+", because")
	}
}

// Why a crash is said to be does not take the place of the signal and of where the fault was.
func TestCrashSaysWhere(t *testing.T) {
	where := engine.Crash{Signal: syscall.SIGABRT, Code: -1, Fault: "in give_up (p.c:9)"}
	signal := fmt.Sprintf("%q", syscall.SIGABRT)
	assert.Equal(t, "the worker was ended by the signal "+signal+" (in give_up (p.c:9))", where.Error())
	where.Reason = "ended by itself"
	assert.Equal(t, "the worker was ended by itself; the signal was "+signal+" (in give_up (p.c:9))", where.Error())
	where.Fault = ""
	assert.Equal(t, "the worker was ended by itself", where.Error())
}

//go:build unix

package lock_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/lock"
)

const nobody = 65534

func become(user int) error {
	if err := syscall.Setgid(user); err != nil {
		return err
	}
	return syscall.Setuid(user)
}

// TestModeOfANewLock: whatever the umask is, nobody else may write a lock that was not there before; one that is there keeps its mode.
func TestModeOfANewLock(t *testing.T) {
	for mask, want := range map[int]os.FileMode{0: 0o644, 0o022: 0o644, 0o077: 0o600} {
		path := filepath.Join(t.TempDir(), "ferrule.lock")
		before := syscall.Umask(mask)
		update(t, path, func(l *lock.Lock) { add(l, "a", "1.0.0") })
		syscall.Umask(before)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Perm(), "umask %03o", mask)
	}
}

func TestAFolderThatMayOnlyBeRead(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir, err := os.MkdirTemp("", "lock")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "ferrule.lock")
	update(t, path, func(l *lock.Lock) { add(l, "a", "1.0.0") })
	require.NoError(t, os.Chmod(path, 0o666))
	do := task{Path: path, Name: "a", User: nobody}
	out, err := reexec.Command(t, do).Output()
	require.NoError(t, err, "nothing is to be written: %s", out)
	do.Name = "b"
	out, err = reexec.Command(t, do).Output()
	require.Error(t, err)
	assert.Contains(t, string(out), dir+"/.ferrule.lock.update: found a file or folder that may only be read, expected one that this user may write to: permission denied")

	require.NoError(t, os.Chown(path, nobody, nobody))
	update(t, path, func(l *lock.Lock) { add(l, "c", "1.0.0") }) // root writes what is another's
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, uint32(nobody), info.Sys().(*syscall.Stat_t).Uid)
	assert.Equal(t, os.FileMode(0o666), info.Mode().Perm())
}

//go:build unix

package install_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
)

func init() {
	become = func(user int) error {
		if err := syscall.Setgid(user); err != nil {
			return err
		}
		return syscall.Setuid(user)
	}
}

// A store that may only be read will do while it has what the lock names. Root, whom nothing is read-only for, has another user try.
func TestReadOnly(t *testing.T) {
	user := 0
	if os.Getuid() == 0 {
		user = 65534
	}
	public, err := os.MkdirTemp("", "install")
	require.NoError(t, err)
	defer os.RemoveAll(public)
	require.NoError(t, os.Chmod(public, 0o755))
	p := newPlace(t)
	p.store = filepath.Join(public, "store")
	require.NoError(t, os.Mkdir(p.store, 0o755))
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	readOnly := func(mode fs.FileMode) {
		require.NoError(t, filepath.WalkDir(p.store, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, mode)
			}
			return err
		}))
	}
	readOnly(0o555)
	defer readOnly(0o755)
	home := filepath.Join(public, "home")
	require.NoError(t, os.Mkdir(home, 0o755))
	do := task{Lock: filepath.Join(home, "copied.lock"), Store: p.store, Names: []string{"dist_aaaa"}, User: user}
	require.NoError(t, os.WriteFile(do.Lock, []byte(p.text()), 0o644))
	other := filepath.Join(public, "other.so")
	require.NoError(t, os.Rename(p.build(library{tag: "bbbb", version: "1.0.0"}), other))
	if user != 0 {
		require.NoError(t, os.Chown(home, user, user))
		require.NoError(t, os.Chown(do.Lock, user, user))
	}
	out, err := reexec.Command(t, do).Output()
	require.NoError(t, err, "%s", out)

	do.Files, do.Names = []string{other}, []string{"dist_aaaa", "dist_bbbb"}
	out, err = reexec.Command(t, do).Output()
	require.Error(t, err)
	assert.Contains(t, string(out), "the store cannot be used")
	assert.NotContains(t, string(out), "panic")
}

package config_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/plugins/config"
)

// TestSaveWithoutLocks: on a file system that has no locks a file is saved all the same, and what stood for the lock does not stay.
func TestSaveWithoutLocks(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOTSUP, unix.ENOLCK} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, []byte("plugins: [a]\n"), 0o600))
		f, err := config.OpenFile(path)
		require.NoError(t, err)
		require.NoError(t, f.Add("b", ""))
		saved := make(chan error)
		var refused error
		go func() {
			runtime.LockOSThread() // and never back: the thread ends with the goroutine
			if refused = withoutFlock(errno); refused != nil {
				saved <- nil
				return
			}
			saved <- f.Save()
		}()
		err = <-saved
		if refused != nil {
			t.Skip("the system lets nothing be refused here: ", refused)
		}
		require.NoError(t, err, errno)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "plugins: [a, b]\n", string(text))
		entries, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		assert.Len(t, entries, 1, "%v: %v", errno, entries)
	}
}

// withoutFlock has each flock of this thread fail with an error, as the kernel's own of a file system without locks.
func withoutFlock(with unix.Errno) error {
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Policy: seccomp.Policy{DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{{Names: []string{"flock"}, Action: seccomp.ActionErrno | seccomp.Action(with)}}}})
}

//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// locked is a file that somebody holds the lock of.
func locked(t *testing.T, path string, flags int) *os.File {
	f, err := os.OpenFile(path, flags, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	return f
}

// Whoever can read a folder can hold its lock: that holds up nobody who listens there, nor is anything left there.
func TestServeBesideALock(t *testing.T) {
	path := fixture.Socket(t)
	locked(t, filepath.Dir(path), os.O_RDONLY)
	l, err := listenUnix(t.Context(), "--unix", path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	gone(t, path)
	gone(t, path+".lock")
}

// A socket is taken away once: a second end of its listener leaves alone whose it is by then, also where the system gives both one number.
func TestServeEndsItsSocketOnce(t *testing.T) {
	path := fixture.Socket(t)
	first, err := listenUnix(t.Context(), "--unix", path)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	second, err := listenUnix(t.Context(), "--unix", path)
	require.NoError(t, err)
	defer second.Close()
	_ = first.Close()
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	conn.Close()
}

// Who holds the lock of a socket is waited for: for a while, and not when this command is to end. Then the next one has it.
func TestServeTurn(t *testing.T) {
	path := fixture.Socket(t)
	held := locked(t, path+".lock", os.O_RDWR|os.O_CREATE)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := listenUnix(ended, "--unix", path)
	assert.ErrorIs(t, err, context.Canceled)

	defer func(within time.Duration) { turnWithin = within }(turnWithin)
	turnWithin = time.Millisecond
	_, err = listenUnix(t.Context(), "--unix", path)
	assert.ErrorContains(t, err, "found a lock at "+path+".lock that somebody has held for 1ms")
	turnWithin = time.Minute

	others := make(chan error, 1)
	go func() {
		l, err := listenUnix(t.Context(), "--unix", path)
		if err == nil {
			err = l.Close()
		}
		others <- err
	}()
	require.NoError(t, os.Remove(path+".lock")) // as who has it does at the end
	held.Close()
	assert.NoError(t, <-others)
}

// A folder in which files can be made, and which cannot be listed, is one for sockets.
func TestServeInAFolderThatCannotBeRead(t *testing.T) {
	folder, err := os.MkdirTemp("", "fs")
	require.NoError(t, err)
	defer os.RemoveAll(folder)
	require.NoError(t, os.Chmod(folder, 0o300))
	l, err := listenUnix(t.Context(), "--unix", filepath.Join(folder, "s"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// Secrets may come over FIFOs, as a shell's <(…) has it: each is read once.
func TestServeSecretsOverFIFOs(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	var paths []string
	for _, of := range []string{cert, key} {
		text, err := os.ReadFile(of)
		require.NoError(t, err)
		fifo := filepath.Join(t.TempDir(), "fifo")
		require.NoError(t, unix.Mkfifo(fifo, 0o600))
		paths = append(paths, fifo)
		go func() {
			assert.NoError(t, os.WriteFile(fifo, text, 0o600))
		}()
	}
	s := serving(t, nil, fixture.C(t, "echo"), "--tcp", "127.0.0.1:0", "--cert", paths[0], "--key", paths[1])
	assert.Equal(t, "hello", result(t, opened(t, s.address(), []sidecar.Option{sidecar.WithTLS(&tls.Config{RootCAs: pool})}), "echo", "hello"))
}

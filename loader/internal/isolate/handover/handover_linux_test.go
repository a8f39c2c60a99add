package handover

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func file(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "library")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// pair makes both ends, in this process.
func pair(t *testing.T) (*Giver, *Taker) {
	t.Helper()
	g, err := New()
	require.NoError(t, err)
	t.Cleanup(g.Close)
	return g, NewTaker(g.Files())
}

func assertTakes(t *testing.T, taker *Taker, number uint16, want string) {
	t.Helper()
	f, err := taker.Take(number)
	require.NoError(t, err)
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
	require.NoError(t, err)
	assert.Equal(t, want, string(text))
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.NotZero(t, flags&unix.FD_CLOEXEC)
}

// Who asks for a number gets its file, in whatever order they were sent; what was sent twice counts the last time.
func TestTake(t *testing.T) {
	g, taker := pair(t)
	for i, text := range []string{"zero", "one", "old", "three"} {
		require.NoError(t, g.Give(uint16(i), file(t, text), nil))
	}
	require.NoError(t, g.Give(2, file(t, "two"), nil))
	require.NoError(t, g.Give(7, nil, nil), "no file, where the path says where it is")
	assertTakes(t, taker, 3, "three")
	require.NoError(t, g.Give(0xffff, file(t, "last"), nil))
	assertTakes(t, taker, 0xffff, "last")
	for i, text := range []string{"zero", "one", "two"} {
		assertTakes(t, taker, uint16(i), text)
	}
	_, err := taker.Take(1)
	assert.ErrorIs(t, err, unix.EAGAIN, "it is not waited for")
}

// Nothing comes back by the socket: the host would keep what a worker sends.
func TestOneWay(t *testing.T) {
	g, taker := pair(t)
	fd := int(taker.file.Fd())
	assert.ErrorIs(t, unix.Sendmsg(fd, []byte("x"), unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL), unix.EPIPE)
	_, _, _, _, err := unix.Recvmsg(g.fd, make([]byte, 1), make([]byte, unix.CmsgSpace(4)), unix.MSG_DONTWAIT)
	assert.NoError(t, err, "the end, and nothing else")
}

// A worker that takes nothing holds up its host as long as it lives, and no longer; one that is gone does not.
func TestNobodyTakes(t *testing.T) {
	g, _ := pair(t)
	dying, f := make(chan struct{}), file(t, "library")
	time.AfterFunc(50*time.Millisecond, func() { close(dying) })
	var err error
	for n := 0; err == nil; n++ {
		require.Less(t, n, 1<<20)
		err = g.Give(uint16(n), f, dying)
	}
	<-dying
	assert.Equal(t, ErrNobody, err)

	g, _ = pair(t)
	require.NoError(t, g.Give(0, f, nil))
	g.Started() // what was sent is lost
	assert.Equal(t, ErrNobody, g.Give(0, f, nil))
	assert.Equal(t, ErrNobody, g.Give(0, f, nil))
	g.Close()
	assert.ErrorIs(t, g.Give(0, f, nil), unix.EBADF)
}

// A worker without a free descriptor gets an error, and the next file when there is one.
func TestNoDescriptorFree(t *testing.T) {
	g, taker := pair(t)
	require.NoError(t, g.Give(0, file(t, "lost"), nil))
	require.NoError(t, g.Give(1, file(t, "library"), nil))
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	highest := 0
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		highest = max(highest, n)
	}
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	var fill []int
	defer func() {
		for _, fd := range fill {
			unix.Close(fd)
		}
	}()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 1), Max: before.Max}))
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		fill = append(fill, fd)
	}
	_, err = taker.Take(0)
	assert.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
	assert.ErrorContains(t, err, "did not arrive")
	assertTakes(t, taker, 1, "library")
}

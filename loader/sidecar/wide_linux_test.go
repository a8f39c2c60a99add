package sidecar

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The first long message makes a pipe wide, a short one does not; there are only so many of them at a time, and a closed one makes place for another.
func TestRoom(t *testing.T) {
	size := func(f *os.File) (n int) {
		conn, err := f.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, conn.Control(func(descriptor uintptr) { n, err = unix.FcntlInt(descriptor, unix.F_GETPIPE_SZ, 0) }))
		require.NoError(t, err)
		return n
	}
	var rooms []*room
	add := func() (widened bool) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { r.Close(); w.Close() })
		own := &room{}
		rooms = append(rooms, own)
		t.Cleanup(own.close)
		before := size(w)
		own.had(w, long-1)
		require.Equal(t, before, size(w))
		own.had(w, long)
		own.had(w, long)
		return size(w) == wide
	}
	require.True(t, add())
	for len(rooms) <= mostWide && add() {
	}
	assert.False(t, add())
	rooms[0].close()
	rooms[0].close()
	assert.True(t, add())
	assert.False(t, add())

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	rooms[1].close()
	rooms[1].had(w, long) // it is closed
	assert.NotEqual(t, wide, size(w))
	assert.True(t, add())
}

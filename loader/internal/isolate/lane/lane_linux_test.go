package lane

import (
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A worker that makes the file shorter would end its host by SIGBUS.
func TestSealed(t *testing.T) {
	h, _ := pair(t)
	fd := int(h.memory.file.Fd())
	assert.Equal(t, unix.EPERM, unix.Ftruncate(fd, 0))
	assert.Equal(t, unix.EPERM, unix.Ftruncate(fd, baseSize-1))
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	assert.Equal(t, unix.EPERM, err)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
	assert.Equal(t, unix.EPERM, err)
}

// A worker that makes the file longer takes nothing from the host.
func TestGrownByTheWorker(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	require.NoError(t, unix.Ftruncate(int(w.memory.file.Fd()), 1<<40))
	for _, size := range []int{1 << 20, 100, 5 << 20} {
		in, err := l.Room(size, size)
		require.NoError(t, err)
		in[size-1] = 1
		require.NoError(t, l.Grow(Message{Fn: uint32(RegionUp), Len: uint64(size)}, 1<<30))
		assert.GreaterOrEqual(t, len(l.bytes(RegionUp)), size)
	}
}

// Hosts that come and go leave no descriptors and no mappings.
func TestCloseLeavesNothing(t *testing.T) {
	count := func() int {
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		descriptors, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return strings.Count(string(maps), "memfd:ferrule") + len(descriptors)
	}
	before := count()
	for range 20 {
		h, err := NewHost()
		require.NoError(t, err)
		l := h.NewLane()
		for _, size := range []int{100, 1 << 20, 5 << 20} {
			_, err = l.Room(size, size)
			require.NoError(t, err)
			require.NoError(t, l.Grow(Message{Fn: uint32(RegionUp), Len: uint64(size)}, 1<<30))
		}
		h.Close()
	}
	assert.LessOrEqual(t, count(), before)
}

// What is fetched ahead need not be there any more.
func TestNearFaultsNowhere(t *testing.T) {
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	at := unsafe.SliceData(memory)
	near(nil, at, nil, at)
	require.NoError(t, unix.Munmap(memory))
	near(nil, at, nil, at)
}

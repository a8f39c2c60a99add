package guest

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A memory that grows page by page takes little more than it comes to, has what it had, and is zero where it is new.
func TestMemoryGrows(t *testing.T) {
	const limit = 64 << 20
	m := &memory{budget: &Budget{limit}}
	require.Len(t, m.Reallocate(PageSize), PageSize)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for size := uint64(2 * PageSize); size <= limit; size += PageSize {
		room := m.Reallocate(size)
		require.Len(t, room, int(size))
		at := len(room) - PageSize
		require.Zero(t, room[at])
		require.Zero(t, room[len(room)-1])
		room[at] = byte(at / PageSize)
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(limit*3/2), "all rooms together")
	for at := PageSize; at < limit; at += PageSize {
		require.Equal(t, byte(at/PageSize), m.room[at])
	}
	assert.Nil(t, m.Reallocate(limit+PageSize))
	assert.Equal(t, limit, cap(m.room), "no more than the budget")
}

// A room is no longer than a process may have one, whatever the budget is: with 32 bits four times as much as there is may be more.
func TestRoomWithinTheProcess(t *testing.T) {
	const most, gib = 1<<31 - 1, 1 << 30
	m := &memory{budget: &Budget{4 * gib}, room: make([]byte, gib*3/5)}
	assert.Equal(t, uint64(most), m.next(gib, most))
	assert.Equal(t, 4*uint64(len(m.room)), m.next(gib, math.MaxInt64))
	if math.MaxInt > math.MaxInt32 {
		return
	}
	assert.Nil(t, m.Reallocate(most+1))
}

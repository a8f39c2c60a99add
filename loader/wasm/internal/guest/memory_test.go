package guest

import (
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

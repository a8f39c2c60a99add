package guest

import (
	"context"
	"math"

	"github.com/tetratelabs/wazero/experimental"
)

// Budget is what the memories of one instance may take together: wazero's own limit is each memory's, and an instance may have several.
// It is used by one goroutine at a time, as the instance is.
type Budget struct{ left int64 }

// NewBudget makes the budget of an instance.
func (r *Runtime) NewBudget() *Budget { return &Budget{max(r.limits.Memory, PageSize)} }

// Context returns a context: the memories of modules that are instantiated with it take from the budget.
func (b *Budget) Context(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(capacity, _ uint64) experimental.LinearMemory {
		return &memory{budget: b, room: make([]byte, 0, capacity)}
	}))
}

// Over reports whether the memories have more than the budget. They get what they need at first in any case, because wazero cannot be told that there
// is none; what they ask for later they get within the budget alone.
func (b *Budget) Over() bool { return b.left < 0 }

type memory struct {
	budget *Budget
	room   []byte
	begun  bool
}

// Reallocate is experimental.LinearMemory's.
func (m *memory) Reallocate(size uint64) []byte {
	if size > math.MaxInt { // of a process with 32 bits, which has not so many addresses
		return nil
	}
	more := int64(size) - int64(len(m.room))
	if m.begun && more > m.budget.left {
		return nil
	}
	m.begun = true
	m.budget.left -= more
	if size > uint64(cap(m.room)) {
		m.room = append(make([]byte, 0, m.next(size, math.MaxInt)), m.room...)
	}
	m.room = m.room[:size]
	return m.room
}

// next is how much room there is to be for size bytes, which are most at the most. What there was before is the collector's, and the process's until that comes: all the rooms of a memory that
// grows by steps are to be a third of the last one, not several times as much. What is not used of a room costs addresses, and mostly no memory.
func (m *memory) next(size, most uint64) uint64 {
	const step = 4
	return max(size, min(step*uint64(cap(m.room)), size+uint64(max(m.budget.left, 0)), most))
}

// Free is experimental.LinearMemory's. What the instance had, the collector takes.
func (m *memory) Free() {}

//go:build amd64 || arm64

package lane

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
)

// maxShares is how many pieces of shared memory a worker uses at most: the lanes, of which those that nobody uses are left out, and each one's regions.
const maxShares = Lanes * (1 + int(regions))

// share is a piece of memory that this process shares with its host. A child that a plug-in forks gets it as a copy of its own, by afterFork: else what the child
// writes to its call's memory, before it executes something or ends, would be in the results of calls that come after it.
type share struct {
	addr uintptr // 0 where there is none; the last that is written, and the first that is cleared
	size uintptr
	at   uint64 // where in the file it begins
	fd   uintptr
}

var _ [32 - unsafe.Sizeof(share{})]struct{} // as afterFork has it

var (
	sharing  sync.Mutex
	shares   [maxShares]share // afterFork reads it, in the child
	register = sync.OnceValue(func() bool { return dl.AtFork(afterForkAddress()) })
)

// shared notes a piece of memory. A child that is forked by another thread at this moment may share it.
//
// Sound because a mapping of one's own of the same file, in the place of the one that is shared, has the same bytes there until either side writes.
func shared(b []byte, at uint64, fd uintptr) {
	register() // where the C library takes no handler, a child shares the memory: docs/isolation.md says so
	sharing.Lock()
	defer sharing.Unlock()
	for i := range shares {
		if s := &shares[i]; s.addr == 0 {
			s.size, s.at, s.fd = uintptr(len(b)), at, fd
			atomic.StoreUintptr(&s.addr, uintptr(unsafe.Pointer(unsafe.SliceData(b))))
			return
		}
	}
}

// unshared forgets it, before it is unmapped.
func unshared(b []byte) {
	sharing.Lock()
	defer sharing.Unlock()
	for i := range shares {
		if s := &shares[i]; s.addr == uintptr(unsafe.Pointer(unsafe.SliceData(b))) {
			atomic.StoreUintptr(&s.addr, 0)
			return
		}
	}
}

// afterForkAddress returns the address of afterFork, a C function without parameters.
func afterForkAddress() uintptr

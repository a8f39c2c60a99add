//go:build !race

package native

import (
	"sync/atomic"
	"unsafe"
)

// storeRelease stores v so that whoever sees it sees everything this goroutine wrote and is done with what it read before.
// Unlike the atomic package's store it does not wait until other processors can see it, which costs as much as a
// compare-and-swap: on this architecture a plain store has that order, and the compiler does not move memory accesses
// behind a store. The race detector, which would not see it, gets the atomic one.
func storeRelease(word *atomic.Uint32, v uint32) { *(*uint32)(unsafe.Pointer(word)) = v }

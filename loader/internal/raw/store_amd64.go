//go:build !race

package raw

import (
	"sync/atomic"
	"unsafe"
)

// StoreUint32 and StoreUintptr store so that whoever sees the value sees everything this goroutine wrote, and is done with
// what it read before. Unlike the atomic package's stores they do not wait until other processors can see it, which costs
// as much as a compare-and-swap: on this architecture a plain store has that order, and the compiler does not move
// memory accesses behind a store. The race detector, which would not see them, gets the atomic ones.
func StoreUint32(word *atomic.Uint32, v uint32)    { *(*uint32)(unsafe.Pointer(word)) = v }
func StoreUintptr(word *atomic.Uintptr, v uintptr) { *(*uintptr)(unsafe.Pointer(word)) = v }

//go:build race || !amd64

package raw

import "sync/atomic"

// StoreUint32 and StoreUintptr store so that whoever sees the value sees everything this goroutine wrote, and is done with
// what it read before.
func StoreUint32(word *atomic.Uint32, v uint32)    { word.Store(v) }
func StoreUintptr(word *atomic.Uintptr, v uintptr) { word.Store(v) }

//go:build race || !amd64

package native

import "sync/atomic"

// storePhase and storeOwner store so that whoever sees the value sees everything this goroutine wrote, and is done with
// what it read before.
func storePhase(word *atomic.Uint32, v uint32)   { word.Store(v) }
func storeOwner(word *atomic.Uintptr, v uintptr) { word.Store(v) }

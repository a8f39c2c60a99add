//go:build race || !amd64

package native

import "sync/atomic"

// storeRelease stores v so that whoever sees it sees everything this goroutine wrote and is done with what it read
// before.
func storeRelease(word *atomic.Uint32, v uint32) { word.Store(v) }

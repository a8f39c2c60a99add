//go:build !(amd64 || arm64) || race

package cross

// Goroutine returns a number that no other running goroutine has, and that this one keeps; or 0 where there is none: the
// race detector is to see the synchronization that a number would save.
func Goroutine() uintptr { return 0 }

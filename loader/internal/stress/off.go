//go:build !ferrule_stress

// Package stress makes the hazards of the boundary happen on purpose: with the build tag ferrule_stress, every
// crossing collects garbage and moves the goroutine's stack, so that a pointer which the collector or a stack move
// would invalidate is caught by the ordinary tests. Without the tag it costs nothing.
package stress

// Enabled reports whether the build tag ferrule_stress is set.
const Enabled = false

// Cross stands at each crossing of the boundary, in both directions.
func Cross() {}

// Yield stands at each step of the protocol by which calls take slots and give them back.
func Yield() {}

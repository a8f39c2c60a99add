//go:build race

package from_test

// racing is whether the race detector is there, which allocates by itself.
const racing = true

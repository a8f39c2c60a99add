package wire_test

import "runtime/metrics"

// allocated returns how much memory fn allocates, in bytes.
func allocated(fn func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	fn()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// affordable is how much memory the reading of n bytes may take: what a reader has at once, and what a slice has that grows.
func affordable(n int) uint64 { return 3<<20 + 16*uint64(n) }

package lane

import "math/bits"

// extentSize returns how long the extent is that gets n bytes: a quarter more at most, so that there are few sizes.
func extentSize(n uint64) uint64 {
	step := uint64(1) << max(20, bits.Len64(n)-3)
	return (n + step - 1) / step * step
}

//go:build amd64 || arm64

package fpenv

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

//go:noinline
func half(x float64) float64 { return x / 2 }

// smallest is the smallest normal number: half of it is subnormal.
var smallest = math.Float64frombits(0x0010000000000000)

func TestControl(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := Get()
	require.NotZero(t, half(smallest))
	flush := before
	const flushToZero, subnormalsAreZero = 1 << 15, 1 << 6 // of MXCSR
	flush.mxcsr |= flushToZero | subnormalsAreZero
	flush.x87 = 0x027F // double precision
	flush.fpcr |= 1 << 24
	flush.Set()
	flushed, now := half(smallest), Get()
	before.Set()
	assert.Zero(t, flushed)
	assert.NotZero(t, half(smallest))
	if runtime.GOARCH == "amd64" {
		assert.Equal(t, flush.x87, now.x87)
	}
	assert.Equal(t, before, Get())
}

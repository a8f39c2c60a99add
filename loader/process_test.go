package loader_test

import (
	"context"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// smallest is the smallest normal number. Half of it is subnormal.
var smallest = math.Float64frombits(0x0010000000000000)

//go:noinline
func halfOf(x float64) float64 { return x / 2 }

// A library that makes subnormal numbers zero when it is loaded, started and stopped leaves the host's numbers as they were:
// on the thread that opens and closes it, and in host functions on the thread of a pinned instance.
func TestFloatingPointIsTheHosts(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the fixture changes the registers of amd64 and arm64")
	}
	bothWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"fast_math", "fast_math_pinned"} {
			runtime.LockOSThread()
			require.NotZero(t, halfOf(smallest))
			called := 0
			p, err := w.try(tempLibrary(t, fixture.C(t, name)), loader.WithUnload(), loader.WithHostFunc("half", func(context.Context, []byte) ([]byte, error) {
				called++
				assert.NotZero(t, halfOf(smallest), "%s: in a host function", name)
				return nil, nil
			}))
			require.NoError(t, err)
			assert.NotZero(t, halfOf(smallest), "%s: opened", name)
			call(t, p, "call_half", "")
			assert.Equal(t, 1, called)
			require.NoError(t, p.Close())
			assert.NotZero(t, halfOf(smallest), "%s: closed", name)
			runtime.UnlockOSThread()
		}
	})
}

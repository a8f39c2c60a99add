//go:build linux && !ferrule_portable

package isolate_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A call of 64 bytes allocates nothing: not for its context, nor for how it is carried.
func TestAppendAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	f, err := open(t, fixture.C(t, "echo"), isolate.InWorker()).Func("echo")
	require.NoError(t, err)
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	cancellable, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, c := range []context.Context{ctx, cancellable} {
		var mistakes int
		allocs := testing.AllocsPerRun(2000, func() {
			if _, err := f.Append(c, dst, in); err != nil {
				mistakes++
			}
		})
		assert.Zero(t, mistakes)
		assert.Less(t, allocs, 0.5, "what is allocated now and then is the runtime's")
	}
}

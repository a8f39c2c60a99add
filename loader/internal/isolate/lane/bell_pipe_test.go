//go:build !linux || ferrule_portable

package lane

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A side that always sleeps, although the other's work is short, spins longer once in a while: ever more rarely as long as
// that does not help, and not at all where the other side works long.
func TestSpinnerProbes(t *testing.T) {
	var theirs atomic.Uint32
	sleep := func(s *spinner) { s.woken(time.Millisecond) }
	s := spinner{theirs: &theirs}
	for _, every := range []int{4, 8, 16, 32, 64, 64} {
		for range every {
			assert.LessOrEqual(t, s.budget(), maxSpin)
			sleep(&s)
		}
		require.Equal(t, probeSpin, s.budget())
		var word, sleeps atomic.Uint32
		s.await(&word, 0, &sleeps, newBell(t), 0)
	}

	theirs.Store(uint32(2 * maxSpin))
	for range 1000 {
		sleep(&s)
		assert.LessOrEqual(t, s.budget(), maxSpin)
	}
}

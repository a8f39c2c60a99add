package isolate_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A child that a plug-in forks, and that returns from its function, is no second one who serves calls: neither the plug-in's own, nor those of another one in its
// worker.
func TestForkThatReturns(t *testing.T) {
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("an emulator empties no memory at a fork")
	}
	group := isolate.NewGroup("forks")
	p, other := open(t, fixture.C(t, "fork_returns"), isolate.InGroup(group)), open(t, fixture.C(t, "echo"), isolate.InGroup(group))
	_, err := p.Call(ctx, "child_reads", []byte("input"))
	require.NoError(t, err, "a child that ends by itself has what its parent had")
	for round := range 3 {
		_, err := p.Call(ctx, "forks", nil)
		require.NoError(t, err)
		time.Sleep(50 * time.Millisecond) // the call of the child is still to come back
		for i := range 20 {
			in := strconv.Itoa(i * i * i * i * i)
			out, err := p.Call(ctx, "echo", []byte(in))
			require.NoError(t, err, round)
			assert.Equal(t, in, string(out))
			out, err = other.Call(ctx, "echo", []byte(in+"!"))
			require.NoError(t, err, round)
			assert.Equal(t, in+"!", string(out))
		}
	}
}

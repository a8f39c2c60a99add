package isolate_test

import (
	"bytes"
	"os"
	"runtime"
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

// A child that a plug-in forks, and that writes to its call's memory, has a copy of its own: neither its parent's result nor those of later calls are the child's. Short and long
// payloads lie in different memory.
func TestForkThatWrites(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("a forked child shares its parent's memory here; see docs/isolation.md")
	}
	group := isolate.NewGroup("forks")
	p, other := open(t, fixture.C(t, "fork_returns"), isolate.InGroup(group)), open(t, fixture.C(t, "echo"), isolate.InGroup(group))
	for _, size := range []int{100, 1 << 20} {
		in := bytes.Repeat([]byte("p"), size)
		out, err := p.Call(ctx, "child_writes", in)
		require.NoError(t, err)
		require.Equal(t, "parent", string(out))
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
			out, err = p.Call(ctx, "quick_echo", in)
			require.NoError(t, err)
			require.True(t, bytes.Equal(in, out), "%.100q", out)
			out, err = other.Call(ctx, "echo", in)
			require.NoError(t, err)
			require.True(t, bytes.Equal(in, out), "%.100q", out)
		}
	}
}

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
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func forks(t *testing.T) {
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("an emulator empties no memory at a fork")
	}
}

// A child that a plug-in forks, and that returns from its function, is no second one who serves calls: neither the plug-in's own, nor those of another one in its
// worker.
func TestForkThatReturns(t *testing.T) {
	forks(t)
	group := isolate.NewGroup("forks")
	p, other := open(t, fixture.C(t, "fork_returns"), isolate.InGroup(group)), open(t, fixture.C(t, "echo"), isolate.InGroup(group))
	_, err := p.Call(ctx, "child_reads", []byte("input"))
	require.NoError(t, err, "a child that ends by itself has what its parent had")
	for round := range 3 {
		_, err := p.Call(ctx, "forks", nil)
		require.NoError(t, err)
		out, err := p.Call(ctx, "meets", []byte("the parent's"))
		require.NoError(t, err, round)
		require.Equal(t, "the parent's", string(out), "the child has come back during this call")
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
	out, err := p.Call(ctx, "child_returns_own", []byte("the parent's"))
	require.NoError(t, err)
	assert.Equal(t, "the parent's", string(out), "nothing copies what the child has returned to the room of its parent's output")
}

// It does not end the streams of its parent's call, and takes nothing from them and puts nothing into them before it returns.
func TestForkInStream(t *testing.T) {
	forks(t)
	f, err := open(t, fixture.C(t, "fork_returns"), isolate.InWorker()).Func("copies")
	require.NoError(t, err)
	data := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	for _, child := range []string{"", "r", "w"} {
		var out bytes.Buffer
		_, err := f.Stream(ctx, []byte(child), bytes.NewReader(data), &out)
		require.NoError(t, err, child)
		assert.True(t, bytes.Equal(data, out.Bytes()), "%q: %d bytes of %d", child, out.Len(), len(data))
	}
}

// It does not run the rest of the batch once more.
func TestForkInBatch(t *testing.T) {
	forks(t)
	for _, library := range []string{"fork_returns", "fork_returns_batch_missing"} {
		p := open(t, fixture.C(t, library), isolate.InWorker())
		f, err := p.Func("record")
		require.NoError(t, err)
		in := make([][]byte, 600) // more than cross at once
		in[7] = []byte("fork")    // neither the first nor the last of those that do
		counted, err := p.Func("records")
		require.NoError(t, err)
		var b loader.Batch
		require.NoError(t, f.Batch(ctx, in, &b))
		out, err := counted.Append(ctx, make([]byte, 0, 2000), nil)
		require.NoError(t, err)
		assert.Equal(t, len(in), len(out), library)
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
			out, err = p.Call(ctx, "echo", in)
			require.NoError(t, err)
			require.True(t, bytes.Equal(in, out), "%.100q", out)
			out, err = other.Call(ctx, "echo", in)
			require.NoError(t, err)
			require.True(t, bytes.Equal(in, out), "%.100q", out)
		}
	}
}

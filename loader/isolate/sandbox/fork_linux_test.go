package sandbox_test

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// A forked child gets its copy of the call's memory in a sandbox, too.
func TestForkThatWrites(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("a forked child shares its parent's memory here; see docs/isolation.md")
	}
	p, err := loader.Open(fixture.C(t, "fork_returns"), isolate.InWorker(sandbox.With(sandbox.Policy{Memory: 32 << 20, Processes: 64, BestEffort: true})))
	require.NoError(t, err)
	defer p.Close()
	in := bytes.Repeat([]byte("p"), 100)
	out, err := p.Call(t.Context(), "child_writes", in)
	require.NoError(t, err)
	require.Equal(t, "parent", string(out))
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		out, err = p.Call(t.Context(), "echo", in)
		require.NoError(t, err)
		require.True(t, bytes.Equal(in, out), "%.100q", out)
	}
}

package serve_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// plugin is one whose function says in began that it runs, and then waits for its end.
func plugin(began chan<- struct{}) serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "waits", Version: "1", Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "f", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}}})
}

// session has a session over a pipe, and returns the host's end, and what has become of it.
func session(t *testing.T, ctx context.Context, p serve.Plugin, o serve.Options) (net.Conn, <-chan error) {
	host, own := net.Pipe()
	t.Cleanup(func() { host.Close() })
	outcome := make(chan error, 1)
	go func() { outcome <- serve.Session(ctx, own, p, o) }()
	return host, outcome
}

// TestBeforeHello: who has not said hello holds a connection for a while only, and no memory.
func TestBeforeHello(t *testing.T) {
	t.Parallel()
	_, outcome := session(t, t.Context(), plugin(nil), serve.Options{Hello: time.Millisecond})
	assert.ErrorIs(t, <-outcome, os.ErrDeadlineExceeded)

	host, outcome := session(t, t.Context(), plugin(nil), serve.Options{Token: "secret"})
	_, err := io.WriteString(host, "CALL 1 f\nContent-Length: 268435456\n\n") // no byte of which comes
	require.NoError(t, err)
	var broken *wire.Error
	require.ErrorAs(t, <-outcome, &broken)
	assert.Equal(t, "W4", broken.Rule)

	// It is not for what comes behind the hello.
	host, outcome = session(t, t.Context(), plugin(nil), serve.Options{Hello: time.Minute})
	_, err = io.WriteString(host, "HELLO 1\n\n")
	require.NoError(t, err)
	_, err = bufio.NewReader(host).ReadString('}')
	require.NoError(t, err)
	deadlines, ok := host.(interface{ SetDeadline(time.Time) error })
	require.True(t, ok)
	require.NoError(t, deadlines.SetDeadline(time.Time{}))
	go func() { _, _ = io.Copy(io.Discard, host) }()
	_, err = io.WriteString(host, "BYE\n\n")
	require.NoError(t, err)
	assert.NoError(t, <-outcome)
}

// TestGrace: when its context ends, a host is told so; a call may go on within the grace, and is asked to stop then, also where the host does not read.
func TestGrace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		grace time.Duration
		reads bool
	}{"none": {0, true}, "a moment": {time.Millisecond, true}, "a host that does not read": {time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := make(chan struct{}, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			host, outcome := session(t, ctx, plugin(began), serve.Options{Grace: c.grace})
			_, err := io.WriteString(host, "HELLO 1\n\n")
			require.NoError(t, err)
			lines := bufio.NewReader(host)
			until := func(end string) {
				for line := ""; line != end; {
					line, err = lines.ReadString('\n')
					require.NoError(t, err, line)
				}
			}
			until("\n")
			if _, err = lines.ReadString('}'); err == nil { // the first of the manifest's
				go func() { _, _ = io.WriteString(host, "CALL 1 ferrule.start\n\n") }()
			}
			// Its start asks for what the host offers.
			var seen strings.Builder
			for !strings.Contains(seen.String(), "DONE 1 0") {
				line, err := lines.ReadString('\n')
				require.NoError(t, err, seen.String())
				seen.WriteString(line)
				if at := strings.Index(line, "CALL "); at >= 0 {
					id := strings.Fields(line[at:])[1]
					go func() { _, _ = io.WriteString(host, "DONE "+id+" 3\n\n") }()
				}
			}
			until("\n")
			_, err = io.WriteString(host, "CALL 2 f\n\n")
			require.NoError(t, err)
			<-began
			cancel()
			if c.reads {
				rest, _ := io.ReadAll(lines)
				if c.grace > 0 {
					assert.Contains(t, string(rest), "BYE\n")
				}
			}
			assert.NoError(t, <-outcome)
		})
	}
}

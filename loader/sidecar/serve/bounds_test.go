package serve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// hosted opens a plug-in that is served at a socket.
func hosted(t *testing.T, p *builtin.Plugin, most int64, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	path := fixture.Socket(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve.Listen(ctx, l, serve.Go(p), serve.Options{}) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-served)
	})
	plugin, err := loader.Open("unix:"+path, append(opts, sidecar.Program(sidecar.WithMaxMessage(most)))...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, plugin.Close()) })
	return plugin
}

// TestHostCallsWait: of the calls of host functions for one call no more are without an answer than rule W11 allows, in number and in bytes; others come behind them.
func TestHostCallsWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ calls, size, together int }{"as many as may be": {1024, 1, 1024}, "more": {1500, 1, 1024}, "many more": {5000, 0, 1024}, "long ones": {7, 6000, 1}, "two at a time": {8, 5000, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in, most atomic.Int64
			full := make(chan struct{})
			fills := sync.OnceFunc(func() { close(full) })
			p := hosted(t, &builtin.Plugin{Name: "asks", Version: "1", Imports: []string{"host"}, Funcs: []builtin.Function{{Name: "f", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				var all sync.WaitGroup
				errs := make(chan error, c.calls)
				for range c.calls {
					all.Go(func() {
						_, err := builtin.Import(ctx, "host", make([]byte, c.size))
						errs <- err
					})
				}
				all.Wait()
				close(errs)
				for err := range errs {
					if err != nil {
						return nil, err
					}
				}
				return nil, nil
			}}}}, 10_000, loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) {
				now := in.Add(1)
				defer in.Add(-1)
				for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
				}
				if now == int64(c.together) {
					fills()
				}
				<-full
				return nil, nil
			}))
			_, err := p.Call(t.Context(), "f", nil)
			require.NoError(t, err)
			assert.Equal(t, int64(c.together), most.Load())
		})
	}
}

// TestHostCallsThatWaitEnd: one that waits for others ends with the context that it is made with, and leaves its turn to those behind it.
func TestHostCallsThatWaitEnd(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	p := hosted(t, &builtin.Plugin{Name: "asks", Version: "1", Imports: []string{"host"}, Funcs: []builtin.Function{{Name: "f", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
		var all sync.WaitGroup
		var first error
		all.Go(func() { _, first = builtin.Import(ctx, "host", make([]byte, 9000)) })
		<-entered
		own, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, second := builtin.Import(own, "host", make([]byte, 9000))
		_, third := builtin.Import(ctx, "host", make([]byte, 1000)) // for which there is room
		close(leave)
		all.Wait()
		if !errors.Is(second, context.DeadlineExceeded) && !errors.Is(second, loader.ErrCancelled) {
			return nil, fmt.Errorf("found %v of one whose context has ended", second)
		}
		return nil, errors.Join(first, third)
	}}}}, 10_000, loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) {
		if len(in) == 9000 {
			entered <- struct{}{}
			<-leave
		}
		return nil, nil
	}))
	_, err := p.Call(t.Context(), "f", nil)
	require.NoError(t, err)
}

// TestSmallHosts: nothing is sent that is longer than the host takes: no piece of a stream, no output, and no message.
func TestSmallHosts(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte("text "), 4000)
	p := hosted(t, &builtin.Plugin{Name: "talks", Version: "1", Funcs: []builtin.Function{
		{Name: "stream", Stream: abi.StreamOut, Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			_, err := builtin.Output(ctx).Write(text)
			return nil, err
		}},
		{Name: "output", Call: func(context.Context, []byte) ([]byte, error) { return text, nil }},
		{Name: "fails", Call: func(context.Context, []byte) ([]byte, error) {
			return nil, fmt.Errorf("%s: %w", text, loader.ErrInvalid)
		}},
	}}, 20)
	f, err := p.Func("stream")
	require.NoError(t, err)
	var out bytes.Buffer
	_, err = f.Stream(t.Context(), nil, nil, &out)
	require.NoError(t, err)
	assert.Equal(t, text, out.Bytes())
	for _, name := range []string{"output", "fails"} {
		_, err = p.Call(t.Context(), name, nil)
		assert.ErrorIs(t, err, loader.ErrNoMemory, name)
		assert.ErrorContains(t, err, "the output has 20000", name)
	}
}

// TestUnreadAnswer: a host that does not read an answer, and ends the session, or whose session ends, does not keep it.
func TestUnreadAnswer(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"BYE", "half of the stream closed", "context"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			began := make(chan struct{})
			var stopped atomic.Bool
			p := serve.Go(&builtin.Plugin{Name: "long", Version: "1", Start: func(context.Context, []byte) (any, error) { return 1, nil }, Stop: func(any) { stopped.Store(true) },
				Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) {
					close(began)
					return make([]byte, 10<<20), nil
				}}}})
			l, err := net.Listen("unix", fixture.Socket(t))
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			served := make(chan error, 1)
			go func() { served <- serve.Listen(ctx, l, p, serve.Options{Grace: time.Millisecond}) }()
			host, err := net.Dial("unix", l.Addr().String())
			require.NoError(t, err)
			defer host.Close()
			started(t, host)
			_, err = io.WriteString(host, "CALL 2 f\n\n")
			require.NoError(t, err)
			<-began
			switch how {
			case "BYE":
				_, err = io.WriteString(host, "BYE\n\n")
				require.NoError(t, err)
			case "half of the stream closed":
				require.NoError(t, host.(*net.UnixConn).CloseWrite())
			}
			if how != "context" {
				assert.Eventually(t, stopped.Load, time.Minute, time.Millisecond)
			}
			cancel()
			assert.NoError(t, <-served)
			assert.True(t, stopped.Load())
		})
	}
}

// TestHostThatTakesNothing: a host that does not read what it has called for keeps its place in a listener for so long, and no longer.
func TestHostThatTakesNothing(t *testing.T) {
	t.Parallel()
	p := serve.Go(&builtin.Plugin{Name: "long", Version: "1", Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return make([]byte, 10<<20), nil }}}})
	l, err := net.Listen("unix", fixture.Socket(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve.Listen(ctx, l, p, serve.Options{Sessions: 1, Stall: 200 * time.Millisecond}) }()
	dial := func() net.Conn {
		host, err := net.Dial("unix", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { host.Close() })
		return host
	}
	host := dial()
	started(t, host)
	_, err = io.WriteString(host, "CALL 2 f\n\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		next := dial()
		defer next.Close()
		_, err := io.WriteString(next, "HELLO 1\n\n")
		if err == nil {
			_, err = next.Read(make([]byte, 1))
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond, "it keeps the only place")
	_, err = io.Copy(io.Discard, host)
	if err != nil { // what had come, and the end
		assert.ErrorIs(t, err, syscall.ECONNRESET)
	}
	cancel()
	assert.NoError(t, <-served)
}

// started says hello to a session, and starts its plug-in.
func started(t *testing.T, host net.Conn) {
	t.Helper()
	r, m := wire.NewReader(host, wire.MaxBody), wire.Message{}
	_, err := io.WriteString(host, "HELLO 1\n\nCALL 1 ferrule.start\n\n")
	require.NoError(t, err)
	for m.Verb = 0; m.Verb != wire.Done; {
		require.NoError(t, r.Next(&m))
		require.NoError(t, r.Skip())
		if m.Verb == wire.Call {
			_, err = fmt.Fprintf(host, "DONE %d 3\n\n", m.ID)
			require.NoError(t, err)
		}
	}
}

// TestStartsAtOnce: of several ferrule.start that come together one starts the plug-in, and what was started is stopped.
func TestStartsAtOnce(t *testing.T) {
	t.Parallel()
	var starts, stops atomic.Int64
	host, outcome := session(t, t.Context(), serve.Go(&builtin.Plugin{Name: "starts", Version: "1", Start: func(context.Context, []byte) (any, error) {
		starts.Add(1)
		return 1, nil
	}, Stop: func(any) { stops.Add(1) }, Funcs: []builtin.Function{{Name: "f", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}}}), serve.Options{})
	const all = 8
	go func() {
		text := "HELLO 1\n\n"
		for id := range all {
			text += fmt.Sprintf("CALL %d ferrule.start\n\n", id+1)
		}
		_, _ = io.WriteString(host, text)
	}()
	r, m := wire.NewReader(host, wire.MaxBody), wire.Message{}
	var answers []string
	for len(answers) < all {
		require.NoError(t, r.Next(&m))
		require.NoError(t, r.Skip())
		switch m.Verb {
		case wire.Call:
			_, err := fmt.Fprintf(host, "DONE %d 3\n\n", m.ID)
			require.NoError(t, err)
		case wire.Done:
			answers = append(answers, fmt.Sprint(uint64(m.Status)))
		}
	}
	assert.ElementsMatch(t, strings.Fields("0"+strings.Repeat(" 7", all-1)), answers)
	_, err := io.WriteString(host, "BYE\n\n")
	require.NoError(t, err)
	assert.NoError(t, <-outcome)
	assert.Equal(t, int64(1), starts.Load())
	assert.Equal(t, int64(1), stops.Load())
}

// TestHelloOfAnyStream: whatever the stream is, who says no hello, or half of one, holds it for a while only; and a host's hello has no body.
func TestHelloOfAnyStream(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	_, err = io.WriteString(w, "HEL")
	require.NoError(t, err)
	type files struct {
		io.ReadCloser
		io.Writer
	}
	assert.ErrorIs(t, serve.Session(t.Context(), files{r, io.Discard}, plugin(nil), serve.Options{Hello: time.Millisecond}), os.ErrDeadlineExceeded)

	host, outcome := session(t, t.Context(), plugin(nil), serve.Options{})
	_, err = io.WriteString(host, "HELLO 1\nContent-Length: 2\n\n")
	require.NoError(t, err)
	var broken *wire.Error
	require.ErrorAs(t, <-outcome, &broken)
	assert.Equal(t, "W4", broken.Rule)
}

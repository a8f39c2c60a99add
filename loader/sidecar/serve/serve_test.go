package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
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

// TestUnserved: what cannot be served is an error, and the connection is closed then. What a plug-in says of itself is only read.
func TestUnserved(t *testing.T) {
	none := slog.New(slog.DiscardHandler)
	opens := plugin(make(chan struct{}))
	unsaid, unopened := serve.Plugin{Open: opens.Open}, serve.Go(&builtin.Plugin{Name: "no name"})
	for name, c := range map[string]struct {
		p      serve.Plugin
		places int
		logger *slog.Logger
		says   string
	}{
		"no places": {opens, 0, none, "found 0 places"}, "no logger": {opens, 1, nil, "found nil as the logger"}, "says nothing": {unsaid, 1, none, "found a Plugin without About"},
		"nothing at all": {serve.Plugin{}, 1, none, "found a Plugin without About"}, "no plug-in": {unopened, 1, none, "no name"},
	} {
		shared, err := serve.Share(c.p, c.places, 0, c.logger)
		assert.Nil(t, shared, name)
		assert.ErrorContains(t, err, c.says, name)
	}
	for _, p := range []serve.Plugin{unsaid, unopened, {}} {
		host, outcome := session(t, t.Context(), p, serve.Options{})
		assert.Error(t, <-outcome)
		_, err := host.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
	}
	stateful := serve.Go(&builtin.Plugin{Name: "keeps", Version: "1", Threads: abi.Concurrent, StateFormat: "a",
		Start:  func(context.Context, []byte) (any, error) { return 1, nil },
		Save:   func(context.Context, any) ([]byte, error) { return nil, nil },
		Resume: func(context.Context, any, []byte) error { return nil }})
	shared, err := serve.Share(stateful, 1, 0, none)
	require.NoError(t, err)
	defer shared.Close()
	assert.Equal(t, "a", stateful.About.Manifest.State)
	assert.Empty(t, shared.About(true).Manifest.State)
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

// counts is a plug-in with a state, which counts how often it is started, and fails to start where it is configured to.
func counts(starts *atomic.Int64) serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "counts", Version: "1", StateFormat: "count",
		Start: func(_ context.Context, config []byte) (any, error) {
			starts.Add(1)
			if string(config) == "wrong" {
				return nil, fmt.Errorf("no such setting: %w", loader.ErrInvalid)
			}
			return new(byte), nil
		},
		Save: func(_ context.Context, state any) ([]byte, error) { return []byte{*state.(*byte)}, nil },
		Resume: func(_ context.Context, state any, saved []byte) error {
			if len(saved) != 1 {
				return loader.ErrInvalid
			}
			*state.(*byte) = saved[0]
			return nil
		},
		Funcs: []builtin.Function{{Name: "count", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			n := builtin.State(ctx).(*byte)
			*n++
			return []byte{'0' + *n}, nil
		}}}})
}

// TestResume: a plug-in that takes a state over is started once, with it; what is wrong in its start is the error of opening it.
func TestResume(t *testing.T) {
	t.Parallel()
	var starts atomic.Int64
	path := fixture.Socket(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve.Listen(ctx, l, counts(&starts), serve.Options{}) }()
	count := func(p *loader.Plugin) string {
		out, err := p.Call(t.Context(), "count", nil)
		require.NoError(t, err)
		return string(out)
	}
	first, err := loader.Open("unix:"+path, sidecar.Program())
	require.NoError(t, err)
	assert.Equal(t, "1", count(first))
	assert.Equal(t, "2", count(first))
	assert.Equal(t, int64(1), starts.Load())
	_, err = first.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) {
		return loader.Open("unix:"+path, sidecar.Program(), loader.WithState(state), loader.WithConfig([]byte("wrong")))
	})
	assert.ErrorIs(t, err, loader.ErrInvalid)
	assert.ErrorContains(t, err, "no such setting")
	assert.Equal(t, int64(2), starts.Load())
	assert.Equal(t, "3", count(first), "it goes on")
	second, err := first.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) {
		return loader.Open("unix:"+path, sidecar.Program(), loader.WithState(state))
	})
	require.NoError(t, err)
	assert.Equal(t, int64(3), starts.Load(), "once, with its state")
	assert.Equal(t, "4", count(second))
	session, err := second.NewSession(t.Context(), nil) // which has no state to wait for
	require.NoError(t, err)
	out, err := session.Call(t.Context(), "count", nil)
	require.NoError(t, err)
	assert.Equal(t, "1", string(out))
	require.NoError(t, session.Close())
	require.NoError(t, second.Close())
	cancel()
	require.NoError(t, <-served)
}

// TestResumeOfAnyHost: a state is taken from a host that does not say before that it comes; from one that does, nothing else comes first.
func TestResumeOfAnyHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		calls  []string
		want   []string
		starts int64
	}{
		"said":                 {[]string{"ferrule.start\nResume: yes", "ferrule.resume\nContent-Length: 1\n\n\a", "count"}, []string{"0", "0", "0"}, 1},
		"not said":             {[]string{"ferrule.start", "ferrule.resume\nContent-Length: 1\n\n\a", "count"}, []string{"0", "0", "0"}, 2},
		"another first":        {[]string{"ferrule.start\nResume: yes", "ferrule.save", "ferrule.start", "count", "ferrule.resume\nContent-Length: 1\n\n\a", "count"}, []string{"0", "7", "7", "7", "0", "0"}, 1},
		"a state that is none": {[]string{"ferrule.start\nResume: yes", "ferrule.resume", "ferrule.start", "count"}, []string{"0", "2", "0", "0"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var starts atomic.Int64
			host, outcome := session(t, t.Context(), counts(&starts), serve.Options{})
			r, m := wire.NewReader(host, 1<<20), wire.Message{}
			go func() { _, _ = io.WriteString(host, "HELLO 1\n\n") }()
			require.NoError(t, r.Next(&m))
			require.NoError(t, r.Skip())
			var got []string
			for id, call := range c.calls {
				if !strings.Contains(call, "\n\n") {
					call += "\n\n"
				}
				_, err := fmt.Fprintf(host, "CALL %d %s", id+1, call)
				require.NoError(t, err)
				for m.Verb = 0; m.Verb != wire.Done; {
					require.NoError(t, r.Next(&m))
					require.NoError(t, r.Skip())
					if m.Verb == wire.Call { // for its data, and what is offered
						_, err := fmt.Fprintf(host, "DONE %d 3\n\n", m.ID)
						require.NoError(t, err)
					}
				}
				got = append(got, strconv.Itoa(int(m.Status)))
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.starts, starts.Load())
			_, err := io.WriteString(host, "BYE\n\n")
			require.NoError(t, err)
			assert.NoError(t, <-outcome)
		})
	}
}

// TestPartsComeWithTheirCall: pieces that come in one with their call, before its function has begun, are its input, whole and in order; what came for a call before it, of which it
// has the id, is not (rule W15).
func TestPartsComeWithTheirCall(t *testing.T) {
	t.Parallel()
	host, outcome := session(t, t.Context(), serve.Go(&builtin.Plugin{Name: "joins", Version: "1", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "join", Stream: abi.StreamIn, Call: func(ctx context.Context, in []byte) ([]byte, error) {
			rest, err := io.ReadAll(builtin.Input(ctx))
			return append(in, rest...), err
		}}}}), serve.Options{})
	r, m := wire.NewReader(host, 1<<20), wire.Message{}
	next := func(verb wire.Verb) []byte {
		for {
			require.NoError(t, r.Next(&m))
			body, err := r.Body(nil)
			require.NoError(t, err)
			switch m.Verb {
			case verb:
				return body
			case wire.Call: // for its data
				_, err := fmt.Fprintf(host, "DONE %d 3\n\n", m.ID)
				require.NoError(t, err)
			}
		}
	}
	_, err := io.WriteString(host, "HELLO 1\n\n")
	require.NoError(t, err)
	next(wire.Hello)
	_, err = io.WriteString(host, "CALL 1 ferrule.start\n\n")
	require.NoError(t, err)
	next(wire.Done)

	const calls = 100
	var all strings.Builder
	want := make(map[uint64]string)
	for id := uint64(2); id < 2+calls; id++ {
		fmt.Fprintf(&all, "PART %d\nContent-Length: 40000\n\n%sMORE %d 5\n\nPART %d\n\nCANCEL %d\n\n", id, strings.Repeat("x", 40000), id, id, id)
		fmt.Fprintf(&all, "CALL %d join\nStream: in\nContent-Length: 5\n\n%5d", id, id)
		want[id] = fmt.Sprintf("%5d", id)
		for _, length := range []int{1, 40000, 7, 25000} { // less than what may be sent at first, but with what came before
			piece := strings.Repeat(string(rune('a'+id%26)), length)
			fmt.Fprintf(&all, "PART %d\nContent-Length: %d\n\n%s", id, length, piece)
			want[id] += piece
		}
		fmt.Fprintf(&all, "PART %d\n\n", id)
	}
	go func() { _, _ = io.WriteString(host, all.String()) }()
	for range calls {
		out := next(wire.Done)
		assert.Equal(t, abi.StatusOK, m.Status, "%d: %.100s", m.ID, out)
		assert.True(t, want[m.ID] == string(out), "%d: %d bytes, %d expected", m.ID, len(out), len(want[m.ID]))
		delete(want, m.ID)
	}
	assert.Empty(t, want)
	_, err = io.WriteString(host, "BYE\n\n")
	require.NoError(t, err)
	assert.NoError(t, <-outcome)
}

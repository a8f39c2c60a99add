package nats_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// broker starts a server in this process.
func startServer(t testing.TB) *server.Server {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(10*time.Second))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// startNode serves a plug-in, and returns what has it leave.
func startNode(t testing.TB, p serve.Plugin, n nats.Node) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	n.Ready = func(id string) { ready <- id }
	go func() { done <- nats.Serve(ctx, p, n) }()
	select {
	case <-ready:
	case err := <-done:
		require.NoError(t, err)
	}
	left := false
	leave = func() {
		cancel()
		if !left {
			left = true
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(leave)
	return leave
}

func shout() serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "shout", Version: "1.2.0", Threads: abi.Concurrent, Imports: []string{"suffix"},
		Funcs: []builtin.Function{
			{Name: "shout", Call: func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }},
			{Name: "with", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				out, err := builtin.Import(ctx, "suffix", in)
				return append(in, out...), err
			}},
			{Name: "fail", Call: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no") }},
			{Name: "sleep", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}},
		}})
}

func TestShout(t *testing.T) {
	s := startServer(t)
	leave := startNode(t, shout(), nats.Node{Servers: s.ClientURL(), Workers: 4})
	p, err := loader.Open(s.ClientURL()+"/shout@^1", nats.Plugin(), loader.WithHostFunc("suffix", func(_ context.Context, in []byte) ([]byte, error) { return []byte("!"), nil }))
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "shout", []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "HELLO", string(out))
	out, err = p.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello!", string(out))
	_, err = p.Call(t.Context(), "fail", nil)
	require.EqualError(t, err, "plug-in shout: fail: failed: no")
	big := bytes.Repeat([]byte("abcdefgh"), 1<<20)
	out, err = p.Call(t.Context(), "shout", big)
	require.NoError(t, err)
	require.True(t, bytes.Equal(bytes.ToUpper(big), out))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = p.Call(ctx, "sleep", nil)
	fmt.Println(err, time.Since(begin))
	require.ErrorIs(t, err, loader.ErrCancelled)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	leave()
	begin = time.Now()
	_, err = p.Call(t.Context(), "shout", nil)
	fmt.Println(err, time.Since(begin))
	require.ErrorIs(t, err, remote.ErrNoNode)
}

func BenchmarkEcho(b *testing.B) {
	s := startServer(b)
	startNode(b, shout(), nats.Node{Servers: s.ClientURL(), Workers: 64})
	p, err := loader.Open(s.ClientURL()+"/shout@^1", nats.Plugin(), loader.WithHostFunc("suffix", func(_ context.Context, in []byte) ([]byte, error) { return []byte("!"), nil }))
	require.NoError(b, err)
	defer p.Close()
	in := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Call(context.Background(), "shout", in); err != nil {
			b.Fatal(err)
		}
	}
}

package nats_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// plugins are those of nodes that are processes, made with the rest of their arguments.
var plugins = map[string]func(args []string) serve.Plugin{"shout": func([]string) serve.Plugin { return shout() }}

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

// suffix is what shout imports.
var suffix = loader.WithHostFunc("suffix", func(context.Context, []byte) ([]byte, error) { return []byte("!"), nil })

func TestShout(t *testing.T) {
	s := startServer(t)
	leave := startNode(t, shout(), nats.Node{Servers: s.ClientURL(), Workers: 4})
	p, err := loader.Open(s.ClientURL()+"/shout@^1", nats.Plugin(), suffix)
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
	p, err := loader.Open(s.ClientURL()+"/shout@^1", nats.Plugin(), suffix)
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

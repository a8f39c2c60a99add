package wasm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

func TestSmoke(t *testing.T) {
	_, err := loader.Open("/tmp/w18/plugin.wasm")
	t.Log(err)
	p, err := loader.Open("/tmp/w18/plugin.wasm", loader.WithEngine(wasm.Engine()), loader.WithHostFunc("host_echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(context.Background(), "count_vowels", []byte("hello world"))
	require.NoError(t, err)
	t.Logf("%q", out)
	out, err = p.Call(context.Background(), "echo", []byte("hello world"))
	require.NoError(t, err)
	t.Logf("%q", out)
	out, err = p.Call(context.Background(), "ask", []byte("hello world"))
	require.NoError(t, err)
	t.Logf("%q", out)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = ctx
}

func BenchmarkEcho(b *testing.B) {
	p, err := loader.Open("/tmp/w18/plugin.wasm", loader.WithEngine(wasm.Engine()), loader.WithHostFunc("host_echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	require.NoError(b, err)
	defer p.Close()
	for _, name := range []string{"echo", "count_vowels", "ask"} {
		f, err := p.Func(name)
		require.NoError(b, err)
		in := []byte("The quick brown fox jumps over the lazy dog, and then some more..")[:64]
		dst := make([]byte, 0, 256)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = f.Append(context.Background(), dst[:0], in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

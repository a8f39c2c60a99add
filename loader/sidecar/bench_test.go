package sidecar_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// A call of a sidecar, by each way, beside one of the library in this process.
func BenchmarkCall(b *testing.B) {
	library := fixture.C(b, "echo")
	native, err := loader.Open(library)
	require.NoError(b, err)
	defer native.Close()
	subjects := map[string]*loader.Plugin{"library": native}
	names := []string{"library"}
	for _, by := range ways(b) {
		p, err := by.open(b, library)
		require.NoError(b, err)
		defer p.Close()
		subjects[by.name] = p
		names = append(names, by.name)
	}
	for _, size := range []int{64, 64 << 10, 1 << 20} {
		for _, name := range names {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				fn, err := subjects[name].Func("echo")
				require.NoError(b, err)
				in, out := make([]byte, size), make([]byte, 0, size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := fn.Append(b.Context(), out, in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Short calls of several callers, who use one session.
func BenchmarkCallers(b *testing.B) {
	for _, by := range ways(b) {
		p, err := by.open(b, crowd, loader.WithHostFunc("answer", func(context.Context, []byte) ([]byte, error) { return nil, nil }))
		require.NoError(b, err)
		defer p.Close()
		echo, err := p.Func("echo")
		require.NoError(b, err)
		for _, callers := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/callers=%d", by.name, callers), func(b *testing.B) {
				var running sync.WaitGroup
				b.ReportAllocs()
				for i := range callers {
					running.Go(func() {
						in, out := make([]byte, 64), make([]byte, 0, 64)
						for range (b.N + i) / callers {
							if _, err := echo.Append(context.Background(), out, in); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				running.Wait()
			})
		}
	}
}

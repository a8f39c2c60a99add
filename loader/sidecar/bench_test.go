package sidecar_test

import (
	"fmt"
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

//go:build cgo

package c_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/bench/c"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// Quick functions (rule R34) beside the same work by hand-written cgo, of which they are a ratio, and by an ordinary call.
func BenchmarkQuick(b *testing.B) {
	in, room := make([]byte, 64), make([]byte, 0, 64)
	cancellable, cancel := context.WithCancel(context.Background())
	defer cancel()
	path := fixture.C(b, "quick")
	appends := func(name string, ctx context.Context, opts ...loader.Option) {
		b.Run(name, func(b *testing.B) {
			p, err := loader.Open(path, opts...)
			require.NoError(b, err)
			defer p.Close()
			f, err := p.Func("echo")
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Append(ctx, room, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("by=cgo", func(b *testing.B) {
		for b.Loop() {
			c.Echo(in, room[:64])
		}
	})
	appends("by=quick", context.Background(), loader.WithQuick())
	appends("by=quick-cancellable", cancellable, loader.WithQuick())
	appends("by=ordinary", context.Background())
	appends("by=ordinary-cancellable", cancellable)
}

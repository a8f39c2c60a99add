package plugins_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// BenchmarkDispatch compares a point with the loop that an application would write by hand over the same functions, in one run: what a
// point costs is the difference, by the number of plug-ins.
//
//	go test -run '^$' -bench Dispatch -count 10 ./plugins | benchstat -col /way -
func BenchmarkDispatch(b *testing.B) {
	for _, n := range []int{1, 4, 8} {
		host := newHost(b, "in-process").add([]string{"aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg", "hhhh"}[:n]...)
		in, ctx := []byte("event"), context.Background()
		run := func(way string, tell func() error) {
			b.Run(fmt.Sprintf("plugins=%d/way=%s", n, way), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := tell(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		point := func(options []plugins.PointOption, opts ...plugins.Option) (tell func() error, functions []*loader.Func) {
			sys := host.new(opts...)
			told := plugins.Notify[[]byte](sys, "told", options...)
			require.NoError(b, sys.Start(ctx))
			require.NoError(b, told.Call(ctx, in)) // all are open
			return func() error { return told.Call(ctx, in) }, told.Targets()
		}
		tell, functions := point([]plugins.PointOption{plugins.Limit(0)})
		dst := make([]byte, 0, 64)
		run("hand", func() error {
			for _, f := range functions {
				if _, status, err := f.Try(ctx, dst[:0], in); err != nil || status != 0 && status != loader.ErrPass {
					return fmt.Errorf("%v %w", status, err)
				}
			}
			return nil
		})
		run("point", tell)
		tell, _ = point([]plugins.PointOption{plugins.Limit(5 * time.Second)})
		run("limit", tell)
		tell, _ = point([]plugins.PointOption{plugins.Limit(0)}, plugins.Counting())
		run("counting", tell)
	}
}

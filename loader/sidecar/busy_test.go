package sidecar_test

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A call while goroutines of the host keep all processors busy, and twice as many: nobody looks into Go's poller then but every 10 ms.
func BenchmarkBusyHost(b *testing.B) {
	library := fixture.C(b, "echo")
	for _, by := range ways(b) {
		p, err := by.open(b, library)
		require.NoError(b, err)
		defer p.Close()
		echo, err := p.Func("echo")
		require.NoError(b, err)
		for name, busy := range map[string]int{"as many": runtime.GOMAXPROCS(0), "twice as many": 2 * runtime.GOMAXPROCS(0)} {
			b.Run(by.name+"/"+name, func(b *testing.B) {
				var stop atomic.Bool
				for range busy {
					go func() {
						for !stop.Load() {
						}
					}()
				}
				defer stop.Store(true)
				in, out := make([]byte, 64), make([]byte, 0, 64)
				var times []time.Duration
				for b.Loop() {
					start := time.Now()
					if _, err := echo.Append(b.Context(), out, in); err != nil {
						b.Fatal(err)
					}
					times = append(times, time.Since(start))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
				b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
			})
		}
	}
}

package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// A call over two pipes beside the same bytes over two pipes and back, in turns: the metric is how many times as long it takes. Allocations are for a call.
func BenchmarkBesidePipes(b *testing.B) {
	for _, size := range []int{64, 4 << 10} {
		for _, threads := range threads {
			b.Run(fmt.Sprintf("%s/%d", threads, size), func(b *testing.B) {
				h := greeted(b, of(threads, nil))
				ask := fmt.Appendf(nil, "CALL 1 echo\nContent-Length: %d\n\n%s", size, bytes.Repeat([]byte("x"), size))
				answer := make([]byte, len(fmt.Sprintf("DONE 1 0\nContent-Length: %d\n\n", size))+size)
				from, in, err := os.Pipe()
				if err != nil {
					b.Fatal(err)
				}
				out, to, err := os.Pipe()
				if err != nil {
					b.Fatal(err)
				}
				go func() {
					defer to.Close()
					all := make([]byte, 64<<10)
					for {
						n, err := from.Read(all)
						if err != nil {
							return
						}
						_, _ = to.Write(all[:n])
					}
				}()
				turn := func(in io.Writer, out io.Reader, n int, answer []byte) time.Duration {
					begun := time.Now()
					for range n {
						_, _ = in.Write(ask)
						if _, err := io.ReadFull(out, answer); err != nil {
							b.Fatal(err)
						}
					}
					return time.Since(begun)
				}
				var calls, bare time.Duration
				var before, after runtime.MemStats
				var allocations uint64
				n := 0
				for n < b.N {
					runtime.ReadMemStats(&before)
					calls += turn(h.in, h.r, 200, answer)
					runtime.ReadMemStats(&after)
					allocations += after.Mallocs - before.Mallocs
					bare += turn(in, out, 200, make([]byte, len(ask)))
					n += 200
				}
				b.ReportMetric(float64(calls)/float64(bare), "call/pipes")
				b.ReportMetric(float64(allocations)/float64(n), "allocs/call")
				_ = in.Close()
				h.leaves()
			})
		}
	}
}

// A call that asks the host, beside one that does not.
func BenchmarkBesideEcho(b *testing.B) {
	for _, threads := range threads {
		b.Run(threads, func(b *testing.B) {
			h := greeted(b, of(threads, func(ctx context.Context, in []byte) ([]byte, error) { return plugin.Ask(ctx, "ask", in) }))
			var took [2]time.Duration
			id := 0
			for n := 0; n < b.N; n += 200 {
				for i, name := range []string{"echo", "f"} {
					begun := time.Now()
					for range 200 {
						h.call(1, name, "x")
						if i == 1 {
							id++
							h.next()
							h.send(fmt.Sprintf("DONE %d 0\nContent-Length: 1\n\nx", id))
						}
						h.next()
					}
					took[i] += time.Since(begun)
				}
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "asking/echo")
			h.leaves()
		})
	}
}

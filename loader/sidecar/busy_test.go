package sidecar_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// Calls while goroutines of the host keep all processors busy, and twice as many: nobody looks into Go's poller then but every 10 ms. With several callers each
// answer has a goroutine run, which waits for a processor as any does: that is what "bare" shows, of two goroutines that hand a byte to and fro by a pipe each.
func BenchmarkBusyHost(b *testing.B) {
	library := fixture.C(b, "echo")
	run := func(name string, one func(b *testing.B) (call func() error)) {
		for _, callers := range []int{1, 4, 32} {
			for _, busy := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/callers=%d/busy=%d", name, callers, busy), func(b *testing.B) {
					calls := make([]func() error, callers)
					for i := range calls {
						calls[i] = one(b)
					}
					var stop atomic.Bool
					for range busy * runtime.GOMAXPROCS(0) {
						go func() {
							for !stop.Load() {
							}
						}()
					}
					defer stop.Store(true)
					each := make([][]time.Duration, callers)
					var all sync.WaitGroup
					for i, call := range calls {
						all.Go(func() {
							for range b.N {
								start := time.Now()
								if err := call(); err != nil {
									b.Error(err)
									return
								}
								each[i] = append(each[i], time.Since(start))
							}
						})
					}
					all.Wait()
					times := slices.Sorted(slices.Values(slices.Concat(each...)))
					b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
					b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
				})
			}
		}
	}
	for _, by := range ways(b) {
		p, err := by.open(b, library)
		require.NoError(b, err)
		defer p.Close()
		echo, err := p.Func("echo")
		require.NoError(b, err)
		run(by.name, func(b *testing.B) func() error {
			in, out := make([]byte, 64), make([]byte, 0, 64)
			return func() error {
				_, err := echo.Append(b.Context(), out, in)
				return err
			}
		})
	}
	run("bare", bare)
}

// bare returns a call of a goroutine that waits for a byte by one pipe, and answers by another.
func bare(b *testing.B) func() error {
	var ends [4]*os.File
	for i := range 2 {
		r, w, err := os.Pipe()
		require.NoError(b, err)
		ends[2*i], ends[2*i+1] = r, w
	}
	b.Cleanup(func() {
		for _, f := range ends {
			f.Close()
		}
	})
	go func() {
		own := make([]byte, 1)
		for {
			if _, err := ends[0].Read(own); err != nil {
				return
			}
			if _, err := ends[3].Write(own); err != nil {
				return
			}
		}
	}()
	own := make([]byte, 1)
	return func() error {
		if _, err := ends[1].Write(own); err != nil {
			return err
		}
		_, err := ends[2].Read(own)
		return err
	}
}

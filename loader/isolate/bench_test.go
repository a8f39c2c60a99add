//go:build linux

package isolate_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// What these are ratios of: BenchmarkAppend in package loader, and go-plugin in bench.

func benchAppend(b *testing.B, size int) {
	f, err := open(b, fixture.C(b, "echo"), isolate.InWorker()).Func("echo")
	require.NoError(b, err)
	in, dst := make([]byte, size), make([]byte, 0, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Append(ctx, dst, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B)      { benchAppend(b, 64) }
func BenchmarkAppend1MiB(b *testing.B)  { benchAppend(b, 1<<20) }
func BenchmarkAppend64MiB(b *testing.B) { benchAppend(b, 64<<20) }

// Calls so far apart that both sides sleep: what one costs in processor time, too, on both sides.
func BenchmarkAppendRare(b *testing.B) {
	p := open(b, fixture.C(b, "echo"), isolate.InWorker())
	f, err := p.Func("echo")
	require.NoError(b, err)
	isolation, _ := p.Isolation()
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	var spent time.Duration
	worker := processorTime(b, isolation.PID)
	for b.Loop() {
		time.Sleep(time.Millisecond)
		start := time.Now()
		if _, err := f.Append(ctx, dst, in); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/call")
	b.ReportMetric(float64((processorTime(b, isolation.PID)-worker).Nanoseconds())/float64(b.N), "worker-cpu-ns/call")
}

func BenchmarkAppendParallel(b *testing.B) {
	f, err := open(b, fixture.C(b, "echo"), isolate.InWorker()).Func("echo")
	require.NoError(b, err)
	b.RunParallel(func(pb *testing.PB) {
		in, dst := make([]byte, 64), make([]byte, 0, 64)
		for pb.Next() {
			if _, err := f.Append(ctx, dst, in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHostFunc(b *testing.B) {
	out := make([]byte, 64)
	p := open(b, fixture.C(b, "rounds"), isolate.InWorker(),
		loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) { return out, nil }))
	f, err := p.Func("rounds")
	require.NoError(b, err)
	const rounds = 1000 // of the host function in one call
	for b.Loop() {
		if _, err := f.Append(ctx, nil, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rounds, "ns/round")
}

func BenchmarkBatch(b *testing.B) {
	f, err := open(b, fixture.C(b, "echo"), isolate.InWorker()).Func("echo")
	require.NoError(b, err)
	in := make([][]byte, 1000)
	for i := range in {
		in[i] = make([]byte, 16)
	}
	var batch loader.Batch
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Batch(ctx, in, &batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(in)), "ns/record")
}

// A worker's start, the plug-in's, and their end.
func BenchmarkOpen(b *testing.B) {
	path := fixture.C(b, "echo")
	resident := 0
	for b.Loop() {
		p, err := loader.Open(path, isolate.InWorker())
		require.NoError(b, err)
		if resident == 0 {
			isolation, _ := p.Isolation()
			resident = residentOf(b, isolation.PID)
		}
		require.NoError(b, p.Close())
	}
	b.ReportMetric(float64(resident)/1e6, "worker-MB")
}

// Four plug-ins that are called in turn, each in a worker of its own, and all in one group's; and one that is called four times.
func BenchmarkInTurn(b *testing.B) {
	g := isolate.NewGroup("kin")
	for name, option := range map[string]loader.Option{"own": isolate.InWorker(), "group": isolate.InGroup(g), "one": isolate.InWorker()} {
		b.Run(name, func(b *testing.B) {
			var functions []*loader.Func
			for _, library := range []string{"fault_none", "fault_slow", "fault_abort", "fault_sigill"} {
				if name == "one" {
					library = "fault_none"
				}
				if name != "one" || len(functions) == 0 {
					f, err := open(b, fixture.C(b, library), option).Func("echo")
					require.NoError(b, err)
					functions = append(functions, f)
				} else {
					functions = append(functions, functions[0])
				}
			}
			in, dst := make([]byte, 64), make([]byte, 0, 64)
			b.ReportAllocs()
			for b.Loop() {
				for _, f := range functions {
					if _, err := f.Append(ctx, dst, in); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

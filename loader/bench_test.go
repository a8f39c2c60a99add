package loader_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

func benchFunc(b *testing.B, lib, fn string, opts ...loader.Option) *loader.Func {
	f, err := open(b, fixture.C(b, lib), opts...).Func(fn)
	require.NoError(b, err)
	return f
}

func BenchmarkAppend(b *testing.B) {
	f := benchFunc(b, "echo", "echo")
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Append(ctx, dst, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendCancellable(b *testing.B) {
	f := benchFunc(b, "echo", "echo")
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Append(ctx, dst, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	f := benchFunc(b, "echo", "echo")
	in := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Call(ctx, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	f := benchFunc(b, "echo", "echo")
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

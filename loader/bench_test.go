package loader_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// What these are ratios of: BenchmarkCrossing in internal/cross, and the comparison with peers in bench.

func benchFunc(b *testing.B, lib, fn string, opts ...loader.Option) *loader.Func {
	f, err := open(b, fixture.C(b, lib), opts...).Func(fn)
	require.NoError(b, err)
	return f
}

func benchAppend(b *testing.B, ctx context.Context, f *loader.Func, size int) {
	in, dst := make([]byte, size), make([]byte, 0, size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Append(ctx, dst, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) { benchAppend(b, ctx, benchFunc(b, "echo", "echo"), 64) }

// With a limit, beside BenchmarkAppend, BenchmarkAppendSerial and BenchmarkAppendParallel, which have none.
func BenchmarkAppendLimited(b *testing.B) {
	limit := loader.WithCallTimeout(time.Second)
	b.Run("concurrent", func(b *testing.B) { benchAppend(b, ctx, benchFunc(b, "echo", "echo", limit), 64) })
	b.Run("serial", func(b *testing.B) { benchAppend(b, ctx, benchFunc(b, "state", "next", limit), 64) })
	b.Run("alternating", func(b *testing.B) {
		f := benchFunc(b, "echo", "echo", limit)
		other := f.WithTimeout(time.Minute)
		in, dst := make([]byte, 64), make([]byte, 0, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Append(ctx, dst, in); err != nil {
				b.Fatal(err)
			}
			f, other = other, f
		}
	})
	for _, perCore := range []int{1, 2, 64} {
		b.Run(fmt.Sprintf("parallel=%d", perCore), func(b *testing.B) { benchParallel(b, benchFunc(b, "echo", "echo", limit), perCore) })
	}
}

// Try on a hook that passes, beside Append on one that answers: what a plug-in that has nothing to say costs.
func BenchmarkTry(b *testing.B) {
	p := open(b, fixture.C(b, "services"), needed)
	hook := func(name string) *loader.Func {
		h, err := p.Hook(name)
		require.NoError(b, err)
		return h
	}
	b.Run("Append", func(b *testing.B) { benchAppend(b, ctx, hook("answer"), 64) })
	b.Run("pass", func(b *testing.B) {
		h, in, dst := hook("pass"), make([]byte, 64), make([]byte, 0, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, status, err := h.Try(ctx, dst, in); err != nil || status != loader.ErrPass {
				b.Fatal(status, err)
			}
		}
	})
}

func BenchmarkAppendCancellable(b *testing.B) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	benchAppend(b, ctx, benchFunc(b, "echo", "echo"), 64)
}

// A context of its own for each call, as requests have it.
func BenchmarkAppendNewContext(b *testing.B) {
	f := benchFunc(b, "echo", "echo")
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	two, cancel := context.WithCancel(ctx)
	defer cancel()
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	for i := 0; b.Loop(); i++ {
		ctx := one
		if i&1 == 0 {
			ctx = two
		}
		if _, err := f.Append(ctx, dst, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendSerial(b *testing.B) { benchAppend(b, ctx, benchFunc(b, "state", "next"), 64) }

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

func BenchmarkAppendParallel(b *testing.B) {
	for _, perCore := range []int{1, 2, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", perCore), func(b *testing.B) { benchParallel(b, benchFunc(b, "echo", "echo"), perCore) })
	}
}

func benchParallel(b *testing.B, f *loader.Func, perCore int) {
	b.SetParallelism(perCore)
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
	f := benchFunc(b, "rounds", "rounds", loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) { return out, nil }))
	const rounds = 1000 // of the host function in one call, so that the call itself does not count
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Append(ctx, nil, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rounds, "ns/round")
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

// What of BenchmarkBatch is the plug-in's own work: its functions, and the loop that calls them.
func BenchmarkBatchBare(b *testing.B) {
	echo, batch := bare(b, "ferrule_fn_echo"), bare(b, "ferrule_batch")
	in, out := make([]byte, 16), make([]byte, 16000)
	frames, statuses := make([]abi.Call, 1000), make([]abi.Status, 1000)
	for i := range frames {
		frames[i].Size = unsafe.Sizeof(frames[i])
		cross.Fill(&frames[i], in, out)
	}
	call := &abi.Frames{Size: unsafe.Sizeof(abi.Frames{}), Fn: echo, Calls: raw.AddrOf(&frames[0]), Stride: unsafe.Sizeof(frames[0]),
		Count: 1000, Statuses: raw.AddrOf(&statuses[0])}
	for b.Loop() {
		if cross.Batch(batch, call) != 0 || call.Done != 1000 {
			b.Fatal("the batch did not run")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}

// bare returns the address of a symbol of the plug-in echo.
func bare(b *testing.B, symbol string) uintptr {
	lib, err := dl.Open(fixture.C(b, "echo"))
	require.NoError(b, err)
	addr, err := lib.Lookup(symbol)
	require.NoError(b, err)
	return addr
}

func BenchmarkLarge(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("memcpy/%dMiB", size>>20), func(b *testing.B) {
			in, dst := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(dst, in)
			}
		})
		b.Run(fmt.Sprintf("memcpyOfC/%dMiB", size>>20), func(b *testing.B) {
			echo, in, dst, frame := bare(b, "ferrule_fn_echo"), make([]byte, size), make([]byte, size), new(abi.Call)
			b.SetBytes(int64(size))
			for b.Loop() {
				cross.Fill(frame, in, dst)
				cross.Enter(echo, frame)
			}
		})
		b.Run(fmt.Sprintf("Append/%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(int64(size))
			benchAppend(b, ctx, benchFunc(b, "echo", "echo"), size)
		})
		b.Run(fmt.Sprintf("View/%dMiB", size>>20), func(b *testing.B) {
			f := benchFunc(b, "rounds", "static", loader.WithHostFunc("host", echo))
			in := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				v, err := f.View(ctx, in)
				if err != nil {
					b.Fatal(err)
				}
				v.Release()
			}
		})
	}
}

// Open against the dlopen and dlsym that it cannot do without, of a small library in C and one in Rust with its runtime:
// first of files that are not loaded, then of one that is.
func BenchmarkOpen(b *testing.B) {
	for language, path := range map[string]string{"C": fixture.C(b, "echo"), "Rust": fixture.Rust(b, "fixture-json")} {
		info, err := loader.Inspect(path)
		require.NoError(b, err)
		symbols := []string{abi.SymbolManifest, abi.SymbolBatch}
		for _, f := range info.Funcs {
			symbols = append(symbols, abi.PrefixFunc+f.Name)
		}
		var opts []loader.Option
		for _, f := range info.Imports {
			symbols = append(symbols, abi.PrefixImport+f.Name)
			opts = append(opts, loader.WithHostFunc(f.Name, echo))
		}
		bare := func(b *testing.B, path string) func() error {
			lib, err := dl.Open(path)
			require.NoError(b, err)
			for _, symbol := range symbols {
				if _, err := lib.Lookup(symbol); err != nil {
					b.Fatal(err)
				}
			}
			return lib.Close
		}
		full := func(b *testing.B, path string) func() error {
			p, err := loader.Open(path, append(opts, loader.WithUnload())...)
			require.NoError(b, err)
			return p.Close
		}
		for name, load := range map[string]func(*testing.B, string) func() error{"bare": bare, "Open": full} {
			b.Run(language+"/new/"+name, func(b *testing.B) {
				// Many for each start of the timer, which stops the world and leaves cold caches behind.
				const files = 200
				dir := b.TempDir()
				for b.Loop() {
					b.StopTimer()
					var paths []string
					for i := range files {
						paths = append(paths, copyTo(b, path, filepath.Join(dir, fmt.Sprint(i)+".so")))
					}
					unload := make([]func() error, files)
					b.StartTimer()
					for i, path := range paths {
						unload[i] = load(b, path)
					}
					b.StopTimer()
					for i, path := range paths {
						require.NoError(b, unload[i]())
						require.NoError(b, os.Remove(path))
					}
					b.StartTimer()
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/files, "µs/file")
			})
			b.Run(language+"/loaded/"+name, func(b *testing.B) {
				open(b, path, opts...)
				for b.Loop() {
					_ = load(b, path)()
				}
			})
		}
	}
}

package wasm_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// BenchmarkCall is a call of 64 bytes: of the module through a Plugin, of the library, and of the module by wazero alone, by hand, which does what a call needs: write
// the input, call, read the output, without fuel, checks or a second caller.
func BenchmarkCall(b *testing.B) {
	in := []byte(strings.Repeat("The quick brown fox jumps over. ", 2))[:64]
	path := fixture.WasmC(b, "echo")
	module := open(b, "echo", nil)
	library, err := loader.Open(fixture.C(b, "echo"))
	require.NoError(b, err)
	defer library.Close()
	for name, p := range map[string]*loader.Plugin{"module": module, "library": library} {
		f, err := p.Func("echo")
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, 0, 256)
			for b.Loop() {
				if dst, err = f.Append(ctx, dst[:0], in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				dst := make([]byte, 0, 256)
				for pb.Next() {
					var err error
					if dst, err = f.Append(ctx, dst[:0], in); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	b.Run("by hand", func(b *testing.B) {
		data, err := os.ReadFile(path)
		require.NoError(b, err)
		ctx := context.Background()
		r := wazero.NewRuntime(ctx)
		defer r.Close(ctx)
		wasi_snapshot_preview1.MustInstantiate(ctx, r)
		host := r.NewHostModuleBuilder("ferrule")
		for _, s := range []string{"call", "info", "next", "room"} {
			host.NewFunctionBuilder().WithFunc(func(uint32, uint32) uint32 { return 7 }).Export(s)
		}
		for _, s := range []string{"read", "write"} {
			host.NewFunctionBuilder().WithFunc(func(uint32, uint32, uint32) uint32 { return 7 }).Export(s)
		}
		host.NewFunctionBuilder().WithFunc(func(uint32, uint32, uint32, uint32) uint32 { return 7 }).Export("log")
		host.NewFunctionBuilder().WithFunc(func(uint32, uint32, uint32, uint32, uint32, uint32) uint32 { return 7 }).Export("log_fields")
		host.NewFunctionBuilder().WithFunc(func(uint32) uint32 { return 0 }).Export("background")
		_, err = host.Instantiate(ctx)
		require.NoError(b, err)
		m, err := r.InstantiateWithConfig(ctx, data, wazero.NewModuleConfig().WithRandSource(rand.Reader).WithStartFunctions("_initialize"))
		require.NoError(b, err)
		at, err := m.ExportedFunction("ferrule_alloc").Call(ctx, 1024)
		require.NoError(b, err)
		frame := uint32(at[0])
		mem, f := m.Memory(), m.ExportedFunction("ferrule_fn_echo")
		for i, v := range []uint32{44, 0, frame + 64, 64, frame + 256, 0, 512, 0, uint32(m.ExportedGlobal("ferrule_services").Get()), 0, 0} {
			mem.WriteUint32Le(frame+uint32(4*i), v)
		}
		var stack [1]uint64
		dst := make([]byte, 0, 256)
		b.ReportAllocs()
		for b.Loop() {
			mem.Write(frame+64, in)
			mem.WriteUint32Le(frame+20, 0)
			stack[0] = uint64(frame)
			if err := f.CallWithStack(ctx, stack[:]); err != nil || stack[0] != 0 {
				b.Fatal(err, stack[0])
			}
			n, _ := mem.ReadUint32Le(frame + 20)
			out, _ := mem.Read(frame+256, n)
			dst = append(dst[:0], out...)
		}
	})
}

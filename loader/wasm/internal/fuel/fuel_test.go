package fuel_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

var ctx = context.Background()

func uleb(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func section(b []byte, id byte, items ...[]byte) []byte {
	body := uleb(nil, uint32(len(items)))
	for _, item := range items {
		body = append(body, item...)
	}
	return append(uleb(append(b, id), uint32(len(body))), body...)
}

const header = "\x00asm\x01\x00\x00\x00"

// module has a function f with this body, among four of everything that an instruction may name by its number.
func module(body ...byte) []byte {
	b := []byte(header)
	b = section(b, 1, []byte{0x60, 0, 0}, []byte{0x60, 0, 1, 0x7f}, []byte{0x60, 1, 0x7f, 1, 0x7f}, []byte{0x60, 0, 0})
	b = section(b, 3, []byte{0}, []byte{0}, []byte{0}, []byte{0})
	table := []byte{0x70, 0, 8}
	b = section(b, 4, table, table, table, table)
	b = section(b, 5, []byte{0, 1})
	global := []byte{0x7f, 1, 0x41, 0, 0x0b}
	b = section(b, 6, global, global, global, global)
	b = section(b, 7, append(append([]byte{1}, 'f'), 0, 0))
	elements := []byte{1, 0, 1, 3} // passive
	b = section(b, 9, elements, elements, elements, elements)
	b = append(b, 12, 1, 4)
	code := append([]byte{1, 8, 0x7f}, body...) // eight locals
	empty := []byte{2, 0, 0x0b}
	b = section(b, 10, append(uleb(nil, uint32(len(code))), code...), empty, empty, empty)
	data := []byte{1, 1, 'x'} // passive
	return section(b, 11, data, data, data, data)
}

// runtime is one whose ticks are told of.
func runtime(t testing.TB, tick func(context.Context)) (wazero.Runtime, *fuel.Binder) {
	t.Helper()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = r.Close(ctx) })
	b, err := fuel.NewBinder(ctx, r, tick)
	require.NoError(t, err)
	return r, b
}

// runtimeOf is a runtime whose ticks do nothing.
func runtimeOf(t testing.TB) (wazero.Runtime, *fuel.Binder) {
	return runtime(t, func(context.Context) {})
}

// validator is a runtime that makes no machine code, which takes its time.
func validator(t testing.TB) wazero.Runtime {
	t.Helper()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { _ = r.Close(ctx) })
	return r
}

var errEnough = errors.New("enough")

// Every form of what never ends is ended by its tick, and the process goes on.
func TestEndless(t *testing.T) {
	inBlocks := func(loop ...byte) []byte {
		return append(append([]byte{0x02, 0x40, 0x02, 0x40}, loop...), 0x0b, 0x0b, 0x0b)
	}
	for name, body := range map[string][]byte{
		"br":                 {0x03, 0x40, 0x0c, 0, 0x0b, 0x0b},
		"br_if":              {0x03, 0x40, 0x41, 1, 0x0d, 0, 0x0b, 0x0b},
		"br_table":           {0x03, 0x40, 0x41, 0, 0x0e, 2, 0, 0, 0, 0x0b, 0x0b},
		"br out of a block":  {0x03, 0x40, 0x02, 0x40, 0x0c, 1, 0x0b, 0x0b, 0x0b},
		"br out of an if":    {0x03, 0x40, 0x41, 1, 0x04, 0x40, 0x0c, 1, 0x0b, 0x0b, 0x0b},
		"in blocks":          inBlocks(0x03, 0x40, 0x0c, 0, 0x0b),
		"loop in a loop":     {0x03, 0x40, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0c, 0, 0x0b, 0x0b},
		"the outer of two":   {0x03, 0x40, 0x03, 0x40, 0x0c, 1, 0x0b, 0x0b, 0x0b},
		"with a result":      {0x03, 0x7f, 0x0c, 0, 0x0b, 0x1a, 0x0b},
		"with parameters":    {0x41, 1, 0x03, 2, 0x0c, 0, 0x0b, 0x1a, 0x0b},
		"of memory.fill":     {0x03, 0x40, 0x41, 0, 0x41, 0, 0x41, 0xff, 0xff, 3, 0xfc, 11, 0, 0x0c, 0, 0x0b, 0x0b},
		"calls of another":   {0x03, 0x40, 0x10, 3, 0x0c, 0, 0x0b, 0x0b},
		"far in unreachable": {0x03, 0x40, 0x02, 0x40, 0x02, 0x40, 0x0c, 0, 0x00, 0x0b, 0x0b, 0x0c, 0, 0x0b, 0x0b},
	} {
		t.Run(name, func(t *testing.T) {
			ticks := 0
			var counter api.MutableGlobal
			r, b := runtime(t, func(context.Context) {
				if ticks++; ticks == 3 {
					panic(errEnough)
				}
				counter.Set(1000)
			})
			fuelled, err := fuel.Instrument(module(body...), 1<<20)
			require.NoError(t, err)
			code, err := r.CompileModule(ctx, fuelled)
			require.NoError(t, err)
			m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig())
			require.NoError(t, err)
			counter, _, err = b.Bind(ctx, m)
			require.NoError(t, err)
			_, err = m.ExportedFunction("f").Call(ctx)
			assert.ErrorIs(t, err, errEnough)
			assert.Equal(t, 3, ticks)
		})
	}
}

// Recursion without an end is a trap, and so is one that the ticks let go on.
func TestRecursion(t *testing.T) {
	var counter api.MutableGlobal
	r, b := runtime(t, func(context.Context) { counter.Set(1000) })
	for _, body := range [][]byte{{0x10, 0, 0x0b}, {0x10, 0, 0x10, 0, 0x0b}} {
		fuelled, err := fuel.Instrument(module(body...), 1<<20)
		require.NoError(t, err)
		code, err := r.CompileModule(ctx, fuelled)
		require.NoError(t, err)
		m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		require.NoError(t, err)
		counter, _, err = b.Bind(ctx, m)
		require.NoError(t, err)
		_, err = m.ExportedFunction("f").Call(ctx)
		assert.ErrorContains(t, err, "stack overflow")
	}
}

// A start function runs when its instance is bound, and not before.
func TestStartFunction(t *testing.T) {
	b := []byte(header)
	b = section(b, 1, []byte{0x60, 0, 0})
	b = section(b, 3, []byte{0})
	b = append(b, 8, 1, 0)
	b = section(b, 10, []byte{7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b})
	r, binder := runtime(t, func(context.Context) { panic(errEnough) })
	fuelled, err := fuel.Instrument(b, 1<<20)
	require.NoError(t, err)
	code, err := r.CompileModule(ctx, fuelled)
	require.NoError(t, err)
	m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig())
	require.NoError(t, err)
	_, unbind, err := binder.Bind(ctx, m)
	require.NoError(t, err)
	defer unbind()
	_, err = m.ExportedFunction(fuel.StartFunction).Call(ctx)
	assert.ErrorIs(t, err, errEnough)

	fuelled, err = fuel.Instrument(module(0x0b), 1<<20)
	require.NoError(t, err)
	code, err = r.CompileModule(ctx, fuelled)
	require.NoError(t, err)
	assert.NotContains(t, code.ExportedFunctions(), fuel.StartFunction)
}

// What is compiled, is compiled with fuel: of every instruction, with what may follow it. The numbers that follow are 3, which is a loop where they are taken for an
// instruction: the module is not valid then.
func TestInstructions(t *testing.T) {
	r := validator(t)
	follows := [][]byte{{}, {3}, {3, 3}, {3, 3, 3}, {0}, {1}, {0, 3}, {3, 0}, {0, 0}, {0x40}, {0x7f}, {0x70}, {1, 0x7f}, {2, 3, 3, 3}, {0, 3, 1}, {2, 3}, {1, 3},
		{3, 3, 3, 3}, bytes.Repeat([]byte{3}, 8), bytes.Repeat([]byte{3}, 16), {0xff, 3}, {0x80, 0x80, 3}}
	within := func(instruction []byte) []byte {
		// Four blocks for labels; what comes before it never runs, so that it finds any operands.
		body := append([]byte{0x02, 0x40, 0x02, 0x40, 0x02, 0x40, 0x02, 0x40, 0x00}, instruction...)
		if op := instruction[0]; op == 0x02 || op == 0x03 || op == 0x04 { // which have an end of their own
			body = append(body, 0x00, 0x0b)
		}
		return module(append(body, 0x00, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b)...)
	}
	compiled := make(map[string]bool)
	try := func(name string, op []byte) {
		for _, follow := range follows {
			m := within(append(append([]byte(nil), op...), follow...))
			code, err := r.CompileModule(ctx, m)
			if err != nil {
				continue
			}
			_ = code.Close(ctx)
			compiled[name] = true
			fuelled, err := fuel.Instrument(m, 1<<20)
			if !assert.NoError(t, err, "%s % x", name, follow) {
				continue
			}
			code, err = r.CompileModule(ctx, fuelled)
			if assert.NoError(t, err, "%s % x", name, follow) {
				_ = code.Close(ctx)
			}
		}
	}
	for op := range 256 {
		if op == 0x05 || op == 0x0b { // else and end
			continue
		}
		try(string(rune(op)), []byte{byte(op)})
	}
	for op := range uint32(18) {
		try("fc"+string(rune(op)), uleb([]byte{0xfc}, op))
	}
	for op := range uint32(0x120) {
		try("fd"+string(rune(op)), uleb([]byte{0xfd}, op))
	}
	assert.GreaterOrEqual(t, len(compiled), 172+18+236-10, "most instructions of version 2.0 were tried: %d", len(compiled))
}

// What wazero has off is refused by name.
func TestUnsupported(t *testing.T) {
	for feature, body := range map[string][]byte{
		"threads":                   {0xfe, 0x03, 0x00, 0x0b},
		"tail calls":                {0x12, 0, 0x0b},
		"exceptions":                {0x08, 0, 0x0b},
		"garbage collection":        {0xfb, 0, 0, 0x0b},
		"relaxed SIMD":              {0x00, 0xfd, 0x80, 0x02, 0x0b},
		"typed function references": {0x14, 0, 0x0b},
		"more than one memory":      {0x3f, 1, 0x1a, 0x0b},
	} {
		_, err := fuel.Instrument(module(body...), 1<<20)
		var unsupported *fuel.Unsupported
		if assert.ErrorAs(t, err, &unsupported, feature) {
			assert.Equal(t, feature, unsupported.Feature)
		}
	}
	imported := func(kind ...byte) []byte { return append([]byte{1, 'm', 1, 'n'}, kind...) }
	for _, c := range []struct {
		feature string
		id      byte
		item    []byte
	}{
		{"threads", 5, []byte{3, 1, 1}}, {"threads", 2, imported(2, 3, 1, 1)},
		{"memories of 64 bits", 5, []byte{4, 1}}, {"memories of 64 bits", 2, imported(2, 5, 1, 1)}, {"memories of 64 bits", 4, []byte{0x70, 4, 1}},
		{"pages of other sizes", 5, []byte{8, 1, 0}},
		{"exceptions", 2, imported(4, 0, 0)}, {"exceptions", 13, []byte{0, 0}}, {"exceptions", 1, []byte{0x60, 1, 0x69, 0}},
		{"garbage collection", 1, []byte{0x5f, 0}}, {"garbage collection", 1, []byte{0x60, 1, 0x6e, 0}}, {"garbage collection", 2, imported(3, 0x6d, 0)},
		{"typed function references", 1, []byte{0x60, 1, 0x64, 0, 0}}, {"typed function references", 4, []byte{0x40, 0, 0x70, 0, 1, 0xd0, 0x70, 0x0b}},
		{"typed function references", 6, []byte{0x63, 0, 0, 0xd0, 0, 0x0b}},
	} {
		_, err := fuel.Instrument(section([]byte(header), c.id, c.item), 1<<20)
		var unsupported *fuel.Unsupported
		if assert.ErrorAs(t, err, &unsupported, "%s % x", c.feature, c.item) {
			assert.Equal(t, c.feature, unsupported.Feature, "% x", c.item)
		}
	}
	_, err := fuel.Instrument(section([]byte(header), 5, []byte{0, 1}, []byte{0, 1}), 1<<20)
	assert.EqualError(t, err, "the module uses more than one memory")
}

// What a module exports by the names that are added keeps its place, under another name.
func TestNamesThatAreTaken(t *testing.T) {
	b := []byte(header)
	b = section(b, 1, []byte{0x60, 0, 1, 0x7f})
	b = section(b, 3, []byte{0})
	export := func(name string) []byte { return append(append([]byte{byte(len(name))}, name...), 0, 0) }
	b = section(b, 7, export("ferrule:fuel"), export("ferrule:fuel'"), export("f"), export("ferrule:tick"), export(fuel.StartFunction))
	b = section(b, 10, []byte{4, 0, 0x41, 42, 0x0b})
	ticks := 0
	r, binder := runtime(t, func(context.Context) { ticks++ })
	for range 3 { // what has fuel gets more
		fuelled, err := fuel.Instrument(b, 1<<20)
		require.NoError(t, err)
		code, err := r.CompileModule(ctx, fuelled)
		require.NoError(t, err)
		m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		require.NoError(t, err)
		_, unbind, err := binder.Bind(ctx, m)
		require.NoError(t, err)
		for _, name := range []string{"f", "ferrule:fuel''", "ferrule:fuel'", "ferrule:tick'", "ferrule:start'"} {
			f := m.ExportedFunction(name)
			if assert.NotNil(t, f, name) && len(b) < 100 {
				before := ticks
				result, err := f.Call(ctx)
				require.NoError(t, err)
				assert.Equal(t, uint64(42), result[0])
				assert.Equal(t, before+1, ticks)
			}
		}
		unbind()
		assert.Nil(t, m.ExportedFunction(fuel.StartFunction), "a module's own function of that name is not started")
		b = fuelled
	}
}

// What is broken is an error with its place, and never a panic.
func TestBroken(t *testing.T) {
	whole := module(0x03, 0x40, 0x41, 5, 0x0d, 0, 0x0b, 0x44, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 0x0b)
	_, err := fuel.Instrument(whole, 1<<20)
	require.NoError(t, err)
	for n := range whole {
		_, _ = fuel.Instrument(whole[:n], 1<<20)
		for _, with := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			other := bytes.Clone(whole)
			other[n] = with
			if fuelled, err := fuel.Instrument(other, 1<<20); err == nil {
				assert.NotEmpty(t, fuelled)
			} else {
				var broken *fuel.Error
				var unsupported *fuel.Unsupported
				var excess *fuel.Excess
				assert.True(t, errors.As(err, &broken) || errors.As(err, &unsupported) || errors.As(err, &excess), "%T", err)
			}
		}
	}
	for _, text := range []string{"", "\x00asm", "\x00asm\x02\x00\x00\x00", header + "\x0a\xff\xff\xff\xff\x0f", header + "\x01\x05\x01\x60\x00", header + "\x08\x00"} {
		_, err := fuel.Instrument([]byte(text), 1<<20)
		assert.Error(t, err, "%q", text)
	}
}

// realModules are those of Extism's SDK for Go, and of fixtures.
func realModules(t testing.TB) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(fixture.Extism(t), "*.wasm"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	built, err := filepath.Glob(filepath.Join(fixture.Wasm().Dir, "*.wasm"))
	require.NoError(t, err)
	return append(paths, built...)
}

// Real modules are compiled with fuel as without.
func TestRealModules(t *testing.T) {
	r := validator(t)
	for _, path := range realModules(t) {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		plain, err := r.CompileModule(ctx, file)
		require.NoError(t, err, path)
		fuelled, err := fuel.Instrument(file, 1<<20)
		require.NoError(t, err, path)
		with, err := r.CompileModule(ctx, fuelled)
		require.NoError(t, err, path)
		assert.GreaterOrEqual(t, len(with.ExportedFunctions()), len(plain.ExportedFunctions()))
		require.NoError(t, plain.Close(ctx))
		require.NoError(t, with.Close(ctx))
	}
}

// FuzzInstrument: what wazero compiles, it compiles with fuel.
func FuzzInstrument(f *testing.F) {
	f.Add(module(0x0b))
	f.Add(module(0x03, 0x40, 0x41, 1, 0x0d, 0, 0x0b, 0x0b))
	f.Add(module(0x00, 0xfd, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x1a, 0x0b))
	f.Add([]byte(header))
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Fuzz(func(t *testing.T, data []byte) {
		fuelled, err := fuel.Instrument(data, 1<<20)
		if excess := (*fuel.Excess)(nil); errors.As(err, &excess) {
			return // wazero may take all memory for it
		}
		code, broken := r.CompileModule(ctx, data)
		if broken != nil {
			return
		}
		_ = code.Close(ctx)
		if lacks := (*fuel.Unsupported)(nil); errors.As(err, &lacks) && (lacks.Feature == "exceptions" || lacks.Feature == "typed function references") {
			return // wazero takes a type of theirs that nothing uses
		}
		if err != nil {
			t.Fatalf("wazero compiles it: %v", err)
		}
		code, err = r.CompileModule(ctx, fuelled)
		if err != nil {
			t.Fatal(err)
		}
		_ = code.Close(ctx)
	})
}

// BenchmarkLoop is a million rounds of a loop that counts, without fuel and with it.
func BenchmarkLoop(b *testing.B) {
	body := []byte{0x03, 0x40, 0x20, 0, 0x41, 1, 0x6a, 0x22, 0, 0x41, 0xc0, 0x84, 0x3d, 0x48, 0x0d, 0, 0x0b, 0x0b}
	plain := module(body...)
	fuelled, err := fuel.Instrument(plain, 1<<20)
	require.NoError(b, err)
	for name, m := range map[string][]byte{"plain": plain, "fuelled": fuelled} {
		b.Run(name, func(b *testing.B) {
			var counter api.MutableGlobal
			r, binder := runtime(b, func(context.Context) { counter.Set(100_000) })
			code, err := r.CompileModule(ctx, m)
			require.NoError(b, err)
			in, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig())
			require.NoError(b, err)
			if name == "fuelled" {
				counter, _, err = binder.Bind(ctx, in)
				require.NoError(b, err)
			}
			f := in.ExportedFunction("f")
			for b.Loop() {
				if _, err := f.Call(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInstrument is a module of some hundred KB.
func BenchmarkInstrument(b *testing.B) {
	file, err := os.ReadFile(realModules(b)[0])
	require.NoError(b, err)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := fuel.Instrument(file, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}

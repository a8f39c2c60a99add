package extism_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/extism"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

const (
	env  = "extism:host/env"
	user = "extism:host/user"
	wasi = "wasi_snapshot_preview1"
)

// function is one that a module imports: its types are strings of "i" (i32) and "l" (i64).
type function struct{ module, name, params, results string }

func leb(n int64) (b []byte) {
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func uleb(n int) []byte {
	if n < 0x80 {
		return []byte{byte(n)}
	}
	return append([]byte{byte(n) | 0x80}, uleb(n>>7)...)
}

func vector(items ...[]byte) []byte { return append(uleb(len(items)), slices.Concat(items...)...) }
func named(s string) []byte         { return append(uleb(len(s)), s...) }

// module makes one that imports functions and exports run, of the type () -> (i32), and each imported function by its name.
func module(imports []function, body ...[]byte) []byte {
	section := func(id byte, body []byte) []byte { return slices.Concat([]byte{id}, uleb(len(body)), body) }
	types := [][]byte{{0x60, 0, 1, 0x7f}}
	var imported [][]byte
	exports := [][]byte{slices.Concat(named("run"), []byte{0}, uleb(len(imports)))}
	list := strings.NewReplacer("i", "\x7f", "l", "\x7e")
	for i, f := range imports {
		types = append(types, slices.Concat([]byte{0x60}, named(list.Replace(f.params)), named(list.Replace(f.results))))
		imported = append(imported, slices.Concat(named(f.module), named(f.name), []byte{0}, uleb(i+1)))
		exports = append(exports, slices.Concat(named(f.name), []byte{0}, uleb(i)))
	}
	code := slices.Concat([]byte{1, 1, 0x7e}, slices.Concat(body...), []byte{0x0b}) // one local, an i64
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), section(1, vector(types...)), section(2, vector(imported...)), section(3, vector([]byte{0})),
		section(7, vector(exports...)), section(10, vector(slices.Concat(uleb(len(code)), code))))
}

// Instructions.
func long(n int64) []byte { return append([]byte{0x42}, leb(n)...) }
func whole(n int) []byte  { return append([]byte{0x41}, leb(int64(n))...) }
func calls(i int) []byte  { return append([]byte{0x10}, uleb(i)...) }

var (
	drop = []byte{0x1a}
	set  = []byte{0x21, 0}
	get  = []byte{0x20, 0}
	sub  = []byte{0x7d}
	done = whole(0)
)

// host answers with what it is asked, or says that it failed.
type host struct{ status abi.Status }

func (h host) Call(_ context.Context, _ uint32, in []byte) ([]byte, abi.Status) { return in, h.status }
func (h host) Log(context.Context, abi.Level, []byte)                           {}
func (h host) Context() context.Context                                         { return context.Background() }

var names = []string{"ask"}

func compile(t *testing.T, offer extism.Offer, text []byte) (*extism.Code, error) {
	t.Helper()
	ctx := t.Context()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(32))
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	return extism.Compile(ctx, rt, rt.CompileModule, text, names, &offer)
}

func instance(t *testing.T, code *extism.Code, h extism.Host) *extism.Instance {
	t.Helper()
	in, err := code.Instantiate(t.Context(), wazero.NewModuleConfig(), h, func(api.Module) error { return nil },
		func(f api.Function, stack []uint64) error { return f.CallWithStack(t.Context(), stack) })
	require.NoError(t, err)
	t.Cleanup(func() { in.Close(context.Background()) })
	return in
}

// TestHostile has plug-ins do what no PDK does: each is an error with a type, and the next instance works.
func TestHostile(t *testing.T) {
	alloc := function{env, "alloc", "l", "l"}
	store := function{env, "store_u64", "ll", ""}
	block := func(err error) bool { _, ok := errors.AsType[*extism.BlockError](err); return ok }
	for name, c := range map[string]struct {
		imports []function
		body    [][]byte
		is      func(error) bool
	}{
		"config by no block":      {[]function{{env, "config_get", "l", "l"}}, [][]byte{long(1 << 33), calls(0), drop, done}, block},
		"log of no block":         {[]function{{env, "log_info", "l", ""}}, [][]byte{long(0xfffffff0), calls(0), done}, block},
		"variable of no block":    {[]function{{env, "var_get", "l", "l"}}, [][]byte{long(-1), calls(0), drop, done}, block},
		"variable to no block":    {[]function{{env, "var_set", "ll", ""}}, [][]byte{long(-1), long(-1), calls(0), done}, block},
		"request of no block":     {[]function{{env, "http_request", "ll", "l"}}, [][]byte{long(1 << 32), long(0), calls(0), drop, done}, block},
		"host function, no block": {[]function{{user, "ask", "l", "l"}}, [][]byte{long(1 << 32), calls(0), drop, done}, block},
		"a block that says it is long": {[]function{alloc, store, {env, "log_info", "l", ""}},
			[][]byte{long(32), calls(0), set, get, long(8), sub, long(-1), calls(1), get, calls(2), done}, block},
		"unreachable": {nil, [][]byte{{0}}, func(err error) bool { return strings.Contains(err.Error(), "unreachable") }},
		"exit with 3": {[]function{{wasi, "proc_exit", "i", ""}}, [][]byte{whole(3), calls(0), done}, func(err error) bool {
			exited, ok := errors.AsType[*extism.Exited](err)
			return ok && exited.Code == 3
		}},
		"a code": {nil, [][]byte{whole(-5)}, func(err error) bool {
			failed, ok := errors.AsType[*extism.Failed](err)
			return ok && *failed == extism.Failed{Code: -5}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			code, err := compile(t, extism.Offer{Level: abi.LogTrace}, module(c.imports, c.body...))
			require.NoError(t, err)
			for range 2 {
				in := instance(t, code, host{})
				_, err = in.Append(in.Function("run"), nil, []byte("input"))
				require.Error(t, err)
				require.True(t, c.is(err), "%T: %v", err, err)
				if in.Ended() {
					_, err = in.Append(in.Function("run"), nil, nil)
					require.ErrorIs(t, err, extism.ErrEnded)
				}
			}
		})
	}
}

// TestIgnored has a plug-in name an output and an error that are not in memory: the kernel takes no notice of either, and so there is none.
func TestIgnored(t *testing.T) {
	for _, at := range [][2]int64{{1 << 30, 1 << 30}, {1 << 40, 4}, {8, -1}, {-8, 16}} {
		code, err := compile(t, extism.Offer{}, module([]function{{env, "output_set", "ll", ""}, {env, "error_set", "l", ""}},
			long(at[0]), long(at[1]), calls(0), long(1<<40), calls(1), done))
		require.NoError(t, err)
		in := instance(t, code, host{})
		out, err := in.Append(in.Function("run"), nil, []byte("input"))
		require.NoError(t, err)
		assert.Empty(t, out)
	}
}

// TestHostFunction has a host function's failure end the call, with its words.
func TestHostFunction(t *testing.T) {
	code, err := compile(t, extism.Offer{}, module([]function{{env, "input_offset", "", "l"}, {user, "ask", "l", "l"}, {env, "length", "l", "l"}, {env, "output_set", "ll", ""}},
		calls(0), calls(1), set, get, get, calls(2), calls(3), done))
	require.NoError(t, err)
	in := instance(t, code, host{})
	out, err := in.Append(in.Function("run"), []byte("said "), []byte("words"))
	require.NoError(t, err)
	assert.Equal(t, "said words", string(out))

	in = instance(t, code, host{abi.StatusInvalid})
	_, err = in.Append(in.Function("run"), nil, []byte("words"))
	failed, ok := errors.AsType[*extism.HostError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, extism.HostError{Function: "ask", Status: abi.StatusInvalid, Message: "words"}, *failed)
	require.ErrorIs(t, err, abi.StatusInvalid)
}

// TestLimits has an input that does not fit into the memory refused, before the plug-in runs.
func TestLimits(t *testing.T) {
	code, err := compile(t, extism.Offer{}, module(nil, done))
	require.NoError(t, err)
	in := instance(t, code, host{})
	_, err = in.Append(in.Function("run"), nil, make([]byte, 3<<20))
	long, ok := errors.AsType[*extism.MemoryError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, 3<<20, long.Length)
	_, err = in.Append(in.Function("run"), nil, make([]byte, 1<<20))
	require.NoError(t, err)
}

// lengths is a host that keeps how long the lines are that it is told.
type lengths struct {
	host
	all *[]int
}

func (l lengths) Log(_ context.Context, _ abi.Level, text []byte) { *l.all = append(*l.all, len(text)) }

// TestLogFrees has a line's block be free when it is logged: eight lines of half a MiB pass through a memory of 2 MiB, whether they are heard or not.
func TestLogFrees(t *testing.T) {
	const line = 1 << 19
	body := slices.Repeat(slices.Concat(long(line), calls(0), calls(1)), 8)
	// The ninth is heard always, and says whether there was room for it.
	text := module([]function{{env, "alloc", "l", "l"}, {env, "log_debug", "l", ""}, {env, "log_error", "l", ""}}, body, long(line), calls(0), calls(2), done)
	for level, want := range map[abi.Level]int{abi.LogDebug: 9, abi.LogError: 1} {
		code, err := compile(t, extism.Offer{Level: level}, text)
		require.NoError(t, err)
		var all []int
		in := instance(t, code, lengths{all: &all})
		_, err = in.Append(in.Function("run"), nil, nil)
		require.NoError(t, err)
		assert.Equal(t, slices.Repeat([]int{line}, want), all)
	}
}

// TestImports has what is not offered named when the plug-in is compiled.
func TestImports(t *testing.T) {
	for name, f := range map[string]function{
		"of Extism's, unknown":     {env, "teleport", "l", "l"},
		"of Extism's, other types": {env, "alloc", "i", "i"},
		"of another module":        {"lib", "capitalize", "l", "l"},
		"of the host's, unknown":   {user, "other", "l", "l"},
		"of two numbers":           {user, "ask", "ll", "l"},
		"of no bytes":              {user, "ask", "", "l"},
		"with a number":            {user, "ask", "l", "i"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compile(t, extism.Offer{}, module([]function{f}, done))
			missing, ok := errors.AsType[*extism.ImportError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, [2]string{f.module, f.name}, [2]string{missing.Module, missing.Name})
		})
	}
	_, err := compile(t, extism.Offer{HTTP: &extism.HTTP{Hosts: []string{"[a"}}}, module(nil, done))
	pattern, ok := errors.AsType[*extism.PatternError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "[a", pattern.Pattern)
}

// TestReexported has a plug-in export what it imports: called as a function of its own, that is an error and no panic.
func TestReexported(t *testing.T) {
	code, err := compile(t, extism.Offer{}, module([]function{{env, "get_log_level", "", "i"}, {env, "config_get", "l", "l"}, {env, "reset", "", ""}}, done))
	require.NoError(t, err)
	for _, name := range []string{"get_log_level", "config_get"} {
		in := instance(t, code, host{})
		_, err = in.Append(in.Function(name), nil, nil)
		require.Error(t, err, name)
	}
	in := instance(t, code, host{})
	_, err = in.Append(in.Function("reset"), nil, nil) // the kernel's
	require.NoError(t, err)
}

// TestFuel has a plug-in damage the kernel's list of blocks so that looking for room never ends: who limits the plug-in's time limits that, too.
func TestFuel(t *testing.T) {
	ctx := t.Context()
	rt := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	used := errors.New("out of fuel")
	ticks := 0
	binder, err := fuel.NewBinder(ctx, rt, func(context.Context) {
		if ticks++; ticks > 100_000 {
			panic(used)
		}
	})
	require.NoError(t, err)
	withFuel := func(ctx context.Context, text []byte) (wazero.CompiledModule, error) {
		text, err := fuel.Instrument(text, 1<<20)
		if err != nil {
			return nil, err
		}
		return rt.CompileModule(ctx, text)
	}
	// The block's length, 8 bytes before its own, becomes -12, so that the block behind it is itself.
	text := module([]function{{env, "alloc", "l", "l"}, {env, "store_u64", "ll", ""}, {env, "length", "l", "l"}},
		long(32), calls(0), set, get, long(8), sub, long(-12), calls(1), long(1<<15), calls(2), drop, done)
	code, err := extism.Compile(ctx, rt, withFuel, text, nil, &extism.Offer{})
	require.NoError(t, err)
	in, err := code.Instantiate(ctx, wazero.NewModuleConfig(), host{}, func(m api.Module) error {
		_, _, err := binder.Bind(ctx, m)
		return err
	}, func(f api.Function, stack []uint64) error { return f.CallWithStack(ctx, stack) })
	require.NoError(t, err)
	defer in.Close(ctx)
	_, err = in.Append(in.Function("run"), nil, nil)
	require.ErrorIs(t, err, used)
	assert.True(t, in.Ended())
}

// TestConcurrent has instances of one plug-in run at the same time.
func TestConcurrent(t *testing.T) {
	code, err := compile(t, extism.Offer{}, module([]function{{env, "input_offset", "", "l"}, {user, "ask", "l", "l"}, {env, "length", "l", "l"}, {env, "output_set", "ll", ""}},
		calls(0), calls(1), set, get, get, calls(2), calls(3), done))
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range 8 {
		in := instance(t, code, host{})
		all.Go(func() {
			input := strings.Repeat(string(rune('a'+i)), 100+i)
			for range 200 {
				out, err := in.Append(in.Function("run"), nil, []byte(input))
				if !assert.NoError(t, err) || !assert.Equal(t, input, string(out)) {
					return
				}
			}
		})
	}
	all.Wait()
}

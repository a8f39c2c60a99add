package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

var ctx = context.Background()

func upper(_ context.Context, in []byte) ([]byte, error) {
	return []byte(strings.ToUpper(string(in))), nil
}

// open opens a fixture's module until the end of the test.
func open(t testing.TB, name string, opts []wasm.Option, more ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(fixture.WasmC(t, name), append(more, loader.WithEngine(wasm.Engine(opts...)))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// untilGoroutines returns when there are no more than n goroutines.
func untilGoroutines(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, expected %d:\n%s", runtime.NumGoroutine(), n, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// What never ends is ended, a grace period after its context or its limit, and the plug-in goes on with a new instance.
func TestEndless(t *testing.T) {
	p := open(t, "wasm_faults", []wasm.Option{wasm.WithGrace(30 * time.Millisecond)}, loader.WithHostFunc("upper", upper))
	for _, name := range []string{"spins", "spins_in_blocks", "calls_for_ever", "fills_for_ever", "release_spins"} {
		t.Run(name, func(t *testing.T) {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, err := p.Call(short, name, nil)
			var overrun *loader.DeadlineError
			require.ErrorAs(t, err, &overrun)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			out, err := p.Call(ctx, "fine", nil)
			require.NoError(t, err)
			assert.Equal(t, "1", string(out), "an instance that was started anew")

			f, err := p.Func(name)
			require.NoError(t, err)
			_, err = f.WithTimeout(20*time.Millisecond).Call(ctx, nil)
			require.ErrorAs(t, err, &overrun)
			_, err = p.Call(ctx, "fine", nil)
			require.NoError(t, err)
		})
	}
	t.Run("asked", func(t *testing.T) {
		before, err := p.Call(ctx, "fine", nil)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		_, err = p.Call(short, "polls", nil)
		assert.ErrorIs(t, err, loader.ErrCancelled)
		after, err := p.Call(ctx, "fine", nil)
		require.NoError(t, err)
		n, err := strconv.Atoi(string(before))
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(n+1), string(after), "it goes on: it has stopped by itself")
	})
	t.Run("start", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		begun := runtime.NumGoroutine()
		_, err := loader.OpenContext(short, fixture.WasmC(t, "wasm_faults"), loader.WithConfig([]byte("spin")), loader.WithHostFunc("upper", upper),
			loader.WithEngine(wasm.Engine(wasm.WithGrace(10*time.Millisecond))))
		require.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		untilGoroutines(t, begun)
	})
}

// A session that does not start is ended with its context, and says why that had ended.
func TestSessionThatSpins(t *testing.T) {
	p := open(t, "wasm_faults", []wasm.Option{wasm.WithGrace(10 * time.Millisecond)}, loader.WithHostFunc("upper", upper))
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	_, err := p.NewSession(short, []byte("spin"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = p.Call(ctx, "fine", nil)
	assert.NoError(t, err)
}

// A trap is a panic of the call, which says what it was and where, and nothing else.
func TestTraps(t *testing.T) {
	p := open(t, "wasm_faults", nil, loader.WithHostFunc("upper", upper))
	for name, says := range map[string]string{"unreachable": "unreachable", "reads_beyond": "out of bounds memory access", "writes_beyond": "out of bounds memory access",
		"divides": "integer divide by zero", "calls_nothing": "invalid table access", "calls_another_type": "indirect call type mismatch",
		"recurses": "stack overflow", "exits": "exited with the code 3", "aborts": "unreachable", "lies_in_release": "release is 2147483647"} {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				_, err := p.Call(ctx, name, nil)
				require.ErrorIs(t, err, loader.ErrPanic)
				assert.ErrorContains(t, err, says)
				if strings.HasPrefix(says, "out of bounds") {
					assert.ErrorContains(t, err, "in ferrule_fn_"+name)
				}
				out, err := p.Call(ctx, "fine", nil)
				require.NoError(t, err)
				assert.Equal(t, "1", string(out))
			}
		})
	}
	_, err := loader.Open(fixture.WasmC(t, "wasm_faults"), loader.WithConfig([]byte("trap")), loader.WithHostFunc("upper", upper), loader.WithEngine(wasm.Engine()))
	require.ErrorIs(t, err, loader.ErrStart)
	assert.ErrorContains(t, err, "unreachable")
}

// A module that lies to the host gets an error of its own.
func TestLies(t *testing.T) {
	p := open(t, "wasm_faults", nil, loader.WithHostFunc("upper", upper))
	_, err := p.Call(ctx, "lies_in_out", nil)
	var broken *loader.ContractError
	if !errors.As(err, &broken) {
		require.ErrorIs(t, err, loader.ErrPanic)
	}
	out, err := p.Call(ctx, "lies_to_services", nil)
	require.NoError(t, err)
	refused, asked, _ := strings.Cut(string(out), " of ")
	assert.Equal(t, asked, refused, "every one is refused")
}

// Memory ends where it was said to, for the module alone.
func TestMemory(t *testing.T) {
	p := open(t, "wasm_faults", []wasm.Option{wasm.WithMemory(8 << 20)}, loader.WithHostFunc("upper", upper))
	for range 2 {
		out, err := p.Call(ctx, "takes_all", nil)
		require.NoError(t, err)
		n, err := strconv.Atoi(string(out))
		require.NoError(t, err)
		assert.LessOrEqual(t, n, 8)
		_, err = p.Call(ctx, "unreachable", nil)
		require.ErrorIs(t, err, loader.ErrPanic)
	}
	_, err := p.Call(ctx, "fine", make([]byte, 16<<20))
	assert.ErrorIs(t, err, loader.ErrNoMemory)
	_, err = p.Call(ctx, "fine", nil)
	assert.NoError(t, err)

	_, err = loader.Open(fixture.WasmC(t, "wasm_faults"), loader.WithHostFunc("upper", upper), loader.WithEngine(wasm.Engine(wasm.WithMemory(1<<16))))
	require.ErrorIs(t, err, loader.ErrLoad)
	assert.ErrorContains(t, err, "memory")
}

// The host's memory for one that grows by steps is not several times its limit.
func TestMemoryOfTheHost(t *testing.T) {
	const limit = 64 << 20
	p := open(t, "wasm_faults", []wasm.Option{wasm.WithMemory(limit)}, loader.WithHostFunc("upper", upper))
	_, err := p.Call(ctx, "fine", nil)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out, err := p.Call(ctx, "takes_all", nil)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	n, err := strconv.Atoi(string(out))
	require.NoError(t, err)
	require.Greater(t, n, 48)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(limit*3/2))
}

// A module whose custom section says that there are four billion names is opened: nobody makes room for them.
func TestLieAboutNames(t *testing.T) {
	module, err := os.ReadFile(fixture.WasmC(t, "wasm_faults"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "lies.wasm")
	custom := append([]byte{0, 12, 4}, "name\x02\x05\xff\xff\xff\xff\x0f"...)
	require.NoError(t, os.WriteFile(path, append(module, custom...), 0o644))
	p, err := loader.Open(path, loader.WithHostFunc("upper", upper), loader.WithEngine(wasm.Engine()))
	require.NoError(t, err)
	_, err = p.Call(ctx, "fine", nil)
	assert.NoError(t, err)
	require.NoError(t, p.Close())
}

// Fuel is the same for the same call.
func TestFuel(t *testing.T) {
	for range 2 {
		p := open(t, "wasm_faults", []wasm.Option{wasm.WithFuel(1_000_000)}, loader.WithHostFunc("upper", upper))
		for _, name := range []string{"spins", "polls", "fills_for_ever"} {
			_, err := p.Call(ctx, name, nil)
			require.ErrorIs(t, err, loader.ErrPanic)
			assert.ErrorContains(t, err, "used its fuel")
		}
		_, err := p.Call(ctx, "fine", nil)
		require.NoError(t, err)
	}
}

// Many callers at once, some of whose calls trap or are ended: each call has its own result, and nothing is left.
func TestTogether(t *testing.T) {
	begun := runtime.NumGoroutine()
	p, err := loader.Open(fixture.WasmC(t, "echo"), loader.WithEngine(wasm.Engine()))
	require.NoError(t, err)
	faults, err := loader.Open(fixture.WasmC(t, "wasm_faults"), loader.WithInstances(4), loader.WithHostFunc("upper", upper),
		loader.WithEngine(wasm.Engine(wasm.WithGrace(5*time.Millisecond))))
	require.NoError(t, err)
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for i := range 60 {
				in := fmt.Sprint(n, " ", i)
				out, err := p.Call(ctx, "echo", []byte(in))
				if !assert.NoError(t, err) || !assert.Equal(t, in, string(out)) {
					return
				}
				switch i % 20 {
				case 7:
					_, err = faults.Call(ctx, "unreachable", nil)
					assert.ErrorIs(t, err, loader.ErrPanic)
				case 11:
					short, cancel := context.WithTimeout(ctx, time.Millisecond)
					_, err = faults.Call(short, "spins", nil)
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					cancel()
				default:
					_, err = faults.Call(ctx, "fine", nil)
					assert.NoError(t, err)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, p.Close())
	require.NoError(t, faults.Close())
	untilGoroutines(t, begun)
}

// A module is not taken by the engine of libraries, which says what to do; nor a library by this one.
func TestOtherFiles(t *testing.T) {
	_, err := loader.Open(fixture.WasmC(t, "echo"))
	require.ErrorIs(t, err, loader.ErrNoEngine)
	assert.ErrorContains(t, err, "wasm.Engine()")
	_, err = loader.Open(fixture.WasmC(t, "echo"), loader.WithEngine(loader.Native()))
	require.ErrorIs(t, err, loader.ErrNoEngine)
	_, err = loader.Open(fixture.C(t, "echo"), loader.WithEngine(wasm.Engine()))
	require.ErrorIs(t, err, loader.ErrNoEngine)
	assert.ErrorContains(t, err, "loader.Native()")
	for _, path := range []string{fixture.C(t, "echo"), fixture.WasmC(t, "echo")} {
		p, err := loader.Open(path, loader.WithEngine(loader.Native()), loader.WithEngine(wasm.Engine()))
		require.NoError(t, err)
		require.NoError(t, p.Close())
	}
}

package fuel_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

// TestGeneratedModules has modules that were made at random, of all of version 2.0, do the same with fuel as without: what each of their functions returns, or traps with, and
// what is in their memories and globals then. FERRULE_SMITH is how many of them, FERRULE_SMITH_SEED with which the first is made.
func TestGeneratedModules(t *testing.T) {
	count, _ := strconv.Atoi(os.Getenv("FERRULE_SMITH"))
	if count == 0 {
		t.Skip("it takes long, and builds the crate wasm-smith: make wasm")
	}
	seed := os.Getenv("FERRULE_SMITH_SEED")
	if seed == "" {
		seed = "1"
	}
	target, err := filepath.Abs("testdata/smith/target")
	require.NoError(t, err)
	build := exec.Command("cargo", "build", "--quiet", "--release", "--locked")
	build.Dir = "testdata/smith"
	build.Env = append(os.Environ(), "CARGO_TARGET_DIR="+target)
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	smith := exec.Command(filepath.Join(target, "release", "smith"), seed, strconv.Itoa(count))
	smith.Stderr = os.Stderr
	pipe, err := smith.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, smith.Start())
	modules := bufio.NewReader(pipe)
	bare, ticking := newRunner(t, false), newRunner(t, true)
	compiled, calls, traps := 0, 0, 0
	for n := 0; ; n++ {
		var size uint32
		if err := binary.Read(modules, binary.LittleEndian, &size); errors.Is(err, io.EOF) {
			assert.Equal(t, count, n)
			break
		} else {
			require.NoError(t, err)
		}
		module := make([]byte, size)
		_, err := io.ReadFull(modules, module)
		require.NoError(t, err)

		plain, broken := bare.run(t, module)
		if broken != nil {
			continue
		}
		compiled++
		fuelled, err := fuel.Instrument(module, 1<<20)
		require.NoError(t, err, "the module %d of the seed %s", n, seed)
		with, broken := ticking.run(t, fuelled)
		require.NoError(t, broken, "the module %d of the seed %s", n, seed)
		if !assert.Equal(t, plain, with, "the module %d of the seed %s", n, seed) {
			_ = os.WriteFile(filepath.Join(t.ArtifactDir(), "module.wasm"), module, 0o644)
			t.FailNow()
		}
		calls += len(plain)
		for _, said := range plain {
			if strings.Contains(said, "wasm error") {
				traps++
			}
		}
	}
	require.NoError(t, smith.Wait())
	t.Logf("%d of %d modules: %d outcomes, of them %d traps; %d ticks", compiled, count, calls, traps, ticking.ticks)
	assert.Greater(t, compiled, count*9/10, "of modules that wazero compiles")
	assert.Greater(t, traps, 0)
	assert.Greater(t, ticking.ticks, count)
}

// runner runs modules, with fuel or without.
type runner struct {
	wazero.Runtime
	binder  *fuel.Binder
	counter api.MutableGlobal
	ticks   int
}

func newRunner(t *testing.T, fuelled bool) *runner {
	t.Helper()
	r := &runner{Runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(64))}
	t.Cleanup(func() { assert.NoError(t, r.Close(ctx)) })
	if fuelled {
		var err error
		r.binder, err = fuel.NewBinder(ctx, r, func(context.Context) {
			r.ticks++
			r.counter.Set(50)
		})
		require.NoError(t, err)
	}
	return r
}

// run returns what each function of a module does, in the order of their names, and what the module's memory and globals have behind that. broken says why it is not compiled.
func (r *runner) run(t *testing.T, module []byte) (did []string, broken error) {
	t.Helper()
	code, err := r.CompileModule(ctx, module)
	if err != nil {
		return nil, err
	}
	defer func() { assert.NoError(t, code.Close(ctx)) }()
	m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return []string{what(err)}, nil // of its data, its elements, or its start function
	}
	defer func() { assert.NoError(t, m.Close(ctx)) }()
	if r.binder != nil {
		counter, unbind, err := r.binder.Bind(ctx, m)
		require.NoError(t, err)
		defer unbind()
		r.counter = counter
		if start := m.ExportedFunction(fuel.StartFunction); start != nil {
			if _, err := start.Call(ctx); err != nil {
				return []string{what(err)}, nil
			}
		}
	}
	var functions []string
	for name := range code.ExportedFunctions() {
		if name != fuel.StartFunction {
			functions = append(functions, name)
		}
	}
	for _, name := range sorted(functions) {
		f := m.ExportedFunction(name)
		var in []uint64
		for i, typ := range f.Definition().ParamTypes() {
			switch typ {
			case api.ValueTypeExternref, 0x70: // null
				in = append(in, 0)
			case api.ValueTypeF32:
				in = append(in, api.EncodeF32(float32(i)+0.5))
			case api.ValueTypeF64:
				in = append(in, api.EncodeF64(math.Pi*float64(i)))
			case 0x7b: // a vector is two
				in = append(in, uint64(i)*0x0101010101010101, 7)
			default:
				in = append(in, uint64(i)*3)
			}
		}
		result, err := f.Call(ctx, in...)
		if err != nil {
			did = append(did, fmt.Sprintf("%q: %s", name, what(err)))
			continue
		}
		for i, slot := 0, 0; i < len(f.Definition().ResultTypes()); i++ {
			switch typ := f.Definition().ResultTypes()[i]; typ {
			case api.ValueTypeExternref, 0x70: // where a function is, is not the same twice
				result[slot] = min(result[slot], 1)
				slot++
			case 0x7b:
				slot += 2
			default:
				slot++
			}
		}
		did = append(did, fmt.Sprintf("%q: %x", name, result))
	}
	if memory := m.Memory(); len(code.ExportedMemories()) > 0 { // where there is none, it is a nil of a type
		bytes, _ := memory.Read(0, memory.Size())
		did = append(did, fmt.Sprintf("memory: %d bytes, %x", len(bytes), sum(bytes)))
	}
	for _, name := range globals(module) {
		if g := m.ExportedGlobal(name); g.Type() != 0x70 && g.Type() != api.ValueTypeExternref && name != "ferrule:fuel" {
			did = append(did, fmt.Sprintf("global %q: %x", name, g.Get()))
		}
	}
	return did, nil
}

// what is an error without where it was: functions with fuel are at other places.
func what(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if _, trap, ok := strings.Cut(text, "wasm error: "); ok { // a start function is named before it, where wazero runs it
		return "wasm error: " + trap
	}
	return text
}

// globals returns the names of the globals that a valid module exports; wazero does not list them.
func globals(module []byte) (names []string) {
	next := func(b *[]byte) int {
		n, k := binary.Uvarint(*b)
		*b = (*b)[k:]
		return int(n)
	}
	for rest := module[8:]; len(rest) > 0; {
		id := rest[0]
		rest = rest[1:]
		size := next(&rest)
		body := rest[:size]
		rest = rest[size:]
		if id != 7 {
			continue
		}
		for n := next(&body); n > 0; n-- {
			size := next(&body)
			name, kind := string(body[:size]), body[size]
			body = body[size+1:]
			next(&body)
			if kind == 3 {
				names = append(names, name)
			}
		}
	}
	return sorted(names)
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func sum(b []byte) [32]byte { return sha256.Sum256(b) }

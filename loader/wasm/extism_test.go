package wasm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// Extism's plug-ins are opened as any other; what each of them does is compared with Extism's own hosts in internal/extism/peers.
func TestExtism(t *testing.T) {
	folder := fixture.Extism(t)
	openExtism := func(t *testing.T, name string, opts []wasm.Option, more ...loader.Option) *loader.Plugin {
		t.Helper()
		p, err := loader.Open(filepath.Join(folder, name+".wasm"), append(more, loader.WithEngine(wasm.Engine(opts...)))...)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		return p
	}
	call := func(t *testing.T, p *loader.Plugin, fn, in string) string {
		t.Helper()
		out, err := p.Call(ctx, fn, []byte(in))
		require.NoError(t, err)
		return string(out)
	}

	t.Run("variables are an instance's", func(t *testing.T) {
		p := openExtism(t, "count_vowels", nil)
		assert.Equal(t, "count_vowels", p.Name())
		assert.JSONEq(t, `{"count":3,"total":3,"vowels":"aeiouAEIOU"}`, call(t, p, "count_vowels", "hello world"))
		assert.JSONEq(t, `{"count":2,"total":5,"vowels":"aeiouAEIOU"}`, call(t, p, "count_vowels", "queue"[:3]))
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		out, err := s.Call(ctx, "count_vowels", []byte("a"))
		require.NoError(t, err)
		assert.JSONEq(t, `{"count":1,"total":1,"vowels":"aeiouAEIOU"}`, string(out))
		require.NoError(t, s.Close())
	})
	t.Run("its name is its file's", func(t *testing.T) {
		module, err := os.ReadFile(filepath.Join(folder, "count_vowels.wasm"))
		require.NoError(t, err)
		text := func(s string) string { return string(rune(len(s))) + s } // a length below 128 is one byte
		for section, says := range map[string]string{
			"name":             "\x00" + text(text("discount")), // the module's name, as WebAssembly has one
			"ferrule_manifest": "ferrule=1\x00name=discount\x00version=9.0.0\x00\x00",
			"producers":        "\x01" + text("discount") + "\x00",
		} {
			path := filepath.Join(t.TempDir(), "vowels.wasm")
			require.NoError(t, os.WriteFile(path, append(slices.Clone(module), "\x00"+text(text(section)+says)...), 0o600))
			p, err := loader.Open(path, loader.WithEngine(wasm.Engine()))
			require.NoError(t, err, section)
			assert.Equal(t, "vowels", p.Name(), section)
			assert.Equal(t, "0", p.Version(), section)
			assert.JSONEq(t, `{"count":1,"total":1,"vowels":"aeiouAEIOU"}`, call(t, p, "count_vowels", "a"), section)
			require.NoError(t, p.Close())
		}
	})
	t.Run("configuration", func(t *testing.T) {
		p := openExtism(t, "config", nil, loader.WithConfig([]byte(`{"thing": "this is a config"}`)))
		assert.JSONEq(t, `{"config": "this is a config"}`, call(t, p, "run_test", ""))
		_, err := loader.Open(filepath.Join(folder, "config.wasm"), loader.WithConfig([]byte("thing")), loader.WithEngine(wasm.Engine()))
		assert.ErrorIs(t, err, loader.ErrOption)
		assert.ErrorIs(t, p.Configure(ctx, []byte(`{"thing": "another"}`)), loader.ErrUnsupported)
		_, err = p.NewSession(ctx, []byte(`{"thing": "another"}`))
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		assert.JSONEq(t, `{"config": "this is a config"}`, call(t, p, "run_test", ""))
	})
	t.Run("log", func(t *testing.T) {
		var out bytes.Buffer
		p := openExtism(t, "log", nil, loader.WithLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: loader.LevelTrace}))))
		call(t, p, "run_test", "")
		assert.Contains(t, out.String(), "plugin=log")
	})
	t.Run("host functions", func(t *testing.T) {
		path := filepath.Join(folder, "host_multiple.wasm")
		_, err := loader.Open(path, loader.WithEngine(wasm.Engine()))
		assert.ErrorIs(t, err, loader.ErrMissingImport)
		about, err := loader.Inspect(path)
		require.NoError(t, err)
		require.NotEmpty(t, about.Imports)
		var got []string
		opts := []loader.Option{loader.WithEngine(wasm.Engine())}
		for _, i := range about.Imports {
			opts = append(opts, loader.WithHostFunc(i.Name, func(_ context.Context, in []byte) ([]byte, error) {
				got = append(got, string(in))
				return bytes.ToUpper(in), nil
			}))
		}
		p, err := loader.Open(path, opts...)
		require.NoError(t, err)
		defer p.Close()
		out, err := p.Call(ctx, about.Funcs[0].Name, []byte("hello"))
		require.NoError(t, err)
		assert.NotEmpty(t, got)
		assert.Contains(t, strings.ToUpper(string(out)), strings.ToUpper(got[0]))
	})
	t.Run("HTTP only where it is offered", func(t *testing.T) {
		_, err := openExtism(t, "http", nil).Call(ctx, "run_test", nil)
		assert.ErrorIs(t, err, loader.ErrPanic)
		assert.ErrorContains(t, err, "is not allowed")
	})
	t.Run("memory of the plug-in and of its input together", func(t *testing.T) {
		in := strings.Repeat("hello ", 1<<20)
		p := openExtism(t, "count_vowels", []wasm.Option{wasm.WithMemory(32 << 20)})
		assert.JSONEq(t, `{"count":2097152,"total":2097152,"vowels":"aeiouAEIOU"}`, call(t, p, "count_vowels", in))
		p = openExtism(t, "count_vowels", []wasm.Option{wasm.WithMemory(8 << 20)})
		for range 2 {
			_, err := p.Call(ctx, "count_vowels", []byte(in))
			require.Error(t, err, "each of the two memories has room for it, not both together")
			call(t, p, "count_vowels", "hello")
		}
		_, err := loader.Open(filepath.Join(folder, "count_vowels.wasm"), loader.WithEngine(wasm.Engine(wasm.WithMemory(17<<16))))
		require.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorIs(t, err, loader.ErrNoMemory)
		assert.ErrorContains(t, err, "wasm.WithMemory")
	})
	t.Run("what their contract has not, as docs/engines.md says", func(t *testing.T) {
		p := openExtism(t, "count_vowels", nil, loader.WithConfig([]byte(`{"vowels": "e"}`)))
		_, err := p.Hook("count_vowels")
		assert.ErrorIs(t, err, loader.ErrNoHook)
		f, err := p.Func("count_vowels")
		require.NoError(t, err)
		_, err = f.Stream(ctx, nil, strings.NewReader("x"), nil)
		assert.ErrorIs(t, err, loader.ErrNoStream)
		_, err = f.Stream(ctx, nil, nil, io.Discard)
		assert.ErrorIs(t, err, loader.ErrNoStream)
		_, err = p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { t.Error("there is nothing to hand over"); return nil, nil })
		assert.ErrorIs(t, err, loader.ErrState)
		assert.ErrorIs(t, p.Configure(ctx, []byte(`{"vowels": "o"}`)), loader.ErrUnsupported)
		assert.Empty(t, p.Info().Wants)

		var b loader.Batch
		require.NoError(t, f.Batch(ctx, [][]byte{[]byte("eel"), []byte("owl")}, &b))
		out, err := b.Result(1)
		require.NoError(t, err)
		assert.JSONEq(t, `{"count":0,"total":2,"vowels":"e"}`, string(out))
		v, err := f.View(ctx, []byte("tree"))
		require.NoError(t, err)
		assert.JSONEq(t, `{"count":2,"total":4,"vowels":"e"}`, string(v.Bytes()))
		v.Release()
		s, err := p.NewSession(ctx, []byte(`{"vowels": "e"}`))
		require.NoError(t, err)
		require.NoError(t, s.Close())
	})
	t.Run("endless", func(t *testing.T) {
		p := openExtism(t, "sleep", []wasm.Option{wasm.WithGrace(20 * time.Millisecond)}, loader.WithConfig([]byte(`{"duration": "3600000"}`)))
		short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := p.Call(short, "run_test", nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Less(t, time.Since(began), 20*time.Second)
	})
}

// TestExtismCodes: a code of 2 is an input that is at fault, and codes from 1000 on are a plug-in's own, as statuses are; any other is a failure.
func TestExtismCodes(t *testing.T) {
	leb := func(n int32) (b []byte) { // signed
		for ; n < -64 || n > 63; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(b, byte(n)&0x7f)
	}
	named := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	var functions, exports, bodies []byte
	codes := []int32{2, 1000, 123456, math.MaxInt32, 1, 3, 4, 5, 9, 10, 999, -1, -2, math.MinInt32}
	for i, code := range codes {
		functions = append(functions, 1)
		exports = slices.Concat(exports, named(fmt.Sprint("f", i)), []byte{0, byte(1 + i)})
		body := slices.Concat([]byte{0, 0x41}, leb(code), []byte{0x0b})
		bodies = slices.Concat(bodies, []byte{byte(len(body))}, body)
	}
	section := func(id byte, items int, content []byte) []byte {
		require.Less(t, len(content), 127)
		return slices.Concat([]byte{id, byte(1 + len(content)), byte(items)}, content)
	}
	module := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), section(1, 2, []byte{0x60, 1, 0x7e, 1, 0x7e, 0x60, 0, 1, 0x7f}),
		section(2, 1, slices.Concat(named("extism:host/env"), named("length"), []byte{0, 0})), section(3, len(codes), functions), section(7, len(codes), exports), section(10, len(codes), bodies))
	path := filepath.Join(t.TempDir(), "codes.wasm")
	require.NoError(t, os.WriteFile(path, module, 0o600))
	p, err := loader.Open(path, loader.WithEngine(wasm.Engine()))
	require.NoError(t, err)
	defer p.Close()
	for i, code := range codes {
		_, err := p.Call(ctx, fmt.Sprint("f", i), nil)
		want := loader.ErrFailed
		if code == 2 || code >= 1000 {
			want = loader.Status(code)
		}
		assert.ErrorIs(t, err, want, "%d", code)
		assert.ErrorContains(t, err, fmt.Sprint("the plug-in returned ", code))
	}
}

package wasm_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
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

func escapes(t *testing.T, opts []wasm.Option, more ...loader.Option) *loader.Plugin {
	t.Helper()
	return open(t, "wasm_escapes", opts, append(more,
		loader.WithHostFunc("slow", func(context.Context, []byte) ([]byte, error) { time.Sleep(5 * time.Millisecond); return nil, nil }),
		loader.WithHostFunc("long_result", func(context.Context, []byte) ([]byte, error) { return make([]byte, 1<<20), nil }))...)
}

// What takes long in few instructions, or in the host's functions, is ended as any loop is, and the host's other goroutines run meanwhile.
func TestLongInFewInstructions(t *testing.T) {
	p := escapes(t, []wasm.Option{wasm.WithGrace(20 * time.Millisecond)})
	for _, name := range []string{"fills", "copies", "asks"} {
		t.Run(name, func(t *testing.T) {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, err := p.Call(short, name, nil)
			var overrun *loader.DeadlineError
			require.ErrorAs(t, err, &overrun)
			assert.ErrorContains(t, err, "(wasm.WithGrace); it was ended")
			assert.NotContains(t, err.Error(), "worker")
			_, err = p.Call(ctx, "fine", nil)
			assert.NoError(t, err)
		})
	}
}

// What the host keeps for a call is bounded as the module's memory is.
func TestWhatTheHostKeeps(t *testing.T) {
	p := escapes(t, []wasm.Option{wasm.WithMemory(40 << 20)})
	for range 2 {
		out, err := p.Call(ctx, "keeps", nil)
		require.NoError(t, err)
		assert.Equal(t, "40", string(out))
	}
	_, err := p.Call(ctx, "rooms", nil)
	failed := &loader.CallError{}
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, loader.Status(1000+4), failed.Status, "4,096 rooms")
	_, err = p.Call(ctx, "fine", nil)
	assert.NoError(t, err)
}

// A stop that does not end is ended: Close returns, and says so in the log.
func TestStopThatSpins(t *testing.T) {
	var mu sync.Mutex
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(writer(func(b []byte) { mu.Lock(); log.Write(b); mu.Unlock() }), nil))
	p, err := loader.Open(fixture.WasmC(t, "wasm_escapes"), loader.WithConfig([]byte("spin")), loader.WithLogger(logger), loader.WithEngine(wasm.Engine(wasm.WithGrace(time.Millisecond))),
		loader.WithHostFunc("slow", upper), loader.WithHostFunc("long_result", upper))
	require.NoError(t, err)
	require.NoError(t, p.Close())
	mu.Lock()
	defer mu.Unlock()
	assert.Contains(t, log.String(), "ferrule_stop")
	assert.Contains(t, log.String(), "had not")
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// A server that does not answer holds up an Extism plug-in no longer than its call.
func TestExtismSlowServer(t *testing.T) {
	free := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-free }))
	defer server.Close()
	defer close(free)
	p, err := loader.Open(filepath.Join(fixture.Extism(t), "http.wasm"), loader.WithEngine(wasm.Engine(wasm.WithHTTP("127.0.0.1"))))
	require.NoError(t, err)
	defer p.Close()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = p.Call(short, "run_test", []byte(`{"url": "`+server.URL+`"}`))
	require.Error(t, err)
}

// Fuel is what all modules of an instance use together, and no slice of it is lost between them.
func TestFuelOfExtism(t *testing.T) {
	path := filepath.Join(fixture.Extism(t), "count_vowels.wasm")
	enough := func(n int64) bool {
		p, err := loader.Open(path, loader.WithEngine(wasm.Engine(wasm.WithFuel(n))))
		if err != nil {
			return false
		}
		defer p.Close()
		_, err = p.Call(ctx, "count_vowels", []byte("hello"))
		return err == nil
	}
	least := int64(1)
	for !enough(least) {
		least *= 2
		require.Less(t, least, int64(1<<30))
	}
	for step := least / 4; step > 0; step /= 2 {
		if enough(least - step) {
			least -= step
		}
	}
	assert.True(t, enough(least))
	assert.False(t, enough(least-1))
	assert.Less(t, least, int64(50_000), strconv.FormatInt(least, 10))
}

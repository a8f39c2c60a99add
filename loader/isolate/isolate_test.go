package isolate_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

var ctx = context.Background()

func open(t testing.TB, path string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(path, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

var quiet = slog.New(slog.DiscardHandler)

// logger returns a logger and what it has written so far.
func logger() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var text bytes.Buffer
	write := writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	})
	return slog.New(slog.NewTextHandler(write, nil)), func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

// whenBegun returns a logger that does something each time that a plug-in's log line says that a call has begun. Whoever ends
// a call's context so ends a call that runs, on a busy machine too; a time may be over before the call is entered.
func whenBegun(do func()) *slog.Logger {
	return slog.New(slog.NewTextHandler(writer(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte("msg=begun")) {
			do()
		}
		return len(line), nil
	}), &slog.HandlerOptions{Level: loader.LevelTrace}))
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestEcho(t *testing.T) {
	start := time.Now()
	p := open(t, fixture.C(t, "echo"), isolate.InWorker())
	t.Log(time.Since(start))
	for _, size := range []int{0, 1, 64, 4096, 60 << 10, 1 << 20, 64 << 20} {
		in := bytes.Repeat([]byte("x"), size)
		start := time.Now()
		out, err := p.Call(ctx, "echo", in)
		t.Log(size, time.Since(start))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(in, out))
	}
}

func crash(t testing.TB, err error) *loader.CrashError {
	t.Helper()
	var e *loader.CrashError
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, loader.ErrCrash)
	return e
}

func call(t testing.TB, p *loader.Plugin, fn, in string) string {
	t.Helper()
	out, err := p.Call(ctx, fn, []byte(in))
	require.NoError(t, err)
	return string(out)
}

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

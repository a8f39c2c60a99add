package sidecar_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// everything opens the sidecar that is made by sdk-go.
func everything(t testing.TB, args []string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(fixture.Everything(t), append(opts, sidecar.Program(sidecar.WithArgs(args...)), loader.WithLogger(slog.New(slog.DiscardHandler)), loader.WithHostFunc("lookup", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// TestSDK: a host has of a sidecar that sdk-go makes what it has of any plug-in.
func TestSDK(t *testing.T) {
	t.Parallel()
	for _, threads := range []string{"concurrent", "serial", "pinned"} {
		t.Run(threads, func(t *testing.T) {
			t.Parallel()
			p := everything(t, []string{threads, "hostile"}, loader.WithConfig([]byte(`{"greeting":"good day"}`)), loader.WithHostFunc("extra", func(_ context.Context, in []byte) ([]byte, error) {
				return append([]byte("extra "), in...), nil
			}))
			call := func(name, in, want string) {
				t.Helper()
				out, err := p.Call(t.Context(), name, []byte(in))
				require.NoError(t, err)
				assert.Equal(t, want, string(out))
			}
			call("greet", "you", "good day you")
			require.NoError(t, p.Configure(t.Context(), []byte(`{"greeting":"hi"}`)))
			require.ErrorIs(t, p.Configure(t.Context(), []byte(`no`)), loader.ErrInvalid)
			call("greet", "you", "hi you")
			call("wanted", "it", "extra it")
			call("lookups", "", "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19")
			call("print", "x", "")

			_, err := p.Call(t.Context(), "fail", []byte("four"))
			var failed *loader.CallError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, "caf\uFFFD 4", failed.Message)
			assert.Equal(t, loader.Status(1001), failed.Status)

			soon, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			_, err = p.Call(soon, "wait", nil)
			require.ErrorIs(t, err, context.Canceled)

			f, err := p.Func("copy")
			require.NoError(t, err)
			data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
			var got bytes.Buffer
			out, err := f.Stream(t.Context(), nil, bytes.NewReader(data), &got)
			require.NoError(t, err)
			assert.Equal(t, strconv.Itoa(len(data)), string(out))
			assert.True(t, bytes.Equal(data, got.Bytes()))

			call("count", "", "1")
			second, err := p.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) {
				return everything(t, []string{threads}, loader.WithState(state)), nil
			})
			require.NoError(t, err)
			after, err := second.Call(t.Context(), "count", nil)
			require.NoError(t, err)
			assert.Equal(t, "2", string(after))

			for _, name := range []string{"panics", "goexit"} {
				p := everything(t, []string{threads, "hostile"})
				_, err := p.Call(t.Context(), "count", nil)
				require.NoError(t, err)
				_, err = p.Call(t.Context(), name, nil)
				require.ErrorIs(t, err, loader.ErrPanic, name)
				out, err := p.Call(t.Context(), "count", nil)
				require.NoError(t, err)
				assert.Equal(t, "1", string(out), "a new process")
			}
		})
	}
}

// TestSDKUnderLoad: calls of many goroutines, of all kinds, get what is theirs.
func TestSDKUnderLoad(t *testing.T) {
	t.Parallel()
	p := everything(t, []string{"concurrent"})
	var running sync.WaitGroup
	for i := range 32 {
		running.Go(func() {
			for j := range 50 {
				in := []byte(fmt.Sprintf("%d %d", i, j))
				name := []string{"echo", "lookup", "sleep", "echo", "around"}[(i+j)%5]
				want := string(in)
				f, err := p.Func(name)
				switch name {
				case "sleep":
					in, want = []byte("1ms"), "1ms"
				case "around":
					f, err = p.Hook("around")
					assert.NoError(t, err)
					out, err := f.Call(loader.WithNext(t.Context(), func(_ context.Context, in []byte) ([]byte, error) { return in, nil }), in)
					assert.NoError(t, err)
					assert.Equal(t, "around "+want, string(out))
					continue
				}
				if !assert.NoError(t, err) {
					return
				}
				out, err := f.Call(t.Context(), in)
				assert.NoError(t, err)
				assert.Equal(t, want, string(out))
			}
		})
	}
	running.Wait()
}

// TestSDKExample: what docs/sidecars.md has of sdk-go is a sidecar.
func TestSDKExample(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "vowels.exe")
	cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "build", "-buildvcs=false", "-o", path, "./sidecar/testdata/vowels")
	cmd.Dir, cmd.Env = filepath.Join(fixture.Root(), "sdk-go"), append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	p, err := loader.Open(path, sidecar.Program())
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "count_vowels", []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "2", string(out))
}

// A function in Go by sdk-go beside the same by package serve, in turns: the metric is how many times as long the former takes.
func BenchmarkBesideServe(b *testing.B) {
	served, err := ways(b)[1].open(b, crowd, loader.WithHostFunc("answer", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	require.NoError(b, err)
	defer served.Close()
	for _, c := range []struct {
		threads, function string // of sdk-go's
		beside            string // serve's
		callers, size     int
	}{
		{"concurrent", "echo", "echo", 1, 64}, {"concurrent", "echo", "echo", 1, 64 << 10}, {"concurrent", "echo", "echo", 32, 64}, {"concurrent", "echo", "echo", 32, 64 << 10},
		{"concurrent", "lookup", "ask", 1, 64}, {"concurrent", "lookup", "ask", 32, 64},
		{"serial", "echo", "echo", 1, 64}, {"serial", "lookup", "ask", 1, 64}, {"pinned", "echo", "echo", 1, 64},
	} {
		b.Run(fmt.Sprintf("%s/%s/callers=%d/%d", c.threads, c.function, c.callers, c.size), func(b *testing.B) {
			var functions [2]*loader.Func
			var err error
			functions[0], err = served.Func(c.beside)
			require.NoError(b, err)
			functions[1], err = everything(b, []string{c.threads}).Func(c.function)
			require.NoError(b, err)
			var took [2]time.Duration
			const turn = 320
			for n := 0; n < b.N; n += turn {
				for i, f := range functions {
					begun := time.Now()
					var running sync.WaitGroup
					for range c.callers {
						running.Go(func() {
							in, out := make([]byte, c.size), make([]byte, 0, c.size)
							for range turn / c.callers {
								if _, err := f.Append(context.Background(), out, in); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					running.Wait()
					took[i] += time.Since(begun)
				}
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "sdk/serve")
		})
	}
}

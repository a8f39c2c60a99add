package sidecar_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	full "github.com/ferrule-dev/ferrule/internal/fixture/sidecar"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// TestSecondImplementation has this host speak with a sidecar that was written from docs/wire.md alone, and that ends a session whose host breaks a
// rule: by each of the ways, and with each word for threads.
func TestSecondImplementation(t *testing.T) {
	t.Parallel()
	interpreter := full.Full(t)[0]
	socket := fixture.Socket(t)
	full.StartProgram(t, full.Full(t, "--unix", socket, "--token", "secret"), true)
	_, where := full.StartProgram(t, full.Full(t, "--tcp", "127.0.0.1:0", "--threads", "serial"), true)
	script := filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "full.py")
	program := func(args ...string) loader.Option {
		return sidecar.Program(sidecar.WithInterpreter(interpreter), sidecar.WithArgs(args...))
	}
	for name, c := range map[string]struct {
		path string
		as   loader.Option
	}{
		"concurrent": {script, program()},
		"serial":     {script, program("--threads", "serial")},
		"pinned":     {script, program("--threads", "pinned", "--stdio")},
		"unix":       {"unix:" + socket, sidecar.Program(sidecar.WithToken("secret"))},
		"tcp":        {"tcp:" + strings.TrimPrefix(where, "listening on "), sidecar.Program()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			host := func(_ context.Context, in []byte) ([]byte, error) {
				if string(in) == "bad" {
					return nil, fmt.Errorf("no such thing: %w", loader.ErrInvalid)
				}
				return append([]byte("host of "), in...), nil
			}
			p, err := loader.Open(c.path, c.as, loader.WithHostFunc("host", host), loader.WithLogger(slog.New(slog.DiscardHandler)),
				loader.WithConfig([]byte(`{"greeting": "Ahoy", "announce": true}`)))
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, p.Close()) })
			call := func(name, in, want string) {
				t.Helper()
				out, err := p.Call(ctx, name, []byte(in))
				require.NoError(t, err)
				require.True(t, want == string(out), "%s: %.100q", name, out)
			}
			fails := func(name, in string, want loader.Status, message string) {
				t.Helper()
				_, err := p.Call(ctx, name, []byte(in))
				assert.ErrorIs(t, err, want)
				assert.ErrorContains(t, err, message)
			}
			long := strings.Repeat("long ", 1<<20)
			call("echo", "x", "x")
			call("echo", "", "")
			call("echo", long, long)
			call("upper", "grüße", "GRÜSSE")
			call("hostcall", "x", "host of x")
			call("twice", "x", "host of x1\nhost of x2")
			call("info", "offers.host", "yes")
			call("later", "x", "")
			call("logs", "x", "")
			call("progress", "", "")
			call("count", "", "11")
			fails("fail", "this", 1000, "failed as asked: this")
			fails("invalid", "", loader.ErrInvalid, "no input is good enough")
			fails("upper", "\xff", loader.ErrInvalid, "invalid start byte")
			fails("error", "", loader.ErrFailed, "LookupError: raised as asked")
			fails("hostcall", "bad", loader.ErrInvalid, "no such thing")
			fails("sum", "", loader.ErrUnsupported, "no input stream")

			hook := func(name string) *loader.Func {
				t.Helper()
				h, err := p.Hook(name)
				require.NoError(t, err)
				return h
			}
			out, err := hook("greet").Call(ctx, []byte("you"))
			require.NoError(t, err)
			assert.Equal(t, "Ahoy, you", string(out))
			_, err = hook("greet").Call(ctx, nil)
			assert.ErrorIs(t, err, loader.ErrPass)
			out, err = hook("echo").Call(ctx, []byte("x")) // there is a function of that name
			require.NoError(t, err)
			assert.Equal(t, "the hook: x", string(out))
			_, err = hook("wrapper").Call(ctx, []byte("x"))
			assert.ErrorIs(t, err, loader.ErrUnsupported) // nothing stands behind

			stream := func(name, args, in string) (string, string) {
				t.Helper()
				f, err := p.Func(name)
				require.NoError(t, err)
				var r io.Reader
				var w io.Writer
				var out bytes.Buffer
				if in != "" {
					r = strings.NewReader(in)
				}
				if name != "sum" {
					w = &out
				}
				result, err := f.Stream(ctx, []byte(args), r, w)
				require.NoError(t, err)
				return string(result), out.String()
			}
			result, output := stream("pipe", "", long)
			assert.Equal(t, fmt.Sprint(len(long)), result)
			assert.True(t, strings.ToUpper(long) == output)
			result, _ = stream("sum", "", long)
			assert.Equal(t, fmt.Sprint(len(long)), result)
			_, output = stream("repeat", "2", "")
			assert.Len(t, output, 2000*1000)

			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err = p.Call(ended, "sleep", nil)
			assert.ErrorIs(t, err, context.Canceled)
			require.NoError(t, p.Configure(ctx, []byte(`{"greeting": "Moin"}`)))
			assert.Error(t, p.Configure(ctx, []byte(`{"greeting": 7}`)))
			out, err = hook("greet").Call(ctx, []byte("you"))
			require.NoError(t, err)
			assert.Equal(t, "Moin, you", string(out))

			if c.path == script {
				_, err = p.Call(ctx, "exit", nil)
				assert.ErrorIs(t, err, loader.ErrCrash)
				assert.ErrorContains(t, err, "it exits as asked")
				call("echo", "anew", "anew")
				_, err = p.Call(ctx, "die", nil)
				assert.ErrorIs(t, err, loader.ErrCrash)
			}
			fails("panic", "", loader.ErrPanic, "not known any more")
			call("echo", "anew", "anew")
		})
	}
}

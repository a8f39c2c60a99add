package plugins_test

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// recorder is a Trace that keeps what it was told.
type recorder struct {
	mu    sync.Mutex
	begun []recorded
	ended []recorded
}

// recorded is a call in the place of a trace where it was made: the names of those around it, the outermost first.
type recorded struct {
	call   plugins.Call
	within string
	err    error
}

type within struct{}

func (r *recorder) trace(ctx context.Context, call plugins.Call) (context.Context, func(error)) {
	place, _ := ctx.Value(within{}).(string)
	c := recorded{call: call, within: place}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, c)
	place += "/" + call.Plugin + " " + call.Point + call.Function + call.Host
	return loader.WithInfo(context.WithValue(ctx, within{}, place), loader.TraceParent, place), func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.err = err
		r.ended = append(r.ended, c)
	}
}

// TestTrace: what begin returns reaches the plug-in, which asks for it, and the host functions that it calls; each call ends once, with what came of it.
func TestTrace(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			host := newHost(t, engine).traced()
			if engine == "isolated" {
				host.listed = "  - {name: traced, isolate: {sandbox: none}}\n"
			}
			var r recorder
			var answer error
			ends := false
			sys := host.new(plugins.Trace(r.trace))
			plugins.Offer(sys, "note", func(ctx context.Context, in []byte) ([]byte, error) {
				assert.Equal(t, string(in)+"/traced note", ctx.Value(within{}))
				if ends {
					panic("as it was told")
				}
				return in, answer
			}, plugins.Public())
			first := plugins.First[[]byte, []byte](sys, "traced")
			require.NoError(t, sys.Start(t.Context()))
			f, err := sys.Func("traced", "traced")
			require.NoError(t, err)

			outer := context.WithValue(t.Context(), within{}, "app")
			out, found, err := first.Append(outer, nil, nil)
			require.NoError(t, err)
			assert.True(t, found)
			assert.Equal(t, "app/traced traced", string(out))
			answer = loader.ErrFailed
			_, err = f.Call(t.Context(), nil)
			require.ErrorIs(t, err, loader.ErrFailed)
			answer = loader.ErrPass
			_, found, err = first.Append(t.Context(), nil, nil)
			require.NoError(t, err)
			assert.False(t, found)
			ends = true
			_, _, err = first.Append(t.Context(), nil, nil)
			require.Error(t, err)

			hook, function, note := plugins.Call{Plugin: "traced", Point: "traced"}, plugins.Call{Plugin: "traced", Function: "traced"}, plugins.Call{Plugin: "traced", Host: "note"}
			require.Len(t, r.ended, 8)
			for i, want := range []struct {
				recorded
				is error
			}{
				{recorded{call: note, within: "app/traced traced"}, nil}, {recorded{call: hook, within: "app"}, nil},
				{recorded{call: note, within: "/traced traced"}, loader.ErrFailed}, {recorded{call: function}, loader.ErrFailed},
				{recorded{call: note, within: "/traced traced"}, loader.ErrPass}, {recorded{call: hook}, loader.ErrPass},
				{recorded{call: note, within: "/traced traced"}, nil}, {recorded{call: hook}, nil},
			} {
				got := r.ended[i]
				assert.Equal(t, want.call, got.call, "%d", i)
				assert.Equal(t, want.within, got.within, "%d", i)
				switch {
				case i >= 6:
					assert.Error(t, got.err, "%d", i)
				case want.is == nil:
					assert.NoError(t, got.err, "%d", i)
				default:
					assert.ErrorIs(t, got.err, want.is, "%d", i)
				}
			}
			assert.ErrorContains(t, r.ended[6].err, "panicked")
			assert.Len(t, r.begun, 8)
		})
	}
}

// TestTraceOfTraces: a second Trace stands inside the first; nil for a context is the one that was given, nil for an end is nobody's; one that ends its
// goroutine in the midst of a call is told.
func TestTraceOfTraces(t *testing.T) {
	var order []string
	trace := func(name string) plugins.Option {
		return plugins.Trace(func(ctx context.Context, call plugins.Call) (context.Context, func(error)) {
			order = append(order, name)
			return nil, func(err error) {
				order = append(order, "end of "+name)
				assert.Error(t, err)
			}
		})
	}
	silent := plugins.Trace(func(ctx context.Context, _ plugins.Call) (context.Context, func(error)) { return ctx, nil })
	sys := newHost(t, "go").traced().new(trace("one"), silent, trace("two"))
	plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) {
		runtime.Goexit()
		return nil, nil
	}, plugins.Public())
	first := plugins.First[[]byte, []byte](sys, "traced")
	require.NoError(t, sys.Start(t.Context()))
	var all sync.WaitGroup
	all.Go(func() {
		_, _, err := first.Append(t.Context(), nil, nil)
		t.Error("it has come back", err)
	})
	all.Wait()
	once := []string{"one", "two", "end of two", "end of one"}
	assert.Equal(t, append(append(once[:2:2], once...), once[2:]...), order)

	err := plugins.New("app", "1.0.0", plugins.Trace(nil), plugins.OnEvent(nil)).Start(t.Context())
	require.ErrorIs(t, err, plugins.ErrOption)
	assert.ErrorContains(t, err, "plugins.Trace")
	assert.ErrorContains(t, err, "plugins.OnEvent")
}

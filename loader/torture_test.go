package loader_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// deed is what the host function does in one call, which has it in its context.
type deed struct {
	what string // returns, collects, asks, panics or exits
	text string // what it returns
	deep int    // how many KiB of stack it takes before
}

type deedKey struct{}

func (d *deed) do(ctx context.Context, beside *loader.Plugin) (out []byte, err error) {
	if d.deep > 0 {
		var fill [1 << 10]byte // grows the stack, also of the goroutine that a thread of the plug-in's gets
		fill[d.deep%len(fill)] = byte(d.deep)
		less := *d
		less.deep--
		out, err = less.do(ctx, beside)
		runtime.KeepAlive(&fill)
		return out, err
	}
	switch d.what {
	case "collects":
		runtime.GC()
	case "asks":
		below := &deed{what: "returns", text: d.text, deep: 3}
		return beside.Call(context.WithValue(ctx, deedKey{}, below), "ask_on_thread", nil)
	case "panics":
		panic(d.text)
	case "exits":
		runtime.Goexit()
	}
	return []byte(d.text), nil
}

// All that a host function may do, or meet, at the same time: from the call's thread and from threads of the plug-in's,
// a stack that grows and moves, collections all the time, signals to every thread, another plug-in below, a panic, and
// the end of the goroutine. Each call gets what is its own. FERRULE_STRESS is how long it goes on, such as 1h.
func TestHostFuncTorture(t *testing.T) {
	long := 200 * time.Millisecond
	if text := os.Getenv("FERRULE_STRESS"); text != "" {
		var err error
		long, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	stop := floodWithSignals(t)
	defer stop()
	for _, threads := range []string{"concurrent", "serial", "pinned"} {
		t.Run(threads, func(t *testing.T) {
			var beside *loader.Plugin
			host := loader.WithHostFunc("host", func(ctx context.Context, _ []byte) ([]byte, error) {
				return ctx.Value(deedKey{}).(*deed).do(ctx, beside)
			})
			quiet := loader.WithLogger(slog.New(slog.DiscardHandler))
			beside = open(t, fixture.C(t, "foreign_concurrent"), host, quiet)
			p := open(t, fixture.C(t, "foreign_"+threads), host, quiet)
			const goroutines, atLeast = 16, 10 // which is each deed once
			var calls, ends atomic.Uint64
			var all sync.WaitGroup
			until := time.Now().Add(long / 3)
			for g := range goroutines {
				all.Go(func() {
					for i := 0; i < atLeast || time.Now().Before(until) && !t.Failed(); i++ {
						if !torture(t, p, g, i) {
							ends.Add(1)
						}
						calls.Add(1)
					}
				})
			}
			all.Wait()
			assert.Positive(t, ends.Load())
			t.Logf("%d calls, %d of which ended their goroutine", calls.Load(), ends.Load())
		})
	}
}

// torture makes a call on a goroutine of its own, whose stack is small, and checks what comes of it. It reports whether
// the host function went on to its end, rather than ending its goroutine.
func torture(t *testing.T, p *loader.Plugin, g, i int) bool {
	d := &deed{text: fmt.Sprintf("%d of %d", i, g), deep: (g + i) % 64}
	d.what = []string{"returns", "panics", "asks", "exits", "collects",
		"returns", "asks", "returns", "panics", "asks"}[(g+i)%10]
	fn := []string{"ask", "ask_on_thread"}[(g+i/10)%2]
	var out []byte
	var err error
	returned := false
	<-on(func() {
		out, err = p.Call(context.WithValue(ctx, deedKey{}, d), fn, nil)
		returned = true
	})
	var e *loader.CallError
	switch {
	case d.what == "exits" && returned:
		assert.ErrorIs(t, err, loader.ErrPanic, fn)
		assert.ErrorContains(t, err, "ended its goroutine", fn)
	case d.what == "exits":
		assert.Equal(t, "ask", fn, "the plug-in's threads have a goroutine of their own")
		return false
	case d.what == "panics":
		if assert.True(t, errors.As(err, &e), "%s: %v", fn, err) {
			assert.Equal(t, loader.ErrFailed, e.Status)
			assert.Equal(t, "host function host panicked: "+d.text, e.Message)
		}
	default:
		assert.NoError(t, err, "%s: %s", fn, d.what)
		assert.Equal(t, d.text, string(out), "%s: %s", fn, d.what)
	}
	assert.True(t, returned)
	return d.what != "exits"
}

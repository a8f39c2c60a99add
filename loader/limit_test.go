package loader_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// limitsDouble is the double of the fixtures limits….
func limitsDouble(name string) *builtin.Plugin {
	polls := builtin.Function{Name: "polls", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("as asked: %w", loader.ErrCancelled)
	}}
	duration := func(in []byte) time.Duration {
		ms, _ := strconv.Atoi(string(in))
		return time.Duration(ms) * time.Millisecond
	}
	tell := func(ctx context.Context, text string) error {
		_, err := builtin.Import(ctx, "outside", []byte(text))
		if err != nil && !strings.Contains(err.Error(), loader.ErrUnsupported.Error()) {
			return err
		}
		return nil
	}
	threads := abi.Concurrent
	switch name {
	case "limits_serial":
		threads = abi.Serial
	case "limits_pinned":
		threads = abi.Pinned
	}
	return &builtin.Plugin{Name: "limits", Version: "1.0.0", Threads: threads, Wants: []string{"outside"}, Hooks: []builtin.Function{polls},
		Start: func(ctx context.Context, _ []byte) (any, error) {
			between, err := builtin.Background(ctx)
			if err == nil {
				err = tell(ctx, "start")
			}
			if err == nil {
				err = tell(between, "between")
			}
			return nil, err
		},
		Funcs: []builtin.Function{polls,
			{Name: "ignores", Call: func(_ context.Context, in []byte) ([]byte, error) {
				time.Sleep(duration(in))
				return []byte("late"), nil
			}},
			{Name: "works", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				select {
				case <-time.After(duration(in)):
					return nil, nil
				case <-ctx.Done():
					return nil, loader.ErrCancelled
				}
			}},
			{Name: "outside", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "outside", in) }},
			{Name: "info", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				out, err := builtin.Info(ctx, string(in))
				return []byte(out), err
			}},
			{Name: "reads", Stream: abi.StreamIn, Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				if _, err := io.Copy(io.Discard, builtin.Input(ctx)); err != nil {
					return nil, fmt.Errorf("cut off: %w", loader.ErrCancelled)
				}
				return []byte("all"), nil
			}}}}
}

// limitsWays runs a test with plug-ins in all ways, for each kind of threads.
func limitsWays(t *testing.T, test func(t *testing.T, open func(opts ...loader.Option) *loader.Plugin, w way)) {
	t.Helper()
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"", "_serial", "_pinned"} {
			t.Run("limits"+threads, func(t *testing.T) {
				test(t, func(opts ...loader.Option) *loader.Plugin { return w.open(t, fixture.C(t, "limits"+threads), opts...) }, w)
			})
		}
	})
}

// struck checks that a call was asked to stop after so long, by what, and has stopped.
func struck(t *testing.T, err error, after time.Duration, by string) {
	t.Helper()
	var e *loader.CallError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, loader.ErrCancelled, e.Status)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, fmt.Sprintf("after %v (%s)", after, by))
}

const short = 20 * time.Millisecond

func TestCallTimeout(t *testing.T) {
	t.Parallel() // it waits
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		p := open(loader.WithCallTimeout(short))
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		defer s.Close()
		inSession, err := s.Func("polls")
		require.NoError(t, err)
		hook, err := p.Hook("polls")
		require.NoError(t, err)
		polls, works := function(t, p, "polls"), function(t, p, "works").WithTimeout(time.Minute)
		late, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		for name, call := range map[string]func() error{
			"Append":                         func() error { _, err := polls.Append(ctx, nil, nil); return err },
			"in a session":                   func() error { _, err := inSession.Append(ctx, nil, nil); return err },
			"of a hook":                      func() error { _, err := hook.Append(ctx, nil, nil); return err },
			"with a context that ends later": func() error { _, err := polls.Append(late, nil, nil); return err },
			"with progress": func() error {
				_, err := polls.Append(loader.WithProgress(ctx, func(uint64, uint64) {}), nil, nil)
				return err
			},
			"Try": func() error {
				out, status, err := polls.Try(ctx, []byte("before"), nil)
				assert.Equal(t, "before", string(out))
				assert.Zero(t, status)
				return err
			},
			"View": func() error {
				v, err := polls.View(ctx, nil)
				assert.Nil(t, v)
				return err
			},
		} {
			for range 3 {
				begun := time.Now()
				err := call()
				assert.GreaterOrEqual(t, time.Since(begun), short, "%s: never before", name)
				struck(t, err, short, "loader.WithCallTimeout")
				assert.ErrorContains(t, err, "as asked", name)
				_, err = works.Append(ctx, nil, []byte("1"))
				assert.NoError(t, err, "%s: the next call is another one", name)
			}
		}
	})
}

// A function that comes back late, and has a result, has a result (R17). Isolated, it must come back within the grace.
func TestCallTimeoutIsIgnored(t *testing.T) {
	t.Parallel() // it waits
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		p := open(loader.WithCallTimeout(short), loader.WithOverdue(func(string, time.Duration) {}))
		assert.Equal(t, "late", call(t, p, "ignores", "100"))
		struck(t, second(p.Call(ctx, "polls", nil)), short, "loader.WithCallTimeout")
	})
}

func second[T any](_ T, err error) error { return err }

// WithTimeout makes another Func, whatever the first one has.
func TestFuncWithTimeout(t *testing.T) {
	t.Parallel() // it waits
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		for name, opts := range map[string][]loader.Option{"without": nil, "instead of another": {loader.WithCallTimeout(time.Hour)}, "instead of a shorter one": {loader.WithCallTimeout(1)}} {
			p := open(opts...)
			f := function(t, p, "polls")
			limited := f.WithTimeout(short)
			assert.Equal(t, "polls", limited.Name(), name)
			struck(t, second(limited.Call(ctx, nil)), short, "Func.WithTimeout")
			struck(t, second(limited.WithTimeout(2*short).Call(ctx, nil)), 2*short, "Func.WithTimeout")
			none := function(t, p, "works").WithTimeout(short).WithTimeout(0)
			assert.NoError(t, second(none.Call(ctx, []byte("40"))), name)
			assert.NoError(t, second(none.WithTimeout(-1).Call(ctx, []byte("40"))), name)
			soon, cancel := context.WithTimeout(ctx, short)
			err := second(f.WithTimeout(time.Hour).Call(soon, nil))
			cancel()
			assert.ErrorIs(t, err, loader.ErrCancelled)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.NotContains(t, err.Error(), "Func.WithTimeout", "it was the context")
		}
	})
}

// A call in the place of one that was asked to stop is not asked: whether it has a limit or not.
func TestCallTimeoutIsNotInherited(t *testing.T) {
	t.Parallel() // it waits
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		p := open()
		works := function(t, p, "works")
		live, cancel := context.WithCancel(ctx)
		defer cancel()
		for range w.rounds(50, 25) {
			_, err := works.WithTimeout(time.Millisecond).Call(ctx, []byte("2")) // about when the watcher looks
			if err != nil {
				struck(t, err, time.Millisecond, "Func.WithTimeout")
			}
			for _, next := range []*loader.Func{works, works.WithTimeout(time.Minute)} {
				for _, ctx := range []context.Context{ctx, live} {
					_, err := next.Call(ctx, []byte("3"))
					require.NoError(t, err)
				}
			}
		}
	})
}

// Many calls at a time, each with its own limit.
func TestCallTimeoutOfManyCalls(t *testing.T) {
	t.Parallel() // it waits
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		p := open(loader.WithInstances(8))
		var wg sync.WaitGroup
		for i := range 8 {
			limit := time.Duration(i+1) * 5 * time.Millisecond
			polls := function(t, p, "polls").WithTimeout(limit)
			works := function(t, p, "works").WithTimeout(time.Minute)
			wg.Go(func() {
				for range w.rounds(20, 10) {
					begun := time.Now()
					_, err := polls.Call(ctx, nil)
					assert.GreaterOrEqual(t, time.Since(begun), limit)
					assert.ErrorContains(t, err, fmt.Sprintf("after %v (Func.WithTimeout)", limit))
					_, err = works.Call(ctx, []byte("2"))
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
	})
}

// The limit is for running, and not for waiting.
func TestCallTimeoutDoesNotCountWaiting(t *testing.T) {
	t.Parallel() // it waits
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"_serial", "_pinned"} {
			p := w.open(t, fixture.C(t, "limits"+threads), loader.WithCallTimeout(time.Second))
			var wg sync.WaitGroup
			for range 6 { // 1.2 s in all
				wg.Go(func() { assert.NoError(t, second(p.Call(ctx, "works", []byte("200")))) })
			}
			wg.Wait()
		}
	})
}

// A batch's error names the limit, and the records that ran are there.
func TestCallTimeoutOfBatch(t *testing.T) {
	t.Parallel() // it waits
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		p := open()
		var b loader.Batch
		f := function(t, p, "works")
		in := [][]byte{[]byte("1"), []byte("1"), []byte("60000"), []byte("1")}
		var err error
		for range 10 { // until the first two had a processor in their time
			if err = f.WithTimeout(5*short).Batch(ctx, in, &b); b.Len() >= 2 {
				break
			}
		}
		struck(t, err, 5*short, "Func.WithTimeout")
		require.GreaterOrEqual(t, b.Len(), 2)
		require.LessOrEqual(t, b.Len(), 3)
		assert.NoError(t, second(b.Result(1)))
		if b.Len() == 3 { // it ran, and has stopped
			struck(t, second(b.Result(2)), 5*short, "Func.WithTimeout")
		}
		require.NoError(t, f.WithTimeout(time.Minute).Batch(ctx, in[:2], &b))
		assert.Equal(t, 2, b.Len())
		require.NoError(t, b.Err())

		last := f.WithTimeout(short).Batch(ctx, in[2:3], &b) // it is the last one that has stopped
		if last == nil {
			require.Equal(t, 1, b.Len())
			last = b.Err()
		}
		assert.ErrorIs(t, last, context.DeadlineExceeded)
		assert.ErrorContains(t, last, "(Func.WithTimeout)")
	})
}

// A stream breaks off, whoever waits in it.
func TestCallTimeoutOfStream(t *testing.T) {
	limitsWays(t, func(t *testing.T, open func(...loader.Option) *loader.Plugin, w way) {
		p := open(loader.WithCallTimeout(short))
		live, cancel := context.WithCancel(ctx)
		defer cancel()
		for _, ctx := range []context.Context{ctx, live} {
			r, end := io.Pipe()
			begun := time.Now()
			_, err := function(t, p, "reads").Stream(ctx, nil, r, nil)
			assert.GreaterOrEqual(t, time.Since(begun), short)
			struck(t, err, short, "loader.WithCallTimeout")
			assert.ErrorContains(t, err, "cut off")
			end.Close()
		}
		out, err := function(t, p, "reads").WithTimeout(time.Minute).Stream(live, nil, strings.NewReader("some"), nil)
		require.NoError(t, err)
		assert.Equal(t, "all", string(out))
		time.AfterFunc(short/2, cancel)
		r, end := io.Pipe()
		_, err = function(t, p, "reads").WithTimeout(time.Hour).Stream(live, nil, r, nil)
		assert.ErrorIs(t, err, context.Canceled)
		end.Close()
	})
}

// What a call's host functions get knows the limit, and so does what they call.
func TestCallTimeoutOfHostFunctions(t *testing.T) {
	t.Parallel() // it waits
	allWays(t, func(t *testing.T, w way) {
		var p *loader.Plugin
		var kept context.Context
		do := func(ctx context.Context) error { return nil }
		p = w.open(t, fixture.C(t, "limits"), loader.WithHostFunc("outside", func(ctx context.Context, in []byte) ([]byte, error) {
			if len(in) > 0 { // not a call's
				return nil, nil
			}
			kept = ctx
			return nil, do(ctx)
		}))
		outside := function(t, p, "outside").WithTimeout(5 * short)
		within(t, func() {
			begun := time.Now()
			do = func(ctx context.Context) error {
				deadline, ok := ctx.Deadline()
				assert.True(t, ok)
				assert.WithinDuration(t, begun.Add(5*short), deadline, 5*short)
				assert.NoError(t, ctx.Err())
				derived, cancel := context.WithCancel(ctx)
				defer cancel()
				<-derived.Done()
				assert.GreaterOrEqual(t, time.Since(begun), 5*short)
				for _, ctx := range []context.Context{ctx, derived} {
					assert.Equal(t, context.DeadlineExceeded, ctx.Err())
					assert.ErrorContains(t, context.Cause(ctx), "after 100ms (Func.WithTimeout)")
				}
				return ctx.Err()
			}
			struck(t, second(outside.Call(ctx, nil)), 5*short, "Func.WithTimeout")
		})
		within(t, func() { // and what is called within it is asked to stop
			do = func(ctx context.Context) error { return second(p.Call(ctx, "polls", nil)) }
			struck(t, second(outside.Call(ctx, nil)), 5*short, "Func.WithTimeout")
		})
		do = func(context.Context) error { return nil }
		const ample = 50 * short // for a call that does nothing, whatever else the machine does
		require.NoError(t, second(function(t, p, "outside").WithTimeout(ample).Call(ctx, nil)))
		time.Sleep(ample + short)
		assert.NoError(t, kept.Err(), "when the call is over it is the caller's context")
		_, ok := kept.Deadline()
		assert.False(t, ok)
		do = func(ctx context.Context) error { return ctx.Err() }
		limited := outside.WithTimeout(time.Minute)
		for range 40 { // calls without a limit on what one with a limit has used, and back
			require.NoError(t, second(function(t, p, "outside").Call(ctx, nil)))
			_, ok := kept.Deadline()
			require.False(t, ok)
			require.NoError(t, second(limited.Call(ctx, nil)))
		}

		late, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for name, c := range map[string]struct {
			ctx   context.Context
			limit time.Duration
			want  time.Duration
		}{"the limit": {ctx, time.Minute, time.Minute}, "the limit, which is earlier": {late, time.Minute, time.Minute}, "the context, which is earlier": {soon, time.Hour, time.Minute}} {
			out, err := function(t, p, "info").WithTimeout(c.limit).Call(c.ctx, []byte("remaining"))
			require.NoError(t, err, name)
			left, err := strconv.ParseInt(string(out), 10, 64)
			require.NoError(t, err, name)
			assert.InDelta(t, c.want, time.Duration(left), float64(20*time.Second), name)
			assert.LessOrEqual(t, time.Duration(left), c.want, name)
		}
		assert.ErrorIs(t, second(p.Call(ctx, "info", []byte("remaining"))), loader.ErrUnsupported)
	})
}

// Who does not stop is told of: once for each call, and whatever is done then, other calls do not wait for it.
func TestOverdue(t *testing.T) {
	t.Parallel() // it waits
	allWays(t, func(t *testing.T, w way) {
		type late struct {
			name  string
			limit time.Duration
		}
		told, block := make(chan late, 100), make(chan struct{})
		var panics atomic.Bool
		log, lines := logger()
		p := w.open(t, fixture.C(t, "limits"), loader.WithCallTimeout(short), loader.WithLogger(log), loader.WithOverdue(func(name string, limit time.Duration) {
			told <- late{name, limit}
			if panics.Load() {
				panic("of its own")
			}
			<-block
		}), loader.WithHostFunc("outside", func(_ context.Context, in []byte) ([]byte, error) {
			if string(in) != "stays" {
				return nil, nil
			}
			select { // the call does not come back before somebody was told of it
			case l := <-told:
				return fmt.Appendf(nil, "%s %v", l.name, l.limit), nil
			case <-time.After(10 * time.Second):
				return nil, fmt.Errorf("nobody was told")
			}
		}))
		stays := function(t, p, "outside")
		out, err := stays.Call(ctx, []byte("stays"))
		require.NoError(t, err)
		assert.Equal(t, "outside 20ms", string(out))
		within(t, func() { // it blocks
			assert.Equal(t, "late", call(t, p, "ignores", "150"))
			assert.NoError(t, second(function(t, p, "works").WithTimeout(0).Call(ctx, []byte("1"))))
		})
		assert.Empty(t, told, "it is told of one at a time")
		close(block)
		within(t, func() { assert.Equal(t, late{"ignores", short}, <-told) })
		panics.Store(true)
		for range 2 {
			out, err = stays.WithTimeout(2*short).Call(ctx, []byte("stays"))
			require.NoError(t, err)
			assert.Equal(t, "outside 40ms", string(out), "it is told all the same")
		}
		require.Eventually(t, func() bool { return strings.Contains(strings.Join(lines.all(), ""), "outside panicked: of its own") }, time.Minute, time.Millisecond)
		require.NoError(t, second(function(t, p, "works").WithTimeout(0).Call(ctx, []byte("1"))))
		time.Sleep(2 * short)
		assert.Empty(t, told, "once for each call")
	})
}

// Without WithOverdue, it is a line in the log for each function, which says what to do.
func TestOverdueIsLogged(t *testing.T) {
	t.Parallel() // it waits
	allWays(t, func(t *testing.T, w way) {
		log, lines := logger()
		p := w.open(t, fixture.C(t, "limits"), loader.WithCallTimeout(short), loader.WithLogger(log))
		for range 2 {
			assert.Equal(t, "late", call(t, p, "ignores", "150"))
		}
		var said []string
		require.Eventually(t, func() bool {
			said = said[:0]
			for _, line := range lines.all() {
				if strings.Contains(line, "ignores was asked to stop after 20ms (loader.WithCallTimeout), since ") {
					said = append(said, line)
				}
			}
			return len(said) > 0
		}, time.Minute, time.Millisecond)
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "plugin=limits")
		assert.Contains(t, said[0], "level=WARN")
		remedy := "Have it look at ferrule_cancelled, or open the plug-in isolated (isolate.InWorker)"
		switch {
		case w.isolated:
			remedy = "its worker is killed 5s after it was asked to (isolate.WithGrace). Have it look at ferrule_cancelled"
		case w.inGo:
			remedy = "Have it return when its context ends"
		}
		assert.Contains(t, said[0], remedy)
	})
}

// Isolated, who does not stop is told of before its worker is killed, and the limit is why.
func TestOverdueIsKilled(t *testing.T) {
	for _, grace := range []time.Duration{time.Nanosecond, 100 * time.Millisecond} {
		told := make(chan string, 10)
		p, err := loader.Open(fixture.C(t, "limits"), loader.WithCallTimeout(short), loader.WithOverdue(func(name string, _ time.Duration) { told <- name }),
			isolate.InWorker(isolate.WithEnv(workerEnv...), isolate.WithGrace(grace)))
		require.NoError(t, err)
		_, err = p.Call(ctx, "ignores", []byte("60000"))
		var e *loader.DeadlineError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrCancelled)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, fmt.Sprintf("did not return after 20ms (loader.WithCallTimeout) and %v more (isolate.WithGrace)", grace))
		assert.Equal(t, "ignores", <-told)
		require.NoError(t, second(function(t, p, "works").WithTimeout(0).Call(ctx, []byte("1"))))
		require.NoError(t, p.Close())
		assert.Empty(t, told)
	}
}

// A host function, and a handler of log lines, know which plug-in has called.
func TestCaller(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		_, ok := loader.Caller(ctx)
		assert.False(t, ok)
		var none context.Context
		_, ok = loader.Caller(none)
		assert.False(t, ok)
		var mu sync.Mutex
		seen := make(map[string]string)
		var kept context.Context
		who := func(ctx context.Context, in []byte) ([]byte, error) {
			name, ok := loader.Caller(loader.WithProgress(context.WithoutCancel(ctx), func(uint64, uint64) {}))
			mu.Lock()
			defer mu.Unlock()
			seen[string(in)] = fmt.Sprint(name, ok)
			kept = ctx
			return nil, nil
		}
		p := w.open(t, fixture.C(t, "limits"), loader.WithHostFunc("outside", who))
		require.NoError(t, second(p.Call(ctx, "outside", []byte("call"))))
		_, ok = loader.Caller(kept)
		assert.False(t, ok, "it is over")
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, second(s.Call(ctx, "outside", []byte("session"))))
		assert.Equal(t, map[string]string{"start": "limitstrue", "between": "limitstrue", "call": "limitstrue", "session": "limitstrue"}, seen)

		// The innermost call's, where calls lie one in the other.
		var names []string
		other := w.open(t, fixture.C(t, "services"), needed, loader.WithHostFunc("upper", func(ctx context.Context, _ []byte) ([]byte, error) {
			name, _ := loader.Caller(ctx)
			names = append(names, name)
			return nil, nil
		}))
		outer := w.open(t, fixture.C(t, "limits"), loader.WithHostFunc("outside", func(ctx context.Context, in []byte) ([]byte, error) {
			if string(in) != "nested" {
				return nil, nil
			}
			err := second(other.Call(ctx, "upper", nil))
			name, _ := loader.Caller(ctx)
			names = append(names, name)
			return nil, err
		}))
		require.NoError(t, second(outer.Call(ctx, "outside", []byte("nested"))))
		assert.Equal(t, []string{"services", "limits"}, names)
	})
}

// A handler of log lines gets the call's context.
func TestCallerInLogHandler(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		h := &callerHandler{Handler: slog.DiscardHandler}
		p := w.open(t, fixture.C(t, "host"), loader.WithLogger(slog.New(h)), loader.WithHostFunc("upper", upper), loader.WithHostFunc("again", echo))
		_, err := p.Call(ctx, "log", []byte("a line"))
		require.NoError(t, err)
		assert.Equal(t, "host", h.name.Load())
	})
}

type callerHandler struct {
	slog.Handler
	name atomic.Value
}

func (h *callerHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *callerHandler) Handle(ctx context.Context, _ slog.Record) error {
	name, _ := loader.Caller(ctx)
	h.name.Store(name)
	return nil
}

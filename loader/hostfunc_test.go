package loader_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

func openHost(t *testing.T, w way, upper, again loader.HostFunc, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	return w.open(t, fixture.C(t, "host"), append(opts, loader.WithHostFunc("upper", upper), loader.WithHostFunc("again", again))...)
}

func echo(_ context.Context, in []byte) ([]byte, error) { return in, nil }

func TestHostFunc(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, lib := range []string{"host", "host_pinned"} {
			p := w.open(t, fixture.C(t, lib), loader.WithHostFunc("upper", upper), loader.WithHostFunc("again", echo))
			for _, size := range sizes {
				in := strings.Repeat("x", size)
				for _, fn := range []string{"upper", "upper_fetched"} {
					assert.Equal(t, strings.ToUpper(in), call(t, p, fn, in), "%s of %d bytes", fn, size)
				}
				assert.Equal(t, in, call(t, p, "again", in), "a result that is the input")
			}
			assert.Equal(t, "SECONDFIRST", call(t, p, "upper_two_kept", ""))
			for range w.rounds(100, 100) {
				call(t, p, "upper_left", strings.Repeat("x", 1<<20))
			}
			_, err := p.Call(ctx, "threads", nil)
			require.NoError(t, err)
		}
	})
}

func TestHostFuncErrors(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var fail error
		p := openHost(t, w, func(context.Context, []byte) ([]byte, error) { return []byte("dropped"), fail }, echo)
		for _, c := range []struct {
			err     error
			status  loader.Status
			message string
		}{
			{errors.New("no connection"), loader.ErrFailed, "no connection"},
			{fmt.Errorf("no customer: %w", loader.ErrInvalid), loader.ErrInvalid, "no customer"},
			{loader.ErrUnsupported, loader.ErrUnsupported, ""},
			{loader.Status(1234), 1234, ""},
			{loader.Status(-1), loader.ErrFailed, "status -1"},
			{loader.Status(0), loader.ErrFailed, "an error whose status says that it worked"},
			{fmt.Errorf("done: %w", loader.Status(0)), loader.ErrFailed, "done"},
			{loader.ErrPass, loader.ErrPass, ""},
			{loader.Status(10), loader.ErrFailed, "status 10"}, // reserved (R10)
			{loader.Status(500), loader.ErrFailed, "status 500"},
			{loader.Status(999), loader.ErrFailed, "status 999"},
			{loader.Status(1000), 1000, ""},
			{loader.ErrPanic, loader.ErrFailed, "panic"},
			{fmt.Errorf("late: %w", context.DeadlineExceeded), loader.ErrCancelled, "late: context deadline exceeded"},
			{&loader.CallError{Plugin: "other", Func: "f", Status: loader.ErrNoMemory}, loader.ErrNoMemory, "plug-in other: f"},
		} {
			fail = c.err
			for _, fn := range []string{"upper", "upper_fetched"} {
				_, err := p.Call(ctx, fn, nil)
				var e *loader.CallError
				require.ErrorAs(t, err, &e)
				assert.Equal(t, c.status, e.Status, "%v", c.err)
				assert.Equal(t, c.message, e.Message)
			}
		}
	})
}

func TestHostFuncPanics(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p := openHost(t, w, func(context.Context, []byte) ([]byte, error) { panic("oh no") }, echo, loader.WithLogger(logger))
		_, err := p.Call(ctx, "upper", nil)
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, loader.ErrFailed, e.Status)
		assert.Equal(t, "host function upper panicked: oh no", e.Message)
		assert.Contains(t, lines.all()[0], "hostfunc_test.go", "the stack is logged")
		assert.Equal(t, "fine", call(t, p, "again", "fine"))
		// From the plug-in's own threads, where nothing but the callback could recover.
		_, err = p.Call(ctx, "threads", nil)
		assert.ErrorIs(t, err, loader.ErrFailed)
	})
}

func exit(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil }

// A pinned instance's calls run on a goroutine of the loader's own: the caller gets an error, and the next call a new
// thread.
func TestHostFuncEndsItsGoroutinePinned(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "host_pinned"), loader.WithHostFunc("again", echo), loader.WithHostFunc("upper", exit))
		within(t, func() {
			for range 3 {
				_, err := p.Call(ctx, "upper", nil)
				assert.ErrorIs(t, err, loader.ErrPanic)
				assert.Equal(t, "fine", call(t, p, "again", "fine"))
			}
			assert.NoError(t, p.Close())
		})
	})
}

// runtime.Goexit, and so testing.T.FailNow, in a host function ends the goroutine; nobody else must suffer from it.
func TestHostFuncEndsItsGoroutine(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, c := range []struct{ lib, fn string }{{"host", "upper"}, {"host_misused", "misuse"}} {
			p := w.open(t, fixture.C(t, c.lib), loader.WithHostFunc("again", echo), loader.WithHostFunc("upper", exit))
			within(t, func() {
				for range 3 {
					ended := make(chan bool)
					go func() {
						returned := false
						defer func() { ended <- !returned }()
						_, _ = p.Call(ctx, c.fn, nil)
						returned = true
					}()
					assert.True(t, <-ended)
				}
				assert.NoError(t, p.Close())
			})
		}
	})
}

type key struct{}

func TestHostFuncContext(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var got context.Context
		p := openHost(t, w, func(ctx context.Context, in []byte) ([]byte, error) { got = ctx; return nil, nil }, echo)
		ctx, cancel := context.WithCancel(context.WithValue(ctx, key{}, "mine"))
		_, err := p.Call(ctx, "upper", nil)
		require.NoError(t, err)
		assert.Equal(t, "mine", got.Value(key{}))
		assert.NoError(t, got.Err())
		cancel()
		assert.ErrorIs(t, got.Err(), context.Canceled, "it is the caller's, also when the call is over")
	})
}

// In-process: isolated, a host function's input is copied to where the worker cannot change it.
func TestHostFuncDoesNotAllocate(t *testing.T) {
	if stress.Enabled {
		t.Skip("the stress tag allocates at each crossing")
	}
	p := openHost(t, inProcess, func(context.Context, []byte) ([]byte, error) { return nil, nil }, echo)
	f, err := p.Func("upper")
	require.NoError(t, err)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if _, err := f.Append(ctx, nil, nil); err != nil {
			t.Fatal(err)
		}
	}), float64(hostFuncAllocs))
}

func TestHostServicesMisused(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "host_misused"), loader.WithHostFunc("upper", upper))
		_, err := p.Call(ctx, "misuse", nil)
		require.NoError(t, err)
	})
}

func TestOwnThreads(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p := openHost(t, w, upper, echo, loader.WithLogger(logger))
		for range 20 {
			_, err := p.Call(ctx, "threads", nil)
			require.NoError(t, err)
		}
		assert.Len(t, lines.all(), 80)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := p.Call(ctx, "threads", nil)
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	})
}

// A thread that uses the frame after its call is refused, before and after Close.
func TestLateThread(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		path := tempLibrary(t, fixture.C(t, "late_thread"))
		p, err := w.try(path, loader.WithHostFunc("upper", upper))
		require.NoError(t, err)
		other := w.open(t, path, loader.WithHostFunc("upper", upper))
		if w.isolated {
			other = p // each worker has its own counts
		}
		counts := func() (refused, accepted int) {
			_, err := fmt.Sscan(call(t, other, "counts", ""), &refused, &accepted)
			require.NoError(t, err)
			return
		}
		grows := func() {
			before, _ := counts()
			require.Eventually(t, func() bool { after, _ := counts(); return after > before+5 }, time.Minute, time.Millisecond)
		}
		call(t, p, "leave_thread", "")
		grows()
		require.NoError(t, p.Close())
		if w.isolated {
			return // the thread has ended with its worker
		}
		grows()
		call(t, other, "end_thread", "")
	})
}

func TestLog(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p := openHost(t, w, upper, echo, loader.WithLogger(logger.With(slog.String("app", "test"))))
		call(t, p, "log", "")
		var want []string
		for _, line := range []string{
			`level=ERROR msg="an error"`, `level=WARN msg="a warning"`, `level=INFO msg="a line"`,
			`level=DEBUG msg="a detail"`, `level=DEBUG-4 msg="a trace"`, `level=INFO msg="an unknown level"`, `level=INFO msg=""`,
		} {
			want = append(want, line+" app=test plugin=host")
		}
		assert.Equal(t, want, lines.all())
	})
}

type panicHandler struct{ slog.Handler }

func (panicHandler) Handle(context.Context, slog.Record) error { panic("handler") }

func TestLogHandlerPanics(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, _ := logger()
		p := openHost(t, w, upper, echo, loader.WithLogger(slog.New(panicHandler{logger.Handler()})))
		call(t, p, "log", "")
	})
}

func TestStopFailureIsLogged(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p, err := w.try(fixture.C(t, "stop_fails"), loader.WithLogger(logger))
		require.NoError(t, err)
		require.NoError(t, p.Close())
		const line = `level=WARN msg="ferrule_stop: failed: cannot stop" plugin=stop_fails`
		assert.Equal(t, []string{line}, lines.all())

		p, err = w.try(fixture.C(t, "stop_fails"), loader.WithLogger(logger), loader.WithInstances(2))
		require.NoError(t, err)
		f, err := p.Func("answer")
		require.NoError(t, err)
		one, err := f.View(ctx, nil)
		require.NoError(t, err)
		two, err := f.View(ctx, nil)
		require.NoError(t, err)
		one.Release()
		two.Release() // isolated, stop comes on another way than start did
		require.NoError(t, p.Close())
		assert.Equal(t, []string{line, line, line}, lines.all())
	})
}

// A stop without a start is called with a state of NULL, once for each instance: for one that panicked, too.
func TestStopWithoutStart(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p, err := w.try(fixture.C(t, "stop_without_start"), loader.WithLogger(logger))
		require.NoError(t, err)
		const line = `level=WARN msg="ferrule_stop: failed: without a state" plugin=stop_without_start`
		_, err = p.Call(ctx, "panic", nil)
		assert.ErrorIs(t, err, loader.ErrPanic)
		call(t, p, "answer", "") // of a new instance
		require.NoError(t, p.Close())
		assert.Equal(t, []string{line, line}, lines.all())
	})
}

func TestJSONFunc(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		add := loader.JSONFunc(func(_ context.Context, p point) (int, error) { return p.X + p.Y, nil })
		p := openHost(t, w, add, add)
		for _, name := range []string{"upper", "again"} {
			sum, err := loader.CallJSON[point, int](ctx, p, name, point{2, 3})
			require.NoError(t, err)
			assert.Equal(t, 5, sum)
		}
		// It says which function, what it was given, and what it is to be given.
		const wrong = `invalid input: host function %s: its input is not JSON for the Go type loader_test.point: found "{": unexpected end of JSON input`
		_, err := p.Call(ctx, "again", []byte("{"))
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.EqualError(t, err, "plug-in host: again: "+fmt.Sprintf(wrong, "again"))
		_, err = p.Call(ctx, "upper", []byte("{"))
		assert.EqualError(t, err, "plug-in host: upper: "+fmt.Sprintf(wrong, "upper")+"; the plug-in says that it passes text/plain")

		p = openHost(t, w, loader.JSONFunc(func(context.Context, point) (func(), error) { return nil, nil }),
			loader.FuncWith(words{}, func(context.Context, []string) (int, error) { return 1, nil }))
		_, err = p.Call(ctx, "upper", []byte("{}"))
		assert.ErrorIs(t, err, loader.ErrFailed)
		assert.EqualError(t, err, "plug-in host: upper: failed: host function upper: its result is a Go value of the type func(), which cannot be encoded as JSON: "+
			"json: unsupported type: func(); the plug-in says that it expects text/html")
		_, err = p.Call(ctx, "again", []byte("{}"))
		assert.EqualError(t, err, "plug-in host: again: failed: host function again: its result is a Go value of the type int, which cannot be encoded as "+
			"what the codec loader_test.words writes: not words")
	})
}

// Plug-ins may call each other through host functions; a call that would wait for itself is refused.
func TestReentrance(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		within(t, func() {
			var concurrent, serial *loader.Plugin
			var inner error
			loop := true
			concurrent = openHost(t, w, upper, func(ctx context.Context, in []byte) ([]byte, error) {
				if loop {
					_, inner = serial.Call(ctx, "misuse", nil)
				}
				return nil, nil
			})
			serial = w.open(t, fixture.C(t, "host_misused"), loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
				_, err := concurrent.Call(ctx, "again", nil)
				return nil, err
			}))
			_, err := serial.Call(ctx, "misuse", nil)
			require.NoError(t, err, "the outer calls end well")
			var e *loader.UsageError
			require.ErrorAs(t, inner, &e, "serial was called by what it called")
			assert.ErrorIs(t, inner, loader.ErrReentrant)
			assert.Contains(t, e.Remedy, "WithInstances")

			loop, inner = false, nil
			_, err = serial.Call(ctx, "misuse", nil)
			require.NoError(t, err)
			assert.NoError(t, inner)
		})
	})
}

// A plug-in with instances to spare may be entered again.
func TestReentranceWithInstances(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var p *loader.Plugin
		depth := 0
		p = w.open(t, fixture.C(t, "host_misused"), loader.WithInstances(3), loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			if depth++; depth == 3 {
				_, err := p.Call(ctx, "misuse", nil)
				assert.ErrorIs(t, err, loader.ErrReentrant)
				return nil, nil
			}
			return p.Call(ctx, "misuse", nil)
		}))
		within(t, func() {
			_, err := p.Call(ctx, "misuse", nil)
			assert.NoError(t, err)
		})
		assert.Equal(t, 3, depth)
	})
}

// A context that a host function kept is no sign of re-entrance once its call is over: the caller waits like any other.
func TestReentranceOfAContextThatWasKept(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var kept context.Context
		entered, leave := make(chan bool, 1), make(chan bool)
		first := true
		p := w.open(t, fixture.C(t, "host_misused"), loader.WithHostFunc("upper", func(ctx context.Context, _ []byte) ([]byte, error) {
			if first {
				first, kept = false, ctx
			} else if len(entered) == 0 {
				entered <- true
				<-leave
			}
			return nil, nil
		}))
		within(t, func() {
			_, err := p.Call(context.WithValue(ctx, key{}, 1), "misuse", nil)
			require.NoError(t, err)
			results := make(chan error, 2)
			go func() { _, err := p.Call(context.WithValue(ctx, key{}, 2), "misuse", nil); results <- err }()
			require.Eventually(t, func() bool { return len(entered) == 1 }, time.Minute, time.Millisecond)
			go func() { _, err := p.Call(kept, "misuse", nil); results <- err }()
			time.Sleep(5 * time.Millisecond)
			close(leave)
			assert.NoError(t, <-results)
			assert.NoError(t, <-results)
		})
	})
}

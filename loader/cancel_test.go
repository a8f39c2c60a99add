package loader_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

func TestCancel(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openHost(t, w, upper, echo)
		for range 20 {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			_, err := p.Call(ctx, "wait", nil)
			cancel()
			assert.ErrorIs(t, err, loader.ErrCancelled)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
		why := errors.New("the customer left")
		ctx, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(5*time.Millisecond, func() { cancel(why) })
		_, err := p.Call(ctx, "wait", nil)
		assert.ErrorIs(t, err, why)
		_, err = p.Call(ctx, "cancelled", nil)
		assert.ErrorIs(t, err, why, "not called at all")
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, loader.ErrCancelled, e.Status)
		_, err = p.Call(context.Background(), "cancelled", nil)
		assert.NoError(t, err, "the word is new for the next call")
	})
}

// A call right behind one whose context has ended, while the watcher looks: it must not be taken for that one.
func TestCancelIsNotInherited(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openHost(t, w, upper, echo)
		wait, err := p.Func("wait")
		require.NoError(t, err)
		pass, err := p.Func("cancelled")
		require.NoError(t, err)
		live, cancel := context.WithCancel(ctx)
		defer cancel()
		for range 50 {
			ended, cancel := context.WithTimeout(ctx, time.Millisecond)
			_, err := wait.Call(ended, nil)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			for range w.rounds(2000, 500) {
				_, err := pass.Call(live, nil)
				require.NoError(t, err)
				ended, cancel := context.WithCancel(ctx)
				_, err = pass.Call(ended, nil)
				require.NoError(t, err)
				cancel() // the slot is left with a context that has ended
			}
		}
	})
}

// Calls that start and end while the watcher comes and goes: each must hear of its own context, and of no other.
func TestCancelWhileTheWatcherSleeps(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openHost(t, w, upper, echo)
		for _, pause := range []time.Duration{0, 20 * time.Millisecond, 49 * time.Millisecond, 51 * time.Millisecond, 80 * time.Millisecond} {
			time.Sleep(pause)
			ctx, cancel := context.WithTimeout(ctx, 3*time.Millisecond)
			within(t, func() {
				_, err := p.Call(ctx, "wait", nil)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
			cancel()
			_, err := p.Call(context.Background(), "cancelled", nil)
			assert.NoError(t, err)
		}
	})
}

func TestCancelWhileWaitingForAnInstance(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "threads_serial"))
		var wg sync.WaitGroup
		var enough atomic.Bool
		for range 4 {
			wg.Go(func() {
				for !enough.Load() {
					_, err := p.Call(ctx, "stay", nil)
					assert.NoError(t, err)
				}
			})
		}
		// Each waits for those before it, 2 ms for each: on a busy machine one may find nobody before it.
		cancelled := 0
		for start := time.Now(); cancelled < 20 && time.Since(start) < 20*time.Second; {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			if _, err := p.Call(ctx, "stay", nil); err != nil {
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorIs(t, err, loader.ErrCancelled)
				cancelled++
			}
			cancel()
		}
		enough.Store(true)
		wg.Wait()
		assert.Equal(t, 20, cancelled)
		_, err := p.Call(ctx, "stay", nil)
		assert.NoError(t, err, "no instance was lost")
	})
}

// A call that waits for an instance to be renewed, which waits for another call's end, gives up with its context.
func TestCancelWhileAnInstanceIsRenewed(t *testing.T) {
	t.Parallel() // it waits
	bothWays(t, func(t *testing.T, w way) {
		entered, leave := make(chan bool), make(chan bool)
		logger, _ := logger()
		p := w.open(t, fixture.SDK(t, "entries.cpp"), loader.WithConfig([]byte("7")), loader.WithLogger(logger),
			loader.WithHostFunc("repeat", echo), loader.WithHostFunc("refuse", echo), loader.WithHostFunc("silent", echo),
			loader.WithHostFunc("echo", func(_ context.Context, in []byte) ([]byte, error) {
				entered <- true
				<-leave
				return in, nil
			}))
		running := make(chan error)
		go func() { _, err := p.Call(ctx, "import_echo", nil); running <- err }()
		<-entered
		_, err := p.Call(ctx, "throws", []byte("int"))
		require.ErrorIs(t, err, loader.ErrPanic)
		within(t, func() {
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
					defer cancel()
					_, err := p.Call(ctx, "get", nil)
					var e *loader.CallError
					if assert.ErrorAs(t, err, &e) {
						assert.Equal(t, "not called: context deadline exceeded", e.Message)
						assert.ErrorIs(t, err, context.DeadlineExceeded)
					}
				})
			}
			wg.Wait()
		})
		close(leave)
		assert.NoError(t, <-running)
		assert.Equal(t, "7", call(t, p, "get", ""))
	})
}

// What watches contexts ends by itself, and forgets the contexts of calls that are over.
func TestNothingIsLeftOfContexts(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openHost(t, w, upper, echo)
		before := runtime.NumGoroutine()
		collected := make(chan bool)
		func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			value := new([64]byte)
			runtime.AddCleanup(value, func(int) { close(collected) }, 0)
			_, err := p.Call(context.WithValue(ctx, key{}, value), "cancelled", nil)
			require.NoError(t, err)
		}()
		// No helper that runs conditions in goroutines of its own: they would be counted.
		within(t, func() {
			for runtime.NumGoroutine() > before+1 { // one is this function's
				time.Sleep(time.Millisecond)
			}
			for {
				runtime.GC()
				select {
				case <-collected:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	})
}

// The cause of a context is its caller's, and whatever it is or wraps: it says nothing about the plug-in that was to be called.
func TestCausesThatWrapErrorsOfOthers(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var cancel context.CancelCauseFunc
		var cause error
		p := w.open(t, fixture.C(t, "batch_serial"), loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			cancel(cause)
			time.Sleep(20 * time.Microsecond) // or a batch may be over before anybody has looked at its context
			return in, nil
		}))
		f, err := p.Func("record")
		require.NoError(t, err)
		var record [][]byte
		for range 2000 {
			record = append(record, []byte("h"))
		}
		for _, its := range []error{
			loader.ErrClosed, loader.ErrReentrant, loader.ErrTooDeep, loader.ErrDeadlock, loader.ErrViews, loader.ErrNilContext,
			&loader.UsageError{Plugin: "other", Kind: loader.ErrClosed},
			&loader.UsageError{Plugin: "other", Kind: loader.ErrViews},
			&loader.OpenError{Path: "/other", Kind: loader.ErrRead},
			&loader.CrashError{Plugin: "other"},
			&loader.ContractError{Plugin: "other", Rule: "R8"},
		} {
			for _, cause = range []error{its, fmt.Errorf("a sibling of the group: %w", its)} {
				calls := map[string]func(ctx context.Context) error{
					"Call": func(ctx context.Context) error { _, err := f.Call(ctx, []byte("e")); return err },
					"View": func(ctx context.Context) error { _, err := f.View(ctx, []byte("e")); return err },
					"Batch": func(ctx context.Context) error {
						var b loader.Batch
						return f.Batch(ctx, [][]byte{[]byte("e")}, &b)
					},
					"Batch that runs": func(context.Context) error {
						var b loader.Batch
						var ctx context.Context
						ctx, cancel = context.WithCancelCause(context.Background())
						err := f.Batch(ctx, record, &b)
						assert.Less(t, b.Len(), len(record))
						return err
					},
				}
				for name, call := range calls {
					ended, end := context.WithCancelCause(ctx)
					end(cause)
					var e *loader.CallError
					err := call(ended)
					if assert.IsType(t, e, err, "%s: %v", name, cause) && assert.ErrorAs(t, err, &e) {
						assert.Equal(t, loader.ErrCancelled, e.Status)
						assert.ErrorIs(t, err, cause)
					}
				}
				ended, end := context.WithCancelCause(ctx)
				end(cause)
				_, err := w.openContext(ended, fixture.C(t, "echo"))
				var e *loader.OpenError
				if assert.IsType(t, e, err) && assert.ErrorAs(t, err, &e) {
					assert.Equal(t, loader.ErrStart, e.Kind)
					assert.Equal(t, fixture.C(t, "echo"), e.Path)
				}
			}
		}
	})
}

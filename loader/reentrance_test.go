package loader_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
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

// A host function that ferrule_start calls while an instance is renewed, and that calls the plug-in, would wait for itself.
func TestReentranceWhileAnInstanceIsRenewed(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "concurrent", "pinned"} {
			f := openForeign(t, w, threads, loader.WithConfig([]byte("ask")))
			_, err := f.Call(ctx, "fails", nil)
			require.ErrorIs(t, err, loader.ErrPanic)
			inner := make(chan error, 1)
			do := func(ctx context.Context) { _, err := f.Call(ctx, "ok", nil); inner <- err }
			f.host.Store(&do)
			within(t, func() {
				_, err = f.Call(ctx, "ok", nil)
				assert.NoError(t, err, threads)
				assert.ErrorIs(t, <-inner, loader.ErrReentrant, threads)
			})
			f.sound(t)
			require.NoError(t, f.Close())
		}
	})
}

// A call that comes from an instance which was poisoned meanwhile, or is just renewed, has the others: it is refused only when
// there is none. Neither does it wait for that instance, nor do calls that come from nowhere.
func TestPoisonedInstanceAmongOthers(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		nested := func(ctx context.Context, f *foreign, want error) {
			for range 50 {
				_, err := f.Call(ctx, "ok", nil)
				assert.ErrorIs(t, err, want)
				_, err = f.Call(context.Background(), "ok", nil)
				if want == nil || !w.isolated { // an isolated one waits for the instance
					assert.ErrorIs(t, err, want)
				}
			}
		}
		t.Run("poisoned", func(t *testing.T) {
			for _, instances := range []int{4, 1} {
				f := openForeign(t, w, "concurrent", loader.WithInstances(instances))
				do := func(ctx context.Context) {
					for range 8 * instances { // until the instance of the call around this one is among those that failed
						within, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
						_, err := f.Call(within, "fails", nil)
						cancel()
						assert.Error(t, err)
					}
					if instances > 1 {
						nested(ctx, f, nil)
					} else {
						_, err := f.Call(ctx, "ok", nil)
						assert.ErrorIs(t, err, loader.ErrReentrant)
					}
				}
				f.host.Store(&do)
				within(t, func() {
					_, err := f.Call(ctx, "ask", nil)
					assert.NoError(t, err)
				})
				f.sound(t)
				require.NoError(t, f.Close())
			}
		})
		t.Run("renewed", func(t *testing.T) {
			for _, threads := range []string{"serial", "concurrent", "pinned"} {
				f := openForeign(t, w, threads, loader.WithInstances(2), loader.WithConfig([]byte("ask")))
				started := 0
				do := func(ctx context.Context) {
					// The other instance may be poisoned as well, and started by one of these calls: then both are in use.
					if started++; started == 1 {
						nested(ctx, f, nil)
					}
				}
				f.host.Store(&do)
				within(t, func() {
					for range 100 {
						if _, err := f.Call(ctx, "ok", nil); started > 0 {
							break
						} else {
							assert.NoError(t, err)
						}
						_, err := f.Call(ctx, "fails", nil)
						assert.ErrorIs(t, err, loader.ErrPanic)
					}
				})
				assert.Positive(t, started)
				f.host.Store(nil)
				f.sound(t)
				require.NoError(t, f.Close())
			}
		})
	})
}

// Two first host calls of one call at the same time: both have its context.
func TestReentranceFromSeveralThreads(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		within(t, func() {
			var p *loader.Plugin
			again := func(ctx context.Context, in []byte) ([]byte, error) {
				_, err := p.Call(ctx, "nothing_such", nil)
				assert.ErrorIs(t, err, loader.ErrNoFunc)
				return in, nil
			}
			p = openHost(t, w, func(ctx context.Context, in []byte) ([]byte, error) { return upper(ctx, in) }, again)
			for range 50 {
				_, err := p.Call(ctx, "threads", nil)
				require.NoError(t, err)
			}
		})
	})
}

// A context that a host function kept is over with its call, also when the call that runs now has the same parent.
func TestReentranceOfAContextWithTheSameParent(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "pinned"} {
			f := openForeign(t, w, threads)
			var kept context.Context
			keep := func(ctx context.Context) { kept = ctx }
			f.host.Store(&keep)
			_, err := f.Call(ctx, "ask", nil)
			require.NoError(t, err)
			inside, leave := make(chan bool), make(chan bool)
			block := func(context.Context) { inside <- true; <-leave }
			f.host.Store(&block)
			running := on(func() { _, err := f.Call(ctx, "ask", nil); assert.NoError(t, err) })
			<-inside
			waited := on(func() { _, err := f.Call(kept, "ok", nil); assert.NoError(t, err, threads) })
			select {
			case <-waited:
				t.Error("it did not wait")
			case <-time.After(10 * time.Millisecond):
			}
			close(leave)
			within(t, func() { <-running; <-waited })
			f.sound(t)
			require.NoError(t, f.Close())
		}
	})
}

// Thousands of calls find the instance of a plug-in poisoned, and wait until the last call in it is over: a few look for that, and
// tell the others.
func TestManyWaitForARenewal(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		f := openForeign(t, w, "concurrent")
		in, out := make(chan struct{}), make(chan struct{})
		do := func(context.Context) {
			close(in)
			<-out
		}
		f.host.Store(&do)
		var over sync.WaitGroup
		over.Go(func() {
			_, err := f.Call(ctx, "ask", nil)
			assert.NoError(t, err)
		})
		<-in
		_, err := f.Call(ctx, "fails", nil)
		assert.ErrorIs(t, err, loader.ErrPanic)
		for range 2000 {
			over.Go(func() {
				_, err := f.Call(ctx, "ok", nil)
				assert.NoError(t, err)
			})
		}
		time.Sleep(20 * time.Millisecond)
		close(out)
		within(t, over.Wait)
		f.sound(t)
		require.NoError(t, f.Close())
	})
}

// A plug-in and its host that call each other without end are refused at a depth, whatever bounds there are beside it: by the
// context, and by the goroutine where the context is another one.
func TestRecursionEnds(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, c := range []struct {
			name    string
			pass    func(context.Context) context.Context
			opts    []loader.Option
			threads string
		}{
			{"its context", func(ctx context.Context) context.Context { return ctx }, nil, "concurrent"},
			{"its context, more calls", func(ctx context.Context) context.Context { return ctx }, []loader.Option{loader.WithMaxCalls(5000)}, "concurrent"},
			{"background", func(context.Context) context.Context { return context.Background() }, nil, "concurrent"},
			{"background, serial", func(context.Context) context.Context { return context.Background() }, nil, "serial"},
		} {
			t.Run(c.name, func(t *testing.T) {
				needsNumbers(t)
				f := openForeign(t, w, c.threads, c.opts...)
				depth, refused := 0, error(nil)
				again := func(ctx context.Context) {
					depth++
					if _, err := f.Call(c.pass(ctx), "ask", nil); err != nil && refused == nil {
						refused = err
					}
				}
				f.host.Store(&again)
				within(t, func() {
					_, err := f.Call(ctx, "ask", nil)
					assert.NoError(t, err)
				})
				assert.ErrorIs(t, refused, loader.ErrReentrant)
				most := 64
				if c.threads == "serial" {
					most = 1
				}
				assert.Equal(t, most, depth)
				if errors.Is(refused, loader.ErrTooDeep) {
					assert.ErrorContains(t, refused, fmt.Sprintf("%d calls", depth))
				}
				f.sound(t)
				require.NoError(t, f.Close())
			})
		}
	})
}

// Plug-ins that call each other in a circle, each with all its instances in use: the last one to wait is refused, by name.
func TestCircleOfPlugins(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				plugins := make([]*foreign, n)
				for i := range plugins {
					plugins[i] = openForeign(t, w, "serial")
				}
				var all sync.WaitGroup
				all.Add(n)
				var refused, done atomic.Int32
				for i, f := range plugins {
					next := plugins[(i+1)%n]
					var once sync.Once
					do := func(ctx context.Context) {
						once.Do(func() {
							all.Done()
							all.Wait() // all instances are in use
							ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
							defer cancel()
							if _, err := next.Call(ctx, "ok", nil); err != nil {
								refused.Add(1)
								assert.ErrorIs(t, err, loader.ErrDeadlock)
								assert.ErrorIs(t, err, loader.ErrReentrant)
								var usage *loader.UsageError
								if assert.ErrorAs(t, err, &usage) {
									assert.Equal(t, loader.ErrDeadlock, usage.Kind)
									assert.Contains(t, usage.Remedy, "foreign_serial → foreign_serial")
								}
							} else {
								done.Add(1)
							}
						})
					}
					f.host.Store(&do)
				}
				within(t, func() {
					var calls sync.WaitGroup
					for _, f := range plugins {
						calls.Go(func() { _, err := f.Call(ctx, "ask", nil); assert.NoError(t, err) })
					}
					calls.Wait()
				})
				assert.EqualValues(t, 1, refused.Load())
				assert.EqualValues(t, n-1, done.Load())
				for _, f := range plugins {
					f.sound(t)
					require.NoError(t, f.Close())
				}
			})
		}
	})
}

// A plug-in that waits for another one, which others use for as long as they like, is in no circle.
func TestWaitingIsNoCircle(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		one, two := openForeign(t, w, "serial"), openForeign(t, w, "serial")
		inside, leave := make(chan bool), make(chan bool)
		block := func(context.Context) { inside <- true; <-leave }
		two.host.Store(&block)
		held := on(func() { _, err := two.Call(ctx, "ask", nil); assert.NoError(t, err) })
		<-inside
		pass := func(ctx context.Context) { _, err := two.Call(ctx, "ok", nil); assert.NoError(t, err) }
		one.host.Store(&pass)
		waits := on(func() { _, err := one.Call(ctx, "ask", nil); assert.NoError(t, err) })
		time.Sleep(10 * time.Millisecond)
		close(leave)
		within(t, func() { <-held; <-waits })
		one.sound(t)
		two.sound(t)
		require.NoError(t, one.Close())
		require.NoError(t, two.Close())
	})
}

// At most n calls of a concurrent plug-in are in it at a time; the others wait.
func TestMaxCalls(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		f := openForeign(t, w, "concurrent", loader.WithMaxCalls(3))
		inside, leave := make(chan bool, 10), make(chan bool)
		block := func(context.Context) { inside <- true; <-leave }
		f.host.Store(&block)
		var calls sync.WaitGroup
		for range 10 {
			calls.Go(func() { _, err := f.Call(ctx, "ask", nil); assert.NoError(t, err) })
		}
		for range 3 {
			<-inside
		}
		soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err := f.Call(soon, "ok", nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Empty(t, inside)
		close(leave)
		within(t, calls.Wait)
		f.sound(t)
		require.NoError(t, f.Close())
	})
}

// A pinned plug-in has a thread for each instance, which a process has not got without end.
func TestPinnedInstancesAreBounded(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		_, err := w.try(fixture.C(t, "foreign_pinned"), loader.WithInstances(12000), loader.WithHostFunc("host", echo))
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrOption)
		assert.Contains(t, e.Expected, "1 to 1024")
		assert.NotEmpty(t, e.Path)
	})
}

// A short result does not keep the memory that a long one before it made the loader expect.
func TestShortResultAfterLongOne(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		f, err := w.open(t, fixture.C(t, "echo")).Func("echo")
		require.NoError(t, err)
		for range 3 {
			long, err := f.Call(ctx, make([]byte, 8<<20))
			require.NoError(t, err)
			require.Len(t, long, 8<<20)
			short, err := f.Call(ctx, []byte("x"))
			require.NoError(t, err)
			assert.Equal(t, "x", string(short))
			assert.LessOrEqual(t, cap(short), 64)
		}
	})
}

// Values of a context go with the call that had it.
func TestContextsAreNotKept(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		f := openForeign(t, w, "concurrent")
		for _, cancellable := range []bool{false, true} {
			for _, fn := range []string{"ok", "ask"} {
				collected := make(chan bool)
				func() {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					if !cancellable {
						ctx = context.Background()
					}
					value := new([1 << 10]byte)
					runtime.AddCleanup(value, func(int) { close(collected) }, 0)
					function, err := f.Func(fn)
					require.NoError(t, err)
					with := context.WithValue(ctx, key{}, value)
					var b loader.Batch
					require.NoError(t, function.Batch(with, [][]byte{nil}, &b))
					_, err = function.Call(with, nil)
					require.NoError(t, err)
					runtime.KeepAlive(&b)
				}()
				within(t, func() {
					for {
						runtime.GC()
						select {
						case <-collected:
							return
						case <-time.After(time.Millisecond):
						}
					}
				})
			}
		}
		f.sound(t)
		require.NoError(t, f.Close())
	})
}

// Calls that block in a plug-in take threads, and a Go process that wants more than it may have ends. So a concurrent plug-in
// takes half of them by itself, whatever number of calls comes.
func TestBlockedCallsLeaveThreads(t *testing.T) {
	if os.Getenv("FERRULE_TEST_THREADS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "FERRULE_TEST_THREADS=300")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	debug.SetMaxThreads(300)
	var inside, most atomic.Int32
	leave := make(chan bool)
	f := openForeign(t, inProcess, "concurrent")
	block := func(context.Context) {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-leave
		inside.Add(-1)
	}
	f.host.Store(&block)
	var calls sync.WaitGroup
	for range 1000 {
		calls.Go(func() { _, err := f.Call(ctx, "ask", nil); assert.NoError(t, err) })
	}
	require.Eventually(t, func() bool { return inside.Load() == 150 }, time.Minute, time.Millisecond)
	time.Sleep(20 * time.Millisecond) // for one too many
	close(leave)
	within(t, calls.Wait)
	assert.LessOrEqual(t, most.Load(), int32(150))
}

// A host function that a thread of the plug-in called, and that calls the plug-in when the call which it serves has returned
// (R14): the call keeps its instance until the host function has returned, so it would wait for itself.
func TestReentranceOfAHostCallThatOutlastsItsCall(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for range w.rounds(10, 2) {
			var p *loader.Plugin
			ended, cancel := context.WithCancel(ctx)
			inner := make(chan error, 1)
			p = w.open(t, fixture.C(t, "host_call_outlasts"), loader.WithHostFunc("host", func(ctx context.Context, _ []byte) ([]byte, error) {
				cancel()
				time.Sleep(20 * time.Millisecond) // so that the call has returned, if the machine is not busy
				_, err := p.Call(context.WithoutCancel(ctx), "ok", nil)
				inner <- err
				return nil, nil
			}))
			within(t, func() {
				_, err := p.Call(ended, "leave_thread", nil)
				assert.NoError(t, err)
				assert.ErrorIs(t, <-inner, loader.ErrReentrant)
				_, err = p.Call(ctx, "ok", nil)
				assert.NoError(t, err)
			})
		}
	})
}

// A log handler that calls the plug-in again, without the call's context: a call is known by its goroutine, also where the
// plug-in imports nothing.
func TestReentranceOfALogHandler(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		needsNumbers(t)
		for _, fn := range []string{"log", "log_on_thread"} {
			var p *loader.Plugin
			inner := make(chan error, 1)
			f := new(foreign)
			p = w.open(t, fixture.C(t, "log_without_imports"), loader.WithLogger(slog.New(f)))
			again := func(context.Context) { _, err := p.Call(context.Background(), fn, nil); inner <- err }
			for range 3 {
				f.handle.Store(&again)
				within(t, func() {
					_, err := p.Call(ctx, fn, nil)
					assert.NoError(t, err, fn)
					assert.ErrorIs(t, <-inner, loader.ErrReentrant, fn)
				})
				f.handle.Store(nil)
				within(t, func() {
					_, err := p.Call(ctx, fn, nil)
					assert.NoError(t, err, fn)
				})
			}
		}
	})
}

// asking is a context that runs a function when it is asked why it has ended.
type asking struct {
	context.Context
	done chan struct{}
	err  func() error
}

func (c *asking) Done() <-chan struct{} { return c.done }
func (c *asking) Value(any) any         { return nil }
func (c *asking) Err() error {
	select {
	case <-c.done:
		return c.err()
	default:
		return nil
	}
}

// A context is asked why it has ended when its call holds nothing that other calls need, wherever the call waits: for an
// instance, or until one can be renewed.
func TestContextsAreAskedOutsideOfLocks(t *testing.T) {
	everyForeign(t, func(t *testing.T, w way, f *foreign) {
		for _, panics := range []bool{false, true} {
			inside, leave := make(chan bool), make(chan bool)
			block := func(context.Context) { inside <- true; <-leave }
			f.host.Store(&block)
			held := on(func() { _, err := f.Call(ctx, "ask", nil); assert.NoError(t, err) })
			<-inside
			f.host.Store(nil)
			if panics && f.threads == "concurrent" {
				_, err := f.Call(ctx, "fails", nil)
				assert.ErrorIs(t, err, loader.ErrPanic)
			}
			left := errors.New("left")
			c := &asking{ctx, make(chan struct{}), func() error {
				_, err := f.Call(ctx, "ok", nil)
				assert.NoError(t, err)
				return left
			}}
			waits := on(func() {
				if _, err := f.Call(c, "ok", nil); err != nil {
					assert.ErrorIs(t, err, left)
				}
			})
			time.Sleep(10 * time.Millisecond) // so that it waits
			close(c.done)
			time.Sleep(10 * time.Millisecond) // so that it asks
			close(leave)
			within(t, func() { <-held; <-waits })
		}
	})
}

package loader_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// betweenWays runs a test with plug-ins that call needed between calls, over and over: of each way to run, and with each kind of threads.
// tick is what needed does, on its own goroutine, with a context that is not the one that it got: what it calls is known by the goroutine alone.
func betweenWays(t *testing.T, names []string, test func(t *testing.T, open func(tick func(p *loader.Plugin)) *loader.Plugin)) {
	needsNumbers(t)
	allWays(t, func(t *testing.T, w way) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				test(t, func(tick func(p *loader.Plugin)) *loader.Plugin {
					var opened atomic.Pointer[loader.Plugin]
					needed := loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) {
						if p := opened.Load(); p != nil {
							tick(p)
						}
						return nil, nil
					})
					p := w.open(t, fixture.C(t, name), needed, loader.WithConfig([]byte("between")))
					opened.Store(p)
					return p
				})
			})
		}
	})
}

var allThreads = []string{"services", "services_serial", "services_pinned"}

// needsNumbers skips a test where goroutines are not told apart: there a goroutine is not known to serve a call.
func needsNumbers(t *testing.T) {
	t.Helper()
	if goroutine.ID() == 0 {
		t.Skip("on this architecture goroutines have no number")
	}
}

// A call that finds its instance panicked does not start it anew where that would wait for what it comes from.
func TestBetweenCallsRenewsNotItself(t *testing.T) {
	betweenWays(t, allThreads, func(t *testing.T, open func(func(*loader.Plugin)) *loader.Plugin) {
		ticks, after := 0, make(chan error, 1)
		p := open(func(p *loader.Plugin) {
			if ticks++; ticks == 1 {
				_, err := p.Call(ctx, "panic", nil)
				assert.ErrorIs(t, err, loader.ErrPanic)
				_, err = p.Call(ctx, "add", nil)
				after <- err
			}
		})
		within(t, func() {
			require.ErrorIs(t, <-after, loader.ErrReentrant)
			assert.Equal(t, "between", call(t, p, "config", ""), "another call does")
		})
	})
}

// Others' calls start an instance anew while what it does between calls calls it, and waits for that or for them.
func TestBetweenCallsWhileOthersRenew(t *testing.T) {
	betweenWays(t, allThreads, func(t *testing.T, open func(func(*loader.Plugin)) *loader.Plugin) {
		p := open(func(p *loader.Plugin) {
			if _, err := p.Call(ctx, "add", nil); err != nil && !errors.Is(err, loader.ErrClosed) {
				assert.ErrorIs(t, err, loader.ErrReentrant)
			}
		})
		within(t, func() {
			for range 20 {
				_, err := p.Call(ctx, "panic", nil)
				require.ErrorIs(t, err, loader.ErrPanic)
				time.Sleep(time.Millisecond)
				assert.Equal(t, "between", call(t, p, "config", ""))
			}
		})
	})
}

// An instance that has panicked is stopped behind the gate, where it is handed over: what it does between calls does not wait at the gate.
func TestBetweenCallsWhileHandedOver(t *testing.T) {
	betweenWays(t, allThreads, func(t *testing.T, open func(func(*loader.Plugin)) *loader.Plugin) {
		entered, shuts := make(chan bool), make(chan bool)
		ticks, refused := 0, make(chan error, 1)
		p := open(func(p *loader.Plugin) {
			if ticks++; ticks > 1 {
				return
			}
			entered <- true
			<-shuts
			time.Sleep(50 * time.Millisecond) // mostly it is shut by then, and the instance being stopped; else it has panicked
			_, err := p.Call(ctx, "add", nil)
			refused <- err
		})
		within(t, func() {
			<-entered
			_, err := p.Call(ctx, "panic", nil)
			require.ErrorIs(t, err, loader.ErrPanic)
			close(shuts)
			none := errors.New("no successor")
			_, err = p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return nil, none })
			require.ErrorIs(t, err, none)
			require.ErrorIs(t, <-refused, loader.ErrReentrant)
			assert.Equal(t, "between", call(t, p, "config", ""))
		})
	})
}

// What an instance does between calls calls it while it gets new settings, also where another one takes its place, and is stopped then.
func TestBetweenCallsWhileConfigured(t *testing.T) {
	betweenWays(t, append(allThreads, "services_replaced"), func(t *testing.T, open func(func(*loader.Plugin)) *loader.Plugin) {
		p := open(func(p *loader.Plugin) {
			time.Sleep(2 * time.Millisecond)
			if _, err := p.Call(ctx, "add", nil); err != nil && !errors.Is(err, loader.ErrClosed) {
				assert.ErrorIs(t, err, loader.ErrReentrant)
			}
		})
		s := session(t, p, []byte("a session's"))
		within(t, func() {
			for _, config := range []string{"between 1", "between 2", "between 3", "between 4", "between 5"} {
				require.NoError(t, p.Configure(ctx, []byte(config)))
				assert.Equal(t, config, call(t, p, "config", ""))
				time.Sleep(2 * time.Millisecond)
			}
			assert.Equal(t, "a session's", inSession(t, s, "config", ""), "nothing else has ended")
		})
	})
}

// Calls are let in before instances that were replaced are stopped: a goroutine that such a host function waits for, which nobody knows, goes on.
func TestBetweenCallsWaitForAGoroutineWhileReplaced(t *testing.T) {
	betweenWays(t, []string{"services_replaced"}, func(t *testing.T, open func(func(*loader.Plugin)) *loader.Plugin) {
		p := open(func(p *loader.Plugin) {
			time.Sleep(2 * time.Millisecond)
			<-on(func() {
				if _, err := p.Call(ctx, "add", nil); err != nil {
					assert.ErrorIs(t, err, loader.ErrClosed)
				}
			})
		})
		s := session(t, p, []byte("a session's"))
		within(t, func() {
			for _, config := range []string{"between 1", "between 2", "between 3", "between 4", "between 5"} {
				require.NoError(t, p.Configure(ctx, []byte(config)))
				assert.Equal(t, config, call(t, p, "config", ""))
				time.Sleep(2 * time.Millisecond)
			}
			assert.Equal(t, "a session's", inSession(t, s, "config", ""), "nothing else has ended")
		})
	})
}

// What a session does between calls calls it while it is closed.
func TestBetweenCallsWhileASessionEnds(t *testing.T) {
	betweenWays(t, allThreads, func(t *testing.T, open func(func(*loader.Plugin)) *loader.Plugin) {
		var at atomic.Pointer[loader.Session]
		p := open(func(*loader.Plugin) {
			if s := at.Load(); s != nil {
				if _, err := s.Call(ctx, "add", nil); err != nil {
					assert.ErrorIs(t, err, loader.ErrClosed)
				}
			}
		})
		within(t, func() {
			for range 5 {
				s, err := p.NewSession(ctx, nil)
				require.NoError(t, err)
				at.Store(s)
				time.Sleep(10 * time.Millisecond)
				require.NoError(t, s.Close())
			}
		})
	})
}

// A host function that a thread of the plug-in's calls during a call is known by its goroutine, too.
func TestReentranceOnAThread(t *testing.T) {
	needsNumbers(t)
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "pinned"} {
			f := openForeign(t, w, threads)
			inner := make(chan error, 1)
			do := func(context.Context) { _, err := f.Call(context.Background(), "ok", nil); inner <- err }
			f.host.Store(&do)
			within(t, func() {
				_, err := f.Call(ctx, "ask_on_thread", nil)
				assert.NoError(t, err, threads)
				assert.ErrorIs(t, <-inner, loader.ErrReentrant, threads)
			})
			f.sound(t)
			require.NoError(t, f.Close())
		}
	})
}

// A host function of a call that comes from another plug-in's, by its context, comes from that one, too, on whatever thread
// it is called: it is refused what it would wait for in vain, whatever its context.
func TestReentranceThroughAnotherPlugin(t *testing.T) {
	needsNumbers(t)
	allWays(t, func(t *testing.T, w way) {
		for _, how := range []string{"ask", "ask_on_thread"} {
			for _, threads := range []string{"serial", "pinned"} {
				outer, inner := openForeign(t, w, "serial"), openForeign(t, w, threads)
				again := make(chan error, 1)
				enter := func(ctx context.Context) {
					_, err := inner.Call(ctx, how, nil)
					assert.NoError(t, err)
				}
				comeBack := func(context.Context) { _, err := outer.Call(context.Background(), "ok", nil); again <- err }
				outer.host.Store(&enter)
				inner.host.Store(&comeBack)
				within(t, func() {
					_, err := outer.Call(ctx, "ask", nil)
					assert.NoError(t, err, "%s %s", how, threads)
					assert.ErrorIs(t, <-again, loader.ErrReentrant, "%s %s", how, threads)
				})
				for _, f := range []*foreign{inner, outer} {
					f.sound(t)
					require.NoError(t, f.Close())
				}
			}
		}
	})
}

// Isolated, the worker is ended where an instance that was replaced does not stop in time. The error names what has not returned, and the
// settings were taken before.
func TestConfigureNamesWhatHangs(t *testing.T) {
	t.Parallel() // it waits
	entered, leave := make(chan bool, 1000), make(chan bool)
	needed := loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) {
		entered <- true
		<-leave // whatever its context says
		return nil, nil
	})
	p, err := loader.Open(fixture.C(t, "services_replaced"), needed, loader.WithConfig([]byte("between")),
		isolate.InWorker(isolate.WithEnv(workerEnv...), isolate.WithStartTimeout(3*time.Second)))
	require.NoError(t, err)
	within(t, func() {
		<-entered
		err := p.Configure(ctx, []byte("second"))
		var crash *loader.CrashError
		require.ErrorAs(t, err, &crash)
		assert.Contains(t, crash.Reason, "ferrule_stop of an instance that is of no use any more had not returned")
		assert.Contains(t, crash.Reason, "isolate.WithStartTimeout")
		assert.Equal(t, "second", call(t, p, "config", ""))
		close(leave)
		require.NoError(t, p.Close())
	})
}

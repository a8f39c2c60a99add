package loader_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

func TestClosed(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		f, err := p.Func("echo")
		require.NoError(t, err)
		require.NoError(t, p.Close())
		require.NoError(t, p.Close(), "twice")
		_, err = f.Call(ctx, nil)
		var e *loader.UsageError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrClosed)
		_, err = p.Call(ctx, "echo", nil)
		assert.ErrorIs(t, err, loader.ErrClosed)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err = p.Call(ended, "echo", nil)
		assert.ErrorIs(t, err, loader.ErrClosed)
		assert.Equal(t, "echo", p.Name())
	})
}

// A library whose destructor takes its time holds up Shutdown no longer than its context allows, and nothing else.
func TestShutdownWhileALibraryIsUnloaded(t *testing.T) {
	fixture.NotMusl(t, "no library is unloaded")
	g := newGate(t)
	t.Cleanup(func() { g.let("end") })
	g.let("go")
	p, err := loader.Open(g.path, loader.WithUnload(), loader.WithConfig([]byte("unload")))
	require.NoError(t, err)
	other := open(t, fixture.C(t, "echo"))
	ending, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- p.Shutdown(ending) }()
	g.reached("ending")
	assert.Equal(t, "x", call(t, other, "echo", "x"))
	cancel()
	within(t, func() {
		err := <-closed
		var e *loader.ShutdownError
		require.ErrorAs(t, err, &e)
		assert.Zero(t, e.Calls+e.Views)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, "not closed yet, with its library not unloaded: context canceled; the rest is done in the background")
		assert.ErrorIs(t, p.Shutdown(ending), context.Canceled, "again")
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err = loader.OpenContext(short, g.path)
		assert.ErrorIs(t, err, context.DeadlineExceeded, "it waits for the library's end")
	})
	g.let("end")
	within(t, func() { assert.NoError(t, p.Close()) })
	again, err := loader.Open(g.path)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestCloseWaitsForRunningCalls(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"threads_serial", "threads_concurrent", "threads_pinned"} {
			p := w.open(t, fixture.C(t, name))
			var mu sync.Mutex
			running := 0
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					for {
						mu.Lock()
						running++
						mu.Unlock()
						_, err := p.Call(ctx, "stay", nil)
						mu.Lock()
						running--
						mu.Unlock()
						if err != nil {
							assert.ErrorIs(t, err, loader.ErrClosed)
							return
						}
					}
				})
			}
			time.Sleep(10 * time.Millisecond)
			within(t, func() { assert.NoError(t, p.Close()) })
			within(t, wg.Wait)
			assert.Zero(t, running)
		}
	})
}

// Close, calls, and new plug-ins that take over the closed one's call slots, all at once.
func TestCloseAgainstCalls(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		rounds := w.rounds(300, 20)
		if stress.Enabled {
			rounds = 10
		}
		path := fixture.C(t, "echo")
		for range rounds {
			p, err := w.try(path, loader.WithInstances(2))
			require.NoError(t, err)
			f, err := p.Func("echo")
			require.NoError(t, err)
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range 4 {
				wg.Go(func() {
					<-start
					for {
						out, err := f.Append(ctx, nil, []byte("ping"))
						if err != nil {
							assert.ErrorIs(t, err, loader.ErrClosed)
							return
						}
						if !assert.Equal(t, "ping", string(out)) {
							return
						}
					}
				})
			}
			wg.Go(func() {
				<-start
				runtime.Gosched()
				assert.NoError(t, p.Close())
			})
			wg.Go(func() {
				<-start
				other, err := w.try(path)
				if assert.NoError(t, err) {
					_, err = other.Call(ctx, "nothing", nil)
					assert.NoError(t, err)
					assert.NoError(t, other.Close())
				}
			})
			close(start)
			within(t, wg.Wait)
		}
	})
}

func TestCloseReleasesThoseWhoWait(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		entered := make(chan struct{})
		leave := make(chan struct{})
		p, err := w.try(fixture.C(t, "host_misused"), loader.WithHostFunc("upper", func(context.Context, []byte) ([]byte, error) {
			close(entered)
			<-leave
			return nil, nil
		}))
		require.NoError(t, err)
		results := make(chan error, 3)
		go func() { _, err := p.Call(ctx, "misuse", nil); results <- err }()
		<-entered
		for range 2 {
			go func() { _, err := p.Call(ctx, "misuse", nil); results <- err }()
		}
		time.Sleep(5 * time.Millisecond)
		done := make(chan error)
		go func() { done <- p.Close() }()
		assert.ErrorIs(t, <-results, loader.ErrClosed)
		assert.ErrorIs(t, <-results, loader.ErrClosed)
		select {
		case <-done:
			t.Fatal("Close did not wait")
		case <-time.After(5 * time.Millisecond):
		}
		close(leave)
		assert.NoError(t, <-results, "the call that ran had its answer")
		assert.NoError(t, <-done)
	})
}

// Memory, goroutines and threads stay flat over many lives of a plug-in. In-process: it is this process's memory; that of
// workers is looked at in package isolate.
func TestTenThousandLives(t *testing.T) {
	cycles := 10_000
	if stress.Enabled {
		cycles = 100
	}
	fixtures := []string{fixture.C(t, "state"), fixture.C(t, "threads_pinned"), fixture.C(t, "echo")}
	live := func(n int) {
		for i := range n {
			p, err := loader.Open(fixtures[i%3])
			require.NoError(t, err)
			_, err = p.Call(ctx, []string{"next", "count", "echo_own"}[i%3], []byte("x"))
			require.NoError(t, err)
			if i%3 == 0 {
				_, err = p.Call(ctx, "panic", nil)
				require.ErrorIs(t, err, loader.ErrPanic)
			}
			require.NoError(t, p.Close())
		}
	}
	live(cycles / 10)
	settle := func() int { runtime.GC(); runtime.GC(); time.Sleep(20 * time.Millisecond); return residentBytes(t) }
	before, goroutines := settle(), runtime.NumGoroutine()
	live(cycles)
	grown := settle() - before
	t.Logf("resident memory grew by %d KiB over %d lives", grown>>10, cycles)
	if !raceDetector { // which keeps a KiB of each life, and much of what tests before this one had
		assert.Less(t, grown, 8<<20)
	}
	within(t, func() { // they end by themselves, soon; this function's is one
		for runtime.NumGoroutine() > goroutines+3 {
			time.Sleep(time.Millisecond)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		path := fixture.C(t, "state")
		plugins := make([]*loader.Plugin, w.rounds(1000, 20))
		var errs []error
		for i := range plugins {
			p, err := w.try(path)
			require.NoError(t, err)
			plugins[i] = p
		}
		for i, p := range plugins {
			for range i%3 + 1 {
				_, err := p.Call(ctx, "next", nil)
				errs = append(errs, err)
			}
		}
		for i, p := range plugins {
			assert.Equal(t, []string{"2", "3", "4"}[i%3], call(t, p, "next", ""))
			errs = append(errs, p.Close())
		}
		assert.NoError(t, errors.Join(errs...))
	})
}

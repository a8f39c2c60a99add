package loader_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// hold has calls of "ask" and "ask_and_fail" stay in the host function, each until what it does returns: the first call does the first.
func (f *foreign) hold(do ...func(context.Context)) {
	var n atomic.Int32
	each := func(ctx context.Context) {
		if i := int(n.Add(1)); i <= len(do) {
			do[i-1](ctx)
		}
	}
	f.host.Store(&each)
}

// A call from within an instance, that waits for a place, is refused when the instance panics meanwhile: it would wait for the call
// that it comes from, by whose context or goroutine it is known.
func TestPanicWhileACallOfItsOwnWaits(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, pass := range []func(context.Context) context.Context{
			func(ctx context.Context) context.Context { return ctx }, func(context.Context) context.Context { return context.Background() },
		} {
			if pass(t.Context()) == context.Background() && goroutine.ID() == 0 {
				continue // on this architecture goroutines have no number
			}
			f := openForeign(t, w, "concurrent", loader.WithMaxCalls(2))
			outer, waits, leave := make(chan bool), make(chan bool), make(chan bool)
			var inner error
			f.hold(func(ctx context.Context) {
				outer <- true
				<-waits
				_, inner = f.Call(pass(ctx), "ok", nil)
			}, func(context.Context) {
				outer <- true
				<-leave
			})
			first := on(func() { _, err := f.Call(ctx, "ask", nil); assert.NoError(t, err) })
			<-outer
			second := on(func() { _, err := f.Call(ctx, "ask_and_fail", nil); assert.ErrorIs(t, err, loader.ErrPanic) })
			<-outer
			waits <- true
			time.Sleep(10 * time.Millisecond) // it waits, or comes later, which is the same
			close(leave)
			within(t, func() { <-first; <-second })
			assert.ErrorIs(t, inner, loader.ErrReentrant)
			f.sound(t)
			require.NoError(t, f.Close())
		}
	})
}

// Two plug-ins whose calls wait for each other are a circle, also where the one waits for an instance that has panicked, before or
// after it began to wait.
func TestCircleThroughAPanic(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, before := range []bool{true, false} {
			for _, threads := range []string{"concurrent", "serial"} {
				p, q := openForeign(t, w, "concurrent", loader.WithMaxCalls(2)), openForeign(t, w, threads, loader.WithMaxCalls(1))
				in, meet, leave := make(chan bool), make(chan bool), make(chan bool)
				var refused, done atomic.Int32
				count := func(err error) {
					if err == nil {
						done.Add(1)
					} else {
						assert.ErrorIs(t, err, loader.ErrReentrant)
						refused.Add(1)
					}
				}
				var calls sync.WaitGroup
				p.hold(func(ctx context.Context) {
					in <- true
					<-meet
					_, err := q.Call(ctx, "ok", nil)
					count(err)
				}, func(context.Context) { in <- true; <-leave })
				q.hold(func(ctx context.Context) {
					in <- true
					<-meet
					_, err := p.Call(ctx, "ok", nil)
					count(err)
				})
				calls.Go(func() { _, err := p.Call(ctx, "ask", nil); assert.NoError(t, err) })
				<-in
				calls.Go(func() { _, err := p.Call(ctx, "ask_and_fail", nil); assert.ErrorIs(t, err, loader.ErrPanic) })
				<-in
				calls.Go(func() { _, err := q.Call(ctx, "ask", nil); assert.NoError(t, err) })
				<-in
				if before {
					close(leave)
					time.Sleep(10 * time.Millisecond)
				}
				close(meet)
				time.Sleep(10 * time.Millisecond) // both wait, or come later
				if !before {
					close(leave)
				}
				within(t, calls.Wait)
				assert.EqualValues(t, 1, refused.Load(), "one is refused, so that the other can go on")
				assert.EqualValues(t, 1, done.Load())
				p.sound(t)
				q.sound(t)
				require.NoError(t, p.Close())
				require.NoError(t, q.Close())
			}
		}
	})
}

// A call whose context ends while its instance is started anew is not made: Start is not given up half way.
func TestContextEndsInARenewal(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "concurrent", "pinned"} {
			f := openForeign(t, w, threads, loader.WithConfig([]byte("ask")))
			_, err := f.Call(ctx, "fails", nil)
			require.ErrorIs(t, err, loader.ErrPanic)
			ended, end := context.WithCancelCause(ctx)
			left := errors.New("left")
			var asked atomic.Int32
			do := func(context.Context) {
				if asked.Add(1) == 1 { // it is Start's
					end(left)
				}
			}
			f.host.Store(&do)
			within(t, func() { _, err = f.Call(ended, "ask", nil) })
			assert.ErrorIs(t, err, left, threads)
			assert.ErrorIs(t, err, loader.ErrCancelled, threads)
			assert.EqualValues(t, 1, asked.Load(), "%s: the function was not called", threads)
			f.sound(t)
			require.NoError(t, f.Close())
		}
	})
}

// What a renewal's Start does in the host, and what the log handler does with the line about a Stop that failed, is known to come from
// the call that the renewal is for, also without its context.
func TestReentranceFromARenewalWithoutItsContext(t *testing.T) {
	needsNumbers(t)
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "concurrent", "pinned"} {
			for _, config := range []string{"ask", "stop"} {
				f := openForeign(t, w, threads, loader.WithConfig([]byte(config)))
				_, err := f.Call(ctx, "fails", nil)
				require.ErrorIs(t, err, loader.ErrPanic)
				var inner error
				var once sync.Once
				do := func(context.Context) {
					once.Do(func() {
						soon, cancel := context.WithTimeout(context.Background(), 20*time.Second)
						defer cancel()
						_, inner = f.Call(soon, "ok", nil)
					})
				}
				want := loader.ErrReentrant
				if config == "stop" {
					f.handle.Store(&do)
				} else {
					f.host.Store(&do)
				}
				within(t, func() {
					_, err = f.Call(ctx, "ok", nil)
					assert.NoError(t, err)
				})
				if config == "stop" && inner == nil {
					want = nil // the line is written when the instance is there again
				}
				assert.ErrorIs(t, inner, want, "%s %s", threads, config)
				f.sound(t)
				require.NoError(t, f.Close())
			}
		}
	})
}

// A function that panics because a host function has ended its goroutine poisons the instance, though nobody waits for its status any more: it
// is started anew, and where that fails it is the end of nobody else.
func TestPanicBehindAnEndedGoroutine(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "concurrent"} {
			f := openForeign(t, w, threads, loader.WithConfig([]byte("ask")))
			before, _ := f.Isolation()
			var ends atomic.Int32
			do := func(context.Context) {
				if ends.Add(1) <= 2 { // in the function, and then in ferrule_start
					runtime.Goexit()
				}
			}
			f.host.Store(&do)
			within(t, func() {
				<-on(func() { _, _ = f.Call(ctx, "ask_and_fail", nil) })
				for ends.Load() < 2 { // isolated, the function may not have returned yet
					<-on(func() {
						if _, err := f.Call(ctx, "ok", nil); err != nil {
							assert.ErrorIs(t, err, loader.ErrStart, threads)
						}
					})
				}
			})
			f.sound(t)
			after, _ := f.Isolation()
			assert.Equal(t, before.Attempt, after.Attempt, "the worker goes on")
			require.NoError(t, f.Close())
		}
	})
}

//go:build linux

package host

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// diary is a host that keeps what is logged.
type diary struct {
	victim
	mu    sync.Mutex
	lines []string
}

func (d *diary) Log(_ context.Context, _ abi.Level, text []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, string(text))
}

func (d *diary) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// stillEngine makes an engine whose workers do nothing, and gives it the first one.
func stillEngine(t *testing.T, host engine.Host) *Plugin {
	t.Helper()
	o := Options{MaxMessage: 1 << 20, Restart: Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond, Limit: 100, Suspend: time.Minute}}
	e := newEngine(library, library.Path, host, o, &engine.Options{Instances: 1})
	e.run = func(*worker) (child, error) { return &still{ended: make(chan struct{})}, nil }
	e.open = func(w *worker) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		w.offer(w.addLane())
		return nil
	}
	e.halt = func(c *call) error { c.lane.worker.process.(*still).die(); return nil }
	first, err := e.launch()
	require.NoError(t, err)
	e.opened(first)
	return e
}

// Calls that already wait when the last lane becomes a view's are not left alone with that: each of them gives up.
func TestLastLaneBecomesAView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := stillEngine(t, &diary{})
		background := callctx.Background
		var views []*hostLane
		take := func() *hostLane {
			l, err := e.acquire(&background)
			require.NoError(t, err)
			e.begin(l)
			return l
		}
		for range lane.MaxLanes - 1 {
			l := take()
			l.settle()
			views = append(views, l)
		}
		last := take()
		const waiting = 3
		errs := make(chan error, waiting)
		for range waiting {
			go func() {
				caller := callctx.Background
				_, err := e.acquire(&caller)
				errs <- err
			}()
		}
		synctest.Wait()
		last.settle()
		views = append(views, last)
		time.Sleep(2 * viewPatience)
		synctest.Wait()
		require.Len(t, errs, waiting)
		for range waiting {
			assert.Equal(t, engine.ErrViews, <-errs)
		}
		for _, l := range views {
			l.call.end()
		}
		assert.NoError(t, e.Close())
		time.Sleep(time.Second) // of the bubble: whoever wakes calls of a dead worker ends, too
	})
}

// A worker that dies while nothing but a view of it is held is logged: no call tells of it.
func TestDeathBesideAView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &diary{}
		e := stillEngine(t, log)
		background := callctx.Background
		l, err := e.acquire(&background)
		require.NoError(t, err)
		e.begin(l)
		l.settle()
		l.worker.process.(*still).die()
		time.Sleep(2 * time.Second) // of the bubble: for what the worker had said to come
		assert.Contains(t, log.text(), "while no call ran in it")
		l.call.end()
		assert.NoError(t, e.Close())
		time.Sleep(time.Second) // of the bubble: whoever wakes calls of a dead worker ends, too
	})
}

// A worker that dies with a call in it is told by the call's error alone.
func TestDeathBesideACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &diary{}
		e := stillEngine(t, log)
		background := callctx.Background
		l, err := e.acquire(&background)
		require.NoError(t, err)
		e.begin(l)
		l.worker.process.(*still).die()
		time.Sleep(2 * time.Second) // of the bubble: for what the worker had said to come
		l.call.end()
		assert.Empty(t, log.text())
		assert.NoError(t, e.Close())
		time.Sleep(time.Second) // of the bubble: whoever wakes calls of a dead worker ends, too
	})
}

// The context of OpenContext may end in the moment between the end of opening and its return. It is nothing to the workers.
func TestAbandonedTooLate(t *testing.T) {
	for _, when := range []string{"before it is known to be open", "after"} {
		t.Run(when, func(t *testing.T) {
			e, first, err := engineFor(t, &victim{t: t, most: 1 << 20}, tame, nil)
			require.NoError(t, err)
			if when == "after" {
				e.opened(first)
				e.abandon()
			} else {
				e.abandon()
				e.opened(first)
			}
			for _, w := range []string{"the first worker", "the second"} {
				within(t, w, func() {
					out, _, err := e.Append(context.Background(), 0, nil, []byte(w))
					require.NoError(t, err)
					assert.Equal(t, w, string(out))
				})
				e.mu.Lock()
				now := e.worker
				e.mu.Unlock()
				now.kill("")
			}
		})
	}
}

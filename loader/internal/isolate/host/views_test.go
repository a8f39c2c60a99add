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
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// diary is a host that keeps what is logged.
type diary struct {
	victim
	mu    sync.Mutex
	lines []string
}

func (d *diary) Log(_ context.Context, _ abi.Level, text, _ []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, string(text))
}

func (d *diary) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// stillPlugin makes a plug-in whose workers do nothing, and gives it the first one.
func stillPlugin(t *testing.T, host engine.Host) *Plugin {
	t.Helper()
	o := Options{MaxMessage: 1 << 20, Restart: Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond, Limit: 100, Suspend: time.Minute}}
	p := newPlugin(library, library.Path, host, o, &engine.Options{Instances: 1})
	p.run = func(*worker) (process.Child, error) { return &still{ended: make(chan struct{})}, nil }
	p.open = func(s *seat) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.worker.offer(s.worker.addLane())
		return nil
	}
	p.halt = func(c *call) error { c.lane.worker.process.(*still).die(); return nil }
	_, err := p.launch()
	require.NoError(t, err)
	p.opened()
	return p
}

// Calls that already wait when the last lane becomes a view's are not left alone with that: each of them gives up.
func TestLastLaneBecomesAView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stillPlugin(t, &diary{})
		background := callctx.Background
		var views []*hostLane
		take := func() *hostLane {
			l, err := p.acquire(&background)
			require.NoError(t, err)
			p.begin(l)
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
				_, err := p.acquire(&caller)
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
		assert.NoError(t, p.Close())
		time.Sleep(time.Second) // of the bubble: whoever wakes calls of a dead worker ends, too
	})
}

// A worker that dies while nothing but a view of it is held is logged: no call tells of it.
func TestDeathBesideAView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &diary{}
		p := stillPlugin(t, log)
		background := callctx.Background
		l, err := p.acquire(&background)
		require.NoError(t, err)
		p.begin(l)
		l.settle()
		l.worker.process.(*still).die()
		time.Sleep(2 * time.Second) // of the bubble: for what the worker had said to come
		assert.Contains(t, log.text(), "while no call ran in it")
		l.call.end()
		assert.NoError(t, p.Close())
		time.Sleep(time.Second) // of the bubble: whoever wakes calls of a dead worker ends, too
	})
}

// A worker that dies with a call in it is told by the call's error alone.
func TestDeathBesideACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &diary{}
		p := stillPlugin(t, log)
		background := callctx.Background
		l, err := p.acquire(&background)
		require.NoError(t, err)
		p.begin(l)
		l.worker.process.(*still).die()
		time.Sleep(2 * time.Second) // of the bubble: for what the worker had said to come
		l.call.end()
		assert.Empty(t, log.text())
		assert.NoError(t, p.Close())
		time.Sleep(time.Second) // of the bubble: whoever wakes calls of a dead worker ends, too
	})
}

// The context of OpenContext may end in the moment between the end of opening and its return. It is nothing to the workers.
func TestAbandonedTooLate(t *testing.T) {
	for _, when := range []string{"before it is known to be open", "after"} {
		t.Run(when, func(t *testing.T) {
			p, _, err := pluginFor(t, &victim{t: t, most: 1 << 20}, tame, nil)
			require.NoError(t, err)
			if when == "after" {
				p.opened()
				p.abandon()
			} else {
				p.abandon()
				p.opened()
			}
			for _, w := range []string{"the first worker", "the second"} {
				within(t, w, func() {
					out, _, err := p.Append(context.Background(), engine.Fn{}, nil, []byte(w))
					require.NoError(t, err)
					assert.Equal(t, w, string(out))
				})
				p.mu.Lock()
				now := p.worker
				p.mu.Unlock()
				now.kill("", nil)
			}
		})
	}
}

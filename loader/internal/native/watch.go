package native

import (
	"context"
	"sync/atomic"
	"time"
)

// watcher sets the cancellation word of calls whose context has ended (R17). It is one goroutine for each plug-in, and
// only while calls with a context that can end are in progress: a timer or a goroutine for each call would cost more
// than the call does. It looks every watchInterval, so that is how late a plug-in may hear of it.
type watcher struct {
	engine  *Engine
	running atomic.Bool
	stopped atomic.Bool
}

const (
	watchInterval = time.Millisecond
	watchIdle     = 50 // intervals without a call after which the watcher ends
)

// ensure has the watcher run. The caller's slot is busy by now: a watcher that is about to end looks once more after
// it has said so, and finds it.
func (w *watcher) ensure() {
	if !w.running.Load() {
		w.launch()
	}
}

func (w *watcher) launch() {
	if w.running.CompareAndSwap(false, true) {
		go w.run()
	}
}

// stop ends the watcher soon; no call is in progress any more, and none will be.
func (w *watcher) stop() { w.stopped.Store(true) }

func (w *watcher) run() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for quiet := 0; !w.stopped.Load(); <-tick.C {
		if w.look() {
			quiet = 0
			continue
		}
		if quiet++; quiet < watchIdle {
			continue
		}
		w.forget()
		w.running.Store(false)
		if !w.look() || !w.running.CompareAndSwap(false, true) {
			return
		}
		quiet = 0
	}
}

// look visits every call in progress, and reports whether one of them has a context that can end.
func (w *watcher) look() (found bool) {
	for _, s := range *w.engine.slots.Load() {
		if !s.enter() {
			continue
		}
		if s.engine == w.engine && s.cancellable {
			found = true
			if s.ctx.Err() != nil {
				s.cancel.Store(1)
				s.attend()
			}
		}
		s.exit()
	}
	return found
}

// forget drops the contexts of calls that are over, and what they refer to.
func (w *watcher) forget() {
	for _, s := range *w.engine.slots.Load() {
		if s.tryAcquire() {
			s.setContext(context.Background())
			s.engine.release(s)
		}
	}
}

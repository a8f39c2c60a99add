package native

import (
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// watcher sets the cancellation word of calls whose context has ended, or whose limit is over (R17). It is one goroutine for each plug-in, and
// only while calls with a context that can end, or a limit, are in progress: a timer or a goroutine for each call would cost more
// than the call does. It looks every watchInterval, so that is how late a plug-in may hear of it. It looks at the slots in
// its list, which are those that had such a call lately, and asks no context: it has the channels that they gave.
type watcher struct {
	plugin *Plugin

	mu      sync.Mutex
	running bool
	stopped bool
	more    []*slot // to be watched from the next look on
}

const (
	watchInterval = time.Millisecond
	watchIdle     = 50 // looks in a row that find a slot idle, after which it is not watched any more
)

// add has the watcher watch a slot, whose owner the caller is.
func (w *watcher) add(s *slot) {
	s.watched = true
	w.mu.Lock()
	defer w.mu.Unlock()
	w.more = append(w.more, s)
	if !w.running && !w.stopped {
		w.running = true
		go w.run()
	}
}

// stop ends the watcher soon; no call is in progress any more, and none will be.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped, w.more = true, nil
}

// watched is a slot in the list.
type watched struct {
	slot  *slot
	idle  int       // looks in a row that found it idle
	asked time.Time // when its call was asked to stop because of its limit
	told  bool      // that it has not
}

func (w *watcher) run() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var list []watched
	for ; w.next(&list); <-tick.C {
		kept := list[:0]
		for _, entry := range list {
			if w.look(&entry) {
				kept = append(kept, entry)
			}
		}
		clear(list[len(kept):])
		list = kept
	}
}

// next takes over what was added, and reports whether there is anything to look at.
func (w *watcher) next(list *[]watched) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.more {
		*list = append(*list, watched{slot: s})
	}
	w.more = nil
	if len(*list) == 0 || w.stopped {
		w.running = false
		return false
	}
	return true
}

// look visits a slot's call, and reports whether the slot is to be looked at again.
func (w *watcher) look(entry *watched) bool {
	s := entry.slot
	if !s.enter() {
		if entry.idle++; entry.idle < watchIdle {
			return true
		}
		return !w.forget(s)
	}
	defer s.exit()
	entry.idle = 0
	if s.plugin != w.plugin {
		return false // it went to another plug-in, since this one was closed
	}
	s.askEnded()
	s.lookAtLimit(entry)
	return true
}

// ask asks the slot's call to stop. Only a visitor calls it.
func (s *slot) ask() {
	s.cancel.Store(1)
	s.attend()
	if st := s.streams.Load(); st != nil {
		st.stop()
	}
}

// forget drops the context of an idle slot's last call, and what it refers to. It reports whether the slot is not to be
// watched any more.
func (w *watcher) forget(s *slot) bool {
	if !s.tryAcquire() {
		return s.phase.Load() == closed
	}
	if s.plugin == w.plugin {
		s.watched = false
		s.setCaller(&callctx.Background)
	}
	s.plugin.release(s)
	return true
}

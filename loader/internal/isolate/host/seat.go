package host

import (
	"context"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// seat is the place of a plug-in in a worker: from before the worker opens it until after it has stopped it. A worker that has
// ended keeps those that it had.
type seat struct {
	plugin *Plugin
	worker *worker
	number uint16 // by which the worker knows the plug-in

	parked parked

	wears atomic.Bool // an instance is poisoned, or may be: it is started again, which may fail

	// Guarded by the group's mu.
	by    *hostLane // while the worker opens the plug-in, the lane by which
	base  uint64    // what is added to the library's own addresses, by the worker's word; or 0
	inUse int       // how many lanes calls have, or have parked, but for those of sessions
	// whileBetween ends, by endBetween, when the plug-in is about to be stopped; nil where nothing is between calls.
	whileBetween context.Context
	endBetween   context.CancelFunc
}

// sit takes a seat, which is to be opened. The caller holds p.mu, as for the functions that follow.
func (p *Plugin) sit(w *worker) *seat {
	s := &seat{plugin: p, worker: w}
	for slices.ContainsFunc(w.seats, func(other *seat) bool { return other.number == s.number }) {
		s.number++ // there are fewer plug-ins than numbers: each has a library's mappings, of which a process may have 65,530
	}
	w.seats = append(w.seats, s)
	p.opening = s
	return s
}

// vacate gives the seat back, and reports whether it was the last one: then the worker is ended.
func (s *seat) vacate() bool {
	w := s.worker
	if w.dead.Load() {
		return len(w.seats) == 1
	}
	w.seats = slices.DeleteFunc(w.seats, func(other *seat) bool { return other == s })
	if len(w.seats) > 0 {
		return false
	}
	w.group.retire(w)
	w.leave("", nil)
	return true
}

// seatOf returns the plug-in's seat, or nil.
func (w *worker) seatOf(p *Plugin) *seat {
	for _, s := range w.seats {
		if s.plugin == p {
			return s
		}
	}
	return nil
}

// owned are the lanes that calls of the plug-in own.
func (s *seat) owned() iter.Seq[*hostLane] {
	return func(yield func(*hostLane) bool) {
		for _, l := range s.worker.lanes {
			if l.owned() && l.seat == s && !yield(l) {
				return
			}
		}
	}
}

// busy reports whether there is such a lane.
func (s *seat) busy() bool {
	for range s.owned() {
		return true
	}
	return false
}

// at returns the seat of the plug-in whose library a fault was in, or of the one that it is likeliest to have been in, and what is added to
// that library's own addresses. All is the worker's word.
func (w *worker) at(f lane.FaultReport) (at *seat, base uint64) {
	for _, s := range w.seats {
		b := s.base
		if s.by != nil {
			if b = s.by.Loaded(); b == 0 { // its constructors may run
				b = f.Base
			}
		}
		if b <= f.PC && (at == nil || b > base) {
			at, base = s, b
		}
	}
	if at == nil && len(w.seats) > 0 {
		at, base = w.seats[0], w.seats[0].base
	}
	return at, base
}

// control takes a lane by which the worker opens the plug-in, or stops it, or a session of it. It waits where all are taken, and returns nil when the
// worker is dying. It is given back by release.
func (s *seat) control() *hostLane {
	p, w := s.plugin, s.worker
	p.mu.Lock()
	if w.refs == 0 {
		p.mu.Unlock()
		return nil
	}
	l := w.idle()
	if l == nil && w.stopParking() {
		l = w.idle()
	}
	switch {
	case l != nil:
	case w.room(): // also of a worker that has died: its memory says how
		l = w.addLane()
	default:
		turn := make(chan *hostLane, 1)
		w.controls = append(w.controls, turn)
		p.mu.Unlock()
		select {
		case l = <-turn:
		case <-w.dying:
			return nil
		}
		p.mu.Lock()
		if w.dead.Load() {
			p.mu.Unlock()
			return nil
		}
	}
	w.refs++
	l.renew(callctx.Background, s)
	l.control = true
	p.mu.Unlock()
	return l
}

// release gives a lane back that control has taken. The caller holds p.mu.
func (s *seat) release(l *hostLane) {
	l.clear()
	s.plugin.offered(l)
	s.worker.unref()
}

// exitPatience is how long the C library's exit handlers and destructors may take at most, in an orderly end.
const exitPatience = time.Second

// stop has the worker stop the plug-in, within WithStopTimeout. The last plug-in's worker ends by that: what is left of the time,
// up to exitPatience, is for what runs after ferrule_stop when the process ends by itself. Then it is killed, which is no error: the
// plug-in has been stopped.
func (s *seat) stop() error {
	p, w := s.plugin, s.worker
	p.mu.Lock()
	if w.dead.Load() {
		p.mu.Unlock()
		return nil
	}
	if len(w.seats) == 1 {
		p.retire(w)
	}
	if s.endBetween != nil {
		s.endBetween()
	}
	p.mu.Unlock()
	l := s.control()
	if l == nil {
		return nil
	}
	c := p.begin(l)
	deadline := time.Now().Add(p.options.StopTimeout)
	late := time.AfterFunc(p.options.StopTimeout, func() {
		w.expire("it had not stopped the plug-in", p.options.StopTimeout, "WithStopTimeout", p)
	})
	err := p.halt(c)
	c.over()
	p.mu.Lock()
	if err == nil && !w.retired && len(w.seats) > 1 {
		late.Stop()
		s.release(l)
		s.vacate()
		p.mu.Unlock()
		return nil
	}
	if err == nil && !w.retired { // those that were there were closed meanwhile: the process is to end, too
		p.retire(w)
		p.mu.Unlock()
		c = p.begin(l)
		err = p.halt(c)
		c.over()
		p.mu.Lock()
	}
	late.Stop()
	l.clear()
	ends := err == nil
	p.mu.Unlock()
	if ends {
		t := time.NewTimer(max(0, min(p.exitPatience, time.Until(deadline))))
		defer t.Stop()
		select { // it ends by itself; what it has started does not
		case <-w.dying:
		case <-p.hurry:
		case <-t.C:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.leave("", nil)
	w.unref()
	return err
}

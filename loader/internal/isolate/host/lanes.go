package host

import (
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
)

// hostLane is a lane of a worker. What is not package lane's is guarded by the engine's mu, or belongs to the call.
type hostLane struct {
	*lane.HostLane
	worker *worker

	owned     bool           // a call owns it, and its worker may be in it
	caller    callctx.Caller // the call's, which reads it without the lock: it changes when nobody owns the lane
	goroutine uintptr        // the one that the call is on, or 0
	asked     time.Time      // when its call was asked to stop; zero when it was not
	begun     time.Time      // when its call began, where there is a limit to how long it runs; else zero
	overdue   bool           // its call was asked to stop because of the limit
	killed    bool           // its call is why the worker was killed
	batch     bool           // its call is a batch
	viewed    bool           // its call is over, and its output still read in place

	scratch []byte // a host function's input
	call    call   // the owner's
}

// The calls of an engine hold, for package callctx, the engine; one that opens the plug-in, or closes it, holds control.
type control struct{ plugin *Plugin }

// inside returns how many of the engine's lanes are in use by the calls that a call comes from: by its context, and by the
// goroutine that it is on. The caller holds p.mu.
func (p *Plugin) inside(c *callctx.Caller) int {
	byContext, byGoroutine := 0, 0
	for outer := range c.Outer.Running() {
		if outer.Holds() == any(p) {
			byContext++
		}
	}
	if w, me := p.worker, cross.Goroutine(); w != nil && me != 0 {
		for _, l := range w.lanes {
			if l.owned && l.goroutine == me {
				byGoroutine++
			}
		}
	}
	return max(byContext, byGoroutine)
}

// opening reports whether a call comes from one by which p's worker starts: to wait for its end is to wait for oneself.
func opening(c *callctx.Caller, p *Plugin) bool {
	for outer := range c.Outer.Running() {
		if outer.Holds() == any(control{p}) {
			return true
		}
	}
	return false
}

// Owner is callctx.Wanted's.
func (p *Plugin) Owner() string { return p.lib.Manifest.Name }

// Holders is callctx.Wanted's: calls wait for any lane.
func (p *Plugin) Holders() [][]*callctx.Call {
	var calls []*callctx.Call
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.worker
	if w == nil || len(w.lanes)-len(w.free)-w.views < p.lanes {
		return nil
	}
	for _, l := range w.lanes {
		if l.owned {
			calls = append(calls, l.call.current.Load())
		}
	}
	return callctx.Each(calls)
}

// acquire makes the caller the owner of a lane of a living worker.
func (p *Plugin) acquire(c *callctx.Caller) (*hostLane, error) {
	for tried := false; ; {
		ended := c.Ended()
		p.mu.Lock()
		if p.closing {
			p.mu.Unlock()
			return nil, engine.ErrClosed
		}
		if ended {
			inside := p.inside(c)
			p.mu.Unlock()
			if inside >= p.lanes {
				return nil, engine.ErrReentrant // also where it could have waited for longer
			}
			return nil, c.GaveUp()
		}
		w := p.worker
		if w == nil {
			if tried && p.starting == nil && p.startErr != nil {
				err := p.startErr
				p.mu.Unlock()
				return nil, own(err)
			}
			if opening(c, p) {
				p.mu.Unlock()
				return nil, engine.ErrReentrant
			}
			wait, err := p.restart()
			p.mu.Unlock()
			if err != nil {
				return nil, err
			}
			tried = true
			select {
			case <-wait:
			case <-c.Done:
			}
			continue
		}
		var l *hostLane
		if len(w.lanes)-len(w.free)-w.views < p.lanes {
			if l = w.idle(); l == nil && len(w.lanes) < lane.MaxLanes &&
				(len(w.lanes) < engine.MaxDepth || p.inside(c) < engine.MaxDepth) { // or it is the innermost of an endless recursion
				l = w.addLane()
			}
		}
		if l != nil {
			p.give(l, c)
			l.goroutine = cross.Goroutine()
			p.mu.Unlock()
			return l, nil
		}
		if p.inside(c) >= min(p.lanes, engine.MaxDepth) {
			p.mu.Unlock()
			return nil, engine.ErrReentrant
		}
		mine := &waiter{*c, make(chan *hostLane, 1)}
		p.waiting = append(p.waiting, mine)
		var patience <-chan time.Time
		if w.views == lane.MaxLanes { // whoever waits may be the one who is to release them
			t := time.NewTimer(viewPatience)
			defer t.Stop()
			patience = t.C
		}
		p.mu.Unlock()
		waits, err := callctx.Wait(c.Outer, p)
		if err != nil {
			if l = p.giveUp(mine); l != nil {
				p.disown(l)
			}
			return nil, err
		}
		late := false
		select {
		case l = <-mine.lane:
		case <-c.Done:
			l = p.giveUp(mine)
		case <-patience:
			l, late = p.giveUp(mine), true
		}
		waits.Done()
		if l != nil {
			if !l.worker.dead.Load() && !c.Ended() {
				p.mu.Lock()
				l.goroutine = cross.Goroutine()
				p.mu.Unlock()
				return l, nil
			}
			p.disown(l)
		} else if late {
			return nil, engine.ErrViews
		}
	}
}

// viewPatience is how long a call waits while all lanes are held by views, before it takes it that nobody releases one.
const viewPatience = time.Second

// own returns an error that only its caller has: what several calls get is a copy for each.
func own(err error) error {
	switch err := err.(type) {
	case *engine.Crash:
		mine := *err
		return &mine
	case *engine.StartError:
		mine := *err
		return &mine
	case *inspect.Error:
		mine := *err
		return &mine
	}
	return err
}

// waiter is a call that waits for a lane. It gets one that it owns, or nil when it is to look by itself.
type waiter struct {
	caller callctx.Caller // not a pointer: then every call's would be on the heap
	lane   chan *hostLane
}

// giveUp ends waiting. It returns the lane that the waiter was given at the same moment, or nil.
func (p *Plugin) giveUp(mine *waiter) *hostLane {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, mine); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return nil
	}
	l := <-mine.lane // it was answered before
	if l == nil {
		p.wakeOne() // another one is to look
	}
	return l
}

// give makes a call the owner of the lane. The caller holds p.mu.
func (p *Plugin) give(l *hostLane, c *callctx.Caller) {
	p.calls++
	l.worker.refs++
	l.renew(*c)
	if p.options.CallTimeout > 0 {
		l.begun = time.Now()
	}
	if !p.watching && (c.Done != nil || p.options.CallTimeout > 0) {
		p.watching = true
		go p.watch()
	}
}

// renew forgets the call before. The caller holds p.mu.
func (l *hostLane) renew(c callctx.Caller) {
	l.owned, l.caller, l.goroutine = true, c, 0
	l.begun, l.asked, l.overdue, l.killed, l.batch = time.Time{}, time.Time{}, false, false, false
}

// clear says that no call is in the lane. The caller holds p.mu.
func (l *hostLane) clear() {
	l.owned, l.caller, l.goroutine, l.begun = false, callctx.Caller{}, 0, time.Time{}
}

// disown ends that.
func (p *Plugin) disown(l *hostLane) {
	if l.Extended() > keepExtended {
		l.Trim()
	}
	extended := l.Extended() > 0
	p.mu.Lock()
	defer p.mu.Unlock()
	l.clear()
	w := l.worker
	if l.viewed {
		l.viewed = false
		w.views--
		p.views--
	}
	switch {
	case w != p.worker || w.dead.Load():
		p.wakeOne()
	case len(p.waiting) > 0 && len(w.lanes)-len(w.free)-w.views <= p.lanes: // it is not for one who comes later
		next := p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
		p.give(l, &next.caller)
		next.lane <- l
	default:
		w.offer(l)
		p.wakeOne()
	}
	w.unref()
	p.called()
	if extended && !p.trimming {
		p.trimming = true
		time.AfterFunc(trimAfter, p.trim)
	}
}

// called ends what p.calls counted. The caller holds p.mu.
func (p *Plugin) called() {
	if p.calls--; p.closing && p.calls == 0 && p.starting == nil {
		close(p.drained)
	}
}

// A lane keeps memory for long payloads of up to keepExtended bytes, until trimAfter later.
const (
	keepExtended = 256 << 20
	trimAfter    = 2 * time.Second
)

// trim gives back what idle lanes have kept.
func (p *Plugin) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trimming = false // a lane in use asks again when it is given back
	w := p.worker
	if w == nil || p.closing {
		return
	}
	var long []*hostLane
	w.free = slices.DeleteFunc(w.free, func(l *hostLane) bool {
		if l.Extended() == 0 {
			return false
		}
		long = append(long, l)
		return true
	})
	w.refs++
	p.calls++ // Close needs an idle lane, and waits
	p.mu.Unlock()
	for _, l := range long {
		l.Trim()
	}
	p.mu.Lock()
	if w == p.worker {
		w.free = append(long, w.free...)
		for range long {
			p.wakeOne()
		}
	}
	w.unref()
	p.called()
}

// wakeOne has the first call that waits look for a lane. The caller holds p.mu.
func (p *Plugin) wakeOne() {
	if len(p.waiting) > 0 {
		p.waiting[0].lane <- nil
		p.waiting = slices.Delete(p.waiting, 0, 1)
	}
}

func (p *Plugin) wakeAll() {
	for len(p.waiting) > 0 {
		p.wakeOne()
	}
}

// idle takes the lane that was used last: the worker is most likely to wait for it awake. The caller holds the engine's
// mu, as for the methods that follow.
func (w *worker) idle() *hostLane {
	if len(w.free) == 0 {
		return nil
	}
	l := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	return l
}

// offer has l among the lanes that are to be had, unless the worker is dying: those have none.
func (w *worker) offer(l *hostLane) {
	if !w.dead.Load() {
		w.free = append(w.free, l)
	}
}

func (w *worker) addLane() *hostLane {
	l := &hostLane{HostLane: w.memory.NewLane(), worker: w}
	w.lanes = append(w.lanes, l)
	return l
}

// unref ends one use of the worker's memory.
func (w *worker) unref() {
	if w.refs--; w.refs == 0 {
		w.memory.Close()
	}
}

// The watcher asks calls to stop whose context has ended, and kills the worker of those that do not. It is one goroutine
// for an engine, and only while calls that can be asked are in progress; see package native.
const (
	watchInterval = time.Millisecond
	watchIdle     = 50 // intervals without such a call after which it ends
)

func (p *Plugin) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for quiet := 0; ; <-tick.C {
		p.mu.Lock()
		if p.look(time.Now()) {
			quiet = 0
		} else if quiet++; quiet >= watchIdle {
			p.watching = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

// look visits every call in progress, and reports whether one of them can be asked to stop. The caller holds p.mu.
func (p *Plugin) look(now time.Time) (found bool) {
	w := p.worker
	if w == nil {
		return false
	}
	limit := p.options.CallTimeout
	for _, l := range w.lanes {
		if !l.owned || l.caller.Done == nil && l.begun.IsZero() {
			continue
		}
		found = true
		switch {
		case !l.asked.IsZero():
			l.Cancel() // once more: the call may have begun after the first time
			if now.Sub(l.asked) > p.options.Grace {
				l.killed = true
				w.leave("killed by the host, because another call did not end in time")
				return true
			}
		case l.caller.Ended():
			l.asked = now
			l.Cancel()
		case !l.begun.IsZero() && now.Sub(l.begun) > limit:
			l.asked, l.overdue = now, true
			l.Cancel()
		}
	}
	return found
}

// settle says that the worker is not in the lane any more: nothing is to be asked of it, and another call may run.
func (l *hostLane) settle() {
	p := l.worker.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	l.clear()
	l.viewed = true
	l.worker.views++
	p.views++
	if l.worker.views == lane.MaxLanes { // those who wait did not know: nothing but patience ends it now
		p.wakeAll()
		return
	}
	p.wakeOne()
}

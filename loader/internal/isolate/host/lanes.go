package host

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// hostLane is a lane of a worker. What is not package lane's is guarded by the group's mu, or belongs to the call.
type hostLane struct {
	*lane.HostLane
	worker *worker
	seat   *seat // of the plug-in that the call is of, or the one before

	on       atomic.Uintptr // the goroutine of the call that owns it, whose worker may be in it; or somewhere, or nowhere
	callerMu sync.Mutex     // guards caller, which changes without the group's mu while nobody reads it; see parked.go
	caller   callctx.Caller // the call's, which reads it without a lock: it changes when nobody owns the lane
	nested   bool           // it comes from another call of the plug-in's
	next     atomic.Uint32  // below it among the parked ones
	asked    time.Time      // when its call was asked to stop; zero when it was not
	limit    *engine.Limit  // how long its call may run; nil is no limit
	begun    time.Time      // since when, where there is one
	overdue  bool           // its call was asked to stop because of the limit
	told     bool           // the host was told that it has not
	killed   bool           // its call is why the worker was killed
	batch    bool           // its call is a batch
	viewed   bool           // its call is over, and its output still read in place
	session  *session       // that its call is of; nil is none
	between  bool           // it is for what the plug-in does between calls; see between.go
	aside    bool           // it is for host functions of calls on other lanes; see aside.go
	control  bool           // its call opens or stops the plug-in, or a session

	scratch []byte // a host function's input
	call    call   // the owner's
}

// In place of a goroutine's number: nobody owns the lane, or a call on a goroutine that has no number.
const (
	nowhere   uintptr = 0
	somewhere uintptr = 1
)

// owned reports whether a call owns the lane.
func (l *hostLane) owned() bool { return l.on.Load() != nowhere }

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
	if me := goroutine.ID(); p.seat != nil && me != 0 {
		for l := range p.seat.owned() {
			if l.session == nil && l.on.Load() == me {
				byGoroutine++
			}
		}
	}
	callctx.Served(func(outer *callctx.Call) bool {
		if outer.Holds() == any(p) {
			byGoroutine++
		}
		return false
	})
	return max(byContext, byGoroutine)
}

// isOn says that the call, which has just got the lane, is on this goroutine, and finds out whether it comes from another one of the plug-in's. The
// caller holds p.mu.
func (p *Plugin) isOn(l *hostLane) {
	me := goroutine.ID()
	l.nested = l.caller.ComesFrom(func(outer *callctx.Call) bool {
		held := outer.Holds()
		return held == any(p) || held == any(control{p}) || held == any(between{l.seat})
	})
	if me != 0 && p.hosting.Load() > 0 {
		for other := range l.seat.owned() {
			l.nested = l.nested || other.on.Load() == me
		}
	}
	l.on.Store(max(me, somewhere))
}

// errPoisoned says that a call has found its instance panicked, and others in it. It may be made again; see await.
var errPoisoned = errors.New("the instance has panicked, and is in use")

// await waits until a call that failed with errPoisoned is to be made again. What it waits for may be a call in the worker that waits for
// it, which the worker cannot know. tries is how often the call was made.
func (p *Plugin) await(c *callctx.Caller, tries int) error {
	wait, err := callctx.Wait(c.Outer, renewal{p})
	if err != nil {
		return err
	}
	defer wait.Done()
	// Many that wait look some times a millisecond, together.
	waiting := time.Duration(p.awaiting.Add(1))
	defer p.awaiting.Add(-1)
	t := time.NewTimer(min(20*time.Microsecond<<min(tries, 10), max(1, waiting/4)*time.Millisecond, 100*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.Done:
		return new(engine.Ended)
	}
}

// renewal is what a call waits for that has found its instance panicked: that one of those in the worker ends. Which of them are in the
// instance, the worker alone knows.
type renewal struct{ *Plugin }

// Holders is callctx.Wanted's.
func (r renewal) Holders() [][]*callctx.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var calls []*callctx.Call
	if r.seat != nil {
		for l := range r.seat.owned() {
			calls = append(calls, l.call.current.Load())
		}
	}
	return callctx.Each(calls)
}

// opening reports whether a call comes from one by which p's worker starts: to wait for its end is to wait for oneself.
func opening(c *callctx.Caller, p *Plugin) bool {
	return c.ComesFrom(func(outer *callctx.Call) bool { return outer.Holds() == any(control{p}) })
}

// Owner is callctx.Wanted's.
func (p *Plugin) Owner() string { return cmp.Or(p.start.Owner, p.lib.Manifest.Name) }

// Holders is callctx.Wanted's: calls wait for any lane, of the plug-in's own calls where these have all that it may have.
func (p *Plugin) Holders() [][]*callctx.Call {
	var calls []*callctx.Call
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seat
	if s == nil {
		return nil
	}
	all := s.inUse >= p.lanes
	if !all && !s.worker.full() {
		return nil
	}
	for _, l := range s.worker.lanes {
		if (l.owned() || s.worker.passes(l)) && (!all || l.seat == s) {
			calls = append(calls, l.call.current.Load())
		}
	}
	return callctx.Each(calls)
}

// passes reports whether the lane is about to be had: it is being parked, or trimmed. The caller holds the group's mu.
func (w *worker) passes(l *hostLane) bool {
	return l.seat != nil && !l.owned() && !l.viewed && !l.between && !l.aside && !slices.Contains(w.free, l)
}

// acquire makes the caller the owner of a lane of a living worker.
func (p *Plugin) acquire(c *callctx.Caller) (*hostLane, error) { return p.acquireFor(c, nil) }

// acquireFor is acquire for a call of a session, of which only the worker will do that it was started in, and which takes no lane from other
// calls; nil is none.
func (p *Plugin) acquireFor(c *callctx.Caller, s *session) (*hostLane, error) {
	if s == nil {
		if l := p.takeParked(c); l != nil {
			return l, nil
		}
	}
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
		seat := p.seat
		if s != nil && s.seat != nil && s.seat != seat {
			p.mu.Unlock()
			return nil, engine.ErrLost
		}
		if seat == nil {
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
		w := seat.worker
		if seat.inUse >= p.lanes || len(w.free) == 0 {
			w.unpark()
		}
		var l *hostLane
		if s != nil || seat.inUse < p.lanes && p.admits(c) {
			if l = w.idle(); l == nil && w.room() &&
				(s != nil || len(w.lanes) < engine.MaxDepth || p.inside(c) < engine.MaxDepth) { // or it is the innermost of an endless recursion
				l = w.addLane()
			}
		}
		if l != nil {
			p.give(l, seat, c, s)
			p.isOn(l)
			p.mu.Unlock()
			return l, nil
		}
		stopping := p.stopping(c)
		if s == nil && !p.admits(c) && (opening(c, p) || stopping != nil) { // the gate would wait for this call
			p.mu.Unlock()
			return nil, engine.ErrReentrant
		}
		if s == nil && p.inside(c) >= min(p.lanes, engine.MaxDepth) {
			p.mu.Unlock()
			return nil, engine.ErrReentrant
		}
		if w.stopParking() { // since it was looked for
			p.mu.Unlock()
			continue
		}
		mine := &waiter{*c, s, make(chan *hostLane, 1)}
		p.waiting = append(p.waiting, mine)
		p.queued++
		var patience <-chan time.Time
		if w.onlyViews() { // whoever waits may be the one who is to release them
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
		late, stopped := false, false
		select {
		case l = <-mine.lane:
		case <-c.Done:
			l = p.giveUp(mine)
		case <-patience:
			l, late = p.giveUp(mine), true
		case <-stopping:
			l, stopped = p.giveUp(mine), true
		}
		waits.Done()
		if l != nil {
			if !l.worker.dead.Load() && !c.Ended() {
				p.mu.Lock()
				p.isOn(l)
				p.mu.Unlock()
				return l, nil
			}
			p.disown(l)
		} else if late {
			return nil, engine.ErrViews
		} else if stopped && !c.Ended() {
			return nil, engine.ErrReentrant
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
	caller  callctx.Caller // not a pointer: then every call's would be on the heap
	session *session
	lane    chan *hostLane
}

// giveUp ends waiting. It returns the lane that the waiter was given at the same moment, or nil.
func (p *Plugin) giveUp(mine *waiter) *hostLane {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, mine); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.queued--
		return nil
	}
	l := <-mine.lane // it was answered before
	if l == nil {
		p.wakeOne() // another one is to look
	}
	return l
}

// give makes a call the owner of the lane. The caller holds p.mu.
func (p *Plugin) give(l *hostLane, seat *seat, c *callctx.Caller, s *session) {
	p.calls++
	l.worker.refs++
	l.renew(*c, seat)
	if l.session = s; s == nil {
		seat.inUse++
		p.mayPark()
	}
	if c.Done != nil {
		p.watches()
	}
}

// watches has the watcher run. The caller holds p.mu.
func (p *Plugin) watches() {
	if !p.watching.Load() {
		p.watching.Store(true)
		go p.watch()
	}
}

// renew forgets the call before. The caller holds p.mu.
func (l *hostLane) renew(c callctx.Caller, s *seat) {
	l.on.Store(somewhere)
	l.control, l.caller, l.seat, l.nested = false, c, s, false
	l.limit, l.asked, l.overdue, l.told, l.killed, l.batch = nil, time.Time{}, false, false, false, false
}

// clear says that no call is in the lane. The caller holds p.mu.
func (l *hostLane) clear() {
	l.on.Store(nowhere)
	l.control, l.caller, l.limit = false, callctx.Background, nil
}

// disown ends that.
func (p *Plugin) disown(l *hostLane) {
	if p.park(l) {
		return
	}
	if l.Extended() > keepExtended {
		l.Trim()
	}
	extended := l.Extended() > 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveBack(l)
	if extended && !p.trimming {
		p.trimming = true
		time.AfterFunc(trimAfter, p.trim)
	}
}

// giveBack says that no call has the lane. The caller holds p.mu.
func (p *Plugin) giveBack(l *hostLane) {
	l.clear()
	w, seat := l.worker, l.seat
	if l.session == nil && !l.viewed {
		seat.inUse--
	}
	l.session = nil
	p.ran()
	if l.viewed {
		l.viewed = false
		w.views--
		p.views--
	}
	switch {
	case seat != p.seat || w.dead.Load():
		p.wakeOne()
	case w.others(p) || p.gate != nil || len(p.waiting) == 0 || seat.inUse >= p.lanes && p.waiting[0].session == nil || !p.waiting[0].session.fits(seat):
		p.offered(l)
	default: // it is not for one who comes later
		next := p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
		p.queued--
		p.give(l, seat, &next.caller, next.session)
		next.lane <- l
	}
	w.unref()
	p.called()
}

// offered has l among the lanes that are to be had, and those who wait look for one. The caller holds p.mu.
func (p *Plugin) offered(l *hostLane) {
	w := l.worker
	if len(w.controls) > 0 && !w.dead.Load() {
		w.controls[0] <- l
		w.controls = w.controls[1:]
		return
	}
	full := w.full()
	w.offer(l)
	if p.gate != nil || slices.ContainsFunc(p.waiting, func(w *waiter) bool { return w.session != nil }) {
		p.wakeAll() // not all of them wait for the same
	} else {
		p.wakeOne()
	}
	if full && p.queued > 0 { // others may wait for any
		for _, s := range w.seats {
			if s.plugin != p {
				s.plugin.wakeOne()
			}
		}
	}
}

// others reports whether others than the calls of p wait for a lane of the worker, where all are taken. The caller holds the group's mu.
func (w *worker) others(p *Plugin) bool {
	return len(w.controls) > 0 || w.full() && w.group.queued > len(p.waiting)
}

// full reports whether no lane is to be had. The caller holds the group's mu.
func (w *worker) full() bool { return len(w.free) == 0 && !w.room() }

// room reports whether a lane can be added for calls, or for what is done between them. The caller holds the group's mu.
func (w *worker) room() bool { return len(w.lanes)-w.asides < lane.MaxLanes }

// onlyViews reports whether views hold all lanes that calls may have. The caller holds the group's mu.
func (w *worker) onlyViews() bool { return w.views > 0 && w.views == lane.MaxLanes-w.between }

// admits reports whether the gate lets a call in: it is open, or waits for a call that this one comes from. The caller holds p.mu.
func (p *Plugin) admits(c *callctx.Caller) bool { return p.gate == nil || p.inside(c) > 0 }

// fits reports whether a call of the session may run there.
func (s *session) fits(seat *seat) bool { return s == nil || s.seat == nil || s.seat == seat }

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
	g := p.Group
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trimming = false // a lane in use asks again when it is given back
	w := g.worker
	if w == nil {
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
	g.mu.Unlock()
	for _, l := range long {
		l.Trim()
	}
	g.mu.Lock()
	for _, l := range long {
		p.offered(l)
	}
	w.unref()
}

// wakeOne has the first call that waits look for a lane. The caller holds p.mu.
func (p *Plugin) wakeOne() {
	if len(p.waiting) > 0 {
		p.waiting[0].lane <- nil
		p.waiting = slices.Delete(p.waiting, 0, 1)
		p.queued--
	}
}

func (p *Plugin) wakeAll() {
	for len(p.waiting) > 0 {
		p.wakeOne()
	}
}

// idle takes the lane that was used last: the worker is most likely to wait for it awake. The caller holds the group's
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
	w.numbered[l.Index()] = l
	return l
}

// spare returns a lane that is nobody's, and leaves one for closing; nil where there is none.
func (w *worker) spare() *hostLane {
	w.unpark()
	switch {
	case len(w.free) > 1:
		return w.idle()
	case w.room():
		return w.addLane()
	}
	return nil
}

// unref ends one use of the worker's memory.
func (w *worker) unref() {
	if w.refs--; w.refs == 0 {
		w.close()
	}
}

// The watcher asks calls to stop whose context has ended, and kills the worker of those that do not. It is one goroutine
// for a group, and only while calls that can be asked, or host functions, are in progress; see package native. It also looks
// whether threads wait for a lane while a host function runs.
const (
	watchInterval = time.Millisecond
	watchIdle     = 50 // intervals without such a call after which it ends
)

func (g *Group) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for quiet := 0; ; <-tick.C {
		g.mu.Lock()
		if g.look() {
			quiet = 0
		} else if quiet++; quiet >= watchIdle {
			g.watching.Store(false)
			if !g.look() { // or somebody has seen that it watches
				g.mu.Unlock()
				return
			}
			g.watching.Store(true)
		}
		g.mu.Unlock()
	}
}

// look visits every call in progress, and reports whether one of them can be asked to stop, or is in a host function. The caller holds g.mu.
func (g *Group) look() (found bool) {
	for l := range g.serving() {
		found = true
		l.worker.addAsides(l)
	}
	w := g.worker
	if w == nil {
		return found
	}
	for _, l := range w.lanes {
		may, late := g.lookAt(l)
		found = found || may
		if late {
			w.leave("killed by the host, because another call did not end in time", l.seat.plugin)
			return true
		}
	}
	return found
}

// lookAt is look at one lane: may says that its call can be asked to stop, and late that it has not for too long.
func (g *Group) lookAt(l *hostLane) (may, late bool) {
	if !l.owned() {
		return false, false
	}
	l.callerMu.Lock() // until then the call is not over, or its caller is gone
	defer l.callerMu.Unlock()
	if l.caller.Done == nil && l.limit == nil {
		return false, false
	}
	now := time.Now() // for each call: a round may be held up, and no call is killed before its time
	switch {
	case !l.asked.IsZero():
		l.Cancel() // once more: the call may have begun after the first time
		if l.overdue && !l.told && now.Sub(l.asked) >= min(engine.OverdueAfter, g.options.Grace) {
			l.told = true
			l.seat.plugin.host.Overdue(l.limit)
		}
		if now.Sub(l.asked) > g.options.Grace {
			l.killed = true
			return true, true
		}
	case l.caller.Ended():
		l.asked = now
		l.Cancel()
	case l.limit != nil && now.Sub(l.begun) >= l.limit.After:
		l.asked, l.overdue = now, true
		l.Cancel()
	}
	return true, false
}

// settle says that the worker is not in the lane any more: nothing is to be asked of it, and another call may run.
func (l *hostLane) settle() {
	p := l.seat.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	l.clear()
	if l.session == nil {
		l.seat.inUse--
	}
	l.session = nil
	p.ran()
	l.viewed = true
	l.worker.views++
	p.views++
	if l.worker.onlyViews() { // those who wait did not know: nothing but patience ends it now
		for _, s := range l.worker.seats {
			s.plugin.wakeAll()
		}
		return
	}
	p.wakeOne()
}

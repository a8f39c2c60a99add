package host

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// Several threads of a plug-in may call host functions during one call, each of which may wait for another. By the call's own lane one
// of them is served at a time. The worker says by a word of the lane that others wait, and the watcher, who looks while a
// host function runs, then adds lanes that are for nothing else. A message there says which call it belongs to.

// serves says that a host function of the call runs, and sees to it that there is a watcher meanwhile.
func (c *call) serves() {
	c.serving.Store(true)
	if !c.watching.Load() {
		c.mu.Lock()
		c.watches()
		c.mu.Unlock()
	}
}

// serving are the lanes of which a host function runs, also of a worker that is being stopped. The caller holds g.mu.
func (g *Group) serving() iter.Seq[*hostLane] {
	return func(yield func(*hostLane) bool) {
		for _, w := range g.unburied {
			if w.dead.Load() {
				continue
			}
			for _, l := range slices.Clone(w.lanes) {
				if l.call.serving.Load() && !yield(l) {
					return
				}
			}
		}
	}
}

// addAsides adds lanes for the threads that wait during the call on l. How many, is the worker's word. The caller holds the group's mu.
func (w *worker) addAsides(l *hostLane) {
	waiting, added := l.Waiting(), uint32(0)
	for ; added < waiting && w.asides < lane.MaxAside && !w.dead.Load() && l.seat != nil; added++ {
		w.asides++
		aside := w.addLane()
		aside.aside, aside.seat = true, l.seat
		w.refs++
		go l.seat.plugin.watchAside(aside)
	}
	if added > 0 {
		l.Added(waiting, added)
	}
}

// watchAside serves the lane until the worker is dead.
func (p *Plugin) watchAside(l *hostLane) {
	c := p.begin(l)
	c.apart, c.aside = true, true
	_, err := l.Room(0, 0)
	if err == nil {
		l.Call(lane.OpAside, 0, 0, 0)
		if _, err = c.finish(); !l.worker.dead.Load() {
			_ = c.garbage(fmt.Errorf("the end of a lane that has none (%v)", err))
		}
	}
	c.over()
	p.mu.Lock()
	defer p.mu.Unlock()
	l.aside = false
	l.clear()
	l.worker.unref()
}

// caller returns whose host function is called, and the context for it: of the call itself, or, aside, of the one that the message names.
// That call does not end before leave was called. of is its lane, where it is the call of a function, and a thread calls.
func (c *call) caller(m lane.Message) (p *Plugin, of *hostLane, ctx *callctx.Call, leave func(), err error) {
	if !c.aside {
		if m.Flags&lane.FlagThread == 0 || c.apart {
			return c.Plugin, nil, c.hostContext(), func() {}, nil
		}
		return c.Plugin, c.lane, c.hostContext(), c.threadInside(), nil
	}
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		l, function := c.another(int(m.Status))
		if l == nil {
			return nil, nil, nil, nil, fmt.Errorf("a host function for the call on lane %d, which has none", m.Status)
		}
		// From here on the call waits at its end, if it does not do so already.
		leave := l.call.threadInside()
		p, ctx := c.within(l)
		if ctx != nil {
			if function && m.Flags&lane.FlagThread != 0 {
				of = l
			}
			return p, of, ctx, leave, nil
		}
		leave()
		// The worker asks aside after something was asked by the lane itself: that is being taken in, unless the worker lies.
		select {
		case <-time.After(wait):
		case <-c.lane.worker.dying:
			return nil, nil, nil, nil, errDying
		}
	}
}

var errDying = errors.New("the worker is dying")

// another returns the lane with this number where a call is on it, and whether that is of a function; nil where there is none.
func (c *call) another(number int) (l *hostLane, function bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.lane.worker
	if number < 0 || number >= len(w.lanes) {
		return nil, false
	}
	l = w.lanes[number]
	if l.seat == nil || l.aside || !l.owned() && !l.between {
		return nil, false
	}
	return l, l.owned() && !l.control
}

// within returns the context of the call on the lane, and whose call it is; nil where it has none yet, or none any more.
func (c *call) within(l *hostLane) (*Plugin, *callctx.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.seat.plugin, l.call.current.Load()
}

// threadInside has the call wait, at its end, until leave was called.
func (c *call) threadInside() (leave func()) {
	c.threads.Add(1)
	return func() { c.threads.Add(-1) }
}

// hasLeft takes in that a host function of the call on the lane, which a thread has called, has ended its goroutine.
func (l *hostLane) hasLeft() {
	p := l.worker.group
	p.mu.Lock()
	defer p.mu.Unlock()
	l.seat.wears.Store(true) // other calls may find the instance so before this one comes back
	l.call.left.Store(true)
}

// cancelEnded has the plug-in know that the call with this number was ended by a host function when that returns.
func (c *call) cancelEnded(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lane.worker.lanes[number]
	l.callerMu.Lock()
	defer l.callerMu.Unlock()
	if l.caller.Ended() {
		l.Cancel()
	}
}

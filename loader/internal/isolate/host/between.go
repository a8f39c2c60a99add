package host

import (
	"context"
	"encoding/binary"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// between is what calls hold, for package callctx, that a plug-in makes between calls (rule R27).
type between struct{ seat *seat }

// stopping returns what is closed when the instance is about to be stopped from whose doings between calls the call comes: from then on it
// is not to wait, because what it waits for may be the call that stops the instance, which waits for it. nil where it comes from none, of
// the worker that there is. The caller holds p.mu.
func (p *Plugin) stopping(c *callctx.Caller) (stops <-chan struct{}) {
	c.ComesFrom(func(outer *callctx.Call) bool {
		own := p.seat != nil && outer.Holds() == any(between{p.seat})
		if own {
			stops = outer.Done()
		}
		return own
	})
	return stops
}

// mostBetween is how many lanes a worker gets for that.
const mostBetween = 64

// moreBetween adds a lane by which the plug-in reaches its host between calls, and watches it. The worker gets its number; or a status where it has
// enough of them.
func (c *call) moreBetween() error {
	p, w, s := c.Plugin, c.lane.worker, c.lane.seat
	p.mu.Lock()
	var l *hostLane
	if w.between < mostBetween && !w.dead.Load() {
		l = w.spare()
	}
	if l != nil {
		if s.endBetween == nil {
			s.whileBetween, s.endBetween = context.WithCancel(context.Background())
		}
		l.between, l.seat = true, s
		w.between++
		w.refs++
	}
	p.mu.Unlock()
	if l == nil {
		return c.lane.Answer(int32(abi.StatusNoMemory), nil)
	}
	go p.watchBetween(l)
	return c.lane.Answer(int32(abi.StatusOK), binary.LittleEndian.AppendUint32(nil, uint32(l.Index())))
}

// watchBetween serves the lane until the plug-in needs it no more, or the worker is dead.
func (p *Plugin) watchBetween(l *hostLane) {
	w := l.worker
	ctx, cancel := context.WithCancel(l.seat.whileBetween)
	defer cancel()
	p.mu.Lock()
	l.caller = callctx.Caller{Context: ctx, Done: ctx.Done()}
	p.mu.Unlock()
	c := p.begin(l)
	c.apart, c.ends = true, cancel
	_, err := l.Room(0, 0)
	if err == nil {
		l.Call(lane.OpBetween, 0, 0, 0)
		if _, err = c.finish(); err != nil && !w.dead.Load() {
			err = c.garbage(err) // it has no other end
		}
	}
	c.over()
	c.ends = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	l.between = false
	w.between--
	l.clear()
	if err == nil {
		p.offered(l)
	}
	w.unref()
}

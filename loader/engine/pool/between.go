package pool

import (
	"context"
	"slices"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// Background gives Start a context for what the plug-in does while no call runs (rule R27), which is a Call, too: on any goroutine, until Stop
// returns. It ends before Stop begins, which waits for the goroutines that use it; calls of the plug-in that are made with it and need this
// instance fail from then on. When Start fails, it ends with it. It is the same each time. It is for a Call that Starts alone.
func (c *Call) Background() context.Context {
	i := c.inst
	i.making.Lock()
	defer i.making.Unlock()
	if i.between == nil {
		ended, end := context.WithCancel(context.Background())
		b := &between{inst: i, cancel: end}
		b.Call.ctx = callctx.NewCalls(callctx.Caller{Context: ended, Done: ended.Done()}, c.pool.name, b, 1).Take()
		b.pool, b.Call.inst, b.kind = c.pool, i, ofBetween
		i.between = b
	}
	return &i.between.Call
}

// between is what an instance does between calls.
type between struct {
	Call
	inst   *instance
	cancel context.CancelFunc
}

// takeBetween tells what the instance does between calls that it ends, and returns it; nil where it does nothing.
func (i *instance) takeBetween() *between {
	i.making.Lock()
	defer i.making.Unlock()
	b := i.between
	i.between = nil
	if b != nil {
		b.cancel()
	}
	return b
}

// over lets nobody use it any more.
func (b *between) over() {
	if b != nil {
		b.Call.end()
	}
}

// outOf returns the plug-in's instance from which a call comes that was made between calls, or nil. mu is held.
func (p *Pool) outOf(c *callctx.Caller) *instance {
	if b := p.betweenOf(c); b != nil {
		return b.inst
	}
	return nil
}

// betweenOf returns what an instance of the plug-in's does between calls where a call comes from that, or nil. mu is held.
func (p *Pool) betweenOf(c *callctx.Caller) (b *between) {
	c.ComesFrom(func(outer *callctx.Call) bool {
		of, own := outer.Holds().(*between)
		if own = own && of.pool == p; own {
			b = of
		}
		return own
	})
	return b
}

// stopping returns what is closed when the instance is about to be stopped from whose doings between calls the call comes: from then on it
// is not to wait for other calls, which may wait for that. nil where it comes from none.
func (p *Pool) stopping(c *callctx.Caller) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.betweenOf(c); b != nil && slices.Contains(p.instances, b.inst) {
		return b.Done()
	}
	return nil
}

// stuck reports whether the call comes from what an instance does between calls, and would wait for what waits for that: for the instance,
// whose Stop does, or at the gate, behind which it is changed. mu is held.
func (p *Pool) stuck(c *callctx.Caller) bool {
	inst := p.outOf(c)
	switch {
	case inst == nil:
		return false
	case p.gate != nil:
		return true
	case !inst.poisoned && !inst.renewing:
		return false
	}
	free := p.free()
	return free == nil || free == inst
}

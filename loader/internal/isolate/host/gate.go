package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// The gate has a plug-in's calls wait while something is done that concerns all of its instances; see package native. Calls of sessions, which
// have instances of their own, go on.

// shut returns when no call of the plug-in runs, and none begins before unshut. The error is Append's for a call that waited in vain.
func (p *Plugin) shut(c *callctx.Caller) error {
	if c.Over {
		return c.GaveUp()
	}
	p.mu.Lock()
	within := p.inside(c) > 0 || p.stopping(c) != nil
	p.mu.Unlock()
	if within || opening(c, p) {
		return engine.ErrReentrant
	}
	if err := c.Lock(p.gating, p.closed); err != nil { // one at a time
		return err
	}
	p.mu.Lock()
	p.gate = make(chan struct{}, 1)
	gate := p.gate
	if p.seat != nil {
		p.seat.stopParking()
	}
	p.wakeAll() // those that come from what is done between calls are not to wait any more
	p.mu.Unlock()
	for {
		p.mu.Lock()
		running := p.running()
		p.mu.Unlock()
		if running == 0 {
			return nil
		}
		select {
		case <-gate:
		case <-p.closed:
			p.unshut()
			return engine.ErrClosed
		case <-c.Done:
			p.unshut()
			return c.GaveUp()
		}
	}
}

// running returns how many calls run that the gate waits for. The caller holds p.mu.
func (p *Plugin) running() (n int) {
	if p.seat != nil {
		for l := range p.seat.owned() {
			if l.session == nil {
				n++
			}
		}
	}
	return n
}

// ran has the gate look again. The caller holds p.mu.
func (p *Plugin) ran() {
	if p.gate != nil {
		select {
		case p.gate <- struct{}{}:
		default:
		}
	}
}

// unshut lets calls in again.
func (p *Plugin) unshut() {
	p.mu.Lock()
	p.gate = nil
	p.wakeAll()
	p.mu.Unlock()
	<-p.gating
}

// keep runs an operation of the worker's that concerns all instances, while the gate is shut, and returns what comes of it, in memory of its own.
// what names, at any time, what has not returned. done is called where the operation is a success; replaced is the call's, or nil.
func (p *Plugin) keep(caller *callctx.Caller, op lane.Op, what func() string, in []byte, done func(), replaced func(ok bool)) ([]byte, abi.Status, error) {
	lasting := caller.WithoutCancel() // what has begun is not given up half way: other users' sessions are in that worker
	l, err := p.acquireFor(&lasting, caretaker)
	if err != nil {
		return nil, 0, err
	}
	c := p.begin(l)
	defer c.end()
	c.replaced = replaced
	late := time.AfterFunc(p.options.StartTimeout, func() {
		l.worker.expire(what()+" had not returned", p.options.StartTimeout, "WithStartTimeout", p)
	})
	defer late.Stop()
	m, out, err := c.request(op, in)
	if op == lane.OpConfigure && (err != nil || m.Status != int32(abi.StatusOK)) {
		l.seat.wears.Store(true) // an instance that has not taken its old settings back is poisoned, too (rule R28)
	}
	if err != nil {
		return nil, 0, because(caller, err)
	}
	if m.Status < 0 {
		return nil, 0, c.garbage(fmt.Errorf("the status %d", m.Status))
	}
	switch abi.Status(m.Status) {
	case abi.StatusPanic:
		l.seat.wears.Store(true)
	case abi.StatusOK:
		done() // before another worker may be started
	}
	return bytes.Clone(out), abi.Status(m.Status), nil
}

// Configure is engine.Configurable's.
func (p *Plugin) Configure(ctx context.Context, config []byte) ([]byte, abi.Status, error) {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return nil, 0, err
	}
	if err := p.shut(&caller); err != nil {
		return nil, 0, err
	}
	open := sync.OnceFunc(p.unshut)
	defer open()
	accept := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.config = config // for the next worker
	}
	if p.lib.HasConfigure {
		return p.keep(&caller, lane.OpConfigure, func() string { return abi.SymbolConfigure }, config, accept, nil)
	}
	var known atomic.Bool // others may give it settings from then on
	what := func() string {
		if known.Load() {
			return abi.SymbolStop + " of an instance that is of no use any more"
		}
		return abi.SymbolStart + " of a new instance"
	}
	done := func() {
		if !known.Load() {
			accept()
		}
	}
	return p.keep(&caller, lane.OpConfigure, what, config, done, func(ok bool) {
		if ok {
			accept()
		}
		known.Store(true)
		open() // what instances do between calls may wait for a call, and their ferrule_stop for that
	})
}

// Hold is engine.Holder's.
func (p *Plugin) Hold(ctx context.Context) (engine.Hold, error) {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.shut(&caller); err != nil {
		return nil, err
	}
	return &hold{p, caller}, nil
}

type hold struct {
	plugin *Plugin
	caller callctx.Caller
}

// Save is engine.Hold's.
func (h *hold) Save() (states [][]byte, message []byte, status abi.Status, err error) {
	out, status, err := h.plugin.keep(&h.caller, lane.OpSave, func() string { return abi.SymbolSave }, nil, func() {}, nil)
	if err != nil || status != abi.StatusOK {
		return nil, out, status, err
	}
	if states, err = wire.ParseBatch(out, nil); err == nil && len(states) != h.plugin.start.Instances {
		err = errors.New("not one state for each instance")
	}
	if err != nil {
		return nil, nil, 0, &engine.TooLong{Text: fmt.Sprintf("the state that the worker has saved: %v", err)}
	}
	return states, nil, abi.StatusOK, nil
}

// Release is engine.Hold's.
func (h *hold) Release() { h.plugin.unshut() }

// Retire is engine.Hold's.
func (h *hold) Retire() {
	h.plugin.beginClose()
	h.plugin.unshut()
}

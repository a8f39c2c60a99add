package native

import (
	"context"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// gate has a plug-in's calls wait, without closing it, while something is done that concerns all of its instances. It is shut by taking every
// slot as soon as no call has it; calls that come meanwhile queue up as for a slot, but those that come from a call which the gate still
// waits for: they get a slot that it has already.
type gate struct {
	held  []*slot       // locked; guarded by the plug-in's mu
	fresh []*instance   // that are to take the place of others; likewise
	full  chan struct{} // closed when all slots are held the first time
}

// shut returns when no call of the plug-in runs, and none begins before open. The error is Append's for a call that waited in vain; nothing
// is shut then.
func (p *Plugin) shut(ctx context.Context) (c callctx.Caller, err error) {
	if c, err = callctx.AskUnended(ctx); err != nil {
		return c, err
	}
	if p.inside(&c) > 0 || slices.ContainsFunc(p.instances, func(inst *instance) bool { return inst.changes(&c) }) {
		return c, engine.ErrReentrant
	}
	if err := c.Lock(p.gating, p.refused); err != nil { // one at a time
		return c, err
	}
	g := &gate{full: make(chan struct{})}
	p.mu.Lock()
	p.gate = g
	p.waiting = slices.DeleteFunc(p.waiting, func(w waiter) bool { // as if they came now
		turn := w.changes && !w.within
		if turn {
			w.slot <- nil
		}
		return turn
	})
	p.mu.Unlock()
	ended, refused := false, false
	for again := 50 * time.Microsecond; !ended && !refused; again = min(4*again, time.Second) {
		p.collect()
		select {
		case <-g.full:
			if refused, ended = p.lockInstances(&c); !refused && !ended {
				return c, nil
			}
		case <-time.After(again): // see giveBack
		case <-p.refused:
			refused = true
		case <-c.Done:
			ended = true
		}
	}
	p.unshut()
	if refused {
		return c, engine.ErrClosed
	}
	return c, c.GaveUp()
}

// collect takes the slots that no call has.
func (p *Plugin) collect() {
	for _, s := range *p.slots.Load() {
		s.attend()
		stress.Yield()
		if s.phase.CompareAndSwap(idle, locked) {
			p.releaseSlow(s)
		}
	}
}

// keep takes a slot that is given back. The caller holds the plug-in's mu, and has locked the slot.
func (g *gate) keep(s *slot, all int) {
	g.held = append(g.held, s)
	s.held.Store(true)
	if len(g.held) == all {
		select {
		case <-g.full:
		default:
			close(g.full)
		}
	}
}

// lend gives a slot to a call that comes from one which the gate waits for, of an instance that is sound, where it has one; nil where it has
// none at all. The caller holds the plug-in's mu.
func (g *gate) lend() *slot {
	if len(g.held) == 0 {
		return nil
	}
	i := max(0, slices.IndexFunc(g.held, func(s *slot) bool { return !s.inst.poisoned.Load() }))
	s := g.held[i]
	g.held = slices.Delete(g.held, i, i+1)
	s.held.Store(false)
	s.unlock()
	return s
}

// changing reports whether the call comes from what is done behind a gate, which would wait for it. The caller holds p.mu.
func (p *Plugin) changing(c *callctx.Caller) bool {
	changes := func(inst *instance) bool { return inst.changes(c) }
	return slices.ContainsFunc(p.instances, changes) || p.gate != nil && slices.ContainsFunc(p.gate.fresh, changes)
}

// lockInstances waits until no instance is being renewed, and keeps them from being.
func (p *Plugin) lockInstances(c *callctx.Caller) (refused, ended bool) {
	for i, inst := range p.instances {
		select {
		case inst.renewing <- struct{}{}:
			continue
		case <-p.refused:
			refused = true
		case <-c.Done:
			ended = true
		}
		for _, locked := range p.instances[:i] {
			<-locked.renewing
		}
		break
	}
	return refused, ended
}

// open lets calls in again.
func (p *Plugin) open() {
	for _, inst := range p.instances {
		<-inst.renewing
	}
	p.unshut()
}

// unshut is open where the instances are not locked.
func (p *Plugin) unshut() {
	p.mu.Lock()
	held := p.gate.held
	p.gate = nil
	p.mu.Unlock()
	for _, s := range held {
		s.held.Store(false)
		p.releaseSlow(s)
	}
	<-p.gating
}

// Configure gives new settings to all instances, or to none; see engine.Configurable.
func (p *Plugin) Configure(ctx context.Context, config []byte) ([]byte, abi.Status, error) {
	return p.ConfigureThen(ctx, config, func(error) {})
}

// ConfigureThen is Configure, which calls replaced where instances are to be stopped before it returns, when calls are let in again: with nil
// after new instances took the place of these, or with why none has.
func (p *Plugin) ConfigureThen(ctx context.Context, config []byte, replaced func(error)) ([]byte, abi.Status, error) {
	c, err := p.shut(ctx)
	if err != nil {
		return nil, 0, err
	}
	if p.image.configure == 0 {
		old, err := p.startBeside(c, config)
		p.mu.Lock()
		p.opening++ // Close waits for those that are still to be stopped
		p.mu.Unlock()
		p.open()
		if len(old) > 0 {
			replaced(err)
		}
		p.stopReplaced(c, old)
		return nil, 0, err
	}
	defer p.open()
	before := p.settings.Get()
	for i, inst := range p.instances {
		if inst.poisoned.Load() { // it gets them when it is started anew
			continue
		}
		out, status, violation := inst.controlCall(c, p.image.configure, config)
		if violation == nil && status == abi.StatusOK {
			continue
		}
		if status == abi.StatusPanic {
			inst.poisoned.Store(true)
		}
		for _, changed := range p.instances[:i] {
			changed.configureBack(c, before)
		}
		if violation != nil {
			return nil, 0, violation
		}
		return out, status, nil
	}
	p.settings.Set(config)
	return nil, abi.StatusOK, nil
}

// configureBack gives an instance the settings that it had. One that does not take them is started anew.
func (inst *instance) configureBack(c callctx.Caller, before []byte) {
	if inst.poisoned.Load() {
		return
	}
	_, status, violation := inst.controlCall(c, inst.plugin.image.configure, before)
	if violation != nil || status != abi.StatusOK {
		inst.poisoned.Store(true)
	}
}

// startBeside starts new instances with new settings, and puts them in the place of those that there are. It returns those of
// which the plug-in has no use any more, to be stopped when the gate is open again, because what they do between calls may wait for a call:
// what was in their place, or, where one does not start and all is as it was, those that did. The gate is shut.
func (p *Plugin) startBeside(c callctx.Caller, config []byte) (old []*instance, err error) {
	if p.image.start == 0 {
		return nil, nil // it has no settings
	}
	for _, inst := range p.instances {
		fresh := p.newInstance(inst.number, inst.thread)
		p.mu.Lock()
		p.gate.fresh = append(p.gate.fresh, fresh)
		p.mu.Unlock()
		if err = fresh.start(c, config, nil); err != nil {
			fresh.drop()
			break
		}
		old = append(old, fresh)
	}
	if err != nil {
		return old, err
	}
	p.settings.Set(config)
	for i, inst := range p.instances {
		inst.exchange(old[i])
		inst.renewals++
		inst.poisoned.Store(false)
	}
	return old, nil
}

// stopReplaced stops instances that startBeside has returned.
func (p *Plugin) stopReplaced(c callctx.Caller, list []*instance) {
	for _, inst := range list {
		warning := inst.stop(c)
		inst.drop()
		p.warn(c.Context, warning)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	p.sessionsChange.Broadcast()
}

// exchange gives each of two instances what the other one is. No call of either runs, or is to.
func (inst *instance) exchange(other *instance) {
	inst.state, other.state = other.state, inst.state
	inst.running, other.running = other.running, inst.running
	other.between.Store(inst.between.Swap(other.between.Load()))
}

// drop frees an instance that startBeside has made, and that is stopped.
func (inst *instance) drop() {
	inst.control.phase.Store(closed)
	freeSlot(inst.control)
}

// Hold shuts the gate; see engine.Holder.
func (p *Plugin) Hold(ctx context.Context) (engine.Hold, error) {
	c, err := p.shut(ctx)
	if err != nil {
		return nil, err
	}
	return &hold{plugin: p, caller: c}, nil
}

type hold struct {
	plugin   *Plugin
	caller   callctx.Caller
	warnings []string // for when calls are let in again
}

// Save is engine.Hold's. An instance that panicked is started anew first: it has no state that could be trusted.
func (h *hold) Save() (states [][]byte, message []byte, status abi.Status, err error) {
	p := h.plugin
	for _, inst := range p.instances {
		if inst.poisoned.Load() {
			h.warnings = append(h.warnings, inst.stop(h.caller))
			if err := inst.start(h.caller, p.settings.Get(), nil); err != nil {
				return nil, nil, 0, err
			}
			inst.renewals++ // who looked whether it can be renewed looks anew
			inst.poisoned.Store(false)
		}
		out, status, violation := inst.controlCall(h.caller, p.image.save, nil)
		switch {
		case violation != nil:
			return nil, nil, 0, violation
		case status == abi.StatusPanic:
			inst.poisoned.Store(true)
			fallthrough
		case status != abi.StatusOK:
			return nil, out, status, nil
		}
		states = append(states, out)
	}
	return states, nil, abi.StatusOK, nil
}

// Release is engine.Hold's.
func (h *hold) Release() {
	h.plugin.open()
	for _, warning := range h.warnings {
		h.plugin.warn(h.caller.Context, warning)
	}
}

// Retire is engine.Hold's.
func (h *hold) Retire() {
	h.plugin.beginClose()
	h.Release()
}

package pool

import (
	"context"
	"slices"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// gate has a plug-in's calls wait, without closing it, while something is done that concerns all of its instances: all calls but those that
// come from one that the gate waits for.
type gate struct {
	quiet chan struct{} // closed when no call is left
}

// calm takes in that a call has ended. mu is held.
func (p *Pool) calm() {
	if len(p.calls) > 0 {
		return
	}
	if p.gate != nil {
		select {
		case <-p.gate.quiet:
		default:
			close(p.gate.quiet)
		}
	}
	if p.closing {
		close(p.drained)
	}
}

// shut returns when no call runs, and none begins before unshut. The error is Append's for a call that waited in vain; nothing is shut then.
func (p *Pool) shut(ctx context.Context) (c callctx.Caller, err error) {
	if c, err = callctx.AskUnended(ctx); err != nil {
		return c, err
	}
	p.mu.Lock()
	within := len(p.inside(&c, goroutine.ID())) > 0 || p.outOf(&c) != nil
	p.mu.Unlock()
	if within {
		return c, engine.ErrReentrant
	}
	if err := c.Lock(p.gating, p.refused); err != nil { // one at a time
		return c, err
	}
	g := &gate{make(chan struct{})}
	p.mu.Lock()
	if p.closing { // which waits for who is in the gate, and not the other way round
		p.mu.Unlock()
		<-p.gating
		return c, engine.ErrClosed
	}
	p.settle()
	p.gate = g
	p.lookAgain()
	p.calm()
	p.mu.Unlock()
	select {
	case <-g.quiet:
		return c, nil
	case <-p.refused:
		p.unshut()
		return c, engine.ErrClosed
	case <-c.Done:
		p.unshut()
		return c, c.GaveUp()
	}
}

// abandoned says why a start was given up: Start knows that nobody waits any more, and not why. It runs foreign code.
func abandoned(err error, c *callctx.Caller) error {
	switch late := err.(type) {
	case *engine.Ended:
		return c.GaveUp()
	case *engine.Overrun:
		if why := engine.Cause(c.Context); why != nil {
			late.Cause = why
		}
	}
	return err
}

// unshut lets calls in again.
func (p *Pool) unshut() {
	p.mu.Lock()
	p.gate = nil
	p.dispatch()
	p.unsettle()
	p.mu.Unlock()
	<-p.gating
}

// changing is what an instance's change runs as: calls that come from it are known, and refused, because they would wait for it.
func (p *Pool) changing(c *callctx.Caller, inst *instance) *running {
	r := &running{changes: true}
	r.ctx, r.pool, r.inst, r.kind = callctx.NewCalls(c.WithoutCancel(), p.name, r, 1).Take(), p, inst, ofChange
	r.abandoned, r.run = c.Done, r
	return r
}

// control has an instance that no call is in run one of the functions that change or save it.
func (p *Pool) control(c *callctx.Caller, inst *instance, name string, fn Control, in []byte) (out []byte, status abi.Status, err error) {
	r := p.changing(c, inst)
	defer r.end()
	out, status = []byte("it ended its goroutine"), abi.StatusPanic
	p.apart(inst, r, func() { out, status, err = p.controls(&r.Call, name, fn, in) })
	if p.ruined(status, err) {
		p.poison(inst)
	}
	return slices.Clone(out), status, abandoned(err, c)
}

// Configure is engine.Configurable's.
func (p *Pool) Configure(ctx context.Context, config []byte) ([]byte, abi.Status, error) {
	c, err := p.shut(ctx)
	if err != nil {
		return nil, 0, err
	}
	if p.code.Configure == nil {
		old, err := p.startBeside(&c, config)
		p.users.Add(1) // Close waits for those that are still to be stopped
		defer p.users.Done()
		p.unshut()
		for _, inst := range old { // when calls are let in: what they do between calls may wait for one
			p.drop(inst, nil)
		}
		return nil, 0, err
	}
	defer p.unshut()
	give := func(inst *instance, config []byte) ([]byte, abi.Status, error) {
		return p.control(&c, inst, p.code.Names.Configure, p.code.Configure, slices.Clip(config))
	}
	before := p.settings.Get()
	for i, inst := range p.instances {
		if p.broken(inst) { // it gets them when it is started anew
			continue
		}
		out, status, err := give(inst, config)
		if status == abi.StatusOK && err == nil {
			continue
		}
		for _, changed := range p.instances[:i] {
			if p.broken(changed) {
				continue
			}
			if _, status, err := give(changed, before); status != abi.StatusOK || err != nil {
				p.poison(changed)
			}
		}
		return out, status, err
	}
	p.settings.Set(config)
	return nil, abi.StatusOK, nil
}

// startBeside starts new instances with new settings, and puts them in the place of those that there are. It returns those that are to be
// stopped: what was in their place, or, where one does not start and all is as it was, those that did.
func (p *Pool) startBeside(c *callctx.Caller, config []byte) (old []*instance, err error) {
	if p.code.Start == nil {
		return nil, nil // it has no settings
	}
	for _, inst := range p.instances {
		if p.isSpare(inst) {
			old = append(old, &instance{})
			continue
		}
		fresh := &instance{number: inst.number, index: inst.index, thread: inst.thread}
		r := p.changing(c, fresh)
		err = p.make(fresh, r, config, c.Done)
		r.end()
		if err != nil {
			return old, abandoned(err, c)
		}
		old = append(old, fresh)
	}
	p.settings.Set(config)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, inst := range p.instances {
		other := old[i]
		inst.state, other.state = other.state, inst.state
		inst.started, other.started = other.started, inst.started
		inst.making.Lock()
		inst.between, other.between = other.between, inst.between
		for _, moved := range []*instance{inst, other} {
			if moved.between != nil {
				moved.between.inst = moved
			}
		}
		inst.making.Unlock()
		inst.at, other.at = other.at, inst.at
		for _, moved := range []*instance{inst, other} {
			if moved.at != nil {
				moved.at.Store(moved)
			}
		}
		inst.poisoned = other.poisoned // it may have ended since it was started
		p.ranks(inst)
	}
	return old, nil
}

// broken reports whether the instance has panicked, or was not started yet.
func (p *Pool) broken(inst *instance) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return inst.poisoned || inst.spare
}

func (p *Pool) isSpare(inst *instance) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return inst.spare
}

// Hold is engine.Holder's.
func (p *Pool) Hold(ctx context.Context) (engine.Hold, error) {
	c, err := p.shut(ctx)
	if err != nil {
		return nil, err
	}
	return &hold{p, c}, nil
}

type hold struct {
	pool   *Pool
	caller callctx.Caller
}

// Save is engine.Hold's. An instance that panicked is started anew first.
func (h *hold) Save() (states [][]byte, message []byte, status abi.Status, err error) {
	p := h.pool
	for _, inst := range p.instances {
		if p.broken(inst) {
			r := p.changing(&h.caller, inst)
			p.drop(inst, r)
			p.mu.Lock()
			was := inst.poisoned
			inst.poisoned = false // before the start: it may end right after it
			p.mu.Unlock()
			err := p.make(inst, r, p.settings.Get(), h.caller.Done)
			r.end()
			p.mu.Lock()
			inst.poisoned = inst.poisoned || was && err != nil
			p.ranks(inst)
			p.mu.Unlock()
			if err != nil {
				return nil, nil, 0, abandoned(err, &h.caller)
			}
		}
		out, status, err := p.control(&h.caller, inst, p.code.Names.Save, p.code.Save, nil)
		if status != abi.StatusOK || err != nil {
			return nil, out, status, err
		}
		states = append(states, out)
	}
	return states, nil, abi.StatusOK, nil
}

// Release is engine.Hold's.
func (h *hold) Release() { h.pool.unshut() }

// Retire is engine.Hold's.
func (h *hold) Retire() {
	h.pool.refuse()
	h.pool.unshut()
}

// resume has an instance that was just started take over a state. One that does not is stopped.
func (p *Pool) resume(c *callctx.Caller, inst *instance, saved []byte) error {
	out, status, err := p.control(c, inst, p.code.Names.Resume, p.code.Resume, slices.Clone(saved))
	return startError(p.code.Names.Resume, out, status, err)
}

// NewSession is engine.Sessions's.
func (p *Pool) NewSession(ctx context.Context, config []byte) (engine.Plugin, error) {
	c, err := callctx.AskUnended(ctx)
	if err != nil {
		return nil, err
	}
	if config == nil {
		config = p.settings.Get()
	}
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, engine.ErrClosed
	}
	number := p.numbers
	p.numbers++
	p.users.Add(1) // Close waits for it
	p.mu.Unlock()
	code := *p.code
	code.Spare = 0
	s := newPool(&code, p.host, &engine.Options{Config: config, Instances: 1, MaxCalls: p.most, Owner: p.name})
	s.parent, s.instances[0].number = p, number
	r := s.changing(&c, s.instances[0])
	err = s.make(s.instances[0], r, s.settings.Get(), c.Done)
	r.end()
	if err != nil {
		_ = s.Close() // which takes it off again
		return nil, abandoned(err, &c)
	}
	s.mu.Lock()
	s.unsettle()
	s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[s] = struct{}{}
	if p.closing {
		s.refuse()
	}
	return s, nil
}

// ended takes in that a session is closed.
func (p *Pool) ended(s *Pool) {
	p.mu.Lock()
	delete(p.sessions, s)
	p.mu.Unlock()
	p.users.Done()
}

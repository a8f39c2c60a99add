package pool

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/panics"
)

// instance is one state of the plug-in. state and started change only while nobody else is in it; mu guards the others, but word.
type instance struct {
	number   int // from 0
	state    any
	started  bool // it is to be stopped
	resumes  bool // when it is started for the first time, Resume comes next
	calls    int
	poisoned bool    // it panicked, and is to be started anew
	renewing bool    // it is being started anew
	spare    bool    // it was not started yet, and is when no other has room
	rank     int     // see ranks
	index    int     // in byRoom
	thread   *thread // of a pinned one

	at *atomic.Pointer[instance] // where what Spoiler has returned finds it; nil where Start has not asked for that

	making  sync.Mutex // guards between
	between *between   // nil where Start has not asked for it

	claim // of a plug-in whose instances take one call at a time
}

// found returns where the state is found that is being started: Configure puts it into another instance.
func (i *instance) found() *atomic.Pointer[instance] {
	if i.at == nil {
		i.at = new(atomic.Pointer[instance])
		i.at.Store(i)
	}
	return i.at
}

// lose has nobody find it any more: what becomes of the state that it had says nothing of the one that comes.
func (i *instance) lose() {
	if i.at != nil {
		i.at.Store(nil)
		i.at = nil
	}
}

// startError makes the error of a start of what came of it; nil where it has started.
func startError(name string, message []byte, status abi.Status, err error) error {
	violation, broke := err.(*engine.Violation)
	switch {
	case broke:
		return &engine.StartError{Symbol: name, Err: violation}
	case err != nil:
		return err
	case status != abi.StatusOK:
		return &engine.StartError{Symbol: name, Status: status, Message: string(message)}
	}
	return nil
}

// ruined reports whether an instance is no good any more after a call with this outcome.
func (p *Pool) ruined(status abi.Status, err error) bool {
	_, broke := err.(*engine.Violation)
	return !p.code.Apart && (status == abi.StatusPanic || err != nil && !broke)
}

// make has Start make the state of an instance that nobody else is in: for the call that needs it, or for nobody. The error is a
// *engine.StartError, or Start's own. No context's end stops it half way, but by Abandoned.
func (p *Pool) make(inst *instance, r *running, config []byte, abandoned <-chan struct{}) error {
	inst.started = true
	if p.code.Start == nil {
		return nil
	}
	c, holds := callctx.Background, any(nil)
	if r != nil {
		caller := callctx.Caller{Context: r.ctx, Outer: r.ctx}
		c, holds = caller.WithoutCancel(), r
	}
	s := &Call{ctx: callctx.NewCalls(c, p.name, holds, 1).Take(), pool: p, inst: inst, kind: ofStart, abandoned: abandoned}
	defer s.end()
	message, status, err := []byte("it ended its goroutine"), abi.StatusPanic, error(nil)
	p.apart(inst, r, func() { message, status, err = p.controls(s, p.code.Names.Start, p.code.Start, slices.Clip(config)) })
	if err := startError(p.code.Names.Start, message, status, err); err != nil {
		inst.takeBetween().over()
		inst.lose()
		inst.state, inst.started = nil, false
		return err
	}
	return nil
}

// drop stops an instance that no function is in: for the call that starts it anew, or for nobody.
func (p *Pool) drop(inst *instance, r *running) {
	started := inst.started
	inst.started = false
	defer func() { inst.state = nil }()
	inst.lose()
	defer inst.takeBetween().over() // it has ended before Stop begins
	if !started || p.code.Stop == nil {
		return
	}
	c, holds := callctx.Background, any(nil)
	if r != nil {
		caller := callctx.Caller{Context: r.ctx, Outer: r.ctx}
		c, holds = caller.WithoutCancel(), r
	}
	s := &Call{ctx: callctx.NewCalls(c, p.name, holds, 1).Take(), pool: p, inst: inst, kind: ofStop}
	defer s.end()
	p.apart(inst, r, func() {
		returned := false
		defer func() {
			if value := recover(); value != nil || !returned {
				text := p.code.Names.Stop + " ended its goroutine"
				if value != nil {
					text = p.code.Names.Stop + " panicked: " + panics.Text(value)
				}
				p.host.Log(s.ctx, abi.LogWarn, []byte(text), nil)
			}
		}()
		p.code.Stop(s)
		returned = true
	})
}

// controls runs what starts or changes an instance, on this goroutine. Where it ends the goroutine, controls does not return.
func (p *Pool) controls(c *Call, name string, fn Control, in []byte) (out []byte, status abi.Status, err error) {
	defer func() {
		if value := recover(); value != nil {
			out, status, err = p.panicked(c, name, value), abi.StatusPanic, nil
		}
	}()
	return fn(c, in)
}

// panicked takes in that Go code of the plug-in's panicked, and returns the message. It is called while the panic unwinds.
func (p *Pool) panicked(c *Call, name string, value any) []byte {
	text := []byte(panics.Text(value))
	p.poison(c.inst) // before the handler, which may take its time
	p.host.Log(c.ctx, abi.LogError, slices.Concat([]byte(name+" panicked: "), text), slices.Concat([]byte("stack="), debug.Stack(), []byte{0}))
	return text
}

// apart runs what starts or stops an instance on a goroutine that nobody else needs: its thread's, or one of its own. fn may end it.
// r is the call that it is for, or nil.
func (p *Pool) apart(inst *instance, r *running, fn func()) {
	do := fn
	if r != nil {
		do = func() {
			defer p.runsHere(r)()
			fn()
		}
	}
	if inst.thread != nil {
		inst.thread.do(do)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

// thread is a goroutine that is locked to its thread, for a pinned instance.
type thread struct{ work chan func() }

func newThread() *thread {
	t := &thread{make(chan func())}
	go t.serve()
	return t
}

// serve does the work that comes, until there is none; a function that ends the goroutine gets the next work another one.
func (t *thread) serve() {
	runtime.LockOSThread()
	idle := false
	defer func() {
		if !idle {
			go t.serve()
		}
	}()
	for fn := range t.work {
		fn()
	}
	idle = true
}

func (t *thread) end() {
	if t != nil {
		close(t.work)
	}
}

// do runs fn on the thread, and returns when it has ended.
func (t *thread) do(fn func()) {
	done := make(chan struct{})
	t.work <- func() {
		defer close(done)
		fn()
	}
	<-done
}

package builtin

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/panics"
)

// instance is one state of the plug-in. state and started change only while nobody else is in it; mu guards the others.
type instance struct {
	number   int // from 0
	state    any
	started  bool // it is to be stopped
	calls    int
	poisoned bool    // it panicked, and is to be started anew
	renewing bool    // it is being started anew
	rank     int     // see ranks
	index    int     // in byRoom
	thread   *thread // of a pinned one

	making  sync.Mutex // guards between
	between *between   // nil where Start has not asked for it
}

// make has Start make the state of an instance that nobody else is in: for the call that needs it, or for nobody. The error is a
// *engine.StartError. No context's end stops it half way.
func (p *open) make(inst *instance, r *running, config []byte) error {
	inst.started = true
	if p.Start == nil {
		return nil
	}
	c, holds := callctx.Background, any(nil)
	if r != nil {
		caller := callctx.Caller{Context: r.Context, Outer: r.Call}
		c, holds = caller.WithoutCancel(), r
	}
	s := &scope{Call: callctx.NewCalls(c, p.Name, holds, 1).Take(), open: p, inst: inst, starts: true}
	defer s.end()
	var state any
	message, status := []byte("it ended its goroutine"), abi.StatusPanic
	p.apart(inst, r, func() {
		message, status = p.run(s, "Start", func() (_ []byte, err error) {
			state, err = p.Start(s, slices.Clip(config))
			return nil, err
		})
	})
	if status != abi.StatusOK {
		inst.takeBetween().over()
		inst.started = false
		return &engine.StartError{Symbol: "Start", Status: status, Message: string(message)}
	}
	inst.state = state
	return nil
}

// drop stops an instance that no function is in: for the call that starts it anew, or for nobody.
func (p *open) drop(inst *instance, r *running) {
	state, started := inst.state, inst.started
	inst.state, inst.started = nil, false
	defer inst.takeBetween().over() // it has ended before Stop begins
	if !started || p.Stop == nil {
		return
	}
	ctx := context.Background()
	if r != nil {
		ctx = context.WithoutCancel(r.Call)
	}
	p.apart(inst, r, func() {
		returned := false
		defer func() {
			if value := recover(); value != nil || !returned {
				text := "Stop ended its goroutine"
				if value != nil {
					text = "Stop panicked: " + panics.Text(value)
				}
				p.host.Log(ctx, abi.LogWarn, []byte(text), nil)
			}
		}()
		p.Stop(state)
		returned = true
	})
}

// run runs a function of the plug-in's with a scope, on this goroutine, and makes a status of what comes of it. Where it ends the goroutine,
// run does not return.
func (p *open) run(s *scope, name string, fn func() ([]byte, error)) (out []byte, status abi.Status) {
	defer func() {
		if value := recover(); value != nil {
			out, status = []byte(panics.Text(value)), abi.StatusPanic
			p.poison(s.inst) // before the handler, which may take its time
			p.host.Log(s, abi.LogError, slices.Concat([]byte(name+" panicked: "), out), slices.Concat([]byte("stack="), debug.Stack(), []byte{0}))
		}
	}()
	result, err := fn()
	if err != nil {
		return failure(err)
	}
	return result, abi.StatusOK
}

// apart runs what starts or stops an instance on a goroutine that nobody else needs: its thread's, or one of its own. fn may end it.
// r is the call that it is for, or nil.
func (p *open) apart(inst *instance, r *running, fn func()) {
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

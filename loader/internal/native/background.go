package native

import (
	"context"
	"slices"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// background is what an instance does between calls (R27): its frame is that of a slot of its own, which is busy for as long as the
// instance runs. It is what the calls through it hold, for package callctx.
type background struct {
	slot   *slot
	cancel context.CancelFunc // ends the context that host functions get
	end    func()             // ends what Options.Between began
}

// Background has a plug-in's calls between calls made with the context that it returns, which has more values than ctx, that of
// ferrule_start; end is called when there are no more. The error says that there are none to be had.
type Background func(ctx context.Context) (between context.Context, end func(), err error)

// serviceBackground is host->background: it returns a frame, or 0.
func serviceBackground(frame uintptr) uintptr {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return 0
	}
	own, ok := s.visit()
	if !ok {
		return 0
	}
	defer s.leave(own)
	inst := s.inst
	if s != inst.control || !inst.starting.Load() {
		return 0
	}
	inst.making.Lock()
	defer inst.making.Unlock()
	b := inst.between.Load()
	if b == nil {
		var err error
		if b, err = inst.newBackground(s.hostContext()); err != nil {
			return 0
		}
		inst.between.Store(b)
	}
	return raw.AddrOf(&b.slot.frame)
}

// Stops is a key of the contexts that Options.Between returns: a function that is called when the instance is about to be stopped.
var Stops stopsKey

type stopsKey struct{}

// newBackground makes the frame, for a start with the context ctx.
func (inst *instance) newBackground(ctx context.Context) (*background, error) {
	p := inst.plugin
	b := &background{end: func() {}}
	between := p.base.Context
	if p.between != nil {
		var err error
		if between, b.end, err = p.between(ctx); err != nil {
			return nil, err
		}
	}
	between, b.cancel = context.WithCancel(between)
	s := p.newSlot(inst, locked)
	s.background, b.slot = b, s
	s.setCaller(&callctx.Caller{Context: between, Done: between.Done()}) // and busy from here on
	s.prepare()
	s.frame.State, s.frame.Release = 0, 0
	s.frame.In, s.frame.InLen = raw.Addr(nil), 0
	s.frame.Out, s.frame.OutLen, s.frame.OutCap = raw.Addr(nil), 0, 0
	return b, nil
}

// stops says to the plug-in's threads that the instance is about to be stopped.
func (b *background) stops() {
	if b != nil {
		b.slot.cancel.Store(1)
		b.cancel()
		if ends, ok := b.slot.caller.Context.Value(Stops).(func()); ok {
			ends()
		}
	}
}

// stopping returns what is closed when the instance is about to be stopped from whose doings between calls the call comes: from then on it
// is not to wait for other calls, which may wait for that. nil where it comes from none.
func (p *Plugin) stopping(c *callctx.Caller) (stops <-chan struct{}) {
	c.ComesFrom(func(outer *callctx.Call) bool {
		b, own := outer.Holds().(*background)
		own = own && slices.ContainsFunc(p.instances, func(inst *instance) bool { return inst.between.Load() == b })
		if own {
			stops = outer.Done()
		}
		return own
	})
	return stops
}

// close ends the use of the frame, when no thread is to use it any more. It waits for those that do all the same.
func (b *background) close() {
	if b == nil {
		return
	}
	b.stops()
	b.slot.tidy()
	b.slot.phase.Store(closed)
	freeSlot(b.slot)
	b.end()
}

// startWith runs ferrule_start, which may ask for a frame for what happens between calls.
func (inst *instance) startWith(c callctx.Caller, fn uintptr, config []byte) (out []byte, status abi.Status, err error) {
	inst.starting.Store(true)
	text, status, violation := inst.controlCall(c, fn, config)
	inst.starting.Store(false)
	if violation != nil {
		err = violation
	}
	if err != nil || status != abi.StatusOK {
		inst.closeBackground()
	}
	return text, status, err
}

func (inst *instance) closeBackground() {
	inst.making.Lock() // a thread of a start that has failed may still ask for one
	b := inst.between.Swap(nil)
	inst.making.Unlock()
	b.close()
}

package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// call is one call in progress. It is part of its lane, so that a call allocates nothing.
type call struct {
	*Plugin
	lane    *hostLane
	session *session                     // that it is of; nil is none
	current atomic.Pointer[callctx.Call] // what host functions get as their context; made when one is first called
	serving atomic.Bool                  // a host function of it runs, by its own lane
	threads atomic.Int32                 // how many run for threads of the plug-in's own, on goroutines of their own
	left    atomic.Bool                  // one of those has ended its goroutine

	meter    *callctx.Meter // tells how far the call is, where somebody wants to know
	replaced func(ok bool)  // of OpConfigure: takes in what has become of new instances; nil where there are none, or it is known
	ends     func()         // of a lane for what the plug-in does between calls: ends the context of what runs for it
	apart    bool           // host functions run on a goroutine of their own
	aside    bool           // of a lane for host functions of other calls; see aside.go
	detached chan struct{}  // not nil when another goroutine ends the call; closed when this one is done with it
}

// begin starts a call on a lane that the caller owns.
func (p *Plugin) begin(l *hostLane) *call {
	c := &l.call
	c.Plugin, c.lane, c.session, c.replaced, c.apart, c.detached = p, l, l.session, nil, false, nil
	if c.session == caretaker {
		c.session = nil
	}
	if c.left.Load() {
		c.left.Store(false)
	}
	return c
}

// end gives the lane back.
func (c *call) end() {
	if c.detached != nil {
		close(c.detached)
		return
	}
	c.over()
	p, l := c.Plugin, c.lane
	c.Plugin, c.lane, c.session = nil, nil, nil
	p.disown(l)
}

// over says that the call is over to those who have its context.
func (c *call) over() {
	c.meter.Stop()
	c.meter = nil
	if current := c.current.Load(); current != nil {
		c.awaitThreads() // what they call is within the call until they have left
		current.End()
		c.current.Store(nil)
		c.hosting.Add(-1)
		c.awaitThreads() // who has come meanwhile finds that it is over, or is waited for
	}
}

// awaitThreads waits for the host functions that threads have called. A worker that has not died waits for them itself; and what opens or ends
// the plug-in waits for none.
func (c *call) awaitThreads() {
	for wait := 10 * time.Microsecond; !c.apart && c.threads.Load() > 0; wait = min(2*wait, time.Millisecond) {
		time.Sleep(wait)
	}
}

// flags are those of a call, with the number of the plug-in.
func (c *call) flags() (flags uint32) {
	if p := c.lane.caller.Progress; p != nil {
		flags = lane.FlagProgress
		done, total := c.lane.Progress()
		c.meter = p.Start(done, total, c.lane.caller, c.Owner(), c.holds())
	}
	if c.lane.nested {
		flags |= lane.FlagNested
	}
	return lane.For(c.lane.seat.number, flags)
}

// endsStep is how often the host looks, while a host function runs that the plug-in has called between calls, whether the plug-in stops that.
const endsStep = 10 * time.Millisecond

// inSession is the number of the call's session, 0 for none.
func (c *call) inSession() uint32 {
	if c.session == nil {
		return 0
	}
	return c.session.number
}

// wears takes in that the call's instance panicked.
func (c *call) wears() {
	if c.session != nil {
		c.session.lose()
	} else {
		c.lane.seat.wears.Store(true)
	}
}

// awaitStep is how long a call sleeps before it looks by itself whether the worker is still there and still sane.
const awaitStep = 200 * time.Millisecond

// finish waits for the end of the call and serves what the plug-in asks of its host meanwhile.
func (c *call) finish() (lane.Message, error) {
	for {
		m, ok, err := c.lane.Await(awaitStep)
		if err != nil {
			return m, c.garbage(err)
		}
		if !ok {
			if c.lane.worker.dead.Load() {
				// It may have answered before it died.
				if m, ok, err = c.lane.Await(0); err != nil || !ok {
					return m, c.crashed()
				}
			} else {
				continue
			}
		}
		switch m.Op {
		case lane.OpDone:
			return m, nil
		case lane.OpFailed:
			return m, c.failure(m)
		}
		if c.lane.worker.dead.Load() { // what it has left behind may write for ever
			return m, c.crashed()
		}
		switch m.Op {
		case lane.OpHostCall, lane.OpLog:
			err = c.hostCall(m)
		case lane.OpLayers:
			err = c.takeLayers(m)
		case lane.OpMore:
			err = c.moreBetween()
		case lane.OpReplaced:
			err = c.takeReplaced(m)
		case lane.OpGrow:
			err = c.lane.Grow(m, uint64(c.options.MaxMessage))
		default:
			err = fmt.Errorf("the message %d", m.Op)
		}
		if err != nil {
			return m, c.garbage(err)
		}
	}
}

// copyIn returns what the plug-in passes to its host, in memory that the worker cannot change. It is valid until the next
// time.
func (c *call) copyIn(m lane.Message) ([]byte, error) {
	in, err := c.lane.UpInput(m)
	if err != nil {
		return nil, err
	}
	c.lane.scratch = append(c.lane.scratch[:0], in...)
	defer func() {
		if cap(c.lane.scratch) > 1<<20 {
			c.lane.scratch = nil
		}
	}()
	return c.lane.scratch, nil
}

func (c *call) hostContext() *callctx.Call {
	if current := c.current.Load(); current != nil {
		return current
	}
	holds := c.holds()
	var calls *callctx.Calls
	if l := c.lane; l.limit != nil {
		calls = callctx.NewLimited(l.caller, c.Owner(), holds, 1, &callctx.Until{At: l.begun.Add(l.limit.After), Limit: l.limit})
	} else {
		calls = callctx.NewCalls(l.caller, c.Owner(), holds, 1)
	}
	current := calls.Take()
	c.current.Store(current)
	c.hosting.Add(1)
	return current
}

// holds returns what the call has of its engine, for package callctx.
func (c *call) holds() any {
	switch {
	case c.session != nil:
		return c.session
	case c.ends != nil:
		return between{c.lane.seat}
	case c.apart:
		return control{c.Plugin}
	}
	return c.Plugin
}

// hostCall runs a host function for the plug-in, or takes a log line of it.
func (c *call) hostCall(m lane.Message) (err error) {
	p, of, ctx, leave, err := c.caller(m)
	if err != nil {
		return err
	}
	begun := false
	defer func() {
		if !begun {
			leave()
		}
	}()
	if m.Op == lane.OpHostCall && !engine.ValidOrdinal(m.Fn, len(p.lib.Imports)+len(p.lib.Wants)) {
		return fmt.Errorf("the host function %d of %d", m.Fn, len(p.lib.Imports)+len(p.lib.Wants))
	}
	in, err := c.copyIn(m)
	if err != nil {
		return err
	}
	var fields []byte
	if m.Op == lane.OpLog {
		if m.OutAt > m.Len {
			return fmt.Errorf("fields at %d of %s", m.OutAt, count.Of(m.Len, "byte"))
		}
		in, fields = in[:m.OutAt], in[m.OutAt:]
	}
	if int64(len(in)+len(fields)) > c.options.MaxMessage {
		if m.Op == lane.OpLog {
			in, fields = count.Cut(in, int(c.options.MaxMessage)), lane.LeftOut(fields)
		} else {
			return c.answer(abi.StatusNoMemory, []byte("host function: "+c.options.noRoom()))
		}
	}
	if !c.aside {
		c.serves()
	}
	if c.apart || m.Flags&lane.FlagThread != 0 { // this goroutine has more to do, or is not the thread's: whatever the host does to its own, or does not
		defer c.serving.Store(false)
		begun = true
		var status abi.Status
		var out []byte
		done := make(chan struct{})
		returned := false
		go func() { // where the worker dies, c may be over before the host function
			defer close(done)
			defer leave()
			defer ctx.Serve()()
			out, status = p.runHost(ctx, m, in, fields)
			returned = true
		}()
		var look <-chan time.Time
		if c.ends != nil {
			tick := time.NewTicker(endsStep)
			defer tick.Stop()
			look = tick.C
		}
		for {
			select {
			case <-done:
				switch {
				case returned:
				case of != nil: // the call fails, and its instance is not used any more
					of.hasLeft()
					status, out = lane.StatusEnded, nil
				default:
					status, out = abi.StatusFailed, []byte(endedGoroutine)
				}
				if c.aside {
					c.cancelEnded(int(m.Status))
				}
				return c.answer(status, out)
			case <-c.lane.worker.dying:
				c.lane.scratch = nil // is still read
				return nil
			case <-look:
				if c.lane.Ends() {
					c.ends()
				}
			}
		}
	}
	returned := false
	defer func() {
		c.serving.Store(false)
		if returned {
			return
		}
		// runtime.Goexit: this goroutine ends. Another one waits for what the worker has to say, and then for this one to
		// be done with the call, which is part of the lane.
		c.detached, c.apart = make(chan struct{}), true
		s := c.session
		if s != nil {
			s.stay()
		}
		c.lane.on.Store(somewhere) // the number may be another one's soon
		go func() {
			if c.answer(abi.StatusFailed, []byte(endedGoroutine)) == nil {
				_, _ = c.finish()
			}
			c.lane.seat.wears.Store(true) // nobody looks whether it has panicked
			<-c.detached
			c.detached = nil
			c.end()
			if s != nil {
				s.leave()
			}
		}()
	}()
	out, status := p.runHost(ctx, m, in, fields)
	returned = true
	return c.answer(status, out)
}

const endedGoroutine = "the host function ended its goroutine"

// runHost has the host do what the plug-in asks of it. It does not panic, but it may end the goroutine.
func (p *Plugin) runHost(ctx context.Context, m lane.Message, in, fields []byte) (out []byte, status abi.Status) {
	defer p.hosted.Add(1)
	if m.Op == lane.OpLog {
		p.host.Log(ctx, abi.Level(m.Fn), in, fields)
		return nil, abi.StatusOK
	}
	defer func() {
		if value := recover(); value != nil {
			out, status = p.host.Panicked(ctx, m.Fn, value)
		}
	}()
	return p.host.Call(ctx, m.Fn, in)
}

// takeLayers takes the worker's word for what shuts it in, once, while it opens the plug-in: the first time nothing of the
// plug-in's has run in it.
func (c *call) takeLayers(m lane.Message) error {
	in, err := c.copyIn(m)
	if err != nil {
		return err
	}
	layers, err := wire.ParseLayers(in, c.libraries)
	if err != nil {
		return err
	}
	w := c.lane.worker
	c.mu.Lock()
	twice := w.told
	if !twice {
		w.told, w.layers = true, append(w.layers, layers...)
	}
	c.mu.Unlock()
	if twice {
		return errors.New("layers that were told before")
	}
	return c.lane.Answer(int32(abi.StatusOK), nil)
}

// takeReplaced takes the worker's word that new instances have taken their place, or that none has.
func (c *call) takeReplaced(m lane.Message) error {
	if c.replaced == nil {
		return errors.New("instances that were replaced, which nobody has asked for")
	}
	c.replaced(m.Status == int32(abi.StatusOK))
	c.replaced = nil
	return c.lane.Answer(int32(abi.StatusOK), nil)
}

// answer gives a host function's result to the plug-in.
func (c *call) answer(status abi.Status, out []byte) error {
	if c.lane.caller.Ended() { // what a host function has ended is known to the plug-in when that returns, not at the watcher's next look
		c.lane.Cancel()
	}
	if c.lane.Answer(int32(status), out) == nil {
		return nil
	}
	return c.lane.Answer(int32(abi.StatusNoMemory), []byte("no memory for the host function's result"))
}

// failure makes an error of a call that ended without a status.
func (c *call) failure(m lane.Message) error {
	text, err := c.lane.Output(m)
	if err == nil && m.OutAt > m.Len {
		err = fmt.Errorf("a text at %d of %s", m.OutAt, count.Of(m.Len, "byte"))
	}
	if err != nil {
		return c.garbage(err)
	}
	text = text[m.OutAt:]
	// What the host itself would know is believed only where it fits what it knows.
	switch lane.Failure(m.Fn) {
	case lane.FailedClosed: // no call goes to a worker that is not opened yet, or closed already
		return c.garbage(errors.New("a plug-in that is closed, which it is not"))
	case lane.FailedReentrant:
		if (c.apart || !c.lane.nested) && c.session == nil {
			return c.garbage(errors.New("a call that is re-entrant, which it is not"))
		}
		return engine.ErrReentrant
	case lane.FailedLost:
		if c.session == nil {
			return c.garbage(errors.New("a session that is lost, of a call that is of none"))
		}
		c.session.lose()
		return engine.ErrLost
	case lane.FailedEnded:
		if !c.left.Load() {
			return c.garbage(errors.New("a host function that has ended its goroutine, which none has"))
		}
		c.wears()
		return engine.ErrEnded
	case lane.FailedTooLong:
		if len(text) == 0 { // not even for that
			return &engine.TooLong{Text: "the worker has no memory for the call's input or output"}
		}
		return &engine.TooLong{Text: strings.ToValidUTF8(string(text[:min(len(text), leastRoom)]), "\uFFFD")}
	case lane.FailedRule:
		violation, err := wire.ParseViolation(text)
		if err != nil {
			return c.garbage(err)
		}
		return violation
	case lane.FailedStart:
		if !c.apart && !c.lane.batch && !c.panicked() { // a batch's own records are looked at first; see part
			return c.garbage(errors.New("an instance that could not be started again, which none has to be"))
		}
		start, err := wire.ParseStartError(text)
		if err != nil {
			return c.garbage(err)
		}
		return start
	case lane.FailedCancelled:
		switch {
		case c.lane.caller.Ended():
			return new(engine.Ended)
		case c.wasOverdue():
			return &engine.Ended{Cause: c.lane.limit}
		}
		return c.garbage(errors.New("a call that nobody cancelled"))
	case lane.FailedOpen:
		if !c.apart {
			return c.garbage(errors.New("a plug-in that could not be opened, which it is"))
		}
		open, err := wire.ParseOpenError(text, c.lib.Path)
		if err != nil {
			return c.garbage(err)
		}
		return open
	case lane.FailedPoisoned:
		if c.apart || !c.lane.batch && !c.panicked() {
			return c.garbage(errors.New("an instance that has panicked, which none has"))
		}
		return errPoisoned
	default:
		return c.garbage(fmt.Errorf("the failure %d", m.Fn))
	}
}

// panicked reports whether a call has come back from the worker with abi.StatusPanic, or just may have: its goroutine may
// not have looked yet.
func (c *call) panicked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.lane.seat.owned() {
		if l != c.lane && (l.batch || l.Done(int32(abi.StatusPanic))) {
			return true
		}
	}
	return c.lane.seat.wears.Load() // last, because whoever has looked is not to be missed
}

// garbage ends a worker that does not keep to the protocol: something has written over the shared memory.
func (c *call) garbage(err error) error {
	c.lane.worker.kill(fmt.Sprintf("killed by the host, because the memory shared with it was overwritten (%v)", err), nil)
	return c.crashed()
}

// wasOverdue reports whether the call was asked to stop because it had taken its time.
func (c *call) wasOverdue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lane.overdue
}

// struck reports whether the call was asked to stop because of its limit, by the word or by the context of its host functions, and not because
// its context has ended.
func (c *call) struck() bool {
	if c.lane.limit == nil || c.lane.caller.Ended() {
		return false
	}
	current := c.current.Load()
	return c.wasOverdue() || current != nil && current.Expired()
}

// limited gives the call the function's limit, which begins now.
func (c *call) limited(fn engine.Fn) {
	if fn.Limit == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lane.limit, c.lane.begun = fn.Limit, time.Now()
	c.watches()
}

// because adds to a call's error why the context has ended, where that is still to be asked: after the lane was given back,
// because the answer is foreign code.
func because(caller *callctx.Caller, err error) error {
	switch err := err.(type) {
	case *engine.Ended:
		if err.Cause == nil {
			err.Cause = caller.Cause()
		}
	case *engine.Overrun:
		if err.Cause == nil {
			err.Cause = caller.Cause()
		}
	}
	return err
}

// crashed makes the call's error of the end of its worker. It waits a moment for what is not known yet.
func (c *call) crashed() error {
	w := c.lane.worker
	t := time.NewTimer(burialPatience)
	defer t.Stop()
	select {
	case <-w.gone:
	case <-t.C:
	}
	crash := w.report()
	c.mu.Lock()
	killed, overdue := c.lane.killed, c.lane.overdue
	if c.lane.owned() {
		crash.Others = max(0, w.inside-1)
	}
	c.mu.Unlock()
	switch {
	case killed && overdue:
		return &engine.Overrun{Grace: c.options.Grace, Cause: c.lane.limit}
	case killed:
		return &engine.Overrun{Grace: c.options.Grace}
	}
	return &crash
}

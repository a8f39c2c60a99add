package host

import (
	"context"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// session is an instance in a worker for one user of the plug-in (engine.Sessions). Its calls take lanes beside those of the plug-in's
// other calls, as many as its threads allow, and only of the worker that it was started in.
type session struct {
	plugin *Plugin
	seat   *seat  // in a worker
	number uint32 // of the worker's; never 0
	most   int    // how many calls may run at a time

	mu        sync.Mutex
	calls     int             // that run, or are about to take a lane
	waiting   []chan struct{} // calls that wait for others to end, first come first served
	closing   bool
	lost      bool          // its instance panicked
	drained   chan struct{} // closed when closing and no call is left
	over      chan struct{} // closed when closeErr is set
	closeErr  error
	closeOnce sync.Once
}

var _ engine.Plugin = (*session)(nil)

// caretaker is, in place of a session, for what concerns all instances of a plug-in while its gate is shut: it is let through, and takes no lane
// from calls.
var caretaker = new(session)

// isLost reports whether the session's instance is gone.
func (s *session) isLost() bool {
	if s.seat.worker.dead.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// isClosed reports whether the session, or its plug-in, is closed.
func (s *session) isClosed() bool {
	select {
	case <-s.plugin.closed:
		return true
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// lose takes in that the session's instance panicked.
func (s *session) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
}

// NewSession is engine.Sessions'.
func (p *Plugin) NewSession(ctx context.Context, config []byte) (engine.Plugin, error) {
	caller, err := callctx.AskUnended(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	none := p.seat == nil
	p.mu.Unlock()
	if none && opening(&caller, p) { // on this goroutine
		return nil, engine.ErrReentrant
	}
	type outcome struct {
		session *session
		err     error
	}
	started := make(chan outcome, 1)
	lasting := caller.WithoutCancel()
	go func() {
		s, err := p.newSession(&lasting, config)
		started <- outcome{s, err}
	}()
	select {
	case o := <-started:
		if o.err != nil {
			return nil, o.err
		}
		return o.session, nil
	case <-caller.Done:
		go func() {
			if o := <-started; o.err == nil {
				_ = o.session.Close()
			}
		}()
		return nil, caller.GaveUp()
	}
}

// newSession starts a session, within the time that a plug-in has to start.
func (p *Plugin) newSession(caller *callctx.Caller, config []byte) (*session, error) {
	l, err := p.acquireFor(caller, caretaker)
	if err != nil {
		return nil, err
	}
	c := p.begin(l)
	defer c.end()
	w := l.worker
	p.mu.Lock()
	w.sessions++
	s := &session{plugin: p, seat: l.seat, number: w.sessions, most: lane.MaxLanes, drained: make(chan struct{}), over: make(chan struct{})}
	p.mu.Unlock()
	if p.lib.Manifest.Threads != abi.Concurrent {
		s.most = 1
	} else if p.start.MaxCalls > 0 {
		s.most = p.start.MaxCalls
	}
	late := time.AfterFunc(p.options.StartTimeout, func() {
		w.expire("it had not started a session", p.options.StartTimeout, "WithStartTimeout", p)
	})
	defer late.Stop()
	in := []byte{0}
	if config != nil {
		in = append([]byte{1}, config...)
	}
	c.session = s
	if _, err := c.control(lane.OpSession, in); err != nil {
		return nil, c.openError(err)
	}
	return s, nil
}

// enter waits until the call may begin. The error is engine.Plugin's.
func (s *session) enter(c *callctx.Caller) error {
	if s.isClosed() {
		return engine.ErrClosed
	}
	if s.isLost() {
		return engine.ErrLost
	}
	inside := 0
	for outer := range c.Outer.Running() {
		if outer.Holds() == any(s) {
			inside++
		}
	}
	byGoroutine := s.onGoroutine()
	callctx.Served(func(outer *callctx.Call) bool {
		if outer.Holds() == any(s) {
			byGoroutine++
		}
		return false
	})
	inside = max(inside, byGoroutine)
	s.mu.Lock()
	switch {
	case s.closing:
		s.mu.Unlock()
		return engine.ErrClosed
	case s.calls < s.most:
		s.calls++
		s.mu.Unlock()
		return nil
	case inside >= s.most:
		s.mu.Unlock()
		return engine.ErrReentrant
	}
	turn := make(chan struct{}, 1)
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	waits, err := callctx.Wait(c.Outer, s)
	if err == nil {
		ended := false
		select {
		case <-turn:
		case <-c.Done:
			ended = true
		}
		waits.Done()
		if ended {
			err = c.GaveUp()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		if s.closing {
			s.leaveLocked()
			return engine.ErrClosed
		}
		return nil
	}
	for i, other := range s.waiting {
		if other == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return err
		}
	}
	s.leaveLocked() // it was given its turn at the same moment
	return err
}

// onGoroutine returns how many calls of the session this goroutine is in a host function of.
func (s *session) onGoroutine() (n int) {
	p, me := s.plugin, goroutine.ID()
	if me == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range s.seat.owned() {
		if l.session == s && l.on.Load() == me {
			n++
		}
	}
	return n
}

// stay is enter for a call that has entered, and goes on in the worker when its goroutine has ended.
func (s *session) stay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
}

// leave ends what enter began.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked()
}

func (s *session) leaveLocked() {
	if len(s.waiting) > 0 {
		turn := s.waiting[0]
		s.waiting = s.waiting[1:]
		turn <- struct{}{}
		return
	}
	if s.calls--; s.calls == 0 && s.closing {
		close(s.drained)
	}
}

// Owner is callctx.Wanted's.
func (s *session) Owner() string { return s.plugin.Owner() }

// Holders is callctx.Wanted's: calls wait for any of those that run.
func (s *session) Holders() [][]*callctx.Call {
	p := s.plugin
	var calls []*callctx.Call
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range s.seat.owned() {
		if l.session == s {
			calls = append(calls, l.call.current.Load())
		}
	}
	return callctx.Each(calls)
}

// calling runs a call of the session.
func (s *session) calling(ctx context.Context, run func(*callctx.Caller) error) error {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return err
	}
	if err := s.enter(&caller); err != nil {
		return err
	}
	defer s.leave()
	return because(&caller, run(&caller))
}

// Append is engine.Plugin's.
func (s *session) Append(ctx context.Context, fn engine.Fn, dst, in []byte) (out []byte, status abi.Status, err error) {
	err = s.calling(ctx, func(caller *callctx.Caller) error {
		out, status, err = s.plugin.append(caller, s, fn, dst, in)
		return err
	})
	if failed(err) {
		return dst, 0, err
	}
	return out, status, err
}

// Stream is engine.Plugin's.
func (s *session) Stream(ctx context.Context, fn engine.Fn, dst, in []byte, st *stream.Streams) (out []byte, status abi.Status, err error) {
	var own *callctx.Caller
	defer func() {
		if own != nil { // the session is free
			out, status = written(own, st, dst, out, status, err)
		}
	}()
	err = s.calling(ctx, func(caller *callctx.Caller) error {
		own = caller
		out, status, err = s.plugin.stream(caller, s, fn, dst, in, st)
		return err
	})
	if failed(err) {
		return dst, 0, err
	}
	return out, status, err
}

// View is engine.Plugin's.
func (s *session) View(ctx context.Context, fn engine.Fn, in []byte) (v *engine.View, status abi.Status, err error) {
	err = s.calling(ctx, func(caller *callctx.Caller) error {
		v, status, err = s.plugin.view(caller, s, fn, in)
		return err
	})
	return v, status, err
}

// Batch is engine.Plugin's.
func (s *session) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed, b.Limit = b.Out[:0], b.Records[:0], false, nil
	return s.calling(ctx, func(caller *callctx.Caller) error { return s.plugin.batch(caller, s, fn, in, b) })
}

// Close is engine.Plugin's.
func (s *session) Close() error { return s.Shutdown(context.Background()) }

// Shutdown is engine.Plugin's. The worker, which others use, is not killed because ctx ends.
func (s *session) Shutdown(ctx context.Context) error {
	caller, err := callctx.Ask(ctx)
	if err != nil && err != engine.ErrTooDeep {
		return err
	}
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closing = true
		for _, turn := range s.waiting { // they find it closed
			s.calls++
			turn <- struct{}{}
		}
		s.waiting = nil
		if s.calls == 0 {
			close(s.drained)
		}
		s.mu.Unlock()
		go func() {
			<-s.drained
			s.closeErr = s.end()
			close(s.over)
		}()
	})
	var stopping <-chan struct{}
	if opening(&caller, s.plugin) { // the plug-in's end would wait for this call
		stopping = s.plugin.drained
	}
	select {
	case <-s.over:
		return s.closeErr
	case <-stopping:
		return nil
	case <-caller.Done:
	}
	unfinished := s.unfinished()
	if unfinished.Calls == 0 && unfinished.Views == 0 { // it is over in a moment, unless ferrule_stop takes its time
		t := time.NewTimer(stopPatience)
		defer t.Stop()
		select {
		case <-s.over:
			return s.closeErr
		case <-t.C:
		}
	}
	unfinished.Cause = caller.Cause()
	return unfinished
}

// stopPatience is how long Shutdown waits for the rest after its context has ended, where nothing is in its way.
const stopPatience = 100 * time.Millisecond

// unfinished returns what is in the way of the end: the session's calls, or the plug-in's views, where no lane is left to stop the
// instance by.
func (s *session) unfinished() *engine.Unfinished {
	s.mu.Lock()
	u := &engine.Unfinished{Calls: s.calls}
	s.mu.Unlock()
	p := s.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.seat.worker.onlyViews() {
		u.Views = p.views
	}
	return u
}

// end has the worker stop the instance. It waits for a lane, as the end of the plug-in does, also while all are held by views; and that end
// waits for it, unless it stops the instance itself.
func (s *session) end() error {
	p, w := s.plugin, s.seat.worker
	p.mu.Lock()
	select {
	case <-p.drained:
		p.mu.Unlock()
		select {
		case <-p.over:
		case <-w.dying:
		}
		return nil
	default:
	}
	p.calls++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ran()
		p.called()
	}()
	l := s.seat.control()
	if l == nil {
		return nil
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		l.session = nil
		s.seat.release(l)
	}()
	p.mu.Lock()
	l.session = s
	p.mu.Unlock()
	c := p.begin(l)
	defer c.over()
	late := time.AfterFunc(p.options.StopTimeout, func() {
		w.expire("it had not stopped a session", p.options.StopTimeout, "WithStopTimeout", p)
	})
	defer late.Stop()
	_, err := c.control(lane.OpEndSession, nil)
	if _, crashed := err.(*engine.Crash); err != nil && !crashed {
		err = c.garbage(err)
	}
	return err
}

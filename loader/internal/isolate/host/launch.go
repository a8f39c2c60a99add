package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/handover"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// worker is one worker process, from its start until nothing of it is left.
//
// It goes through these, each once: it is used; it is dying, when it has ended or the host has decided that it is to end,
// and no call uses it any more; it is gone, when all is known about its end; it is buried, when nothing of it is left. No
// call waits for more than the first two: a process that cannot be killed, or not be reaped, takes its time.
type worker struct {
	group   *Group
	name    string // of the process
	memory  *lane.Host
	library *handover.Giver // nil in tests
	process process.Child
	began   time.Time
	attempt int
	output  *process.Tail
	spawned context.Context // ends when its process is to be waited for no more, while the system makes it

	dead   atomic.Bool   // it is dying
	dying  chan struct{} // closed with dead
	gone   chan struct{} // closed when what report says does not change any more
	buried chan struct{} // closed when nothing is left of the process and of what it has started
	worked atomic.Bool   // a call of a function has come back from it
	// numbered are all lanes, each at its index, for those that are parked: set with the group's mu held, before the lane is anybody's.
	numbered [lane.Lanes]*hostLane

	// Guarded by the group's mu.
	layers   []string         // what shuts it in
	told     bool             // it has said what of them it has made itself, or may not say it any more
	reason   string           // why the host ended it; "" when it was not the host
	bound    engine.Bound     // of its sandbox that it had gone past, where that is why
	late     time.Duration    // in which something was to be done that was not, where that is why
	ended    bool             // the process has: the next two say how
	signal   os.Signal        // that ended it, or nil
	code     int              // its exit code, or -1
	lived    time.Duration    // from before its start to after its end
	opened   bool             // it has opened a plug-in
	retired  bool             // no plug-in is in it any more, and none comes
	unserved bool             // it had not come as far as to serve
	place    string           // its fault was, in words; may be empty
	culprit  *Plugin          // whose code, or call, is why it ended, where that is known
	seats    []*seat          // of the plug-ins that it has opened, opens or stops
	lanes    []*hostLane      // all
	free     []*hostLane      // those that nobody owns; the last one was used last
	views    int              // how many are owned by calls that are over, for their output
	sessions uint32           // the number of the session that was started last
	between  int              // how many are for what plug-ins do between calls
	asides   int              // how many are for host functions of calls on other lanes
	controls []chan *hostLane // those who wait for one to open a plug-in by, or to stop it
	inside   int              // how many calls were in it when it began to die
	refs     int              // one until it is dying, one for each plug-in that is opened, one for each owned lane: who uses memory
}

// launch has the plug-in opened in its group's worker, and a worker started where there is none. It is called by one goroutine at a
// time, and no call uses the seat before.
func (p *Plugin) launch() (*worker, error) {
	for {
		w, err := p.process()
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		if w.retired { // the last one has left meanwhile
			w.unref()
			p.mu.Unlock()
			continue
		}
		s := p.sit(w)
		p.giveUpOpening()
		p.mu.Unlock()
		err = p.open(s)
		p.mu.Lock()
		p.opening = nil
		last := false
		if err == nil {
			p.adopt(s)
		} else {
			last = s.vacate()
		}
		w.unref()
		p.mu.Unlock()
		if err == nil {
			return w, nil
		}
		if last {
			w.awaitBurial(burialPatience)
		}
		return nil, err
	}
}

// giveUpOpening ends the worker that opens the plug-in, if nothing else is in it and the plug-in is to be opened no more. Else
// the opening has the time of WithStartTimeout. The caller holds p.mu.
func (p *Plugin) giveUpOpening() {
	if s := p.opening; s != nil && len(s.worker.seats) == 1 {
		if why := p.givenUp(); why != "" {
			s.worker.leave(why, p)
		}
	}
}

// spawn makes the memory and starts what is to share it.
func (w *worker) spawn() (err error) {
	if w.memory, err = lane.NewHost(); err != nil {
		return err
	}
	w.output = process.NewTail(w.group.options.Output)
	if w.process, err = w.group.run(w); err != nil {
		w.close()
	}
	return err
}

// startProcess starts a process of the program that the options name; it is the run of every engine but those of tests.
func (w *worker) startProcess() (process.Child, error) {
	o, x := &w.group.options, &w.group.program
	err := x.check(o)
	if err == nil {
		w.library, err = handover.New()
	}
	if err != nil {
		return nil, err
	}
	c, err := start(w.spawned, x, "ferrule-worker: "+w.name, process.Environment(o.Env), o.Sandbox != nil, append(w.memory.Files(), w.library.Files()...), w.output)
	if err != nil {
		return nil, x.notStarted(err)
	}
	w.library.Started()
	if err := w.memory.Started(c.OS()); err != nil {
		c.Kill()
		go func() {
			c.Wait()
			c.Bury()
		}()
		return nil, err
	}
	return c, nil
}

// close frees what the host has of the worker's memory.
func (w *worker) close() {
	w.memory.Close()
	if w.library != nil {
		w.library.Close()
	}
}

// load has the worker load the plug-in and start its instances. It is the open of every plug-in but those of tests.
func (s *seat) load() error {
	p, w := s.plugin, s.worker
	if err := p.check(); err != nil {
		return err
	}
	l := s.control()
	if l == nil {
		crash := w.report()
		return &crash
	}
	c := p.begin(l)
	p.mu.Lock()
	s.by = l
	config, resumes := p.config, p.resumes
	p.mu.Unlock()
	request := wire.Open{Path: []byte(p.path), Contents: wire.Contents(p.lib), Unload: p.start.Unload, Instances: p.start.Instances, Config: config, State: resumes,
		Libraries: p.libraries, Sandbox: p.sandbox, Longest: p.options.MaxMessage, Memory: p.options.Memory}
	late := time.AfterFunc(p.options.StartTimeout, func() {
		w.expire("it had not started the plug-in", p.options.StartTimeout, "WithStartTimeout", p)
	})
	defer late.Stop()
	var err error
	if p.file != nil {
		request.Copy, request.Held = []byte(p.file.At()), p.file.Held()
		if w.library != nil {
			if err = w.library.Give(s.number, p.file.Handoff(), w.dying); err == handover.ErrNobody {
				err = nil // the call that follows is told why
			}
		}
	}
	var out []byte
	if err != nil {
		crash := engine.Crash{Code: -1, Reason: "not given the library: " + err.Error(), Attempt: w.attempt, Err: err}
		p.mu.Lock()
		p.failed(func() engine.Crash { return crash })
		p.mu.Unlock()
		err = &crash
	} else {
		out, err = c.control(lane.OpOpen, wire.Marshal(request))
	}
	err = c.openError(err)
	var opened wire.Opened
	if err == nil {
		if opened, err = wire.ParseOpened(out); err != nil {
			err = c.garbage(err)
		}
	}
	c.over()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.by, s.base = nil, opened.Base
	s.release(l)
	if err != nil {
		return err
	}
	w.opened = true
	p.resumes = nil // once; instances that are started later begin anew
	w.told = true   // too late now
	if p.Name == "" && w.library != nil {
		w.library.Close() // nobody else comes
	}
	if opened.Deaf {
		go p.host.Log(context.Background(), abi.LogWarn, []byte("threads that the plug-in starts cannot use host services in this worker: "+
			"the worker's program was built with a version of Go, or for an architecture, that is not known to this package"), nil)
	}
	return nil
}

// openError turns what a call may fail with, and opening may not, into what it may; see engine.Engine.
func (c *call) openError(err error) error {
	var open *inspect.Error
	var start *engine.StartError
	var crash *engine.Crash
	var long *engine.TooLong
	switch {
	case err == nil, errors.As(err, &open), errors.As(err, &start), errors.As(err, &crash):
		return err
	case errors.As(err, &long):
		return &engine.StartError{Status: abi.StatusNoMemory, Message: long.Text}
	default:
		return c.garbage(err)
	}
}

// control runs a call that is not one of the plug-in's functions, and has no status.
func (c *call) control(op lane.Op, in []byte) ([]byte, error) {
	_, out, err := c.request(op, in)
	return out, err
}

// request runs a call that is not one of the plug-in's functions.
func (c *call) request(op lane.Op, in []byte) (m lane.Message, out []byte, err error) {
	c.apart = true
	area, err := c.lane.Room(len(in), 4<<10)
	if err != nil {
		return m, nil, &engine.Crash{Code: -1, Reason: err.Error(), Attempt: c.lane.worker.attempt}
	}
	copy(area, in)
	c.lane.CallIn(c.inSession(), op, 0, len(in), lane.For(c.lane.seat.number, 0))
	if m, err = c.finish(); err != nil {
		return m, nil, err
	}
	if out, err = c.lane.Output(m); err != nil {
		return m, nil, c.garbage(err)
	}
	return m, out, nil
}

func (w *worker) pid() int { return w.process.PID() }

// kill ends the process and all that it has started. reason is for the calls in it, and by is the plug-in that is why, or nil; the
// first one counts. It does not wait.
func (w *worker) kill(reason string, by *Plugin) {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	w.leave(reason, by)
}

// expire is kill because something has taken longer than an option of package isolate allows.
func (w *worker) expire(what string, in time.Duration, option string, by *Plugin) {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	if !w.dead.Load() {
		w.late = in
		w.leave(fmt.Sprintf("killed by the host, because %s after %v (isolate.%s)", what, in, option), by)
	}
}

// leave is kill for a caller that holds the group's mu. From here on the worker is out of use, whether its process can
// be ended or not: calls that are in it end, and others take the next worker.
func (w *worker) leave(reason string, by *Plugin) {
	if w.dead.Load() {
		return
	}
	g := w.group
	w.reason, w.culprit = reason, by
	w.inside = -w.views
	for _, l := range w.lanes {
		if l.owned() {
			w.inside++
		}
	}
	if w.ended && reason == "" { // by itself: it may have been the only plug-in that a call was in
		w.culprit = w.only()
	}
	w.dead.Store(true)
	close(w.dying)
	used := g.worker == w
	if used {
		g.worker = nil
		g.count(w)
	}
	for _, s := range w.seats {
		if s.endBetween != nil {
			s.endBetween()
		}
		p := s.plugin
		if p.seat == s {
			p.seat = nil
			s.stopParking()
			// No call tells of it: a view that is held is of one that is over.
			if used && !p.closing && !s.busy() {
				go s.mourn()
			}
		}
		p.wakeAll()
	}
	w.free = nil
	w.process.Kill()
	w.unref()
	go w.alarm()
}

// works says that a call of a function has come back. All calls say so: what is known already is not written again.
func (w *worker) works() {
	if !w.worked.Load() {
		w.worked.Store(true)
	}
}

// only returns the plug-in that all calls in the worker are of, or nil. The caller holds the group's mu.
func (w *worker) only() (p *Plugin) {
	for _, l := range w.lanes {
		switch {
		case !l.owned():
		case p != nil && p != l.seat.plugin:
			return nil
		default:
			p = l.seat.plugin
		}
	}
	return p
}

// alarm wakes the calls that are in a dying worker, until there are none.
func (w *worker) alarm() {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		w.group.mu.Lock()
		busy := false
		for _, l := range w.lanes {
			if l.owned() || l.between || l.aside {
				busy = true
				l.Alarm()
			}
		}
		w.group.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(wait)
	}
}

// await waits for the end of the process, and sees to it that nothing of it is left.
func (w *worker) await() {
	g := w.group
	signal, code := w.process.Wait()
	g.mu.Lock()
	w.ended, w.signal, w.code, w.lived = true, signal, code, time.Since(w.began)
	var fault lane.FaultReport
	var faulted bool
	var at *seat
	var base uint64
	if !w.dead.Load() { // the memory is there
		w.unserved = !w.opened && !w.memory.Served() // the plug-in may have overwritten the memory
		if fault, faulted = w.memory.Fault(); faulted {
			at, base = w.at(fault)
		}
	}
	w.leave("", nil)
	g.mu.Unlock()
	go func() { // burying does not wait for what is to be told
		if faulted && at != nil {
			text, inside := at.where(fault, base, signal)
			g.mu.Lock()
			if w.place = text; inside && w.reason == "" {
				w.culprit = at.plugin
			}
			g.mu.Unlock()
		}
		w.output.Finish()
		close(w.gone)
	}()
	w.process.Bury()
	<-w.gone
	g.mu.Lock()
	g.unburied = slices.DeleteFunc(g.unburied, func(other *worker) bool { return other == w })
	g.mu.Unlock()
	close(w.buried)
}

// burialPatience is how long to wait for what is known about a worker's end, or is still left of it, where that is usually
// there at once.
const burialPatience = 50 * time.Millisecond

func (w *worker) awaitBurial(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-w.buried:
		return true
	case <-t.C:
		return false
	}
}

// mourn logs the end of a worker that no call of the plug-in's was in.
func (s *seat) mourn() {
	w := s.worker
	select {
	case <-w.gone:
	case <-time.After(time.Second):
	}
	crash := w.report()
	s.plugin.host.Log(context.Background(), abi.LogError, fmt.Appendf(nil, "%s while no call ran in it%s", &crash, escape.Line(crash.LastWords())), nil)
}

// report says what is known about the worker's end: all, once it is gone.
func (w *worker) report() engine.Crash {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	return w.words()
}

// words is report for a caller that holds the group's mu.
func (w *worker) words() engine.Crash {
	crash := engine.Crash{Signal: w.signal, Fault: w.place, Code: w.code, Reason: w.reason, Bound: w.bound, Late: w.late, Output: w.output.Lines(), Attempt: w.attempt, Group: w.group.Name}
	if w.culprit != nil && crash.Group != "" {
		crash.Culprit = w.culprit.Owner()
	}
	if crash.Unserved = w.unserved; w.unserved {
		crash.Reason = beforeServing(w.signal, w.code, w.output.Text())
	} else if w.ended && w.reason == "" {
		end := w.boundReached()
		crash.Reason, crash.Bound = end.Reason, end.Bound
	}
	if w.ended && crash.Reason == "" && w.signal == nil {
		switch w.code {
		case workerside.ExitGarbage:
			crash.Reason = "ended by itself, because the memory shared with the host was overwritten"
		case workerside.ExitLost:
			crash.Reason = "ended by itself, because the pipe that the host wakes it by was closed"
		case -1:
			crash.Reason = w.process.Unsaid()
		default:
			crash.Reason = process.Explain(w.code)
		}
	}
	return crash
}

// adopt makes a seat in a worker that has opened the plug-in the one that calls use. The caller holds p.mu.
func (p *Plugin) adopt(s *seat) {
	if s.worker.dead.Load() { // since then
		go s.mourn()
		p.wakeAll()
		return
	}
	p.seat = s
}

// restart has the plug-in opened once more, unless that is under way, and returns what is closed when it is over. The error is a
// *engine.Crash when no worker is to be started now. The caller holds p.mu.
func (p *Plugin) restart() (<-chan struct{}, error) {
	if p.starting != nil {
		return p.starting, nil
	}
	if crash := p.suspended(); crash != nil {
		return nil, crash
	}
	done := make(chan struct{})
	p.starting = done
	go func() {
		_, err := p.launch()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.starting, p.startErr = nil, err
		close(done)
		p.wakeAll()
		if p.closing && p.calls == 0 {
			close(p.drained)
		}
	}()
	return done, nil
}

// halt has the worker stop the plug-in, and end with the last one.
func (c *call) halt() error {
	op := lane.OpClose
	if c.lane.worker.retired { // which does not change any more
		op = lane.OpStop
	}
	_, err := c.control(op, nil)
	if err != nil {
		if _, crashed := err.(*engine.Crash); !crashed {
			err = c.garbage(err)
		}
	}
	return err
}

var (
	_ engine.Plugin   = (*Plugin)(nil)
	_ engine.Isolated = (*Plugin)(nil)
	_ engine.Engine   = (*Engine)(nil)
)

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
	"github.com/ferrule-dev/ferrule/internal/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
)

// worker is one worker process, from its start until nothing of it is left.
//
// It goes through these, each once: it is used; it is dying, when it has ended or the host has decided that it is to end,
// and no call uses it any more; it is gone, when all is known about its end; it is buried, when nothing of it is left. No
// call waits for more than the first two: a process that cannot be killed, or not be reaped, takes its time.
type worker struct {
	engine  *Plugin
	memory  *lane.Host
	process child
	began   time.Time
	attempt int
	output  *tail
	spawned context.Context // ends when its process is to be waited for no more, while the system makes it

	dead   atomic.Bool   // it is dying
	dying  chan struct{} // closed with dead
	gone   chan struct{} // closed when what report says does not change any more
	buried chan struct{} // closed when nothing is left of the process and of what it has started
	worked atomic.Bool   // a call of a function has come back from it
	wears  atomic.Bool   // a call has come back from it with abi.StatusPanic: an instance is started again, which may fail

	// Guarded by the engine's mu.
	layers   []string      // what shuts it in
	told     bool          // it has said what of them it has made itself, or may not say it any more
	reason   string        // why the host ended it; "" when it was not the host
	ended    bool          // the process has: the next two say how
	signal   os.Signal     // that ended it, or nil
	code     int           // its exit code, or -1
	lived    time.Duration // from before its start to after its end
	opened   bool          // it has opened the plug-in
	unserved bool          // it had not come as far as to serve
	place    string        // its fault was, in words; may be empty
	lanes    []*hostLane   // all
	free     []*hostLane   // those that nobody owns; the last one was used last
	views    int           // how many are owned by calls that are over, for their output
	inside   int           // how many calls were in it when it began to die
	refs     int           // one until it is dying, one until it is launched, one for each owned lane: who uses memory
}

// child is what a worker runs in: a process of this system.
type child interface {
	pid() int
	layers() []string       // what it has of a sandbox by itself
	kill()                  // has it end, with what it has started; it does not wait, and may be called at any time
	wait() (os.Signal, int) // waits for its end, and says how: nothing and -1 when the system does not; called once
	unsaid() string         // what there is to say where wait did not say how it ended
	bury()                  // waits until nothing is left of it and of what it has started; called once, after wait
}

// unsaidBySystem is unsaid of a process that this one waits for itself.
const unsaidBySystem = "gone, and the system did not say how it ended (a process that ignores SIGCHLD does not get to know)"

// launch starts a worker and has it open the plug-in. It is called by one goroutine at a time, and no call uses the
// worker before it returns.
func (e *Plugin) launch() (*worker, error) {
	e.mu.Lock()
	e.attempt++
	w := &worker{engine: e, attempt: e.attempt, refs: 2, code: -1, began: time.Now(),
		dying: make(chan struct{}), gone: make(chan struct{}), buried: make(chan struct{})}
	late := fmt.Errorf("killed by the host, because it had not started after %v (isolate.WithStartTimeout)", e.options.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(context.Background(), e.options.StartTimeout, late)
	defer cancel()
	ctx, e.spawning = context.WithCancelCause(ctx)
	w.spawned = ctx
	e.giveUpLaunch()
	e.mu.Unlock()
	err := w.spawn()
	e.mu.Lock()
	e.spawning(nil)
	e.spawning = nil
	if err != nil {
		defer e.mu.Unlock()
		crash := engine.Crash{Code: -1, Reason: "not started: " + err.Error(), Attempt: w.attempt, Err: err}
		e.failed(func() engine.Crash { return crash })
		return nil, &crash
	}
	e.launching = w
	e.unburied = append(e.unburied, w)
	w.watch()
	go w.await()
	e.giveUpLaunch()
	e.mu.Unlock()
	err = e.open(w)
	if err != nil {
		w.kill("")
		w.awaitBurial(burialPatience)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.launching = nil
	w.unref()
	if err == nil {
		return w, nil
	}
	var crash *engine.Crash
	if errors.As(err, &crash) {
		e.failed(func() engine.Crash { return *crash })
	}
	return nil, err
}

// giveUpLaunch ends the worker that starts, if there is one and it is to start no more: its process, or before there is one,
// the waiting for the system to make it. The caller holds e.mu.
func (e *Plugin) giveUpLaunch() {
	var why string
	switch {
	case e.closing:
		why = "killed by the host, because the plug-in was closed"
	case e.abandoned:
		why = openGivenUp
	default:
		return
	}
	if e.launching != nil {
		e.launching.leave(why)
	} else if e.spawning != nil {
		e.spawning(errors.New(why))
	}
}

// spawn makes the memory and starts what is to share it.
func (w *worker) spawn() (err error) {
	if w.memory, err = lane.NewHost(); err != nil {
		return err
	}
	w.output = newTail(w.engine.options.Output)
	if w.process, err = w.engine.run(w); err != nil {
		w.memory.Close()
	}
	return err
}

// startProcess starts a process of the program that the options name; it is the run of every engine but those of tests.
func (w *worker) startProcess() (child, error) {
	o, x := &w.engine.options, &w.engine.program
	if err := x.check(o); err != nil {
		return nil, err
	}
	name := "ferrule-worker: " + w.engine.lib.Manifest.Name
	c, process, err := start(w.spawned, x, name, environment(o.Env), o.Sandbox != nil, w.files(), w.output)
	if err != nil {
		return nil, x.notStarted(err)
	}
	if err := w.memory.Started(process); err != nil {
		c.kill()
		go func() {
			c.wait()
			c.bury()
		}()
		return nil, err
	}
	return c, nil
}

// files are what the worker inherits.
func (w *worker) files() []*os.File {
	files := w.memory.Files()
	if library := w.engine.file.Handoff(); library != nil {
		files = append(files[:len(files):len(files)], library)
	}
	return files
}

// open has the worker load the plug-in and start its instances.
func (w *worker) open() error {
	e := w.engine
	if err := e.check(); err != nil {
		return err
	}
	e.mu.Lock()
	l := w.addLane()
	w.refs++
	l.renew(callctx.Background)
	w.layers = w.process.layers()
	e.mu.Unlock()
	c := e.begin(l)
	request := wire.Open{Path: []byte(e.path), Contents: wire.Contents(e.lib), Instances: e.start.Instances, Config: e.start.Config,
		Libraries: e.libraries, Sandbox: e.sandbox, Longest: e.options.MaxMessage, Memory: e.options.Memory}
	if e.file != nil {
		request.Copy, request.Held = []byte(e.file.At()), e.file.Held()
	}
	late := time.AfterFunc(e.options.StartTimeout, func() {
		w.kill(fmt.Sprintf("killed by the host, because it had not started the plug-in after %v (isolate.WithStartTimeout)", e.options.StartTimeout))
	})
	defer late.Stop()
	out, err := c.control(lane.OpOpen, wire.Marshal(request))
	err = c.openError(err)
	c.over()
	e.mu.Lock()
	defer e.mu.Unlock()
	w.refs--
	l.clear()
	if err != nil {
		return err
	}
	w.opened = true
	w.offer(l)
	opened, err := wire.ParseOpened(out)
	if err != nil {
		return &engine.Crash{Code: -1, Reason: "not understood: " + err.Error(), Attempt: w.attempt}
	}
	w.told = true // too late now
	if opened.Deaf {
		go e.host.Log(context.Background(), abi.LogWarn, []byte("threads that the plug-in starts cannot use host services in this worker: "+
			"the worker's program was built with a version of Go, or for an architecture, that is not known to this package"))
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

// control runs a call that is not one of the plug-in's functions.
func (c *call) control(op lane.Op, in []byte) ([]byte, error) {
	c.apart = true
	area, err := c.lane.Room(len(in), 4<<10)
	if err != nil {
		return nil, &engine.Crash{Code: -1, Reason: err.Error(), Attempt: c.lane.worker.attempt}
	}
	copy(area, in)
	c.lane.Call(op, 0, len(in), 0)
	m, err := c.finish()
	if err != nil {
		return nil, err
	}
	out, err := c.lane.Output(m)
	if err != nil {
		return nil, c.garbage(err)
	}
	return out, nil
}

func (w *worker) pid() int { return w.process.pid() }

// kill ends the process and all that it has started. reason is for the calls in it; the first one counts. It does not wait.
func (w *worker) kill(reason string) {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	w.leave(reason)
}

// leave is kill for a caller that holds the engine's mu. From here on the worker is out of use, whether its process can
// be ended or not: calls that are in it end, and others take the next worker.
func (w *worker) leave(reason string) {
	if w.dead.Load() {
		return
	}
	e := w.engine
	w.reason = reason
	w.inside = -w.views
	for _, l := range w.lanes {
		if l.owned {
			w.inside++
		}
	}
	w.dead.Store(true)
	close(w.dying)
	if e.worker == w {
		e.worker = nil
		e.count(w)
		if !slices.ContainsFunc(w.lanes, func(l *hostLane) bool { return l.owned }) && !e.closing {
			go w.mourn() // no call tells of it: a view that is held is of one that is over
		}
	}
	w.free = nil
	w.process.kill()
	w.unref()
	e.wakeAll()
	go w.alarm()
}

// alarm wakes the calls that are in a dying worker, until there are none.
func (w *worker) alarm() {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		w.engine.mu.Lock()
		busy := false
		for _, l := range w.lanes {
			if l.owned {
				busy = true
				l.Alarm()
			}
		}
		w.engine.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(wait)
	}
}

// await waits for the end of the process, and sees to it that nothing of it is left.
func (w *worker) await() {
	e := w.engine
	signal, code := w.process.wait()
	e.mu.Lock()
	w.ended, w.signal, w.code, w.lived = true, signal, code, time.Since(w.began)
	var fault lane.FaultReport
	var faulted bool
	if !w.dead.Load() { // the memory is there
		w.unserved = !w.opened && !w.memory.Served() // the plug-in may have overwritten the memory
		fault, faulted = w.memory.Fault()
	}
	w.leave("")
	e.mu.Unlock()
	go func() { // burying does not wait for what is to be told
		if faulted {
			text := w.where(fault, signal)
			e.mu.Lock()
			w.place = text
			e.mu.Unlock()
		}
		w.output.finish()
		close(w.gone)
	}()
	w.process.bury()
	<-w.gone
	e.mu.Lock()
	e.unburied = slices.DeleteFunc(e.unburied, func(other *worker) bool { return other == w })
	e.mu.Unlock()
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

// mourn logs the end of a worker that no call was in.
func (w *worker) mourn() {
	select {
	case <-w.gone:
	case <-time.After(time.Second):
	}
	crash, last := w.report(), ""
	if n := len(crash.Output); n > 0 {
		last = "; its last line: " + escape.Line(crash.Output[n-1])
	}
	w.engine.host.Log(context.Background(), abi.LogError, fmt.Appendf(nil, "%s while no call ran in it%s", &crash, last))
}

// report says what is known about the worker's end: all, once it is gone.
func (w *worker) report() engine.Crash {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return w.words()
}

// words is report for a caller that holds the engine's mu.
func (w *worker) words() engine.Crash {
	crash := engine.Crash{Signal: w.signal, Fault: w.place, Code: w.code, Reason: w.reason, Output: w.output.lines(), Attempt: w.attempt}
	if crash.Unserved = w.unserved; w.unserved {
		crash.Reason = beforeServing(w.signal, w.code, w.output.text())
	} else if w.ended && w.reason == "" {
		crash.Reason = w.boundReached(crash.Output)
	}
	if w.ended && crash.Reason == "" && w.signal == nil {
		switch w.code {
		case workerside.ExitGarbage:
			crash.Reason = "ended by itself, because the memory shared with the host was overwritten"
		case workerside.ExitLost:
			crash.Reason = "ended by itself, because the pipe that the host wakes it by was closed"
		case -1:
			crash.Reason = w.process.unsaid()
		default:
			crash.Reason = explain(w.code)
		}
	}
	return crash
}

// adopt makes a worker that was launched the one that calls use. The caller holds e.mu.
func (e *Plugin) adopt(w *worker) {
	if w.dead.Load() { // since it was launched
		e.count(w)
		go w.mourn()
		e.wakeAll()
		return
	}
	e.worker = w
}

// count takes in that a worker that calls could use is dying. The caller holds e.mu.
func (e *Plugin) count(w *worker) {
	if w.worked.Load() {
		e.streak, e.suspensions = 0, 0
	}
	e.failed(w.words)
}

// failed takes in that a worker crashed: when the next one may be started. words are called with e.mu held, as failed is.
func (e *Plugin) failed(words func() engine.Crash) {
	e.lastCrash = words
	e.streak++
	r := &e.options.Restart
	switch {
	case e.streak >= r.Limit:
		e.earliest = time.Now().Add(r.Suspend << min(e.suspensions, 4))
		e.suspensions++
		e.streak = r.Limit - 1 // one more crash suspends again
	case e.streak >= 2:
		e.earliest = time.Now().Add(min(r.MaxDelay, r.Delay<<min(e.streak-2, 20)))
	}
}

// restart has a worker started, unless that is under way, and returns what is closed when it is over. The error is a
// *engine.Crash when none is to be started now. The caller holds e.mu.
func (e *Plugin) restart() (<-chan struct{}, error) {
	if e.starting != nil {
		return e.starting, nil
	}
	delay := time.Until(e.earliest)
	if delay > 0 && e.suspensions > 0 {
		crash := engine.Crash{Code: -1}
		if e.lastCrash != nil {
			crash = e.lastCrash()
		}
		crash.Suspended = delay
		return nil, &crash
	}
	done := make(chan struct{})
	e.starting = done
	go func() {
		var w *worker
		err := engine.ErrClosed
		select {
		case <-time.After(delay):
			w, err = e.launch()
		case <-e.closed:
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.starting, e.startErr = nil, err
		if err == nil {
			e.adopt(w)
		}
		close(done)
		e.wakeAll()
		if e.closing && e.calls == 0 {
			close(e.drained)
		}
	}()
	return done, nil
}

// halt has the worker stop the plug-in.
func (c *call) halt() error {
	_, err := c.control(lane.OpStop, nil)
	if err != nil {
		if _, crashed := err.(*engine.Crash); !crashed {
			err = c.garbage(err)
		}
	}
	return err
}

// exitPatience is how long the C library's exit handlers and destructors may take at most, in an orderly end.
const exitPatience = time.Second

// stop ends the worker after it has stopped the plug-in, within WithStopTimeout: that is for ferrule_stop, and what is left of it,
// up to exitPatience, for what runs after that when the process ends by itself. Then it is killed, which is no error: the
// plug-in has been stopped.
func (w *worker) stop() error {
	e := w.engine
	e.mu.Lock()
	l := w.idle()
	if l == nil || w.dead.Load() {
		w.leave("")
		e.mu.Unlock()
		return nil
	}
	w.refs++
	l.renew(callctx.Background)
	e.mu.Unlock()
	c := e.begin(l)
	deadline := time.Now().Add(e.options.StopTimeout)
	late := time.AfterFunc(e.options.StopTimeout, func() {
		w.kill(fmt.Sprintf("killed by the host, because it had not stopped the plug-in after %v (isolate.WithStopTimeout)", e.options.StopTimeout))
	})
	err := e.halt(c)
	c.over()
	late.Stop()
	e.mu.Lock()
	l.clear()
	e.mu.Unlock()
	if err == nil {
		t := time.NewTimer(max(0, min(e.exitPatience, time.Until(deadline))))
		defer t.Stop()
		select { // it ends by itself; what it has started does not
		case <-w.dying:
		case <-e.hurry:
		case <-t.C:
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w.leave("")
	w.unref()
	return err
}

var (
	_ engine.Plugin   = (*Plugin)(nil)
	_ engine.Isolated = (*Plugin)(nil)
	_ engine.Engine   = (*Engine)(nil)
)

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
	"github.com/ferrule-dev/ferrule/loader/escape"
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
	plugin  *Plugin
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
func (p *Plugin) launch() (*worker, error) {
	p.mu.Lock()
	p.attempt++
	w := &worker{plugin: p, attempt: p.attempt, refs: 2, code: -1, began: time.Now(),
		dying: make(chan struct{}), gone: make(chan struct{}), buried: make(chan struct{})}
	late := fmt.Errorf("killed by the host, because it had not started after %v (isolate.WithStartTimeout)", p.options.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(context.Background(), p.options.StartTimeout, late)
	defer cancel()
	ctx, p.spawning = context.WithCancelCause(ctx)
	w.spawned = ctx
	p.giveUpLaunch()
	p.mu.Unlock()
	err := w.spawn()
	p.mu.Lock()
	p.spawning(nil)
	p.spawning = nil
	if err != nil {
		defer p.mu.Unlock()
		crash := engine.Crash{Code: -1, Reason: "not started: " + err.Error(), Attempt: w.attempt, Err: err}
		p.failed(func() engine.Crash { return crash })
		return nil, &crash
	}
	p.launching = w
	p.unburied = append(p.unburied, w)
	w.watch()
	go w.await()
	p.giveUpLaunch()
	p.mu.Unlock()
	err = p.open(w)
	if err != nil {
		w.kill("")
		w.awaitBurial(burialPatience)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.launching = nil
	w.unref()
	if err == nil {
		return w, nil
	}
	var crash *engine.Crash
	if errors.As(err, &crash) {
		p.failed(func() engine.Crash { return *crash })
	}
	return nil, err
}

// giveUpLaunch ends the worker that starts, if there is one and it is to start no more: its process, or before there is one,
// the waiting for the system to make it. The caller holds p.mu.
func (p *Plugin) giveUpLaunch() {
	var why string
	switch {
	case p.closing:
		why = "killed by the host, because the plug-in was closed"
	case p.abandoned:
		why = openGivenUp
	default:
		return
	}
	if p.launching != nil {
		p.launching.leave(why)
	} else if p.spawning != nil {
		p.spawning(errors.New(why))
	}
}

// spawn makes the memory and starts what is to share it.
func (w *worker) spawn() (err error) {
	if w.memory, err = lane.NewHost(); err != nil {
		return err
	}
	w.output = newTail(w.plugin.options.Output)
	if w.process, err = w.plugin.run(w); err != nil {
		w.memory.Close()
	}
	return err
}

// startProcess starts a process of the program that the options name; it is the run of every engine but those of tests.
func (w *worker) startProcess() (child, error) {
	o, x := &w.plugin.options, &w.plugin.program
	if err := x.check(o); err != nil {
		return nil, err
	}
	name := "ferrule-worker: " + w.plugin.lib.Manifest.Name
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
	if library := w.plugin.file.Handoff(); library != nil {
		files = append(files[:len(files):len(files)], library)
	}
	return files
}

// open has the worker load the plug-in and start its instances.
func (w *worker) open() error {
	p := w.plugin
	if err := p.check(); err != nil {
		return err
	}
	p.mu.Lock()
	l := w.addLane()
	w.refs++
	l.renew(callctx.Background)
	w.layers = w.process.layers()
	p.mu.Unlock()
	c := p.begin(l)
	request := wire.Open{Path: []byte(p.path), Contents: wire.Contents(p.lib), Instances: p.start.Instances, Config: p.start.Config,
		Libraries: p.libraries, Sandbox: p.sandbox, Longest: p.options.MaxMessage, Memory: p.options.Memory}
	if p.file != nil {
		request.Copy, request.Held = []byte(p.file.At()), p.file.Held()
	}
	late := time.AfterFunc(p.options.StartTimeout, func() {
		w.kill(fmt.Sprintf("killed by the host, because it had not started the plug-in after %v (isolate.WithStartTimeout)", p.options.StartTimeout))
	})
	defer late.Stop()
	out, err := c.control(lane.OpOpen, wire.Marshal(request))
	err = c.openError(err)
	c.over()
	p.mu.Lock()
	defer p.mu.Unlock()
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
		go p.host.Log(context.Background(), abi.LogWarn, []byte("threads that the plug-in starts cannot use host services in this worker: "+
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
	w.plugin.mu.Lock()
	defer w.plugin.mu.Unlock()
	w.leave(reason)
}

// leave is kill for a caller that holds the engine's mu. From here on the worker is out of use, whether its process can
// be ended or not: calls that are in it end, and others take the next worker.
func (w *worker) leave(reason string) {
	if w.dead.Load() {
		return
	}
	p := w.plugin
	w.reason = reason
	w.inside = -w.views
	for _, l := range w.lanes {
		if l.owned {
			w.inside++
		}
	}
	w.dead.Store(true)
	close(w.dying)
	if p.worker == w {
		p.worker = nil
		p.count(w)
		if !slices.ContainsFunc(w.lanes, func(l *hostLane) bool { return l.owned }) && !p.closing {
			go w.mourn() // no call tells of it: a view that is held is of one that is over
		}
	}
	w.free = nil
	w.process.kill()
	w.unref()
	p.wakeAll()
	go w.alarm()
}

// alarm wakes the calls that are in a dying worker, until there are none.
func (w *worker) alarm() {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		w.plugin.mu.Lock()
		busy := false
		for _, l := range w.lanes {
			if l.owned {
				busy = true
				l.Alarm()
			}
		}
		w.plugin.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(wait)
	}
}

// await waits for the end of the process, and sees to it that nothing of it is left.
func (w *worker) await() {
	p := w.plugin
	signal, code := w.process.wait()
	p.mu.Lock()
	w.ended, w.signal, w.code, w.lived = true, signal, code, time.Since(w.began)
	var fault lane.FaultReport
	var faulted bool
	if !w.dead.Load() { // the memory is there
		w.unserved = !w.opened && !w.memory.Served() // the plug-in may have overwritten the memory
		fault, faulted = w.memory.Fault()
	}
	w.leave("")
	p.mu.Unlock()
	go func() { // burying does not wait for what is to be told
		if faulted {
			text := w.where(fault, signal)
			p.mu.Lock()
			w.place = text
			p.mu.Unlock()
		}
		w.output.finish()
		close(w.gone)
	}()
	w.process.bury()
	<-w.gone
	p.mu.Lock()
	p.unburied = slices.DeleteFunc(p.unburied, func(other *worker) bool { return other == w })
	p.mu.Unlock()
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
	w.plugin.host.Log(context.Background(), abi.LogError, fmt.Appendf(nil, "%s while no call ran in it%s", &crash, last))
}

// report says what is known about the worker's end: all, once it is gone.
func (w *worker) report() engine.Crash {
	w.plugin.mu.Lock()
	defer w.plugin.mu.Unlock()
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

// adopt makes a worker that was launched the one that calls use. The caller holds p.mu.
func (p *Plugin) adopt(w *worker) {
	if w.dead.Load() { // since it was launched
		p.count(w)
		go w.mourn()
		p.wakeAll()
		return
	}
	p.worker = w
}

// count takes in that a worker that calls could use is dying. The caller holds p.mu.
func (p *Plugin) count(w *worker) {
	if w.worked.Load() {
		p.streak, p.suspensions = 0, 0
	}
	p.failed(w.words)
}

// failed takes in that a worker crashed: when the next one may be started. words are called with p.mu held, as failed is.
func (p *Plugin) failed(words func() engine.Crash) {
	p.lastCrash = words
	p.streak++
	r := &p.options.Restart
	switch {
	case p.streak >= r.Limit:
		p.earliest = time.Now().Add(r.Suspend << min(p.suspensions, 4))
		p.suspensions++
		p.streak = r.Limit - 1 // one more crash suspends again
	case p.streak >= 2:
		p.earliest = time.Now().Add(min(r.MaxDelay, r.Delay<<min(p.streak-2, 20)))
	}
}

// restart has a worker started, unless that is under way, and returns what is closed when it is over. The error is a
// *engine.Crash when none is to be started now. The caller holds p.mu.
func (p *Plugin) restart() (<-chan struct{}, error) {
	if p.starting != nil {
		return p.starting, nil
	}
	delay := time.Until(p.earliest)
	if delay > 0 && p.suspensions > 0 {
		crash := engine.Crash{Code: -1}
		if p.lastCrash != nil {
			crash = p.lastCrash()
		}
		crash.Suspended = delay
		return nil, &crash
	}
	done := make(chan struct{})
	p.starting = done
	go func() {
		var w *worker
		err := engine.ErrClosed
		select {
		case <-time.After(delay):
			w, err = p.launch()
		case <-p.closed:
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.starting, p.startErr = nil, err
		if err == nil {
			p.adopt(w)
		}
		close(done)
		p.wakeAll()
		if p.closing && p.calls == 0 {
			close(p.drained)
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
	p := w.plugin
	p.mu.Lock()
	l := w.idle()
	if l == nil || w.dead.Load() {
		w.leave("")
		p.mu.Unlock()
		return nil
	}
	w.refs++
	l.renew(callctx.Background)
	p.mu.Unlock()
	c := p.begin(l)
	deadline := time.Now().Add(p.options.StopTimeout)
	late := time.AfterFunc(p.options.StopTimeout, func() {
		w.kill(fmt.Sprintf("killed by the host, because it had not stopped the plug-in after %v (isolate.WithStopTimeout)", p.options.StopTimeout))
	})
	err := p.halt(c)
	c.over()
	late.Stop()
	p.mu.Lock()
	l.clear()
	p.mu.Unlock()
	if err == nil {
		t := time.NewTimer(max(0, min(p.exitPatience, time.Until(deadline))))
		defer t.Stop()
		select { // it ends by itself; what it has started does not
		case <-w.dying:
		case <-p.hurry:
		case <-t.C:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.leave("")
	w.unref()
	return err
}

var (
	_ engine.Plugin   = (*Plugin)(nil)
	_ engine.Isolated = (*Plugin)(nil)
	_ engine.Engine   = (*Engine)(nil)
)

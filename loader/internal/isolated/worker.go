package isolated

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/transport"
	"github.com/ferrule-dev/ferrule/loader/internal/wire"
	workerside "github.com/ferrule-dev/ferrule/loader/internal/worker"
)

// worker is one worker process, from its start until nothing of it is left.
type worker struct {
	engine  *Engine
	memory  *transport.Host
	process child
	attempt int
	layers  []string
	output  *tail

	dead   atomic.Bool   // it has ended, or is about to
	gone   chan struct{} // closed when crash is set
	crash  *engine.Crash // what its end looks like to calls
	worked atomic.Bool   // a call of a function has come back from it

	killing sync.Once
	reason  string // why the host killed it; written before it was

	// Guarded by the engine's mu.
	ended bool    // crash is set, and the worker was buried if it was the engine's
	lanes []*lane // all
	free  []*lane // those that nobody owns; the last one was used last
	views int     // how many are owned by calls that are over, for their output
	refs  int     // one for the process, one for each owned lane: who uses memory
}

// child is what a worker runs in: a process of this system.
type child interface {
	pid() int
	layers() []string       // what it has of a sandbox by itself
	kill()                  // ends it, and what it has started; does nothing when it has ended
	wait() (os.Signal, int) // waits for its end, and says how; called once
}

// launch starts a worker and has it open the plug-in. It is called by one goroutine at a time, and no call uses the
// worker before it returns.
func (e *Engine) launch() (*worker, error) {
	e.mu.Lock()
	e.attempt++
	w := &worker{engine: e, attempt: e.attempt, gone: make(chan struct{}), refs: 1}
	e.mu.Unlock()
	if err := w.spawn(); err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		return nil, e.failed(&engine.Crash{Code: -1, Reason: "not started: " + err.Error(), Attempt: w.attempt})
	}
	go w.await()
	if err := w.open(); err != nil {
		w.kill("")
		<-w.gone
		e.mu.Lock()
		defer e.mu.Unlock()
		w.unref()
		var crash *engine.Crash
		if errors.As(err, &crash) {
			return nil, e.failed(crash)
		}
		return nil, err
	}
	return w, nil
}

// spawn makes the memory and starts what is to share it.
func (w *worker) spawn() (err error) {
	if w.memory, err = transport.NewHost(); err != nil {
		return err
	}
	w.output = newTail(w.engine.options.Stderr)
	if w.process, err = w.engine.run(w); err != nil {
		w.memory.Close()
	}
	return err
}

// startProcess starts a process of the program that the options name; it is the run of every engine but those of tests.
func (w *worker) startProcess() (child, error) {
	o := &w.engine.options
	var err error
	binary := o.Binary
	if binary == "" {
		binary, err = self()
	}
	if err != nil {
		return nil, err
	}
	if err := o.checkProgram(); err != nil {
		return nil, err
	}
	p, err := startProcess(binary, "ferrule-worker: "+w.engine.lib.Manifest.Name, environment(o.Env), o.Sandbox != nil, w.memory.Files(), w.output)
	if err != nil {
		return nil, err
	}
	if err := w.memory.Started(p.Process); err != nil {
		p.kill()
		p.wait()
		return nil, err
	}
	return p, nil
}

// open has the worker load the plug-in and start its instances.
func (w *worker) open() error {
	e := w.engine
	e.mu.Lock()
	l := w.addLane()
	w.refs++
	l.renew(context.Background())
	e.mu.Unlock()
	c := e.begin(l, context.Background())
	request := wire.Open{Path: []byte(e.path), Contents: wire.Contents(e.lib), SHA256: e.start.SHA256, Instances: e.start.Instances, Config: e.start.Config,
		RunPath: runPath(e.lib, e.path), Sandbox: e.options.Sandbox}
	late := time.AfterFunc(e.options.StartTimeout, func() {
		w.kill(fmt.Sprintf("killed by the host, because it had not started the plug-in after %v (isolate.WithStartTimeout)", e.options.StartTimeout))
	})
	defer late.Stop()
	out, err := c.control(transport.OpOpen, wire.Marshal(request))
	err = c.openError(err)
	if c.scope != nil {
		c.scope.over.Store(true)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w.refs--
	l.ctx = nil
	if err != nil {
		return err
	}
	w.free = append(w.free, l)
	opened, err := wire.ParseOpened(out)
	if err != nil {
		return &engine.Crash{Code: -1, Reason: "not understood: " + err.Error(), Attempt: w.attempt}
	}
	w.layers = append(w.process.layers(), opened.Layers...)
	if opened.Deaf {
		go e.host.Log(context.Background(), abi.LogWarn, []byte("threads that the plug-in starts cannot use host services in this worker: "+
			"the worker's program was built with a version of Go, or for an architecture, that is not known to this package"))
	}
	return nil
}

// openError turns what a call may fail with, and opening may not, into what it may; see engine.Starter.
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
func (c *call) control(op transport.Op, in []byte) ([]byte, error) {
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

// runPath returns the folders in which the library says that what it links to is.
func runPath(lib *inspect.Library, path string) (folders [][]byte) {
	origin := filepath.Dir(path)
	for _, folder := range lib.RunPath {
		folder = strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin, "@loader_path", origin).Replace(folder)
		if filepath.IsAbs(folder) {
			folders = append(folders, []byte(filepath.Clean(folder)))
		}
	}
	return folders
}

func (w *worker) pid() int { return w.process.pid() }

// kill ends the process and all that it has started. reason is for the calls in it; the first one counts.
func (w *worker) kill(reason string) {
	w.killing.Do(func() {
		w.reason = reason
		w.process.kill()
	})
}

// await waits for the end of the process, tells the calls in it, and frees what it had.
func (w *worker) await() {
	signal, code := w.process.wait()
	w.dead.Store(true)
	w.output.finish()
	reason := ""
	w.killing.Do(func() { w.process.kill() }) // what it has started
	reason = w.reason
	crash := &engine.Crash{Signal: signal, Code: code, Reason: reason, Stderr: w.output.lines(), Attempt: w.attempt}
	if reason == "" && signal == nil {
		switch code {
		case workerside.ExitGarbage:
			crash.Reason = "ended by itself, because the memory shared with the host was overwritten"
		case workerside.ExitLost:
			crash.Reason = "ended by itself, because the pipe that the host wakes it by was closed"
		default:
			crash.Reason = explain(code)
		}
	}
	w.crash = crash
	e := w.engine
	e.mu.Lock()
	w.ended = true
	if e.worker == w {
		e.bury(w)
	}
	e.mu.Unlock()
	close(w.gone)
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		e.mu.Lock()
		busy := false
		for _, l := range w.lanes {
			if l.ctx != nil {
				busy = true
				l.Alarm()
			}
		}
		e.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(wait)
	}
}

// adopt makes a worker that was launched the one that calls use. The caller holds e.mu.
func (e *Engine) adopt(w *worker) {
	e.worker = w
	if w.ended { // since it was launched: await has left it to us
		e.bury(w)
	}
}

// bury takes a dead worker out of use. The caller holds e.mu.
func (e *Engine) bury(w *worker) {
	e.worker = nil
	if w.worked.Load() {
		e.streak, e.suspensions = 0, 0
	}
	_ = e.failed(w.crash)
	if len(w.free) == len(w.lanes) && !e.closing {
		last := ""
		if n := len(w.crash.Stderr); n > 0 {
			last = "; its last line: " + w.crash.Stderr[n-1]
		}
		go e.host.Log(context.Background(), abi.LogError, fmt.Appendf(nil, "%s while no call ran in it%s", w.crash, last))
	}
	w.free = nil
	w.unref()
	e.wakeAll()
}

// failed takes in that a worker crashed: when the next one may be started. The caller holds e.mu.
func (e *Engine) failed(crash *engine.Crash) *engine.Crash {
	e.lastCrash = crash
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
	return crash
}

// restart has a worker started, unless that is under way, and returns what is closed when it is over. The error is a
// *engine.Crash when none is to be started now. The caller holds e.mu.
func (e *Engine) restart() (<-chan struct{}, error) {
	if e.starting != nil {
		return e.starting, nil
	}
	delay := time.Until(e.earliest)
	if delay > 0 && e.suspensions > 0 {
		crash := engine.Crash{Code: -1}
		if e.lastCrash != nil {
			crash = *e.lastCrash
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

// stop ends the worker after it has stopped the plug-in.
func (w *worker) stop() error {
	e := w.engine
	e.mu.Lock()
	l := w.idle()
	if l == nil || w.dead.Load() {
		e.mu.Unlock()
		w.kill("")
		<-w.gone
		e.mu.Lock()
		defer e.mu.Unlock()
		w.unref()
		return nil
	}
	w.refs++
	l.renew(context.Background())
	e.mu.Unlock()
	c := e.begin(l, context.Background())
	late := time.AfterFunc(e.options.StartTimeout, func() {
		w.kill(fmt.Sprintf("killed by the host, because it had not stopped the plug-in after %v (isolate.WithStartTimeout)", e.options.StartTimeout))
	})
	_, err := c.control(transport.OpStop, nil)
	if err != nil {
		if _, crashed := err.(*engine.Crash); !crashed {
			err = c.garbage(err)
		}
	}
	if c.scope != nil {
		c.scope.over.Store(true)
	}
	late.Stop()
	e.mu.Lock()
	l.ctx = nil
	e.mu.Unlock()
	if err == nil {
		select { // it ends by itself; what it has started does not
		case <-w.gone:
		case <-time.After(min(time.Second, e.options.StartTimeout)):
		}
	}
	w.kill("")
	<-w.gone
	e.mu.Lock()
	defer e.mu.Unlock()
	w.unref()
	w.unref()
	return err
}

// self returns this program's own file.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		const exe = "/proc/self/exe" // also when the file was replaced or deleted since
		if _, err := os.Stat(exe); err == nil {
			return exe, nil
		}
	}
	return os.Executable()
}

var (
	_ engine.Engine   = (*Engine)(nil)
	_ engine.Isolated = (*Engine)(nil)
	_ engine.Starter  = (*Starter)(nil)
)

// Package host is the engine that runs a plug-in in a worker process: it starts workers, carries calls over shared
// memory, and makes errors of whatever ends a worker.
//
// A Plugin has at most one worker at a time. A call takes a lane of it and owns the lane until it is over. When the
// worker ends, exactly the calls that own a lane fail, and the next call starts another one.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// Options say how to isolate. Package isolate documents them.
type Options struct {
	Binary       string // "" is this program
	Env          []string
	Output       io.Writer // what it prints; nil drops what is not kept for errors
	Grace        time.Duration
	StartTimeout time.Duration
	StopTimeout  time.Duration
	CallTimeout  time.Duration // 0 is none
	MaxMessage   int64
	Restart      Restart
	Sandbox      func() ([]byte, error) // what all workers of a plug-in that is opened now get; nil is none
	Memory       int64                  // that the sandbox leaves the worker; 0 without a limit
	Time         time.Duration          // that the sandbox gives a worker to live; 0 without a limit
	CPU          time.Duration          // that the sandbox gives it of processors' time; 0 without a limit
	given        map[string]bool
}

// Once takes in that an option is given, and refuses it the second time: none replaces another.
func (o *Options) Once(name string) error {
	if o.given[name] {
		return &inspect.Error{Kind: engine.ErrOption, Found: name + " twice", Expected: "it once", Remedy: "Leave one of them out: none replaces another"}
	}
	if o.given == nil {
		o.given = make(map[string]bool)
	}
	o.given[name] = true
	return nil
}

// Restart says how soon a worker is started after others crashed.
type Restart struct {
	Delay    time.Duration // before the third of workers that crash one after the other; it doubles from there
	MaxDelay time.Duration
	Limit    int           // after that many workers that crash one after the other, none is started for Suspend
	Suspend  time.Duration // doubles each time up to 16 times, until a call succeeds
}

// Plugin runs one plug-in in worker processes.
type Plugin struct {
	lib  *inspect.Library
	path string        // absolute
	file *libfile.Copy // what every worker loads; see useFile
	// libraries are what the plug-in's library brings along and may read in a sandbox; found once, when it is opened.
	libraries    []wire.Library
	sandbox      json.RawMessage // likewise; nil is none
	host         engine.Host
	options      Options
	program      executable
	start        *engine.Options
	lanes        int // how many calls may run at a time
	run          func(*worker) (child, error)
	open         func(*worker) error                     // has a worker load the plug-in
	halt         func(*call) error                       // has it stop the plug-in
	locate       func(e *Plugin, pc, base uint64) string // names the code at pc
	exitPatience time.Duration                           // the constant, but in tests

	expected []atomic.Uint32 // by function: how long its last long output was

	mu        mutex
	worker    *worker                 // nil when there is none that calls may use
	unburied  []*worker               // those of which something is left, or may be
	launching *worker                 // that starts, and that no call uses yet; or nil
	isOpen    bool                    // the first worker was launched
	spawning  context.CancelCauseFunc // gives up the worker whose process the system is making; or nil
	abandoned bool                    // before that, the one who opened the plug-in has given up
	starting  chan struct{}           // not nil while one is started; closed at the end of it
	startErr  error                   // of the last start
	waiting   []*waiter               // calls that wait for a lane, first come first served
	calls     int                     // that own a lane, or several to trim them
	views     int                     // of them, those that are over, for their output; of all workers
	closing   bool
	closed    chan struct{} // closed with closing
	drained   chan struct{} // closed when closing and calls is 0
	trimming  bool

	attempt     int // workers started so far
	streak      int // of them, the last ones that crashed without a call that succeeded
	suspensions int
	earliest    time.Time           // before which no worker is started
	lastCrash   func() engine.Crash // what is known of it; called with mu held. nil before the first

	fileUses   int  // of file, beside the engine's own
	fileClosed bool // the engine's own is over

	watching bool

	closeOnce sync.Once
	hurryOnce sync.Once
	cut       *worker       // was killed with calls in it, because closing was to take no more time; guarded by mu
	hurry     chan struct{} // closed when closing is to take no more time
	over      chan struct{} // closed when closeErr is set
	closeErr  error
}

// mutex guards a Plugin. Every step of taking, giving back, waiting, dying and closing is one holding of it, so that a test
// that has a say in who gets it next goes through the orders in which things can happen.
type mutex struct {
	sync.Mutex
	step func() // called before each locking where it is not nil; set before the engine is used
}

func (m *mutex) Lock() {
	if m.step != nil {
		m.step()
	}
	m.Mutex.Lock()
}

// Engine opens plug-ins isolated. It is isolate.InWorker.
type Engine struct {
	Options
	Wrong error // what is wrong with the options; nil where nothing is
}

// Name is engine.Engine's.
func (s *Engine) Name() string { return "isolate.InWorker" }

// Fault is engine.Engine's.
func (s *Engine) Fault() error { return s.Wrong }

// Recognises is engine.Engine's.
func (s *Engine) Recognises(f *engine.File) bool { return native.IsLibrary(f) }

// Open is engine.Engine's.
func (s *Engine) Open(ctx context.Context, file *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	f, err := native.OpenFile(file.Path, file.Take())
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return s.open(ctx, f, o, accept)
}

// open is Open of a file that was found to be a library.
func (s *Engine) open(ctx context.Context, f *native.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	if err := native.Runnable(f.Library, true, o.ExecStack); err != nil {
		return nil, nil, err
	}
	if _, err := accept(&f.Library.Description); err != nil { // before the file is copied, which may be long
		return nil, nil, err
	}
	file, err := f.ForWorkers(o.SHA256)
	if err != nil {
		return nil, nil, err
	}
	keep := false
	defer func() {
		if !keep {
			file.Release()
		}
	}()
	lib, err := native.InspectCopy(f.Path, file)
	if err != nil {
		return nil, nil, err
	}
	host, err := accept(&lib.Description)
	if err != nil {
		return nil, nil, err
	}
	program, err := openExecutable(&s.Options)
	if err != nil {
		return nil, nil, noProgram(err)
	}
	started := false
	defer func() {
		if !started {
			program.close()
		}
	}()
	p := newPlugin(lib, f.Absolute, host, s.Options, o)
	p.program = program
	p.file = file
	if s.Sandbox != nil {
		if p.sandbox, err = s.Sandbox(); err != nil {
			return nil, nil, sandboxError(f.Absolute, err)
		}
		if p.libraries, err = grants(f.Absolute, lib); err != nil {
			return nil, nil, err
		}
	}
	stop := context.AfterFunc(ctx, p.abandon)
	defer stop()
	w, err := p.launch()
	if err != nil {
		return nil, nil, err
	}
	keep = true
	p.opened(w)
	started = true
	return p, &lib.Description, nil
}

// opened says that the first worker was launched: the plug-in is open, and giving up comes too late.
func (p *Plugin) opened(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isOpen, p.abandoned = true, false
	p.adopt(w)
}

// newPlugin makes a plug-in without a worker.
func newPlugin(lib *inspect.Library, path string, host engine.Host, options Options, o *engine.Options) *Plugin {
	p := &Plugin{lib: lib, path: path, host: host, options: options, start: o, drained: make(chan struct{})}
	p.hurry, p.over = make(chan struct{}), make(chan struct{})
	p.run, p.open, p.halt, p.closed = (*worker).startProcess, (*worker).open, (*call).halt, make(chan struct{})
	p.locate, p.exitPatience = (*Plugin).place, exitPatience
	p.expected = make([]atomic.Uint32, len(lib.Funcs)+len(lib.Hooks))
	p.lanes = lane.MaxLanes
	if lib.Manifest.Threads != abi.Concurrent {
		p.lanes = min(p.lanes, o.Instances)
	} else if o.MaxCalls > 0 {
		p.lanes = min(p.lanes, o.MaxCalls)
	}
	return p
}

// abandon kills the first worker, which nobody waits for any more.
func (p *Plugin) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isOpen { // the context has ended when the opening was over already
		return
	}
	p.abandoned = true
	p.giveUpLaunch()
}

const openGivenUp = "killed by the host, because the context of OpenContext had ended"

// check reports whether the library is what it was when it was opened. A copy always is.
func (p *Plugin) check() error {
	if p.file == nil || p.file.Check() == nil {
		return nil
	}
	return &inspect.Error{Path: p.path, Kind: native.ErrDigest, Found: "a file that was overwritten in place since it was opened",
		Expected: "the same bytes; the file is too large for a copy of it to be kept", Remedy: "Rename new versions over old ones; " +
			"close the plug-in and open it again"}
}

// Append calls a function; see engine.Plugin.
func (p *Plugin) Append(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return dst, 0, err
	}
	out, status, err := p.append(&caller, fn, dst, in)
	if err != nil {
		return dst, 0, because(&caller, err)
	}
	return out, status, nil
}

// append is Append, which leaves to because what is missing in its error.
func (p *Plugin) append(caller *callctx.Caller, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	l, err := p.acquire(caller)
	if err != nil {
		return nil, 0, err
	}
	c := p.begin(l)
	defer c.end()
	out, status, err := c.call(fn, in, cap(dst)-len(dst))
	if err != nil {
		return nil, 0, err
	}
	return append(dst, out...), status, nil
}

// View calls a function and returns its output in the lane's memory; see engine.Plugin. The lane is the view's until it
// is released.
func (p *Plugin) View(ctx context.Context, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return nil, 0, err
	}
	v, status, err := p.view(&caller, fn, in)
	if err != nil {
		return nil, status, because(&caller, err)
	}
	return v, status, nil
}

// view is View, which leaves to because what is missing in its error.
func (p *Plugin) view(caller *callctx.Caller, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	l, err := p.acquire(caller)
	if err != nil {
		return nil, 0, err
	}
	c := p.begin(l)
	held := false
	defer func() {
		if !held {
			c.end()
		}
	}()
	out, status, err := c.call(fn, in, 0)
	if err != nil {
		return nil, status, err
	}
	held = true
	c.over()
	c.lane.settle()
	return &engine.View{Bytes: out, Release: c.end}, status, nil
}

// call runs a function on the call's lane and returns its output, in the lane's memory.
func (c *call) call(fn engine.Fn, in []byte, room int) ([]byte, abi.Status, error) {
	expected := int(c.expected[fn].Load())
	room = min(max(room, expected, leastRoom), maxRoom)
	area, err := c.lane.Room(len(in), room)
	if err != nil {
		return nil, 0, &engine.TooLong{Text: fmt.Sprintf("an input of %d bytes: %v", len(in), err)}
	}
	copy(area, in)
	c.lane.Call(lane.OpCall, uint32(fn), len(in), c.flags())
	m, err := c.finish()
	if err != nil {
		return nil, 0, err
	}
	if m.Status < 0 {
		return nil, 0, c.garbage(fmt.Errorf("the status %d", m.Status))
	}
	c.lane.worker.worked.Store(true)
	if m.Status == int32(abi.StatusPanic) {
		c.lane.worker.wears.Store(true)
	}
	out, err := c.lane.Output(m)
	if err != nil {
		return nil, 0, c.garbage(err)
	}
	longest := c.options.MaxMessage
	if m.Status != 0 {
		longest = max(longest, leastRoom) // it is a message
	}
	if int64(len(out)) > longest { // there was room, but not for this
		return nil, 0, &engine.TooLong{Text: fmt.Sprintf("an output of %d bytes: %s", len(out), c.options.noRoom())}
	}
	if n := len(out); n > longOutput && n <= maxRoom || expected > 0 && n < expected/2 {
		if n <= longOutput {
			n = 0
		}
		c.expected[fn].Store(uint32(n))
	}
	if m.Status == int32(abi.StatusCancelled) && c.options.CallTimeout > 0 && c.wasOverdue() && !c.lane.caller.Ended() {
		return nil, 0, &engine.Limited{Message: string(out), Limit: c.limit()}
	}
	return out, abi.Status(m.Status), nil
}

// An output of more than longOutput bytes is remembered, so that the next one of the function finds room; up to maxRoom.
// There is always leastRoom, for messages.
const (
	leastRoom  = 4 << 10
	longOutput = 32 << 10
	maxRoom    = 1 << 30
)

// noRoom is what a plug-in and its caller get to read where something is longer than MaxMessage.
func (o *Options) noRoom() string { return lane.NoRoom(o.MaxMessage, o.Memory).Error() }

// batchLimit is how many bytes of inputs go to the worker at once, if there is more than one input.
const batchLimit = 1 << 20

// Batch calls a function with each input; see engine.Plugin.
func (p *Plugin) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed = b.Out[:0], slices.Grow(b.Records[:0], len(in)), false
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return err
	}
	for len(in) > 0 {
		n, size := 0, 0
		for n < len(in) && (n == 0 || size+len(in[n]) <= batchLimit) && n < 1<<16 {
			size += len(in[n])
			n++
		}
		ran, full, err := p.part(&caller, fn, in[:n], b)
		if err != nil {
			return because(&caller, err)
		}
		in = in[ran:]
		if ran < n && !full {
			return caller.GaveUp()
		}
	}
	return nil
}

// part runs some inputs of a batch in one message. full says that there was no room for the outputs of the rest. It leaves
// to because what is missing in its error.
func (p *Plugin) part(caller *callctx.Caller, fn engine.Fn, in [][]byte, b *engine.Batch) (ran int, full bool, err error) {
	l, err := p.acquire(caller)
	if err != nil {
		return 0, false, err
	}
	c := p.begin(l)
	defer c.end()
	size := wire.BatchSize(in)
	area, err := l.Room(size, size+len(in)*64)
	if err != nil {
		return 0, false, &engine.TooLong{Text: fmt.Sprintf("a batch of %d bytes: %v", size, err)}
	}
	wire.PutBatch(area, in)
	p.mu.Lock()
	l.batch = true
	p.mu.Unlock()
	l.Call(lane.OpBatch, uint32(fn), size, c.flags())
	m, failed := c.finish()
	switch failed.(type) {
	case nil:
	case *engine.Crash, *engine.Overrun: // whatever the message says, it was not checked
		return 0, false, failed
	default:
		if m.OutAt == 0 {
			return 0, false, c.ofBatch(failed)
		}
	}
	out, err := l.Output(m)
	if err != nil {
		return 0, false, c.garbage(err)
	}
	if failed != nil {
		out = out[:m.OutAt] // of the inputs that ran before it; checked with the failure
	}
	l.worker.worked.Store(true)
	before := len(b.Records)
	ending, err := wire.ParseOutcome(out, len(in), b)
	if err != nil {
		return 0, false, c.garbage(err)
	}
	ran = len(b.Records) - before
	panicked := func(r engine.Record) bool { return r.Status == abi.StatusPanic }
	if b.Failed && slices.ContainsFunc(b.Records[before:], panicked) {
		l.worker.wears.Store(true)
	}
	if failed != nil {
		return ran, false, c.ofBatch(failed)
	}
	if ending == wire.EndingFull && ran > 0 {
		return ran, true, nil
	}
	if ran < len(in) && !caller.Ended() {
		if c.wasOverdue() {
			return ran, false, &engine.Ended{Cause: c.limit()}
		}
		return 0, false, c.garbage(fmt.Errorf("a batch that ran %d of %d inputs", ran, len(in)))
	}
	return ran, false, nil
}

// ofBatch judges a batch's failure once its records were looked at.
func (c *call) ofBatch(failed error) error {
	if _, start := failed.(*engine.StartError); start && !c.panicked() {
		return c.garbage(errors.New("an instance that could not be started again, which none has to be"))
	}
	return failed
}

// Library returns what was read from the file that was opened.
func (p *Plugin) Library() *inspect.Library { return p.lib }

// Isolation is engine.Isolated's.
func (p *Plugin) Isolation() engine.Isolation {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := engine.Isolation{Attempt: p.attempt}
	if p.worker != nil && !p.worker.dead.Load() {
		i.PID, i.Layers = p.worker.pid(), slices.Clone(p.worker.layers)
	}
	return i
}

// Close ends the plug-in; see engine.Plugin.
func (p *Plugin) Close() error { return p.Shutdown(context.Background()) }

// Shutdown is Close within the time that ctx gives; see engine.Plugin. When ctx ends the worker is killed, and the calls
// that are in it end.
func (p *Plugin) Shutdown(ctx context.Context) error {
	caller, err := callctx.Ask(ctx)
	if err != nil && err != engine.ErrTooDeep {
		return err
	}
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.closing = true
		close(p.closed)
		p.giveUpLaunch()
		p.wakeAll()
		if p.calls == 0 && p.starting == nil {
			close(p.drained)
		}
		p.mu.Unlock()
		go func() {
			p.closeErr = p.close()
			close(p.over)
		}()
	})
	select {
	case <-p.over:
		return p.closeErr
	case <-caller.Done:
	}
	p.hurryOnce.Do(func() { close(p.hurry) })
	t := time.NewTimer(hurryPatience)
	defer t.Stop()
	cause := caller.Cause()
	select {
	case <-p.over:
		if crash, ok := p.closeErr.(*engine.Crash); ok {
			own := *crash
			own.GivenUp = cause
			return &own
		}
		return p.closeErr
	case <-t.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &engine.Unfinished{Calls: p.calls - p.views, Views: p.views, Cause: cause}
}

// How long closing waits for what is usually over at once: hurryPatience, after the worker was killed because closing was
// to take no more time; and leftPatience, for the end of all processes, before it leaves the rest to the background.
const (
	hurryPatience = 100 * time.Millisecond
	leftPatience  = time.Second
)

// close does what comes after no call can begin any more.
func (p *Plugin) close() (err error) {
	defer func() {
		p.closeFile()
	}()
	go func() {
		select {
		case <-p.over:
			return
		case <-p.hurry:
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.worker != nil {
			p.cut = p.worker
		}
		reason := "killed by the host, because the context of Shutdown had ended"
		if what := (&engine.Unfinished{Calls: p.calls - p.views, Views: p.views}).What(); what != "" {
			reason += ", with " + what
		}
		for _, w := range p.unburied {
			w.leave(reason)
		}
	}()
	<-p.drained
	p.mu.Lock()
	w, cut := p.worker, p.cut
	p.worker = nil
	left := slices.Clone(p.unburied)
	p.mu.Unlock()
	switch {
	case w != nil:
		err = w.stop()
	case cut != nil:
		crash := cut.report()
		crash.Unasked = true
		err = &crash
	}
	for deadline := time.Now().Add(leftPatience); len(left) > 0; left = left[1:] {
		if !left[0].awaitBurial(time.Until(deadline)) && err == nil {
			crash := left[0].report()
			crash.Reason = fmt.Sprintf("killed by the host, and something of it was still there %v later (process %d)", leftPatience, left[0].pid())
			err = &crash
		}
		left[0].output.flush()
	}
	p.program.close() // nothing is started any more
	return err
}

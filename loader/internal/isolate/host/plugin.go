// Package host is the engine that runs a plug-in in a worker process: it starts workers, carries calls over shared
// memory, and makes errors of whatever ends a worker.
//
// A Group has at most one worker at a time, and each of its Plugins a seat in it. A call takes a lane of the worker and owns the lane
// until it is over. When the worker ends, exactly the calls that own a lane fail, and the next call starts another one.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// Options say how to isolate. Package isolate documents them.
type Options struct {
	Binary       string // "" is this program
	Env          []string
	Output       io.Writer // what it prints; nil drops what is not kept for errors
	Grace        time.Duration
	StartTimeout time.Duration
	StopTimeout  time.Duration
	MaxMessage   int64
	Restart      Restart
	Sandbox      func(folder string) ([]byte, error) // with the plug-in's own folder, or "": what all workers of a plug-in that is opened now get; nil is none
	Memory       int64                               // that the sandbox leaves the worker; 0 without a limit
	Time         time.Duration                       // that the sandbox gives a worker to live; 0 without a limit
	CPU          time.Duration                       // that the sandbox gives it of processors' time; 0 without a limit
	Readable     func(path string) bool              // whether the sandbox lets the worker read a file, whatever the plug-in; nil without one
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

// Plugin runs one plug-in in its group's workers.
type Plugin struct {
	*Group
	lib  *inspect.Library
	path string        // absolute
	file *libfile.Copy // what every worker loads; see useFile
	// libraries are what the plug-in's library brings along and may read in a sandbox; found once, when it is opened.
	libraries []wire.Library
	host      engine.Host
	// hosted counts what the host has done for the plug-in. That all of it comes before the end of Close is known to the plug-in's threads, by
	// memory that Go does not see; who adds to it and who looks at it knows it in Go, too.
	hosted atomic.Uint64
	start  *engine.Options
	lanes  int                                             // how many calls may run at a time
	open   func(*seat) error                               // has a worker load the plug-in
	halt   func(*call) error                               // has it stop the plug-in
	locate func(e *Plugin, pc, base uint64) (string, bool) // names the code at pc, and says whether that is the plug-in's

	expected []atomic.Uint32 // by function: how long its last long output was

	parks    atomic.Pointer[seat] // whose lanes are parked, or nil; see parked.go
	hosting  atomic.Int32         // how many calls have a context of their own, because host functions run for them or did
	awaiting atomic.Int32         // how many calls wait for a renewal

	// Guarded by the group's mu.
	seat      *seat         // nil when no worker has opened it that calls may use
	opening   *seat         // in a worker that opens it, and that no call uses yet; or nil
	isOpen    bool          // it was opened the first time
	abandoned bool          // before that, the one who opened the plug-in has given up
	unwanted  chan struct{} // closed with abandoned
	starting  chan struct{} // not nil while a worker is to open it once more; closed at the end of that
	startErr  error         // of the last time
	waiting   []*waiter     // calls that wait for a lane, first come first served
	calls     int           // that own a lane
	views     int           // of them, those that are over, for their output; of all workers
	closing   bool
	closed    chan struct{} // closed with closing
	drained   chan struct{} // closed when closing and calls is 0
	gating    chan struct{} // a lock: the gate is shut by one at a time
	gate      chan struct{} // gets something when a call has ended while the gate is shut; nil while it is open
	config    []byte        // the settings accepted last
	resumes   [][]byte      // what the first worker's ferrule_resume gets; nil from then on

	fileUses   int  // of file, beside the engine's own
	fileClosed bool // the engine's own is over

	closeOnce sync.Once
	hurryOnce sync.Once
	cut       *worker       // was killed with calls in it, because closing was to take no more time; guarded by mu
	hurry     chan struct{} // closed when closing is to take no more time
	over      chan struct{} // closed when closeErr is set
	closeErr  error
}

// Engine opens plug-ins isolated: each by itself, or all in a group. It is isolate.InWorker, and isolate.InGroup.
type Engine struct {
	Options
	Wrong error  // what is wrong with the options; nil where nothing is
	Group *Group // nil for each by itself; then its options count
}

// Name is engine.Engine's.
func (s *Engine) Name() string {
	if s.Group != nil {
		return "isolate.InGroup"
	}
	return "isolate.InWorker"
}

// Words is engine.Engine's.
func (s *Engine) Words() engine.Words {
	twice, grace := "Give one isolate.InWorker all its options, those of a sandbox included", s.Options.Grace
	if s.Group != nil {
		twice, grace = "Open it in one group; what its worker is to be is said to isolate.NewGroup alone", s.Group.options.Grace
	}
	return engine.NativeCode(twice, fmt.Sprintf("its worker is killed %v after it was asked to (isolate.WithGrace). Have it look at ferrule_cancelled", grace))
}

// Fault is engine.Engine's.
func (s *Engine) Fault() error {
	if s.Group != nil {
		return s.Group.Wrong
	}
	return s.Wrong
}

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
	g := s.Group
	if g == nil {
		g = NewGroup("", s.Options, nil)
	}
	var file *libfile.Copy
	var err error
	if g.Name != "" && g.options.Sandbox != nil { // once a worker is shut in, a copy is what it may still get
		file, err = f.Copy(o.SHA256)
	} else {
		file, err = f.ForWorkers(o.SHA256)
	}
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
	if err := g.enter(f.Absolute, o.Data); err != nil {
		return nil, nil, err
	}
	started := false
	defer func() {
		if !started {
			g.leave()
		}
	}()
	p := newMember(g, lib, f.Absolute, host, o)
	p.file = file
	if p.libraries, err = g.granted(f.Absolute, lib); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, p.abandon)
	defer stop()
	if _, err := p.launch(); err != nil {
		return nil, nil, err
	}
	keep, started = true, true
	p.opened()
	return p, &lib.Description, nil
}

// opened says that a worker has opened the plug-in the first time: it is open, and giving up comes too late.
func (p *Plugin) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isOpen, p.abandoned, p.unwanted = true, false, nil
}

// newPlugin makes a plug-in by itself, without a worker.
func newPlugin(lib *inspect.Library, path string, host engine.Host, options Options, o *engine.Options) *Plugin {
	return newMember(NewGroup("", options, nil), lib, path, host, o)
}

// newMember makes a plug-in of a group, which no worker has opened.
func newMember(g *Group, lib *inspect.Library, path string, host engine.Host, o *engine.Options) *Plugin {
	p := &Plugin{Group: g, lib: lib, path: path, host: host, start: o, config: o.Config, resumes: o.State, gating: make(chan struct{}, 1), drained: make(chan struct{})}
	p.hurry, p.over, p.unwanted = make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.open, p.halt, p.closed = (*seat).load, (*call).halt, make(chan struct{})
	p.locate = (*Plugin).place
	p.expected = make([]atomic.Uint32, len(lib.Funcs)+len(lib.Hooks))
	p.lanes = lane.MaxLanes
	if lib.Manifest.Threads != abi.Concurrent {
		p.lanes = min(p.lanes, o.Instances)
	} else if o.MaxCalls > 0 {
		p.lanes = min(p.lanes, o.MaxCalls)
	}
	return p
}

// abandon gives up the first opening, which nobody waits for any more.
func (p *Plugin) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isOpen || p.abandoned { // or the context has ended when the opening was over already
		return
	}
	p.abandoned = true
	close(p.unwanted)
	p.giveUpOpening()
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
	out, status, err := p.append(&caller, nil, fn, dst, in)
	if failed(err) {
		return dst, 0, because(&caller, err)
	}
	return out, status, err
}

// failed reports whether there is no status. With a limit as the error there is one; see engine.Plugin.
func failed(err error) bool {
	_, struck := err.(*engine.Limit)
	return err != nil && !struck
}

// append is Append, which leaves to because what is missing in its error.
func (p *Plugin) append(caller *callctx.Caller, s *session, fn engine.Fn, dst, in []byte) (out []byte, status abi.Status, err error) {
	err = p.patiently(caller, func() error {
		out, status, err = p.tryAppend(caller, s, fn, dst, in)
		return err
	})
	return out, status, err
}

// patiently makes a call, again as long as it finds its instance panicked and in use.
func (p *Plugin) patiently(caller *callctx.Caller, call func() error) error {
	err := call()
	if err != errPoisoned {
		return err
	}
	for tries := 0; err == errPoisoned; tries++ {
		if err := p.await(caller, tries); err != nil {
			return err
		}
		err = call()
	}
	return err
}

func (p *Plugin) tryAppend(caller *callctx.Caller, s *session, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	l, err := p.acquireFor(caller, s)
	if err != nil {
		return nil, 0, err
	}
	c := p.begin(l)
	defer c.end()
	out, status, err := c.call(lane.OpCall, fn, in, cap(dst)-len(dst), 0)
	if failed(err) {
		return nil, 0, err
	}
	return append(dst, out...), status, err
}

// Stream calls a function with streams; see engine.Plugin.
func (p *Plugin) Stream(ctx context.Context, fn engine.Fn, dst, in []byte, st *stream.Streams) (out []byte, status abi.Status, err error) {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return dst, 0, err
	}
	defer func() { out, status = written(&caller, st, dst, out, status, err) }()
	out, status, err = p.stream(&caller, nil, fn, dst, in, st)
	if failed(err) {
		return dst, 0, because(&caller, err)
	}
	return out, status, err
}

// written waits for the writer of a call that has this outcome, whatever that is, also where a host function ends this goroutine. The
// call has given its lane back, so that nobody else waits for the writer.
func written(caller *callctx.Caller, st *stream.Streams, dst, out []byte, status abi.Status, err error) ([]byte, abi.Status) {
	if st.Written == nil { // the call has not begun
		return out, status
	}
	if !st.Wait(caller.Done, stream.Patience(err)) && err == nil && status == abi.StatusOK {
		return append(dst, stream.NotWritten...), abi.StatusCancelled
	}
	return out, status
}

// stream is Stream, which leaves to because what is missing in its error, and to written what the writer has not taken yet.
func (p *Plugin) stream(caller *callctx.Caller, s *session, fn engine.Fn, dst, in []byte, st *stream.Streams) (out []byte, status abi.Status, err error) {
	err = p.patiently(caller, func() error {
		out, status, err = p.tryStream(caller, s, fn, dst, in, st)
		return err
	})
	return out, status, err
}

// tryStream has used neither the reader nor the writer when it fails with errPoisoned.
func (p *Plugin) tryStream(caller *callctx.Caller, s *session, fn engine.Fn, dst, in []byte, st *stream.Streams) (out []byte, status abi.Status, err error) {
	l, err := p.acquireFor(caller, s)
	if err != nil {
		return nil, 0, err
	}
	c := p.begin(l)
	defer c.end()
	rings, flags, err := l.Begin(st, &l.worker.dead)
	if err != nil {
		return nil, 0, &engine.TooLong{Text: fmt.Sprintf("the call's streams: %v", err)}
	}
	returned := false
	defer func() {
		wrong := l.End(rings, returned)
		if wrong == nil && err == errPoisoned && rings.Begun() {
			wrong = errors.New("an instance that was in use, of a function that has used its streams")
		}
		if wrong != nil {
			out, status, err = nil, 0, c.garbage(wrong)
		}
	}()
	out, status, err = c.call(lane.OpStream, fn, in, cap(dst)-len(dst), flags)
	if failed(err) {
		return nil, 0, err
	}
	returned = true
	return append(dst, out...), status, err
}

// View calls a function and returns its output in the lane's memory; see engine.Plugin. The lane is the view's until it
// is released.
func (p *Plugin) View(ctx context.Context, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return nil, 0, err
	}
	v, status, err := p.view(&caller, nil, fn, in)
	if failed(err) {
		return nil, status, because(&caller, err)
	}
	return v, status, err
}

// view is View, which leaves to because what is missing in its error.
func (p *Plugin) view(caller *callctx.Caller, s *session, fn engine.Fn, in []byte) (v *engine.View, status abi.Status, err error) {
	err = p.patiently(caller, func() error {
		v, status, err = p.tryView(caller, s, fn, in)
		return err
	})
	return v, status, err
}

func (p *Plugin) tryView(caller *callctx.Caller, s *session, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	l, err := p.acquireFor(caller, s)
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
	out, status, err := c.call(lane.OpCall, fn, in, 0, 0)
	if failed(err) {
		return nil, status, err
	}
	held = true
	c.over()
	c.lane.settle()
	return &engine.View{Bytes: out, Release: c.end}, status, err
}

// call runs a function on the call's lane and returns its output, in the lane's memory.
func (c *call) call(op lane.Op, fn engine.Fn, in []byte, room int, flags uint32) ([]byte, abi.Status, error) {
	expected := int(c.expected[fn.Index].Load())
	room = min(max(room, expected, leastRoom), maxRoom)
	area, err := c.lane.Room(len(in), room)
	if err != nil {
		return nil, 0, &engine.TooLong{Text: fmt.Sprintf("an input of %s: %v", count.Of(len(in), "byte"), err)}
	}
	copy(area, in)
	c.limited(fn)
	c.lane.CallIn(c.inSession(), op, uint32(fn.Index), len(in), c.flags()|flags)
	m, err := c.finish()
	if err != nil {
		return nil, 0, err
	}
	if m.Status < 0 {
		return nil, 0, c.garbage(fmt.Errorf("the status %d", m.Status))
	}
	c.lane.worker.works()
	if m.Status == int32(abi.StatusPanic) {
		c.wears()
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
		return nil, 0, &engine.TooLong{Text: fmt.Sprintf("an output of %s: %s", count.Of(len(out), "byte"), c.options.noRoom())}
	}
	if n := len(out); n > longOutput && n <= maxRoom || expected > 0 && n < expected/2 {
		if n <= longOutput {
			n = 0
		}
		c.expected[fn.Index].Store(uint32(n))
	}
	if m.Status == int32(abi.StatusCancelled) && c.struck() {
		return out, abi.StatusCancelled, fn.Limit
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
	b.Out, b.Records, b.Failed, b.Limit = b.Out[:0], slices.Grow(b.Records[:0], len(in)), false, nil
	caller, err := callctx.Ask(ctx)
	if err != nil {
		return err
	}
	if err := p.batch(&caller, nil, fn, in, b); err != nil {
		return because(&caller, err)
	}
	return nil
}

// batch is Batch, which leaves to because what is missing in its error.
func (p *Plugin) batch(caller *callctx.Caller, s *session, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	for len(in) > 0 {
		n, size := 0, 0
		for n < len(in) && (n == 0 || size+len(in[n]) <= batchLimit) && n < 1<<16 {
			size += len(in[n])
			n++
		}
		ran, full := 0, false
		err := p.patiently(caller, func() (err error) {
			var more int
			more, full, err = p.part(caller, s, fn, in[ran:n], b)
			ran += more
			return err
		})
		if err != nil {
			return err
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
func (p *Plugin) part(caller *callctx.Caller, s *session, fn engine.Fn, in [][]byte, b *engine.Batch) (ran int, full bool, err error) {
	l, err := p.acquireFor(caller, s)
	if err != nil {
		return 0, false, err
	}
	c := p.begin(l)
	defer c.end()
	size := wire.BatchSize(in)
	area, err := l.Room(size, size+len(in)*64)
	if err != nil {
		return 0, false, &engine.TooLong{Text: fmt.Sprintf("a batch of %s: %v", count.Of(size, "byte"), err)}
	}
	wire.PutBatch(area, in)
	p.mu.Lock()
	l.batch = true
	p.mu.Unlock()
	c.limited(fn)
	l.CallIn(c.inSession(), lane.OpBatch, uint32(fn.Index), size, c.flags())
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
	l.worker.works()
	before := len(b.Records)
	ending, err := wire.ParseOutcome(out, len(in), b)
	if err != nil {
		return 0, false, c.garbage(err)
	}
	ran = len(b.Records) - before
	panicked := func(r engine.Record) bool { return r.Status == abi.StatusPanic }
	if b.Failed && slices.ContainsFunc(b.Records[before:], panicked) {
		c.wears()
	}
	if c.struck() {
		b.Limit = fn.Limit
	}
	if failed != nil {
		return ran, false, c.ofBatch(failed)
	}
	if ending == wire.EndingFull && ran > 0 {
		return ran, true, nil
	}
	if ran < len(in) && !caller.Ended() {
		if c.wasOverdue() {
			return ran, false, &engine.Ended{Cause: fn.Limit}
		}
		return 0, false, c.garbage(fmt.Errorf("a batch that ran %d of %s", ran, count.Of(len(in), "input")))
	}
	return ran, false, nil
}

// ofBatch judges a batch's failure once its records were looked at.
func (c *call) ofBatch(failed error) error {
	if _, start := failed.(*engine.StartError); (start || failed == errPoisoned) && !c.panicked() {
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
	i := engine.Isolation{Attempt: p.attempt, Suspended: p.suspension()}
	if p.seat != nil && !p.seat.worker.dead.Load() {
		i.PID, i.Layers = p.seat.worker.pid(), slices.Clone(p.seat.worker.layers)
	}
	return i
}

// Close ends the plug-in; see engine.Plugin.
func (p *Plugin) Close() error { return p.Shutdown(context.Background()) }

// beginClose refuses new calls, and has Close's work done in the background, unless that has begun.
func (p *Plugin) beginClose() {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		if p.seat != nil {
			p.seat.stopParking()
		}
		p.closing = true
		close(p.closed)
		p.giveUpOpening()
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
}

// Shutdown is Close within the time that ctx gives; see engine.Plugin. When ctx ends the worker is killed, and the calls
// that are in it end.
func (p *Plugin) Shutdown(ctx context.Context) error {
	caller, err := callctx.Ask(ctx)
	if err != nil && err != engine.ErrTooDeep {
		return err
	}
	p.beginClose()
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
// to take no more time; and leftPatience, for the end of all processes, before it leaves the rest to the background. The system
// has been told to end them by then, and takes its time for that where the machine has much else to do, or they have much memory.
const (
	hurryPatience = 100 * time.Millisecond
	leftPatience  = 10 * time.Second
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
		if p.seat != nil {
			p.cut = p.seat.worker
		}
		reason := "killed by the host, because the context of Shutdown had ended"
		if what := (&engine.Unfinished{Calls: p.calls - p.views, Views: p.views}).What(); what != "" {
			reason += ", with " + what
		}
		for _, w := range p.unburied {
			// A view needs no worker: others that are in it go on.
			if w.seatOf(p) != nil && (len(w.seats) == 1 || p.calls == 0 || p.calls > p.views) {
				w.leave(reason, p)
			}
		}
	}()
	<-p.drained
	p.mu.Lock()
	s, cut := p.seat, p.cut
	p.seat = nil
	p.mu.Unlock()
	p.setup.Lock()
	others := p.users > 1
	p.setup.Unlock()
	p.mu.Lock()
	var left []*worker
	if !others {
		left = slices.Clone(p.unburied)
	}
	p.mu.Unlock()
	switch {
	case s != nil:
		err = s.stop()
		p.hosted.Load()
		p.mu.Lock()
		last := s.worker.retired
		p.mu.Unlock()
		if others && last {
			left = append(left, s.worker)
		}
	case cut != nil:
		crash := cut.report()
		crash.Unasked = true
		err = &crash
	}
	for deadline := time.Now().Add(p.leftPatience); len(left) > 0; left = left[1:] {
		if !left[0].awaitBurial(time.Until(deadline)) && err == nil {
			crash := left[0].report()
			crash.Reason = fmt.Sprintf("killed by the host, and something of it was still there %v later (process %d)", p.leftPatience, left[0].pid())
			err = &crash
		}
		left[0].output.Flush()
	}
	p.leave()
	return err
}

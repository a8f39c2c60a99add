// Package native is the engine that runs a plug-in in this process: it loads the library, binds its imports, keeps its
// instances, enforces the threads that its manifest declares, and takes each call through the crossing and back.
//
// A call owns a slot while it runs: the frame that native code sees with its Go side. For a serial or pinned instance
// the slot is the instance's only one, so that owning it is what keeps calls apart; a concurrent instance has at least as
// many as calls were ever in progress. There is no lock and no shared counter on the way of a call that need not wait.
package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// Plugin runs one plug-in in this process.
type Plugin struct {
	image   *Image
	host    engine.Host
	outputs Outputs
	table   uintptr // address of the host's services

	fns        []function
	functions  uint32 // how many ordinals there are
	calledBack bool   // whether calls are expected to use host functions
	mostSlots  int    // how many calls may run at a time

	slots     atomic.Pointer[[]*slot] // those that calls may take; replaced, never changed: see setSlots
	only      atomic.Pointer[slot]    // the one of them, where there is one: calls come to it by fewer steps; else nil
	instances []*instance
	settings  engine.Settings
	base      callctx.Caller // of ferrule_start and ferrule_stop
	between   Background     // may be nil
	folder    string
	watch     watcher
	views     views

	options Options       // what it was made with
	parent  *Plugin       // of a session; else nil
	gating  chan struct{} // a lock: the gate is shut by one at a time

	mu      sync.Mutex
	gate    *gate // nil while calls may begin
	numbers int   // the number of the next session's instance
	opening int   // sessions that are being started, and replaced instances that are being stopped
	// sessions are those that are open; sessionsChange, with mu, tells of each that comes or goes.
	sessions       map[*Plugin]struct{}
	sessionsChange sync.Cond
	waiting        []waiter // calls that wait for a slot, first come first served
	closing        bool
	busy           int           // slots that are not closed yet, once closing
	refused        chan struct{} // closed with closing
	drained        chan struct{} // closed when busy has come to 0
	renewed        chan struct{} // closed, and made anew, when an instance has been renewed

	renewers atomic.Int32 // calls that have found an instance poisoned, and wait

	closeOnce sync.Once
	finished  chan struct{} // closed when Close's work is done
	closeErr  error         // written before that
	stopped   atomic.Bool   // all that is left of Close is the library
}

// function is one that calls enter.
type function struct {
	addr   uintptr
	length atomic.Uint32 // of its last output that was too long for a room; see remember
	doubt  atomic.Int32  // whether it keeps its promise to be quick; see quick.go
}

// maxInt is the longest output there can be: PTRDIFF_MAX.
const maxInt = math.MaxInt

// scratchRoom is the room, in bytes, for the output of a call whose caller brought none.
const scratchRoom = 4 << 10

// Options is what New needs besides the library.
type Options struct {
	Host      engine.Host
	Config    []byte   // what ferrule_start gets; kept, for instances that are started later
	State     [][]byte // what ferrule_resume gets when New has started them, by instance; nil is nothing (R29)
	Instances int      // at least 1
	Owner     string   // as engine.Options.Owner
	MaxCalls  int      // how many calls of a concurrent plug-in may run at a time; 0 is half of the threads that Go lets the process have

	Outputs Outputs // of a worker process; the zero value is for any other
	Forks   Forks   // likewise

	// Context is what host functions get that New and Close call through ferrule_start and ferrule_stop; nil is none.
	Context context.Context
	// Between is for what a plug-in does between calls; nil is in Context.
	Between Background
	Folder  string // that the library came from, absolute (R26)
}

// defaultMaxCalls returns how many calls of a concurrent plug-in may run at a time when nothing else is said. Each that
// blocks in the plug-in, or in a host function, takes a thread, and Go ends a process that wants more threads than
// debug.SetMaxThreads allows. So one plug-in gets half of them. The process is asked once, because asking sets them.
var defaultMaxCalls = sync.OnceValue(func() int {
	threads := debug.SetMaxThreads(math.MaxInt32)
	debug.SetMaxThreads(threads)
	return min(max(1, threads/2), MostCalls)
})

// MostCalls is the highest Options.MaxCalls.
const MostCalls = 1 << 13

// Outputs bounds what outputs cost in this process, and says where long ones go. The plug-in's own memory is not copied to Go's
// heap before it is known that there is room for the copy: a process whose memory is limited would end for want of it.
type Outputs struct {
	// Room returns dst with room for n more bytes, for the output of a call with this context that dst has no room for; nil
	// lets dst grow in Go's heap. The error is Append's.
	Room func(ctx context.Context, dst []byte, n int) ([]byte, error)

	// Grant returns n bytes for the output of a call with this context that has asked for that room (R25), of which the first
	// keep bytes are those of the room that the call had before. nil takes it from Go's heap.
	Grant func(ctx context.Context, keep, n int) ([]byte, error)
	// MaxBatch is how many bytes of outputs a batch may hold: a record whose output is beyond gets abi.StatusNoMemory. When
	// the outputs have come to StopBatch, Batch ends with ErrFull, and the records until then. 0 is no limit.
	MaxBatch, StopBatch int
}

// Forks is how a worker ends a child of its own that a plug-in has forked, and that goes on as if it were the worker.
type Forks struct {
	// Alone ends this process where it is such a child. It is asked when a function has returned, before more is done for the call; of a
	// call that has left its output in its room there is no more to do here, and who has called Append asks. nil asks nobody.
	Alone func()
	// Frames returns memory in which such a child finds the members before Statuses to be 0: there ferrule_batch has come to its Count
	// with the record that has forked, if it reads that again for each record, as those of the SDKs do. It lives as long as the process. nil
	// takes it from Go's heap.
	Frames func() *abi.Frames
}

// ErrFull says that a batch ended before its last input, because of Outputs.StopBatch.
var ErrFull = errors.New("the batch's outputs have come to their limit")

// New starts instances of the library and takes over the caller's reference to it, also when it fails. The error is an
// *engine.StartError.
func New(image *Image, o Options) (*Plugin, error) {
	p := newPlugin(image, o)
	if err := p.startAll(p.base); err != nil {
		return nil, err
	}
	return p, nil
}

// newPlugin is New before anything of the library runs.
func newPlugin(image *Image, o Options) *Plugin {
	p := &Plugin{options: o, gating: make(chan struct{}, 1), numbers: o.Instances, image: image, host: o.Host, outputs: o.Outputs, between: o.Between, folder: o.Folder, table: hostTable(), refused: make(chan struct{}), drained: make(chan struct{}), renewed: make(chan struct{}), finished: make(chan struct{})}
	p.settings.Set(o.Config)
	p.base = callctx.Background
	if o.Context != nil {
		p.base.Context = o.Context
	}
	p.fns = make([]function, len(image.fns))
	for i, addr := range image.fns {
		p.fns[i].addr = addr
	}
	p.functions = uint32(len(image.lib.Imports) + len(image.lib.Wants))
	p.calledBack = p.functions > 0
	p.mostSlots = o.Instances
	if image.lib.Manifest.Threads == abi.Concurrent {
		if p.mostSlots = o.MaxCalls; p.mostSlots == 0 {
			p.mostSlots = defaultMaxCalls()
		}
	}
	p.watch.plugin = p
	p.sessionsChange.L = &p.mu
	p.views.none.L = &p.views.mu
	slots := make([]*slot, 0, o.Instances)
	for i := range o.Instances {
		var t *thread
		if image.lib.Manifest.Threads == abi.Pinned {
			t = startThread()
		}
		inst := p.newInstance(i, t)
		p.instances = append(p.instances, inst)
		if len(slots) < p.mostSlots {
			slots = append(slots, p.newSlot(inst, idle))
		}
	}
	p.setSlots(slots)
	return p
}

// newInstance makes an instance that is not started; t is its thread, or nil.
func (p *Plugin) newInstance(number int, t *thread) *instance {
	inst := &instance{plugin: p, number: number, thread: t, renewing: make(chan struct{}, 1)}
	inst.control = p.newSlot(inst, locked)
	return inst
}

// startAll starts the instances of a plug-in that newPlugin has made, for c, or closes it.
func (p *Plugin) startAll(c callctx.Caller) error {
	if p.image.replaced != "" && p.parent == nil { // before it may matter
		p.warn(p.base.Context, p.image.replaced)
	}
	for i, inst := range p.instances {
		var state []byte
		if p.options.State != nil {
			state = append([]byte{}, p.options.State[i]...)
		}
		if err := inst.start(c, p.settings.Get(), state); err != nil {
			_ = p.Close() // the failure to start is what the caller needs to know
			return err
		}
	}
	p.options.State = nil
	return nil
}

// warn writes a line of the loader's own to the plug-in's log. The handler may end its goroutine.
func (p *Plugin) warn(ctx context.Context, text string) {
	if text == "" {
		return
	}
	onAnotherGoroutine(func() { p.host.Log(ctx, abi.LogWarn, []byte(text), nil) })
}

// newSlot takes a slot for the instance, which is in the given phase as soon as others can have it: a call that still has
// the slots of a closed engine, of which this was one, may take it at once when it is idle.
func (p *Plugin) newSlot(inst *instance, phase uint32) *slot {
	s := newSlot()
	s.plugin, s.inst, s.caller, s.word = p, inst, callctx.Background, &s.cancel
	kind, value := raw.Words(s.caller.Context)
	s.asked[0].Store(kind)
	s.asked[1].Store(value)
	if inst.thread != nil {
		s.done = make(chan abi.Status, 1)
	}
	s.phase.Store(phase)
	return s
}

// Append calls a function; see engine.Plugin. It is the hot path, and has in line what every call needs. What is out of the ordinary
// is in functions that are kept out of line: what they take in line makes calls slower that have no use for it.
func (p *Plugin) Append(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	s, err := p.acquire(ctx)
	if err != nil {
		return dst, 0, err
	}
	if fn.Limit != nil {
		s.begin(fn.Limit)
	}
	s.claim()
	room := dst[len(dst):cap(dst)]
	if len(room) == 0 {
		if s.plugin.fns[fn.Index].length.Load() > 0 {
			return s.appendExpected(fn.Index, dst, in)
		}
		room = s.scratchRoom()
	}
	if s.inst.thread != nil {
		return s.conclude(fn.Index, dst, room, 0, s.call(s.plugin.fns[fn.Index].addr, in, room))
	}
	s.prepare()
	cross.Fill(&s.frame, in, room)
	status := cross.Enter(s.plugin.fns[fn.Index].addr, &s.frame)
	raw.KeepAlive(in)
	n, ok := s.wroteInto(room, status)
	if !ok || status == abi.StatusPanic || s.marked() {
		return s.conclude(fn.Index, dst, room, 0, status)
	}
	dst = extend(dst, room, n)
	s.disclaim()
	if !s.giveBack() {
		s.plugin.releaseSlow(s)
	}
	return dst, status, nil
}

// extend returns dst with the n bytes in room behind it: which are dst's own spare capacity, or where it has none, the slot's.
func extend(dst, room []byte, n int) []byte {
	if n > cap(dst)-len(dst) {
		return appendOf(dst, room, n)
	}
	return dst[:len(dst)+n]
}

// appendOf is append, kept out of line.
//
//go:noinline
func appendOf(dst, room []byte, n int) []byte { return append(dst, room[:n]...) }

// appendExpected is the rest of Append, from the call on, for a caller who brings no room, of a function whose output was too long for
// the slot's the last time: the call gets as much as that was.
//
//go:noinline
func (s *slot) appendExpected(fn int, dst, in []byte) ([]byte, abi.Status, error) {
	f := &s.plugin.fns[fn]
	expected := f.length.Load()
	dst = slices.Grow(dst, int(expected))
	room := dst[len(dst):cap(dst)]
	if len(room) == 0 { // another call has had a short one meanwhile
		room = s.scratchRoom()
	}
	return s.conclude(fn, dst, room, expected, s.call(f.addr, in, room))
}

// wroteInto returns the length of the output where the call has left it in the room that it was entered with.
func (s *slot) wroteInto(room []byte, status abi.Status) (n int, ok bool) {
	f := &s.frame
	length := f.OutLen // once: a thread of the plug-in's may write it (R14)
	return int(length), f.Release == 0 && status >= 0 && f.Out == raw.Addr(room) && length <= uintptr(len(room))
}

// conclude is the rest of Append when the call is over, whatever has become of it, and gives the slot back.
//
//go:noinline
func (s *slot) conclude(fn int, dst, room []byte, expected uint32, status abi.Status) (_ []byte, _ abi.Status, err error) {
	s.alone() // Append has not asked
	if n, ok := s.wroteInto(room, status); ok {
		dst = extend(dst, room, n)
	} else if dst, err = s.takeLong(dst, room, status); err == nil {
		s.plugin.remember(fn, s.frame.OutLen, expected)
	}
	if expected > 0 && s.frame.OutLen < uintptr(expected)/2 {
		s.plugin.remember(fn, s.frame.OutLen, expected)
		dst = bytes.Clone(dst) // or else it would keep the memory that was expected to be needed
	}
	if status == abi.StatusPanic {
		s.inst.poisoned.Store(true)
	}
	if s.marked() {
		err = s.unmark(status, err)
	}
	s.plugin.release(s)
	return dst, status, err
}

// remember keeps how long a function's output was when it was far from expected: a caller who brings no room gets that
// much the next time, so that a long output is written once, to where it stays. More than maxRemembered is not trusted.
func (p *Plugin) remember(fn int, n uintptr, expected uint32) {
	if n <= scratchRoom || n > maxRemembered {
		n = 0
	}
	if uint32(n) != expected {
		p.fns[fn].length.Store(uint32(n))
	}
}

const maxRemembered = 64 << 20

// scratchRoom returns room for the output of a call whose caller brought none. It is kept out of line.
//
//go:noinline
func (s *slot) scratchRoom() []byte {
	if s.scratch == nil {
		s.scratch = make([]byte, scratchRoom)
	}
	return s.scratch
}

// call enters fn with the slot's frame, on the instance's own thread where it has one.
func (s *slot) call(fn uintptr, in, room []byte) abi.Status {
	s.prepare()
	cross.Fill(&s.frame, in, room)
	s.claim()
	var status abi.Status
	if s.inst.thread == nil && s != s.inst.control {
		status = cross.Enter(fn, &s.frame) // not through run, which allocates
		s.alone()
	} else {
		status = s.enterOnThread(fn)
	}
	raw.KeepAlive(in)
	raw.KeepAlive(room)
	return status
}

func (s *slot) enterOnThread(fn uintptr) abi.Status {
	return s.run(func() abi.Status {
		status := cross.Enter(fn, &s.frame)
		s.alone() // here: a child has no other thread
		return status
	})
}

// alone ends this process where it is a child that the function has forked; see Forks.
func (s *slot) alone() {
	if alone := s.plugin.options.Forks.Alone; alone != nil {
		alone()
	}
}

// takeLong is take where the output may be longer than dst's room, and may have to go elsewhere.
func (s *slot) takeLong(dst, room []byte, status abi.Status) ([]byte, error) {
	switch n := s.ownLength(status); {
	case n <= cap(dst)-len(dst) || s.granted(status) != nil && len(dst) == 0:
	case s.plugin.outputs.Room != nil:
		s.lock() // Room may use what host services use
		larger, err := s.plugin.outputs.Room(s.caller.Context, dst, n)
		s.unlock()
		if err != nil {
			s.release()
			return dst, err
		}
		dst = larger
	case !raw.Allocatable(len(dst), n):
		s.release()
		return dst, &engine.TooLong{Text: fmt.Sprintf("an output of %s: this process has no memory for it", count.Of(n, "byte"))}
	}
	dst, violation := s.take(dst, room, status)
	if violation != nil {
		return dst, violation
	}
	return dst, nil
}

// granted returns the output of a call that has left it in the room that it asked for; nil for any other.
func (s *slot) granted(status abi.Status) []byte {
	f := &s.frame
	if f.Release != 0 || status < 0 {
		return nil
	}
	g, n := s.grants.of(raw.AddrOf(f)), f.OutLen // once: a thread of the plug-in's may write it (R14)
	if len(g) == 0 || f.Out != raw.Addr(g) || n > uintptr(len(g)) {
		return nil
	}
	return g[:n:n]
}

// ownLength returns the length of the output that a call has left in the plug-in's own memory, or in room that it asked for;
// 0 where there is none, or none that is valid.
func (s *slot) ownLength(status abi.Status) int {
	if g := s.granted(status); g != nil {
		return len(g)
	}
	if f := &s.frame; f.Release != 0 && status >= 0 && raw.Valid(f.Out, f.OutLen) {
		return int(f.OutLen)
	}
	return 0
}

// release gives the plug-in's own memory back to it, where the call has left any.
func (s *slot) release() {
	if s.frame.Release == 0 {
		return
	}
	s.lock() // R9: release must not use the host
	cross.Release(&s.frame)
	s.unlock()
}

// take appends to dst what a call left in the frame, and gives the plug-in's own memory back to it. room is what the
// call was entered with: dst's own spare capacity, or scratch.
func (s *slot) take(dst, room []byte, status abi.Status) ([]byte, *engine.Violation) {
	f := &s.frame
	out, n, release := f.Out, f.OutLen, f.Release
	if release == 0 && status >= 0 && n <= uintptr(len(room)) && (out == raw.Addr(room) || n == 0) {
		if cap(dst) > len(dst) {
			return dst[:len(dst)+int(n)], nil
		}
		return append(dst, room[:n]...), nil
	}
	if g := s.granted(status); g != nil {
		if len(dst) == 0 && len(g) > cap(dst) && (s.plugin.outputs.Grant != nil || 2*len(g) > len(s.grants.of(raw.AddrOf(f)))) {
			return g, nil // nobody else has it, and most of it is used
		}
		return append(dst, g...), nil
	}
	var err *engine.Violation
	switch {
	case status < 0:
		err = &engine.Violation{Rule: "R10", Found: fmt.Sprintf("the status %d", int32(status)),
			Expected: "0 or a positive number"}
	case out == 0 && n > 0:
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d with out NULL", n),
			Expected: "out to point at the result"}
	case n > maxInt:
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d", n), Expected: "PTRDIFF_MAX at most"}
	case !raw.Valid(out, n):
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d at %#x, where no memory can be", n, out),
			Expected: "out to point at out_len bytes"}
	case release != 0 && int(n) > cap(dst)-len(dst) && !raw.Allocatable(len(dst), int(n)): // of ferrule_start; calls have asked
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d, for which this process has no memory", n),
			Expected: "a result that can be had"}
	case release != 0:
		larger, ok := copyOwn(dst, out, int(n))
		if !ok {
			err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d at %#x, where they cannot be read", n, out),
				Expected: "out to point at out_len bytes"}
			break
		}
		dst = larger
	case n > uintptr(len(room)):
		err = &engine.Violation{Rule: "R8",
			Found:    fmt.Sprintf("out_len %d in a room of %s, without release", n, count.Of(len(room), "byte")),
			Expected: "out_len of out_cap at most, or release set"}
	case n > 0 && out == raw.Addr(s.grants.of(raw.AddrOf(&s.frame))):
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d in the room of %s that it was given", n, count.Of(len(s.grants.of(raw.AddrOf(&s.frame))), "byte")),
			Expected: "out_len of out_cap at most, or release set"}
	default:
		err = &engine.Violation{Rule: "R8", Found: "another pointer in out, without release",
			Expected: "release set when out is the plug-in's own memory"}
	}
	s.release()
	return dst, err
}

// copyOwn appends n bytes of the plug-in's own memory to dst. It reports false where they cannot be read: nothing else of this
// can panic.
func copyOwn(dst []byte, out uintptr, n int) (_ []byte, ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return append(dst, raw.Bytes(out, n)...), true
}

// closeSlot ends a slot's use; the caller owns the slot, has tidied it, and holds p.mu.
func (p *Plugin) closeSlot(s *slot) {
	s.phase.Store(closed)
	if p.busy--; p.busy == 0 {
		close(p.drained)
	}
}

// Close ends the plug-in; see engine.Plugin.
func (p *Plugin) Close() error { return p.Shutdown(context.Background()) }

// Shutdown ends the plug-in; see engine.Plugin.
func (p *Plugin) Shutdown(ctx context.Context) error {
	caller, err := callctx.Ask(ctx)
	if err != nil && err != engine.ErrTooDeep {
		return err
	}
	first := false
	p.closeOnce.Do(func() {
		p.refuse()
		p.closeIdle() // what is open from here on are calls
		first = true
	})
	switch { // outside Once: others have a bound of their own
	case !first:
	case caller.Done == nil:
		p.end()
	default: // it may take longer than this call
		go p.end()
	}
	select {
	case <-p.finished:
		return p.closeErr
	case <-caller.Done:
	}
	unfinished := p.unfinished()
	var over <-chan time.Time
	if unfinished.Calls == 0 && unfinished.Views == 0 { // closing is over in a moment, unless ferrule_stop takes its time
		t := time.NewTimer(stopPatience)
		defer t.Stop()
		over = t.C
	} else {
		ended := make(chan time.Time)
		close(ended)
		over = ended
	}
	select {
	case <-p.finished:
		return p.closeErr
	case <-over:
	}
	unfinished.Cause = caller.Cause()
	return unfinished
}

// stopPatience is how long Shutdown waits for the rest after its context has ended, where no call is in its way.
const stopPatience = 100 * time.Millisecond

// beginClose refuses new calls, and has Close's work done in the background, unless that has begun.
func (p *Plugin) beginClose() {
	p.closeOnce.Do(func() {
		p.refuse()
		p.closeIdle()
		go p.end()
	})
}

// end does Close's work.
func (p *Plugin) end() {
	defer close(p.finished)
	p.closeErr = p.finish()
}

// refuse has new calls refused, and those that wait, also in sessions. A session's locks are taken within the plug-in's, never the other way round.
func (p *Plugin) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	close(p.refused)
	for _, w := range p.waiting {
		w.slot <- nil
	}
	p.waiting = nil
	p.busy = len(*p.slots.Load())
	for s := range p.sessions {
		s.beginClose()
	}
}

// closeIdle closes the slots that no call has; the calls that have the others close those. It waits for no foreign code: a
// host service that comes to an idle slot now, by a frame that is not valid any more (R14), is never let in.
func (p *Plugin) closeIdle() {
	for _, s := range *p.slots.Load() {
		s.attend()
		stress.Yield()
		if s.phase.CompareAndSwap(idle, locked) {
			p.releaseSlow(s)
		}
	}
}

// unfinished says what keeps Close from its end.
func (p *Plugin) unfinished() *engine.Unfinished {
	u := &engine.Unfinished{Views: p.views.count(), Unloading: p.stopped.Load()}
	p.mu.Lock()
	u.Calls = p.busy
	var sessions []*Plugin
	for s := range p.sessions {
		sessions = append(sessions, s)
	}
	p.mu.Unlock()
	for _, s := range sessions {
		of := s.unfinished()
		u.Calls, u.Views = u.Calls+of.Calls, u.Views+of.Views
	}
	return u
}

// finish waits for the calls that run, and then stops and frees everything.
func (p *Plugin) finish() error {
	slots := *p.slots.Load()
	for again := 50 * time.Microsecond; ; again = min(4*again, time.Second) {
		p.closeIdle()
		select {
		case <-p.drained: // mostly so: no timer is needed
		default:
			select {
			case <-p.drained:
			case <-time.After(again): // see giveBack
				continue
			}
		}
		break
	}
	p.waitForSessions()
	p.views.wait()
	p.setSlots(nil)
	p.watch.stop()
	for _, inst := range p.instances {
		inst.renewing <- struct{}{} // a call that renews the instance ends first
		p.warn(p.base.Context, inst.stop(p.base))
		if inst.thread != nil {
			inst.thread.stop()
		}
		inst.control.phase.Store(closed)
		freeSlot(inst.control)
	}
	for _, s := range slots {
		freeSlot(s)
	}
	p.stopped.Store(true)
	if p.parent != nil {
		p.parent.ended(p)
	}
	return p.image.Release()
}

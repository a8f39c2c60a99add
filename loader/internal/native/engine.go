// Package native is the engine that runs a plug-in in this process: it loads the library, binds its imports, keeps its
// instances, enforces the threads that its manifest declares, and takes each call through the crossing and back.
//
// A call owns a slot while it runs: the frame that native code sees with its Go side. For a serial or pinned instance
// the slot is the instance's only one, so that owning it is what keeps calls apart; a concurrent instance has as many
// as calls were ever in progress. There is no lock and no shared counter on the way of a call that need not wait.
package native

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
	"github.com/ferrule-dev/ferrule/loader/internal/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
)

// Engine runs one plug-in in this process.
type Engine struct {
	image *Image
	host  engine.Host
	table uintptr // address of the host's services

	lengths    []atomic.Uint32 // of each function's last output that was too long for a room; see remember
	imports    uint32          // how many ordinals there are
	calledBack bool            // whether calls are expected to use host functions on the thread they came on

	slots     atomic.Pointer[[]*slot] // those that calls may take; replaced, never changed
	instances []*instance
	config    []byte
	watch     watcher
	views     views

	mu      sync.Mutex
	waiting []chan *slot // calls that wait for a slot, first come first served
	closing bool
	open    int           // slots that are not closed yet, once closing
	drained chan struct{} // closed when open has come to 0

	closeOnce sync.Once
	closeErr  error
}

// instance is one plug-in state.
type instance struct {
	engine   *Engine
	state    uintptr // what ferrule_start left in the frame; written when no call of the instance runs
	control  *slot   // for start and stop, outside the slots that calls take
	thread   *thread // pinned instances only
	running  bool    // started and not yet stopped; guarded by renewing, or by open and close being alone
	poisoned atomic.Bool
	renewing chan struct{} // a lock that a context can give up waiting for
}

// maxInt is the longest output there can be: PTRDIFF_MAX.
const maxInt = math.MaxInt

// scratchRoom is the room, in bytes, for the output of a call whose caller brought none.
const scratchRoom = 4 << 10

// slotsPerCore is how many slots a concurrent plug-in has for each processor before calls look for an idle one among
// those there are.
const slotsPerCore = 16

// Options is what New needs besides the library.
type Options struct {
	Host      engine.Host
	Config    []byte // what ferrule_start gets; kept, for instances that are started later
	Instances int    // at least 1
}

// New starts instances of the library and takes over the caller's reference to it, also when it fails. The error is an
// *engine.StartError.
func New(image *Image, o Options) (*Engine, error) {
	e := &Engine{image: image, host: o.Host, table: hostTable(), config: o.Config, drained: make(chan struct{})}
	e.lengths = make([]atomic.Uint32, len(image.fns))
	e.imports = uint32(len(image.lib.Imports))
	e.calledBack = e.imports > 0 && image.lib.Manifest.Threads != abi.Pinned
	e.watch.engine = e
	e.views.none.L = &e.views.mu
	slots := make([]*slot, 0, o.Instances)
	for range o.Instances {
		inst := &instance{engine: e, renewing: make(chan struct{}, 1)}
		if image.lib.Manifest.Threads == abi.Pinned {
			inst.thread = startThread()
		}
		inst.control = e.newSlot(inst)
		e.instances = append(e.instances, inst)
		slots = append(slots, e.newSlot(inst))
	}
	e.slots.Store(&slots)
	for _, inst := range e.instances {
		if err := inst.start(); err != nil {
			_ = e.Close() // the failure to start is what the caller needs to know
			return nil, err
		}
	}
	return e, nil
}

func (e *Engine) newSlot(inst *instance) *slot {
	s := newSlot()
	s.engine, s.inst, s.ctx = e, inst, context.Background()
	if inst.thread != nil {
		s.done = make(chan abi.Status, 1)
	}
	s.phase.Store(idle)
	return s
}

// Append calls a function; see engine.Engine. It is the hot path, and so has in line what every call needs.
func (e *Engine) Append(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	slots := *e.slots.Load()
	var s *slot
	if len(slots) == 1 && slots[0].tryAcquire() {
		s = slots[0]
	} else if len(slots) > 1 {
		if s = slots[cmem.Hint()%uint32(len(slots))]; !s.tryAcquire() {
			s = nil
		}
	}
	if s == nil || s.unready(e, ctx) {
		var err error
		if s, err = e.acquire(ctx, s); err != nil {
			return dst, 0, err
		}
	}
	room := dst[len(dst):cap(dst)]
	var expected uint32
	if len(room) == 0 {
		if expected = e.lengths[fn].Load(); expected > 0 {
			dst = slices.Grow(dst, int(expected))
			room = dst[len(dst):cap(dst)]
		} else {
			room = s.scratchRoom()
		}
	}
	s.prepare()
	s.claim()
	cross.Fill(&s.frame, in, room)
	var status abi.Status
	if s.inst.thread == nil {
		status = cross.Enter(e.image.fns[fn], &s.frame)
	} else {
		status = s.enterOnThread(e.image.fns[fn])
	}
	runtime.KeepAlive(in)
	var err error
	if f := &s.frame; f.Release == 0 && status >= 0 && f.Out == cmem.Addr(room) && f.OutLen <= uintptr(cap(dst)-len(dst)) {
		dst = dst[:len(dst)+int(f.OutLen)] // the plug-in wrote to where the caller wants it
	} else {
		var violation *engine.Violation
		if dst, violation = s.take(dst, room, status); violation != nil {
			err = violation
		} else {
			e.remember(fn, s.frame.OutLen, expected)
		}
	}
	if expected > 0 && s.frame.OutLen < uintptr(expected)/2 {
		e.remember(fn, s.frame.OutLen, expected)
	}
	if status == abi.StatusPanic {
		s.inst.poisoned.Store(true)
	}
	e.release(s)
	return dst, status, err
}

// remember keeps how long a function's output was when it was far from expected: a caller who brings no room gets that
// much the next time, so that a long output is written once, to where it stays. More than maxRemembered is not trusted.
func (e *Engine) remember(fn engine.Fn, n uintptr, expected uint32) {
	if n <= scratchRoom || n > maxRemembered {
		n = 0
	}
	if uint32(n) != expected {
		e.lengths[fn].Store(uint32(n))
	}
}

const maxRemembered = 64 << 20

// scratchRoom returns room for the output of a call whose caller brought none.
func (s *slot) scratchRoom() []byte {
	if s.scratch == nil {
		s.scratch = make([]byte, scratchRoom)
	}
	return s.scratch
}

// call enters fn with the slot's frame, on the instance's own thread where it has one.
func (s *slot) call(fn uintptr, in, room []byte) abi.Status {
	s.prepare()
	s.claim()
	cross.Fill(&s.frame, in, room)
	status := s.enterOnThread(fn)
	runtime.KeepAlive(in)
	runtime.KeepAlive(room)
	return status
}

func (s *slot) enterOnThread(fn uintptr) abi.Status {
	return s.run(func() abi.Status { return cross.Enter(fn, &s.frame) })
}

// take appends to dst what a call left in the frame, and gives the plug-in's own memory back to it. room is what the
// call was entered with: dst's own spare capacity, or scratch.
func (s *slot) take(dst, room []byte, status abi.Status) ([]byte, *engine.Violation) {
	f := &s.frame
	out, n, release := f.Out, f.OutLen, f.Release
	if release == 0 && status >= 0 && n <= uintptr(len(room)) && (out == cmem.Addr(room) || n == 0) {
		if cap(dst) > len(dst) {
			return dst[:len(dst)+int(n)], nil
		}
		return append(dst, room[:n]...), nil
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
	case release != 0:
		dst = append(dst, cmem.Bytes(out, int(n))...)
	case n > uintptr(len(room)):
		err = &engine.Violation{Rule: "R8",
			Found:    fmt.Sprintf("out_len %d in a room of %d bytes, without release", n, len(room)),
			Expected: "out_len of out_cap at most, or release set"}
	default:
		err = &engine.Violation{Rule: "R8", Found: "another pointer in out, without release",
			Expected: "release set when out is the plug-in's own memory"}
	}
	if release != 0 {
		s.lock() // R9: release must not use the host
		cross.Release(&s.frame)
		s.unlock()
	}
	return dst, err
}

// unready reports whether something is to be done before a call with ctx can use the slot. Only the owner calls it.
func (s *slot) unready(e *Engine, ctx context.Context) bool {
	return s.engine != e || !cmem.Same(s.ctx, ctx) || s.cancellable || s.inst.poisoned.Load()
}

// acquire makes the caller the owner of a slot, ready for a call with ctx. It is s, where the caller owns one already.
func (e *Engine) acquire(ctx context.Context, s *slot) (*slot, error) {
	for ; ; s = nil {
		if s == nil {
			var err error
			if s, err = e.acquireAny(ctx); err != nil {
				return nil, err
			}
		}
		if s.engine != e { // closed meanwhile, and the slot went to another plug-in
			s.engine.release(s)
			return nil, engine.ErrClosed
		}
		if !cmem.Same(s.ctx, ctx) {
			s.setContext(ctx)
		}
		if s.cancellable {
			if ctx.Err() != nil {
				e.release(s)
				return nil, context.Cause(ctx)
			}
			e.watch.ensure()
		}
		if !s.inst.poisoned.Load() {
			return s, nil
		}
		inst := s.inst
		e.release(s)
		if err := inst.renew(ctx); err != nil {
			return nil, err
		}
	}
}

// acquireAny takes any idle slot, makes one where the plug-in is concurrent, or waits for one.
func (e *Engine) acquireAny(ctx context.Context) (*slot, error) {
	slots := *e.slots.Load()
	concurrent := e.image.lib.Manifest.Threads == abi.Concurrent
	// A call that comes here found its first choice taken. Where more slots make that rarer, there soon are more: two
	// goroutines that keep to one slot would pass its cache line back and forth.
	few := concurrent && len(slots) < slotsPerCore*runtime.GOMAXPROCS(0)
	for i, first := 0, int(cmem.Hint()); i < len(slots) && !few; i++ {
		if s := slots[(first+i)%len(slots)]; s.tryAcquire() {
			return s, nil
		}
	}
	seen := len(slots)
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil, engine.ErrClosed
	}
	slots = *e.slots.Load()
	for _, s := range slots {
		if few && len(slots) == seen {
			break // nobody else has made more meanwhile
		}
		if s.tryAcquire() {
			e.mu.Unlock()
			return s, nil
		}
	}
	if concurrent {
		more := append(make([]*slot, 0, 2*len(slots)), slots...)
		for len(more) < cap(more) {
			more = append(more, e.newSlot(e.instances[len(more)%len(e.instances)]))
		}
		s := more[len(slots)]
		s.phase.Store(busy)
		e.slots.Store(&more)
		e.mu.Unlock()
		return s, nil
	}
	if held(ctx, e) >= len(slots) {
		e.mu.Unlock()
		return nil, engine.ErrReentrant
	}
	mine := make(chan *slot, 1)
	for _, s := range slots {
		s.attend()
		if s.tryAcquire() {
			e.mu.Unlock()
			return s, nil
		}
	}
	e.waiting = append(e.waiting, mine)
	e.mu.Unlock()
	for again := 50 * time.Microsecond; ; again = min(4*again, time.Second) {
		select {
		case s := <-mine:
			if s == nil {
				return nil, engine.ErrClosed
			}
			return s, nil
		case <-ctx.Done():
			if !e.stopWaiting(mine) {
				if s := <-mine; s != nil { // it was handed over at the same moment
					e.release(s)
				}
			}
			return nil, context.Cause(ctx)
		case <-time.After(again): // see giveBack
			for _, s := range slots {
				if s.tryAcquire() {
					if e.stopWaiting(mine) {
						return s, nil
					}
					e.release(s)
					break
				}
			}
		}
	}
}

// stopWaiting takes a waiting call out of the queue, and reports false when it is not in there any more: its channel
// has an answer then.
func (e *Engine) stopWaiting(mine chan *slot) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.waiting, mine)
	if i < 0 {
		return false
	}
	e.waiting = slices.Delete(e.waiting, i, i+1)
	return true
}

// release gives a slot back.
func (e *Engine) release(s *slot) {
	if !s.giveBack() {
		e.releaseSlow(s)
	}
}

// releaseSlow shuts the slot's visitors out, tidies up behind them, and hands it to the next call that waits.
func (e *Engine) releaseSlow(s *slot) {
	s.tidy()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closing:
		e.closeSlot(s)
	case len(e.waiting) > 0:
		next := e.waiting[0]
		e.waiting = slices.Delete(e.waiting, 0, 1)
		if len(e.waiting) == 0 {
			s.others.And(^attend)
		}
		s.unlock()
		next <- s
	default:
		s.others.And(^attend)
		s.phase.Store(idle)
	}
}

// closeSlot ends a slot's use; the caller owns the slot, has tidied it, and holds e.mu.
func (e *Engine) closeSlot(s *slot) {
	s.phase.Store(closed)
	if e.open--; e.open == 0 {
		close(e.drained)
	}
}

// Close ends the engine; see engine.Engine.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() { e.closeErr = e.close() })
	return e.closeErr
}

func (e *Engine) close() error {
	e.mu.Lock()
	e.closing = true
	for _, c := range e.waiting {
		c <- nil
	}
	e.waiting = nil
	slots := *e.slots.Load()
	e.open = len(slots)
	e.mu.Unlock()
	for again := 50 * time.Microsecond; ; again = min(4*again, time.Second) {
		for _, s := range slots {
			s.attend() // the call that runs closes it
			if s.tryAcquire() {
				e.releaseSlow(s)
			}
		}
		select {
		case <-e.drained:
		case <-time.After(again): // see giveBack
			continue
		}
		break
	}
	e.views.wait()
	e.slots.Store(new([]*slot))
	e.watch.stop()
	for _, inst := range e.instances {
		inst.renewing <- struct{}{} // a call that renews the instance ends first
		inst.stop()
		if inst.thread != nil {
			inst.thread.stop()
		}
		inst.control.phase.Store(closed)
		freeSlot(inst.control)
	}
	for _, s := range slots {
		freeSlot(s)
	}
	return e.image.Release()
}

// controlCall runs start or stop, with the instance's own slot.
func (inst *instance) controlCall(fn uintptr, in []byte) (out []byte, status abi.Status, err *engine.Violation) {
	s := inst.control
	s.phase.Store(busy)
	room := make([]byte, scratchRoom)
	status = s.call(fn, in, room)
	state := s.frame.State
	out, err = s.take(nil, room, status)
	s.tidy()
	s.phase.Store(idle)
	if err == nil && status == abi.StatusOK {
		inst.state = state // R15: start has set it; after stop nobody reads it
	}
	return out, status, err
}

// start makes the instance's state. No call of it runs.
func (inst *instance) start() error {
	inst.state = 0
	if fn := inst.engine.image.start; fn != 0 {
		out, status, err := inst.controlCall(fn, inst.engine.config)
		if err != nil {
			return &engine.StartError{Err: err}
		}
		if status != abi.StatusOK {
			return &engine.StartError{Status: status, Message: string(out)}
		}
	}
	inst.running = true
	return nil
}

// stop drops the instance's state, if it has one. No call of it runs. What goes wrong is logged: there is nobody who
// could do something about it.
func (inst *instance) stop() {
	if !inst.running {
		return
	}
	inst.running = false
	fn := inst.engine.image.stop
	if fn == 0 {
		return
	}
	out, status, err := inst.controlCall(fn, nil)
	var text string
	switch {
	case err != nil:
		text = "ferrule_stop: " + err.Error()
	case status != abi.StatusOK:
		text = fmt.Sprintf("ferrule_stop: %s: %s", status, out)
	default:
		return
	}
	inst.engine.host.Log(context.Background(), abi.LogWarn, []byte(text))
}

// renew stops a poisoned instance, once its running calls have ended, and starts it anew (R16).
func (inst *instance) renew(ctx context.Context) error {
	select {
	case inst.renewing <- struct{}{}:
		defer func() { <-inst.renewing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !inst.poisoned.Load() {
		return nil
	}
	e := inst.engine
	if held(ctx, e) > 0 {
		return engine.ErrReentrant // it would wait for itself
	}
	// A call that takes a slot from now on finds the instance poisoned, and leaves.
	for _, s := range *e.slots.Load() {
		for wait := 10 * time.Microsecond; s.inst == inst && s.phase.Load() != idle; wait = min(2*wait, time.Millisecond) {
			e.mu.Lock()
			closing := e.closing
			e.mu.Unlock()
			if closing {
				return engine.ErrClosed
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(wait):
			}
		}
	}
	inst.stop()
	if err := inst.start(); err != nil {
		return err
	}
	inst.poisoned.Store(false)
	return nil
}

// run crosses on the instance's own thread where it has one, else on this one.
func (s *slot) run(crossing func() abi.Status) abi.Status {
	if t := s.inst.thread; t != nil {
		t.jobs <- job{s, crossing}
		return <-s.done
	}
	return crossing()
}

// thread is the one operating system thread on which a pinned instance runs.
type thread struct{ jobs chan job }

type job struct {
	slot     *slot
	crossing func() abi.Status
}

func startThread() *thread {
	t := &thread{jobs: make(chan job)}
	go t.serve()
	return t
}

// serve runs crossings until stop. The goroutine ends while it is locked, so that the thread ends with it, and what the
// plug-in keeps in thread-local storage with the thread.
func (t *thread) serve() {
	runtime.LockOSThread()
	var current *slot
	defer func() {
		if current != nil { // a host function called runtime.Goexit; see serviceCall
			go t.serve()
			current.frame.Out, current.frame.OutLen, current.frame.Release = 0, 0, 0
			current.done <- abi.StatusPanic
		}
	}()
	for j := range t.jobs {
		current = j.slot
		status := j.crossing()
		current = nil
		j.slot.done <- status
	}
}

func (t *thread) stop() { close(t.jobs) }

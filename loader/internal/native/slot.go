package native

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// The phases of a slot. A call that finds nothing out of the ordinary moves it from idle to busy by a compare-and-swap,
// and back by a store; a quick call moves it to hasty and back.
const (
	idle   uint32 = iota // nobody's
	busy                 // a call runs with this slot's frame; host services may be used with it
	locked               // its owner changes what host services read; they are refused
	closed               // for good: its engine is closed, or it is in the arena's free list
	hasty                // a quick call runs with this slot's frame; host services are refused
)

// What others do with a slot that is not theirs shows in a word of its own, so that the owner need not touch the same
// word by an atomic operation to give the slot back. The owner looks at it after taking the slot and around giving it
// back.
const (
	attend  uint32 = 1 // giving the slot back needs attention: somebody waits for it, or a visitor left something
	visitor uint32 = 2 // one host service (or the watcher) in progress; the rest of the word counts them
)

// slot is one call in the making: the frame that native code sees, and what belongs to it on the Go side. A slot serves
// one call at a time; whoever moved it from idle to busy owns it.
//
// Slots live in the arena for as long as the process does, because a plug-in may keep a frame's address for longer than
// it should (R14): a service called with it must find a slot that says no, never memory of something else.
type slot struct {
	slotBody
	_ [(128 - unsafe.Sizeof(slotBody{})%128) % 128]byte // neighbours share no cache line
}

// goes is what goes with a call, in bits.
type goes uint8

const (
	withContext goes = 1 << iota // the context: it may hold values, and nobody watches it
	withLimit
)

type slotBody struct {
	frame  abi.Call // first, so that the frame's address is the slot's
	cancel atomic.Uint32
	phase  atomic.Uint32
	others atomic.Uint32
	held   atomic.Bool       // the plug-in's gate has it; see gate.go
	asked  [2]atomic.Uintptr // raw.Words of caller.Context: who does not own the slot may find one word old and one new
	owner  atomic.Uintptr    // the goroutine that is in the plug-in with this slot, or 0 when there is none

	// Written while the slot is neither idle nor busy, or before it is first idle; read by its owner and its visitors.
	plugin      *Plugin
	inst        *instance
	caller      callctx.Caller
	word        *atomic.Uint32 // the cancellation word that the plug-in gets: cancel, or the context's own
	cancellable bool           // whether the context can end
	goes        goes           // what goes with the call
	turn        uint32         // counts quick calls, of which some are timed; only for the owner

	current atomic.Pointer[callctx.Call] // what host functions get as their context; made when one is first called
	making  sync.Mutex                   // for the one who makes it
	calls   *callctx.Calls               // where it comes from; nil, or of caller
	left    atomic.Bool                  // a host function of the call ended its goroutine, on a thread of the plug-in's
	watched bool                         // it is in the watcher's list; only for the owner
	apart   atomic.Bool                  // the frame's room is a record's, and not what Outputs know; see runEach

	kept    kept
	grants  grants
	streams atomic.Pointer[streams] // of the call; nil where it has none
	terms   atomic.Pointer[terms]   // made when the slot first has a call with a limit; stays with the slot

	background *background // of a slot whose frame is for what happens between calls; else nil
	progress   uintptr     // two words for how far the call is, or 0 where nobody asks
	meter      *callctx.Meter
	words      [2]atomic.Uint64 // for progress; here, because the plug-in may write there for longer than it should
	scratch    []byte           // room for callers who brought none
	done       chan abi.Status  // pinned instances only: the thread's answer
	batch      *batchFrames     // made when the slot first runs a batch; stays with the slot
}

// kept holds the results of host functions that did not fit the plug-in's room, until they are fetched or the call ends.
type kept struct {
	mu     sync.Mutex
	last   uint32
	result map[uint32]keptResult
}

type keptResult struct {
	out    []byte
	status abi.Status
}

// Canceller is a context that has a cancellation word of its own, in memory that is not Go's or lives as long as the
// process. Its Done is nil: nobody needs to watch it.
type Canceller interface {
	context.Context
	CancelWord() *atomic.Uint32
	// ProgressWords returns the address of two words for how far the call is (R30), in such memory; 0 where nobody asks.
	ProgressWords() uintptr
}

// Nested is a key of contexts: a call whose context has a value for it comes from a host function that a call of the same
// plug-in called, in another process.
var Nested nestedKey

type nestedKey struct{}

// Impatient is a key of contexts: a call whose context has a value for it does not wait until an instance that has panicked can be started
// anew. It fails with ErrPoisoned, so that who made it can wait, and knows for whom.
var Impatient impatientKey

type impatientKey struct{}

// tryAcquire makes the caller the owner of an idle slot. What others left in it is cleared before the caller goes on,
// which may have to wait for a visitor, who may want any lock: so it is not for use under one.
func (s *slot) tryAcquire() bool {
	stress.Yield()
	if !s.claimIdle() {
		return false
	}
	stress.Yield()
	if s.others.Load() != 0 {
		s.clean()
	}
	return true
}

// claimIdle makes the caller the owner of an idle slot, who calls clean next.
func (s *slot) claimIdle() bool { return s.phase.CompareAndSwap(idle, busy) }

// inUse reports whether a call has the slot: it runs, or tidies up, which may have to wait for visitors.
func (s *slot) inUse() bool {
	phase := s.phase.Load()
	return phase == busy || phase == locked || phase == hasty
}

// clean clears what others left in a slot that was just claimed.
func (s *slot) clean() {
	if s.others.Load() != 0 {
		s.tidy()
		s.unlock()
	}
}

// giveBack makes the owner's slot idle, and reports whether it may leave it at that: if not, somebody wants attention,
// and the slot is the caller's again. That is not certain to be noticed, because a processor may look at others before
// it has told the rest of the machine that the slot is idle; who waits for a slot therefore looks again by itself.
func (s *slot) giveBack() bool {
	if s.others.Load() == 0 {
		stress.Yield()
		raw.StoreUint32(&s.phase, idle)
		stress.Yield()
		if s.others.Load() == 0 || !s.phase.CompareAndSwap(idle, busy) {
			return true // another call has it by now, and looks at others when it gives it back
		}
	}
	return false
}

// visit is enter for a host service. own says that it comes on the goroutine of the call itself, as far as is known: then
// nothing is to be counted, because the goroutine cannot give the slot back while it is here. Else exit is due. Under the
// race detector all are counted, so that it sees who comes after whom.
func (s *slot) visit() (own, ok bool) {
	if own = s.ownGoroutine(); own && !raceEnabled {
		return true, s.phase.Load() == busy
	}
	return own, s.enter()
}

// ownGoroutine reports whether this goroutine is the one that is in the plug-in with the slot.
func (s *slot) ownGoroutine() bool {
	owner := s.owner.Load()
	return owner != 0 && owner == goroutine.ID()
}

// outerOfGoroutine reports whether this goroutine is in a host function of the slot's call, or in what it called.
func (s *slot) outerOfGoroutine() bool { return s.current.Load() != nil && s.ownGoroutine() }

// leave ends a visit.
func (s *slot) leave(own bool) {
	if !own || raceEnabled {
		s.exit()
	}
}

// enter lets a visitor in: the slot's call runs, and the slot serves no other before exit.
func (s *slot) enter() bool {
	s.others.Add(visitor)
	stress.Yield()
	if s.phase.Load() == busy {
		return true
	}
	s.exit()
	return false
}

func (s *slot) exit() { s.others.Add(^(visitor - 1)) }

// lock shuts visitors out and waits for those who are in. Only the owner calls it.
func (s *slot) lock() {
	stress.Yield()
	s.phase.Store(locked)
	stress.Yield()
	// A visitor is the watcher, for nanoseconds, or a thread of the plug-in's that still is in a host function when
	// the call returned: it broke R14, and may take any time.
	for n := 0; s.others.Load() >= visitor; n++ {
		if n < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// unlock lets visitors in again. Only the owner calls it.
func (s *slot) unlock() { raw.StoreUint32(&s.phase, busy) }

// tidy locks the slot and clears what visitors left in it. Only the owner calls it, outside of a call.
func (s *slot) tidy() {
	s.lock()
	s.cancel.Store(0)
	s.kept.drop()
	s.grants.drop()
	s.left.Store(false)
	s.endCall()
}

// endCall says that the call is over to those who have its context. Only the owner calls it, when there are no visitors.
func (s *slot) endCall() {
	if c := s.current.Load(); c != nil {
		c.End()
		stress.Yield()
		s.current.Store(nil)
	}
}

// endVisited is endCall where visitors may be in. What they call is within the call until they have left, because the slot
// is not given back before: ended earlier, it would wait for the slot, and the slot for it.
func (s *slot) endVisited() {
	c := s.current.Swap(nil)
	if c == nil {
		return
	}
	stress.Yield()
	if s.others.Load() >= visitor { // it may have the call's context; who comes from now on gets another
		s.current.CompareAndSwap(nil, c) // for Holders
		s.lock()
		c.End()
		s.endCall()
		s.unlock()
		return
	}
	c.End()
}

// attend has the owner take the slow path when it gives the slot back.
func (s *slot) attend() { s.others.Or(attend) }

// knows reports whether ctx is the context that the slot's next call is made with, where nothing is to be done for that. It is
// certain for the owner only.
func (s *slot) knows(ctx context.Context) bool {
	kind, value := raw.Words(ctx)
	return s.asked[0].Load()^kind|s.asked[1].Load()^value == 0 // in one comparison, on the way of every call
}

// marked reports whether a call has left what goes with it, for unmark. Only the owner calls it.
func (s *slot) marked() bool { return s.current.Load() != nil || s.goes != 0 }

// unmark ends the call for those who have its context, and for the watcher of its limit, and forgets its own context where nobody else does. It
// returns the call's error, which is err where it has one already: engine.ErrEnded where a host function of the call ended its goroutine on a thread of the
// plug-in's, and the instance is poisoned then; the limit because of which it has returned this status; or nil. Only the owner calls it.
func (s *slot) unmark(status abi.Status, err error) error {
	if s.goes&withLimit != 0 {
		if err == nil && status == abi.StatusCancelled && s.struck() {
			err = s.terms.Load().limit
		}
		s.expire()
		if s.current.Load() == nil && s.goes == 0 && !s.left.Load() {
			return err
		}
	}
	s.endVisited()
	if s.goes&withContext != 0 {
		s.meter.Stop()
		s.meter = nil
		s.setCaller(&callctx.Background)
	}
	if s.left.Load() {
		s.left.Store(false)
		s.inst.poisoned.Store(true)
		return engine.ErrEnded
	}
	return err
}

// setCaller makes c's context what host services use. Only the owner calls it. Until it does, the watcher may take the
// slot for the call before, whose context has ended. It runs no foreign code.
func (s *slot) setCaller(c *callctx.Caller) {
	s.lock()
	s.endCall()
	if s.cancel.Load() != 0 { // a load costs nothing beside a store
		s.cancel.Store(0)
	}
	s.caller, s.calls, s.cancellable, s.word = *c, nil, c.Done != nil, &s.cancel
	kind, value := raw.Words(c.Context)
	raw.StoreUintptr(&s.asked[0], kind)
	raw.StoreUintptr(&s.asked[1], value)
	s.goes = 0
	if !s.cancellable && !raw.IsBackground(c.Context) {
		s.goes = withContext
	}
	s.progress = 0
	if own, ok := c.Context.(Canceller); ok {
		s.word, s.progress, s.goes = own.CancelWord(), own.ProgressWords(), 0
	}
	if c.Progress != nil {
		s.words[0].Store(0)
		s.words[1].Store(0)
		s.progress, s.goes = raw.AddrOf(&s.words), withContext
		s.meter = c.Progress.Start(&s.words[0], &s.words[1], *c, s.plugin.Owner(), s.holds())
	}
	s.unlock()
}

// hostContext returns the context that host functions get. Only visitors call it; a call may have several at a time.
func (s *slot) hostContext() *callctx.Call {
	if c := s.current.Load(); c != nil {
		return c
	}
	return s.makeCall()
}

// callsAtOnce is how many identities of calls are made at once.
const callsAtOnce = 16

// holds returns what a call has of its engine: the instance, or that it changes it.
func (s *slot) holds() any {
	switch {
	case s.background != nil:
		return s.background
	case s == s.inst.control:
		return (*change)(s.inst)
	}
	return s.inst
}

func (s *slot) makeCall() *callctx.Call {
	s.making.Lock()
	defer s.making.Unlock()
	c := s.current.Load()
	if c != nil {
		return c
	}
	if s.calls != nil && s.calls.Limited() == s.timed() {
		c = s.calls.Take()
	}
	if c == nil {
		c = s.newCalls().Take()
	}
	s.current.Store(c)
	if !s.ownGoroutine() {
		s.attend() // the owner may just be giving the slot back: whoever has it next tidies up
	}
	return c
}

// newCalls makes more identities of calls. The caller holds s.making.
func (s *slot) newCalls() *callctx.Calls {
	if owner := s.plugin.Owner(); s.timed() {
		s.calls = callctx.NewLimited(s.caller, owner, s.holds(), callsAtOnce, s)
	} else {
		s.calls = callctx.NewCalls(s.caller, owner, s.holds(), callsAtOnce)
	}
	return s.calls
}

// keep stores a result that did not fit, and returns its number, never 0.
func (k *kept) keep(out []byte, status abi.Status) uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.result == nil {
		k.result = make(map[uint32]keptResult)
	}
	for {
		k.last++
		if _, taken := k.result[k.last]; k.last != 0 && !taken {
			break
		}
	}
	// A host function may return its input, which is the plug-in's again when this service returns.
	k.result[k.last] = keptResult{bytes.Clone(out), status}
	return k.last
}

// fetch returns the kept result with this number, and forgets it when it fits the room.
func (k *kept) fetch(number uint32, room uintptr) (r keptResult, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok = k.result[number]
	if ok && uintptr(len(r.out)) <= room {
		delete(k.result, number)
	}
	return r, ok
}

// drop forgets all results. Only the slot's owner calls it, when no visitor is left.
func (k *kept) drop() {
	k.result = nil
}

// arena is where all slots of the process are.
var arena struct {
	mu     sync.Mutex
	free   []*slot
	chunks atomic.Pointer[[]chunk] // replaced, never changed
}

type chunk struct {
	base  uintptr // address of slots[0]
	slots []slot
}

const slotSize = unsafe.Sizeof(slot{})

// newSlot takes a closed slot out of the arena.
func newSlot() *slot {
	arena.mu.Lock()
	defer arena.mu.Unlock()
	if len(arena.free) == 0 {
		var chunks []chunk
		if old := arena.chunks.Load(); old != nil {
			chunks = append(chunks, *old...)
		}
		// Each chunk is larger than the one before, so that there are few to search.
		slots := make([]slot, 64<<min(len(chunks), 6))
		for i := len(slots) - 1; i >= 0; i-- {
			slots[i].phase.Store(closed)
			arena.free = append(arena.free, &slots[i])
		}
		chunks = append(chunks, chunk{raw.AddrOf(&slots[0]), slots})
		arena.chunks.Store(&chunks)
	}
	s := arena.free[len(arena.free)-1]
	arena.free = arena.free[:len(arena.free)-1]
	return s
}

// freeSlot gives a closed slot back to the arena.
func freeSlot(s *slot) {
	s.endCall()
	s.plugin, s.inst, s.caller, s.calls, s.word, s.cancellable, s.scratch, s.done = nil, nil, callctx.Caller{}, nil, nil, false, nil, nil
	s.goes, s.watched, s.background, s.progress = 0, false, nil, 0
	s.owner.Store(0)
	s.left.Store(false)
	s.held.Store(false)
	s.others.And(^attend)
	arena.mu.Lock()
	defer arena.mu.Unlock()
	arena.free = append(arena.free, s)
}

// findSlot returns the slot whose frame is at this address, or nil. Any number may be asked for.
func findSlot(frame uintptr) *slot {
	chunks := arena.chunks.Load()
	if chunks == nil {
		return nil
	}
	if s := findBatch(frame); s != nil {
		return s
	}
	for i := range *chunks {
		c := &(*chunks)[i]
		if offset := frame - c.base; offset < uintptr(len(c.slots))*slotSize {
			if offset%slotSize != 0 {
				return nil
			}
			return &c.slots[offset/slotSize]
		}
	}
	return nil
}

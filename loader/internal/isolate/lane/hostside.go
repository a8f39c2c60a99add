package lane

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Host is the host's side of the memory that it shares with one worker.
type Host struct {
	memory *memory
	header *header
	bells  *bells
	pipes  [4]*os.File // with bells that need them: the host's read and write end, the worker's
	lanes  []*HostLane
}

// NewHost makes the shared memory.
func NewHost() (*Host, error) {
	m, err := newMemory()
	if err != nil {
		return nil, err
	}
	h := &Host{memory: m, header: raw.At[header](m.base, 0)}
	if bellPipes > 0 {
		if h.pipes[0], h.pipes[3], err = os.Pipe(); err == nil {
			h.pipes[2], h.pipes[1], err = os.Pipe()
		}
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("the pipes of the shared memory: %w", err)
		}
	}
	h.bells = newBells(h.pipes[0], h.pipes[1], true)
	h.header.magic.Store(magic)
	return h, nil
}

// Files returns what the worker is to inherit, for Attach in this order. They stay the host's.
func (h *Host) Files() []*os.File {
	if bellPipes == 0 {
		return h.memory.files()
	}
	return append(h.memory.files(), h.pipes[2], h.pipes[3])
}

// Started tells of the worker's process, and closes what only the worker is to have open. It comes before the first lane.
func (h *Host) Started(p *os.Process) error {
	for _, i := range []int{2, 3} {
		if h.pipes[i] != nil {
			h.pipes[i].Close()
			h.pipes[i] = nil
		}
	}
	return h.memory.started(p)
}

// Served reports whether the worker has served a lane: before that nothing but its program's own code has run in it. It is
// the worker's word.
func (h *Host) Served() bool { return h.header.started[0].Load() != 0 }

// Fault returns where the worker's first fault was. It is the worker's word.
func (h *Host) Fault() (f FaultReport, ok bool) {
	if h.header.fault.state.Load() != 2 {
		return f, false
	}
	return h.header.fault.FaultReport, true
}

// Close frees the memory. No lane is used any more.
func (h *Host) Close() {
	if h.bells != nil {
		h.bells.close()
	}
	for _, f := range h.pipes {
		if f != nil {
			f.Close()
		}
	}
	for _, l := range h.lanes {
		l.Trim()
	}
	h.memory.close()
}

// NewLane adds a lane, which the worker then serves. There are Lanes; it is called by one goroutine at a time.
func (h *Host) NewLane() *HostLane {
	i := len(h.lanes)
	l := &HostLane{lane: newLane(h.memory.base, i), host: h, bell: h.bells.at(i)}
	l.spin.cpu, l.spin.ours, l.spin.theirs = &l.hostCPU, &l.hostTook, &l.workerTook
	l.turn.Store(turnHost)
	h.lanes = append(h.lanes, l)
	publish(&h.header.wanted, uint32(i+1))
	if h.header.sleeps.Load() != 0 {
		h.bells.at(Lanes).ring(&h.header.wanted)
	}
	return l
}

// HostLane is the host's end of a lane. It is for one goroutine at a time, but for Cancel and Alarm.
type HostLane struct {
	lane
	host *Host
	bell *bell
	spin spinner

	extents [regions]*extent // by Region; nil where the room in the lane itself is used
	outAt   int              // where in RegionCall the room for the output begins
	out     []byte           // the room for the output

	streams atomic.Pointer[HostStreams] // of the call; nil where it has none
}

// bytes returns the memory of a region.
func (l *HostLane) bytes(r Region) []byte {
	switch {
	case l.extents[r] != nil:
		return l.extents[r].bytes
	case r == RegionCall:
		return l.call
	case r == RegionUp:
		return l.lane.up
	default:
		return nil
	}
}

// ensure makes the region at least n bytes long. What was in it is lost.
func (l *HostLane) ensure(r Region, n uint64) error {
	if uint64(len(l.bytes(r))) >= n {
		return nil
	}
	e, err := l.host.memory.alloc(n)
	if err != nil {
		return err
	}
	l.drop(r)
	l.extents[r] = e
	return nil
}

func (l *HostLane) drop(r Region) {
	if e := l.extents[r]; e != nil {
		l.extents[r] = nil
		l.host.memory.release(e)
	}
}

// Trim gives memory back that only long payloads needed.
func (l *HostLane) Trim() {
	l.drop(RegionCall)
	l.drop(RegionUp)
	l.drop(RegionOut)
	l.drop(RegionStreams)
	l.out = nil
}

// Extended reports whether there is something for Trim.
func (l *HostLane) Extended() int {
	return len(l.bytes(RegionCall)) - callArea + len(l.bytes(RegionUp)) - upArea + len(l.bytes(RegionOut)) + len(l.bytes(RegionStreams))
}

// Room makes room for a call: in is where its input of inLen bytes is to be written; its output gets at least outLen
// bytes.
func (l *HostLane) Room(inLen, outLen int) (in []byte, err error) {
	at := (uint64(inLen) + align - 1) &^ (align - 1)
	if at+uint64(outLen) > uint64(len(l.bytes(RegionCall))) { // what the call before asked for, this one has from the beginning
		l.drop(RegionOut)
	}
	if err := l.ensure(RegionCall, at+uint64(outLen)); err != nil {
		return nil, err
	}
	b := l.bytes(RegionCall)
	l.outAt = int(min(at, uint64(len(b))))
	l.out = b[l.outAt:]
	return b[:inLen:inLen], nil
}

// Call hands the turn to the worker, with the input that was written to what Room returned.
func (l *HostLane) Call(op Op, fn uint32, inLen int, flags uint32) { l.CallIn(0, op, fn, inLen, flags) }

// CallIn is Call in a session.
func (l *HostLane) CallIn(session uint32, op Op, fn uint32, inLen int, flags uint32) {
	m := Message{Op: op, Fn: fn, Status: int32(session), Flags: flags, Len: uint64(inLen), OutAt: uint64(l.outAt), OutCap: uint64(len(l.out))}
	m.Extent, m.Size = l.place(RegionCall)
	m.Streams, _ = l.place(RegionStreams)
	l.drop(RegionUp)          // the worker takes it that a call begins without
	if l.cancel.Load() != 0 { // what is zero already is not written: see control
		l.cancel.Store(0)
	}
	if l.more.Load() != 0 {
		l.more.Store(0)
	}
	for _, word := range [...]*atomic.Uint64{&l.done, &l.total, &l.loaded} {
		if word.Load() != 0 {
			word.Store(0)
		}
	}
	l.post(&m)
}

// Progress returns the words that say how far the call is. They are the worker's to write, at any time.
func (l *HostLane) Progress() (done, total *atomic.Uint64) { return &l.done, &l.total }

// place says to the worker where a region is.
func (l *HostLane) place(r Region) (id, size uint64) {
	if e := l.extents[r]; e != nil {
		return e.id, e.size
	}
	return 0, uint64(len(l.bytes(r)))
}

func (l *HostLane) post(m *Message) {
	l.down = *m
	publish(&l.turn, turnWorker)
	if l.workerSleeps.Load() != 0 {
		l.spin.tell()
		l.bell.ring(&l.turn)
	}
}

// Await waits for the worker's message, for limit at most, or until Alarm. ok is false when there is none yet. The error
// says that the worker has written where it must not.
func (l *HostLane) Await(limit time.Duration) (m Message, ok bool, err error) {
	l.spin.await(&l.turn, turnWorker, &l.hostSleeps, l.bell, limit)
	switch turn := l.turn.Load(); turn {
	case turnWorker:
		return m, false, nil
	case turnHost:
		near(&l.control.up, unsafe.SliceData(l.out), &l.control.down, unsafe.SliceData(l.call))
		return l.lane.control.up, true, nil
	default:
		return m, false, fmt.Errorf("%#x where the lane's turn is", turn)
	}
}

// Done reports whether the worker has ended the call with this status and Await has not been asked since, or was and no
// other call has begun. It may be called at any time while a call owns the lane, and takes nothing from Await.
func (l *HostLane) Done(status int32) bool {
	return l.turn.Load() == turnHost && l.lane.control.up.Op == OpDone && l.lane.control.up.Status == status
}

// Output returns the output that a message of the worker's tells of. It is the worker's memory: it may change while it
// is read.
func (l *HostLane) Output(m Message) ([]byte, error) {
	if m.Len > uint64(len(l.out)) {
		return nil, fmt.Errorf("an output of %s in a room of %d", count.Of(m.Len, "byte"), len(l.out))
	}
	return l.out[:m.Len:m.Len], nil
}

// UpInput returns what the plug-in passes to a host function or to the log, its fields included. It is the worker's memory.
func (l *HostLane) UpInput(m Message) ([]byte, error) {
	b := l.bytes(RegionUp)
	if m.Len > uint64(len(b)) {
		return nil, fmt.Errorf("an input of %s for the host in a region of %d", count.Of(m.Len, "byte"), len(b))
	}
	return b[:m.Len:m.Len], nil
}

// Answer gives the result of a host function to the worker, and the turn.
func (l *HostLane) Answer(status int32, out []byte) error {
	if err := l.ensure(RegionUp, uint64(len(out))); err != nil {
		return err
	}
	copy(l.bytes(RegionUp), out)
	m := Message{Op: OpAnswer, Status: status, Len: uint64(len(out))}
	m.Extent, m.Size = l.place(RegionUp)
	l.post(&m)
	return nil
}

// Grow answers OpGrow: it makes room for m.Len bytes in a region of the worker's choice, limit at most. The worker is told
// of no room where there is none to be had. What it wants to keep of the output is copied to the new room.
func (l *HostLane) Grow(m Message, limit uint64) error {
	region, n, keep := Region(m.Fn), m.Len, m.OutAt
	switch {
	case region != RegionUp && region != RegionOut:
		return fmt.Errorf("the region %d", region)
	case keep > 0 && (region != RegionOut || keep > uint64(len(l.out)) || keep > n):
		return fmt.Errorf("%s to keep of an output in a room of %d", count.Of(keep, "byte"), len(l.out))
	}
	answer := Message{Op: OpAnswer}
	if n <= limit {
		if region == RegionUp {
			if l.ensure(region, n) == nil {
				answer.Extent, answer.Size = l.place(region)
			}
		} else if l.growOut(n, keep) == nil {
			answer.Extent, answer.Size = l.place(region)
		}
	}
	l.post(&answer)
	return nil
}

// growOut makes RegionOut the room for the output, n bytes at least, which begins with keep bytes of the room before.
func (l *HostLane) growOut(n, keep uint64) error {
	before := l.extents[RegionOut]
	if before != nil && before.size >= n {
		if !raw.SameMemory(l.out, before.bytes) {
			copy(before.bytes, l.out[:keep])
			l.out = before.bytes
		}
		return nil
	}
	e, err := l.host.memory.alloc(n)
	if err != nil {
		return err
	}
	copy(e.bytes, l.out[:keep])
	l.drop(RegionOut) // which may be the room before
	l.extents[RegionOut], l.out = e, e.bytes
	return nil
}

// Cancel sets the call's cancellation word. It may be called at any time; a call that begins clears it.
func (l *HostLane) Cancel() {
	l.cancel.Store(1)
	if h := l.streams.Load(); h != nil {
		h.wake()
	}
}

// Loaded returns what is added to the own addresses of the library that the lane's OpOpen has loaded, or 0. It is the worker's word.
func (l *HostLane) Loaded() uint64 { return l.loaded.Load() }

// Ends reports whether what the lane is for between calls comes to its end. It is the worker's word.
func (l *HostLane) Ends() bool { return l.done.Load() != 0 }

// Index returns the lane's number.
func (l *HostLane) Index() int { return l.index }

// Alarm has an Await that sleeps look again at once. It may be called at any time.
func (l *HostLane) Alarm() { l.bell.alarm(&l.turn) }

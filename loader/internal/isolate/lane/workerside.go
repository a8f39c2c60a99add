package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Worker is the worker's side of the memory that it shares with its host.
type Worker struct {
	memory *mapping
	header *header
	bells  *bells
	admit  func(n int) error // nil admits any
	noRoom error             // what the host has no room for fails with
	asides asides
	own    *atomic.Uint32 // 1 in the worker, and 0 in a child that is forked of it and has executed nothing; nil where that cannot be had
}

// FilesOfWorker is how many files Attach takes.
const FilesOfWorker = 1 + bellPipes*2

// Attach maps the memory that the host has made. files are what its Files returned, inherited.
func Attach(files []*os.File) (*Worker, error) {
	if len(files) != FilesOfWorker {
		return nil, fmt.Errorf("%d inherited files, not %d", len(files), FilesOfWorker)
	}
	m, err := attachMemory(files[0])
	if err != nil {
		return nil, err
	}
	w := &Worker{memory: m, header: raw.At[header](m.base, 0), noRoom: NoRoom(0, 0)}
	w.asides.change.L = &w.asides.mu
	if b := wiped(4, 4); b != nil {
		w.own = raw.At[atomic.Uint32](b, 0)
		w.own.Store(1)
	}
	if got := w.header.magic.Load(); got != magic {
		return nil, fmt.Errorf("shared memory of another kind: it begins with %#x", got)
	}
	if bellPipes > 0 {
		w.bells = newBells(files[1], files[2], false)
	} else {
		w.bells = newBells(nil, nil, false)
	}
	return w, nil
}

// Bounds says how long an output may be, and how much memory the worker may have, or 0, for errors; and has admit, unless that is
// nil, asked before a host function's result of n bytes is copied to Go's heap. Its error is HostCall's. It is called before the
// lanes are used for that.
func (w *Worker) Bounds(longest, memory int64, admit func(n int) error) {
	w.admit, w.noRoom = admit, NoRoom(longest, memory)
}

// NoRoom is the error, which a plug-in and its caller get to read, of what is longer than the host takes: by isolate.WithMaxMessage,
// or by the sandbox's memory where that is the limit.
func NoRoom(longest, memory int64) error {
	if memory > 0 && longest == memory {
		return errors.New("the host has no room for it (see sandbox.Policy.Memory, which is the limit where isolate.WithMaxMessage is not given)")
	}
	return errors.New("the host has no room for it (see isolate.WithMaxMessage)")
}

// Fault returns the place for the process's first fault, in the shared memory.
func (w *Worker) Fault() *Fault { return &w.header.fault }

// Lost returns a channel that gets an error when the host cannot wake this process any more: io.EOF when it is gone, or
// else the plug-in has closed what is not its own.
func (w *Worker) Lost() <-chan error { return w.bells.lost }

// Lanes calls serve with each lane, in a goroutine of its own, as the host adds them. It does not return.
func (w *Worker) Lanes(serve func(*WorkerLane)) {
	var spin spinner
	spin.usual = 10 * maxSpin // lanes are rare
	for n := uint32(0); ; {
		for wanted := min(w.header.wanted.Load(), Lanes); n < wanted; n++ {
			l := &WorkerLane{lane: newLane(w.memory.base, int(n)), worker: w, bell: w.bells.at(int(n))}
			l.spin.cpu, l.spin.worker, l.spin.ours, l.spin.theirs = &l.hostCPU, true, &l.workerTook, &l.hostTook
			w.memory.use(headerSize+uint64(n)*laneSize, laneSize)
			w.header.started[n].Store(1)
			go func() {
				l.goroutine = goroutine.ID()
				serve(l)
			}()
		}
		spin.await(&w.header.wanted, n, &w.header.sleeps, w.bells.at(Lanes), Forever)
	}
}

// WorkerLane is the worker's end of a lane. It is for one goroutine at a time, but for HostCall and Log.
type WorkerLane struct {
	lane
	worker *Worker
	bell   *bell
	spin   spinner

	goroutine uintptr // that calls are on, but for those of pinned instances; 0 where that is not known

	mapped [regions]mapped // by Region: the extent that is mapped
	room   []byte          // for the output

	asking  sync.Mutex   // whoever asks the host something has it until the answer
	where   Message      // where the host said last that RegionUp is; guarded by asking
	waiting atomic.Int32 // threads of the call that wait for this lane, or for one aside
	asked   atomic.Bool  // a thread of the call has asked by this lane for a host function, or has logged something
}

type mapped struct {
	id    uint64
	bytes []byte
}

// ErrEnded says that the host function, or what takes log lines, has ended its goroutine.
var ErrEnded = errors.New("a host function ended its goroutine")

// ErrGarbage says that the shared memory is not what it was.
var ErrGarbage = errors.New("the memory shared with the host was overwritten")

// Word returns the call's cancellation word, which the host sets.
func (l *WorkerLane) Word() *atomic.Uint32 { return &l.cancel }

// Progress returns the first of two words, for how far the call is.
func (l *WorkerLane) Progress() *atomic.Uint64 { return &l.done }

// Next waits for the host's next call and returns it with its input and the room for its output. An error other than
// ErrGarbage says that there is no memory to map them; Fail then ends the call.
func (l *WorkerLane) Next() (m Message, in, room []byte, err error) {
	if m, err = l.await(l.call, l.room); err != nil {
		return m, nil, nil, err
	}
	b, err := l.region(RegionCall, &m)
	if err != nil { // what there was before is not mapped any more
		l.room, l.where = nil, Message{}
		return m, nil, nil, err
	}
	if m.Len > uint64(len(b)) || m.OutAt > uint64(len(b)) || m.OutCap > uint64(len(b))-m.OutAt {
		return m, nil, nil, ErrGarbage
	}
	l.room = b[m.OutAt:][:m.OutCap:m.OutCap]
	l.where = Message{} // the host has no extent for it yet
	if l.asked.Load() {
		l.asked.Store(false)
	}
	return m, b[:m.Len:m.Len], l.room, nil
}

// await waits for the host's message. read is what is read next, as a rule, and write what is written after that.
func (l *WorkerLane) await(read, write []byte) (Message, error) {
	l.spin.await(&l.turn, turnHost, &l.workerSleeps, l.bell, Forever)
	if l.turn.Load() != turnWorker {
		return Message{}, ErrGarbage
	}
	near(&l.control.down, unsafe.SliceData(read), &l.control.up, unsafe.SliceData(write))
	return l.down, nil
}

// region returns the memory of a region, where the host's message says that it is. What was returned for the region
// before is not used any more.
func (l *WorkerLane) region(r Region, m *Message) ([]byte, error) {
	old := &l.mapped[r]
	other := old.bytes != nil && (old.id != m.Extent || uint64(len(old.bytes)) != m.Size)
	if other && r == RegionOut { // what a call has as its room stays mapped where no other can be had
		b, err := l.worker.memory.extent(m.Extent, m.Size)
		if err != nil {
			return nil, err
		}
		l.worker.memory.drop(old.bytes)
		*old = mapped{m.Extent, b}
	} else if other {
		l.worker.memory.drop(old.bytes)
		*old = mapped{}
	}
	switch {
	case m.Extent == 0 && r == RegionCall:
		return l.call, nil
	case m.Extent == 0 && r == RegionUp:
		return l.lane.up, nil
	case old.bytes == nil:
		b, err := l.worker.memory.extent(m.Extent, m.Size)
		if err != nil {
			return nil, err
		}
		*old = mapped{m.Extent, b}
	}
	return old.bytes, nil
}

// Alone ends this process where it is a child that a plug-in has forked, and that has returned from its function or uses a host's service: it would be a second
// one to serve the lane, and whose results a call gets would be chance. It is asked when a function has returned, and before anything is written for the host.
//
// It is no more than that. What the plug-in itself writes in a child, before anybody is asked, is in the child's copy of the lane where there is one; see share. And a
// child that returns may not come to ask, where Go's scheduler wants another thread before the function's goroutine goes on: of those a child has none, and it waits until it
// ends with its worker.
func (w *Worker) Alone() {
	if w.own != nil && w.own.Load() == 0 {
		vanish()
	}
}

// Frames is native.Forks'.
func (w *Worker) Frames() *abi.Frames {
	if b := wiped(int(unsafe.Offsetof(abi.Frames{}.Statuses)), int(unsafe.Sizeof(abi.Frames{}))); b != nil {
		return raw.At[abi.Frames](b, 0)
	}
	return new(abi.Frames)
}

// post hands the turn to the host. It is the worker's until then, unless something has written over it.
func (l *WorkerLane) post(m *Message) error {
	l.worker.Alone()
	if l.turn.Load() != turnWorker {
		return ErrGarbage
	}
	l.control.up = *m
	publish(&l.turn, turnHost)
	if l.hostSleeps.Load() != 0 {
		l.spin.tell()
		l.bell.ring(&l.turn)
	}
	return nil
}

// Done ends the call with an output, which may lie in the room that Next returned.
func (l *WorkerLane) Done(status int32, out []byte) error {
	if err := l.write(out); err != nil {
		return l.tooLong(len(out), err)
	}
	return l.post(&Message{Op: OpDone, Status: status, Len: uint64(len(out))})
}

// Fail ends the call without a status.
func (l *WorkerLane) Fail(failure Failure, text []byte) error {
	if err := l.write(text); err != nil {
		return l.tooLong(len(text), err)
	}
	return l.post(&Message{Op: OpFailed, Fn: uint32(failure), Len: uint64(len(text))})
}

// FailBatch is Fail for a batch of which some inputs ran: their outcome stands before the text.
func (l *WorkerLane) FailBatch(failure Failure, outcome, text []byte) error {
	out := append(outcome, text...)
	if err := l.write(out); err != nil {
		return l.tooLong(len(out), err)
	}
	return l.post(&Message{Op: OpFailed, Fn: uint32(failure), Len: uint64(len(out)), OutAt: uint64(len(outcome))})
}

func (l *WorkerLane) tooLong(n int, err error) error {
	if errors.Is(err, ErrGarbage) {
		return err
	}
	text := fmt.Appendf(nil, "an output of %s: %v", count.Of(n, "byte"), err)
	text = text[:copy(l.room, text)]
	return l.post(&Message{Op: OpFailed, Fn: uint32(FailedTooLong), Len: uint64(len(text))})
}

// Room makes room for an output of n bytes, in the host's memory, and returns it; it begins with the first keep bytes of the room
// that there was, which is not used any more. Done and Fail copy nothing that lies in it. The error says that there is none.
// It may be called by any goroutine while the lane's call runs.
func (l *WorkerLane) Room(keep, n int) ([]byte, error) {
	l.asking.Lock()
	defer l.unlock()
	return l.makeRoom(keep, n)
}

// makeRoom is Room for who has asking, or has the lane alone.
func (l *WorkerLane) makeRoom(keep, n int) ([]byte, error) {
	if n > len(l.room) {
		room, err := l.grow(RegionOut, keep, n)
		if err != nil {
			if err != l.worker.noRoom {
				l.room = nil // the host has the room elsewhere by now
			}
			return nil, err
		}
		l.room = room
	}
	return l.room, nil
}

// write puts the output where the host expects it.
func (l *WorkerLane) write(out []byte) error {
	l.worker.Alone()
	if len(out) == 0 || len(out) <= len(l.room) && raw.SameMemory(out, l.room) {
		return nil // an empty room may seem to begin anywhere
	}
	room, err := l.makeRoom(0, len(out))
	if err != nil {
		return err
	}
	copy(room, out)
	return nil
}

// grow asks the host for n bytes in a region, with keep bytes of the output's room before.
func (l *WorkerLane) grow(r Region, keep, n int) ([]byte, error) {
	if err := l.post(&Message{Op: OpGrow, Fn: uint32(r), Len: uint64(n), OutAt: uint64(keep)}); err != nil {
		return nil, err
	}
	m, err := l.await(nil, nil)
	if err != nil {
		return nil, err
	}
	if m.Size < uint64(n) {
		return nil, l.worker.noRoom
	}
	if r == RegionUp {
		l.where = m
	}
	return l.region(r, &m)
}

// HostCall calls a host function. The output is the caller's. It may be called by any goroutine while the lane's call
// runs.
func (l *WorkerLane) HostCall(ordinal uint32, in []byte) (out []byte, status int32, err error) {
	return l.askAny(&Message{Op: OpHostCall, Fn: ordinal}, in, nil)
}

// Log gives a log line with its fields to the host, as HostCall does. A line that the host has no room for is cut, and says so at its
// end; fields that it has no room for are left out, and one says so in their place.
func (l *WorkerLane) Log(level uint32, text, fields []byte) error {
	_, _, err := l.askAny(&Message{Op: OpLog, Fn: level}, text, fields)
	if err == nil || errors.Is(err, ErrGarbage) || errors.Is(err, ErrEnded) {
		return err
	}
	if len(fields) > upArea/2 {
		fields = LeftOut(fields)
	}
	_, _, err = l.askAny(&Message{Op: OpLog, Fn: level}, count.Cut(text, upArea-len(fields)), fields)
	return err
}

// LeftOut is the field that a line has in place of those for which there is no room.
func LeftOut(fields []byte) []byte {
	if len(fields) == 0 {
		return nil
	}
	return fmt.Appendf(nil, "left out=all fields: the line and its fields, which have %s, are longer than the host takes\x00", count.Of(len(fields), "byte"))
}

// Layers tells the host what shuts the worker in, and returns when the host knows.
func (l *WorkerLane) Layers(list []byte) error {
	_, _, err := l.ask(&Message{Op: OpLayers}, list, nil)
	return err
}

// Replaced tells the host what has become of new instances with new settings, and returns when the host lets calls in again.
func (l *WorkerLane) Replaced(status int32) error {
	_, _, err := l.ask(&Message{Op: OpReplaced, Status: status}, nil, nil)
	return err
}

// More asks the host for another lane for what the plug-in does between calls, and returns its number.
func (l *WorkerLane) More() (int, error) {
	out, status, err := l.ask(&Message{Op: OpMore}, nil, nil)
	switch {
	case err != nil:
		return 0, err
	case status != 0:
		return 0, l.worker.noRoom
	case len(out) != 4:
		return 0, ErrGarbage
	}
	return int(binary.LittleEndian.Uint32(out)), nil
}

// Index returns the lane's number.
func (l *WorkerLane) Index() int { return l.index }

// Loaded tells the host where the library is that the lane's OpOpen has loaded.
func (l *WorkerLane) Loaded(base uint64) { l.loaded.Store(base) }

// End tells the host that what the lane is for between calls comes to its end: what runs for it there is asked to stop.
func (l *WorkerLane) End() { l.done.Store(1) }

// askAny is ask by this lane, or by one aside where this one is in use.
func (l *WorkerLane) askAny(m *Message, in, fields []byte) (out []byte, status int32, err error) {
	by := l.worker.asides.takeFor(l)
	defer l.worker.asides.giveBack(l, by)
	if m.Status, m.Flags = int32(l.index), 0; goroutine.ID() != l.goroutine {
		m.Flags = FlagThread
	}
	out, status, err = by.askLocked(m, in, fields)
	if err == nil && status == StatusEnded && m.Flags != 0 {
		err = ErrEnded
	}
	return out, status, err
}

func (l *WorkerLane) ask(m *Message, in, fields []byte) (out []byte, status int32, err error) {
	l.asking.Lock()
	defer l.unlock()
	return l.askLocked(m, in, fields)
}

// askLocked is ask for who has asking.
func (l *WorkerLane) askLocked(m *Message, in, fields []byte) (out []byte, status int32, err error) {
	l.worker.Alone()
	// Not what was mapped the last time: the host takes its input from where it has the region now, also when it could
	// not be mapped here then.
	region, err := l.region(RegionUp, &l.where)
	if err != nil {
		return nil, 0, err
	}
	n := len(in) + len(fields)
	if n > len(region) {
		if region, err = l.grow(RegionUp, 0, n); err != nil {
			return nil, 0, err
		}
	}
	copy(region[copy(region, in):], fields)
	m.Len, m.OutAt = uint64(n), uint64(len(in))
	if err := l.post(m); err != nil {
		return nil, 0, err
	}
	if m.Op == OpHostCall || m.Op == OpLog {
		l.hasAsked()
	}
	answer, err := l.await(region, region)
	if err != nil {
		return nil, 0, err
	}
	l.where = answer
	if region, err = l.region(RegionUp, &answer); err != nil {
		return nil, 0, err
	}
	if answer.Len > uint64(len(region)) {
		return nil, 0, ErrGarbage
	}
	if admit := l.worker.admit; admit != nil {
		if err := admit(int(answer.Len)); err != nil {
			return nil, 0, err
		}
	}
	return append([]byte(nil), region[:answer.Len]...), answer.Status, nil
}

package lane

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// A call's streams go through rings in an extent of the lane's, one in each direction, so that both sides work at once. One side puts
// bytes in, the other takes them out where they lie. Each side writes its own count of bytes and trusts the other one's only
// as far as it fits its own.
const (
	ringSize    = 8 * stream.PieceSize
	ringHeader  = 256 // bytes; a ring's counts lie before its bytes
	streamsSize = 2 * (ringHeader + ringSize)
)

// ringCounts is the head of a ring.
//
// Layout: four cache lines, of which each is written by one side.
type ringCounts struct {
	put       atomic.Uint64 // bytes so far
	puts      atomic.Uint32 // changes when put does, or closed; what the taker sleeps on
	closed    atomic.Uint32 // by who puts: ringOpen, ringEnded or ringBroken
	putSleeps atomic.Uint32 // whether who puts sleeps
	_         [11]uint32
	_         [16]uint32

	taken      atomic.Uint64 // bytes so far
	takes      atomic.Uint32 // changes when taken does, or refused
	refused    atomic.Uint32 // by who takes: nothing more is taken
	takeSleeps atomic.Uint32
	asked      atomic.Uint32 // by who takes: askedFirst when it wants the first byte, askedTold when it knows that there is no more because the reader failed
	_          [10]uint32
	_          [16]uint32
}

const (
	askedFirst = 1
	askedTold  = 2
)

const (
	ringOpen   = iota
	ringEnded  // everything was put in
	ringBroken // the reader failed
)

// ring is one side's view of a ring. Who puts and who takes are one goroutine each.
type ring struct {
	*ringCounts
	bytes []byte
	mine  uint64 // bytes that this side has put in, or taken out, so far
	bell  *bell
	spin  spinner
}

// newRings returns the views of the two rings in an extent: of the input stream's, and of the output stream's.
func newRings(b []byte, bells *bells, index int) (in, out *ring) {
	list := [2]*ring{}
	for i := range list {
		at := i * (ringHeader + ringSize)
		list[i] = &ring{ringCounts: raw.At[ringCounts](b, at), bytes: b[at+ringHeader:][:ringSize:ringSize], bell: bells.at(streamBell(index, i))}
	}
	return list[0], list[1]
}

// streamBell is the number of the bell of a lane's ring.
func streamBell(lane, ring int) int { return Lanes + 1 + 2*lane + ring }

// reset makes the ring an empty one. Neither side uses it.
func (r *ring) reset() {
	r.put.Store(0)
	r.taken.Store(0)
	r.closed.Store(ringOpen)
	r.refused.Store(0)
	r.asked.Store(0)
	r.putSleeps.Store(0)
	r.takeSleeps.Store(0)
}

// room returns where the next bytes go, as many as lie in one piece; none when the ring is full. The error says that the other side
// has written what it must not.
func (r *ring) room() ([]byte, error) {
	taken := r.taken.Load()
	used := r.mine - taken
	if used > ringSize {
		return nil, fmt.Errorf("%s taken of %d in a ring", count.Of(taken, "byte"), r.mine)
	}
	at := r.mine % ringSize
	return r.bytes[at:min(at+ringSize-used, ringSize)], nil
}

// filled says that n bytes of room were filled.
func (r *ring) filled(n int) {
	r.mine += uint64(n)
	r.put.Store(r.mine)
	r.wakeTaker()
}

func (r *ring) wakeTaker() {
	r.puts.Add(1)
	if r.takeSleeps.Load() != 0 {
		r.bell.ring(&r.puts)
	}
}

// content returns the next bytes, as many as lie in one piece; none when there are none now. The error is as room's.
func (r *ring) content() ([]byte, error) {
	put := r.put.Load()
	left := put - r.mine
	if left > ringSize {
		return nil, fmt.Errorf("%s put in a ring of which %d are taken", count.Of(put, "byte"), r.mine)
	}
	at := r.mine % ringSize
	return r.bytes[at:min(at+left, ringSize)], nil
}

// emptied says that n bytes of content are not used any more.
func (r *ring) emptied(n int) {
	r.mine += uint64(n)
	r.taken.Store(r.mine)
	r.wakePutter()
}

func (r *ring) wakePutter() {
	r.takes.Add(1)
	if r.putSleeps.Load() != 0 {
		r.bell.ring(&r.takes)
	}
}

// close says that nothing more is put in, and how it ended.
func (r *ring) close(how uint32) {
	r.closed.Store(how)
	r.wakeTaker()
}

// refuse says that nothing more is taken.
func (r *ring) refuse() {
	r.refused.Store(1)
	r.wakePutter()
}

// ringStep is how long a side sleeps before it looks by itself whether the other one is still there, or the call cancelled.
const ringStep = 20 * time.Millisecond

// WorkerStreams returns the streams of a call that m begins, for which Next was the lane's last: nil for those that it has not. They are ended
// before the call is.
func (l *WorkerLane) WorkerStreams(m Message) (source stream.Source, sink stream.Sink, err error) {
	at := Message{Extent: m.Streams, Size: extentSize(streamsSize)}
	b, err := l.region(RegionStreams, &at)
	if err != nil {
		return nil, nil, err
	}
	in, out := newRings(b, l.worker.bells, l.index)
	if m.Flags&FlagIn != 0 {
		source = &workerSource{lane: l, ring: in}
	}
	if m.Flags&FlagOut != 0 {
		sink = &workerSink{lane: l, ring: out}
	}
	return source, sink, nil
}

// workerSource hands out the input stream where it lies.
type workerSource struct {
	lane  *WorkerLane
	ring  *ring
	lent  int // bytes of the piece that the plug-in has
	ended atomic.Bool
}

func (s *workerSource) Next(<-chan struct{}) ([]byte, abi.Status) {
	s.lane.worker.Alone()
	r := s.ring
	if s.lent > 0 {
		r.emptied(s.lent)
		s.lent = 0
	}
	if r.asked.Load() == 0 {
		r.asked.Store(askedFirst)
		r.wakePutter()
	}
	for {
		puts := r.puts.Load()
		closed := r.closed.Load() // before the content, which has all that was put in then
		piece, err := r.content()
		switch {
		case err != nil:
			return nil, abi.StatusFailed // the host sees to it
		case s.lane.cancel.Load() != 0 || s.ended.Load():
			return nil, abi.StatusCancelled
		case len(piece) > 0:
			piece = piece[:min(len(piece), stream.PieceSize)]
			s.lent = len(piece)
			return piece, abi.StatusOK
		case closed == ringBroken:
			r.asked.Store(askedTold)
			return nil, abi.StatusFailed
		case closed != ringOpen:
			return nil, abi.StatusOK
		}
		r.spin.await(&r.puts, puts, &r.takeSleeps, r.bell, ringStep)
	}
}

func (s *workerSource) End() {
	s.lane.worker.Alone()
	s.ended.Store(true)
	s.ring.refuse()
	s.ring.bell.alarm(&s.ring.puts)
}

// workerSink puts the output stream into its ring.
type workerSink struct {
	lane  *WorkerLane
	ring  *ring
	ended atomic.Bool
}

func (s *workerSink) Put(_ <-chan struct{}, piece []byte) abi.Status {
	s.lane.worker.Alone()
	r := s.ring
	for {
		takes := r.takes.Load()
		room, err := r.room()
		switch {
		case err != nil || r.refused.Load() != 0:
			return abi.StatusFailed
		case s.lane.cancel.Load() != 0 || s.ended.Load():
			return abi.StatusCancelled
		case len(piece) == 0:
			return abi.StatusOK
		case len(room) > 0:
			n := copy(room, piece)
			piece = piece[n:]
			r.filled(n)
			continue
		}
		r.spin.await(&r.takes, takes, &r.putSleeps, r.bell, ringStep)
	}
}

func (s *workerSink) End() {
	s.lane.worker.Alone()
	s.ended.Store(true)
	s.ring.close(ringEnded)
	s.ring.bell.alarm(&s.ring.takes)
}

// Wait is stream.Sink's: the host writes what is in the ring.
func (*workerSink) Wait(<-chan struct{}, <-chan time.Time) bool { return true }

// HostStreams are the host's side of a call's streams: two goroutines that read and write as the rings have room, and bytes. What the
// application's reader and writer get is memory of the host's alone.
type HostStreams struct {
	in, out *ring
	gone    *atomic.Bool // the worker is dead

	// Who touches the rings holds mu, or is counted in waits: they may be unmapped as soon as End has returned.
	mu     sync.Mutex
	over   bool
	begun  bool   // the function was seen to read, or to write: it has run
	rest   []byte // what was left in the output's ring at the end, and is still to be written
	wrong  error  // that the worker has written what it must not
	waits  int    // goroutines that wait for a ring's word to change
	nobody sync.Cond

	finished chan struct{} // closed when the output stream was written to its end, or never will be; see stream.Streams
	fed      chan struct{} // closed when the reader is not used any more
	reader   *stream.Reader
	prompt   [2]bool // whether the reader, and the writer, cannot block
}

// Begin makes the lane's streams, before Call, with the flags that go with it. gone is set when the worker is dead. They are used until End.
func (l *HostLane) Begin(st *stream.Streams, gone *atomic.Bool) (*HostStreams, uint32, error) {
	if err := l.ensure(RegionStreams, streamsSize); err != nil {
		return nil, 0, err
	}
	in, out := newRings(l.bytes(RegionStreams), l.host.bells, l.index)
	in.reset()
	out.reset()
	h := &HostStreams{in: in, out: out, gone: gone, finished: make(chan struct{}), fed: make(chan struct{})}
	h.nobody.L = &h.mu
	l.streams.Store(h)
	var flags uint32
	if st.In != nil {
		flags |= FlagIn
		h.reader, h.prompt[0] = st.In, !st.In.Blocks()
		go h.feed(st.In)
	}
	if st.Out != nil {
		flags |= FlagOut
		h.prompt[1] = !st.Out.Blocks()
		go h.drain(st.Out)
	} else {
		close(h.finished)
	}
	st.Written = h.finished
	return h, flags, nil
}

// locked runs fn, unless the rings are not to be touched any more. It reports whether they are.
func (h *HostStreams) locked(fn func() error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.wrong != nil {
		return false
	}
	if err := fn(); err != nil {
		h.wrong = err
		return false
	}
	return true
}

// await waits until the word of a ring is not value any more, for ringStep at most.
func (h *HostStreams) await(r *ring, word *atomic.Uint32, value uint32, sleeps *atomic.Uint32) {
	if !h.locked(func() error { h.waits++; return nil }) {
		return
	}
	r.spin.await(word, value, sleeps, r.bell, ringStep)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits--; h.waits == 0 {
		h.nobody.Broadcast()
	}
}

// feed reads r to its end, into the ring, from when the plug-in wants the first byte: until then r is as it was.
func (h *HostStreams) feed(r *stream.Reader) {
	how := uint32(ringBroken) // also where r ends this goroutine
	defer close(h.fed)
	defer func() { h.locked(func() error { h.in.close(how); return nil }) }()
	for asked := false; !asked; {
		takes, refused := uint32(0), false
		if !h.locked(func() error {
			takes = h.in.takes.Load()
			asked = h.in.asked.Load() != 0
			h.begun = h.begun || asked
			refused = !asked && h.in.refused.Load() != 0
			return nil
		}) || refused {
			return
		}
		if !asked {
			h.await(h.in, &h.in.takes, takes, &h.in.putSleeps)
		}
	}
	var buffer []byte
	for {
		rest, err := r.Piece(&buffer)
		if err != nil {
			if err == io.EOF { // and not that r was stopped
				how = ringEnded
			}
			return
		}
		for len(rest) > 0 {
			takes, refused, moved := uint32(0), false, false
			if !h.locked(func() error {
				takes = h.in.takes.Load()
				room, err := h.in.room()
				refused = h.in.refused.Load() != 0
				if err == nil && !refused && len(room) > 0 {
					n := copy(room, rest)
					rest = rest[n:]
					h.in.filled(n)
					moved = true
				}
				return err
			}) || refused {
				return
			}
			if moved {
				continue
			}
			h.await(h.in, &h.in.takes, takes, &h.in.putSleeps)
		}
	}
}

// drain writes to w what comes out of the ring, and then what was left in it.
func (h *HostStreams) drain(w *stream.Writer) {
	defer close(h.finished)
	if !h.drainRing(w) {
		return
	}
	h.mu.Lock()
	rest := h.rest
	h.mu.Unlock()
	for len(rest) > 0 {
		n := min(len(rest), stream.PieceSize)
		if _, err := w.Write(rest[:n]); err != nil {
			return
		}
		rest = rest[n:]
	}
}

// drainRing writes to w what comes out of the ring, until that is over. It reports whether w has taken everything.
func (h *HostStreams) drainRing(w *stream.Writer) bool {
	defer func() { // nothing more is taken, also where w ends this goroutine
		h.locked(func() error { h.out.refuse(); return nil })
	}()
	buffer := make([]byte, stream.PieceSize)
	for {
		var puts uint32
		n, last := 0, false
		gone := h.gone.Load() // what it has put in before is there
		if !h.locked(func() error {
			puts = h.out.puts.Load()
			closed := h.out.closed.Load()
			piece, err := h.out.content()
			if err == nil && len(piece) > 0 {
				n = copy(buffer, piece)
				h.out.emptied(n)
				h.begun = true
			}
			last = closed != ringOpen && n == 0
			return err
		}) || last {
			return true
		}
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return false
			}
			continue
		}
		if gone {
			return true
		}
		h.await(h.out, &h.out.puts, puts, &h.out.takeSleeps)
	}
}

// Begun reports whether the function was seen to read its input, or to write output, before End. Where it was not, the reader and the
// writer are as they were.
func (h *HostStreams) Begun() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

// End ends the use of the rings, whatever the reader and the writer do, and that of those two which cannot block. returned says that
// the function has returned: what it has written and the writer has not taken yet is kept for it, in the host's own memory. The error
// says that the worker has written what it must not.
func (l *HostLane) End(h *HostStreams, returned bool) error {
	l.streams.Store(nil)
	err := h.end(returned)
	if h.prompt[0] {
		<-h.fed
	}
	if h.prompt[1] {
		<-h.finished
	}
	return err
}

func (h *HostStreams) end(returned bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reader != nil && h.begun { // one that was not asked may be asked by another try of the call
		h.reader.Stop()
		if h.in.asked.Load() == askedTold {
			h.reader.Told()
		}
	}
	if returned {
		h.keepRest()
	}
	// The call may go on in the worker: where a host function has ended its goroutine.
	h.in.close(ringBroken)
	h.out.refuse()
	h.over = true
	for h.waits > 0 {
		h.in.takes.Add(1) // so that nobody begins to sleep
		h.out.puts.Add(1)
		h.in.bell.alarm(&h.in.takes)
		h.out.bell.alarm(&h.out.puts)
		h.nobody.Wait()
	}
	return h.wrong
}

// keepRest takes what is left in the output's ring, which is two pieces at most, for a writer that takes more. The caller holds mu.
func (h *HostStreams) keepRest() {
	select {
	case <-h.finished:
		return
	default:
	}
	for range 2 {
		if h.wrong != nil {
			return
		}
		var piece []byte
		if piece, h.wrong = h.out.content(); len(piece) > 0 {
			h.rest = append(h.rest, piece...)
			h.out.emptied(len(piece))
		}
	}
}

// wake has the worker look whether the call is cancelled.
func (h *HostStreams) wake() {
	h.locked(func() error {
		h.in.bell.ring(&h.in.puts)
		h.out.bell.ring(&h.out.takes)
		return nil
	})
}

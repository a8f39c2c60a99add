package sidecar

import (
	"sync"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// window is how many bytes of a stream may be under way before the other side has asked for more (rule W15).
const window = 64 << 10

// input is a call's input stream. The session's mu guards what is below turn.
type input struct {
	of   *call
	turn sync.Mutex // of who reads

	pieces [][]byte
	room   int // how much more the host may send
	used   int // since MORE was sent last
	ended  bool
	broken bool
	ring   bell
}

func (i *input) ready() bool { return len(i.pieces) > 0 || i.ended }
func (i *input) bell() *bell { return &i.ring }

// part takes a piece in. It takes mu.
func (s *session) part(m *message) error {
	id, broken := m.id, m.broken
	s.mu.Lock()
	c := s.calls[id]
	s.mu.Unlock()
	if c == nil || c.input == nil {
		return nil // the reader passes over the body
	}
	piece, err := s.r.body(nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := c.input
	if !broken { // whose body does not count
		i.room -= len(piece)
	}
	switch {
	case i.room < 0:
		return breaks("W15", "65536 bytes at first, and what each MORE asks for", "a piece of a stream beyond what was asked for")
	case i.ended:
	case broken || len(piece) == 0:
		i.ended, i.broken = true, broken
	default:
		i.pieces = append(i.pieces, piece)
	}
	i.ring.ring()
	return nil
}

// read is plugin.Host's.
func (i *input) read(p []byte) (int, int32) {
	i.turn.Lock()
	defer i.turn.Unlock()
	if i.of.Err() != nil {
		return 0, int32(plugin.Cancelled)
	}
	s := i.of.s
	s.mu.Lock()
	starved := 0 // who waits has used all that came: a host whose next piece is as long as the window can send it
	if len(i.pieces) == 0 && !i.ended {
		starved, i.used = i.used, 0
		i.room += starved
	}
	s.mu.Unlock()
	if starved > 0 {
		s.say(&outgoing{verb: more, id: i.of.id, a: uint64(starved)}, nil)
	}
	ok := s.await(i, i.of.Done(), i.of.own(i.of))
	s.mu.Lock()
	if !ok || len(i.pieces) == 0 {
		broken := i.broken
		s.mu.Unlock()
		switch {
		case !ok:
			return 0, int32(plugin.Cancelled)
		case broken:
			return 0, int32(plugin.Failed)
		}
		return 0, 0
	}
	n := min(len(p), len(i.pieces[0]))
	piece := i.pieces[0][:n]
	if i.pieces[0] = i.pieces[0][n:]; len(i.pieces[0]) == 0 {
		i.pieces[0] = nil
		i.pieces = i.pieces[1:]
	}
	asks := 0
	if i.used += n; i.used >= window/2 && !i.ended {
		asks, i.used = i.used, 0
		i.room += asks
	}
	s.mu.Unlock()
	copy(p, piece)
	if asks > 0 {
		s.say(&outgoing{verb: more, id: i.of.id, a: uint64(asks)}, nil)
	}
	return n, 0
}

// output is a call's output stream. The session's mu guards what is below turn.
type output struct {
	of   *call
	turn sync.Mutex // of who writes: what is written at once stays whole

	room    uint64
	refused bool // nobody takes it any more
	ring    bell
}

func (o *output) ready() bool { return o.room > 0 || o.refused }
func (o *output) bell() *bell { return &o.ring }

// allow lets n more bytes be sent; 0 says that nobody takes any.
func (o *output) allow(n uint64) {
	o.refused = o.refused || n == 0
	o.room = min(o.room+n, 1<<62)
	o.ring.ring()
}

// write is plugin.Host's.
func (o *output) write(p []byte) int32 {
	o.turn.Lock()
	defer o.turn.Unlock()
	s := o.of.s
	for len(p) > 0 {
		if o.of.Err() != nil || !s.await(o, o.of.Done(), o.of.own(o.of)) {
			return int32(plugin.Cancelled)
		}
		s.mu.Lock()
		n, refused := min(o.room, uint64(len(p)), window/2, s.most), o.refused
		o.room -= n
		s.mu.Unlock()
		if refused {
			return int32(plugin.Failed)
		}
		if err := s.w.send(&outgoing{verb: part, id: o.of.id}, p[:n], false); err != nil {
			s.end(err)
			return int32(plugin.Cancelled)
		}
		p = p[n:]
	}
	return 0
}

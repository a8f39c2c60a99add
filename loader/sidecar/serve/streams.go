package serve

import (
	"errors"
	"io"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// input is a call's input stream.
type input struct {
	of *call

	mu     sync.Mutex
	pieces [][]byte
	room   int // how much more the host may send
	used   int // since MORE was sent last
	err    error
	came   chan struct{} // of a capacity of 1
}

func newInput(c *call) *input { return &input{of: c, room: wire.Window, came: make(chan struct{}, 1)} }

var errBroken = errors.New("the input broke off")

// put takes a piece in.
func (i *input) put(piece []byte, broken bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.room -= len(piece); i.room < 0 {
		return &wire.Error{Rule: "W15", Found: "a piece of a stream beyond what was asked for", Expected: "65536 bytes at first, and what each MORE asks for"}
	}
	i.of.numbers.Took(len(piece))
	switch {
	case i.err != nil:
	case broken:
		i.err = errBroken
	case len(piece) == 0:
		i.err = io.EOF
	default:
		i.pieces = append(i.pieces, piece)
	}
	select {
	case i.came <- struct{}{}:
	default:
	}
	return nil
}

// Read is io.Reader's.
func (i *input) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		i.mu.Lock()
		if len(i.pieces) > 0 {
			n := copy(b, i.pieces[0])
			if i.pieces[0] = i.pieces[0][n:]; len(i.pieces[0]) == 0 {
				i.pieces = i.pieces[1:]
			}
			more := 0
			if i.used += n; i.used >= wire.Window/2 && i.err == nil {
				more, i.used = i.used, 0
				i.room += more
			}
			i.mu.Unlock()
			if more > 0 {
				_ = i.of.s.w.Send(&wire.Message{Verb: wire.More, ID: i.of.id, N: uint64(more)}, nil)
			}
			return n, nil
		}
		err, starved := i.err, 0
		if err == nil { // who waits has used all that came: a host whose next piece is as long as the window can send it
			starved, i.used = i.used, 0
			i.room += starved
		}
		i.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if starved > 0 {
			_ = i.of.s.w.Send(&wire.Message{Verb: wire.More, ID: i.of.id, N: uint64(starved)}, nil)
		}
		select {
		case <-i.came:
		case <-i.of.Done():
			return 0, i.of.Err()
		}
	}
}

// output is a call's output stream.
type output struct {
	of *call

	mu    sync.Mutex
	room  uint64
	over  bool // nobody takes it any more
	grown chan struct{}
}

func newOutput(c *call) *output {
	return &output{of: c, room: wire.Window, grown: make(chan struct{}, 1)}
}

// allow lets n more bytes be sent; 0 says that nobody takes any.
func (o *output) allow(n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n == 0 {
		o.over = true
	}
	o.room = min(o.room+n, 1<<62)
	select {
	case o.grown <- struct{}{}:
	default:
	}
}

var errRefused = errors.Join(errors.New("nobody takes the output any more"), abi.StatusFailed)

// Write is io.Writer's.
func (o *output) Write(b []byte) (int, error) {
	for done := 0; ; {
		o.mu.Lock()
		n, over := min(o.room, uint64(len(b)-done), wire.Window/2, o.of.s.maxBody), o.over
		o.room -= n
		o.mu.Unlock()
		switch {
		case over:
			return done, errRefused
		case n > 0:
			if err := o.of.s.w.Send(&wire.Message{Verb: wire.Part, ID: o.of.id}, b[done:done+int(n)]); err != nil {
				return done, err
			}
			o.of.numbers.Gave(int(n))
			if done += int(n); done == len(b) {
				return done, nil
			}
			continue
		case len(b) == done:
			return done, nil
		}
		select {
		case <-o.grown:
		case <-o.of.Done():
			return done, o.of.Err()
		}
	}
}

package sidecar

import (
	"io"
	"strconv"
	"sync"
	"sync/atomic"
)

// writer writes messages, from any goroutine, each whole. While one goroutine writes, others leave theirs with it, and go on.
type writer struct {
	w io.Writer

	mu      sync.Mutex
	room    sync.Cond // buf has become shorter, or nobody writes
	buf     []byte    // is written by whoever writes next
	spare   []byte
	writing bool
	err     error // of the stream; it stays

	waits atomic.Bool // there is something in buf that nobody writes
}

const (
	buffered = 64 << 10 // so many bytes wait at most, and one message more
	direct   = 32 << 10 // so many bytes of a body are written from where they are
)

func newWriter(w io.Writer) *writer {
	out := &writer{w: w}
	out.room.L = &out.mu
	return out
}

// send writes a message: head appends its head, without its length and its end. soon leaves it for the next one, or for flush. The error is the stream's.
func (w *writer) send(m *outgoing, body []byte, soon bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	long := len(body) >= direct
	for w.writing && w.err == nil && (long || len(w.buf) >= buffered) {
		w.room.Wait()
	}
	if w.err != nil {
		return w.err
	}
	w.buf = m.append(w.buf, len(body))
	if !long {
		w.buf = append(w.buf, body...)
		if w.writing {
			return nil
		}
		if soon && len(w.buf) < direct {
			w.waits.Store(true)
			return nil
		}
		w.drain(nil)
		return w.err
	}
	// A head goes with as much of its body as has room: whoever reads would be woken for the head alone.
	first := min(len(body), max(0, buffered-len(w.buf)))
	w.buf = append(w.buf, body[:first]...)
	w.drain(body[first:])
	return w.err
}

// flush writes what waits.
func (w *writer) flush() error {
	if !w.waits.Load() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.drain(nil)
	}
	return w.err
}

// drain writes what is in buf, and behind the first of it rest, until there is no more. mu is held, and let go of while it writes.
func (w *writer) drain(rest []byte) {
	w.writing = true
	w.waits.Store(false)
	for w.err == nil && len(w.buf) > 0 {
		b := w.buf
		w.buf = w.spare[:0]
		w.spare = nil
		w.room.Broadcast()
		w.mu.Unlock()
		err := write(w.w, b)
		if err == nil && len(rest) > 0 {
			err = write(w.w, rest)
		}
		rest = nil
		w.mu.Lock()
		w.err = err
		if cap(b) <= 2*buffered {
			w.spare = b
		}
	}
	w.writing = false
	w.room.Broadcast()
}

func write(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// outgoing is a message of this side's, but for its body.
type outgoing struct {
	verb   verb
	id     uint64
	name   string // of CALL
	status int32  // of DONE
	level  int32  // of LOG
	of     uint64 // For, of CALL, and of LOG
	fields int    // of LOG
	a, b   uint64 // of PROGRESS; a is what MORE asks for
}

// append appends the head.
func (m *outgoing) append(b []byte, length int) []byte {
	b = append(b, verbs[m.verb].word...)
	switch m.verb {
	case hello:
		b = append(b, " 1\nMax-Body: "...)
		b = strconv.AppendUint(b, maxBody, 10)
	case logged:
		b = append(append(append(b, ' '), levels[m.level]...), "\nFor: "...)
		b = strconv.AppendUint(b, m.of, 10)
		if m.fields > 0 {
			b = strconv.AppendInt(append(b, "\nFields: "...), int64(m.fields), 10)
		}
	default:
		b = strconv.AppendUint(append(b, ' '), m.id, 10)
	}
	switch m.verb {
	case called:
		b = append(append(append(b, ' '), m.name...), "\nFor: "...)
		b = strconv.AppendUint(b, m.of, 10)
	case done:
		b = strconv.AppendInt(append(b, ' '), int64(m.status), 10)
	case progress:
		b = strconv.AppendUint(append(b, ' '), m.a, 10)
		b = strconv.AppendUint(append(b, ' '), m.b, 10)
	case more:
		b = strconv.AppendUint(append(b, ' '), m.a, 10)
	}
	if length > 0 {
		b = strconv.AppendUint(append(b, "\nContent-Length: "...), uint64(length), 10)
	}
	return append(b, "\n\n"...)
}

package wire

import (
	"io"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/abi"
)

// Writer writes messages to a stream, from any goroutine. What several write at the same time goes in one piece.
type Writer struct {
	w       io.Writer
	waiting atomic.Int32 // who is in Send

	mu   sync.Mutex
	buf  []byte
	soon bool  // somebody writes what is in buf when those had their turn that can run now
	err  error // of the stream; it stays
}

// NewWriter returns a writer of messages.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

const (
	buffered = 64 << 10 // so many bytes wait at most, and one message more
	direct   = 16 << 10 // a body of so many bytes does not wait; and so many that have no room in buf are written from where they are
)

// Send writes a message with its body, which is the caller's again on return. It may be written by somebody else's Send, a little later. The error is
// the stream's: of this message, or of one before it; after it nothing is written any more.
func (w *Writer) Send(m *Message, body []byte) error {
	w.waiting.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(m, body)
	if w.waiting.Add(-1) == 0 { // the last of those that wait writes for all
		w.flush()
	}
	return w.err
}

// SendSoon is Send of a short message where others are about to send theirs: they have a turn before it is written, so that all goes in one piece.
func (w *Writer) SendSoon(m *Message, body []byte) error {
	w.mu.Lock()
	first := w.put(m, body) && !w.soon
	w.soon = w.soon || first
	err := w.err
	w.mu.Unlock()
	if !first {
		return err
	}
	runtime.Gosched()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.soon = false
	w.flush()
	return w.err
}

// Put is Send of a message that waits for the next Flush, or Send, unless it is long.
func (w *Writer) Put(m *Message, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(m, body)
	return w.err
}

// Flush writes what waits. The error is as Send's.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.err
}

// FlushSoon is Flush that waits for nobody: where somebody writes, that one writes what waits as well, or whoever has Put it does.
// The error is as Send's; nil where somebody writes, whose error it is then, and the next one's.
func (w *Writer) FlushSoon() error {
	if !w.mu.TryLock() {
		return nil
	}
	defer w.mu.Unlock()
	w.flush()
	return w.err
}

// Waits reports whether something waits for the next Flush, and nobody writes.
func (w *Writer) Waits() bool {
	if !w.mu.TryLock() {
		return false
	}
	defer w.mu.Unlock()
	return len(w.buf) > 0
}

// put takes a message in, and reports whether it waits.
func (w *Writer) put(m *Message, body []byte) bool {
	if w.err != nil {
		return false
	}
	w.buf = Append(w.buf, m, len(body))
	// A head goes with as much of its body as has room: whoever reads would be woken for the head alone, and have to wait again.
	room := max(0, buffered-len(w.buf))
	if len(body) < room+direct {
		w.buf = append(w.buf, body...)
	} else {
		w.buf = append(w.buf, body[:room]...)
		w.flush()
		w.write(body[room:])
	}
	if len(w.buf) >= buffered || len(body) >= direct {
		w.flush()
	}
	return len(w.buf) > 0
}

func (w *Writer) flush() {
	w.write(w.buf)
	w.buf = w.buf[:0]
}

func (w *Writer) write(b []byte) {
	if len(b) == 0 || w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	w.err = err
}

// Append appends a message's head to b, for a body of so many bytes. Whoever made the message sees to it that it keeps the rules: its Name, Token and
// Rule are written as they are.
func Append(b []byte, m *Message, length int) []byte {
	b = append(b, verbs[m.Verb]...)
	switch m.Verb {
	case Hello:
		b = number(append(b, ' '), m.Version)
		if len(m.Token) > 0 {
			b = append(append(b, "\nToken: "...), m.Token...)
		}
		if m.Level != 0 {
			b = append(append(b, "\nLog: "...), LevelWord(m.Level)...)
		}
		if m.MaxBody != 0 {
			b = number(append(b, "\nMax-Body: "...), m.MaxBody)
		}
	case Log:
		b = append(append(b, ' '), LevelWord(m.Level)...)
		b = m.of(b)
		if m.Fields != 0 {
			b = number(append(b, "\nFields: "...), m.Fields)
		}
	case Bye:
	default:
		b = number(append(b, ' '), m.ID)
	}
	switch m.Verb {
	case Call:
		b = append(append(b, ' '), m.Name...)
		b = m.of(b)
		if m.Within != 0 {
			b = number(append(b, "\nWithin: "...), m.Within)
		}
		if m.Timeout != 0 {
			b = number(append(b, "\nTimeout: "...), m.Timeout)
		}
		if m.Stream != 0 {
			b = append(append(b, "\nStream: "...), m.Stream.String()...)
		}
		if m.Hook {
			b = append(b, "\nHook: yes"...)
		}
		if m.Watched {
			b = append(b, "\nProgress: yes"...)
		}
		if m.Resumes {
			b = append(b, "\nResume: yes"...)
		}
	case Done:
		b = number(append(b, ' '), uint64(m.Status))
		if m.NotRun != 0 {
			b = append(append(b, "\nNot-Run: "...), m.NotRun.String()...)
		}
		if len(m.Rule) > 0 {
			b = append(append(b, "\nRule: "...), m.Rule...)
		}
	case Progress:
		b = number(append(b, ' '), m.Done)
		b = number(append(b, ' '), m.Total)
	case More:
		b = number(append(b, ' '), m.N)
	case Part:
		if m.Broken {
			b = number(append(b, "\nStatus: "...), uint64(abi.StatusFailed))
		}
	}
	if length > 0 {
		b = number(append(b, "\nContent-Length: "...), uint64(length))
	}
	return append(b, '\n', '\n')
}

// of appends the field For.
func (m *Message) of(b []byte) []byte {
	if m.HasFor {
		b = number(append(b, "\nFor: "...), m.For)
	}
	return b
}

func number(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }

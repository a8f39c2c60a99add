package process

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// Tail reads what a program writes to its standard streams, keeps the end of it for errors, and hands it on to a writer. It always
// reads: a program does not wait for a writer that is slow, or that does not return. Its methods may be called by any goroutine.
type Tail struct {
	done chan struct{} // closed at the end of the output

	mu     sync.Mutex
	kept   []byte
	report lastwords.Report
	pipe   *os.File
	ended  bool // the pipe was read to its end

	to      io.Writer     // foreign code; nil where nobody is to get it
	pending []byte        // for to, in order
	dropped int           // bytes that had no room in pending since the last that had
	more    chan struct{} // something is pending, or the output has ended
	written chan struct{} // closed when to has got everything
}

// What of a program's output is kept.
const (
	tailBytes    = 8 << 10
	tailLines    = 20
	pendingBytes = 256 << 10
)

// NewTail returns a Tail that hands on to a writer, or to nobody where that is nil. The writer is foreign code: it may be slow, and
// loses what comes faster than it takes it; it may panic, and loses what it was given.
func NewTail(to io.Writer) *Tail {
	return &Tail{to: to, done: make(chan struct{}), more: make(chan struct{}, 1), written: make(chan struct{})}
}

// Read reads from pipe until it ends, in a goroutine of its own, and closes it then. It is called once.
func (t *Tail) Read(pipe *os.File) {
	t.mu.Lock()
	t.pipe = pipe
	t.mu.Unlock()
	if t.to == nil {
		close(t.written)
	} else {
		go t.deliver()
	}
	go func() {
		defer close(t.done)
		defer pipe.Close()
		buf := make([]byte, 4<<10)
		for {
			n, err := pipe.Read(buf)
			t.take(buf[:n], err != nil)
			if err != nil {
				return
			}
		}
	}()
}

// take takes in what the program has written. last is whether its output has ended.
func (t *Tail) take(b []byte, last bool) {
	t.mu.Lock()
	t.kept = append(t.kept, b...)
	if len(t.kept) > 2*tailBytes {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailBytes:]...)
	}
	t.report.Take(b)
	if t.to != nil {
		t.pend(b)
	}
	t.ended = t.ended || last
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// pend adds output for the writer, as long as there is room. The caller holds t.mu.
func (t *Tail) pend(b []byte) {
	if len(t.pending)+len(b) > pendingBytes {
		t.dropped += len(b)
		return
	}
	t.mark()
	t.pending = append(t.pending, b...)
}

// mark says to the writer what it has missed. The caller holds t.mu.
func (t *Tail) mark() {
	if t.dropped > 0 {
		t.pending = fmt.Appendf(t.pending, "\n[%s dropped: they came faster than they were taken]\n", count.Of(t.dropped, "byte"))
		t.dropped = 0
	}
}

// deliver hands on what is pending until the output has ended. The writer may panic: then it has lost what it was given;
// or end the goroutine: then another one goes on.
func (t *Tail) deliver() {
	finished := false
	defer func() {
		if !finished {
			go t.deliver()
		}
	}()
	var b []byte
	for {
		t.mu.Lock()
		if len(t.pending) == 0 {
			t.mark()
		}
		b, t.pending = t.pending, b[:0]
		ended := t.ended
		t.mu.Unlock()
		switch {
		case len(b) > 0:
			t.give(b)
		case ended:
			finished = true
			close(t.written)
			return
		default:
			<-t.more
		}
	}
}

// give hands b to the writer.
func (t *Tail) give(b []byte) {
	defer func() { _ = recover() }()
	_, _ = t.to.Write(b) // whoever cannot take it loses it
}

// Take takes in what comes from another stream of the program's, too. Finish does not wait for more of it.
func (t *Tail) Take(b []byte) { t.take(b, false) }

// Finish waits for the end of the output, but not for processes that the program has left behind with its streams. It is called when the
// program has ended, after Read.
func (t *Tail) Finish() {
	const patience = 40 * time.Millisecond
	if t.pipe.SetReadDeadline(time.Now().Add(patience)) != nil { // pipes have none on Windows
		defer time.AfterFunc(patience, func() { t.pipe.Close() }).Stop()
	}
	select {
	case <-t.done:
	case <-time.After(2 * patience):
	}
}

// Flush gives the writer a moment for what is still pending. It is called after Finish.
func (t *Tail) Flush() {
	select {
	case <-t.written:
	case <-time.After(100 * time.Millisecond):
	}
}

// Text returns what is kept, the last 8 KiB at most, without line feeds at its end.
func (t *Tail) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.kept[max(0, len(t.kept)-tailBytes):])
	return strings.TrimRight(strings.ToValidUTF8(text, "\uFFFD"), "\n")
}

// Said returns the lines of Text, and before them those of Lines: what a long report begins with is in Text no more.
func (t *Tail) Said() []string { return append(t.Lines(), strings.Split(t.Text(), "\n")...) }

// Lines returns the last lines of Text, 20 at most; or the first 20 lines of a Go runtime's longer report of its end.
func (t *Tail) Lines() []string {
	text := t.Text()
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.report.Lines(lines[max(0, len(lines)-tailLines):])
}

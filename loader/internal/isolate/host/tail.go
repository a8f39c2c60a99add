package host

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// tail reads what a worker writes to its standard streams, keeps the end of it for errors, and hands it on to whoever the
// host has chosen. It always reads: a worker does not wait for a writer that is slow, or that does not return.
type tail struct {
	done chan struct{} // closed at the end of the output

	mu    sync.Mutex
	kept  []byte
	pipe  *os.File
	ended bool // the pipe was read to its end

	to      io.Writer     // foreign code; nil where nobody is to get it
	pending []byte        // for to, in order
	dropped int           // bytes that had no room in pending since the last that had
	more    chan struct{} // something is pending, or the output has ended
	written chan struct{} // closed when to has got everything
}

// What of a worker's output is kept.
const (
	tailBytes    = 8 << 10
	tailLines    = 20
	pendingBytes = 256 << 10
)

func newTail(to io.Writer) *tail {
	return &tail{to: to, done: make(chan struct{}), more: make(chan struct{}, 1), written: make(chan struct{})}
}

// read reads from pipe until it ends, in a goroutine of its own.
func (t *tail) read(pipe *os.File) {
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
			t.mu.Lock()
			t.kept = append(t.kept, buf[:n]...)
			if len(t.kept) > 2*tailBytes {
				t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailBytes:]...)
			}
			if t.to != nil {
				t.pend(buf[:n])
			}
			t.ended = err != nil
			t.mu.Unlock()
			select {
			case t.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
}

// pend adds output for the writer, as long as there is room. The caller holds t.mu.
func (t *tail) pend(b []byte) {
	if len(t.pending)+len(b) > pendingBytes {
		t.dropped += len(b)
		return
	}
	t.mark()
	t.pending = append(t.pending, b...)
}

// mark says to the writer what it has missed. The caller holds t.mu.
func (t *tail) mark() {
	if t.dropped > 0 {
		t.pending = fmt.Appendf(t.pending, "\n[%s dropped: they came faster than they were taken]\n", count.Of(t.dropped, "byte"))
		t.dropped = 0
	}
}

// deliver hands on what is pending until the output has ended. The writer may panic: then it has lost what it was given;
// or end the goroutine: then another one goes on.
func (t *tail) deliver() {
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
func (t *tail) give(b []byte) {
	defer func() { _ = recover() }()
	_, _ = t.to.Write(b) // whoever cannot take it loses it
}

// finish waits for the end of the output, but not for processes that the worker has left behind with its streams.
func (t *tail) finish() {
	const patience = 40 * time.Millisecond
	if t.pipe.SetReadDeadline(time.Now().Add(patience)) != nil { // pipes have none on Windows
		defer time.AfterFunc(patience, func() { t.pipe.Close() }).Stop()
	}
	select {
	case <-t.done:
	case <-time.After(2 * patience):
	}
}

// flush gives the writer a moment for what is still pending.
func (t *tail) flush() {
	select {
	case <-t.written:
	case <-time.After(100 * time.Millisecond):
	}
}

// text returns what is kept.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.kept[max(0, len(t.kept)-tailBytes):])
	return strings.TrimRight(strings.ToValidUTF8(text, "\uFFFD"), "\n")
}

// lines returns the last lines.
func (t *tail) lines() []string {
	text := t.text()
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-tailLines):]
}

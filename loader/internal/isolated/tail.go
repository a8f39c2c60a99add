package isolated

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// tail reads what a worker writes to its standard streams, hands it on, and keeps the end of it for errors.
type tail struct {
	to   io.Writer
	mu   sync.Mutex
	kept []byte
	pipe *os.File
	done chan struct{}
}

// What of a worker's output is kept.
const (
	tailBytes = 8 << 10
	tailLines = 20
)

func newTail(to io.Writer) *tail { return &tail{to: to, done: make(chan struct{})} }

// read reads from pipe until it ends, in a goroutine of its own.
func (t *tail) read(pipe *os.File) {
	t.pipe = pipe
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
			t.mu.Unlock()
			if t.to != nil && n > 0 {
				_, _ = t.to.Write(buf[:n]) // whoever cannot take it loses it
			}
			if err != nil {
				return
			}
		}
	}()
}

// finish waits for the end of the output, but not for processes that the worker has left behind with its streams, nor for
// ever for whoever takes the output.
func (t *tail) finish() {
	const patience = 100 * time.Millisecond
	if t.pipe.SetReadDeadline(time.Now().Add(patience)) != nil { // pipes have none on Windows
		defer time.AfterFunc(patience, func() { t.pipe.Close() }).Stop()
	}
	select {
	case <-t.done:
	case <-time.After(10 * patience):
	}
}

// lines returns the last lines.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.kept[max(0, len(t.kept)-tailBytes):])
	text = strings.TrimRight(strings.ToValidUTF8(text, "\uFFFD"), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-tailLines):]
}

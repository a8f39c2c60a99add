//go:build unix

package serve

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// FIFOs serves a plug-in over two FIFOs, which are there: in is what the host writes, out what it reads. One session comes after the other, until ctx ends, which it
// looks at between sessions, or a FIFO cannot be opened.
func FIFOs(ctx context.Context, in, out string, p Plugin, o Options) error {
	if p.About == nil {
		_, err := p.Open()
		return err
	}
	for ctx.Err() == nil {
		from, err := os.OpenFile(in, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		_ = Session(ctx, &halves{from: from, out: out}, p, o)
	}
	return nil
}

// halves are two files that are one connection.
type halves struct {
	from   *os.File
	begun  bool // something came: from then on, an end is the end
	closed atomic.Bool

	mu  sync.Mutex
	out string // path of what the host reads
	to  *os.File
}

// Read reads what the host writes. Its end may still be that of the session before, which it has not closed yet.
func (h *halves) Read(b []byte) (int, error) {
	for {
		n, err := h.from.Read(b)
		h.begun = h.begun || n > 0
		if err != io.EOF || h.begun || h.closed.Load() {
			return n, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Write writes to the host. What it reads is opened by the first one, when the host has said something: before that, it may not have seen the end of the session
// before.
func (h *halves) Write(b []byte) (int, error) {
	h.mu.Lock()
	if h.to == nil {
		var err error
		if h.to, err = os.OpenFile(h.out, os.O_WRONLY, 0); err != nil {
			h.mu.Unlock()
			return 0, err
		}
	}
	h.mu.Unlock()
	return h.to.Write(b)
}

// Close closes what the host writes to first: when it sees the other one's end it may open both again.
func (h *halves) Close() error {
	h.closed.Store(true)
	err := h.from.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.to != nil {
		err = errors.Join(err, h.to.Close())
	}
	return err
}

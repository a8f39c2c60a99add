//go:build unix

package serve

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FIFOs serves a plug-in over two FIFOs, which are there: in is what the host writes, out what it reads. One session comes after the other, until ctx ends, or a FIFO
// cannot be opened. It returns nil where ctx has ended.
func FIFOs(ctx context.Context, in, out string, p Plugin, o Options) error {
	if p.About == nil {
		return p.unknown()
	}
	o.counts(p.About)
	for ctx.Err() == nil {
		from, err := openFIFO(in, os.O_RDONLY, ctx.Done())
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		_ = Session(ctx, &halves{from: from, out: out, over: make(chan struct{})}, p, o)
	}
	return nil
}

// openFIFO opens one when the other side has done so, or is given up when abandoned is closed: then the other end is opened here, which nobody who waits for it can tell from the
// other side.
func openFIFO(path string, mode int, abandoned <-chan struct{}) (*os.File, error) {
	opened, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(quit)
		select {
		case <-opened:
			return
		case <-abandoned:
		}
		other := os.O_RDONLY
		if mode == os.O_RDONLY {
			other = os.O_WRONLY // which fails before the one here waits
		}
		for {
			f, err := os.OpenFile(path, other|syscall.O_NONBLOCK, 0)
			select {
			case <-opened:
			case <-time.After(5 * time.Millisecond):
			}
			if err == nil {
				f.Close()
			}
			select {
			case <-opened:
				return
			default:
			}
		}
	}()
	f, err := os.OpenFile(path, mode, 0)
	close(opened)
	<-quit
	select {
	case <-abandoned:
		if err == nil {
			f.Close()
			err = os.ErrClosed
		}
	default:
	}
	return f, err
}

// halves are two files that are one connection.
type halves struct {
	from   *os.File
	begun  bool   // something came: from then on, an end is the end
	first  func() // is called then; or nil
	closed atomic.Bool
	over   chan struct{} // closed when it is closed

	mu  sync.Mutex
	out string // path of what the host reads
	to  *os.File
}

// Read reads what the host writes. Its end may still be that of the session before, which it has not closed yet.
func (h *halves) Read(b []byte) (int, error) {
	for {
		n, err := h.from.Read(b)
		if n > 0 && !h.begun {
			h.begun = true
			if h.first != nil {
				h.first()
			}
		}
		if err != io.EOF || h.begun || h.closed.Load() {
			return n, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// atFirst has do be called when something comes. It comes before Read.
func (h *halves) atFirst(do func()) { h.first = do }

// SetReadDeadline is of what the host writes.
func (h *halves) SetReadDeadline(t time.Time) error { return h.from.SetReadDeadline(t) }

// Write writes to the host. What it reads is opened by the first one, when the host has said something: before that, it may not have seen the end of the session
// before.
func (h *halves) Write(b []byte) (int, error) {
	h.mu.Lock()
	if h.to == nil {
		var err error
		if h.to, err = openFIFO(h.out, os.O_WRONLY, h.over); err != nil {
			h.to = nil
			h.mu.Unlock()
			return 0, err
		}
	}
	to := h.to
	h.mu.Unlock()
	return to.Write(b)
}

// drop reads what the host has written and nobody is to look at any more (rule W3). A FIFO that somebody has open keeps it for the next session.
func (h *halves) drop() {
	conn, err := h.from.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(descriptor uintptr) {
		unread := make([]byte, 64<<10)
		for dropped := 0; dropped < mostDropped; {
			ready := [1]unix.PollFd{{Fd: int32(descriptor), Events: unix.POLLIN}}
			if n, err := unix.Poll(ready[:], 0); err == unix.EINTR {
				continue
			} else if n <= 0 || ready[0].Revents&unix.POLLIN == 0 {
				return
			}
			n, err := unix.Read(int(descriptor), unread)
			if err != unix.EINTR && n <= 0 {
				return
			}
			dropped += max(n, 0)
		}
	})
}

// mostDropped is how much is dropped of a host that goes on writing, in bytes: as much as a FIFO holds. What comes after that is refused by the next session, as no hello.
const mostDropped = 1 << 20

// Close closes what the host writes to first: when it sees the other one's end it may open both again.
func (h *halves) Close() error {
	if h.closed.Swap(true) {
		return nil
	}
	close(h.over)
	err := h.from.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.to != nil {
		err = errors.Join(err, h.to.Close())
	}
	return err
}

// Package eager is reading from a stream on the thread of who waits for it: the system wakes that thread, and nothing else has to run for it.
//
// Go's own way is the runtime's poller, which is asked when a processor (GOMAXPROCS) has nothing else to do, and otherwise every 10 ms: where goroutines
// keep all processors busy, a round trip over a pipe takes that long, and where they do not, another thread is often woken first. Who waits here gives the
// processor back as in any system call.
package eager

import (
	"io"
	"time"
)

// moment is how long a thread is kept waiting before the poller has the stream, so that calls that take long keep no threads.
const moment = 2 * time.Millisecond

// Reader reads from a stream, eagerly or not.
type Reader struct {
	io.Reader
	own *own // nil where the stream, or the system, cannot be waited for on a thread
}

// New returns a reader from r, whose own Eagerly it has where there is one.
func New(r io.Reader) *Reader { return &Reader{r, newOwn(r)} }

// Eagerly is Read that waits on this thread for a moment, if nothing is there. What ends a Read ends it, up to a moment later. It is for one
// goroutine at a time.
func (r *Reader) Eagerly(b []byte) (int, error) {
	if r.own != nil {
		return r.own.read(b)
	}
	if own, ok := r.Reader.(interface {
		Eagerly(b []byte) (int, error)
	}); ok {
		return own.Eagerly(b)
	}
	return r.Read(b)
}

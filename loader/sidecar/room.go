package sidecar

import (
	"os"
	"sync"
)

// room is how much a pipe holds that nobody has read yet: as much as the system gives everyone, or more from the first long message on.
type room struct {
	mu    sync.Mutex
	asked bool // or it is closed: there is nothing to be asked for any more
	wide  bool
}

// long is what makes a message long: half of what a pipe holds.
const long = 32 << 10

// had takes in that so many bytes were written to the pipe, or read from it, at once.
func (r *room) had(f *os.File, n int) {
	if n < long {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked {
		r.asked = true
		r.wide = widen(f)
	}
}

// close lets another pipe have it.
func (r *room) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = true
	if r.wide {
		r.wide = false
		narrowed()
	}
}

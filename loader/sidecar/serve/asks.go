package serve

import (
	"context"
	"slices"
)

// asks are the calls of host functions for one call of the host's, or for none, that were not answered yet: as many as rule W11 allows. Others wait, and come in the order in which they were
// made. The session's mu guards them.
type asks struct {
	calls   int
	bytes   uint64
	waiting []*turn
}

// turn is a call of a host function that waits.
type turn struct {
	bytes uint64
	came  chan struct{} // closed when it may be made
}

// maxAsked is how many there may be.
const maxAsked = 1024

func (a *asks) fits(bytes, most uint64) bool {
	return a.calls < maxAsked && a.bytes+bytes <= most
}

// take has one more be made.
func (a *asks) take(bytes uint64) { a.calls, a.bytes = a.calls+1, a.bytes+bytes }

// leave takes in that one was answered. most is what bytes may be together.
func (a *asks) leave(bytes, most uint64) {
	a.calls, a.bytes = a.calls-1, a.bytes-bytes
	a.next(most)
}

// next lets those go on for which there is room.
func (a *asks) next(most uint64) {
	for len(a.waiting) > 0 && a.fits(a.waiting[0].bytes, most) {
		a.take(a.waiting[0].bytes)
		close(a.waiting[0].came)
		a.waiting = a.waiting[1:]
	}
}

// room waits until a call of so many bytes may be made. l is the lead of its goroutine, or nil: who waits does not read.
func (s *session) room(ctx context.Context, a *asks, bytes uint64, l *lead) error {
	s.mu.Lock()
	if len(a.waiting) == 0 && a.fits(bytes, s.maxBody) {
		a.take(bytes)
		s.mu.Unlock()
		return nil
	}
	t := &turn{bytes, make(chan struct{})}
	a.waiting = append(a.waiting, t)
	s.mu.Unlock()
	s.give(l)
	select {
	case <-t.came:
		return nil
	case <-s.over:
		return errGone
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(a.waiting, t); at >= 0 {
		a.waiting = slices.Delete(a.waiting, at, at+1)
		a.next(s.maxBody) // it may have kept shorter ones
	} else { // both had come
		a.leave(bytes, s.maxBody)
	}
	return ctx.Err()
}

package serve

import (
	"fmt"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// mostUnread is how many bytes of answers a host leaves unread when what it calls next begins to wait for that.
const mostUnread = wire.MaxInputs

// beyond returns what is wrong with one more call of the host's, with so many bytes, where its others have no answer yet; or nil. mu is held.
func (s *session) beyond(bytes int) error {
	switch {
	case len(s.calls) >= wire.MaxCalls:
		return &wire.Error{Rule: "W7", Found: fmt.Sprintf("more than %d calls without an answer", wire.MaxCalls), Expected: fmt.Sprintf("%d at most", wire.MaxCalls)}
	case s.inputs > 0 && s.inputs+bytes > wire.MaxInputs:
		return &wire.Error{Rule: "W7", Found: "calls without an answer with " + count.Of(s.inputs+bytes, "byte"), Expected: fmt.Sprintf("%d at most, or one call", wire.MaxInputs)}
	case s.unread.calls >= wire.MaxCalls+wire.MaxCalls/2: // some of these may have been read already
		return &wire.Error{Rule: "W7", Found: fmt.Sprintf("more than %d calls whose answers are not read", wire.MaxCalls), Expected: "a host that reads them"}
	}
	return nil
}

// wrote takes in that an answer with so many bytes was written.
func (s *session) wrote(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread.calls, s.unread.bytes = s.unread.calls-1, s.unread.bytes-bytes
	if s.drains != nil && s.unread.bytes < mostUnread {
		close(s.drains)
		s.drains = nil
	}
}

// drained waits until the host has read of the answers what it has left unread, or the call's context ends, as it does with the session.
func (s *session) drained(c *call) {
	for {
		s.mu.Lock()
		if s.unread.bytes < mostUnread {
			s.mu.Unlock()
			return
		}
		if s.drains == nil {
			s.drains = make(chan struct{})
		}
		drains := s.drains
		s.mu.Unlock()
		select {
		case <-drains:
		case <-c.Done():
			return
		}
	}
}

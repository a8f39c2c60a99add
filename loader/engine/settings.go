package engine

import "sync"

// Settings are those that a plug-in accepted last. They may be used from any goroutine, at any time.
type Settings struct {
	mu     sync.Mutex
	config []byte
}

// Get returns what Set was given last, to be read only; nil before that.
func (s *Settings) Get() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// Set keeps config, which is not written to any more.
func (s *Settings) Set(config []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = config
}

package worker

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// plugin is one open plug-in.
type plugin struct {
	engine   *native.Plugin
	control  controlContext
	sessions sync.Map // of *session, by their number, a uint32
}

// plugins are the open ones, by the numbers that the host has given them; nil where there is none. One is never changed: every
// call reads it.
type plugins []*plugin

// at returns the plug-in with a number, or nil.
func (list *plugins) at(number uint16) *plugin {
	if list == nil || int(number) >= len(*list) {
		return nil
	}
	return (*list)[number]
}

// plugin returns the plug-in that a message is for, or nil.
func (s *server) plugin(m *lane.Message) *plugin { return s.plugins.Load().at(m.Plugin()) }

// known is plugin for a message that the host sends for an open one only.
func (s *server) known(m *lane.Message) *plugin {
	p := s.plugin(m)
	if p == nil {
		fail(ExitGarbage, fmt.Sprintf("%v: there is no plug-in %d", lane.ErrGarbage, m.Plugin()))
	}
	return p
}

// put makes p the plug-in with a number.
func (s *server) put(number uint16, p *plugin) {
	s.changing.Lock()
	defer s.changing.Unlock()
	var list plugins
	if before := s.plugins.Load(); before != nil {
		list = slices.Clone(*before)
	}
	for len(list) <= int(number) {
		list = append(list, nil)
	}
	list[number] = p
	s.plugins.Store(&list)
}

// close stops a plug-in, with its sessions.
func (s *server) close(l *lane.WorkerLane, m *lane.Message) {
	p := s.plugin(m)
	if p == nil {
		return
	}
	p.control.lane.Store(l)
	p.sessions.Range(func(_, open any) bool {
		open.(*session).control.lane.Store(l)
		return true
	})
	_ = p.engine.Close()
	s.put(m.Plugin(), nil)
}

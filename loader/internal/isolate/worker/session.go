package worker

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// session is an instance for one user of the plug-in.
type session struct {
	plugin  *native.Plugin
	control controlContext
}

// session returns the session that a message is for, which the host has started.
func (p *plugin) session(m lane.Message) *session {
	open, ok := p.sessions.Load(uint32(m.Status))
	if !ok {
		fail(ExitGarbage, fmt.Sprintf("%v: there is no session %d", lane.ErrGarbage, m.Status))
	}
	return open.(*session)
}

// newSession starts one.
func (s *server) newSession(l *lane.WorkerLane, m lane.Message, ctx *laneContext, in []byte) error {
	if len(in) == 0 {
		return lane.ErrGarbage
	}
	var config []byte
	if in[0] != 0 {
		config = bytes.Clone(in[1:])
		if config == nil {
			config = []byte{}
		}
	}
	open := new(session)
	open.control.lane.Store(l)
	var err error
	p := s.known(&m)
	if open.plugin, err = p.engine.NewSessionIn(ctx, config, &open.control); err != nil {
		return answer(l, nil, 0, err)
	}
	p.sessions.Store(uint32(m.Status), open)
	return l.Done(0, nil)
}

// endSession stops one.
func (s *server) endSession(l *lane.WorkerLane, m lane.Message) error {
	p := s.known(&m)
	open := p.session(m)
	open.control.lane.Store(l)
	_ = open.plugin.Close()
	p.sessions.Delete(uint32(m.Status))
	return l.Done(0, nil)
}

// replaced has the host let calls in, which those may wait for that are to be stopped.
func replaced(l *lane.WorkerLane, why error) {
	status := abi.StatusOK
	if why != nil {
		status = abi.StatusFailed
	}
	if err := l.Replaced(int32(status)); errors.Is(err, lane.ErrGarbage) {
		fail(ExitGarbage, err.Error())
	}
}

// save answers with the state of all instances.
func (s *server) save(l *lane.WorkerLane, m lane.Message, ctx *laneContext) error {
	hold, err := s.known(&m).engine.Hold(ctx)
	if err != nil {
		return answer(l, nil, 0, err)
	}
	defer hold.Release()
	states, message, status, err := hold.Save()
	if err != nil || status != abi.StatusOK {
		return answer(l, message, status, err)
	}
	out := make([]byte, wire.BatchSize(states))
	wire.PutBatch(out, states)
	return l.Done(0, out)
}

package native

import (
	"context"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// NewSession starts an instance of its own for one user of the plug-in; see engine.Sessions.
func (p *Plugin) NewSession(ctx context.Context, config []byte) (engine.Plugin, error) {
	return p.NewSessionIn(ctx, config, nil)
}

// NewSessionIn is NewSession where what host functions get that ferrule_start and ferrule_stop of the session call is not the plug-in's
// Options.Context but base, unless that is nil.
func (p *Plugin) NewSessionIn(ctx context.Context, config []byte, base context.Context) (*Plugin, error) {
	c, err := callctx.AskUnended(ctx)
	if err != nil {
		return nil, err
	}
	o := p.options
	o.Instances, o.State = 1, nil
	if base != nil {
		o.Context = base
		c.Context = base
	}
	if o.Config = config; config == nil {
		o.Config = p.settings.Get()
	}
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, engine.ErrClosed
	}
	p.image.retain()
	number := p.numbers
	p.numbers++
	p.opening++ // Close waits for it
	p.mu.Unlock()
	s := newPlugin(p.image, o)
	s.parent, s.instances[0].number = p, number
	err = s.startAll(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	p.sessionsChange.Broadcast()
	if err != nil {
		return nil, err
	}
	if p.sessions == nil {
		p.sessions = make(map[*Plugin]struct{})
	}
	p.sessions[s] = struct{}{}
	if p.closing {
		s.beginClose()
	}
	return s, nil
}

// ended takes in that a session is closed.
func (p *Plugin) ended(s *Plugin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
	p.sessionsChange.Broadcast()
}

// waitForSessions returns when no session is left, and none is being started. The plug-in is closing, and so they end.
func (p *Plugin) waitForSessions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.sessions) > 0 || p.opening > 0 {
		p.sessionsChange.Wait()
	}
}

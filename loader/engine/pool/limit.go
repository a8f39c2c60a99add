package pool

import (
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// limit gives a call that has its place a limit, which begins now: its context ends then, and so do its streams, which may be nil. It returns
// when that is; end is due when the function has returned.
func (p *Pool) limit(r *running, c *callctx.Caller, l *engine.Limit, st *streams) (at time.Time, end func()) {
	at = time.Now().Add(l.After)
	p.mu.Lock()
	waited := r.ctx // for what was done until now
	r.until, r.limit = at, l
	r.ctx = callctx.NewLimited(*c, p.name, r, 1, &callctx.Until{At: at, Limit: l}).Take()
	p.mu.Unlock()
	waited.End()
	late := time.AfterFunc(l.After+engine.OverdueAfter, func() { p.host.Overdue(l) })
	if st == nil {
		return at, func() { late.Stop() }
	}
	stop := time.AfterFunc(l.After, st.stop)
	ended := make(chan struct{})
	if c.Done != nil {
		go func() {
			select {
			case <-c.Done:
				st.stop()
			case <-ended:
			}
		}()
	}
	return at, func() {
		late.Stop()
		stop.Stop()
		close(ended)
	}
}

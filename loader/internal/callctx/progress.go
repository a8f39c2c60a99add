package callctx

import (
	"context"
	"sync/atomic"
	"time"
)

// Progress is who wants to know how far a call is.
type Progress struct {
	tell  func(done, total uint64)
	outer *Call
}

// WithProgress returns a context whose calls tell how far they are. What their host functions call does not.
func WithProgress(ctx context.Context, tell func(done, total uint64)) context.Context {
	return context.WithValue(ctx, key{}, &Progress{tell: tell, outer: outerOf(ctx)})
}

// interval is how often a Progress is told.
const interval = 100 * time.Millisecond

// Meter tells a Progress how far one call is. A nil Meter tells nobody.
type Meter struct {
	ends, over chan struct{}
}

// Start tells p what the two words are, on a goroutine of its own, whenever it finds them changed. The call, of the plug-in
// with the name owner, waits for who is told, so what that one calls is known to come from it: c and holds are as for
// NewCalls.
func (p *Progress) Start(done, total *atomic.Uint64, c Caller, owner string, holds any) *Meter {
	m := &Meter{make(chan struct{}), make(chan struct{})}
	call := NewCalls(c, owner, holds, 1).Take()
	go func() {
		defer close(m.over)
		defer call.End()
		defer call.Serve()()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		var last [2]uint64
		for ended := false; !ended; {
			select {
			case <-tick.C:
			case <-m.ends:
				ended = true
			}
			if now := [2]uint64{done.Load(), total.Load()}; now != last {
				last = now
				p.tell(now[0], now[1])
			}
		}
	}()
	return m
}

// Stop tells what is new, and returns when nothing more is told.
func (m *Meter) Stop() {
	if m != nil {
		close(m.ends)
		<-m.over
	}
}

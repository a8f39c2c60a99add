package plugins

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/loader"
)

// history keeps the last event of each kind of a Notify, for plug-ins that come later.
type history struct {
	of   reflect.Type // what kind takes: the point's type, or an interface that it has
	kind func(event any) string

	mu   sync.Mutex
	kept []pastEvent // in the order in which they happened
}

type pastEvent struct {
	kind string
	data []byte
}

// remember keeps an event, and tells it. Whoever attaches at the same time gets it once: as a past one, or told.
func (p *point) remember(ctx context.Context, event any, in []byte) error {
	h := p.history
	kind := h.kind(event)
	h.mu.Lock()
	if kind != "" {
		h.kept = slices.DeleteFunc(h.kept, func(e pastEvent) bool { return e.kind == kind })
		h.kept = append(h.kept, pastEvent{kind, slices.Clone(in)})
	}
	l := p.line.Load()
	h.mu.Unlock()
	return p.notify(ctx, l, in)
}

// publish has another line take the place of the point's. Those that are new to it, and come after Start, get past events first.
func (p *point) publish(l *line, late bool) {
	h := p.history
	if h == nil {
		p.line.Store(l)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := p.line.Load()
	for _, a := range l.hooks {
		if !late || len(h.kept) == 0 || a.told || slices.Contains(before.hooks, a) {
			a.told = true
			continue
		}
		a.told = true
		a.entry.mu.Lock()
		a.breaker.aim(nil)
		a.late = make(chan struct{})
		a.entry.mu.Unlock()
		past := slices.Clone(h.kept)
		p.sys.background.Go(func() { a.catchUp(past) })
	}
	p.line.Store(l)
}

// pending reports whether past events are still to be told; the entry's mu is held.
func (a *attachment) pending() bool {
	if a.late == nil {
		return false
	}
	select {
	case <-a.late:
		return false
	default:
		return true
	}
}

// catchUp tells past events, and then lets calls through that wait for that. Where the plug-in cannot be had, it is told them when it comes again.
func (a *attachment) catchUp(past []pastEvent) {
	e, h := a.entry, a.point.history
	told := false
	defer func() {
		if !told {
			h.mu.Lock()
			a.told = false
			h.mu.Unlock()
		}
		e.mu.Lock()
		a.breaker.aim(e.functionOf(a)) // before those that wait look for it
		close(a.late)
		e.mu.Unlock()
	}()
	for _, event := range past {
		if !a.tell(event) {
			return
		}
	}
	told = true
}

// tell tells one past event, to whichever version runs. It reports whether there was one.
func (a *attachment) tell(event pastEvent) bool {
	e := a.entry
	for {
		if e.run(e.sys.life) != nil {
			return false
		}
		e.mu.Lock()
		l, f := e.live, e.functionOf(a)
		e.mu.Unlock()
		if f == nil {
			return l != nil // this version has no such hook
		}
		out, status, err := a.traced(e.sys.life, func(ctx context.Context) ([]byte, loader.Status, error) { return a.counted(ctx, f, nil, event.data) })
		if err != nil && errors.Is(err, loader.ErrClosed) {
			e.mu.Lock()
			replaced := e.live != l
			e.mu.Unlock()
			if replaced {
				continue
			}
		}
		if err == nil && status != 0 && status != loader.ErrPass {
			err = f.StatusError(e.sys.life, status, out)
		}
		if err != nil {
			a.skipped(err)
		}
		return true
	}
}

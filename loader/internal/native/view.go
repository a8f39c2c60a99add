package native

import (
	"context"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// views counts the outputs that callers still read in place; Close waits for them, because they and their release, which is
// the plug-in's code, need the library loaded. They need no instance (R9): one that is renewed meanwhile does not wait.
type views struct {
	mu   sync.Mutex
	open int
	none sync.Cond // with mu
}

func (v *views) add(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open += n; v.open == 0 {
		v.none.Broadcast()
	}
}

func (v *views) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.open
}

func (v *views) wait() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for v.open > 0 {
		v.none.Wait()
	}
}

// View calls a function and returns its output where the plug-in has it; see engine.Plugin. The plug-in gets no room, so
// that what it has goes into its own memory.
func (p *Plugin) View(ctx context.Context, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	s, err := p.acquire(ctx)
	if err != nil {
		return nil, 0, err
	}
	v, status, err := p.view(s, fn, in)
	if status == abi.StatusPanic {
		s.inst.poisoned.Store(true)
	}
	if s.marked() {
		if err = s.unmark(status, err); err == engine.ErrEnded && v != nil {
			v.Release()
			v = nil
		}
	}
	p.release(s) // not deferred: where a host function ends this goroutine, abandon does it
	return v, status, err
}

func (p *Plugin) view(s *slot, fn engine.Fn, in []byte) (*engine.View, abi.Status, error) {
	if fn.Limit != nil {
		s.begin(fn.Limit)
	}
	status := s.call(p.fns[fn.Index].addr, in, nil)
	if f := s.frame; f.Release != 0 && status >= 0 && raw.Valid(f.Out, f.OutLen) {
		// release gets a frame of its own, which no host service knows: R9 forbids it to use them.
		p.views.add(1)
		return &engine.View{Bytes: raw.Bytes(f.Out, int(f.OutLen)), Release: func() {
			cross.Release(&f)
			p.views.add(-1)
		}}, status, nil
	}
	out, violation := s.take(nil, nil, status)
	if violation != nil {
		return nil, status, violation
	}
	return &engine.View{Bytes: out, Release: func() {}}, status, nil
}

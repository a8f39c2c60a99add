package native

import (
	"context"
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/hostcall"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// quick is a Plugin for the calls of a function that declares itself quick (rule R34). Append enters it by the quick
// crossing while nothing is out of the ordinary; all else is the Plugin's.
type quick struct{ *Plugin }

var _ engine.Quick = (*Plugin)(nil)

// Quick is engine.Quick's.
func (p *Plugin) Quick(fn int) engine.QuickPlugin {
	if p.symbol(fn).Keys.Get("quick") != "yes" || p.image.lib.Manifest.Threads == abi.Pinned {
		return nil
	}
	mark := cross.QuickMark()
	if mark == 0 {
		return nil
	}
	hostcall.Guard(mark)
	p.fns[fn].doubt.CompareAndSwap(0, probation)
	return quick{p}
}

// IsQuick is engine.QuickPlugin's.
func (q quick) IsQuick(fn int) bool { return q.fns[fn].doubt.Load() != demoted }

// symbol returns a function or a hook.
func (p *Plugin) symbol(fn int) *abi.Symbol {
	lib := p.image.lib
	if fn < len(lib.Funcs) {
		return &lib.Funcs[fn]
	}
	return &lib.Hooks[fn-len(lib.Funcs)]
}

// While a quick function runs, nothing can stop the world: one that does not keep its promise holds up every goroutine of
// the process. So one call in timedTurns is timed. One that took longer than quickLimit raises the doubt, which has all
// calls of the function timed until as many others have lowered it; at tooMuchDoubt the function is demoted to ordinary
// calls, for as long as the plug-in is open. A single long call is no proof: the system may have taken the thread's
// processor away meanwhile. A function begins with some doubt, so that one that is always slow is soon found.
const (
	timedTurns   = 64
	quickLimit   = 20 * time.Microsecond
	slowCall     = 24 // what a long call adds; any other takes 1 away
	probation    = 16
	tooMuchDoubt = 3 * slowCall
	demoted      = math.MaxInt32
)

// Append calls a quick function; see engine.Plugin. It asks, checks and promises what Plugin.Append does. The context is
// not there for the call itself: there are no host services, and nothing is cancelled in so short a time.
func (q quick) Append(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	p := q.Plugin
	f := &p.fns[fn.Index]
	s := p.choose()
	if f.doubt.Load()|int32(f.length.Load()) != 0 || s == nil || !raw.IsBackground(ctx) && (ctx == nil || ctx.Err() != nil) {
		return p.appendDoubted(ctx, fn, dst, in)
	}
	stress.Yield()
	if !s.phase.CompareAndSwap(idle, hasty) {
		return p.Append(ctx, fn, dst, in)
	}
	stress.Yield()
	s.turn++
	if s.others.Load() != 0 || s.plugin != p || s.inst.poisoned.Load() || s.turn%timedTurns == 0 {
		return s.appendSeldom(ctx, p, fn, dst, in)
	}
	room := dst[len(dst):cap(dst)]
	if len(room) == 0 {
		room = s.scratchRoom()
	}
	status, refused := s.enterQuick(f.addr, in, room)
	n, ok := s.wroteInto(room, status)
	if !ok || refused || status == abi.StatusPanic {
		return s.concludeQuick(ctx, fn.Index, dst, room, status, refused)
	}
	dst = extend(dst, room, n)
	if !s.giveBack() {
		s.plugin.releaseSlow(s)
	}
	return dst, status, nil
}

// enterQuick enters a quick function with the slot's frame. Only the owner calls it.
func (s *slot) enterQuick(fn uintptr, in, room []byte) (abi.Status, bool) {
	s.prepareQuick()
	cross.Fill(&s.frame, in, room)
	status, refused := cross.EnterQuick(fn, &s.frame)
	raw.KeepAlive(in)
	raw.KeepAlive(room)
	return status, refused
}

// prepareQuick is prepare for a quick call, which nobody cancels and nobody asks how far it is.
func (s *slot) prepareQuick() {
	f := &s.frame
	f.Size = unsafe.Sizeof(*f)
	f.State = s.inst.state
	f.Host = s.plugin.table
	f.Cancel, f.Progress = 0, 0
}

// appendSeldom is the rest of Append, from where the slot is taken, for a call that is timed, or for which the slot is not
// ready: that is an ordinary one.
//
//go:noinline
func (s *slot) appendSeldom(ctx context.Context, p *Plugin, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	if s.others.Load() != 0 || s.plugin != p || s.inst.poisoned.Load() {
		s.unlock()
		s.unclaim()
		return p.Append(ctx, fn, dst, in)
	}
	return s.appendTimed(ctx, fn.Index, dst, in)
}

// appendDoubted is Append where the function's promise is in doubt, its output is expected to be long, or the context has
// something to say.
//
//go:noinline
func (p *Plugin) appendDoubted(ctx context.Context, fn engine.Fn, dst, in []byte) ([]byte, abi.Status, error) {
	f := &p.fns[fn.Index]
	if doubt := f.doubt.Load(); doubt == 0 || doubt == demoted || ctx == nil || ctx.Err() != nil {
		return p.Append(ctx, fn, dst, in)
	}
	s := p.choose()
	if s == nil || !s.phase.CompareAndSwap(idle, hasty) {
		return p.Append(ctx, fn, dst, in)
	}
	return s.appendSeldom(ctx, p, fn, dst, in)
}

// appendTimed is the rest of Append, from where the slot is taken and ready, with a clock.
func (s *slot) appendTimed(ctx context.Context, fn int, dst, in []byte) ([]byte, abi.Status, error) {
	p := s.plugin
	room := dst[len(dst):cap(dst)]
	if len(room) == 0 {
		room = s.scratchRoom()
	}
	begin := time.Now()
	status, refused := s.enterQuick(p.fns[fn].addr, in, room)
	took := time.Since(begin)
	dst, status, err := s.concludeQuick(ctx, fn, dst, room, status, refused)
	if took > quickLimit {
		p.doubtQuick(ctx, fn, took)
	} else if f := &p.fns[fn]; f.doubt.Load() != 0 {
		p.trustQuick(f)
	}
	return dst, status, err
}

// concludeQuick is conclude for a quick call, whose slot becomes an ordinary one for that. Visitors may come in; they find
// the context of the call before, which is over, and none of them is the plug-in's.
//
//go:noinline
func (s *slot) concludeQuick(ctx context.Context, fn int, dst, room []byte, status abi.Status, refused bool) ([]byte, abi.Status, error) {
	p := s.plugin
	s.unlock()
	dst, status, err := s.conclude(fn, dst, room, 0, status)
	if refused {
		p.demote(ctx, fn, "it used a host service, which was refused")
	}
	return dst, status, err
}

// doubtQuick takes in that a call of a quick function has taken too long.
func (p *Plugin) doubtQuick(ctx context.Context, fn int, took time.Duration) {
	doubt := &p.fns[fn].doubt
	for {
		old := doubt.Load()
		switch {
		case old == demoted:
			return
		case old+slowCall >= tooMuchDoubt:
			p.demote(ctx, fn, fmt.Sprintf("calls of it took longer than %v, the last one %v", quickLimit, took))
			return
		case doubt.CompareAndSwap(old, old+slowCall):
			return
		}
	}
}

// trustQuick takes in that one was quick, where there is doubt.
func (p *Plugin) trustQuick(f *function) {
	if old := f.doubt.Load(); old > 0 && old != demoted {
		f.doubt.CompareAndSwap(old, old-1)
	}
}

// demote has a function called in the ordinary way from now on, and says so. The log's handler is foreign code: nothing is
// held.
func (p *Plugin) demote(ctx context.Context, fn int, why string) {
	if p.fns[fn].doubt.Swap(demoted) != demoted {
		p.warn(ctx, fmt.Sprintf("%s says quick=yes, and does not keep rule R34: %s; its calls are ordinary ones from now on",
			p.symbol(fn).Name, why))
	}
}

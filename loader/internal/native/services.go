package native

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/native/hostcall"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// hostTable returns the address of the process's table of host services.
func hostTable() uintptr {
	return hostcall.Table(hostcall.Services{
		Call: provideCall,
		Log: func(frame uintptr, level uint32, text, textLen uintptr) abi.Status {
			return provide(frame, service{kind: logLine, level: level, a: text, b: textLen})
		},
		LogFields: func(frame uintptr, level uint32, text, textLen, fields, fieldsLen uintptr) abi.Status {
			return provide(frame, service{kind: logLine, level: level, a: text, b: textLen, c: fields, d: fieldsLen})
		},
		Info:       func(frame, request uintptr) abi.Status { return provide(frame, service{kind: info, a: request}) },
		Room:       func(frame, n uintptr) abi.Status { return provide(frame, service{kind: room, a: frame, b: n}) },
		Read:       func(frame, piece, n uintptr) abi.Status { return provide(frame, service{kind: read, a: piece, b: n}) },
		Write:      func(frame, piece, n uintptr) abi.Status { return provide(frame, service{kind: write, a: piece, b: n}) },
		Next:       func(frame, request uintptr) abi.Status { return provide(frame, service{kind: next, a: request}) },
		Background: serviceBackground,
	})
}

// service is one use of a host service (R18), with what native code passed.
type service struct {
	kind       serviceKind
	level      uint32 // of logLine
	a, b, c, d uintptr
}

type serviceKind uint8

const (
	hostFunction serviceKind = iota // a is a ferrule_request
	info                            // likewise
	next                            // likewise
	logLine                         // of level, text at a of b bytes, fields at c of d bytes
	room                            // a is the frame, b how many bytes
	read                            // a is where the piece's address goes, b where its length does
	write                           // the piece at a of b bytes
)

// isRequest reports whether the service takes a ferrule_request.
func (u *service) isRequest() bool { return u.kind <= next }

// foreign reports whether the service runs code of the application's.
func (u *service) foreign() bool { return u.kind <= logLine }

// provide provides a host service. What the host does there is foreign code: it may panic, end its goroutine, take any
// time, or call back. There is one deferred function on the way, for all of that.
func provide(frame uintptr, u service) (status abi.Status) {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return abi.StatusMisuse
	}
	own, ok := s.visit()
	if !ok {
		return abi.StatusMisuse
	}
	switch {
	case own:
	case u.foreign():
		return s.serveOnAnotherGoroutine(u)
	default:
		defer s.leave(false)
		return s.serve(&u)
	}
	returned := false
	defer func() {
		if returned {
			s.leave(true)
		} else {
			s.cutShort(&u, recover(), &status)
		}
	}()
	if u.foreign() && s.inst.thread != nil {
		status = s.serveOnThread(&u)
	} else {
		status = s.serve(&u)
	}
	returned = true
	return status
}

// provideCall is provide for host->call, which is called most: what it is told is in registers.
func provideCall(frame, request uintptr) (status abi.Status) {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return abi.StatusMisuse
	}
	own, ok := s.visit()
	if !ok {
		return abi.StatusMisuse
	}
	if !own {
		return s.serveOnAnotherGoroutine(service{kind: hostFunction, a: request})
	}
	returned := false
	defer func() {
		if returned {
			s.leave(true)
		} else {
			s.cutShort(&service{kind: hostFunction, a: request}, recover(), &status)
		}
	}()
	if s.inst.thread != nil {
		status = s.serveOnThread(&service{kind: hostFunction, a: request})
	} else {
		status = s.answer(hostFunction, request)
	}
	returned = true
	return status
}

// serveOnThread is serve on the goroutine of a pinned instance's thread, which is not the one that the call was made on: what
// led to the call is not known by it.
func (s *slot) serveOnThread(u *service) abi.Status {
	defer s.hostContext().Serve()()
	return s.serve(u)
}

// serve does what a service is for. Only visitors call it.
func (s *slot) serve(u *service) abi.Status {
	switch {
	case u.isRequest():
		return s.answer(u.kind, u.a)
	case u.kind == logLine:
		return s.log(u)
	case s.background != nil:
		return abi.StatusMisuse // R27
	case u.kind == room:
		return s.grant(u)
	case u.kind == read:
		return s.readPiece(u)
	default:
		return s.writePiece(u)
	}
}

// cutShort ends a service on the call's own goroutine that did not return, because it panicked with value, or because it
// ends the goroutine when value is nil. Saying what the plug-in gets for a panic may end it, too.
func (s *slot) cutShort(u *service, value any, status *abi.Status) {
	said := false
	defer func() {
		s.leave(true)
		if !said {
			s.abandon()
		}
	}()
	if value != nil {
		*status = s.panicked(u, value)
		said = true
	}
}

// serveOnAnotherGoroutine runs a service on a goroutine of its own. This one is on a thread of the plug-in's, where the end of a goroutine is
// the end of the process; or it is not known where it is.
func (s *slot) serveOnAnotherGoroutine(u service) (status abi.Status) {
	defer s.leave(false)
	said := false
	onAnotherGoroutine(func() {
		returned := false
		defer func() {
			if !returned {
				if value := recover(); value != nil {
					status = s.panicked(&u, value)
					said = true
				}
			}
		}()
		defer s.hostContext().Serve()()
		status = s.serve(&u)
		returned, said = true, true
	})
	if !said {
		s.left.Store(true)
		status = s.ended(&u)
	}
	return status
}

// panicked ends a service in which the host panicked with value.
func (s *slot) panicked(u *service, value any) abi.Status {
	switch {
	case u.kind == logLine:
		return abi.StatusOK
	case !u.isRequest():
		return abi.StatusFailed
	}
	ordinal, ok := s.ordinal(u)
	if !ok {
		return abi.StatusMisuse
	}
	message, status := s.plugin.host.Panicked(s.hostContext(), ordinal, value)
	return s.fail(u, message, status)
}

// ended ends a service in which the host ended its goroutine.
func (s *slot) ended(u *service) abi.Status {
	switch {
	case u.kind == logLine:
		return abi.StatusOK
	case !u.isRequest():
		return abi.StatusFailed
	}
	return s.fail(u, []byte(endedGoroutine), abi.StatusFailed)
}

// ordinal reads the request's ordinal again, and so checks it again: the plug-in's threads may have written meanwhile.
func (s *slot) ordinal(u *service) (uint32, bool) {
	switch u.kind {
	case info:
		return engine.Info, true
	case next:
		return engine.Next, true
	}
	if r := raw.Request(u.a); r != nil {
		ordinal := r.Ordinal
		return ordinal, ordinal < s.plugin.functions
	}
	return 0, false
}

// fail delivers the message of a host function that did not return.
func (s *slot) fail(u *service, message []byte, status abi.Status) abi.Status {
	r := raw.Request(u.a)
	if r == nil {
		return abi.StatusMisuse
	}
	out, outCap := r.Out, r.OutCap
	if !raw.Valid(out, outCap) {
		return abi.StatusMisuse
	}
	return s.deliver(r, keptResult{message, status}, 0, out, outCap)
}

// abandon is for a host function that called runtime.Goexit: this goroutine ends without going back into the plug-in,
// whose frames are skipped, nor into Append, whose duties are done here. A pinned instance's thread does them itself, and
// so does who starts or stops an instance.
func (s *slot) abandon() {
	if s.inst.thread == nil && s != s.inst.control && s.background == nil {
		if st := s.streams.Swap(nil); st != nil { // or who is in one would be waited for
			st.end()
		}
		s.inst.poisoned.Store(true)
		s.plugin.release(s)
	}
}

// answer runs a service that takes a request. Only visitors call it.
func (s *slot) answer(kind serviceKind, request uintptr) abi.Status {
	r := raw.Request(request)
	if r == nil {
		return abi.StatusMisuse
	}
	// One reading of each member: the plug-in's threads may write them meanwhile.
	in, inLen, out, outCap := r.In, r.InLen, r.Out, r.OutCap
	ordinal, number := r.Ordinal, r.Kept
	if !raw.Valid(out, outCap) {
		return abi.StatusMisuse
	}
	var result keptResult
	if number != 0 { // its input may be gone
		var ok bool
		if result, ok = s.kept.fetch(number, outCap); !ok {
			return abi.StatusMisuse
		}
		return s.deliver(r, result, number, out, outCap)
	}
	if !raw.Valid(in, inLen) {
		return abi.StatusMisuse
	}
	switch {
	case kind == hostFunction && ordinal >= s.plugin.functions:
		return abi.StatusMisuse
	case kind == hostFunction:
		result.out, result.status = s.plugin.host.Call(s.hostContext(), ordinal, raw.Bytes(in, int(inLen)))
	case kind == info:
		if inLen == 0 || inLen > maxKey || !utf8.Valid(raw.Bytes(in, int(inLen))) {
			return abi.StatusMisuse // R26
		}
		result.out, result.status = s.info(raw.Bytes(in, int(inLen)))
	case s.background != nil:
		return abi.StatusMisuse // R27
	default:
		result.out, result.status = s.plugin.host.Call(s.hostContext(), engine.Next, raw.Bytes(in, int(inLen)))
	}
	s.askEnded()
	stress.Cross()
	return s.deliver(r, result, number, out, outCap)
}

// askEnded asks the call to stop where its context has ended: what a host function has ended is known to the plug-in when that
// returns, not at the watcher's next look. Only a visitor calls it.
func (s *slot) askEnded() {
	if s.cancellable && s.caller.Ended() {
		s.ask()
	}
}

// maxKey is the longest key of host->info, in bytes (R26).
const maxKey = 256

// info answers a key.
func (s *slot) info(key []byte) ([]byte, abi.Status) {
	switch string(key) {
	case engine.KeyInstance:
		return strconv.AppendInt(nil, int64(s.inst.number), 10), abi.StatusOK
	case engine.KeyPath:
		return []byte(s.plugin.folder), abi.StatusOK
	}
	return s.plugin.host.Call(s.hostContext(), engine.Info, key)
}

// grant gives a call more room (R25). Only visitors call it.
func (s *slot) grant(u *service) abi.Status {
	f := raw.Frame(u.a) // findSlot has found it
	n, out, outLen, outCap := u.b, f.Out, f.OutLen, f.OutCap
	switch {
	case f.Release != 0 || outLen > outCap:
		return abi.StatusMisuse
	case n <= outCap:
		return abi.StatusOK
	case n > maxInt:
		return abi.StatusNoMemory
	}
	larger, err := s.plugin.grant(s, u.a, out, int(outLen), int(n))
	if err != nil {
		return abi.StatusNoMemory
	}
	s.grants.add(u.a, larger)
	s.attend() // it is not to be kept for longer than the call, whatever comes of it
	f.Out, f.OutCap = raw.Addr(larger), uintptr(len(larger))
	return abi.StatusOK
}

// grant returns n bytes or more that begin with keep bytes from the address out. They are the frame's.
func (p *Plugin) grant(s *slot, frame, out uintptr, keep, n int) ([]byte, error) {
	if p.outputs.Grant != nil && frame == raw.AddrOf(&s.frame) && s != s.inst.control && !s.apart.Load() {
		return p.outputs.Grant(s.hostContext(), keep, n)
	}
	if most := p.outputs.MaxBatch; most > 0 && n > most || !raw.Allocatable(0, n) {
		return nil, errNoRoom
	}
	larger, ok := copyOwn(make([]byte, 0, n), out, keep)
	if !ok {
		return nil, errNoRoom
	}
	return larger[:n], nil
}

var errNoRoom = errors.New("no room")

// grants are the rooms that a slot's calls have asked for: of a batch, that of each record.
type grants struct {
	mu   sync.Mutex
	list []grant
}

type grant struct {
	frame uintptr
	room  []byte
}

// add takes in a frame's room, which replaces the one before. That is still referred to by nobody but the plug-in.
func (g *grants) add(frame uintptr, room []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.list {
		if g.list[i].frame == frame {
			g.list[i].room = room
			return
		}
	}
	g.list = append(g.list, grant{frame, room})
}

// of returns the room that the frame was granted last, nil where it asked for none.
func (g *grants) of(frame uintptr) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.list {
		if g.list[i].frame == frame {
			return g.list[i].room
		}
	}
	return nil
}

// pass makes the room that one frame was granted another's.
func (g *grants) pass(from, to uintptr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.list {
		if g.list[i].frame == from {
			g.list[i].frame = to
		}
	}
}

// forget drops what the frame was granted.
func (g *grants) forget(frame uintptr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = slices.DeleteFunc(g.list, func(g grant) bool { return g.frame == frame })
}

// drop forgets all of them.
func (g *grants) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = nil
}

// deliver writes a host function's result to the plug-in's room, or keeps it when it does not fit; number is that of a
// result that is kept already, or 0.
func (s *slot) deliver(r *abi.Request, result keptResult, number uint32, out, outCap uintptr) abi.Status {
	r.OutLen = uintptr(len(result.out))
	if r.OutLen > outCap {
		if number == 0 {
			number = s.kept.keep(result.out, result.status)
			s.attend()
		}
		r.Kept = number
		return abi.StatusMore
	}
	copy(raw.Bytes(out, int(outCap)), result.out)
	r.Kept = 0
	return result.status
}

// log writes a line. Only visitors call it.
func (s *slot) log(u *service) abi.Status {
	if !raw.Valid(u.a, u.b) || !raw.Valid(u.c, u.d) {
		return abi.StatusMisuse
	}
	s.plugin.host.Log(s.hostContext(), abi.Level(u.level), raw.Bytes(u.a, int(u.b)), raw.Bytes(u.c, int(u.d)))
	s.askEnded()
	return abi.StatusOK
}

// claim tells host services which goroutine enters the plug-in. A plug-in without imports mostly writes log lines, which
// cost so much that it does not pay there.
func (s *slot) claim() {
	if s.plugin.calledBack {
		raw.StoreUintptr(&s.owner, goroutine.ID())
	}
}

// disclaim ends that, or else a call that this goroutine makes later might be taken for one from within this.
func (s *slot) disclaim() { raw.StoreUintptr(&s.owner, 0) }

// prepare sets the members of the frame that are the same for every call of the instance. A plug-in may have written
// over them in the call before (R6).
func (s *slot) prepare() {
	f := &s.frame
	f.Size = unsafe.Sizeof(*f)
	f.State = s.inst.state
	f.Host = s.plugin.table
	f.Cancel = raw.Word(s.word)
	f.Progress = s.progress
}

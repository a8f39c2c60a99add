package native

import (
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/hostcall"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// hostTable returns the address of the process's table of host services.
func hostTable() uintptr {
	return hostcall.Table(hostcall.Services{Call: serviceCall, Log: serviceLog})
}

// service is one use of a host service: host->call, or host->log.
type service struct {
	log           bool
	request       uintptr // of host->call
	level         uint32  // of host->log, and what follows
	text, textLen uintptr
}

// serviceCall is host->call (R18). What the host does there is foreign code: it may panic, end its goroutine, take any
// time, or call back. There is one deferred function on the way, for all of that.
func serviceCall(frame, request uintptr) (status abi.Status) {
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
		return s.serveOnAnotherGoroutine(service{request: request})
	}
	returned := false
	defer func() {
		if returned {
			s.leave(true)
		} else {
			s.cutShort(service{request: request}, recover(), &status)
		}
	}()
	status = s.serve(request)
	returned = true
	return status
}

// serviceLog is host->log (R18), where the handler is foreign code.
func serviceLog(frame uintptr, level uint32, text, textLen uintptr) (status abi.Status) {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return abi.StatusMisuse
	}
	own, ok := s.visit()
	if !ok {
		return abi.StatusMisuse
	}
	use := service{log: true, level: level, text: text, textLen: textLen}
	if !own {
		return s.serveOnAnotherGoroutine(use)
	}
	returned := false
	defer func() {
		if returned {
			s.leave(true)
		} else {
			s.cutShort(use, recover(), &status)
		}
	}()
	status = s.log(use)
	returned = true
	return status
}

// cutShort ends a service on the call's own goroutine that did not return, because it panicked with value, or because it
// ends the goroutine when value is nil. Saying what the plug-in gets for a panic may end it, too.
func (s *slot) cutShort(use service, value any, status *abi.Status) {
	said := false
	defer func() {
		s.leave(true)
		if !said {
			s.abandon()
		}
	}()
	if value != nil {
		*status = s.panicked(use, value)
		said = true
	}
}

// serveOnAnotherGoroutine runs a service on a goroutine of its own. This one is on a thread of the plug-in's, where the end of a goroutine is
// the end of the process; or it is not known where it is.
func (s *slot) serveOnAnotherGoroutine(use service) (status abi.Status) {
	defer s.leave(false)
	said := false
	onAnotherGoroutine(func() {
		returned := false
		defer func() {
			if !returned {
				if value := recover(); value != nil {
					status = s.panicked(use, value)
					said = true
				}
			}
		}()
		defer s.lend()()
		if use.log {
			status = s.log(use)
		} else {
			status = s.serve(use.request)
		}
		returned, said = true, true
	})
	if !said {
		s.left.Store(true)
		status = s.ended(use)
	}
	return status
}

// panicked ends a service in which the host panicked with value.
func (s *slot) panicked(use service, value any) abi.Status {
	if use.log {
		return abi.StatusOK
	}
	ordinal, ok := s.ordinal(use)
	if !ok {
		return abi.StatusMisuse
	}
	message, status := s.plugin.host.Panicked(s.hostContext(), ordinal, value)
	return s.fail(use, message, status)
}

// ended ends a service in which the host ended its goroutine.
func (s *slot) ended(use service) abi.Status {
	if use.log {
		return abi.StatusOK
	}
	return s.fail(use, []byte(endedGoroutine), abi.StatusFailed)
}

// ordinal reads the request's ordinal again, and so checks it again: the plug-in's threads may have written meanwhile.
func (s *slot) ordinal(use service) (uint32, bool) {
	if r := raw.Request(use.request); r != nil {
		ordinal := r.Ordinal
		return ordinal, ordinal < s.plugin.imports
	}
	return 0, false
}

// fail delivers the message of a host function that did not return.
func (s *slot) fail(use service, message []byte, status abi.Status) abi.Status {
	r := raw.Request(use.request)
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
	if s.inst.thread == nil && s != s.inst.control {
		s.inst.poisoned.Store(true)
		s.plugin.release(s)
	}
}

// serve runs one host->call. Only visitors call it.
func (s *slot) serve(request uintptr) abi.Status {
	r := raw.Request(request)
	if r == nil {
		return abi.StatusMisuse
	}
	// One reading of each member: the plug-in's threads may write them meanwhile.
	in, inLen, out, outCap := r.In, r.InLen, r.Out, r.OutCap
	ordinal, number := r.Ordinal, r.Kept
	if !raw.Valid(in, inLen) || !raw.Valid(out, outCap) {
		return abi.StatusMisuse
	}
	var result keptResult
	if number != 0 {
		var ok bool
		if result, ok = s.kept.fetch(number, outCap); !ok {
			return abi.StatusMisuse
		}
	} else {
		if ordinal >= s.plugin.imports {
			return abi.StatusMisuse
		}
		result.out, result.status = s.plugin.host.Call(s.hostContext(), ordinal, raw.Bytes(in, int(inLen)))
		stress.Cross()
	}
	return s.deliver(r, result, number, out, outCap)
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

// log runs one host->log. Only visitors call it.
func (s *slot) log(use service) abi.Status {
	if !raw.Valid(use.text, use.textLen) {
		return abi.StatusMisuse
	}
	s.plugin.host.Log(s.hostContext(), abi.Level(use.level), raw.Bytes(use.text, int(use.textLen)))
	return abi.StatusOK
}

// claim tells host services which goroutine enters the plug-in. A plug-in without imports can only write log lines, which
// cost so much that it does not pay there.
func (s *slot) claim() {
	if s.plugin.calledBack {
		raw.StoreUintptr(&s.owner, cross.Goroutine())
	}
}

// lend tells a slot that nobody has claimed that this goroutine is in its call, until the function that it returns: so a
// log handler that calls the plug-in again is known by its goroutine, without a cost for calls that write no lines. Only
// visitors on a goroutine of their own call it.
func (s *slot) lend() func() {
	_ = s.hostContext() // while it is known who made it; see makeCall
	me := cross.Goroutine()
	if !s.owner.CompareAndSwap(0, me) {
		return func() {}
	}
	return func() { s.owner.CompareAndSwap(me, 0) }
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
}

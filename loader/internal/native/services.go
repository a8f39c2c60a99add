package native

import (
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
	"github.com/ferrule-dev/ferrule/loader/internal/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/hostcall"
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

// serviceCall is host->call (R18).
func serviceCall(frame, request uintptr) abi.Status {
	return serviceOf(frame, service{request: request})
}

// serviceLog is host->log (R18).
func serviceLog(frame uintptr, level uint32, text, textLen uintptr) abi.Status {
	return serviceOf(frame, service{log: true, level: level, text: text, textLen: textLen})
}

// serviceOf finds the call that a service is used by. What the host does there is foreign code: it may panic, end its
// goroutine, take any time, or call back.
func serviceOf(frame uintptr, use service) (status abi.Status) {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return abi.StatusMisuse
	}
	own, ok := s.visit()
	if !ok {
		return abi.StatusMisuse
	}
	if !own && cross.Goroutine() != 0 {
		// This goroutine is on a thread of the plug-in's, where nothing may end it.
		defer s.leave(false)
		status, ended := abi.StatusOK, true
		apart(func() {
			status = s.guarded(use)
			ended = false
		})
		if ended {
			s.left.Store(true)
			status = s.ended(use)
		}
		return status
	}
	returned := false
	defer func() {
		s.leave(own)
		if !returned {
			s.abandon()
		}
	}()
	status = s.guarded(use)
	returned = true
	return status
}

// guarded runs a service. It does not panic, but it may end the goroutine. It has the one deferred function on the way
// that recovers.
func (s *slot) guarded(use service) (status abi.Status) {
	returned := false
	defer func() {
		if !returned {
			if value := recover(); value != nil {
				status = s.panicked(use, value)
			}
		}
	}()
	if use.log {
		status = s.log(use)
	} else {
		status = s.serve(use.request)
	}
	returned = true
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
	message, status := s.engine.host.Panicked(s.hostContext(), ordinal, value)
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
	if r := cmem.Request(use.request); r != nil {
		ordinal := r.Ordinal
		return ordinal, ordinal < s.engine.imports
	}
	return 0, false
}

// fail delivers the message of a host function that did not return.
func (s *slot) fail(use service, message []byte, status abi.Status) abi.Status {
	r := cmem.Request(use.request)
	if r == nil {
		return abi.StatusMisuse
	}
	out, outCap := r.Out, r.OutCap
	if !cmem.Valid(out, outCap) {
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
		s.engine.release(s)
	}
}

// serve runs one host->call. Only visitors call it.
func (s *slot) serve(request uintptr) abi.Status {
	r := cmem.Request(request)
	if r == nil {
		return abi.StatusMisuse
	}
	// One reading of each member: the plug-in's threads may write them meanwhile.
	in, inLen, out, outCap := r.In, r.InLen, r.Out, r.OutCap
	ordinal, number := r.Ordinal, r.Kept
	if !cmem.Valid(in, inLen) || !cmem.Valid(out, outCap) {
		return abi.StatusMisuse
	}
	var result keptResult
	if number != 0 {
		var ok bool
		if result, ok = s.kept.fetch(number, outCap); !ok {
			return abi.StatusMisuse
		}
	} else {
		if ordinal >= s.engine.imports {
			return abi.StatusMisuse
		}
		result.out, result.status = s.engine.host.Call(s.hostContext(), ordinal, cmem.Bytes(in, int(inLen)))
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
	copy(cmem.Bytes(out, int(outCap)), result.out)
	r.Kept = 0
	return result.status
}

// log runs one host->log. Only visitors call it.
func (s *slot) log(use service) abi.Status {
	if !cmem.Valid(use.text, use.textLen) {
		return abi.StatusMisuse
	}
	s.engine.host.Log(s.hostContext(), abi.Level(use.level), cmem.Bytes(use.text, int(use.textLen)))
	return abi.StatusOK
}

// claim tells host services which goroutine enters the plug-in.
func (s *slot) claim() { cmem.StoreUintptr(&s.owner, cross.Goroutine()) }

// prepare sets the members of the frame that are the same for every call of the instance. A plug-in may have written
// over them in the call before (R6).
func (s *slot) prepare() {
	f := &s.frame
	f.Size = unsafe.Sizeof(*f)
	f.State = s.inst.state
	f.Host = s.engine.table
	f.Cancel = cmem.Word(s.word)
}

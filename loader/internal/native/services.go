package native

import (
	"math"
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

// serviceCall is host->call (R18). It has the one deferred function on the way, for whatever a host function does.
func serviceCall(frame, request uintptr) (status abi.Status) {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return abi.StatusMisuse
	}
	counted, ok := s.visit()
	if !ok {
		return abi.StatusMisuse
	}
	returned := false
	defer func() {
		var value any
		if !returned {
			if value = recover(); value != nil {
				status = s.panicked(request, value)
			}
		}
		if counted {
			s.exit()
		}
		if !returned && value == nil {
			s.abandon()
		}
	}()
	status = s.serve(request)
	returned = true
	return status
}

// panicked ends a service whose host function panicked with value.
func (s *slot) panicked(request uintptr, value any) abi.Status {
	// Read again, and so checked again: the plug-in's threads may have written meanwhile.
	r := cmem.Request(request)
	if r == nil {
		return abi.StatusMisuse
	}
	out, outCap, ordinal := r.Out, r.OutCap, r.Ordinal
	if out == 0 && outCap != 0 || outCap > math.MaxInt || ordinal >= s.engine.imports {
		return abi.StatusMisuse
	}
	message, status := s.engine.host.Panicked(s.hostContext(), ordinal, value)
	return s.deliver(r, keptResult{message, status}, 0, out, outCap)
}

// abandon is for a host function that called runtime.Goexit: this goroutine ends without going back into the plug-in,
// whose frames are skipped, nor into Append, whose duties are done here. A pinned instance's thread does them itself.
func (s *slot) abandon() {
	if s.inst.thread == nil {
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
	if in == 0 && inLen != 0 || inLen > math.MaxInt || out == 0 && outCap != 0 || outCap > math.MaxInt {
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

// serviceLog is host->log (R18).
func serviceLog(frame uintptr, level uint32, text, textLen uintptr) abi.Status {
	stress.Cross()
	s := findSlot(frame)
	if s == nil {
		return abi.StatusMisuse
	}
	counted, ok := s.visit()
	if !ok {
		return abi.StatusMisuse
	}
	if counted {
		defer s.exit()
	}
	if text == 0 && textLen != 0 || textLen > math.MaxInt {
		return abi.StatusMisuse
	}
	s.engine.host.Log(s.hostContext(), abi.Level(level), cmem.Bytes(text, int(textLen)))
	return abi.StatusOK
}

// claim tells host services which goroutine enters the plug-in. What they do for a plug-in without imports, writing a
// log line, costs so much that it does not pay there.
func (s *slot) claim() {
	if s.engine.calledBack {
		cmem.StoreUintptr(&s.owner, cross.Goroutine())
	}
}

// prepare sets the members of the frame that are the same for every call of the instance. A plug-in may have written
// over them in the call before (R6).
func (s *slot) prepare() {
	f := &s.frame
	f.Size = unsafe.Sizeof(*f)
	f.State = s.inst.state
	f.Host = s.engine.table
	f.Cancel = cmem.Word(s.word)
}

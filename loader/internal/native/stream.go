package native

import (
	"context"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// streams are those of a call (R24). Threads of the plug-in's may use them at the same time, one after the other.
type streams struct {
	reading, writing sync.Mutex
	ended            sync.Once
	source           stream.Source   // nil where the call has none; guarded by reading
	sink             stream.Sink     // likewise, by writing
	done             <-chan struct{} // ends those who wait in them: the context's, or, of a call with a limit, over
	over             chan struct{}   // closed when the call is asked to stop; nil without a limit
	stopped          sync.Once       // over is closed
}

// Stream calls a function with streams; see engine.Plugin.
func (p *Plugin) Stream(ctx context.Context, fn engine.Fn, dst, in []byte, st *stream.Streams) ([]byte, abi.Status, error) {
	var source stream.Source
	if st.In != nil {
		source = stream.NewSource(st.In)
	}
	var sink stream.Sink
	if st.Out != nil {
		sink = stream.NewSink(st.Out)
	}
	return p.StreamPieces(ctx, fn, dst, in, source, sink)
}

// StreamPieces is Stream for what is no reader and no writer. source and sink may be nil; they are ended when it returns.
func (p *Plugin) StreamPieces(ctx context.Context, fn engine.Fn, dst, in []byte, source stream.Source, sink stream.Sink) (out []byte, status abi.Status, err error) {
	st := &streams{source: source, sink: sink}
	s, err := p.acquire(ctx)
	if err != nil {
		st.end()
		return dst, 0, err
	}
	done := s.caller.Done
	if st.done = done; fn.Limit != nil {
		st.over = make(chan struct{})
		st.done = st.over
	}
	defer func() { // whatever has become of the call, also where a host function ends this goroutine: the writer is not used after it
		written := sink == nil || sink.Wait(done, stream.Patience(err))
		if err == nil && status == abi.StatusOK && !written {
			out, status = append(dst, stream.NotWritten...), abi.StatusCancelled
		}
	}()
	s.streams.Store(st)
	out, status, err = p.stream(s, fn, dst, in, st)
	if status == abi.StatusPanic {
		s.inst.poisoned.Store(true)
	}
	if s.marked() {
		if err = s.unmark(status, err); err == engine.ErrEnded {
			out = dst
		}
	}
	p.release(s) // not deferred: where a host function ends this goroutine, abandon does it
	return out, status, err
}

// stream enters the function, and ends the streams also where a host function ends this goroutine.
func (p *Plugin) stream(s *slot, fn engine.Fn, dst, in []byte, st *streams) ([]byte, abi.Status, error) {
	defer st.end() // also where a host function ends this goroutine; abandon has taken them from the slot then
	room := dst[len(dst):cap(dst)]
	if len(room) == 0 {
		room = s.scratchRoom()
	}
	if s.inst.thread == nil {
		raw.StoreUintptr(&s.owner, goroutine.ID()) // as claim does; it is called back for each piece
	}
	if fn.Limit != nil {
		s.begin(fn.Limit)
	}
	status := s.call(p.fns[fn.Index].addr, in, room)
	s.streams.Store(nil)
	st.end() // whoever is still in them, against R14, leaves, before anything waits for that
	out, err := s.takeLong(dst, room, status)
	return out, status, err
}

// stop wakes whoever waits in one, where the call has a limit: it was asked to stop.
func (st *streams) stop() {
	if st.over != nil {
		st.stopped.Do(func() { close(st.over) })
	}
}

// asked reports whether the call was asked to stop.
func (st *streams) asked() bool {
	select {
	case <-st.done:
		return true
	default:
		return false
	}
}

// end ends both. Whoever waits in one is woken.
func (st *streams) end() {
	st.ended.Do(func() {
		if st.source != nil {
			st.source.End()
		}
		if st.sink != nil {
			st.sink.End()
		}
	})
}

// readPiece is host->read. Only visitors call it.
func (s *slot) readPiece(u *service) abi.Status {
	if !raw.IsWord(u.a) || !raw.IsWord(u.b) {
		return abi.StatusMisuse
	}
	var piece []byte
	status := abi.StatusUnsupported
	if st := s.streams.Load(); st != nil && st.source != nil {
		st.reading.Lock()
		defer st.reading.Unlock()
		if status = abi.StatusCancelled; !st.asked() {
			piece, status = st.source.Next(st.done)
		}
	}
	raw.SetUintptr(u.a, raw.Addr(piece))
	raw.SetUintptr(u.b, uintptr(len(piece)))
	return status
}

// writePiece is host->write. Only visitors call it.
func (s *slot) writePiece(u *service) abi.Status {
	if !raw.Valid(u.a, u.b) {
		return abi.StatusMisuse
	}
	st := s.streams.Load()
	if st == nil || st.sink == nil {
		return abi.StatusUnsupported
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	if st.asked() {
		return abi.StatusCancelled
	}
	return st.sink.Put(st.done, raw.Bytes(u.a, int(u.b)))
}

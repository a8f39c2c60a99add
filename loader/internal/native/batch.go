package native

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// batchSize is how many records cross at once: enough that the crossing does not count, and few enough that their
// frames stay in the cache.
const batchSize = 256

// recordRoom is the room, in bytes, that a record is expected to need when nothing is known about it.
const recordRoom = 32

// maxBatchRoom is how much room is made beforehand for the outputs that are expected of a batch. Longer ones go into the
// plug-in's own memory first.
const maxBatchRoom = 4 << 20

// batchFrames are the frames of one slot's batches. Like slots they live as long as the process, and for the same
// reason.
type batchFrames struct {
	frames   [batchSize]abi.Call
	statuses [batchSize]abi.Status
	call     *abi.Frames
}

// batches knows the frames of all batches by their address, for host services.
var batches struct {
	mu     sync.Mutex
	ranges atomic.Pointer[[]batchRange] // sorted by base; replaced, never changed
}

type batchRange struct {
	base uintptr
	slot *slot
}

// notRun marks the records that a batch has not come to. It is no valid status.
const notRun abi.Status = math.MinInt32

const framesSize = unsafe.Sizeof([batchSize]abi.Call{})

// findBatch returns the slot one of whose batch frames is at this address, or nil.
func findBatch(frame uintptr) *slot {
	ranges := batches.ranges.Load()
	if ranges == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(*ranges, frame, func(r batchRange, frame uintptr) int {
		if r.base+framesSize <= frame {
			return -1
		}
		return 1
	})
	if i == len(*ranges) {
		return nil
	}
	r := (*ranges)[i]
	if offset := frame - r.base; offset < framesSize && offset%unsafe.Sizeof(abi.Call{}) == 0 {
		return r.slot
	}
	return nil
}

// batchFrames returns the slot's frames for batches. Only the owner calls it.
func (s *slot) batchFrames() *batchFrames {
	if s.batch == nil {
		s.batch = new(batchFrames)
		if frames := s.plugin.options.Forks.Frames; frames != nil {
			s.batch.call = frames()
		} else {
			s.batch.call = new(abi.Frames)
		}
		r := batchRange{raw.AddrOf(&s.batch.frames[0]), s}
		batches.mu.Lock()
		defer batches.mu.Unlock()
		var ranges []batchRange
		if old := batches.ranges.Load(); old != nil {
			ranges = *old
		}
		i, _ := slices.BinarySearchFunc(ranges, r.base, func(r batchRange, base uintptr) int {
			if r.base < base {
				return -1
			}
			return 1
		})
		ranges = slices.Insert(slices.Clone(ranges), i, r)
		batches.ranges.Store(&ranges)
	}
	return s.batch
}

// Batch calls a function with each input; see engine.Plugin.
func (p *Plugin) Batch(ctx context.Context, fn engine.Fn, in [][]byte, b *engine.Batch) error {
	b.Out, b.Records, b.Failed, b.Limit = b.Out[:0], slices.Grow(b.Records[:0], len(in)), false, nil
	if ctx == nil {
		return engine.ErrNilContext
	}
	for len(in) > 0 {
		n := min(len(in), batchSize, p.fits(b))
		if n == 0 {
			return ErrFull
		}
		s, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		before := len(b.Records)
		if fn.Limit != nil {
			s.begin(fn.Limit)
		}
		if p.image.batch != 0 {
			s.runBatch(p.fns[fn.Index].addr, in[:n], b)
		}
		if len(b.Records) == before { // no ferrule_batch, or one that ran nothing
			s.runEach(p.fns[fn.Index].addr, in[:n], b)
		}
		ran := len(b.Records) - before
		caller := s.caller
		struck := fn.Limit != nil && s.struck()
		if s.marked() && s.unmark(abi.StatusOK, nil) == engine.ErrEnded && ran > 0 {
			r := &b.Records[len(b.Records)-1]
			r.Status, r.Err, b.Failed = abi.StatusPanic, nil, true
			p.say(b, r, endedGoroutine)
		}
		if ran > 0 && b.Records[len(b.Records)-1].Status == abi.StatusPanic {
			s.inst.poisoned.Store(true) // the records that follow run on a new one
		}
		p.release(s)
		if struck {
			b.Limit = fn.Limit
		}
		switch {
		case ran == n:
		case caller.Ended() || cancelled(&caller):
			return caller.GaveUp()
		case struck:
			return &engine.Ended{Cause: fn.Limit}
		}
		in = in[ran:]
	}
	return nil
}

// fits returns how many more records are expected to fit into the batch: the next ones may be longer than those before, so
// they are few at first.
func (p *Plugin) fits(b *engine.Batch) int {
	stop := p.outputs.StopBatch
	switch {
	case stop == 0:
		return batchSize
	case len(b.Records) == 0:
		return 1
	case len(b.Out) >= stop:
		return 0
	default:
		return max(1, min(4*len(b.Records), (stop-len(b.Out))/(len(b.Out)/len(b.Records)+1)))
	}
}

// left returns how many more bytes of outputs the batch may hold.
func (p *Plugin) left(b *engine.Batch) int {
	if most := p.outputs.MaxBatch; most > 0 {
		return max(0, most-len(b.Out))
	}
	return maxInt
}

// say makes a text the record's message, as much of it as the batch may still hold.
func (p *Plugin) say(b *engine.Batch, r *engine.Record, text string) {
	r.Start = len(b.Out)
	b.Out = append(b.Out, text[:min(len(text), p.left(b))]...)
	r.End = len(b.Out)
}

// room returns b.Out's spare capacity: enough for n more records as long as those before, and never less than what a
// call without a room of its own gets, but where the batch may not hold so much.
func (p *Plugin) room(b *engine.Batch, n int) []byte {
	each := recordRoom
	if len(b.Records) > 0 {
		each = len(b.Out)/len(b.Records) + 1
	}
	b.Out = slices.Grow(b.Out, min(n*each, maxBatchRoom)+scratchRoom)
	room := b.Out[len(b.Out):cap(b.Out)]
	return room[:min(len(room), p.left(b))]
}

// runBatch runs the inputs in one crossing. Fewer records than inputs are added when the batch was cancelled.
func (s *slot) runBatch(fn uintptr, in [][]byte, b *engine.Batch) {
	f := s.batchFrames()
	room := s.plugin.room(b, len(in))
	base, roomLen := raw.Addr(room), uintptr(len(room))
	s.prepare()
	frame := s.frame // what all have in common
	frame.Out, frame.OutLen, frame.OutCap, frame.Release = base, 0, roomLen, 0
	for i, data := range in {
		frame.In, frame.InLen = raw.Addr(data), uintptr(len(data))
		f.frames[i] = frame
		f.statuses[i] = notRun
	}
	*f.call = abi.Frames{Size: unsafe.Sizeof(*f.call), Fn: fn, Calls: raw.AddrOf(&f.frames[0]),
		Stride: unsafe.Sizeof(f.frames[0]), Count: uintptr(len(in)), Statuses: raw.AddrOf(&f.statuses[0])}
	s.claim()
	if s.inst.thread == nil {
		cross.Batch(s.plugin.image.batch, f.call) // not through run, which allocates
		s.alone()
	} else {
		s.runOnThread(f)
	}
	runtime.KeepAlive(in)
	runtime.KeepAlive(room)
	done := int(min(f.call.Done, uintptr(len(in)))) // the plug-in wrote it; it may say too much
	for i, status := range f.statuses[:done] {
		if status == abi.StatusOK {
			continue
		}
		if status == notRun {
			done = i
			break
		}
		b.Failed = true
		if status == abi.StatusPanic {
			done = i + 1
			break
		}
	}
	first, start, used := len(b.Records), len(b.Out), uintptr(0)
	// The records that wrote into the room lie there one behind the other. What the others have goes behind them.
	for i := range done {
		c := &f.frames[i]
		r := engine.Record{Start: start + int(used), End: -1, Status: f.statuses[i]}
		if c.Release == 0 && c.Out == base+used && c.OutLen <= roomLen-used && r.Status >= 0 {
			used += c.OutLen
			r.End = start + int(used)
		}
		b.Records = append(b.Records, r)
	}
	b.Out = b.Out[:start+int(used)]
	for i := range done {
		if r := &b.Records[first+i]; r.End < 0 {
			s.frame = f.frames[i]
			s.grants.pass(raw.AddrOf(&f.frames[i]), raw.AddrOf(&s.frame))
			s.takeRecord(b, r, room[r.Start-start:])
		}
	}
}

func (s *slot) runOnThread(f *batchFrames) {
	s.run(func() abi.Status {
		status := cross.Batch(s.plugin.image.batch, f.call)
		s.alone()
		return status
	})
}

// runEach runs the inputs one by one, as if each were a call; it stops when the batch is cancelled, and after a panic.
func (s *slot) runEach(fn uintptr, in [][]byte, b *engine.Batch) {
	if s.plugin.outputs.Grant != nil {
		s.apart.Store(true)
		defer s.apart.Store(false)
	}
	for _, data := range in {
		if s.word.Load() != 0 {
			return
		}
		room := s.plugin.room(b, 1)
		r := engine.Record{Start: len(b.Out), Status: s.call(fn, data, room)}
		s.takeRecord(b, &r, room)
		b.Records = append(b.Records, r)
		b.Failed = b.Failed || r.Status != abi.StatusOK
		if r.Status == abi.StatusPanic {
			return
		}
	}
}

// takeRecord adds to the batch what a record left in the slot's frame.
func (s *slot) takeRecord(b *engine.Batch, r *engine.Record, room []byte) {
	defer s.grants.forget(raw.AddrOf(&s.frame))
	r.Start = len(b.Out)
	// What is in the room is not longer than the room.
	if n := s.ownLength(r.Status); n > s.plugin.left(b) || n > cap(b.Out)-len(b.Out) && !raw.Allocatable(len(b.Out), n) {
		s.release()
		s.plugin.say(b, r, fmt.Sprintf("an output of %s in a batch: there is no room for it beside the others", count.Of(n, "byte")))
		if r.Status != abi.StatusPanic {
			r.Status, b.Failed = abi.StatusNoMemory, true
		}
		return
	}
	// take wants the room to be the spare capacity it writes to, or apart from it.
	out, err := s.take(b.Out, room, r.Status)
	b.Out, r.End = out, len(out)
	if err != nil {
		r.Err = err
	}
}

package check

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
)

// flow says what the streams of a call do.
type flow struct {
	piece  int  // the size of the input's pieces, in bytes; ordinary ones when 0
	breaks bool // the input breaks off where it would have ended
	none   bool // the input has no bytes
	takes  int  // how many bytes the output takes before nobody takes more
}

// mostTaken is how many bytes an ordinary output stream takes: a function that never stops writing is told so by that.
const mostTaken = 4 << 20

// mostPiece is the longest piece of an input stream, in bytes.
const mostPiece = 64 << 10

// pages are where the pieces of an input stream lie, in turn: each ends where memory ends, and cannot be touched any more
// once the next one is lent.
type pages struct {
	b    [2][]byte
	turn int
}

// stream is the streams of one call.
type stream struct {
	flow
	has          abi.Stream
	mu           sync.Mutex
	rest         []byte // of the input
	*pages              // nil where pieces are lent from where the input lies, all of it, as long as the call runs
	broke        bool   // the input has
	refused      bool   // the output has
	written, sum int
}

// prepare says what the call that is about to run in a frame has: its streams, what stands behind it, and its rooms.
func (k *kit) prepare(at, fn uintptr, in []byte, l *lane, o options) *frame {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.frame(at)
	f.function, f.stream, f.wraps, f.excused, f.since = k.kinds[fn], nil, false, false, false
	f.refuses, f.hasty, f.takesBack = o.refuseRoom, o.hasty, nil
	if o.takeBack {
		f.takesBack = l.room
	}
	if o.plain {
		return f
	}
	f.wraps = f.function.wrap
	if f.function.stream == 0 {
		return f
	}
	s := &stream{has: f.function.stream, flow: flow{takes: mostTaken}}
	f.stream = s
	if o.stream != nil {
		s.flow = *o.stream
	}
	if s.piece == 0 {
		s.piece = min(mostPiece, max(1, (len(in)+2)/3))
	}
	if o.stream == nil {
		s.rest = l.flow[:copy(l.flow, in)]
		return f
	}
	if !s.none {
		s.rest = slices.Clone(in)
	}
	if n := len(k.pages); n > 0 {
		s.pages, k.pages = k.pages[n-1], k.pages[:n-1]
	} else {
		s.pages = &pages{}
		for i := range s.b {
			var err error
			if s.b[i], err = guarded(mostPiece); err != nil {
				panic(err)
			}
		}
	}
	return f
}

// finish takes from a frame whose function has returned what its call had.
func (k *kit) finish(f *frame, r *outcome) {
	k.mu.Lock()
	s := f.stream
	r.excused, r.since = f.excused, f.since
	f.stream = nil
	k.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.written, r.sum, r.broke = s.written, s.sum, s.broke
	if s.pages == nil {
		return
	}
	for _, b := range s.b {
		if err := forbid(b, true); err != nil {
			panic(err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pages = append(k.pages, s.pages)
}

// excuse says that a service has refused something that a host need not have: a call that fails then is no wonder.
func (k *kit) excuse(f *frame, status abi.Status) abi.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	f.excused = true
	return status
}

// streamOf is the streams of a frame's call, if it has one that goes this way. Where its function does not say that it has,
// no host gives it one, which is a finding.
func (k *kit) streamOf(f *frame, service string, way abi.Stream) *stream {
	k.mu.Lock()
	s, declared := f.stream, f.function.stream
	k.mu.Unlock()
	if declared&way == 0 {
		k.warn("R24", fmt.Sprintf("host->%s in a function whose meta text does not say stream=%s", service, way),
			"a function that says which streams it has, for a host to give it", "Say FERRULE_STREAM(\"in\"), \"out\" or \"both\" in its meta text")
	}
	if s == nil || s.has&way == 0 {
		return nil
	}
	return s
}

// cancelled reports whether the cancel word of a frame's call is set.
func cancelled(at uintptr) bool {
	return loadWord(*member(at, offsetCancel)) != 0
}

// hostRead is host->read. It runs on any thread.
func (k *kit) hostRead(at, piece, n uintptr) abi.Status {
	f := k.service(at, "read", false)
	if f == nil {
		return abi.StatusMisuse
	}
	if !valid(piece, sizeWord) || piece == 0 || n == 0 || !valid(n, sizeWord) {
		return k.misuse("R24", "host->read with nowhere to put the piece, or its length", "two pointers", "Pass the addresses of two variables")
	}
	s := k.streamOf(f, "read", abi.StreamIn)
	if s == nil {
		return k.excuse(f, abi.StatusUnsupported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages != nil {
		if err := forbid(s.b[s.turn], true); err != nil { // the piece before this one is over, whatever comes
			panic(err)
		}
		s.turn = 1 - s.turn
	}
	if cancelled(at) {
		return abi.StatusCancelled
	}
	if len(s.rest) == 0 && s.breaks {
		s.broke = true
		return k.excuse(f, abi.StatusFailed)
	}
	size := min(s.piece, len(s.rest))
	lent := s.rest[:size]
	s.rest = s.rest[size:]
	if s.pages != nil {
		b := s.b[s.turn]
		if err := forbid(b, false); err != nil {
			panic(err)
		}
		copy(b[len(b)-size:], lent)
		if err := protect(b, true); err != nil {
			panic(err)
		}
		setWord(piece, addr(b)+uintptr(len(b)-size)) // also where it has no bytes: a piece is never NULL
	} else {
		setWord(piece, addr(lent))
	}
	setWord(n, uintptr(size))
	return abi.StatusOK
}

// hostWrite is host->write. It runs on any thread.
func (k *kit) hostWrite(at, piece, n uintptr) abi.Status {
	f := k.service(at, "write", false)
	if f == nil {
		return abi.StatusMisuse
	}
	if !valid(piece, n) {
		return k.misuse("R24", "a piece that is NULL, with a length, or that goes beyond the end of memory", "the piece's bytes",
			"Pass the piece with its length")
	}
	s := k.streamOf(f, "write", abi.StreamOut)
	if s == nil {
		return k.excuse(f, abi.StatusUnsupported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancelled(at) {
		return abi.StatusCancelled
	}
	if s.refused = s.refused || s.written+int(n) > s.takes; s.refused {
		return k.excuse(f, abi.StatusFailed)
	}
	for _, b := range view(piece, n) {
		s.sum += int(b)
	}
	s.written += int(n)
	return abi.StatusOK
}

// hostNext is host->next. It runs on any thread.
func (k *kit) hostNext(at, request uintptr) abi.Status {
	return k.reply(at, request, "next", false, func(f *frame, _ uint32, in []byte) (a reply, wrong *misuse) {
		k.mu.Lock()
		wraps, declared := f.wraps, f.function.wrap
		k.mu.Unlock()
		if !declared {
			k.warn("R33", "host->next in what does not say wrap=yes", "a hook that says so, for a host to have it stand around others",
				"Say FERRULE_KEY(\"wrap\", \"yes\") in the hook's meta text")
		}
		if !wraps {
			a.status = k.excuse(f, abi.StatusUnsupported)
			return a, nil
		}
		a.status, a.out = k.behind(in)
		return a, nil
	})
}

func checkFlow(k *kit) {
	if !slices.ContainsFunc(slices.Concat(k.lib.Funcs, k.lib.Hooks), func(s abi.Symbol) bool { return s.Stream != 0 }) {
		k.skip("no function has a stream")
		return
	}
	const read = "Copy what is needed of a piece before the next read; never write to one; look at the status before the piece"
	long := input{"a stream of 200,000 bytes", nil}
	for n := range 200_000 {
		long.bytes = append(long.bytes, "the quick brown fox jumps over the lazy dog\n"[n%44])
	}
	k.each(func(i *instance, f function) {
		if f.stream == 0 {
			return
		}
		k.expect("R24", "a status, also where a call has no stream", "Look at what host->read and host->write return")
		i.calls(f, k.samples(f), options{name: "without a stream", plain: true}, nil)
		for _, way := range []struct {
			name string
			flow flow
			long bool // the input is
			need abi.Stream
		}{
			{"whose pieces have one byte each, and are gone when the next is read", flow{piece: 1, takes: mostTaken}, false, abi.StreamIn},
			{"whose pieces have seven bytes each, and are gone when the next is read", flow{piece: 7, takes: mostTaken}, false, abi.StreamIn},
			{"in pieces of 64 KiB", flow{piece: mostPiece, takes: mostTaken}, true, abi.StreamIn},
			{"with nothing in it", flow{none: true, takes: mostTaken}, false, abi.StreamIn},
			{"that breaks off at once", flow{none: true, breaks: true, takes: mostTaken}, false, abi.StreamIn},
			{"that breaks off", flow{breaks: true, takes: mostTaken}, false, abi.StreamIn},
			{"of which nobody takes anything", flow{}, false, abi.StreamOut},
			{"of which nobody takes more than 10 bytes", flow{takes: 10}, false, abi.StreamOut},
		} {
			if f.stream&way.need == 0 {
				continue
			}
			inputs, which := k.samples(f), "an input stream "
			if way.long {
				inputs = []input{long}
			}
			if way.need == abi.StreamOut {
				which = "an output stream "
			}
			k.expect("R24", "a status, and pieces that are only read, and only until the next one", read)
			i.calls(f, inputs, options{name: "with " + which + way.name, stream: &way.flow}, func(in input, r *outcome) {
				if r.broke && r.status == abi.StatusOK {
					k.find(Finding{Rule: "R24", Severity: Warning, Function: f.label,
						Seen:     fmt.Sprintf("%s with %s: FERRULE_OK, although the input stream broke off", f.label, in.name),
						Expected: "a status that says so: what came is not all that there was",
						Mend:     "Return the status that host->read gave"})
				}
			})
		}
		k.expect("R24", "a status soon after the stream says FERRULE_CANCELLED", "Return when host->read or host->write does not return FERRULE_OK")
		i.calls(f, k.samples(f), options{name: "cancelled on entry", cancelled: true}, nil)
		k.misuses(f.label, "R24")
	})
	k.onceUsed("no function has used a stream", "read", "write")
}

// onceUsed skips the case unless one of these services was used: it has tried nothing then.
func (k *kit) onceUsed(otherwise string, services ...string) {
	k.mu.Lock()
	used := slices.ContainsFunc(services, func(s string) bool { return k.used[s] })
	k.mu.Unlock()
	if !used {
		k.skip("%s; --in gives a function an input with which it does", otherwise)
	}
}

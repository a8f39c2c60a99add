// Package lane carries calls between a host and a worker process through shared memory.
//
// The memory begins with a header and a fixed number of lanes. A lane serves one call at a time. It has a word that says
// whose turn it is, a message in each direction, room for small payloads, and room for those of host functions. A
// payload that does not fit there gets an extent: a piece of memory behind the lanes, which the host adds when it is
// needed. Whoever has the turn owns the lane's memory; it writes a message, hands over the turn, and wakes the other side
// if that sleeps.
//
// # What the host trusts
//
// Nothing that the worker can write. The host keeps where the regions are to itself, takes one copy of a message before
// it looks at it, and checks each length in it against what it knows itself. A turn that is nobody's means that
// the worker has written where it must not.
package lane

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// The layout of the shared memory.
const (
	MaxLanes   = 256
	laneSize   = 128 << 10
	headerSize = 4 << 10
	baseSize   = headerSize + MaxLanes*laneSize

	controlSize = 512
	callArea    = 64<<10 - controlSize // of a lane, in bytes: a call's input and the room for its output
	upArea      = 64 << 10             // of a lane, in bytes: what host functions get and return
	align       = 64                   // of the output's room: the plug-in's and the host's bytes share no cache line
)

// bellCount is how many bells a side has: one for each lane, one for the header, two for the rings of each lane's streams.
const bellCount = MaxLanes + 1 + 2*MaxLanes

const magic = 0x33_52_52_46 // "FRR3": the header's first word; the version of this layout

// The turns. No memory that is filled with one byte reads as one of them.
const (
	turnHost   = 0x54_53_4f_48 // "HOST"
	turnWorker = 0x4b_52_4f_57 // "WORK"
)

// header is the first part of the shared memory. The host writes it.
type header struct {
	magic   atomic.Uint32
	wanted  atomic.Uint32 // how many lanes the host uses: the worker serves that many
	sleeps  atomic.Uint32 // whether the worker sleeps until wanted changes
	_       [13]uint32
	started [MaxLanes]atomic.Uint32 // by lane, 1 when the worker serves it; for debuggers and Host.Served
	fault   Fault                   // the worker writes it
}

// Fault is where the worker's first fault was. A handler of signals writes it, in assembly.
//
// Layout: two 32-bit words, four 64-bit words.
type Fault struct {
	state atomic.Uint32 // 0, 1 while it is written, 2 when it is whole
	FaultReport
}

// FaultReport is what a Fault tells.
type FaultReport struct {
	Signal  uint32
	Address uint64 // that the instruction could not use, or its own
	PC, SP  uint64 // of the thread
	Base    uint64 // of the library whose constructors run, where one is loaded: what is added to its own addresses; or 0
}

// control is the first part of a lane.
//
// Layout: three cache lines and the rest of 512 bytes unused.
type control struct {
	turn         atomic.Uint32
	hostSleeps   atomic.Uint32
	workerSleeps atomic.Uint32
	cancel       atomic.Uint32 // R17: the host sets it, the plug-in polls it
	hostCPU      atomic.Uint32 // on which processor the host spins, counted from 1; 0 when that is not known
	hostTook     atomic.Uint32 // how long the host had the turn, in ns, when the worker slept meanwhile
	workerTook   atomic.Uint32 // how long the worker had it, when the host slept
	_            uint32
	done, total  atomic.Uint64 // R30: how far the call is; the plug-in writes them
	loaded       atomic.Uint64 // of OpOpen: what is added to the library's own addresses once it is loaded; the worker writes it
	_            [2]uint32
	down         Message // the host writes it while it has the turn
	up           Message // the worker writes it while it has the turn
}

// Op says what a message is.
type Op uint32

// What the host sends.
const (
	OpOpen       Op = 1 + iota // load the plug-in and start it; the input is a JSON Open
	OpStop                     // stop the plug-in, and end the process
	OpCall                     // call function Fn
	OpBatch                    // call function Fn with each input; see batch.go
	OpStream                   // call function Fn, with streams; see stream.go
	OpSession                  // start session Status; the input is 0, or 1 and its settings
	OpEndSession               // stop session Status
	OpConfigure                // give the input to all instances as their settings
	OpSave                     // save the state of all instances; the output is as a batch's input, see package wire
	OpClose                    // stop the plug-in; others go on
	OpBetween                  // nothing of the plug-in's: the lane is for what it does between calls, until OpDone
	OpAnswer                   // of an upcall: Status and the result of a host function, or the region of OpGrow
)

// What the worker sends.
const (
	OpDone     Op = 101 + iota // the call is over: Status, and the output in the call's region
	OpFailed                   // the call is over without a status: Fn is a Failure
	OpHostCall                 // call host function Fn; the input is in the region for host functions
	OpLog                      // a log line of level Fn; its fields begin at OutAt
	OpGrow                     // Len bytes of room are needed in region Fn, of which the first OutAt are those of the output's room before
	OpMore                     // another lane is needed for OpBetween; the answer's output is its number
	OpLayers                   // while it opens the plug-in, once, before anything of the library runs: what shuts the worker in
)

// Failure says why there is no status.
type Failure uint32

// The failures. All but the first three and the last have a text: JSON of the error.
const (
	FailedClosed    Failure = 1 + iota
	FailedReentrant         // every instance is in use
	FailedCancelled         // the host had cancelled the call before the function was entered
	FailedTooLong           // the output is longer than the host takes, or there is no memory for it
	FailedRule              // an engine.Violation
	FailedStart             // an engine.StartError
	FailedOpen              // an inspect.Error
	FailedPoisoned          // without a text: the instance has panicked, and is in use; the host is to wait until it can be started anew
	FailedLost              // without a text: the session's instance is gone
)

// Region is one of the parts of a lane that hold payloads.
type Region uint32

// The regions: of the call itself, of the host functions that it calls, of an output that has no room beside the call's
// input, and of a call's streams. The last two have no room in the lane itself.
const (
	RegionCall Region = iota
	RegionUp
	RegionOut
	RegionStreams
	regions
)

// Flags of a message.
const (
	FlagNested   = 1 << iota // the call comes from a host function that this plug-in called
	FlagProgress             // the host looks how far the call is
	FlagIn                   // of OpStream: the call has an input stream
	FlagOut                  // of OpStream: the call has an output stream
)

// pluginShift is where in a message's flags the number of the plug-in begins that a message of the host's is for.
const pluginShift = 16

// For returns the flags of a message with the number of the plug-in that it is for.
func For(plugin uint16, flags uint32) uint32 { return uint32(plugin)<<pluginShift | flags }

// Plugin returns the number of the plug-in that a message of the host's is for.
func (m *Message) Plugin() uint16 { return uint16(m.Flags >> pluginShift) }

// Message is what one side tells the other.
//
// Layout: four 32-bit words, six 64-bit words; 64 bytes.
type Message struct {
	Op     Op
	Fn     uint32 // a function, an ordinal, a level, a region or a failure
	Status int32  // of what comes from the worker; of a call from the host, its session, or 0
	Flags  uint32 // of what comes from the host, with the plug-in that it is for; see For
	Extent uint64 // the number of the region's extent, or 0 for the room in the lane itself
	Size   uint64 // of the extent, in bytes
	Len    uint64 // of the input, the output or the text, in bytes
	OutAt  uint64 // where in the region the room for the output begins; of OpFailed: where in the output the text begins
	OutCap uint64 // of the room for the output, in bytes

	Streams uint64 // of OpStream: the number of the extent of RegionStreams
}

var _ [64 - unsafe.Sizeof(Message{})]struct{}
var _ [controlSize - unsafe.Sizeof(control{})]struct{}
var _ [headerSize - unsafe.Sizeof(header{})]struct{}

// lane is what both sides know of one.
type lane struct {
	*control
	call, up []byte // the room in the lane itself
	index    int
}

func newLane(base []byte, i int) lane {
	b := base[headerSize+i*laneSize:][:laneSize]
	return lane{raw.At[control](b, 0), b[controlSize:][:callArea:callArea], b[controlSize+callArea:], i}
}

// maxSpin is the longest that a side spins for the other one's turn, but for probes. It is the bound of what a call can cost
// in processor time on each side beyond its work.
const maxSpin = 50 * time.Microsecond

// Two sides that both sleep stay asleep: each one's spin is over before the other has been woken, which takes the longer
// the slower a system's way to do that is. So a side that slept through so many waits although the other's work was short
// spins once for as long as waking up may take; the other one then finds it awake, and answers in time for the next spin.
// As long as that does not help it does so ever more rarely: in the end it costs 1/64 of probeSpin a wait.
const (
	firstProbe = 4
	lastProbe  = 64
	probeSpin  = time.Millisecond
)

// processors are those of the machine that this process may use.
var processors = runtime.NumCPU()

// spinners is how many of this process's goroutines spin: never more than there are processors. After a moment each of
// them offers its own to whoever wants it.
var spinners atomic.Int32

// spinner decides how long to spin before sleeping, from how long the waits before took.
type spinner struct {
	usual time.Duration
	slept int // waits slept through since the last probe, or since the other side's work was too long to spin for
	probe int // how many of them before the next probe

	// How long each side has the turn goes to the other one when that sleeps: it cannot tell the work from the waking up.
	noticed      time.Duration // when the turn came, by now; 0 when that is not known
	ours, theirs *atomic.Uint32

	// Two sides on one processor wait for each other's turn on it, which takes ten times as long as anything else here. So
	// the host says where it is, and the worker leaves from there.
	cpu    *atomic.Uint32 // control.hostCPU, or nil
	worker bool           // whether this is the worker's side
	left   time.Duration  // when it left, by now
}

// apart sees to it that the two sides are not on the same processor.
func (s *spinner) apart() {
	const again = 200 * time.Microsecond // after that, at the earliest
	switch {
	case s.cpu == nil:
	case !s.worker:
		s.cpu.Store(processor() + 1)
	case s.cpu.Load() != 0 && now()-s.left > again && s.cpu.Load() == processor()+1:
		s.left = now()
		s.cpu.Store(0)
		leave()
	}
}

// budget returns how long to spin: twice the usual wait, or not at all where that is too long to spin for.
func (s *spinner) budget() time.Duration {
	if s.slept >= max(s.probe, firstProbe) {
		return probeSpin
	}
	if s.usual > maxSpin {
		return 0
	}
	return min(maxSpin, 2*s.usual+2*time.Microsecond)
}

// note takes in how long a wait took. One long wait is forgotten after some short ones.
func (s *spinner) note(took time.Duration) { s.usual = (s.usual + min(took, 4*maxSpin)) / 2 }

// slowBells says that waking up takes so long here that it hides how long the other side worked. Where it is quick, as a
// futex is, nothing has to be found out by probes.
const slowBells = bellPipes > 0

// woken takes in a wait that was slept through, and how long the other side says that it worked meanwhile. A side that
// lies has this one spin in vain, within the bounds.
func (s *spinner) woken(took time.Duration) {
	if !slowBells { // some of it is the waking up, and two sides that took that for work would keep each other asleep
		if took < 2*maxSpin {
			took = min(took, maxSpin)
		}
		s.note(took)
		return
	}
	if s.theirs != nil {
		took = min(took, time.Duration(s.theirs.Load()))
	}
	s.note(took)
	if took <= maxSpin {
		s.slept++
	} else {
		s.slept = 0
	}
}

// tell says to the other side, which sleeps, how long this one had the turn.
func (s *spinner) tell() {
	if s.ours != nil && s.noticed != 0 {
		s.ours.Store(uint32(min(max(now()-s.noticed, 0), math.MaxUint32)))
	}
}

// await waits until word is not value any more, at most for about limit, and with a limit also no longer than until it is
// woken: the caller has more to look at than the word. sleeps says so to the other side while it sleeps.
func (s *spinner) await(word *atomic.Uint32, value uint32, sleeps *atomic.Uint32, b *bell, limit time.Duration) {
	if word.Load() != value {
		s.noticed = 0
		s.note(0)
		return
	}
	start := now()
	if budget := s.budget(); budget > 0 {
		spun := spinners.Add(1) <= int32(processors) && s.spin(word, value, start, budget)
		spinners.Add(-1)
		if budget == probeSpin {
			s.slept, s.probe = 0, min(2*max(s.probe, firstProbe), lastProbe)
		} else if spun {
			s.probe = firstProbe
		}
		if spun {
			s.noticed = now()
			s.note(s.noticed - start)
			return
		}
	}
	for word.Load() == value && limit > 0 {
		sleeps.Store(1)
		if word.Load() == value {
			b.wait(word, value, limit)
		}
		sleeps.Store(0)
		if limit != Forever {
			break
		}
	}
	s.noticed = now()
	if word.Load() == value { // the limit is over, or it was an alarm
		s.note(s.noticed - start)
	} else {
		s.woken(s.noticed - start)
	}
}

// alone is how long a side spins before it lets others have its processor now and then: the other side may wait for
// that very one.
const alone = 3 * time.Microsecond

// spin spins until word is not value any more, and reports false when budget is spent before.
func (s *spinner) spin(word *atomic.Uint32, value uint32, start time.Duration, budget time.Duration) bool {
	for long := false; ; {
		for range 16 {
			pause()
			if word.Load() != value {
				return true
			}
		}
		spent := now() - start
		if spent > budget {
			return false
		}
		if spent > alone || processors == 1 {
			if !long && processors > 1 {
				s.apart()
			}
			long = true
			yield()
		}
	}
}

// Forever is a limit that does not end.
const Forever = time.Duration(1<<63 - 1)

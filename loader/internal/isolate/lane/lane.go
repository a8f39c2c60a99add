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
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// The layout of the shared memory.
const (
	MaxLanes   = 256 // for calls, and for what plug-ins do between calls
	MaxAside   = 32  // for host functions of calls that have other lanes; see aside.go
	Lanes      = MaxLanes + MaxAside
	laneSize   = 128 << 10
	headerSize = 4 << 10
	baseSize   = headerSize + Lanes*laneSize

	controlSize = 512
	callArea    = 64<<10 - controlSize // of a lane, in bytes: a call's input and the room for its output
	upArea      = 64 << 10             // of a lane, in bytes: what host functions get and return
	align       = 64                   // of the output's room: the plug-in's and the host's bytes share no cache line
)

// bellCount is how many bells a side has: one for each lane, one for the header, two for the rings of each lane's streams.
const bellCount = Lanes + 1 + 2*Lanes

const magic = 0x35_52_52_46 // "FRR5": the header's first word; the version of this layout

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
	started [Lanes]atomic.Uint32 // by lane, 1 when the worker serves it; for debuggers and Host.Served
	fault   Fault                // the worker writes it
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
// Layout: four cache lines and the rest of 512 bytes unused. The side that waits reads the first line over and over; each
// write to it that is not the turn's takes the line from the other side once more. So what changes seldom has a line of
// its own.
type control struct {
	turn         atomic.Uint32
	hostSleeps   atomic.Uint32
	workerSleeps atomic.Uint32
	_            [13]uint32

	down Message // the host writes it while it has the turn
	up   Message // the worker writes it while it has the turn

	cancel      atomic.Uint32 // R17: the host sets it, the plug-in polls it
	hostCPU     atomic.Uint32 // on which processor the host spins, counted from 1; 0 when that is not known
	hostTook    atomic.Uint32 // how long the host had the turn, in ns, when the worker slept meanwhile
	workerTook  atomic.Uint32 // how long the worker had it, when the host slept
	done, total atomic.Uint64 // R30: how far the call is; the plug-in writes them
	loaded      atomic.Uint64 // of OpOpen: what is added to the library's own addresses once it is loaded; the worker writes it
	more        atomic.Uint32 // how many threads wait for a lane to ask the host by, during this lane's call; the worker writes it
	_           [5]uint32
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
	OpAside                    // nothing of the plug-in's: the lane is for host functions of calls that have other lanes; see aside.go
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
	OpReplaced                 // of OpConfigure, once: Status is 0 when new instances are in place, else an abi.Status; what is of no use is stopped next
)

// Failure says why there is no status.
type Failure uint32

// The failures. Most have a text: JSON of the error.
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
	FailedEnded             // without a text: a host function has ended its goroutine, as the host has said by StatusEnded
)

// StatusEnded answers a thread's host function that has ended its goroutine. No host function returns it.
const StatusEnded = math.MinInt32

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
	FlagThread               // of what the worker asks for: by a thread that is not the call's
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
	Status int32  // of what comes from the worker; of a call from the host, its session, or 0; of what comes aside, the call's lane
	Flags  uint32 // of what comes from the host, with the plug-in that it is for; see For. Of what the worker asks for, FlagThread or 0
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

// publish stores v for the other side, before this one reads anything else: whoever hands something over and then looks
// whether the other one sleeps, and whoever says that it sleeps and then looks once more, must not look too early. Else each
// may miss what the other one has written, and both sleep for ever.
//
// A Store promises as much, but not with the race detector: of memory that is not Go's own that makes an ordinary store, behind
// which the processor's later reads need not wait. An exchange is a barrier in both; on amd64 a Store is one anyway.
func publish(word *atomic.Uint32, v uint32) { word.Swap(v) }

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

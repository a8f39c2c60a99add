//go:build linux

package host

import (
	"encoding/binary"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// A hostile worker, for tests: no process, but goroutines that have the shared memory mapped a second time and write there
// what a script says, when it says so.

// Where things are in the shared memory. Package lane keeps that to itself; TestLayout checks it.
const (
	headerSize = 4 << 10
	laneSize   = 128 << 10
	callAt     = 512 // in a lane, as what follows
	moreAt     = 232 // how many threads wait for a lane aside
	upAt       = 64 << 10
	downMsg    = 64
	upMsg      = 128
	lenAt      = upMsg + 32 // the length in it
	baseSize   = headerSize + lane.Lanes*laneSize

	turnHost   = 0x54_53_4f_48
	turnWorker = 0x4b_52_4f_57
)

// served is how many lanes a hostile worker looks at.
const served = 8

// world is where hostile workers live.
type world struct {
	t      testing.TB
	script []byte
	traits trait
	later  trait         // of workers other than the first, where it is not 0; they have no script
	pace   time.Duration // 1, or more where there is to be time for everything

	over    atomic.Bool // the test has ended: nothing writes any more
	writers sync.WaitGroup

	mu      sync.Mutex
	workers []*worker
	all     []*hostile
}

// trait is what all hostile workers of a world have in common.
type trait byte

const (
	hostileOpen trait = 1 << iota // the script begins with the opening, which is answered honestly otherwise
	orphan                        // it goes on when its process has ended: something that it has left behind
	noisy                         // it writes over the first lane's messages all the time
	// What happens at the end of the script.
	atEnd = 3 << 3
	exits = 0 << 3 // the process ends
	mute  = 1 << 3 // it does nothing more
	tame  = 2 << 3 // it answers everything
	again = 3 << 3 // it begins again

	unkillable trait = 1 << 5 // it does not end before the world does, as where the host lacks the rights
	unreapable trait = 1 << 6 // it does nothing more when it is killed, but the host does not learn of its end
)

// hostile is one of them; it is what the engine takes for a process.
type hostile struct {
	*world
	traits trait
	script []byte
	mem    []byte
	file   int
	bell   int // the pipe that rings the host, or -1 where a futex does
	output *os.File

	ended  chan struct{} // closed at the end of the process
	ending sync.Once
	signal os.Signal

	lane     int                  // the one that it plays with
	noises   int                  // that it has started
	patience time.Duration        // for once
	asked    [served]lane.Message // by lane: the call that it is in
}

// start is an engine's run.
func (wo *world) start(w *worker) (process.Child, error) {
	wo.mu.Lock()
	wo.workers = append(wo.workers, w)
	first := len(wo.workers) == 1
	wo.mu.Unlock()
	h := &hostile{world: wo, traits: wo.traits, script: wo.script, bell: -1, ended: make(chan struct{})}
	if !first && wo.later != 0 {
		h.traits, h.script = wo.later, nil
	}
	files := w.memory.Files()
	var err error
	if h.file, err = unix.Dup(int(files[0].Fd())); err != nil {
		return nil, err
	}
	if len(files) > 1 {
		if h.bell, err = unix.Dup(int(files[2].Fd())); err == nil {
			err = unix.SetNonblock(h.bell, true)
		}
	}
	if err == nil {
		h.mem, err = unix.Mmap(h.file, 0, baseSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	var read *os.File
	if err == nil {
		read, h.output, err = os.Pipe()
	}
	if err == nil {
		err = w.memory.Started(nil)
	}
	if err != nil {
		h.free()
		return nil, err
	}
	w.output.Read(read)
	wo.mu.Lock()
	wo.all = append(wo.all, h)
	wo.mu.Unlock()
	wo.writers.Add(1)
	go h.live()
	return h, nil
}

// end ends the world: when it returns, nothing is left of its workers.
func (wo *world) end() {
	wo.over.Store(true)
	for _, h := range wo.all {
		h.exit(syscall.SIGKILL)
	}
	wo.writers.Wait()
	for _, h := range wo.all {
		h.free()
	}
	wo.all = nil
}

func (h *hostile) free() {
	if h.mem != nil {
		require.NoError(h.t, unix.Munmap(h.mem))
	}
	unix.Close(h.file)
	if h.bell >= 0 {
		unix.Close(h.bell)
	}
}

func (*hostile) PID() int         { return 1 << 30 }
func (*hostile) OS() *os.Process  { return nil }
func (*hostile) Layers() []string { return []string{"none"} }
func (h *hostile) Kill() {
	if h.traits&unkillable == 0 {
		h.exit(syscall.SIGKILL)
	}
}

func (h *hostile) exit(signal os.Signal) {
	h.ending.Do(func() {
		h.signal = signal
		close(h.ended)
	})
}

func (*hostile) Bury()          {}
func (*hostile) Unsaid() string { return "gone, and nobody says how" }

func (h *hostile) Wait() (os.Signal, int) {
	<-h.ended
	for h.traits&unreapable != 0 && !h.over.Load() {
		time.Sleep(time.Millisecond)
	}
	h.output.Close()
	if h.signal != nil {
		return h.signal, -1
	}
	return nil, 0
}

// stopped reports whether it must not write any more.
func (h *hostile) stopped() bool {
	if h.over.Load() {
		return true
	}
	select {
	case <-h.ended:
		return h.traits&orphan == 0
	default:
		return false
	}
}

// live is what the process does.
func (h *hostile) live() {
	defer h.writers.Done()
	if h.traits&noisy != 0 {
		h.noise(1, 0)
	}
	h.patience = time.Second // the host may be slow
	if h.traits&hostileOpen == 0 {
		h.receive()
		h.honest()
		h.patience = time.Second // scripts begin with the first call, if they wait for one
	}
	for {
		s := &steps{data: h.script}
		for !s.over && !h.stopped() {
			h.step(s)
		}
		if h.traits&atEnd != again || h.stopped() {
			break
		}
		runtime.Gosched()
	}
	switch h.traits & atEnd {
	case exits:
		h.exit(nil)
	case tame:
		for !h.stopped() {
			if h.receive() {
				h.honest()
				if h.asked[h.lane].Op == lane.OpStop {
					h.exit(nil)
				}
			}
		}
	}
}

// at returns the memory of the lane that it plays with.
func (h *hostile) at() []byte { return h.mem[headerSize+h.lane*laneSize:][:laneSize:laneSize] }

func (h *hostile) word(at int) *atomic.Uint32 { return raw.At[atomic.Uint32](h.at(), at) }
func (h *hostile) down() *lane.Message        { return raw.At[lane.Message](h.at(), downMsg) }
func (h *hostile) up() *lane.Message          { return raw.At[lane.Message](h.at(), upMsg) }
func (h *hostile) send(m lane.Message) bool   { *h.up() = m; return h.post() }

// post hands over the turn and wakes the host, whether it sleeps or not.
func (h *hostile) post() bool {
	h.word(0).Store(turnHost)
	h.ring()
	return true
}

func (h *hostile) ring() {
	if h.bell >= 0 {
		_, _ = unix.Write(h.bell, []byte{byte(h.lane), byte(h.lane >> 8)})
		return
	}
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, raw.Word(h.word(0)), 1, 1<<30, 0, 0, 0)
}

// receive waits a little for a lane whose turn is the worker's.
func (h *hostile) receive() bool {
	patience := max(h.patience, h.pace*3*time.Millisecond)
	h.patience = 0
	for start := time.Now(); !h.stopped(); {
		for i := range served {
			n := (h.lane + i) % served
			if raw.At[atomic.Uint32](h.mem, headerSize+n*laneSize).Load() == turnWorker {
				h.lane = n
				if m := *h.down(); m.Op != lane.OpAnswer {
					h.asked[n] = m
				}
				return true
			}
		}
		waited := time.Since(start)
		if waited > patience {
			return false
		}
		if waited > 50*time.Microsecond {
			time.Sleep(20 * time.Microsecond)
		} else {
			runtime.Gosched()
		}
	}
	return false
}

// honest answers as a worker does whose plug-in returns what it got.
func (h *hostile) honest() {
	m := h.asked[h.lane]
	reply := lane.Message{Op: lane.OpDone}
	call := h.at()[callAt:upAt]
	switch m.Op {
	case lane.OpOpen:
		if m.Extent == 0 && m.OutAt <= uint64(len(call)) {
			reply.Len = uint64(copy(call[m.OutAt:], "{}"))
		}
	case lane.OpCall:
		reply.Len = min(m.Len, m.OutCap)
		if m.Extent == 0 && m.OutAt <= uint64(len(call)) {
			copy(call[m.OutAt:], call[:min(m.Len, uint64(len(call)))])
		}
	case lane.OpBatch:
		if m.Extent == 0 {
			in, err := wire.ParseBatch(call[:min(m.Len, uint64(len(call)))], nil)
			if err == nil && m.OutAt <= uint64(len(call)) {
				reply.Len = uint64(copy(call[m.OutAt:], wire.AppendOutcome(nil, echoes(in), wire.EndingNone)))
			}
		}
	}
	h.send(reply)
}

// echoes is a batch of which each input came back.
func echoes(in [][]byte) *engine.Batch {
	b := new(engine.Batch)
	for _, data := range in {
		r := engine.Record{Start: len(b.Out)}
		b.Out = append(b.Out, data...)
		r.End = len(b.Out)
		b.Records = append(b.Records, r)
	}
	return b
}

// noise starts to write bytes over one of the areas, and goes on.
func (h *hostile) noise(where int, value byte) {
	if h.noises++; h.noises > 3 {
		return
	}
	h.writers.Add(1)
	lane := h.at()
	area := [][]byte{
		h.mem[:headerSize], lane[upMsg : upMsg+64], lane[downMsg : downMsg+64], lane[4:16],
		lane[callAt : callAt+4096], lane[callAt:upAt], lane[upAt : upAt+4096], lane[:4],
		lane[lenAt : lenAt+8], lane[lenAt+8 : lenAt+16], lane[lenAt-24 : lenAt-20], lane[lenAt-20 : lenAt-16],
	}[where%areas]
	go func() {
		defer h.writers.Done()
		random := uint32(value)*2654435761 | 1
		for n := 0; !h.stopped(); n++ {
			for at := 0; at+4 <= len(area); at += 4 {
				random = random*1664525 + 1013904223
				v := random >> 8
				switch value % 4 {
				case 1: // now and then, and small
					if v%16 != 0 {
						continue
					}
					v = v >> 8 % 256
				case 2: // one byte all over
					v = uint32(value) * 0x01010101
				case 3: // something and nothing by turns
					v = uint32(n%2) * math.MaxUint32
				}
				raw.At[atomic.Uint32](area, at).Store(v)
			}
			if n%16 == 0 {
				runtime.Gosched()
			}
		}
	}()
}

// areas are those of noise.
const areas = 12

// steps are a script that is being read.
type steps struct {
	data []byte
	over bool
}

func (s *steps) next() byte {
	if len(s.data) == 0 {
		s.over = true
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *steps) take(n int) []byte {
	n = min(n, len(s.data))
	b := s.data[:n]
	s.data = s.data[n:]
	return b
}

// number chooses one of the lengths and places that are most likely to be mistaken for another.
func (s *steps) number() uint64 {
	i := s.next()
	if i >= 128 { // or any
		var b [8]byte
		copy(b[:], s.take(int(i)%8+1))
		return binary.LittleEndian.Uint64(b[:])
	}
	return numbers[int(i)%len(numbers)]
}

var numbers = []uint64{0, 1, 2, 8, 16, 63, 64, 65, 1000, 1001, 4095, 4096, 4097,
	upAt - callAt - 1, upAt - callAt, upAt - callAt + 1, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1,
	5 << 18, 1 << 21, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40, 1 << 62, 1<<63 - 1, 1 << 63,
	math.MaxUint64 - 63, math.MaxUint64 - 1, math.MaxUint64,
	uint64(len(sayings[4])), uint64(len(sayings[6])), uint64(len(sayings[14])), uint64(len(sayings[14]) - len(sayings[4]))}

// Where numbers are in numbers.
const (
	zero  = 0
	few   = 8  // 1000
	mib   = 20 // 1 << 20
	above = 21 // 1 << 20 + 1
	most  = 31 // 1 << 63
	all   = 34 // 1 << 64 - 1
)

var (
	kinds = []lane.Op{lane.OpDone, lane.OpFailed, lane.OpHostCall, lane.OpLog, lane.OpGrow,
		0, 1, 2, 3, 4, 5, 100, lane.OpLayers, 255, math.MaxUint32, lane.OpReplaced}
	states = []int32{0, 1, 2, 3, 4, 5, 6, 7, 255, math.MaxInt32, -1, math.MinInt32}
	turns  = []uint32{turnHost, turnWorker, 0, 1, math.MaxUint32, turnHost + 1, 0x01010101, 0x53535353}
	// What a worker says at the end of a call, and what is nearly that.
	sayings = []string{"", "{}", "null", `{"Rule":"R8","Found":"x","Expected":"y"}`, `{"Status":1,"Message":"bm8="}`,
		`{"Status":-1}`, `{"Kind":"x"}`, `{"Layers":["a"]}`, `{"Violation":{}}`, "[[[[[[[[[[[[", "\x00\x00\x00\x00",
		"\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
		string(wire.AppendOutcome(nil, echoes([][]byte{[]byte("a"), []byte("bc")}), wire.EndingNone)),
		string(wire.AppendOutcome(nil, new(engine.Batch), wire.EndingNone)),
		string(wire.AppendOutcome(nil, echoes([][]byte{[]byte("a")}), wire.EndingNone)) + `{"Status":1,"Message":"bm8="}`}
)

// The steps of a script. Each is a byte, and those for what it needs.
const (
	stReceive = iota // wait for the host
	stHonest         // answer what it asked for
	stPost           // hand over the turn
	stTurn           // turn: write anything there
	stMessage        // kind, fn, state, number for the length, number for the place: write a message
	stRaw            // 64 bytes: write a message
	stDone           // number: an output of that length
	stFail           // failure, number, number: a failure with a text of that length, from that place on
	stSay            // saying: write it where the output is
	stCall           // ordinal, number: call a host function
	stLog            // level, number: log
	stGrow           // region, number: ask for room
	stWrite          // two bytes, n, n bytes: write to the lane
	stNumber         // two bytes, number: write it to the lane
	stFill           // byte: write over the whole lane
	stHeader         // byte, number: write to the header
	stNoise          // area, value: write there from now on, beside what follows
	stRing           // wake the host for nothing
	stSleep          // a little
	stExit           // end the process
	stExtend         // number: make the file longer
	stOutlive        // wait for the process to be ended
	stWords          // byte: write to the words beside the turn
	stWait           // number: say that so many threads wait for a lane aside
	stAside          // lane, ordinal, number: call a host function for another lane's call
	stepKinds
)

// step does the next thing.
func (h *hostile) step(s *steps) {
	kind := s.next()
	if s.over {
		return
	}
	switch kind % stepKinds {
	case stReceive:
		h.receive()
	case stHonest:
		h.honest()
	case stPost:
		h.post()
	case stTurn:
		h.word(0).Store(turns[int(s.next())%len(turns)])
		h.ring()
	case stMessage:
		*h.up() = lane.Message{Op: kinds[int(s.next())%len(kinds)], Fn: uint32(int8(s.next())),
			Status: states[int(s.next())%len(states)],
			Len:    s.number(), OutAt: s.number(), Extent: baseSize, Size: math.MaxUint64}
	case stRaw:
		copy(h.at()[upMsg:upMsg+64], s.take(64))
	case stDone:
		h.send(lane.Message{Op: lane.OpDone, Len: s.number()})
	case stFail:
		h.send(lane.Message{Op: lane.OpFailed, Fn: uint32(int8(s.next())), Len: s.number(), OutAt: s.number()})
	case stSay:
		at := min(h.asked[h.lane].OutAt, upAt-callAt)
		copy(h.at()[callAt+at:upAt], sayings[int(s.next())%len(sayings)])
	case stCall:
		h.send(lane.Message{Op: lane.OpHostCall, Fn: uint32(int8(s.next())), Len: s.number()})
		h.receive()
	case stLog:
		h.send(lane.Message{Op: lane.OpLog, Fn: uint32(int8(s.next())), Len: s.number()})
		h.receive()
	case stGrow:
		h.send(lane.Message{Op: lane.OpGrow, Fn: uint32(int8(s.next())), Len: s.number()})
		h.receive()
	case stWrite:
		at := int(s.next())<<8 + int(s.next())
		copy(h.at()[min(2*at, laneSize):], s.take(int(s.next())))
	case stNumber:
		at := int(s.next())<<8 + int(s.next())
		binary.LittleEndian.PutUint64(h.at()[min(2*at, laneSize-8):], s.number())
	case stFill:
		b, lane := s.next(), h.at()
		for i := range lane {
			lane[i] = b
		}
		h.ring()
	case stHeader:
		binary.LittleEndian.PutUint64(h.mem[int(s.next())*8:], s.number())
	case stNoise:
		h.noise(int(s.next()), s.next())
	case stRing:
		h.ring()
	case stSleep:
		time.Sleep(50 * time.Microsecond)
	case stExit:
		h.exit(nil)
	case stExtend:
		_ = unix.Ftruncate(h.file, int64(min(s.number(), 1<<40)))
	case stOutlive:
		select {
		case <-h.ended:
		case <-time.After(h.pace * 20 * time.Millisecond):
		}
	case stWait:
		h.word(moreAt).Store(uint32(s.number()))
	case stAside:
		h.send(lane.Message{Op: lane.OpHostCall, Status: int32(int8(s.next())), Fn: uint32(int8(s.next())), Len: s.number()})
		h.receive()
	case stWords:
		for at := 4; at < 16; at += 4 {
			h.word(at).Store(uint32(s.next()) & 1)
		}
	}
}

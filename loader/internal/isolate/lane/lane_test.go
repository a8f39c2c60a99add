//go:build unix

package lane

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pair makes both ends of the memory in this process, mapped twice.
func pair(t *testing.T) (*Host, *Worker) {
	t.Helper()
	h, err := NewHost()
	require.NoError(t, err)
	t.Cleanup(h.Close)
	files := inherit(t, h)
	w, err := Attach(files)
	require.NoError(t, err)
	t.Cleanup(func() { w.memory.drop(w.memory.base) })
	return h, w
}

// punches is whether this system takes memory back out of the middle of a file.
const punches = runtime.GOOS == "linux" // and darwin, on some file systems

// inherit returns what a worker would have of the host's files.
func inherit(t *testing.T, h *Host) (files []*os.File) {
	t.Helper()
	for _, f := range h.Files() {
		fd, err := unix.Dup(int(f.Fd()))
		require.NoError(t, err)
		require.NoError(t, unix.SetNonblock(fd, true))
		file := os.NewFile(uintptr(fd), "inherited")
		t.Cleanup(func() { file.Close() })
		files = append(files, file)
	}
	require.NoError(t, h.Started(nil))
	return files
}

// workerLane returns the worker's end of a lane.
func workerLane(w *Worker, l *HostLane) *WorkerLane {
	i := l.index
	return &WorkerLane{lane: newLane(w.memory.base, i), worker: w, bell: w.bells.at(i)}
}

// serve answers the calls of a lane until the test is over, as the function says.
func serve(t *testing.T, w *Worker, l *HostLane, answer func(l *WorkerLane, m Message, in, room []byte) error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		wl := workerLane(w, l)
		for {
			m, in, room, err := wl.Next()
			if err == nil && m.Op == OpStop {
				for r := range wl.mapped {
					if b := wl.mapped[r].bytes; b != nil {
						w.memory.drop(b)
					}
				}
				ended <- nil
				return
			}
			if err == nil {
				err = answer(wl, m, in, room)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case err := <-ended: // it should not have
			assert.NoError(t, err)
		default:
			_, err := l.Room(0, 0)
			require.NoError(t, err)
			l.Call(OpStop, 0, 0, 0)
			select {
			case err = <-ended:
				assert.NoError(t, err)
			case <-time.After(time.Minute):
				assert.Fail(t, "the lane is not served any more")
			}
		}
	})
}

// outcome is how a call of the tests ended.
type outcome struct {
	message Message
	out     []byte
}

// roundTrip makes one call, and answers host functions with what they got, twice.
func roundTrip(t *testing.T, l *HostLane, in []byte, room int, limit uint64) outcome {
	t.Helper()
	area, err := l.Room(len(in), room)
	require.NoError(t, err)
	require.Len(t, area, len(in))
	copy(area, in)
	l.Call(OpCall, 7, len(in), 0)
	for deadline := time.Now().Add(20 * time.Second); ; {
		m, ok, err := l.Await(200 * time.Millisecond)
		require.NoError(t, err)
		require.True(t, ok || time.Now().Before(deadline), "no answer")
		if !ok {
			continue
		}
		switch m.Op {
		case OpDone, OpFailed:
			out, err := l.Output(m)
			require.NoError(t, err)
			return outcome{m, append([]byte{}, out...)}
		case OpGrow:
			require.NoError(t, l.Grow(m, limit))
		case OpHostCall, OpLog:
			in, err := l.UpInput(m)
			require.NoError(t, err)
			require.NoError(t, l.Answer(int32(m.Fn), append(bytes.Clone(in), in...)))
		default:
			require.Failf(t, "a message of no kind", "%+v", m)
		}
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// Sizes on both sides of where the room in the lane ends.
var sizes = []int{0, 1, 63, 64, 65, 4 << 10, callArea - 1, callArea, callArea + 1, upArea, upArea + 1, 1 << 20, 3<<20 + 5}

func TestRoundTrip(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error {
		assert.Equal(t, OpCall, m.Op)
		assert.Equal(t, uint32(7), m.Fn)
		return l.Done(int32(len(in)), in)
	})
	for range 2 { // the second time with the extents that the first one left
		for _, size := range sizes {
			for _, room := range []int{0, size, 2 * size} {
				got := roundTrip(t, l, pattern(size), room, 1<<30)
				assert.Equal(t, OpDone, got.message.Op)
				assert.Equal(t, int32(size), got.message.Status)
				assert.True(t, bytes.Equal(pattern(size), got.out), "%d bytes with room for %d", size, room)
			}
		}
		l.Trim()
	}
}

// What the worker writes into its room is where the host reads.
func TestRoundTripInPlace(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error {
		assert.GreaterOrEqual(t, len(room), 2*len(in))
		n := copy(room, in)
		n += copy(room[n:], in)
		return l.Done(0, room[:n])
	})
	for _, size := range sizes {
		got := roundTrip(t, l, pattern(size), 2*size, 0)
		assert.Equal(t, bytes.Repeat(pattern(size), 2), got.out, "%d bytes", size)
		assert.Zero(t, l.outAt%align, "input and output share no cache line")
	}
}

func TestHostFunctions(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error {
		var wg sync.WaitGroup
		for i := range 4 { // of the plug-in's threads, at the same time
			wg.Add(1)
			go func() {
				defer wg.Done()
				mine := append([]byte{byte(i)}, in...)
				out, status, err := l.HostCall(uint32(i), mine)
				assert.NoError(t, err)
				assert.Equal(t, int32(i), status)
				assert.True(t, bytes.Equal(append(bytes.Clone(mine), mine...), out), "thread %d, %d bytes", i, len(in))
				assert.NoError(t, l.Log(uint32(i), mine, nil))
			}()
		}
		wg.Wait()
		return l.Done(0, in)
	})
	for _, size := range sizes {
		got := roundTrip(t, l, pattern(size), size, 16<<20)
		assert.True(t, bytes.Equal(pattern(size), got.out), "%d bytes", size)
	}
}

// A limit holds for what the worker asks for, and the worker is told so.
func TestLimits(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	const limit = 2 << 20
	serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error {
		_, _, err := l.HostCall(0, make([]byte, limit+1))
		assert.Equal(t, NoRoom(0, 0), err)
		_, _, err = l.HostCall(0, make([]byte, limit))
		assert.NoError(t, err)
		return l.Done(0, make([]byte, int(in[0])*limit+int(in[1])))
	})
	for _, c := range []struct {
		in   []byte
		want Op
	}{
		{[]byte{0, 9}, OpDone}, {[]byte{1, 0}, OpDone}, {[]byte{1, 1}, OpFailed}, {[]byte{200, 0}, OpFailed},
		{[]byte{1, 0}, OpDone},
	} {
		got := roundTrip(t, l, c.in, 100, limit)
		assert.Equal(t, c.want, got.message.Op, "%v", c.in)
		if c.want == OpDone {
			assert.Len(t, got.out, int(c.in[0])*limit+int(c.in[1]))
		} else {
			assert.Equal(t, FailedTooLong, Failure(got.message.Fn))
			assert.Contains(t, string(got.out), "WithMaxMessage")
		}
		assert.LessOrEqual(t, l.Extended(), int(extentSize(limit)+extentSize(2*limit))) // the host's answer is twice as long
	}
	_, err := l.Room(math.MaxInt/2, 0)
	assert.Error(t, err, "more than there can be")
	_, err = l.Room(10, math.MaxInt-10)
	assert.Error(t, err, "more than there can be")
	got := roundTrip(t, l, []byte{0, 1}, 100, limit)
	assert.Equal(t, OpDone, got.message.Op, "and it goes on")
}

// A worker that has the host make room again and again gets the same memory again and again.
func TestGrowsBounded(t *testing.T) {
	h, _ := pair(t)
	l := h.NewLane()
	_, err := l.Room(100, 100)
	require.NoError(t, err)
	const limit = 64 << 20
	random := rand.New(rand.NewPCG(1, 2))
	distinct := make(map[uint64]bool)
	start := h.memory.tail
	for range 3000 {
		n := random.Uint64N(2 * limit)
		if n <= limit {
			distinct[extentSize(n)] = true
		}
		require.NoError(t, l.Grow(Message{Fn: uint32(RegionUp) + uint32(random.IntN(2)), Len: n}, limit))
		assert.LessOrEqual(t, l.Extended(), 2*int(extentSize(limit)))
		if random.IntN(4) == 0 {
			l.Trim()
		}
	}
	var all uint64
	for size := range distinct {
		all += 2 * size // one for each region
	}
	assert.LessOrEqual(t, h.memory.tail, start+all)
	assert.ErrorContains(t, l.Grow(Message{Fn: uint32(RegionCall), Len: 1}, limit), "region")
	assert.ErrorContains(t, l.Grow(Message{Fn: uint32(RegionStreams), Len: 1}, limit), "region")
	assert.ErrorContains(t, l.Grow(Message{Fn: math.MaxUint32, Len: 1}, limit), "region")
}

func TestTrim(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error {
		_, _, err := l.HostCall(0, in)
		assert.NoError(t, err)
		return l.Done(0, in)
	})
	assert.Zero(t, l.Extended())
	size := func() uint64 {
		h.memory.mu.Lock()
		defer h.memory.mu.Unlock()
		return h.memory.tail
	}
	var after uint64
	for i := range 4 {
		got := roundTrip(t, l, pattern(5<<20), 0, 1<<30)
		assert.True(t, bytes.Equal(pattern(5<<20), got.out))
		assert.Greater(t, l.Extended(), 5<<20)
		used := blocks(t, h)
		l.Trim()
		assert.Zero(t, l.Extended())
		if punches {
			assert.Less(t, blocks(t, h), used-5<<20, "the system has its memory back")
		}
		if i == 0 {
			after = size()
		}
		assert.Equal(t, after, size(), "the places of extents are used again")
		got = roundTrip(t, l, pattern(10), 0, 1<<30)
		assert.Equal(t, pattern(10), got.out)
	}
}

// blocks returns how much memory the shared file really has, in bytes.
func blocks(t *testing.T, h *Host) int64 {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(int(h.memory.file.Fd()), &stat))
	return stat.Blocks * 512
}

func TestExtents(t *testing.T) {
	h, err := NewHost()
	require.NoError(t, err)
	defer h.Close()
	m := h.memory
	for _, n := range []uint64{math.MaxInt64/4 + 1, math.MaxInt64, 1 << 63, math.MaxUint64} {
		_, err := m.alloc(n)
		assert.Error(t, err, "%d", n)
	}
	before := m.tail
	_, err = m.alloc(math.MaxInt64 / 4) // more than a process can map
	assert.Error(t, err)
	place, err := m.alloc(1)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, place.id, before)
	assert.Len(t, place.bytes, 1<<20)
	assert.Equal(t, uint64(1<<20), place.size)
	place.bytes[0], place.bytes[1<<20-1] = 1, 1
	m.release(place)

	again, err := m.alloc(1 << 20)
	require.NoError(t, err)
	assert.Equal(t, place.id, again.id, "a free place of this size is used again")
	if punches {
		assert.Equal(t, make([]byte, 1<<20), again.bytes, "empty")
	}
	other, err := m.alloc(1 << 20)
	require.NoError(t, err)
	assert.NotEqual(t, again.id, other.id)
	m.release(again)
	longer, err := m.alloc(1<<20 + 1)
	require.NoError(t, err)
	assert.NotEqual(t, place.id, longer.id, "one of another size is not")
	m.release(other)
	m.release(longer)
}

// Extents that are in use at the same time share nothing.
func TestExtentsConcurrent(t *testing.T) {
	h, err := NewHost()
	require.NoError(t, err)
	defer h.Close()
	start := h.memory.tail
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 100 {
				e, err := h.memory.alloc(uint64(1+(g+i)%3) << 20)
				if !assert.NoError(t, err) {
					return
				}
				for at := 0; at < len(e.bytes); at += 4096 {
					e.bytes[at] = byte(g)
				}
				for at := 0; at < len(e.bytes); at += 4096 {
					if e.bytes[at] != byte(g) {
						assert.Fail(t, "somebody else has written there")
						break
					}
				}
				h.memory.release(e)
			}
		}()
	}
	wg.Wait()
	assert.LessOrEqual(t, h.memory.tail, start+8*(1+2+3)<<20)
}

// Every lane has its own memory, on both sides the same.
func TestLanes(t *testing.T) {
	h, w := pair(t)
	var lanes []*HostLane
	for range MaxLanes {
		lanes = append(lanes, h.NewLane())
	}
	assert.Equal(t, uint32(MaxLanes), w.header.wanted.Load())
	for i, l := range lanes {
		for _, b := range [][]byte{l.call, l.lane.up} {
			for at := range b {
				b[at] = byte(i)
			}
		}
		l.cancel.Store(uint32(i))
	}
	for i, l := range lanes {
		wl := workerLane(w, l)
		assert.Equal(t, bytes.Repeat([]byte{byte(i)}, callArea), wl.call)
		assert.Equal(t, bytes.Repeat([]byte{byte(i)}, upArea), wl.lane.up)
		assert.Equal(t, uint32(i), wl.Word().Load())
		assert.Equal(t, uint32(turnHost), wl.turn.Load())
	}
	assert.Equal(t, uint32(magic), w.header.magic.Load())
}

// Lanes starts to serve lanes as they are added, those that are there already as well as later ones.
func TestLanesServed(t *testing.T) {
	h, err := NewHost()
	require.NoError(t, err)
	defer h.Close()
	w, err := Attach(inherit(t, h)) // stays mapped: Lanes does not return, a worker ends with its process
	require.NoError(t, err)
	served := make(chan int, MaxLanes)
	h.NewLane()
	go w.Lanes(func(l *WorkerLane) { served <- l.index })
	for i := range 5 {
		select {
		case got := <-served:
			assert.Equal(t, i, got)
		case <-time.After(time.Minute):
			require.Fail(t, "not served")
		}
		h.NewLane()
	}
	assert.Eventually(t, func() bool { return len(served) == 1 }, time.Minute, time.Millisecond)
	// It waits for more from now on. Before it sleeps it is counted as one who spins, which another test would find.
	assert.Eventually(t, func() bool { return h.header.sleeps.Load() == 1 }, time.Minute, time.Millisecond)
}

func TestParallelLanes(t *testing.T) {
	h, w := pair(t)
	var wg sync.WaitGroup
	for g := range 8 {
		l := h.NewLane()
		serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error { return l.Done(0, in) })
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 200 {
				in := fmt.Appendf(nil, "%d of %d", i, g)
				assert.Equal(t, in, roundTrip(t, l, in, 100, 0).out)
			}
		}()
	}
	wg.Wait()
}

func TestCancel(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	asked := make(chan uint32)
	serve(t, w, l, func(l *WorkerLane, m Message, in, room []byte) error {
		asked <- l.Word().Load()
		for start := time.Now(); len(in) > 0 && l.Word().Load() == 0 && time.Since(start) < 20*time.Second; {
			time.Sleep(100 * time.Microsecond)
		}
		return l.Done(int32(l.Word().Load()), nil)
	})
	l.Cancel() // before it begins: this one is not meant
	for _, in := range []string{"until cancelled", ""} {
		go func() {
			assert.Zero(t, <-asked)
			if in != "" {
				l.Cancel()
			}
		}()
		got := roundTrip(t, l, []byte(in), 0, 0)
		assert.Equal(t, in != "", got.message.Status == 1)
	}
}

// A worker that dies may have handed over the turn and not woken its host.
func TestAlarm(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	_, err := l.Room(0, 0)
	require.NoError(t, err)
	l.Call(OpCall, 0, 0, 0)
	alarmed := make(chan struct{})
	go func() {
		defer close(alarmed)
		wl := workerLane(w, l)
		for wl.hostSleeps.Load() == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		wl.control.up = Message{Op: OpDone}
		wl.turn.Store(turnHost)
		l.Alarm()
	}()
	start := time.Now()
	m, ok, err := l.Await(time.Minute)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, OpDone, m.Op)
	assert.Less(t, time.Since(start), 30*time.Second)
	<-alarmed // or else this one has the host look below

	// Or it has said nothing: whoever knows that it is dead has the host look at that.
	l.Call(OpCall, 0, 0, 0)
	ended, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		wl := workerLane(w, l)
		for wl.hostSleeps.Load() == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		for { // it has said that it will sleep; when it does nobody knows, and who is not asleep is not woken
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
				l.Alarm()
			}
		}
	}()
	start = time.Now()
	_, ok, err = l.Await(time.Minute)
	close(ended)
	<-over // what a lane is asked for comes before its memory is gone
	require.NoError(t, err)
	assert.False(t, ok)
	assert.Less(t, time.Since(start), 30*time.Second)
}

// What a turn may be is the host's to say.
func TestTurnOverwritten(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	for _, turn := range []uint32{0, 1, math.MaxUint32, 0x01010101, turnHost + 1, turnWorker ^ 0x80} {
		_, err := l.Room(0, 0)
		require.NoError(t, err)
		l.Call(OpCall, 0, 0, 0)
		wl := workerLane(w, l)
		wl.turn.Store(turn)
		_, ok, err := l.Await(10 * time.Second)
		assert.False(t, ok)
		assert.ErrorContains(t, err, fmt.Sprintf("%#x", turn))
		assert.Equal(t, ErrGarbage, wl.post(&Message{}))
		_, _, _, err = wl.Next()
		assert.Equal(t, ErrGarbage, err)
	}
	// One byte all over is none of the turns.
	for b := range 256 {
		turn := uint32(b) * 0x01010101
		assert.NotEqual(t, uint32(turnHost), turn)
		assert.NotEqual(t, uint32(turnWorker), turn)
	}
}

// Lengths that a worker makes up.
func TestLengths(t *testing.T) {
	h, _ := pair(t)
	l := h.NewLane()
	for _, size := range []int{100, 2 << 20} {
		_, err := l.Room(size, size)
		require.NoError(t, err)
		require.NoError(t, l.ensure(RegionUp, uint64(size)))
		for _, c := range []struct {
			room int
			read func(Message) ([]byte, error)
		}{{len(l.out), l.Output}, {len(l.bytes(RegionUp)), l.UpInput}} {
			for _, n := range []uint64{0, 1, uint64(c.room)} {
				b, err := c.read(Message{Len: n, Extent: math.MaxUint64, Size: math.MaxUint64, OutAt: 1 << 63, OutCap: 1 << 63})
				assert.NoError(t, err)
				assert.Len(t, b, int(n))
				assert.Equal(t, len(b), cap(b))
			}
			for _, n := range []uint64{uint64(c.room) + 1, 1 << 31, 1 << 32, 1<<63 - 1, 1 << 63, math.MaxUint64} {
				_, err := c.read(Message{Len: n})
				assert.Error(t, err, "%d", n)
			}
		}
	}
}

// Lengths that something has written over the host's message: the worker ends rather than reading there.
func TestLengthsOfTheHost(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	wl := workerLane(w, l)
	for _, m := range []Message{
		{Len: callArea + 1}, {Len: math.MaxUint64}, {OutAt: callArea + 1}, {OutCap: callArea + 1},
		{OutAt: callArea, OutCap: 1}, {OutAt: 1, OutCap: math.MaxUint64}, {OutAt: math.MaxUint64, OutCap: 2},
	} {
		l.post(&m)
		_, _, _, err := wl.Next()
		assert.Equal(t, ErrGarbage, err, "%+v", m)
	}
	for _, m := range []Message{
		{Extent: 1, Size: 1 << 20}, {Extent: 1 << 63, Size: 1 << 20}, {Extent: baseSize, Size: 1 << 63}, {Extent: baseSize},
	} {
		l.post(&m)
		_, _, _, err := wl.Next()
		assert.Error(t, err, "%+v", m)
	}
	l.post(&Message{Len: 5, OutAt: 64, OutCap: callArea - 64})
	_, in, room, err := wl.Next()
	assert.NoError(t, err)
	assert.Len(t, in, 5)
	assert.Len(t, room, callArea-64)
}

// A worker that does not look at its bells keeps nobody waiting.
func TestRingNeverWaits(t *testing.T) {
	h, err := NewHost()
	require.NoError(t, err)
	defer h.Close()
	files := inherit(t, h) // and nobody reads from them
	l := h.NewLane()
	l.workerSleeps.Store(1)
	h.header.sleeps.Store(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200_000 {
			l.post(&Message{})
		}
		for range MaxLanes - 1 {
			h.NewLane()
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		assert.Fail(t, "the host waits for its worker")
	}
	for _, f := range files {
		f.Close()
	}
	<-done
}

func TestAttachRefuses(t *testing.T) {
	_, err := Attach(nil)
	assert.ErrorContains(t, err, "inherited files")
	short, err := createFile()
	require.NoError(t, err)
	defer short.Close()
	files := append([]*os.File{short}, make([]*os.File, FilesOfWorker-1)...)
	_, err = Attach(files)
	assert.ErrorContains(t, err, "no shared memory")
	require.NoError(t, short.Truncate(baseSize))
	_, err = Attach(files)
	assert.ErrorContains(t, err, "another kind")
}

// unmappable is memory of which nothing more can be mapped, as where the process has none left.
func unmappable(w *Worker) (restore func()) {
	fd := w.memory.fd
	w.memory.fd = -1
	return func() { w.memory.fd = fd }
}

// The host has put the region elsewhere, and the worker cannot follow: what it passes on afterwards is what the host
// reads, or is refused.
func TestBytesAfterFailedMapping(t *testing.T) {
	long := make([]byte, 1<<20)
	for _, c := range []struct {
		name string
		fail func(l *WorkerLane) error // has the mapping of the region fail
		host func(m Message) []byte    // its answer to a host function
	}{
		{"of a host function's input", func(l *WorkerLane) error {
			_, _, err := l.HostCall(1, long)
			return err
		}, func(Message) []byte { return nil }},
		{"of a host function's answer", func(l *WorkerLane) error {
			_, _, err := l.HostCall(1, nil)
			return err
		}, func(m Message) []byte {
			if m.Fn == 1 {
				return long
			}
			return nil
		}},
		{"of a log line", func(l *WorkerLane) error { return l.Log(1, long, nil) }, func(Message) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, w := pair(t)
			l := h.NewLane()
			serve(t, w, l, func(wl *WorkerLane, _ Message, _, _ []byte) error {
				restore := unmappable(w)
				assert.Error(t, c.fail(wl))
				_, _, err := wl.HostCall(2, []byte("while it fails"))
				assert.Error(t, err, "there is no place that both sides know")
				restore()
				for _, text := range []string{"short", "", string(long[:100<<10])} {
					if _, _, err := wl.HostCall(2, []byte(text)); err != nil {
						return err
					}
				}
				return wl.Done(0, nil)
			})
			_, err := l.Room(0, 64)
			require.NoError(t, err)
			l.Call(OpCall, 0, 0, 0)
			var got []string
			for {
				m, ok, err := l.Await(20 * time.Second)
				require.NoError(t, err)
				require.True(t, ok, "no message")
				switch m.Op {
				case OpDone:
					assert.Equal(t, []string{"short", "", string(long[:100<<10])}, got)
					return
				case OpGrow:
					require.NoError(t, l.Grow(m, 1<<30))
				default:
					in, err := l.UpInput(m)
					require.NoError(t, err)
					if m.Fn == 2 {
						got = append(got, string(in))
					}
					require.NoError(t, l.Answer(0, c.host(m)))
				}
			}
		})
	}
}

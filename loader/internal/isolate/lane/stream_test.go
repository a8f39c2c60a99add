//go:build unix

package lane

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// streams begins streams on a lane, and returns what the worker has of them.
func streams(t *testing.T, h *Host, w *Worker, r io.Reader, out io.Writer) (l *HostLane, s *HostStreams, st *stream.Streams, source *workerSource, sink *workerSink) {
	t.Helper()
	st = &stream.Streams{In: stream.NewReader(r), Out: stream.NewWriter(out)}
	l, s, source, sink = again(t, h, w, st)
	return l, s, st, source, sink
}

// again is streams, of those that there are.
func again(t *testing.T, h *Host, w *Worker, st *stream.Streams) (l *HostLane, s *HostStreams, source *workerSource, sink *workerSink) {
	t.Helper()
	l = h.NewLane()
	_, err := l.Room(0, 64)
	require.NoError(t, err)
	s, flags, err := l.Begin(st, new(atomic.Bool))
	require.NoError(t, err)
	l.Call(OpStream, 0, 0, flags)
	wl := workerLane(w, l)
	m, _, _, err := wl.Next()
	require.NoError(t, err)
	assert.Equal(t, OpStream, m.Op)
	from, to, err := wl.WorkerStreams(m)
	require.NoError(t, err)
	t.Cleanup(func() { w.memory.drop(wl.mapped[RegionStreams].bytes) })
	return l, s, from.(*workerSource), to.(*workerSink)
}

// Both streams carry what was put in, whatever the lengths, at the same time.
func TestStreams(t *testing.T) {
	h, w := pair(t)
	for _, n := range []int{0, 1, stream.PieceSize, ringSize, ringSize + 1, 5 * ringSize} {
		data := pattern(n)
		var out bytes.Buffer
		l, s, st, source, sink := streams(t, h, w, onlyReader{bytes.NewReader(data)}, &out)
		random := rand.New(rand.NewPCG(1, uint64(n)))
		var got []byte
		for {
			piece, status := source.Next(nil)
			require.Equal(t, abi.StatusOK, status)
			if len(piece) == 0 {
				break
			}
			got = append(got, piece...)
			for len(piece) > 0 {
				part := piece[:min(len(piece), 1+random.IntN(2*stream.PieceSize))]
				require.Equal(t, abi.StatusOK, sink.Put(nil, part))
				piece = piece[len(part):]
			}
		}
		source.End()
		sink.End()
		require.True(t, st.Wait(nil, nil))
		require.NoError(t, l.End(s, true))
		assert.True(t, bytes.Equal(data, got), n)
		assert.True(t, bytes.Equal(data, out.Bytes()), n)
		assert.NoError(t, st.Err())
	}
}

// The reader is not touched before the plug-in reads, nor afterwards by who comes too late.
func TestStreamsReadNothingUnasked(t *testing.T) {
	h, w := pair(t)
	reads := atomic.Int32{}
	r := readerFunc(func(p []byte) (int, error) { reads.Add(1); return len(p), nil })
	l, s, st, source, sink := streams(t, h, w, r, io.Discard)
	time.Sleep(3 * ringStep)
	assert.Zero(t, reads.Load())
	source.End()
	sink.End()
	require.True(t, st.Wait(nil, nil))
	require.NoError(t, l.End(s, true))
	time.Sleep(3 * ringStep)
	assert.Zero(t, reads.Load())
	assert.False(t, s.Begun())
}

// A call that is made again, because its function has not begun the first time, has all of its streams.
func TestStreamsOfASecondTry(t *testing.T) {
	h, w := pair(t)
	for _, r := range []io.Reader{bytes.NewReader(pattern(10)), onlyReader{bytes.NewReader(pattern(10))}} {
		var out bytes.Buffer
		l, s, st, source, sink := streams(t, h, w, r, onlyWriter{&out})
		source.End()
		sink.End()
		require.NoError(t, l.End(s, false))
		require.False(t, s.Begun())

		l, s, source, sink = again(t, h, w, st)
		piece, status := source.Next(nil)
		require.Equal(t, abi.StatusOK, status)
		assert.Equal(t, pattern(10), piece)
		require.Equal(t, abi.StatusOK, sink.Put(nil, piece))
		require.True(t, s.Begun())
		source.End()
		sink.End()
		require.NoError(t, l.End(s, true))
		require.True(t, st.Wait(nil, nil))
		assert.Equal(t, pattern(10), out.Bytes())
	}
}

// A reader that was stopped is not told as one that has come to its end.
func TestStreamsOfAStoppedReader(t *testing.T) {
	h, w := pair(t)
	for _, r := range []io.Reader{bytes.NewReader(pattern(10)), onlyReader{bytes.NewReader(pattern(10))}} {
		l, s, st, source, _ := streams(t, h, w, r, io.Discard)
		st.In.Stop()
		_, status := source.Next(nil)
		assert.Equal(t, abi.StatusFailed, status)
		require.NoError(t, l.End(s, false))
	}
}

// When the function has returned, the lane is free, however slow the writer is; and it gets everything.
func TestStreamsOfASlowWriter(t *testing.T) {
	h, w := pair(t)
	for _, n := range []int{1, ringSize / 2, ringSize} {
		in, out := io.Pipe()
		l, s, st, _, sink := streams(t, h, w, nil, out)
		require.Equal(t, abi.StatusOK, sink.Put(nil, pattern(ringSize/2+1))) // so that what is left has two pieces
		_, err := io.ReadFull(in, make([]byte, ringSize/2+1))
		require.NoError(t, err)
		require.Equal(t, abi.StatusOK, sink.Put(nil, pattern(n)))
		sink.End()
		require.NoError(t, l.End(s, true))
		clear(sink.ring.bytes) // it is another call's by now
		got := make([]byte, n)
		_, err = io.ReadFull(in, got)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(pattern(n), got), n)
		require.True(t, st.Wait(nil, nil))
	}
}

// A writer that nobody waits for any more gets nothing more than it has.
func TestStreamsOfAStuckWriter(t *testing.T) {
	h, w := pair(t)
	began, leave, writes := make(chan bool), make(chan bool), atomic.Int32{}
	l, s, st, _, sink := streams(t, h, w, nil, writerFunc(func(b []byte) (int, error) {
		writes.Add(1)
		began <- true
		<-leave
		return len(b), nil
	}))
	require.Equal(t, abi.StatusOK, sink.Put(nil, pattern(ringSize)))
	<-began
	require.NoError(t, l.End(s, true))
	patience := make(chan time.Time, 1)
	patience <- time.Time{}
	require.False(t, st.Wait(nil, patience))
	close(leave)
	require.True(t, st.Wait(nil, nil))
	assert.EqualValues(t, 1, writes.Load())
	assert.NoError(t, st.Err())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What breaks is told to the other side; what is cancelled ends who waits.
func TestStreamsBreak(t *testing.T) {
	h, w := pair(t)
	broken := errors.New("broken")
	l, s, st, source, sink := streams(t, h, w, io.MultiReader(bytes.NewReader(pattern(10)), iotest.ErrReader(broken)), iotest.TruncateWriter(io.Discard, 0))
	piece, status := source.Next(nil)
	require.Equal(t, abi.StatusOK, status)
	assert.Equal(t, pattern(10), piece)
	for range 2 {
		_, status = source.Next(nil)
		assert.Equal(t, abi.StatusFailed, status)
	}
	sink.End()
	require.True(t, st.Wait(nil, nil))
	require.NoError(t, l.End(s, true))
	assert.ErrorIs(t, st.Err(), broken)

	blocks, end := io.Pipe()
	defer end.Close()
	l, s, st, source, sink = streams(t, h, w, blocks, writerFunc(func([]byte) (int, error) { return 0, broken }))
	for status = abi.StatusOK; status == abi.StatusOK; {
		status = sink.Put(nil, pattern(1000))
	}
	assert.Equal(t, abi.StatusFailed, status)
	time.AfterFunc(20*time.Millisecond, l.Cancel)
	_, status = source.Next(nil)
	assert.Equal(t, abi.StatusCancelled, status)
	sink.End()
	require.True(t, st.Wait(nil, nil))
	require.NoError(t, l.End(s, true))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A worker that writes what it must not into the counts of a ring is found out, and gets the host to read or write nothing beyond it.
func TestStreamsOverwritten(t *testing.T) {
	h, w := pair(t)
	for name, write := range map[string]func(in, out *ring){
		"more put than there is room": func(_, out *ring) { out.put.Store(ringSize + 1) },
		"nearly all":                  func(_, out *ring) { out.put.Store(math.MaxUint64) },
		"more taken than was put":     func(in, _ *ring) { in.taken.Store(1 << 40) },
		"taken in the past":           func(in, _ *ring) { in.taken.Store(math.MaxUint64 - ringSize) },
	} {
		r := readerFunc(func(p []byte) (int, error) { return len(p), nil })
		wrote := atomic.Int64{}
		l, s, _, source, sink := streams(t, h, w, r, writerFunc(func(p []byte) (int, error) { wrote.Add(int64(len(p))); return len(p), nil }))
		_, status := source.Next(nil)
		require.Equal(t, abi.StatusOK, status)
		write(source.ring, sink.ring)
		source.ring.wakePutter()
		sink.ring.wakeTaker()
		assert.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.wrong != nil
		}, time.Minute, time.Millisecond, name)
		assert.Error(t, l.End(s, true), name)
		assert.LessOrEqual(t, wrote.Load(), int64(ringSize), name)
	}
}

// What a dead worker has put in is written, and nobody waits for more.
func TestStreamsOfTheDead(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	_, err := l.Room(0, 64)
	require.NoError(t, err)
	var out bytes.Buffer
	gone := new(atomic.Bool)
	st := &stream.Streams{Out: stream.NewWriter(&out)}
	s, flags, err := l.Begin(st, gone)
	require.NoError(t, err)
	l.Call(OpStream, 0, 0, flags)
	wl := workerLane(w, l)
	m, _, _, err := wl.Next()
	require.NoError(t, err)
	from, to, err := wl.WorkerStreams(m)
	require.NoError(t, err)
	assert.Nil(t, from)
	require.Equal(t, abi.StatusOK, to.Put(nil, pattern(1000)))
	gone.Store(true)
	require.True(t, st.Wait(nil, nil))
	require.NoError(t, l.End(s, true))
	assert.True(t, bytes.Equal(pattern(1000), out.Bytes()))
	w.memory.drop(wl.mapped[RegionStreams].bytes)
}

// What was put in before the stream broke off is read, whenever that happens: also between two looks of who reads.
func TestPieceBeforeABreak(t *testing.T) {
	h, w := pair(t)
	l := h.NewLane()
	wl := workerLane(w, l)
	memory := make([]byte, streamsSize)
	in, _ := newRings(memory, h.bells, l.index)
	of, _ := newRings(memory, w.bells, l.index)
	for range 5_000 {
		in.reset()
		in.mine, of.mine = 0, 0
		over := make(chan struct{})
		go func() {
			defer close(over)
			for in.asked.Load() == 0 {
				runtime.Gosched()
			}
			room, err := in.room()
			assert.NoError(t, err)
			in.filled(copy(room, "a piece"))
			in.close(ringBroken)
		}()
		source := &workerSource{lane: wl, ring: of}
		piece, status := source.Next(nil)
		<-over
		require.Equal(t, abi.StatusOK, status)
		require.Equal(t, "a piece", string(piece))
		_, status = source.Next(nil)
		require.Equal(t, abi.StatusFailed, status)
	}
}

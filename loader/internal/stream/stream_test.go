package stream

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
)

var errBroken = errors.New("broken")

type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// goroutines waits until no more goroutines run than before.
func goroutines(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		assert.LessOrEqual(t, runtime.NumGoroutine(), before, "goroutines were left behind")
	})
}

// A source hands out all that a reader has, and says for ever how it ended, whether it reads ahead or not.
func TestSource(t *testing.T) {
	goroutines(t)
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	for name, c := range map[string]struct {
		r      io.Reader
		status abi.Status
		want   []byte
	}{
		"direct":      {bytes.NewReader(data), abi.StatusOK, data},
		"read ahead":  {onlyReader{bytes.NewReader(data)}, abi.StatusOK, data},
		"byte by one": {iotest.OneByteReader(bytes.NewReader(data[:5000])), abi.StatusOK, data[:5000]},
		"with EOF":    {iotest.DataErrReader(bytes.NewReader(data)), abi.StatusOK, data},
		"empty":       {onlyReader{strings.NewReader("")}, abi.StatusOK, nil},
		"nil":         {nil, abi.StatusOK, nil},
		"breaks":      {io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errBroken)), abi.StatusFailed, data},
		"nothing":     {readerFunc(func([]byte) (int, error) { return 0, nil }), abi.StatusFailed, nil},
		"too much":    {readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), abi.StatusFailed, nil},
		"panics":      {readerFunc(func([]byte) (int, error) { panic("no") }), abi.StatusFailed, nil},
		"ends":        {readerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil }), abi.StatusFailed, nil},
	} {
		r := NewReader(c.r)
		s := NewSource(r)
		var got []byte
		status := abi.StatusOK
		for {
			var piece []byte
			if piece, status = s.Next(nil); len(piece) == 0 {
				break
			}
			require.Equal(t, abi.StatusOK, status, name)
			require.LessOrEqual(t, len(piece), PieceSize)
			got = append(got, piece...)
		}
		assert.Equal(t, c.status, status, name)
		assert.True(t, bytes.Equal(c.want, got), "%s: %d bytes", name, len(got))
		piece, again := s.Next(nil)
		assert.Empty(t, piece, name)
		assert.Equal(t, c.status, again, name)
		assert.Equal(t, c.status != abi.StatusOK, r.Err() != nil, "%s: %v", name, r.Err())
		s.End()
	}
}

// Who waits for a reader that blocks is freed by the context's end, and by the stream's; the reader's goroutine ends when the reader returns.
func TestSourceThatBlocks(t *testing.T) {
	goroutines(t)
	r, w := io.Pipe()
	s := NewSource(NewReader(r))
	done := make(chan struct{})
	time.AfterFunc(10*time.Millisecond, func() { close(done) })
	_, status := s.Next(done)
	assert.Equal(t, abi.StatusCancelled, status)
	time.AfterFunc(10*time.Millisecond, s.End)
	_, status = s.Next(nil)
	assert.Equal(t, abi.StatusCancelled, status)
	go w.Write([]byte("late"))
	time.Sleep(10 * time.Millisecond)
	w.Close()
}

// A sink passes on all that it was given, in order, and in pieces of any length.
func TestSink(t *testing.T) {
	goroutines(t)
	for name, wrap := range map[string]func(*bytes.Buffer) io.Writer{
		"direct": func(b *bytes.Buffer) io.Writer { return b },
		"behind": func(b *bytes.Buffer) io.Writer { return onlyWriter{b} },
	} {
		var got bytes.Buffer
		s := NewSink(NewWriter(wrap(&got)))
		var want []byte
		for n := range 400 {
			piece := bytes.Repeat([]byte{byte(n)}, n*n%70_000)
			want = append(want, piece...)
			require.Equal(t, abi.StatusOK, s.Put(nil, piece))
			clear(piece) // it was only borrowed
		}
		s.End()
		require.True(t, s.Wait(nil, nil))
		assert.True(t, bytes.Equal(want, got.Bytes()), name)
	}
}

// A writer that fails is not used again, and whoever gives is told, in the end at the latest.
func TestSinkThatFails(t *testing.T) {
	goroutines(t)
	for name, w := range map[string]io.Writer{
		"fails":    writerFunc(func([]byte) (int, error) { return 0, errBroken }),
		"short":    writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }),
		"too much": writerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }),
		"panics":   writerFunc(func([]byte) (int, error) { panic(errBroken) }),
		"ends":     writerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil }),
	} {
		writer := NewWriter(w)
		s := NewSink(writer)
		status := abi.StatusOK
		for n := 0; status == abi.StatusOK; n++ {
			require.Less(t, n, 1000, name)
			status = s.Put(nil, make([]byte, 10_000))
		}
		assert.Equal(t, abi.StatusFailed, status, name)
		assert.Equal(t, abi.StatusFailed, s.Put(nil, nil), name)
		s.End()
		assert.True(t, s.Wait(nil, nil), "there is nothing to wait for")
		assert.Error(t, writer.Err(), name)
		if name == "fails" || name == "panics" {
			assert.ErrorIs(t, (&Streams{Out: writer}).Err(), errBroken, name)
		}
	}
}

// A writer that blocks holds up who gives as soon as the sink is full, until the context's end or the sink's.
func TestSinkThatBlocks(t *testing.T) {
	goroutines(t)
	r, w := io.Pipe()
	s := NewSink(NewWriter(w))
	done := make(chan struct{})
	time.AfterFunc(20*time.Millisecond, func() { close(done) })
	taken := 0
	for s.Put(done, make([]byte, 1000)) == abi.StatusOK {
		taken += 1000
		require.Less(t, taken, 1<<20)
	}
	assert.GreaterOrEqual(t, taken, drainSize-1000)
	ended := make(chan abi.Status)
	go func() { ended <- s.Put(nil, make([]byte, 2*drainSize)) }()
	time.Sleep(5 * time.Millisecond)
	s.End()
	assert.Equal(t, abi.StatusCancelled, <-ended)
	assert.False(t, s.Wait(done, nil))
	r.Close()
	assert.True(t, s.Wait(nil, nil))
}

// One gives while the other writes, for a long time, and nothing is lost between the end of the writing goroutine and the next piece.
func TestSinkAtEase(t *testing.T) {
	goroutines(t)
	var mu sync.Mutex
	var got []byte
	s := NewSink(NewWriter(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, p...)
		return len(p), nil
	})))
	for n := range 20_000 {
		require.Equal(t, abi.StatusOK, s.Put(nil, []byte{byte(n)}))
		if n%3 == 0 {
			runtime.Gosched()
		}
	}
	s.End()
	require.True(t, s.Wait(nil, nil))
	require.Len(t, got, 20_000)
	for n, b := range got {
		require.Equal(t, byte(n), b)
	}
}

// The pieces of a reader whose bytes lie in memory are those bytes: nothing is copied. A reader that breaks io.Reader's rules by
// being nil has failed.
func TestPiece(t *testing.T) {
	data := make([]byte, 2*PieceSize+5)
	for name, r := range map[string]io.Reader{"bytes.Reader": bytes.NewReader(data), "bytes.Buffer": bytes.NewBuffer(data)} {
		from, buffer, at := NewReader(r), []byte(nil), 0
		for {
			piece, err := from.Piece(&buffer)
			if err != nil {
				require.ErrorIs(t, err, io.EOF, name)
				assert.Empty(t, piece, name)
				break
			}
			assert.Equal(t, min(PieceSize, len(data)-at), len(piece), name)
			assert.Same(t, &data[at], &piece[0], name)
			at += len(piece)
		}
		assert.Equal(t, len(data), at, name)
		assert.Nil(t, buffer, name)
		assert.NoError(t, from.Err(), name)
		_, err := from.Piece(&buffer)
		assert.ErrorIs(t, err, io.EOF, name)
	}
	var none *bytes.Reader
	from := NewReader(none)
	_, err := from.Piece(new([]byte))
	assert.ErrorContains(t, err, "the reader panicked")
	assert.NoError(t, from.Err(), "nobody was told")
	from.Told()
	assert.Error(t, from.Err())
}

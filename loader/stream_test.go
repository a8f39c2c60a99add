package loader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// onlyReader and onlyWriter hide what else a reader or a writer can do, so that it may block.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// some returns n bytes, and their sum as the fixture's function sum says it.
func some(n int) ([]byte, string) {
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, n)
	_, _ = random.Read(data)
	sum := uint64(0)
	for _, b := range data {
		sum += uint64(b)
	}
	return data, fmt.Sprint(sum, " ", n)
}

// Streams of all lengths and of readers and writers of all kinds, in one direction and in both.
func TestStream(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		sum, swap, pipe, count := function(t, p, "sum"), function(t, p, "swap"), function(t, p, "pipe"), function(t, p, "count")
		for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 3} {
			data, want := some(n)
			for name, r := range map[string]func() io.Reader{
				"bytes.Reader": func() io.Reader { return bytes.NewReader(data) },
				"bytes.Buffer": func() io.Reader { return bytes.NewBuffer(bytes.Clone(data)) },
				"a reader":     func() io.Reader { return onlyReader{bytes.NewReader(data)} },
				"half of what": func() io.Reader { return iotest.HalfReader(bytes.NewReader(data)) },
				"with the end": func() io.Reader { return iotest.DataErrReader(bytes.NewReader(data)) },
			} {
				out, err := sum.Stream(ctx, nil, r(), nil)
				require.NoError(t, err, name)
				require.Equal(t, want, string(out), name)
				var copied bytes.Buffer
				_, err = pipe.Stream(ctx, nil, r(), &copied)
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(data, copied.Bytes()), "%s: %d bytes came out", name, copied.Len())
				copied.Reset()
				_, err = pipe.Stream(ctx, nil, r(), onlyWriter{&copied})
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(data, copied.Bytes()), "%s: %d bytes came out", name, copied.Len())
			}
		}
		one, _ := some(10_000)
		out, err := sum.Stream(ctx, nil, iotest.OneByteReader(bytes.NewReader(one)), nil)
		require.NoError(t, err)
		_, want := some(10_000)
		assert.Equal(t, want, string(out))

		var text strings.Builder
		_, err = swap.Stream(ctx, nil, strings.NewReader("From Here To There"), &text)
		require.NoError(t, err)
		assert.Equal(t, "fROM hERE tO tHERE", text.String())
		text.Reset()
		out, err = count.Stream(ctx, []byte("3"), nil, &text)
		require.NoError(t, err)
		assert.Equal(t, "0\n1\n2\n", text.String())
		assert.Equal(t, "counted", string(out))
		out, err = count.Stream(ctx, []byte("100000"), nil, nil)
		require.NoError(t, err, "a nil writer takes everything")
		assert.Equal(t, "counted", string(out))
		out, err = sum.Stream(ctx, nil, nil, nil)
		require.NoError(t, err, "a nil reader is empty")
		assert.Equal(t, "0 0", string(out))
		out, err = function(t, p, "threads").Stream(ctx, nil, bytes.NewReader(one), nil)
		require.NoError(t, err)
		_, want = some(10_000)
		assert.Equal(t, strings.Fields(want)[0], string(out))

		assert.Equal(t, abi.StreamIn, p.Info().Funcs[indexOf(p.Info().Funcs, "sum")].Stream)
		assert.Equal(t, abi.StreamBoth, p.Info().Funcs[indexOf(p.Info().Funcs, "pipe")].Stream)
	})
}

func indexOf(symbols []abi.Symbol, name string) int {
	for i, s := range symbols {
		if s.Name == name {
			return i
		}
	}
	return -1
}

// What is no stream is said before anything runs; and a function that is called without its streams is told so.
func TestStreamMissing(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		for name, give := range map[string]struct {
			r io.Reader
			w io.Writer
		}{"sum": {nil, io.Discard}, "count": {strings.NewReader(""), nil}, "ordinals": {strings.NewReader(""), nil}} {
			_, err := function(t, p, name).Stream(ctx, nil, give.r, give.w)
			var usage *loader.UsageError
			require.ErrorAs(t, err, &usage, name)
			assert.ErrorIs(t, err, loader.ErrNoStream)
			assert.ErrorContains(t, err, ": pass nil")
		}
		out, err := function(t, p, "ordinals").Stream(ctx, nil, nil, nil)
		require.NoError(t, err)
		assert.Equal(t, "0 1 2", string(out))
		for name, want := range map[string]string{"sum": "it reads an input stream, which", "count": "it writes an output stream, which",
			"pipe": "it reads an input stream and writes an output stream, which"} {
			for how, call := range map[string]func(f *loader.Func) error{
				"Call":   func(f *loader.Func) error { _, err := f.Call(ctx, []byte("1")); return err },
				"Append": func(f *loader.Func) error { _, err := f.Append(ctx, nil, []byte("1")); return err },
				"View":   func(f *loader.Func) error { _, err := f.View(ctx, []byte("1")); return err },
				"CallJSON": func(f *loader.Func) error {
					_, err := loader.CallJSON[int, int](ctx, p, name, 1)
					return err
				},
				"Batch": func(f *loader.Func) error {
					var b loader.Batch
					require.NoError(t, f.Batch(ctx, [][]byte{[]byte("1")}, &b))
					_, err := b.Result(0)
					return err
				},
			} {
				err := call(function(t, p, name))
				var unsupported *loader.CallError
				require.ErrorAs(t, err, &unsupported, "%s of %s", how, name)
				assert.ErrorIs(t, err, loader.ErrUnsupported, "%s of %s", how, name)
				assert.Equal(t, want+" it has only when it is called with Func.Stream", unsupported.Remedy, "%s of %s", how, name)
				assert.ErrorContains(t, err, "; "+unsupported.Remedy, "%s of %s", how, name)
			}
		}
		_, err = p.Call(ctx, "upper", []byte("x"))
		var other *loader.CallError
		require.ErrorAs(t, err, &other)
		assert.ErrorIs(t, err, loader.ErrUnsupported, "the host offers it none of what it wants")
		assert.Empty(t, other.Remedy, "it has no streams")
		assert.Equal(t, "3 0 3", call(t, p, "no_streams", ""))
		var b loader.Batch
		require.NoError(t, function(t, p, "count").Batch(ctx, [][]byte{[]byte("2")}, &b))
		_, err = b.Result(0)
		assert.ErrorIs(t, err, loader.ErrUnsupported)
	})
}

// A function that has its streams, and does not support something else, is not told to be called with them.
func TestStreamUnsupported(t *testing.T) {
	p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Funcs: []builtin.Function{{Name: "f", Stream: abi.StreamIn,
		Call: func(context.Context, []byte) ([]byte, error) { return nil, loader.ErrUnsupported }}}})
	require.NoError(t, err)
	defer p.Close()
	_, err = function(t, p, "f").Stream(ctx, nil, strings.NewReader("x"), nil)
	var call *loader.CallError
	require.ErrorAs(t, err, &call)
	assert.ErrorIs(t, err, loader.ErrUnsupported)
	assert.Empty(t, call.Remedy)
}

var errBroken = errors.New("the cable is unplugged")

// A reader or a writer that fails, panics or ends its goroutine: the function is told, and so is the caller, whatever the function makes of it.
func TestStreamBreaks(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		data, _ := some(300_000)
		breaks := func() io.Reader { return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errBroken)) }
		for _, name := range []string{"sum", "pipe", "ignores"} {
			_, err := function(t, p, name).Stream(ctx, nil, breaks(), nil)
			require.ErrorIs(t, err, errBroken, name)
			var call *loader.CallError
			require.ErrorAs(t, err, &call)
			assert.Equal(t, loader.ErrFailed, call.Status)
			assert.ErrorContains(t, err, "the input stream broke off: the cable is unplugged")
		}
		out, err := function(t, p, "statuses").Stream(ctx, nil, iotest.ErrReader(errBroken), nil)
		require.ErrorIs(t, err, errBroken)
		assert.Nil(t, out)

		for _, n := range []int{0, 1, 100_000} {
			short := onlyWriter{&limited{left: n}}
			_, err = function(t, p, "pipe").Stream(ctx, nil, bytes.NewReader(data), short)
			require.ErrorIs(t, err, errBroken, n)
			assert.ErrorContains(t, err, "the output stream broke off")
			_, err = function(t, p, "ignores").Stream(ctx, nil, bytes.NewReader(data), onlyWriter{&limited{left: n}})
			require.ErrorIs(t, err, errBroken)
			_, err = function(t, p, "for_ever").Stream(ctx, nil, nil, onlyWriter{&limited{left: n}})
			require.ErrorIs(t, err, errBroken)
		}
		for name, r := range map[string]readerFunc{
			"panics":   func([]byte) (int, error) { panic(errBroken) },
			"selfish":  func([]byte) (int, error) { panic(selfish{}) },
			"too much": func(p []byte) (int, error) { return len(p) + 1, nil },
			"negative": func([]byte) (int, error) { return -1, nil },
			"nothing":  func([]byte) (int, error) { return 0, nil },
			"ends":     func([]byte) (int, error) { runtime.Goexit(); return 0, nil },
		} {
			_, err := function(t, p, "sum").Stream(ctx, nil, r, nil)
			require.ErrorIs(t, err, loader.ErrFailed, name)
			require.ErrorContains(t, err, "the input stream broke off", name)
			if name == "panics" {
				require.ErrorIs(t, err, errBroken)
			}
		}
		for name, w := range map[string]writerFunc{
			"panics":   func([]byte) (int, error) { panic("writes no more") },
			"short":    func(p []byte) (int, error) { return len(p) - 1, nil },
			"too much": func(p []byte) (int, error) { return len(p) + 1, nil },
			"ends":     func([]byte) (int, error) { runtime.Goexit(); return 0, nil },
		} {
			_, err := function(t, p, "pipe").Stream(ctx, nil, bytes.NewReader(data), w)
			require.ErrorIs(t, err, loader.ErrFailed, name)
			require.ErrorContains(t, err, "the output stream broke off", name)
		}
		_, want := some(1000)
		small, _ := some(1000)
		out, err = function(t, p, "sum").Stream(ctx, nil, bytes.NewReader(small), nil)
		require.NoError(t, err, "the plug-in is as well as before")
		assert.Equal(t, want, string(out))
	})
}

// A host function that ends its goroutine while the call has streams open: the writer is not used when the goroutine's own deferred
// functions run, the reader is not asked any more, and the plug-in is as well as before.
func TestStreamWhereAHostFunctionEndsItsGoroutine(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, library := range []string{"services", "services_serial", "services_pinned"} {
			t.Run(library, func(t *testing.T) {
				var ends atomic.Bool
				p := w.open(t, fixture.C(t, library), needed, loader.WithHostFunc("upper", func(_ context.Context, in []byte) ([]byte, error) {
					if ends.Load() {
						runtime.Goexit()
					}
					return in, nil
				}))
				before := runtime.NumGoroutine()
				for range 3 {
					var over, late atomic.Bool
					var reads atomic.Int32
					more, written := make(chan bool), make(chan bool)
					r := readerFunc(func(b []byte) (int, error) {
						if reads.Add(1) > 1 {
							<-more // the reader waits for long after the call
						}
						return copy(b, "piece"), nil
					})
					writes := writerFunc(func(b []byte) (int, error) {
						time.Sleep(5 * time.Millisecond)
						late.Store(late.Load() || over.Load())
						return len(b), nil
					})
					ends.Store(true)
					within(t, func() {
						go func() {
							returned := false
							var err error
							defer func() {
								over.Store(true)
								if returned {
									assert.Error(t, err)
								}
								close(written)
							}()
							_, err = function(t, p, "asks").Stream(ctx, []byte("x"), r, writes)
							returned = true
						}()
						<-written
					})
					ends.Store(false)
					time.Sleep(20 * time.Millisecond) // in which a writer that is used for too long is
					assert.False(t, late.Load(), "the writer was used after the call")
					assert.LessOrEqual(t, reads.Load(), int32(2))
					close(more)
					within(t, func() {
						data, _ := some(200_000)
						var copied bytes.Buffer
						out, err := function(t, p, "asks").Stream(ctx, []byte("x"), onlyReader{bytes.NewReader(data)}, onlyWriter{&copied})
						require.NoError(t, err)
						assert.Equal(t, "x", string(out))
						assert.True(t, bytes.Equal(data, copied.Bytes()), "%d bytes came out", copied.Len())
					})
					assert.LessOrEqual(t, reads.Load(), int32(2), "the reader is not asked any more")
				}
				for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(until); {
					time.Sleep(time.Millisecond)
				}
				assert.LessOrEqual(t, runtime.NumGoroutine(), before, "those of the readers have ended")
			})
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// limited is a writer that fails after some bytes.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		n := l.left
		l.left = 0
		return n, errBroken
	}
	l.left -= len(p)
	return len(p), nil
}

// The context ends while the reader blocks, while the writer does, and while the plug-in never stops writing: Stream returns.
func TestStreamCancelled(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		for name, run := range map[string]func(context.Context) error{
			"the reader blocks": func(ctx context.Context) error {
				r, end := io.Pipe()
				t.Cleanup(func() { end.Close() })
				_, err := function(t, p, "sum").Stream(ctx, nil, r, nil)
				return err
			},
			"the writer blocks": func(ctx context.Context) error {
				end, w := io.Pipe()
				t.Cleanup(func() { end.Close() })
				_, err := function(t, p, "for_ever").Stream(ctx, nil, nil, w)
				return err
			},
			"the writer blocks at the end": func(ctx context.Context) error {
				end, w := io.Pipe()
				t.Cleanup(func() { end.Close() })
				_, err := function(t, p, "count").Stream(ctx, []byte("10"), nil, w)
				return err
			},
			"it never stops": func(ctx context.Context) error {
				_, err := function(t, p, "for_ever").Stream(ctx, nil, nil, nil)
				return err
			},
		} {
			late, cancel := context.WithTimeoutCause(ctx, 50*time.Millisecond, errBroken)
			began := time.Now()
			err := run(late)
			cancel()
			assert.ErrorIs(t, err, loader.ErrCancelled, name)
			assert.ErrorIs(t, err, context.DeadlineExceeded, name)
			assert.ErrorIs(t, err, errBroken, name)
			assert.Less(t, time.Since(began), 20*time.Second, name)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := function(t, p, "sum").Stream(ended, nil, strings.NewReader("x"), nil)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

// selfish is an error that cannot say what it is.
type selfish struct{}

func (s selfish) Error() string { panic(s) }

// A plug-in that stops reading, and one that panics half way, end the call; what was written until then has been written.
func TestStreamEndsEarly(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		endless := readerFunc(func(p []byte) (int, error) { return copy(p, "endless "), nil })
		var got bytes.Buffer
		_, err := function(t, p, "first").Stream(ctx, nil, endless, &got)
		require.NoError(t, err)
		assert.Equal(t, "endless ", got.String()[:8])

		got.Reset()
		_, err = function(t, p, "panics").Stream(ctx, nil, endless, &got)
		require.ErrorIs(t, err, loader.ErrPanic)
		assert.Equal(t, "endless ", got.String()[:8])
		got.Reset()
		slow := writerFunc(func(p []byte) (int, error) {
			time.Sleep(50 * time.Millisecond)
			return got.Write(p)
		})
		_, err = function(t, p, "panics").Stream(ctx, nil, endless, slow)
		require.ErrorIs(t, err, loader.ErrPanic)
		assert.Equal(t, "endless ", got.String()[:8], "the writer has it when Stream returns")
		r, end := io.Pipe()
		go end.Write([]byte("one piece"))
		got.Reset()
		_, err = function(t, p, "first").Stream(ctx, nil, r, onlyWriter{&got}) // the reader goes on to wait
		require.NoError(t, err)
		assert.Equal(t, "one piece", got.String())
		end.Close()
		assert.Equal(t, "0 1 2", call(t, p, "ordinals", ""), "an instance was started anew")

		// What cannot block is the caller's again at once: the race detector sees who still uses it.
		data, _ := some(5 << 20)
		for _, r := range []interface {
			io.Reader
			Len() int
		}{bytes.NewReader(data), bytes.NewBuffer(bytes.Clone(data)), strings.NewReader(string(data))} {
			for range 10 {
				got.Reset()
				_, err = function(t, p, "first").Stream(ctx, nil, r, &got)
				require.NoError(t, err)
				left := r.Len()
				rest, err := io.ReadAll(io.LimitReader(r, 10))
				require.NoError(t, err)
				require.Equal(t, len(rest), left-r.Len())
				if len(rest) > 0 {
					require.Equal(t, data[len(data)-left:][:len(rest)], rest, "it goes on where the stream has left it")
				}
			}
		}
	})
}

// A reader that gives little at a time is answered at once, and the plug-in waits for a writer that is slow: no more is taken ahead of
// it than the streams hold.
func TestStreamFlows(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		in, from := io.Pipe()
		to, out := io.Pipe()
		over := make(chan error, 1)
		go func() {
			_, err := function(t, p, "swap").Stream(ctx, nil, in, out)
			out.Close()
			over <- err
		}()
		for i := range 100 { // a question and its answer, both directions at once
			line := fmt.Sprintf("Line %d\n", i)
			_, err := io.WriteString(from, line)
			require.NoError(t, err)
			answer := make([]byte, len(line))
			_, err = io.ReadFull(to, answer)
			require.NoError(t, err)
			assert.Equal(t, strings.Replace(line, "Line", "lINE", 1), string(answer))
		}
		from.Close()
		require.NoError(t, <-over)

		var mu sync.Mutex
		read, written := 0, 0
		ahead := 0
		r := readerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if read >= 20<<20 {
				return 0, io.EOF
			}
			read += len(p)
			ahead = max(ahead, read-written)
			return len(p), nil
		})
		slow := writerFunc(func(p []byte) (int, error) {
			time.Sleep(time.Duration(len(p)) * 10) // ns: 100 MB/s
			mu.Lock()
			defer mu.Unlock()
			written += len(p)
			return len(p), nil
		})
		_, err := function(t, p, "pipe").Stream(ctx, nil, r, slow)
		require.NoError(t, err)
		assert.Equal(t, read, written)
		assert.Less(t, ahead, 2<<20)
	})
}

// A serial instance is in use for the whole stream; others of it go on.
func TestStreamHoldsItsInstance(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "services_serial"), needed, loader.WithInstances(2))
		in, from := io.Pipe()
		over := make(chan error, 1)
		go func() {
			_, err := function(t, p, "sum").Stream(ctx, nil, in, nil)
			over <- err
		}()
		_, err := io.WriteString(from, "some")
		require.NoError(t, err)
		for range 20 {
			assert.Equal(t, "0 1 2", call(t, p, "ordinals", ""))
		}
		second, fromSecond := io.Pipe()
		go func() {
			_, err := function(t, p, "sum").Stream(ctx, nil, second, nil)
			over <- err
		}()
		_, err = io.WriteString(fromSecond, "more")
		require.NoError(t, err)
		late, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err = p.Call(late, "ordinals", nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded, "both are in use")
		from.Close()
		fromSecond.Close()
		require.NoError(t, <-over)
		require.NoError(t, <-over)
	})
}

// Many streams at a time, over each other's memory if they could.
func TestStreamsAtOnce(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				data := bytes.Repeat([]byte{byte(i)}, 1_000_003)
				for range w.rounds(10, 10) {
					var got bytes.Buffer
					_, err := function(t, p, "pipe").Stream(ctx, nil, onlyReader{bytes.NewReader(data)}, onlyWriter{&got})
					assert.NoError(t, err)
					assert.True(t, bytes.Equal(data, got.Bytes()))
				}
			})
		}
		all.Wait()
	})
}

// An error that was read ahead, and that the function had no wish to come to, is nobody's; and the reader is not asked again when Stream has returned.
func TestStreamReadsAhead(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		for range 100 {
			r := io.MultiReader(strings.NewReader("a piece"), iotest.ErrReader(errBroken))
			_, err := function(t, p, "first").Stream(ctx, nil, onlyReader{r}, nil)
			require.NoError(t, err)

			var over, late atomic.Bool
			asks := readerFunc(func(b []byte) (int, error) {
				if over.Load() {
					late.Store(true)
				}
				return len(b), nil
			})
			_, err = function(t, p, "first").Stream(ctx, nil, asks, nil)
			require.NoError(t, err)
			time.Sleep(50 * time.Microsecond) // for the one that may be in progress
			over.Store(true)
			time.Sleep(50 * time.Microsecond)
			assert.False(t, late.Load(), "it was read from after Stream had returned")
		}
	})
}

// A stream that finds its instance panicked and in use waits until it is started anew, and has lost nothing of its input then.
func TestStreamAfterAPanic(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		entered, leave := make(chan bool), make(chan bool)
		p := w.open(t, fixture.C(t, "services"), needed, loader.WithHostFunc("upper", func(context.Context, []byte) ([]byte, error) {
			entered <- true
			<-leave
			return nil, nil
		}))
		data, want := some(300_000)
		for name, r := range map[string]io.Reader{"bytes.Reader": bytes.NewReader(data), "bytes.Buffer": bytes.NewBuffer(bytes.Clone(data)),
			"a reader": onlyReader{bytes.NewReader(data)}} {
			held := on(func() { _, err := p.Call(ctx, "upper", nil); assert.NoError(t, err, name) })
			<-entered
			_, err := p.Call(ctx, "panic", nil)
			require.ErrorIs(t, err, loader.ErrPanic, name)
			var copied bytes.Buffer
			over := on(func() {
				_, err := function(t, p, "pipe").Stream(ctx, nil, r, onlyWriter{&copied})
				assert.NoError(t, err, name)
			})
			time.Sleep(20 * time.Millisecond) // it tries, and tries again
			leave <- true
			inTime(t, name, func() { <-held; <-over })
			assert.True(t, bytes.Equal(data, copied.Bytes()), "%s: %d bytes", name, copied.Len())
			out, err := function(t, p, "sum").Stream(ctx, nil, bytes.NewReader(copied.Bytes()), nil)
			require.NoError(t, err, name)
			assert.Equal(t, want, string(out), name)
		}
	})
}

// stuckWriter is a writer that does not return from its first Write before it is let go.
type stuckWriter struct {
	mu          sync.Mutex
	got         bytes.Buffer
	began, goes chan bool
}

func newStuckWriter() *stuckWriter {
	return &stuckWriter{began: make(chan bool, 100), goes: make(chan bool)}
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	s.began <- true
	<-s.goes
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func (s *stuckWriter) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

// A function that has returned holds neither its instance nor the plug-in, however long its writer takes; and that gets everything.
func TestStreamToASlowWriter(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, inSession := range []bool{false, true} {
			p := w.open(t, fixture.C(t, "services_serial"), needed)
			var s interface {
				Func(name string) (*loader.Func, error)
				Close() error
			} = p
			if inSession {
				s = session(t, p, nil)
			}
			count, err := s.Func("count")
			require.NoError(t, err)
			ordinals, err := s.Func("ordinals")
			require.NoError(t, err)
			slow := newStuckWriter()
			over := on(func() { _, err := count.Stream(ctx, []byte("10000"), nil, slow); assert.NoError(t, err) })
			<-slow.began
			inTime(t, "another call", func() {
				_, err := ordinals.Call(ctx, nil)
				assert.NoError(t, err)
			})
			inTime(t, "closing", func() { assert.NoError(t, s.Close()) })
			select {
			case <-over:
				assert.Fail(t, "Stream has returned before its writer")
			default:
			}
			close(slow.goes)
			inTime(t, "the stream", func() { <-over })
			assert.True(t, strings.HasSuffix(slow.text(), "\n9999\n"), "all of it")
		}
	})
}

// A writer that is stuck does not keep the news that the function was stopped, or has crashed. It gets nothing more then.
func TestStreamToAStuckWriter(t *testing.T) {
	t.Parallel() // it waits
	allWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "services_serial"), needed, loader.WithCallTimeout(100*time.Millisecond))
		stuck := newStuckWriter()
		inTime(t, "the stream", func() {
			_, err := function(t, p, "for_ever").Stream(ctx, nil, nil, stuck)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "loader.WithCallTimeout")
		})
		assert.Equal(t, "0 1 2", call(t, p, "ordinals", ""))
		close(stuck.goes)
		require.NoError(t, p.Close())
		time.Sleep(5 * time.Millisecond)
		assert.Len(t, stuck.began, 1)
	})
	t.Run("of a worker that dies", func(t *testing.T) {
		stuck := newStuckWriter()
		defer close(stuck.goes)
		var p *loader.Plugin
		p = isolated.open(t, fixture.C(t, "services_serial"), needed, loader.WithHostFunc("upper", func(context.Context, []byte) ([]byte, error) {
			<-stuck.began
			i, _ := p.Isolation()
			worker, err := os.FindProcess(i.PID)
			if err == nil {
				err = worker.Kill()
			}
			return nil, err
		}))
		inTime(t, "the stream", func() {
			_, err := function(t, p, "asks").Stream(ctx, nil, strings.NewReader("some"), stuck)
			var crash *loader.CrashError
			assert.ErrorAs(t, err, &crash)
		})
	})
}

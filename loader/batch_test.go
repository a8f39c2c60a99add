package loader_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// records returns inputs for batch.h's function.
func records(n int, kinds string) [][]byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	in := make([][]byte, n)
	for i := range in {
		in[i] = fmt.Appendf(nil, "%c%d %s", kinds[r.IntN(len(kinds))], i, strings.Repeat("x", r.IntN(60)))
	}
	return in
}

// A batch's results and errors are those of the calls one by one, whatever becomes of each record.
func TestBatch(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, lib := range []string{"batch_serial", "batch_pinned", "batch_missing", "batch_counts_too_much", "batch_runs_nothing"} {
			for _, kinds := range []string{"e", "o", "f", "h", "eeeeeo", "eofnlhz", "eeeeeeep", "p"} {
				t.Run(lib+" "+kinds, func(t *testing.T) {
					p := w.open(t, fixture.C(t, lib), loader.WithHostFunc("upper", upper))
					f, err := p.Func("record")
					require.NoError(t, err)
					var b loader.Batch
					sizes := []int{0, 1, 3, 511, 512, 513, 1500}
					switch {
					case stress.Enabled && w.isolated: // each worker begins with collections at each crossing
						sizes = []int{0, 1, 300}
					case w.isolated, raceDetector: // the calls one by one take their time where waking a worker does
						sizes = []int{0, 1, 513}
					}
					for _, n := range sizes {
						if strings.Contains(kinds, "p") {
							n /= 10 // a panic renews the instance
						}
						in := records(n, kinds)
						require.NoError(t, f.Batch(ctx, in, &b))
						require.Equal(t, n, b.Len())
						failed := 0
						for i := range in {
							want, wantErr := f.Call(ctx, in[i])
							got, err := b.Result(i)
							if in[i][0] == 'l' { // the room is not the same
								require.ErrorAs(t, err, new(*loader.ContractError))
								err, wantErr = nil, nil
								failed++
							}
							require.Equal(t, wantErr, err, "%q", in[i])
							require.True(t, bytes.Equal(want, got), "%q: %q", in[i], got)
							if err != nil {
								failed++
							}
						}
						if failed == 0 {
							assert.NoError(t, b.Err())
						} else {
							assert.Len(t, b.Err().(interface{ Unwrap() []error }).Unwrap(), failed)
						}
					}
					assert.True(t, strings.HasSuffix(call(t, p, "report", ""), " 0"), "own memory was given back")
				})
			}
		}
	})
}

// Inputs that need more room than was guessed.
func TestBatchLargeRecords(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		f, err := p.Func("echo")
		require.NoError(t, err)
		in := make([][]byte, 100)
		for i := range in {
			in[i] = bytes.Repeat([]byte{byte(i)}, rand.IntN(20_000))
		}
		var b loader.Batch
		for range 3 {
			require.NoError(t, f.Batch(ctx, in, &b))
			for i := range in {
				out, err := b.Result(i)
				require.NoError(t, err)
				require.True(t, bytes.Equal(in[i], out))
			}
		}
		assert.Equal(t, "0", call(t, p, "held", ""))
	})
}

func TestBatchErrors(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		p, err := w.try(fixture.C(t, "host"), loader.WithHostFunc("upper", upper), loader.WithHostFunc("again", echo),
			loader.WithLogger(whenBegun(func() { cancel(context.DeadlineExceeded) })))
		require.NoError(t, err)
		f, err := p.Func("wait")
		require.NoError(t, err)
		var b loader.Batch
		err = f.Batch(ctx, make([][]byte, 1000), &b)
		require.ErrorIs(t, err, loader.ErrCancelled)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, b.Len(), "the one that was cancelled; the others did not run")
		_, err = b.Result(0)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, p.Close())
		err = f.Batch(context.Background(), make([][]byte, 3), &b)
		assert.ErrorIs(t, err, loader.ErrClosed)
		assert.Zero(t, b.Len())
	})
}

func TestView(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p, err := w.try(fixture.C(t, "echo"))
		require.NoError(t, err)
		f, err := p.Func("echo")
		require.NoError(t, err)
		for _, size := range sizes {
			in := bytes.Repeat([]byte("x"), size)
			v, err := f.View(ctx, in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(in, v.Bytes()))
			switch {
			case w.isolated: // it is in place where the worker has written it, and the plug-in's memory given back
				assert.Equal(t, "0", call(t, p, "held", ""))
			case size > 0:
				assert.Equal(t, "1", call(t, p, "held", ""), "still in place")
			}
			v.Release()
			v.Release()
			assert.Nil(t, v.Bytes())
			assert.Equal(t, "0", call(t, p, "held", ""))
		}
		fail, err := p.Func("fail_own")
		require.NoError(t, err)
		_, err = fail.View(ctx, []byte("the reason"))
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "the reason", e.Message)
		assert.Equal(t, "0", call(t, p, "held", ""))
		v, err := f.View(ctx, []byte("until it is released"))
		require.NoError(t, err)
		closed := make(chan error)
		go func() { closed <- p.Close() }()
		select {
		case <-closed:
			t.Fatal("Close did not wait for the view")
		case <-time.After(5 * time.Millisecond):
		}
		assert.Equal(t, "until it is released", string(v.Bytes()))
		v.Release()
		within(t, func() { assert.NoError(t, <-closed) })
		_, err = f.View(ctx, nil)
		assert.ErrorIs(t, err, loader.ErrClosed)
	})
}

// Views may be held while other calls run, also of a plug-in with one instance.
func TestViewsAreNoCalls(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, tempLibrary(t, fixture.C(t, "release_uses_host")))
		f, err := p.Func("answer")
		require.NoError(t, err)
		within(t, func() {
			var views []*loader.View
			for range 5 {
				v, err := f.View(ctx, nil)
				require.NoError(t, err)
				views = append(views, v)
				call(t, p, "report", "")
			}
			for _, v := range views {
				assert.Equal(t, "text", string(v.Bytes()))
				v.Release()
				call(t, p, "report", "")
			}
		})
	})
}

// An instance that cannot be started anew ends the batch; the records before are there.
func TestBatchWhoseInstanceIsLost(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, tempLibrary(t, fixture.C(t, "start_once")))
		f, err := p.Func("echo")
		require.NoError(t, err)
		var b loader.Batch
		err = f.Batch(ctx, [][]byte{[]byte("one"), []byte("two"), []byte("panic"), []byte("four")}, &b)
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		require.Equal(t, 3, b.Len())
		for i, want := range []string{"one", "two"} {
			out, err := b.Result(i)
			assert.NoError(t, err)
			assert.Equal(t, want, string(out))
		}
		_, err = b.Result(2)
		assert.ErrorIs(t, err, loader.ErrPanic)
		_, again := p.Call(ctx, "echo", nil)
		assert.ErrorIs(t, again, loader.ErrStart)
		require.ErrorAs(t, f.Batch(ctx, [][]byte{nil}, &b), &e)
		assert.Zero(t, b.Len())
	})
}

func TestViewDefects(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"null_out_with_length", "foreign_out_without_release", "out_len_beyond_ptrdiff_max", "negative_status"} {
			f, err := w.open(t, fixture.C(t, name)).Func("answer")
			require.NoError(t, err)
			_, err = f.View(ctx, nil)
			assert.ErrorAs(t, err, new(*loader.ContractError), name)
		}
		p := w.open(t, tempLibrary(t, fixture.C(t, "release_uses_host")))
		f, err := p.Func("answer")
		require.NoError(t, err)
		v, err := f.View(ctx, nil)
		require.NoError(t, err)
		assert.Equal(t, "text", string(v.Bytes()))
		v.Release()
		assert.Equal(t, "1 7", call(t, p, "report", ""))
	})
}

// A record that asks for room has its own, also where its function is called by itself, and what it had written before is
// in it (R25).
func TestBatchRoom(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, library := range []string{"services", "services_batch_missing"} {
			p := w.open(t, fixture.C(t, library), needed)
			f := function(t, p, "room_grows")
			for _, n := range []int{1, 1000, 100_000} {
				piece := make([]byte, n)
				for i := range piece {
					piece[i] = byte(i*3 + 1)
				}
				want := bytes.Repeat(piece, 10)
				for _, records := range []int{1, 3} {
					var b loader.Batch
					require.NoError(t, f.Batch(ctx, slices.Repeat([][]byte{piece}, records), &b))
					require.Equal(t, records, b.Len())
					for i := range records {
						out, err := b.Result(i)
						require.NoError(t, err)
						require.True(t, bytes.Equal(want, out), "%s: 10 times %d bytes, record %d of %d", library, n, i, records)
					}
				}
			}
		}
	})
}

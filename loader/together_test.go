package loader_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// together calls the function of the fixture of that name with so many threads, and returns their answers; "-" is none.
func together(ctx context.Context, p *loader.Plugin, threads int, text string) ([]string, error) {
	f, err := p.Func("together")
	if err != nil {
		return nil, err
	}
	out, err := f.Append(ctx, make([]byte, 0, threads*4098), append([]byte{byte(threads)}, text...))
	if err != nil {
		return nil, err
	}
	var answers []string
	for len(out) > 0 {
		n := int(out[0])<<8 | int(out[1])
		if out = out[2:]; n == 65535 {
			answers = append(answers, "-")
			continue
		}
		answers, out = append(answers, string(out[:n])), out[n:]
	}
	return answers, nil
}

// lineCount counts log lines, and has each of them take a moment.
type lineCount struct {
	slog.Handler
	n atomic.Int64
}

func (l *lineCount) Enabled(context.Context, slog.Level) bool { return true }
func (l *lineCount) Handle(context.Context, slog.Record) error {
	runtime.Gosched()
	l.n.Add(1)
	return nil
}
func (l *lineCount) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *lineCount) WithGroup(string) slog.Handler      { return l }

// The threads of one call are in host functions at the same time: each of these waits until all others are there. The first
// time an isolated one's lanes are added; the second time they are there. Each thread gets its own answer, with the call's context.
func TestHostFunctionsOfOneCallAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var waits atomic.Int64
		var threads int64
		log := &lineCount{}
		p := w.open(t, fixture.C(t, "together"), loader.WithLogger(slog.New(log)),
			loader.WithHostFunc("host", func(ctx context.Context, in []byte) ([]byte, error) {
				waits.Add(1)
				for deadline := time.Now().Add(time.Minute); waits.Load() < threads; time.Sleep(50 * time.Microsecond) {
					if time.Now().After(deadline) {
						return nil, errors.New("alone")
					}
				}
				return fmt.Appendf(nil, "%s for %v", in, ctx.Value(deedKey{})), nil
			}))
		want := int64(0)
		for _, threads = range []int64{1, 2, 2, 7, 33, 33, 2} {
			waits.Store(0)
			answers, err := together(context.WithValue(ctx, deedKey{}, threads), p, int(threads), "x")
			require.NoError(t, err)
			require.Len(t, answers, int(threads))
			for i, answer := range answers {
				assert.Equal(t, fmt.Sprintf("%d:x for %d", i, threads), answer)
			}
			want += threads
			assert.Equal(t, want, log.n.Load())
		}
	})
}

// Calls at the same time, each with some threads, do not get each other's answers, nor each other's context; whatever the host function does,
// the others' are as they are.
func TestHostFunctionsOfManyCallsAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "together"), loader.WithLogger(slog.New(&lineCount{})),
			loader.WithHostFunc("host", func(ctx context.Context, in []byte) ([]byte, error) {
				number, text, _ := strings.Cut(string(in), ":")
				if text != ctx.Value(deedKey{}) {
					t.Errorf("%q in the call of %v", text, ctx.Value(deedKey{}))
				}
				if rand.IntN(4) == 0 {
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
				}
				switch number {
				case "3":
					panic("the third one")
				case "4":
					return nil, errors.New("the fourth one")
				}
				return in, nil
			}))
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range w.rounds(30, 15) {
					text := fmt.Sprintf("%d.%d.%s", g, i, strings.Repeat("y", rand.IntN(4000)))
					answers, err := together(context.WithValue(ctx, deedKey{}, text), p, 6, text)
					if !assert.NoError(t, err) {
						return
					}
					for n, answer := range answers {
						want := fmt.Sprintf("%d:%s", n, text)
						if n == 3 || n == 4 {
							want = "-"
						}
						if answer != want {
							t.Errorf("thread %d got %.40q, not %.40q", n, answer, want)
						}
					}
				}
			})
		}
		all.Wait()
	})
}

// Where one of the threads' host functions ends its goroutine, the call fails, and the next one is sound.
func TestHostFunctionsOfOneCallEnd(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var inside atomic.Int64
		p := w.open(t, fixture.C(t, "together"), loader.WithLogger(slog.New(&lineCount{})),
			loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) {
				for inside.Add(1); inside.Load() < 4; {
					time.Sleep(50 * time.Microsecond)
				}
				if string(in[1:]) == ":ends" && in[0] == '2' {
					runtime.Goexit()
				}
				return in, nil
			}))
		for range 3 {
			inside.Store(0)
			_, err := together(ctx, p, 4, "ends")
			require.ErrorIs(t, err, loader.ErrPanic)
			assert.ErrorContains(t, err, "ended its goroutine")
			inside.Store(0)
			answers, err := together(ctx, p, 4, "x")
			require.NoError(t, err)
			assert.Equal(t, []string{"0:x", "1:x", "2:x", "3:x"}, answers)
		}
	})
}

// What a host function ends is known to the plug-in when that has returned, and not at some later look, on whichever thread.
func TestHostFunctionEndsTheCall(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for thread := range 3 {
			var inside atomic.Int64
			ended, end := context.WithCancel(ctx)
			defer end()
			p := w.open(t, fixture.C(t, "together"), loader.WithLogger(slog.New(&lineCount{})),
				loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) {
					for inside.Add(1); inside.Load() < 3; {
						time.Sleep(50 * time.Microsecond)
					}
					if int(in[0]-'0') == thread {
						end()
					}
					return in, nil
				}))
			answers, err := together(ended, p, 3, "?")
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("%d:?cancelled", thread), answers[thread])
		}
	})
}

// Lanes that a worker got for threads take none from calls, nor from views.
func TestAllCallsBesideThreads(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		const calls = 256
		var inside atomic.Int64
		var want int64 = 20
		p := w.open(t, fixture.C(t, "together"), loader.WithLogger(slog.New(&lineCount{})),
			loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) {
				inside.Add(1)
				for deadline := time.Now().Add(time.Minute); inside.Load() < want; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						return nil, fmt.Errorf("%d of %d", inside.Load(), want)
					}
				}
				return in, nil
			}))
		_, err := together(ctx, p, int(want), "x")
		require.NoError(t, err)
		inside.Store(0)
		want = calls
		var all sync.WaitGroup
		for range calls {
			all.Go(func() {
				answers, err := together(ctx, p, 1, "x")
				assert.NoError(t, err)
				assert.Equal(t, []string{"0:x"}, answers)
			})
		}
		all.Wait()
		if !w.isolated {
			return
		}
		want = 0
		f := function(t, p, "together")
		for range calls {
			v, err := f.View(ctx, []byte("\x01x"))
			require.NoError(t, err)
			defer v.Release()
		}
		_, err = f.View(ctx, []byte("\x01x"))
		assert.ErrorIs(t, err, loader.ErrViews)
	})
}

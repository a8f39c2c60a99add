package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

var ctx = context.Background()

// crowd is served in the place of a library: functions that take any number of calls at a time.
const crowd = "crowd"

// crowded is that. gather holds calls until as many are there as the input says, and then asks the host for the answer; ask does so at once.
func crowded() *builtin.Plugin {
	var inside atomic.Int64
	all := make(chan struct{})
	gathered := sync.OnceFunc(func() { close(all) })
	ask := func(ctx context.Context, in []byte) ([]byte, error) {
		return builtin.Import(ctx, "answer", in[:min(len(in), 1024)])
	}
	return &builtin.Plugin{Name: crowd, Version: "1", Threads: abi.Concurrent, Imports: []string{"answer"}, Funcs: []builtin.Function{
		{Name: "echo", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
		{Name: "ask", Call: ask},
		{Name: "gather", Call: func(ctx context.Context, in []byte) ([]byte, error) {
			number, _, _ := strings.Cut(string(in), " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				return nil, err
			}
			if inside.Add(1) == int64(n) {
				gathered()
			}
			select {
			case <-all:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return ask(ctx, in)
		}},
	}}
}

// TestManyCallers: a host makes as many calls at once as it likes, by one session, which the sidecar has up to what rule W7 allows at a time. Those wait for answers of the host's, which come
// behind the others in the same stream.
func TestManyCallers(t *testing.T) {
	callers, together := 10_000, wire.MaxCalls
	if raceDetector { // which knows some 8,000 goroutines
		callers, together = 1000, 500
	}
	for _, by := range ways(t) {
		t.Run(by.name, func(t *testing.T) {
			p, err := by.open(t, crowd, loader.WithHostFunc("answer", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
			require.NoError(t, err)
			defer func() { assert.NoError(t, p.Close()) }()
			for _, name := range []string{"echo", "gather"} {
				var running sync.WaitGroup
				errs := make(chan error, callers)
				for i := range callers {
					running.Go(func() {
						in := fmt.Appendf(nil, "%d %d ", together, i)
						in = append(in, make([]byte, 1024-len(in))...)
						out, err := p.Call(ctx, name, in)
						if err == nil && !bytes.Equal(in, out) {
							err = fmt.Errorf("found %.20q, expected %.20q", out, in)
						}
						errs <- err
					})
				}
				running.Wait()
				for range callers {
					require.NoError(t, <-errs)
				}
			}
		})
	}
}

// asked is a call of the host function, which waits for its answer.
type asked struct {
	ctx    context.Context
	answer chan error
}

// asking opens the plug-in whose calls of the host come as they are made.
func asking(t *testing.T) (*loader.Plugin, <-chan asked) {
	came := make(chan asked, wire.MaxCalls)
	p, err := ways(t)[0].open(t, crowd, loader.WithHostFunc("answer", func(ctx context.Context, in []byte) ([]byte, error) {
		a := asked{ctx, make(chan error, 1)}
		came <- a
		return in, <-a.answer
	}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p, came
}

// findsNoRoom makes a call that waits until its context ends. How long it takes to come to that is not known.
func findsNoRoom(t *testing.T, p *loader.Plugin, in []byte) {
	for err, long := error(nil), time.Millisecond; err == nil || !strings.Contains(err.Error(), "there was no room for it by then (rule W7 of docs/wire.md)"); long *= 2 {
		ended, cancel := context.WithTimeout(ctx, long)
		_, err = p.Call(ended, "echo", in)
		cancel()
		require.ErrorIs(t, err, loader.ErrCancelled)
	}
}

// TestCallsWaitForRoom: where a session has as many calls without an answer as rule W7 allows, others wait until their context ends, or one of those is answered. What comes from one of them
// is refused only where all of them wait for such.
func TestCallsWaitForRoom(t *testing.T) {
	p, came := asking(t)
	var running sync.WaitGroup
	errs := make(chan error, wire.MaxCalls)
	for range wire.MaxCalls {
		running.Go(func() {
			_, err := p.Call(ctx, "ask", nil)
			errs <- err
		})
	}
	var all []asked
	for range wire.MaxCalls {
		all = append(all, <-came)
	}

	findsNoRoom(t, p, nil)

	waits := make(chan error, 2) // for the one that is answered
	go func() {
		_, err := p.Call(ctx, "echo", nil)
		waits <- err
	}()
	go func() {
		_, err := p.Call(all[1].ctx, "echo", nil)
		waits <- err
	}()
	all[0].answer <- nil
	require.NoError(t, <-errs)
	require.NoError(t, <-waits)
	require.NoError(t, <-waits)

	again := make(chan error, 1) // in the room that is left now
	go func() {
		_, err := p.Call(ctx, "ask", nil)
		again <- err
	}()
	all[0] = <-came
	var refused atomic.Int64
	for _, a := range all {
		if raceDetector { // which knows too few goroutines
			a.answer <- nil
			continue
		}
		go func() {
			_, err := p.Call(a.ctx, "echo", nil)
			var called *loader.CallError
			if errors.As(err, &called) && called.Status == abi.StatusNoMemory {
				refused.Add(1)
				err = nil
			}
			a.answer <- err
		}()
	}
	running.Wait()
	for range wire.MaxCalls - 1 {
		require.NoError(t, <-errs)
	}
	require.NoError(t, <-again)
	if !raceDetector {
		assert.Equal(t, int64(1), refused.Load())
	}
}

// TestLongCallsWaitForRoom: the same of the bytes of inputs. What fits goes on meanwhile.
func TestLongCallsWaitForRoom(t *testing.T) {
	p, came := asking(t)
	in := make([]byte, 100<<20)
	outcome := make(chan error, 2)
	var both []asked
	for range 2 {
		go func() {
			_, err := p.Call(ctx, "ask", in)
			outcome <- err
		}()
		both = append(both, <-came)
	}
	findsNoRoom(t, p, in)
	_, err := p.Call(ctx, "echo", []byte("short"))
	require.NoError(t, err)

	from := make(chan error, 2) // from each of the two; the second one closes the circle
	for _, a := range both {
		go func() {
			_, err := p.Call(a.ctx, "echo", in)
			from <- err
		}()
	}
	var called *loader.CallError
	require.ErrorAs(t, <-from, &called)
	assert.Equal(t, abi.StatusNoMemory, called.Status)
	assert.Equal(t, "there is no room for it beside the calls that wait for it (rule W7 of docs/wire.md)", called.Message)
	for _, a := range both { // whichever was refused
		a.answer <- nil
		require.NoError(t, <-outcome)
	}
	require.NoError(t, <-from)
}

package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
)

// exclusive is a plug-in whose functions find out whether they are alone in their instance.
func exclusive(inside *[]atomic.Int32, starts, stops *atomic.Int32) *testPlugin {
	enter := func(ctx context.Context) (leave func(), alone bool) {
		n := &(*inside)[ctx.Value(number{}).(int)]
		alone = n.Add(1) == 1
		return func() { n.Add(-1) }, alone
	}
	return &testPlugin{Exclusive: true, Threads: abi.Concurrent,
		Start: func(context.Context, []byte) (any, error) { starts.Add(1); return nil, nil },
		Stop:  func(any) { stops.Add(1) },
		Funcs: []testFunc{
			{Name: "works", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				leave, alone := enter(ctx)
				defer leave()
				if !alone {
					return nil, errors.New("not alone")
				}
				return in, nil
			}},
			{Name: "panics", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				leave, alone := enter(ctx)
				defer leave()
				if !alone {
					return nil, errors.New("not alone")
				}
				panic("a fault")
			}},
		}}
}

// number is the key of the instance's number in what a test's function gets.
type number struct{}

// Calls that claim instances, those that wait, panics, sessions, new settings, a plug-in that is held and its end: every call has its own right
// outcome, and is alone in its instance.
func TestClaims(t *testing.T) {
	const instances, callers = 3, 8
	var starts, stops, calls atomic.Int32
	inside := make([]atomic.Int32, 1000)
	plugin := exclusive(&inside, &starts, &stops)
	code := plugin.code()
	code.Spare = 2
	code.Call = func(c *Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
		out, err := plugin.Funcs[fn].Call(context.WithValue(c.Context(), number{}, c.Number()), in)
		if err != nil {
			return append(dst, err.Error()...), abi.StatusFailed, nil
		}
		return append(dst, out...), abi.StatusOK, nil
	}
	p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: instances})
	require.NoError(t, err)
	ended := make(chan struct{})
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if n%2 == 1 {
				ctx, cancel = context.WithCancel(ctx)
			}
			defer cancel()
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				default:
				}
				fn, want := 0, abi.StatusOK
				if i%500 == 499 {
					fn, want = 1, abi.StatusPanic
				}
				in := fmt.Append(nil, n, i)
				out, status, err := p.Append(ctx, engine.Fn{Index: fn}, nil, in)
				if !assert.NoError(t, err) || !assert.Equal(t, want, status, "%s", out) || want == abi.StatusOK && !assert.Equal(t, string(in), string(out)) {
					return
				}
				calls.Add(1)
			}
		})
	}
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
			}
			switch i % 3 {
			case 0:
				_, _, err := p.Configure(context.Background(), []byte("new"))
				assert.NoError(t, err)
			case 1:
				h, err := p.Hold(context.Background())
				if assert.NoError(t, err) {
					for n := range inside[:instances+2] {
						assert.Zero(t, inside[n].Load(), "no call runs")
					}
					h.Release()
				}
			case 2:
				s, err := p.NewSession(context.Background(), nil)
				if assert.NoError(t, err) {
					out, status, err := s.Append(context.Background(), engine.Fn{}, nil, []byte("s"))
					assert.NoError(t, err)
					assert.Equal(t, abi.StatusOK, status)
					assert.Equal(t, "s", string(out))
					assert.NoError(t, s.Close())
				}
			}
		}
	})
	time.Sleep(300 * time.Millisecond)
	close(ended)
	all.Wait()
	require.NoError(t, p.Close())
	_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
	assert.ErrorIs(t, err, engine.ErrClosed)
	assert.Positive(t, calls.Load())
	assert.Equal(t, starts.Load(), stops.Load())
}

// While calls are inside that the lock does not know of, Close waits for them, and Shutdown counts them.
func TestClaimedCallsAreKnown(t *testing.T) {
	g := newDoor()
	plugin := &testPlugin{Exclusive: true, Funcs: []testFunc{{Name: "f", Call: g.call}}}
	p, err := Open(context.Background(), plugin.code(), quietHost{}, &engine.Options{Instances: 2})
	require.NoError(t, err)
	done := make(chan error)
	for range 2 {
		go func() {
			_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
			done <- err
		}()
		<-g.entered
	}
	assert.Empty(t, p.calls, "they have claimed their instances")
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	var unfinished *engine.Unfinished
	require.ErrorAs(t, p.Shutdown(short), &unfinished)
	assert.Equal(t, 2, unfinished.Calls)
	for range 2 {
		g.leave <- ""
		require.NoError(t, <-done)
	}
	require.NoError(t, p.Close())
}

// BenchmarkClaim is a call of an instance that takes one at a time, without what the function does; the same for all processors at a time; and one
// whose context may end.
func BenchmarkClaim(b *testing.B) {
	plugin := &testPlugin{Exclusive: true, Threads: abi.Concurrent, Funcs: []testFunc{{Name: "f"}}}
	code := plugin.code()
	code.Call = func(_ *Call, _ int, dst, _ []byte) ([]byte, abi.Status, error) { return dst, abi.StatusOK, nil }
	p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: 8})
	require.NoError(b, err)
	defer p.Close()
	ending, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, ctx := range map[string]context.Context{"background": context.Background(), "ending": ending} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := p.Append(ctx, engine.Fn{}, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

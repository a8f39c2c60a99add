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
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// tenant is what was started in an instance: who is in it, and whether it was stopped.
type tenant struct {
	inside  atomic.Int32
	stopped atomic.Bool
}

// house is a plug-in whose functions find out whether they are alone, in what was started and among all that has its number.
type house struct {
	inside        [1000]atomic.Int32 // by number
	starts, stops atomic.Int32
}

// enter is for whoever begins to run something. Whoever gets an error leaves, too.
func (h *house) enter(c *Call) (leave func(), err error) {
	at, by := c.State().(*tenant), &h.inside[c.Number()]
	inside, numbered := at.inside.Add(1), by.Add(1)
	switch {
	case at.stopped.Load():
		err = errors.New("it was stopped")
	case inside != 1:
		err = errors.New("not alone in what was started")
	case numbered != 1:
		err = fmt.Errorf("not alone as number %d", c.Number())
	}
	return func() { by.Add(-1); at.inside.Add(-1) }, err
}

// The functions of a house.
const (
	fnWorks = iota
	fnPanics
)

func (h *house) code() *Code {
	code := (&testPlugin{Exclusive: true, Threads: abi.Concurrent, Funcs: []testFunc{{Name: "works"}, {Name: "panics"}}}).code()
	code.Start = func(c *Call, _ []byte) ([]byte, abi.Status, error) {
		h.starts.Add(1)
		c.SetState(new(tenant))
		return nil, abi.StatusOK, nil
	}
	code.Call = func(c *Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
		leave, err := h.enter(c)
		defer leave()
		switch {
		case err != nil:
			return append(dst, err.Error()...), abi.StatusFailed, nil
		case fn == fnPanics:
			panic("a fault")
		}
		return append(dst, in...), abi.StatusOK, nil
	}
	code.Stop = func(c *Call) {
		h.stops.Add(1)
		at := c.State().(*tenant)
		if at.stopped.Swap(true) || at.inside.Load() != 0 {
			panic("it is stopped twice, or a call is in it")
		}
	}
	return code
}

// loudHost fails a test whose Stop panics.
type loudHost struct {
	quietHost
	t *testing.T
}

func (h loudHost) Log(_ context.Context, level abi.Level, text, _ []byte) {
	if level == abi.LogWarn {
		h.t.Errorf("%s", text)
	}
}

// ways are the ways to call.
var ways = []struct {
	name string
	call func(p engine.Plugin, ctx context.Context, fn engine.Fn, in []byte) (out []byte, status abi.Status, err error)
}{
	{"Append", func(p engine.Plugin, ctx context.Context, fn engine.Fn, in []byte) ([]byte, abi.Status, error) {
		return p.Append(ctx, fn, nil, in)
	}},
	{"View", func(p engine.Plugin, ctx context.Context, fn engine.Fn, in []byte) ([]byte, abi.Status, error) {
		v, status, err := p.View(ctx, fn, in)
		if err != nil {
			return nil, status, err
		}
		defer v.Release()
		return v.Bytes, status, nil
	}},
	{"Stream", func(p engine.Plugin, ctx context.Context, fn engine.Fn, in []byte) ([]byte, abi.Status, error) {
		return p.Stream(ctx, fn, nil, in, new(stream.Streams))
	}},
	{"Batch", func(p engine.Plugin, ctx context.Context, fn engine.Fn, in []byte) ([]byte, abi.Status, error) {
		var b engine.Batch
		if err := p.Batch(ctx, fn, [][]byte{in}, &b); err != nil {
			return nil, 0, err
		}
		return b.Out, b.Records[0].Status, nil
	}},
}

// Calls that claim instances, in each way to call, those that wait, panics, sessions, new settings, a plug-in that is held and its end: every call has
// its own right outcome, and is alone in its instance; nothing is stopped that a call is in.
func TestClaims(t *testing.T) {
	const instances, spare, callers, rounds = 3, 2, 8, 60
	var h house
	code := h.code()
	code.Spare = spare
	p, err := Open(context.Background(), code, loudHost{t: t}, &engine.Options{Instances: instances})
	require.NoError(t, err)
	ended := make(chan struct{})
	var calling, changing sync.WaitGroup
	var calls atomic.Int32
	for n := range callers {
		calling.Go(func() {
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
				in := fmt.Append(nil, n, i)
				way := 0
				if i%8 == 7 {
					way = i / 8 % len(ways)
				}
				out, status, err := ways[way].call(p, ctx, engine.Fn{Index: fnWorks}, in)
				if !assert.NoError(t, err) || !assert.Equal(t, abi.StatusOK, status, "%s: %s", ways[way].name, out) || !assert.Equal(t, string(in), string(out)) {
					return
				}
				calls.Add(1)
				if i%500 == 499 {
					out, status, err := p.Append(ctx, engine.Fn{Index: fnPanics}, nil, nil)
					if !assert.NoError(t, err) || !assert.Equal(t, abi.StatusPanic, status, "a call that panics: %s", out) {
						return
					}
				}
			}
		})
	}
	inSession := func(s engine.Plugin) bool {
		out, status, err := s.Append(context.Background(), engine.Fn{Index: fnWorks}, nil, []byte("s"))
		return assert.NoError(t, err) && assert.Equal(t, abi.StatusOK, status, "a session's call: %s", out) && assert.Equal(t, "s", string(out))
	}
	lasting, err := p.NewSession(context.Background(), nil)
	require.NoError(t, err)
	calling.Go(func() {
		for inSession(lasting) {
			select {
			case <-ended:
				return
			default:
			}
		}
	})
	changes := func(change func()) {
		changing.Go(func() {
			for range rounds {
				before := calls.Load()
				change()
				for calls.Load() == before && !t.Failed() { // calls have come in between
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	changes(func() {
		_, _, err := p.Configure(context.Background(), []byte("new"))
		assert.NoError(t, err)
	})
	changes(func() {
		held, err := p.Hold(context.Background())
		if assert.NoError(t, err) {
			for n := range h.inside[:instances+spare] {
				assert.Zero(t, h.inside[n].Load(), "number %d has a call, while the plug-in is held", n)
			}
			held.Release()
		}
	})
	for range 2 {
		changes(func() {
			s, err := p.NewSession(context.Background(), nil)
			if assert.NoError(t, err) {
				inSession(s)
				assert.NoError(t, s.Close())
			}
		})
	}
	changing.Wait()
	close(ended)
	calling.Wait()
	require.NoError(t, p.Close())
	_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
	assert.ErrorIs(t, err, engine.ErrClosed)
	assert.Equal(t, h.starts.Load(), h.stops.Load())
}

// What shuts a plug-in's gate waits for the calls that run, whether the lock knows of them or not; and none begins until the gate is open, in
// whichever way it is made.
func TestNobodyPassesTheGate(t *testing.T) {
	configure := func(p *Pool, until <-chan struct{}, code *Code, shut chan<- struct{}) {
		control := func(*Call, []byte) ([]byte, abi.Status, error) {
			shut <- struct{}{}
			<-until
			return nil, abi.StatusOK, nil
		}
		if code.Configure != nil {
			code.Configure = control
		} else {
			code.Start = control
		}
		_, status, err := p.Configure(context.Background(), nil)
		assert.NoError(t, err)
		assert.Equal(t, abi.StatusOK, status)
	}
	for _, c := range []struct {
		name string
		shut func(p *Pool, until <-chan struct{}, code *Code, shut chan<- struct{})
	}{
		{"Hold", func(p *Pool, until <-chan struct{}, _ *Code, shut chan<- struct{}) {
			h, err := p.Hold(context.Background())
			assert.NoError(t, err)
			shut <- struct{}{}
			<-until
			h.Release()
		}},
		{"Configure", configure},
		{"new instances", configure},
	} {
		for _, exclusive := range []bool{true, false} {
			for _, way := range ways {
				t.Run(fmt.Sprintf("%s, exclusive %t, %s", c.name, exclusive, way.name), func(t *testing.T) {
					g := newDoor()
					nothing := func(*Call, []byte) ([]byte, abi.Status, error) { return nil, abi.StatusOK, nil }
					code := (&testPlugin{Exclusive: exclusive, Funcs: []testFunc{{Name: "f", Call: g.call}}}).code()
					code.Start = nothing
					if c.name == "Configure" {
						code.Configure = nothing
					}
					p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: 2})
					require.NoError(t, err)
					done := make(chan error)
					call := func(in string) {
						_, _, err := way.call(p, context.Background(), engine.Fn{}, []byte(in))
						done <- err
					}
					go call("inside")
					require.Equal(t, "inside", <-g.entered)
					shut, until, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
					go func() {
						defer close(over)
						c.shut(p, until, code, shut)
					}()
					require.Eventually(t, func() bool {
						p.mu.Lock()
						defer p.mu.Unlock()
						return p.gate != nil
					}, time.Minute, 100*time.Microsecond)
					select {
					case <-shut:
						t.Fatal("a call is inside")
					default:
					}
					g.leave <- ""
					require.NoError(t, <-done)
					<-shut
					go call("outside")
					require.Eventually(t, func() bool {
						p.mu.Lock()
						defer p.mu.Unlock()
						return p.waiting.Len() == 1 || len(g.entered) > 0
					}, time.Minute, 100*time.Microsecond)
					assert.Empty(t, g.entered, "the gate is shut")
					if c.name != "Hold" { // there is another instance
						until <- struct{}{}
						<-shut
						assert.Empty(t, g.entered)
					}
					close(until)
					assert.Equal(t, "outside", <-g.entered)
					g.leave <- ""
					require.NoError(t, <-done)
					<-over
					require.NoError(t, p.Close())
				})
			}
		}
	}
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

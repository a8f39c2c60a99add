package pool

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// quietHost is a host without functions.
type quietHost struct{}

func (quietHost) Call(context.Context, uint32, []byte) ([]byte, abi.Status) {
	return nil, abi.StatusMisuse
}
func (quietHost) Overdue(*engine.Limit) {}

func (quietHost) Panicked(context.Context, uint32, any) ([]byte, abi.Status) {
	return nil, abi.StatusFailed
}
func (quietHost) Log(context.Context, abi.Level, []byte, []byte) {}

// testPlugin is a plug-in in Go.
type testPlugin struct {
	Threads   abi.Threads
	Exclusive bool
	Funcs     []testFunc
	Start     func(ctx context.Context, config []byte) (any, error)
	Stop      func(state any)
}

type testFunc struct {
	Name string
	Call func(ctx context.Context, in []byte) ([]byte, error)
}

func (p *testPlugin) code() *Code {
	about := &abi.Description{Manifest: &abi.Manifest{Name: "p", Version: "1", Threads: p.Threads}}
	for _, f := range p.Funcs {
		about.Funcs = append(about.Funcs, abi.Symbol{Name: f.Name})
	}
	said := func(dst, out []byte, err error) ([]byte, abi.Status, error) {
		if err != nil {
			return append(dst, err.Error()...), abi.StatusFailed, nil
		}
		return append(dst, out...), abi.StatusOK, nil
	}
	code := &Code{About: about, Exclusive: p.Exclusive, Names: Names{Start: "Start", Stop: "Stop"},
		Call: func(c *Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
			ctx := context.Context(c)
			if p.Exclusive {
				ctx = c.Context()
			}
			out, err := p.Funcs[fn].Call(ctx, in)
			return said(dst, out, err)
		}}
	if p.Start != nil {
		code.Start = func(c *Call, config []byte) ([]byte, abi.Status, error) {
			state, err := p.Start(c, config)
			c.SetState(state)
			return said(nil, nil, err)
		}
	}
	if p.Stop != nil {
		code.Stop = func(c *Call) { p.Stop(c.State()) }
	}
	return code
}

func opened(t testing.TB, p *testPlugin, o engine.Options) *Pool {
	t.Helper()
	o.Instances = max(o.Instances, 1)
	e, err := Open(context.Background(), p.code(), quietHost{}, &o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// untilWaiting returns when n calls wait for a place.
func (p *Pool) untilWaiting(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.waiting.Len() == n
	}, time.Minute, 100*time.Microsecond)
}

// door is a function that says that it is entered, with its input, and returns when it is let go.
type door struct{ entered, leave chan string }

func newDoor() door { return door{make(chan string, 100), make(chan string)} }

func (g door) call(_ context.Context, in []byte) ([]byte, error) {
	g.entered <- string(in)
	<-g.leave
	return nil, nil
}

// As many calls as may are inside, and all others wait, in the order in which they came.
func TestQueue(t *testing.T) {
	for _, c := range []struct {
		threads abi.Threads
		o       engine.Options
		inside  int
	}{
		{abi.Serial, engine.Options{}, 1},
		{abi.Serial, engine.Options{Instances: 3}, 3},
		{abi.Pinned, engine.Options{Instances: 2}, 2},
		{abi.Concurrent, engine.Options{MaxCalls: 4}, 4},
		{abi.Concurrent, engine.Options{Instances: 2, MaxCalls: 3}, 3},
	} {
		t.Run(fmt.Sprint(c.threads, c.inside), func(t *testing.T) {
			g := newDoor()
			p := opened(t, &testPlugin{Threads: c.threads, Funcs: []testFunc{{Name: "f", Call: g.call}}}, c.o)
			done := make(chan error)
			begin := func(i int) {
				go func() {
					_, _, err := p.Append(context.Background(), engine.Fn{}, nil, fmt.Append(nil, i))
					done <- err
				}()
			}
			for i := range c.inside {
				begin(i)
				assert.Equal(t, fmt.Sprint(i), <-g.entered)
			}
			for i := range 5 {
				begin(c.inside + i)
				p.untilWaiting(t, i+1)
			}
			assert.Empty(t, g.entered)
			for i := range 5 {
				g.leave <- ""
				assert.Equal(t, fmt.Sprint(c.inside+i), <-g.entered, "who came first")
				require.NoError(t, <-done)
			}
			for range c.inside {
				g.leave <- ""
				require.NoError(t, <-done)
			}
		})
	}
}

// A batch gives others their turn after some of its records.
func TestBatchLetsOthersIn(t *testing.T) {
	var p *Pool
	records, others, at := 0, 0, -1
	plugin := &testPlugin{Funcs: []testFunc{
		{Name: "other", Call: func(context.Context, []byte) ([]byte, error) { others++; at = records; return nil, nil }},
		{Name: "record", Call: func(context.Context, []byte) ([]byte, error) { records++; return nil, nil }},
	}}
	p = opened(t, plugin, engine.Options{})
	g, entered := make(chan struct{}), make(chan struct{})
	plugin.Funcs[1].Call = func(context.Context, []byte) ([]byte, error) {
		if records++; records == 1 {
			close(entered)
			<-g
		}
		return nil, nil
	}
	done := make(chan error)
	var b engine.Batch
	go func() { done <- p.Batch(context.Background(), engine.Fn{Index: 1}, make([][]byte, 3*batchSize), &b) }()
	<-entered
	go func() {
		_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
		done <- err
	}()
	p.untilWaiting(t, 1)
	close(g)
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	assert.Len(t, b.Records, 3*batchSize)
	assert.Equal(t, 1, others)
	assert.Equal(t, batchSize, at)
}

// What a call could wait for is known: every call alone, those of an instance that panicked together, and what is free.
func TestHolders(t *testing.T) {
	g := newDoor()
	p := opened(t, &testPlugin{Threads: abi.Concurrent, Funcs: []testFunc{{Name: "f", Call: g.call},
		{Name: "panics", Call: func(context.Context, []byte) ([]byte, error) { panic("a fault") }}}}, engine.Options{MaxCalls: 3})
	done := make(chan struct{})
	for range 2 {
		go func() {
			_, _, _ = p.Append(context.Background(), engine.Fn{}, nil, nil)
			done <- struct{}{}
		}()
		<-g.entered
	}
	sets := p.Holders()
	require.Len(t, sets, 3)
	assert.Equal(t, []*callctx.Call{nil}, sets[0], "there is room for a third")
	_, status, err := p.Append(context.Background(), engine.Fn{Index: 1}, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, abi.StatusPanic, status)
	sets = p.Holders()
	require.Len(t, sets, 1, "both have to end")
	assert.Len(t, sets[0], 2)
	for range 2 {
		g.leave <- ""
		<-done
	}
}

// Of several instances each that has panicked is started anew by the next call, and Stop hears of each, with a Start or without.
func TestEachIsRenewed(t *testing.T) {
	for _, threads := range []abi.Threads{abi.Serial, abi.Concurrent, abi.Pinned} {
		for _, starts := range []bool{true, false} {
			started, stopped := 0, 0
			plugin := &testPlugin{Threads: threads, Stop: func(any) { stopped++ }, Funcs: []testFunc{
				{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }},
				{Name: "panics", Call: func(context.Context, []byte) ([]byte, error) { panic("a fault") }}}}
			if starts {
				plugin.Start = func(context.Context, []byte) (any, error) { started++; return nil, nil }
			}
			p, err := Open(context.Background(), plugin.code(), quietHost{}, &engine.Options{Instances: 4})
			require.NoError(t, err)
			for range 3 {
				_, status, err := p.Append(context.Background(), engine.Fn{Index: 1}, nil, nil)
				require.NoError(t, err)
				require.Equal(t, abi.StatusPanic, status)
				_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
				require.NoError(t, err)
			}
			assert.Equal(t, 3, stopped)
			require.NoError(t, p.Close())
			assert.Equal(t, 7, stopped)
			if starts {
				assert.Equal(t, 7, started)
			}
		}
	}
}

// A Start that ends its goroutine is an error of Open, and those that were started before are stopped.
func TestStartEndsItsGoroutine(t *testing.T) {
	for _, threads := range []abi.Threads{abi.Serial, abi.Concurrent, abi.Pinned} {
		started, stopped := 0, 0
		plugin := &testPlugin{Threads: threads,
			Start: func(context.Context, []byte) (any, error) {
				if started++; started == 3 {
					runtime.Goexit()
				}
				return nil, nil
			},
			Stop: func(any) { stopped++ }}
		_, err := Open(context.Background(), plugin.code(), quietHost{}, &engine.Options{Instances: 4})
		var failed *engine.StartError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, abi.StatusPanic, failed.Status)
		assert.Equal(t, "it ended its goroutine", failed.Message)
		assert.Equal(t, 2, stopped)
	}
}

package native

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

type noHost struct{}

func (noHost) Call(context.Context, uint32, []byte) ([]byte, abi.Status) { return nil, 0 }
func (noHost) Overdue(*engine.Limit)                                     {}

func (noHost) Panicked(context.Context, uint32, any) ([]byte, abi.Status) {
	return nil, abi.StatusFailed
}
func (noHost) Log(context.Context, abi.Level, []byte, []byte) {}

func start(t *testing.T, library string, o Options) *Plugin {
	t.Helper()
	image, err := Load(context.Background(), fixture.C(t, library), LoadOptions{Accept: func(*inspect.Library) error { return nil }})
	require.NoError(t, err)
	o.Host = noHost{}
	p, err := New(image, o)
	require.NoError(t, err)
	return p
}

// within fails the test when fn takes so long that it must be stuck.
func within(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(40 * time.Second):
		stacks := make([]byte, 1<<20)
		panic(fmt.Sprintf("stuck:\n%s", stacks[:runtime.Stack(stacks, true)])) // on whatever goroutine this is
	}
}

// model is what must hold of slots, whatever the schedule: a slot has one owner at most, who took it from its own engine,
// and none when the engine is closed. An instance's control slot is nobody's to take.
type model struct {
	t      *testing.T
	mu     sync.Mutex
	owners map[*slot]*Plugin
	closed map[*Plugin]bool
	known  []*slot // of all engines, the closed ones, too
	sound  bool    // whether each engine has an instance that is never poisoned, and slots without end: then no call is refused
}

// knows says that somebody has, and may keep, the slots of an engine.
func (m *model) knows(p *Plugin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = append(m.known, *p.slots.Load()...)
	for _, inst := range p.instances {
		m.known = append(m.known, inst.control)
	}
}

func (m *model) any(random *rand.Rand) *slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[random.IntN(len(m.known))]
}

func (m *model) took(p *Plugin, s *slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !assert.Nil(m.t, m.owners[s], "a slot has two owners") || !assert.Same(m.t, p, s.plugin, "a slot of another engine") {
		return
	}
	assert.False(m.t, m.closed[p], "a slot of a closed engine")
	m.owners[s] = p
}

func (m *model) gives(p *Plugin, s *slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	assert.Same(m.t, p, m.owners[s], "the owner has lost it")
	delete(m.owners, s)
}

// nested makes a call that comes from the one that has s, whose instance is poisoned.
func (m *model) nested(p *Plugin, s *slot) {
	own, ok := s.visit()
	if !assert.True(m.t, ok) {
		return
	}
	defer s.leave(own)
	inner, err := p.acquire(s.hostContext())
	if errors.Is(err, engine.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if assert.NoError(m.t, err, "another instance is sound") {
		m.took(p, inner)
		assert.NotSame(m.t, s.inst, inner.inst, "poisoned")
		m.gives(p, inner)
		p.release(inner)
	}
}

// closes says that Close has returned.
func (m *model) closes(p *Plugin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed[p] = true
	for _, owner := range m.owners {
		assert.NotSame(m.t, p, owner, "Close has not waited")
	}
}

// life is one engine from its start to its end, with calls, threads of a plug-in and panics, all at once.
func (m *model) life(library string, o Options, calls, threads int, random *rand.Rand) {
	p := start(m.t, library, o)
	p.calledBack = true
	m.knows(p)
	all := *p.slots.Load()
	var work sync.WaitGroup
	var over atomic.Bool
	for range calls {
		seed := random.Uint64()
		work.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for {
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				switch random.IntN(4) {
				case 0:
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(300))*time.Microsecond)
				case 1:
					ctx, cancel = context.WithCancel(ctx)
				case 2:
					ctx = context.WithValue(ctx, m, 1)
				}
				stress.Yield()
				s, err := p.acquire(ctx)
				if err != nil {
					cancel()
					if errors.Is(err, engine.ErrClosed) {
						return
					}
					assert.ErrorIs(m.t, err, context.DeadlineExceeded)
					continue
				}
				m.took(p, s)
				s.claim()
				for range random.IntN(3) {
					stress.Yield()
					runtime.Gosched()
				}
				if random.IntN(3) == 0 { // a host function is called
					own, ok := s.visit()
					assert.True(m.t, ok, "the owner's own service is refused")
					c := s.hostContext()
					assert.Same(m.t, c, s.hostContext(), "one call has one context")
					s.leave(own)
				}
				if random.IntN(40) == 0 && (!m.sound || s.inst != p.instances[0]) {
					s.inst.poisoned.Store(true)
					if m.sound {
						m.nested(p, s)
					}
				}
				m.gives(p, s)
				p.release(s)
				cancel()
			}
		})
	}
	// Threads of the plug-in that use frames whenever they like, for host functions whose result is kept.
	for range threads {
		seed := random.Uint64()
		work.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for !over.Load() {
				s := all[random.IntN(len(all))]
				if s.enter() {
					stress.Yield()
					if s.plugin == p {
						_ = s.hostContext()
						s.kept.keep([]byte("kept"), abi.StatusOK)
						s.attend()
					}
					s.exit()
				}
				runtime.Gosched()
			}
		})
	}
	// One that has the slots of engines that are closed, and takes whatever is idle, as a call does that comes late.
	seed := random.Uint64()
	work.Go(func() {
		random := rand.New(rand.NewPCG(seed, 3))
		for !over.Load() {
			if s := m.any(random); s.tryAcquire() {
				its := s.plugin
				if assert.NotSame(m.t, s, s.inst.control, "it is for ferrule_start and ferrule_stop") {
					m.took(its, s)
					stress.Yield()
					m.gives(its, s)
				}
				its.release(s)
			}
			runtime.Gosched()
		}
	})
	time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
	within(m.t, func() { assert.NoError(m.t, p.Close()) })
	m.closes(p)
	over.Store(true)
	within(m.t, work.Wait)
}

// The protocol by which slots are taken, given back, waited for, renewed and closed, against the model. With the build tag
// ferrule_stress each step of it is a place where others may come in between.
func TestSlotProtocol(t *testing.T) {
	for _, c := range []struct {
		name, library string
		options       Options
	}{
		{"serial", "threads_serial", Options{Instances: 1}},
		{"two instances", "threads_serial", Options{Instances: 2}},
		{"concurrent", "threads_concurrent", Options{Instances: 1}},
		{"concurrent, bounded", "threads_concurrent", Options{Instances: 2, MaxCalls: 3}},
		{"concurrent, one stays sound", "threads_concurrent", Options{Instances: 3}},
		{"pinned", "threads_pinned", Options{Instances: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(12) {
				random := rand.New(rand.NewPCG(seed, 0))
				m := &model{t: t, owners: make(map[*slot]*Plugin), closed: make(map[*Plugin]bool), sound: c.options.Instances > 2}
				// Lives one after the other and beside each other: they take over each other's slots.
				var lives sync.WaitGroup
				for range 2 {
					own := rand.New(rand.NewPCG(random.Uint64(), 0))
					lives.Go(func() {
						for range 3 {
							m.life(c.library, c.options, 6, 2, own)
						}
					})
				}
				lives.Wait()
				assert.Empty(t, m.owners)
				if t.Failed() {
					t.Fatalf("with the seed %d", seed)
				}
			}
		})
	}
}

// A call that has the slots of an engine that was closed meanwhile, when they are another engine's: it gives them back to
// where they belong, wherever on its way it finds out.
func TestSlotsOfAClosedEngine(t *testing.T) {
	a := start(t, "threads_serial", Options{Instances: 2})
	stale := *a.slots.Load()
	require.NoError(t, a.Close())
	b := start(t, "threads_serial", Options{Instances: 2})
	same := 0
	for _, s := range *b.slots.Load() {
		for _, old := range stale {
			if s == old {
				same++
			}
		}
		s.attend() // as if a call of b waited
	}
	require.Positive(t, same, "the arena hands slots out again")

	a.slots.Store(&stale)
	mine := make(chan *slot, 1) // not in the queue: Close has answered
	mine <- nil
	_, err := a.wait(&callctx.Background, mine)
	assert.ErrorIs(t, err, engine.ErrClosed)
	a.mu.Lock()
	a.waiting = append(a.waiting, waiter{slot: make(chan *slot, 1)})
	a.mu.Unlock()
	soon, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	caller, err := callctx.Ask(soon)
	require.NoError(t, err)
	late := make(chan *slot, 1)
	a.mu.Lock()
	a.waiting = append(a.waiting, waiter{slot: late})
	a.mu.Unlock()
	_, err = a.wait(&caller, late) // its timer finds b's slots idle
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	for range 8 {
		_, err := a.acquire(context.Background())
		if err == nil {
			t.Fatal("not given back")
		}
		assert.ErrorIs(t, err, engine.ErrClosed)
	}
	for _, s := range *b.slots.Load() {
		assert.Equal(t, idle, s.phase.Load())
		assert.Same(t, b, s.plugin)
	}
	within(t, func() {
		_, _, err := b.Append(context.Background(), engine.Fn{}, nil, nil)
		assert.NoError(t, err)
		assert.NoError(t, b.Close())
	})
}

// The watcher looks at the slots that have calls which can end, and not at those of a spike that is over.
func TestWatcherForgets(t *testing.T) {
	p := start(t, "threads_concurrent", Options{Instances: 1, MaxCalls: 2000})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var spike []*slot
	for range 1000 {
		s, err := p.acquire(ctx)
		require.NoError(t, err)
		assert.True(t, s.watched)
		spike = append(spike, s)
	}
	for _, s := range spike {
		p.release(s)
	}
	held, err := p.acquire(ctx)
	require.NoError(t, err)
	watched := func() (n int) {
		for _, s := range *p.slots.Load() {
			if s == held {
				continue
			}
			if s.tryAcquire() {
				if s.watched {
					n++
				}
				p.release(s)
			}
		}
		return n
	}
	within(t, func() {
		for watched() > 0 {
			time.Sleep(100 * time.Millisecond) // longer than it takes the watcher to find a slot idle for long
		}
	})
	assert.True(t, held.watched, "its call runs")
	cancel()
	within(t, func() {
		for held.cancel.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	})
	p.release(held)
	require.NoError(t, p.Close())
}

// Shutdown refuses calls at once, says what still runs when its context ends, and leaves the rest to the background.
func TestShutdown(t *testing.T) {
	p := start(t, "threads_serial", Options{Instances: 2})
	s, err := p.acquire(context.Background())
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	var none context.Context
	within(t, func() {
		err = p.Shutdown(soon)
		var unfinished *engine.Unfinished
		if assert.ErrorAs(t, err, &unfinished) {
			assert.Equal(t, engine.Unfinished{Calls: 1, Cause: context.DeadlineExceeded}, *unfinished)
		}
		_, err = p.acquire(context.Background())
		assert.ErrorIs(t, err, engine.ErrClosed)
		assert.ErrorIs(t, p.Shutdown(none), engine.ErrNilContext)
	})
	p.release(s)
	within(t, func() { assert.NoError(t, p.Shutdown(context.Background()), "in the background it went on") })
	assert.NoError(t, p.Shutdown(soon), "it is closed, whatever the context")
}

// A plug-in that nothing runs in is closed by Shutdown, also when the context has ended; one that something runs in says how
// many calls, and not how many there may be.
func TestShutdownOfIdlePlugin(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, library := range []string{"threads_serial", "threads_concurrent", "threads_pinned"} {
		p := start(t, library, Options{Instances: 8})
		if err := p.Shutdown(ended); err != nil { // the machine took longer for it than Shutdown waits
			assert.Equal(t, &engine.Unfinished{Cause: context.Canceled}, err, library)
			within(t, func() { assert.NoError(t, p.Close(), library) })
		}

		p = start(t, library, Options{Instances: 8})
		s, err := p.acquire(context.Background())
		require.NoError(t, err)
		assert.Equal(t, &engine.Unfinished{Calls: 1, Cause: context.Canceled}, p.Shutdown(ended), library)
		p.release(s)
		within(t, func() { assert.NoError(t, p.Close()) })
	}
}

// Who comes with the frame of a call that is over finds no call when the slot is closed.
func TestClosingLetsNobodyIn(t *testing.T) {
	for range 200 {
		p := start(t, "threads_serial", Options{Instances: 1})
		s := (*p.slots.Load())[0]
		closed, gone := make(chan bool), make(chan bool)
		go func() {
			defer close(gone)
			for {
				select {
				case <-closed:
					return
				default:
				}
				if s.enter() {
					s.exit()
					t.Error("a host service is let in, and no call runs")
					return
				}
			}
		}()
		require.NoError(t, p.Close())
		close(closed)
		<-gone
	}
}

// View and Batch take the slot that is there, as Append does, and make no other one.
func TestSlotsDoNotGrow(t *testing.T) {
	p := start(t, "threads_concurrent", Options{Instances: 1})
	count := fnOf(t, p, "count")
	for range 100 {
		v, _, err := p.View(context.Background(), count, nil)
		require.NoError(t, err)
		v.Release()
		var b engine.Batch
		require.NoError(t, p.Batch(context.Background(), count, [][]byte{nil}, &b))
		_, _, err = p.Append(context.Background(), count, nil, nil)
		require.NoError(t, err)
	}
	assert.Len(t, *p.slots.Load(), 1)
	require.NoError(t, p.Close())
}

func fnOf(t *testing.T, p *Plugin, name string) engine.Fn {
	t.Helper()
	for i, f := range p.image.lib.Funcs {
		if f.Name == name {
			return engine.Fn{Index: i}
		}
	}
	t.Fatalf("no function %s", name)
	return engine.Fn{}
}

// A batch holds no more than it may, whatever its records leave where, and those that come when it is full are judged like
// others.
func TestBatchLimit(t *testing.T) {
	long := func(letter string, n int) []byte { return []byte(strings.Repeat(letter, n)) }
	for _, library := range []string{"batch_missing", "batch_serial", "batch_pinned"} {
		for _, c := range []struct {
			name string
			in   [][]byte
			want []abi.Status // -1 is a violation
		}{
			{"own memory", [][]byte{long("o", 60), long("o", 60), long("z", 1), long("o", 1)}, []abi.Status{0, abi.StatusNoMemory, 0, abi.StatusNoMemory}},
			{"in the room", [][]byte{long("e", 60), long("e", 60), long("z", 1), long("e", 41)}, []abi.Status{0, abi.StatusNoMemory, 0, abi.StatusNoMemory}},
			{"just full", [][]byte{long("e", 60), long("e", 40), long("z", 1), long("n", 1)}, []abi.Status{0, 0, 0, -1}},
			{"messages", [][]byte{long("f", 60), long("f", 60), long("z", 1), long("p", 1)}, []abi.Status{abi.StatusFailed, abi.StatusNoMemory, 0, abi.StatusPanic}},
			{"broken rules", [][]byte{long("o", 60), long("o", 60), long("n", 1), long("l", 1), long("z", 1)}, []abi.Status{0, abi.StatusNoMemory, -1, -1, 0}},
		} {
			t.Run(library+", "+c.name, func(t *testing.T) {
				const most = 100
				p := start(t, library, Options{Instances: 1, Outputs: Outputs{MaxBatch: most}})
				var b engine.Batch
				for range 2 { // the second time with what the first one has grown
					within(t, func() { require.NoError(t, p.Batch(context.Background(), fnOf(t, p, "record"), c.in, &b)) })
					require.Len(t, b.Records, len(c.in))
					assert.LessOrEqual(t, len(b.Out), most)
					for i, r := range b.Records {
						require.True(t, 0 <= r.Start && r.Start <= r.End && r.End <= len(b.Out), "record %d", i)
						if c.want[i] < 0 {
							assert.NotNil(t, r.Err, "record %d", i)
							continue
						}
						assert.Nil(t, r.Err, "record %d", i)
						assert.Equal(t, c.want[i], r.Status, "record %d", i)
						if r.Status == 0 && c.in[i][0] != 'z' {
							assert.Equal(t, c.in[i], b.Out[r.Start:r.End])
						}
					}
					out, _, err := p.Append(context.Background(), fnOf(t, p, "report"), nil, []byte("."))
					require.NoError(t, err)
					assert.Regexp(t, "^[0-9]+ 0$", string(out), "what the plug-in had of its own memory is released")
				}
				require.NoError(t, p.Close())
			})
		}
	}
}

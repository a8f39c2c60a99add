//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
)

// The lanes' protocol under injected schedules: actors take lanes and give them back, hold views, give up, have workers die
// and be killed, and close, and a seed says who makes the next step. After each step the engine's books must agree with
// what the actors have; and in the end everybody is back and nothing is held.

// model is one run.
type model struct {
	t      *testing.T
	random *rand.Rand
	e      *Plugin
	log    []string

	mu      sync.Mutex
	arrived []chan struct{} // those who are about to make a step
	running int             // actors that are not done
	workers []*worker
	owners  map[*hostLane]int // who has it
	viewed  map[*hostLane]bool
	closed  bool // Close or Shutdown has returned
}

// still is a process that does nothing until it is killed, or dies.
type still struct {
	ended chan struct{}
	once  sync.Once
	stays bool // it does not end when it is killed, but much later
}

func (*still) pid() int         { return 1 << 30 }
func (*still) layers() []string { return nil }
func (s *still) die()           { s.once.Do(func() { close(s.ended) }) }
func (s *still) wait() (os.Signal, int) {
	<-s.ended
	return syscall.SIGKILL, -1
}
func (*still) bury()          {}
func (*still) unsaid() string { return unsaidBySystem }
func (s *still) kill() {
	if s.stays {
		time.AfterFunc(time.Hour, s.die)
		return
	}
	s.die()
}

// step is the engine's: it waits until it is its turn.
func (m *model) step() {
	turn := make(chan struct{})
	m.mu.Lock()
	m.arrived = append(m.arrived, turn)
	m.mu.Unlock()
	<-turn
}

func (m *model) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	for _, line := range m.log[max(0, len(m.log)-60):] {
		m.t.Log(line)
	}
	m.t.Fatalf(format, args...)
}

// own and disown keep the actors' books.
func (m *model) own(l *hostLane, actor int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, taken := m.owners[l]; taken {
		m.t.Errorf("a lane of %d given to %d", other, actor)
	}
	m.owners[l] = actor
}

func (m *model) disown(l *hostLane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.owners, l)
	delete(m.viewed, l)
}

// actor makes some calls.
func (m *model) actor(number int, calls int, random *rand.Rand) {
	defer func() {
		m.mu.Lock()
		m.running--
		m.mu.Unlock()
	}()
	for range calls {
		ctx, cancel := context.WithCancel(context.Background())
		switch random.IntN(4) {
		case 0:
			time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, cancel)
		case 1:
			if random.IntN(3) == 0 {
				cancel()
			}
		}
		caller, err := callctx.Ask(ctx)
		require.NoError(m.t, err)
		l, err := m.e.acquire(&caller)
		m.say("%d takes: %v", number, err)
		if err != nil {
			var crash *engine.Crash
			known := errors.Is(err, engine.ErrClosed) || errors.Is(err, engine.ErrViews) || errors.As(err, &crash) ||
				errors.Is(err, context.Canceled) && ctx.Err() != nil
			if !known {
				m.t.Errorf("%d: %v", number, err)
			}
			cancel()
			continue
		}
		m.own(l, number)
		c := m.e.begin(l)
		if random.IntN(4) == 0 {
			if _, err := l.Room(200<<10, 0); err != nil { // something to trim
				m.t.Error(err)
			}
		}
		if random.IntN(2) == 0 {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
		}
		if random.IntN(3) == 0 {
			m.e.mu.Mutex.Lock()
			m.mu.Lock()
			m.viewed[l] = true
			m.mu.Unlock()
			m.e.mu.Mutex.Unlock()
			l.settle()
			m.say("%d holds a view", number)
			time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
		}
		// The books first: by then the lane may be another actor's.
		m.disown(l)
		c.end()
		m.say("%d gave back", number)
		cancel()
	}
}

// reaper has workers end.
func (m *model) reaper(times int, random *rand.Rand) {
	for range times {
		time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond)
		m.e.mu.Mutex.Lock()
		var w *worker
		if n := len(m.e.unburied); n > 0 {
			w = m.e.unburied[n-1]
		}
		m.e.mu.Mutex.Unlock()
		switch kind := random.IntN(4); {
		case w == nil || kind == 0:
		case kind == 1:
			m.say("worker %d dies", w.attempt)
			w.process.(*still).die()
		default:
			m.say("worker %d is killed", w.attempt)
			w.kill("killed by the test")
		}
	}
}

// check compares the engine's books with the actors'. Everybody waits.
func (m *model) check() {
	p := m.e
	if !p.mu.TryLock() {
		m.fail("somebody waits for a step with the lock held")
	}
	defer p.mu.Mutex.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		var owned, settled int
		for _, l := range w.lanes {
			_, taken := m.owners[l]
			if free := slices.Contains(w.free, l); free && taken {
				m.fail("worker %d: a lane is free, and %d has it", w.attempt, m.owners[l])
			}
			if taken {
				owned++
			}
			if l.viewed {
				settled++
			}
		}
		for i, l := range w.free {
			if slices.Contains(w.free[i+1:], l) {
				m.fail("worker %d: a lane is free twice", w.attempt)
			}
		}
		if w.views != settled {
			m.fail("worker %d: %d views, and %d lanes with one", w.attempt, w.views, settled)
		}
		if w.refs < owned {
			m.fail("worker %d: %d uses of memory, and %d lanes that are owned", w.attempt, w.refs, owned)
		}
		if w == p.worker {
			if w.dead.Load() {
				m.fail("worker %d: used, and dying", w.attempt)
			}
			if running := owned - settled; running > p.lanes {
				m.fail("worker %d: %d calls at a time, not %d", w.attempt, running, p.lanes)
			}
		} else if len(w.free) > 0 && w.dead.Load() {
			m.fail("worker %d: lanes to be had of a dying one", w.attempt)
		}
	}
	if p.worker == nil && len(p.waiting) > 0 {
		m.fail("%d calls wait for a lane of no worker", len(p.waiting))
	}
	if len(m.owners) > p.calls {
		m.fail("%d calls have a lane, and %d are counted", len(m.owners), p.calls)
	}
	if m.closed && (p.calls > 0 || len(p.waiting) > 0) {
		m.fail("closed, with %d calls and %d that wait", p.calls, len(p.waiting))
	}
}

func (m *model) run(seed uint64) {
	m.random = rand.New(rand.NewPCG(seed, 1))
	m.owners, m.viewed = make(map[*hostLane]int), make(map[*hostLane]bool)
	o := Options{Grace: 2 * time.Millisecond, StartTimeout: time.Second, StopTimeout: 5 * time.Millisecond, MaxMessage: 1 << 20,
		Restart: Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond, Limit: 1000, Suspend: time.Millisecond}}
	m.e = newPlugin(library, library.Path, &victim{t: m.t, most: 1 << 20}, o, &engine.Options{Instances: 1 + m.random.IntN(3)})
	m.e.run = func(w *worker) (child, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.workers = append(m.workers, w)
		if m.random.IntN(8) == 0 {
			return nil, errors.New("not this time")
		}
		return &still{ended: make(chan struct{}), stays: m.random.IntN(4) == 0}, nil
	}
	m.e.open = func(w *worker) error {
		m.e.mu.Lock()
		defer m.e.mu.Unlock()
		w.offer(w.addLane())
		return nil
	}
	hangs := m.random.IntN(3) == 0
	m.e.halt = func(c *call) error {
		w := c.lane.worker
		if hangs {
			<-w.dying
		} else {
			w.process.(*still).die()
		}
		if w.dead.Load() {
			return c.crashed()
		}
		return nil
	}
	// A timer of the engine's may look at step at any time, so it is not written again: over ends what it does.
	var over atomic.Bool
	m.e.mu.step = func() {
		if !over.Load() {
			m.step()
		}
	}

	actors := 2 + m.random.IntN(5)
	m.running = actors
	for n := range actors {
		go m.actor(n, 1+m.random.IntN(6), rand.New(rand.NewPCG(seed, uint64(10+n))))
	}
	go m.reaper(m.random.IntN(8), rand.New(rand.NewPCG(seed, 2)))
	closing := make(chan error, 2)
	early := m.random.IntN(2) == 0 // else when the actors are done
	if early {
		delay := time.Duration(m.random.IntN(10000)) * time.Microsecond
		bound := time.Duration(m.random.IntN(4000)) * time.Microsecond
		go func() {
			time.Sleep(delay)
			ctx, cancel := context.WithTimeout(context.Background(), bound)
			defer cancel()
			m.say("closing within %v", bound)
			closing <- m.e.Shutdown(ctx)
		}()
	}
	start := time.Now()
	for done, asked := false, false; !done; {
		synctest.Wait()
		m.check()
		m.mu.Lock()
		idle, running := len(m.arrived) == 0, m.running
		var next chan struct{}
		if !idle {
			i := m.random.IntN(len(m.arrived))
			next = m.arrived[i]
			m.arrived = slices.Delete(m.arrived, i, i+1)
		}
		m.mu.Unlock()
		switch {
		case next != nil:
			close(next)
		case running > 0 || asked:
			time.Sleep(50 * time.Microsecond) // of the bubble's time: somebody's timer
			if time.Since(start) > 12*time.Hour {
				m.fail("%d actors are not back, and nothing happens", running)
			}
			select {
			case <-closing:
				if early { // Shutdown is back, the rest may not be; Close waits for it
					early = false
					go func() { closing <- m.e.Close() }()
				} else {
					m.closed = true
					m.check()
					done = running == 0
				}
			default:
			}
		case !asked:
			asked = true
			if !early {
				go func() { closing <- m.e.Close() }()
			}
		}
	}
	over.Store(true)
	time.Sleep(2 * time.Hour) // what does not end when it is killed does by then
	synctest.Wait()
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	for _, w := range m.workers {
		if w.process != nil && w.refs != 0 {
			m.fail("worker %d: %d uses of memory when all is over", w.attempt, w.refs)
		}
	}
	if len(m.e.unburied) > 0 {
		m.fail("%d workers are not buried", len(m.e.unburied))
	}
}

// FERRULE_TEST_SCHEDULES sets how many schedules there are; the seed of one that fails is in its name.
func TestLanesUnderSchedules(t *testing.T) {
	schedules := 100
	if testing.Short() {
		schedules = 30
	}
	if text := os.Getenv("FERRULE_TEST_SCHEDULES"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		schedules = n
	}
	for seed := range schedules {
		if !t.Run(strconv.Itoa(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { (&model{t: t}).run(uint64(seed)) })
		}) {
			return
		}
	}
}

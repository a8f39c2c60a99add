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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// The lanes' protocol under injected schedules: actors take lanes and give them back, hold views, give up, have workers die
// and be killed, and close, and a seed says who makes the next step. After each step the engine's books must agree with
// what the actors have; and in the end everybody is back and nothing is held.

// model is one run.
type model struct {
	t      *testing.T
	random *rand.Rand
	g      *Group
	all    []*Plugin // of the group
	log    []string

	mu      sync.Mutex
	arrived []chan struct{} // those who are about to make a step
	running int             // actors that are not done
	workers []*worker
	owners  map[*hostLane]int // who has it
	viewed  map[*hostLane]bool
	gated   map[*Plugin]bool // whose gate somebody has shut
	plain   bool             // calls do nothing by which their lanes would not be parked
	closed  bool             // Close or Shutdown has returned
	over    bool             // nobody waits for a turn any more
}

// still is a process that does nothing until it is killed, or dies.
type still struct {
	ended chan struct{}
	once  sync.Once
	stays bool // it does not end when it is killed, but much later
}

func (*still) PID() int         { return 1 << 30 }
func (*still) OS() *os.Process  { return nil }
func (*still) Layers() []string { return nil }
func (s *still) die()           { s.once.Do(func() { close(s.ended) }) }
func (s *still) Wait() (os.Signal, int) {
	<-s.ended
	return syscall.SIGKILL, -1
}
func (*still) Bury()          {}
func (*still) Unsaid() string { return "gone, and nobody says how" }
func (s *still) Kill() {
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
	if m.over {
		m.mu.Unlock()
		return
	}
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
		p := m.all[random.IntN(len(m.all))]
		if m.plain && random.IntN(2) == 0 {
			caller = callctx.Background
		}
		l, err := p.acquire(&caller)
		m.say("%d takes: %v", number, err)
		if err != nil {
			var crash *engine.Crash
			var start *engine.StartError
			known := errors.As(err, &start) || errors.Is(err, engine.ErrClosed) || errors.Is(err, engine.ErrViews) || errors.As(err, &crash) ||
				errors.Is(err, context.Canceled) && ctx.Err() != nil
			if !known {
				m.t.Errorf("%d: %v", number, err)
			}
			cancel()
			continue
		}
		m.own(l, number)
		c := p.begin(l)
		if !m.plain && random.IntN(4) == 0 {
			if _, err := l.Room(200<<10, 0); err != nil { // something to trim
				m.t.Error(err)
			}
		}
		if random.IntN(2) == 0 {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
		}
		if m.plain && random.IntN(2) == 0 {
			time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
		}
		if !m.plain && random.IntN(3) == 0 {
			m.g.mu.Mutex.Lock()
			m.mu.Lock()
			m.viewed[l] = true
			m.mu.Unlock()
			m.g.mu.Mutex.Unlock()
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

// gatekeeper shuts the gates of plug-ins: no call of theirs has a lane then.
func (m *model) gatekeeper(times int, random *rand.Rand) {
	for range times {
		time.Sleep(time.Duration(random.IntN(1500)) * time.Microsecond)
		p := m.all[random.IntN(len(m.all))]
		caller := callctx.Background
		if err := p.shut(&caller); err != nil {
			if err != engine.ErrClosed {
				m.t.Errorf("the gate: %v", err)
			}
			return
		}
		m.say("a gate is shut")
		m.mu.Lock()
		m.gated[p] = true
		m.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(1000)) * time.Microsecond)
		m.mu.Lock()
		m.gated[p] = false
		m.mu.Unlock()
		p.unshut()
	}
}

// reaper has workers end.
func (m *model) reaper(times int, random *rand.Rand) {
	for range times {
		time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond)
		m.g.mu.Mutex.Lock()
		var w *worker
		if n := len(m.g.unburied); n > 0 {
			w = m.g.unburied[n-1]
		}
		m.g.mu.Mutex.Unlock()
		switch kind := random.IntN(4); {
		case w == nil || kind == 0:
		case kind == 1:
			m.say("worker %d dies", w.attempt)
			w.process.(*still).die()
		default:
			m.say("worker %d is killed", w.attempt)
			w.kill("killed by the test", nil)
		}
	}
}

// check compares the engine's books with the actors'. Everybody waits.
func (m *model) check() {
	if !m.g.mu.TryLock() {
		m.fail("somebody waits for a step with the lock held")
	}
	defer m.g.mu.Mutex.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		var owned, settled int
		running := make(map[*seat]int)
		for _, l := range w.lanes {
			_, taken := m.owners[l]
			if free := slices.Contains(w.free, l); free && taken {
				m.fail("worker %d: a lane is free, and %d has it", w.attempt, m.owners[l])
			}
			if taken {
				owned++
				running[l.seat]++
			}
			if l.viewed {
				settled++
				running[l.seat]--
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
		if w == m.g.worker {
			if w.dead.Load() {
				m.fail("worker %d: used, and dying", w.attempt)
			}
		} else if len(w.free) > 0 && w.dead.Load() {
			m.fail("worker %d: lanes to be had of a dying one", w.attempt)
		}
		numbers := make(map[uint16]bool)
		for _, s := range w.seats {
			if numbers[s.number] {
				m.fail("worker %d: two plug-ins with the number %d", w.attempt, s.number)
			}
			numbers[s.number] = true
			if !w.dead.Load() && running[s] > s.plugin.lanes {
				m.fail("worker %d: %d calls of a plug-in at a time, not %d", w.attempt, running[s], s.plugin.lanes)
			}
			if !w.dead.Load() && running[s] > s.inUse {
				m.fail("worker %d: %d calls of a plug-in, and %d are counted", w.attempt, running[s], s.inUse)
			}
		}
	}
	queued, owners := 0, make(map[*Plugin]int)
	for l := range m.owners {
		owners[l.seat.plugin]++
	}
	for _, p := range m.all {
		queued += len(p.waiting)
		if p.seat == nil && len(p.waiting) > 0 {
			m.fail("%d calls wait for a lane of no worker", len(p.waiting))
		}
		if p.seat != nil && (p.seat.worker.dead.Load() || p.seat.worker.seatOf(p) != p.seat) {
			m.fail("a plug-in in a worker that is dying, or does not know it")
		}
		if m.gated[p] {
			for l := range m.owners {
				if l.seat.plugin == p && !l.worker.dead.Load() && !m.viewed[l] {
					m.fail("a call of %d has a lane, and the gate is shut", m.owners[l])
				}
			}
		}
		if s := p.seat; s != nil && p.parks.Load() == nil && s.parked.head.Load()&parkedIndex != 0 && len(m.arrived) == 0 {
			m.fail("a lane is parked, and nobody looks for it there")
		}
		if owners[p] > p.calls {
			m.fail("%d calls have a lane, and %d are counted", owners[p], p.calls)
		}
		if m.closed && (p.calls > 0 || len(p.waiting) > 0 || p.seat != nil) {
			m.fail("closed, with %d calls and %d that wait", p.calls, len(p.waiting))
		}
	}
	if queued != m.g.queued {
		m.fail("%d calls wait, and %d are counted", queued, m.g.queued)
	}
	if m.closed && m.g.worker != nil {
		m.fail("a worker of no plug-in")
	}
}

// closing closes all plug-ins.
func (m *model) closing(end func(p *Plugin) error) error {
	errs := make([]error, len(m.all))
	var all sync.WaitGroup
	for i, p := range m.all {
		all.Go(func() { errs[i] = end(p) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (m *model) run(seed uint64) {
	m.random = rand.New(rand.NewPCG(seed, 1))
	m.owners, m.viewed, m.gated = make(map[*hostLane]int), make(map[*hostLane]bool), make(map[*Plugin]bool)
	m.plain = m.random.IntN(2) == 0
	o := Options{Grace: 2 * time.Millisecond, StartTimeout: time.Second, StopTimeout: 5 * time.Millisecond, MaxMessage: 1 << 20,
		Restart: Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond, Limit: 1000, Suspend: time.Millisecond}}
	m.g = NewGroup("", o, nil)
	most := 3
	if m.plain {
		most = 8
	}
	for range 1 + m.random.IntN(3) {
		m.g.users++
		m.all = append(m.all, newMember(m.g, library, library.Path, &victim{t: m.t, most: 1 << 20}, &engine.Options{Instances: 1 + m.random.IntN(most)}))
	}
	m.g.run = func(w *worker) (process.Child, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.workers = append(m.workers, w)
		if m.random.IntN(8) == 0 {
			return nil, errors.New("not this time")
		}
		return &still{ended: make(chan struct{}), stays: m.random.IntN(4) == 0}, nil
	}
	hangs := m.random.IntN(3) == 0
	refuses := rand.New(rand.NewPCG(seed, 3))
	for _, p := range m.all {
		p.open = func(s *seat) error {
			m.mu.Lock()
			refused := refuses.IntN(8) == 0
			m.mu.Unlock()
			l := s.control()
			if l == nil {
				crash := s.worker.report()
				return &crash
			}
			p.mu.Lock()
			s.release(l)
			p.mu.Unlock()
			if refused {
				return &engine.StartError{}
			}
			return nil
		}
		p.halt = func(c *call) error {
			w := c.lane.worker
			switch {
			case hangs:
				<-w.dying
			case w.retired:
				w.process.(*still).die()
			}
			if w.dead.Load() {
				return c.crashed()
			}
			return nil
		}
	}
	m.g.mu.step = m.step

	actors := 2 + m.random.IntN(5)
	m.running = actors
	for n := range actors {
		go m.actor(n, 1+m.random.IntN(6), rand.New(rand.NewPCG(seed, uint64(10+n))))
	}
	if m.plain {
		go m.gatekeeper(m.random.IntN(12), rand.New(rand.NewPCG(seed, 4)))
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
			closing <- m.closing(func(p *Plugin) error { return p.Shutdown(ctx) })
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
			time.Sleep(max(50*time.Microsecond, time.Since(start)/1000)) // of the bubble's time: somebody's timer
			if time.Since(start) > 12*time.Hour {
				m.fail("%d actors are not back, and nothing happens", running)
			}
			select {
			case <-closing:
				if early { // Shutdown is back, the rest may not be; Close waits for it
					early = false
					go func() { closing <- m.closing((*Plugin).Close) }()
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
				go func() { closing <- m.closing((*Plugin).Close) }()
			}
		}
	}
	m.mu.Lock()
	m.over = true
	for _, next := range m.arrived { // while the last one was looked at
		close(next)
	}
	m.mu.Unlock()
	time.Sleep(2 * time.Hour) // what does not end when it is killed does by then
	synctest.Wait()
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	for _, w := range m.workers {
		if w.process != nil && w.refs != 0 {
			m.fail("worker %d: %d uses of memory when all is over", w.attempt, w.refs)
		}
	}
	if len(m.g.unburied) > 0 {
		m.fail("%d workers are not buried", len(m.g.unburied))
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

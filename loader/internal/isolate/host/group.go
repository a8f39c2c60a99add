package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/confine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// Group is plug-ins that share a worker: its process, its lanes, and the rules by which another one is started. A plug-in that
// is opened by itself is a group of one.
//
// The worker starts with the first plug-in and ends with the last one. A plug-in is opened in the worker when it is opened, and
// again in a later worker by the first call of its own.
type Group struct {
	Name    string // "" of a plug-in by itself
	Wrong   error  // what is wrong with the options; nil where nothing is
	options Options

	setup   sync.Mutex // guards the next three. No call takes it
	users   int        // plug-ins that are open, or about to be
	program executable // of all workers, as long as there are users
	sandbox json.RawMessage

	run          func(*worker) (process.Child, error)
	exitPatience time.Duration // the constant, but in tests
	leftPatience time.Duration // the same

	mu       mutex     // guards the rest, and what is the plug-ins'
	worker   *worker   // nil when there is none that plug-ins may use
	unburied []*worker // those of which something is left, or may be
	spawning *spawning // of the next one, or nil
	queued   int       // calls that wait for a lane, of all plug-ins
	trimming bool
	watching atomic.Bool

	attempt     int // workers started so far
	streak      int // of them, the last ones that crashed without a call that succeeded
	suspensions int
	earliest    time.Time           // before which no worker is started
	lastCrash   func() engine.Crash // what is known of it; called with mu held. nil before the first
}

// mutex guards a Group. Every step of taking, giving back, waiting, dying and closing is one holding of it, or ends with a pass, so that
// a test that has a say in who gets it next goes through the orders in which things can happen.
type mutex struct {
	sync.Mutex
	step func() // called before each locking, and by pass, where it is not nil; set before the engine is used
}

func (m *mutex) Lock() {
	m.pass()
	m.Mutex.Lock()
}

// pass is a step that does not lock.
func (m *mutex) pass() {
	if m.step != nil {
		m.step()
	}
}

// NewGroup makes a group without plug-ins. wrong is what is wrong with the options.
func NewGroup(name string, options Options, wrong error) *Group {
	return &Group{Name: name, Wrong: wrong, options: options, run: (*worker).startProcess, exitPatience: exitPatience, leftPatience: leftPatience}
}

// enter readies the group for one more plug-in, which is at path, and leaves by leave. The error is as Engine.Open's.
func (g *Group) enter(path, data string) (err error) {
	if g.Name != "" && g.options.Sandbox != nil && data != "" {
		return &inspect.Error{Path: path, Kind: engine.ErrOption, Found: fmt.Sprintf("loader.WithDataFolder, in the group %q, which has a sandbox", g.Name),
			Expected: "a plug-in for which the group's policy is enough", Remedy: "Name the folder in the policy (sandbox.Policy.Write), where all of the group " +
				"may write to it, or open the plug-in by itself (isolate.InWorker)"}
	}
	g.setup.Lock()
	defer g.setup.Unlock()
	if g.users == 0 {
		if g.program, err = openExecutable(&g.options); err != nil {
			return noProgram(err)
		}
		if g.options.Sandbox != nil {
			if g.sandbox, err = g.options.Sandbox(data); err != nil {
				g.program.close()
				return confine.Refused(path, err)
			}
		}
	}
	g.users++
	return nil
}

// leave ends what enter began. Nothing is started for the plug-in any more.
func (g *Group) leave() {
	g.setup.Lock()
	defer g.setup.Unlock()
	if g.users--; g.users == 0 {
		g.program.close()
	}
}

// granted returns what of the plug-in's own libraries its worker may read beyond the policy. In a group that is nothing: a plug-in
// whose libraries the policy does not cover is refused.
func (g *Group) granted(path string, lib *inspect.Library) ([]wire.Library, error) {
	if g.options.Sandbox == nil {
		return nil, nil
	}
	libraries, err := confine.Grants(path, lib)
	if err != nil || g.Name == "" {
		return libraries, err
	}
	for _, l := range libraries {
		if !g.options.Readable(string(l.Path)) {
			return nil, &inspect.Error{Path: path, Kind: engine.ErrOption,
				Found:    fmt.Sprintf("that it brings %q along, which the policy of the group %q does not let it read", l.Path, g.Name),
				Expected: "a plug-in for which the group's policy is enough",
				Remedy:   "Grant the folder in the policy (sandbox.Policy.Read), for all of the group, or open the plug-in by itself (isolate.InWorker)"}
		}
	}
	return nil, nil
}

// spawning is a worker's process while the system makes it.
type spawning struct {
	cancel context.CancelCauseFunc // has the system be waited for no more
	wanted int                     // plug-ins that wait for it
	done   chan struct{}           // closed when the next two are set
	worker *worker
	err    *engine.Crash
	given  bool // up, because nobody waits for it any more: guarded by the group's mu
}

// process returns a worker that the plug-in can be opened in, and starts one where there is none. It is the caller's to unref. It
// waits until one may be started; a plug-in that is opened for the first time does not wait for the end of a suspension, which others have caused.
func (p *Plugin) process() (*worker, error) {
	g := p.Group
	for {
		p.mu.Lock()
		if why := p.givenUp(); why != "" {
			attempt := g.attempt + 1
			p.mu.Unlock()
			return nil, &engine.Crash{Code: -1, Reason: "not started: " + why, Attempt: attempt}
		}
		if w := g.worker; w != nil {
			w.refs++
			p.mu.Unlock()
			return w, nil
		}
		suspended := g.suspended()
		if suspended != nil && p.isOpen {
			p.mu.Unlock()
			return nil, suspended
		}
		s := g.spawning
		if s == nil {
			if delay := time.Until(g.earliest); delay > 0 && suspended == nil {
				unwanted := p.unwanted
				p.mu.Unlock()
				t := time.NewTimer(delay)
				select {
				case <-t.C:
				case <-p.closed:
				case <-unwanted:
				}
				t.Stop()
				continue
			}
			s = g.spawn(p.Owner())
		}
		s.wanted++
		mine, unwanted := !s.given, p.unwanted
		p.mu.Unlock()
		select {
		case <-s.done:
		case <-p.closed:
			p.unwant(s)
		case <-unwanted:
			p.unwant(s)
		}
		if s.worker != nil {
			return s.worker, nil
		}
		if !mine { // others had given it up before
			continue
		}
		crash := *s.err
		return nil, &crash
	}
}

// unwant gives up waiting for a process, and the process where nobody else waits. It returns when that is over.
func (p *Plugin) unwant(s *spawning) {
	p.mu.Lock()
	if s.wanted--; s.wanted == 0 {
		s.given = true
		s.cancel(errors.New(p.givenUp()))
	}
	s.wanted++ // what comes of it is this one's, too
	p.mu.Unlock()
	<-s.done
}

// givenUp says why the plug-in is not to be opened any more, or nothing. The caller holds p.mu.
func (p *Plugin) givenUp() string {
	switch {
	case p.closing:
		return "killed by the host, because the plug-in was closed"
	case p.abandoned:
		return openGivenUp
	}
	return ""
}

// spawn has the system start a process, which is called by a name where the group has none. The caller holds g.mu.
func (g *Group) spawn(name string) *spawning {
	g.attempt++
	if g.Name != "" {
		name = g.Name
	}
	w := &worker{group: g, name: name, attempt: g.attempt, refs: 1, code: -1, began: time.Now(),
		dying: make(chan struct{}), gone: make(chan struct{}), buried: make(chan struct{})}
	late := fmt.Errorf("killed by the host, because it had not started after %v (isolate.WithStartTimeout)", g.options.StartTimeout)
	ctx, stop := context.WithTimeoutCause(context.Background(), g.options.StartTimeout, late)
	s := &spawning{done: make(chan struct{})}
	w.spawned, s.cancel = context.WithCancelCause(ctx)
	g.spawning = s
	go func() {
		defer stop()
		err := w.spawn()
		s.cancel(nil)
		g.mu.Lock()
		defer g.mu.Unlock()
		defer close(s.done)
		g.spawning = nil
		if err != nil {
			crash := engine.Crash{Code: -1, Reason: "not started: " + err.Error(), Attempt: w.attempt, Err: err}
			if context.Cause(ctx) == late {
				crash.Late = g.options.StartTimeout
			}
			if !s.given {
				g.failed(func() engine.Crash { return crash })
			}
			s.err = &crash
			return
		}
		w.refs += s.wanted
		s.worker, g.worker = w, w
		w.layers = w.process.Layers()
		g.unburied = append(g.unburied, w)
		w.watch()
		go w.await()
	}()
	return s
}

// suspension returns for how much longer no worker is started, because too many have crashed. The caller holds g.mu.
func (g *Group) suspension() time.Duration {
	if g.suspensions == 0 || g.worker != nil || g.spawning != nil {
		return 0
	}
	return max(0, time.Until(g.earliest))
}

// suspended returns the error of what would need a worker while none is started, because too many have crashed; or nil. The caller
// holds g.mu.
func (g *Group) suspended() *engine.Crash {
	delay := g.suspension()
	if delay == 0 {
		return nil
	}
	crash := engine.Crash{Code: -1}
	if g.lastCrash != nil {
		crash = g.lastCrash()
	}
	crash.Suspended, crash.Late = delay, 0
	return &crash
}

// count takes in that a worker that calls could use is dying. The caller holds g.mu.
func (g *Group) count(w *worker) {
	if w.worked.Load() {
		g.streak, g.suspensions = 0, 0
	}
	g.failed(w.words)
}

// failed takes in that a worker crashed: when the next one may be started. words are called with g.mu held, as failed is.
func (g *Group) failed(words func() engine.Crash) {
	g.lastCrash = words
	g.streak++
	r := &g.options.Restart
	switch {
	case g.streak >= r.Limit:
		g.earliest = time.Now().Add(r.Suspend << min(g.suspensions, 4))
		g.suspensions++
		g.streak = r.Limit - 1 // one more crash suspends again
	case g.streak >= 2:
		g.earliest = time.Now().Add(min(r.MaxDelay, r.Delay<<min(g.streak-2, 20)))
	}
}

// retire takes the worker out of use, and is no crash. The caller holds g.mu.
func (g *Group) retire(w *worker) {
	w.retired = true
	if g.worker == w {
		g.worker = nil
	}
}

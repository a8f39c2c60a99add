// Package fleet is the host's side of plug-ins on other machines, over any broker: which node a call goes to, and what becomes of it where a node is busy,
// leaves, or is lost.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/duplex"
	"github.com/ferrule-dev/ferrule/loader/sidecar/link"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Options are what a fleet is made of.
type Options struct {
	Broker     broker.Broker
	Path       string // as the host gave it; errors name it
	Target     broker.Target
	By         string        // the package's name in options, such as nats
	MaxMessage int64         // in bytes
	Grace      time.Duration // how long a call may go on when its context has ended, before it is left to its node
	Silence    time.Duration // how long a node may say nothing while it is waited for
	Start      time.Duration // how long Open waits, and a session's start
	Begun      time.Time     // since when Open does
	Attempts   int           // on how many nodes a call is made, where it may be made again
}

// Open opens the plug-in that the target names, on whatever nodes there are.
func Open(ctx context.Context, o Options, eo *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	if fault := o.fault(eo); fault != nil {
		o.Broker.Close()
		return nil, nil, fault
	}
	f := &fleet{Options: o, nodes: make(map[string]*node), sessions: make(map[*session]struct{}), closed: make(chan struct{}), finding: make(turn, 1)}
	p, about, err := f.open(ctx, eo, accept)
	if err != nil {
		f.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, err
	}
	return p, about, nil
}

// fault says which option is the node's, and not the host's.
func (o *Options) fault(eo *engine.Options) error {
	found := ""
	switch {
	case eo.SHA256 != nil:
		found = "WithSHA256"
	case eo.Config != nil:
		found = "WithConfig"
	case eo.Instances > 1:
		found = "WithInstances"
	case eo.State != nil:
		found = "WithState"
	case eo.Data != "":
		found = "WithDataFolder"
	default:
		return nil
	}
	return &inspect.Error{Path: o.Path, Kind: loader.ErrOption, Found: found + " for a plug-in on other machines", Expected: "none: its nodes have that",
		Remedy: "Give it where the plug-in is served (ferrule serve)"}
}

func (f *fleet) open(ctx context.Context, eo *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	var cancel context.CancelFunc
	ctx, cancel = context.WithDeadline(ctx, f.Begun.Add(f.Start))
	defer cancel()
	var err error
	if f.unwatch, err = f.Broker.Watch(f.Target.Name, broker.Watcher{Came: f.came, Went: f.went, Down: f.down}); err != nil {
		return nil, nil, f.unread("no way to the broker", err, "Check its address, and what this client may do there")
	}
	if err := f.find(ctx); err != nil {
		return nil, nil, f.unread("no answer of the broker's", err, "Check its address, and what this client may do there")
	}
	f.late(ctx)
	first, about, err := f.first(ctx)
	if err != nil {
		return nil, nil, err
	}
	f.about = about
	host, err := accept(about)
	if err != nil {
		first.end(errClosing)
		return nil, nil, err
	}
	f.adopt(first)
	many := *about // of how many calls there may be at a time each node takes care
	many.Manifest.Threads = abi.Concurrent
	code := &pool.Code{About: &many, Apart: true, Call: f.call, Start: f.start, Stop: f.stop,
		Names: pool.Names{Start: wire.Start, Stop: wire.Stop, Configure: wire.Configure, Save: wire.Save, Resume: wire.Resume}}
	p, err := pool.Open(ctx, code, host, eo)
	if err != nil {
		return nil, nil, err
	}
	f.opened.Do(func() { f.isOpen = true })
	go f.refresh()
	return &plugin{p, p, f}, about, nil
}

func (f *fleet) unread(found string, err error, remedy string) error {
	return &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: fmt.Sprintf("%s (%v)", found, err), Err: err, Expected: "a node that serves " + f.Target.String(), Remedy: remedy}
}

// plugin is an open one.
type plugin struct {
	engine.Plugin // and not its other interfaces: what is the nodes' cannot be changed from here
	pool          *pool.Pool
	fleet         *fleet
}

// NewSession is engine.Sessions's.
func (p *plugin) NewSession(ctx context.Context, config []byte) (engine.Plugin, error) {
	return p.pool.NewSession(ctx, config)
}

// Close is engine.Plugin's.
func (p *plugin) Close() error {
	err := p.pool.Close()
	p.fleet.close()
	return err
}

// Shutdown is engine.Plugin's. Calls that have not come back are left to their nodes.
func (p *plugin) Shutdown(ctx context.Context) error {
	err := p.pool.Shutdown(ctx)
	if late, ok := err.(*engine.Unfinished); ok {
		p.fleet.lose(&errShutdown{late.Cause})
		go func() { _ = p.Close() }()
		return err
	}
	p.fleet.close()
	return err
}

type errShutdown struct{ cause error }

func (e *errShutdown) Error() string { return "the context of Shutdown had ended" }

var errClosing = errors.New("the plug-in is being closed")

// fleet is the nodes of one plug-in.
type fleet struct {
	Options
	about   *abi.Description
	unwatch func()
	opened  sync.Once
	isOpen  bool // written once, before any other instance is started
	closing sync.Once
	closed  chan struct{}

	finding turn      // who asks the broker
	found   time.Time // when that was last; guarded by finding

	mu     sync.Mutex
	nodes  map[string]*node // by their IDs; put and remove alone change it
	list   []*node          // the same, for who looks at all of them with each call
	others bool             // there are some that are not wanted

	sessions map[*session]struct{} // all of them, also those by which no call goes any more, and those of instances of a host's own
	over     bool                  // there are to be no more
}

// node is one of them.
type node struct {
	broker.Node
	of *fleet

	// Guarded by the fleet's mu.
	at      int // in the fleet's list
	calls   int // under way
	leaves  bool
	avoided time.Time     // until then it is taken where there is no other
	pause   time.Duration // how long that was last; 0 where its calls come back
	probed  bool          // one call finds out whether they do again
	doubted atomic.Bool   // pause is not 0
	refused error         // why its plug-in is not the one that was opened; or nil

	dialing turn
	small   *session // for what is short; guarded by the fleet's mu, as large
	large   *session
}

// session is one with a node.
type session struct {
	node *node
	conn *duplex.Conn
	link *link.Link
	stop func() // listens no more
	once sync.Once
}

// turn is whose it is to do what one does for all. Unlike a mutex, who waits for it waits no longer than its context.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// long is how long an input is that goes by a session of its own, so that the others need not wait for it.
const long = 64 << 10

func (f *fleet) came(n broker.Node) {
	takes := n.Serves && f.Target.Takes(n.Version)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !takes {
		f.others = true
		return
	}
	if known := f.nodes[n.ID]; known != nil {
		if known.Address == n.Address {
			known.leaves = false
			return
		}
	} else if len(f.nodes) >= broker.MostNodes {
		return // those that are not there are forgotten when they are asked
	}
	f.put(&node{Node: n, of: f, dialing: make(turn, 1)})
}

// put has calls go to a node, in place of one with the same ID. mu is held, as by remove.
func (f *fleet) put(n *node) {
	f.remove(n.ID)
	n.at = len(f.list)
	f.list = append(f.list, n)
	f.nodes[n.ID] = n
}

func (f *fleet) remove(id string) {
	n := f.nodes[id]
	if n == nil {
		return
	}
	end := len(f.list) - 1
	last := f.list[end]
	f.list[n.at], last.at = last, n.at
	f.list[end] = nil
	f.list = f.list[:end]
	delete(f.nodes, id)
}

func (f *fleet) went(id string) {
	f.mu.Lock()
	if n := f.nodes[id]; n != nil {
		n.leaves = true
	}
	f.remove(id)
	f.mu.Unlock()
	for _, s := range f.all() {
		if s.node.ID == id {
			s.conn.Fail(duplex.ErrGone)
		}
	}
}

// all returns the sessions that there are.
func (f *fleet) all() []*session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.sessions))
}

// down takes in that the connection to the broker broke.
func (f *fleet) down(why error) { f.lose(fmt.Errorf("the connection to the broker broke: %w", why)) }

// lose ends all sessions.
func (f *fleet) lose(why error) {
	for _, s := range f.all() {
		s.conn.Fail(why)
	}
}

// find asks which nodes there are. Who comes while it is asked for waits, and takes what was found.
func (f *fleet) find(ctx context.Context) error {
	begin := time.Now()
	if err := f.finding.take(ctx); err != nil {
		return err
	}
	defer f.finding.give()
	if f.found.After(begin) {
		return nil
	}
	nodes, err := f.Broker.Find(ctx, f.Target.Name)
	if err != nil {
		return err
	}
	f.found = time.Now()
	for _, n := range nodes {
		f.came(n)
	}
	return nil
}

// late waits a moment for a node that is heard of later: where none of those that were is wanted, or the broker may tell of the first one yet.
func (f *fleet) late(ctx context.Context) {
	const moment, step = time.Second, 10 * time.Millisecond
	for begin := time.Now(); time.Since(begin) < moment; {
		f.mu.Lock()
		waits := len(f.nodes) == 0 && (f.others || !f.Broker.Knows())
		f.mu.Unlock()
		if !waits {
			return
		}
		select {
		case <-time.After(step):
		case <-ctx.Done():
			return
		}
	}
}

// refresh asks from time to time: what nodes say when they come may be lost. Where there are many, which all answer, it does so less often.
func (f *fleet) refresh() {
	for {
		f.mu.Lock()
		every := time.Duration(max(1, len(f.nodes)/100)) * refreshed
		f.mu.Unlock()
		select {
		case <-f.closed:
			return
		case <-time.After(every/2 + rand.N(every)):
		}
		ctx, cancel := context.WithTimeout(context.Background(), f.Silence)
		_ = f.find(ctx)
		cancel()
	}
}

const refreshed = time.Minute

// first finds what the plug-in says of itself: the newest version that is wanted and can be reached.
func (f *fleet) first(ctx context.Context) (*session, *abi.Description, error) {
	f.mu.Lock()
	nodes := slices.Collect(maps.Values(f.nodes))
	f.mu.Unlock()
	if len(nodes) == 0 {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: "no node", Err: remote.ErrNoNode, Expected: "a node that serves " + f.Target.String(),
			Remedy: "Start one (ferrule serve), and check the plug-in's name and versions"}
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	slices.SortStableFunc(nodes, func(a, b *node) int { return broker.Newer(b.Version, a.Version) })
	var last error
	for _, n := range nodes {
		s, about, err := n.dial(ctx, false)
		if err == nil {
			return s, about, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	if denied := f.Broker.Denied(); denied != nil {
		last = denied
	}
	return nil, nil, f.unread("no node that gives a session", last, "See what the node says, and what this client may do at the broker")
}

// adopt has calls go by the session that has told what the plug-in is.
func (f *fleet) adopt(s *session) {
	f.mu.Lock()
	s.node.small = s
	f.mu.Unlock()
	f.begin(s)
}

// dial makes a session with the node; own is an instance of its own there.
func (n *node) dial(ctx context.Context, own bool) (*session, *abi.Description, error) {
	conn, stop, err := broker.Dial(ctx, n.of.Broker, n.Address, own, n.of.Silence)
	if err != nil {
		return nil, nil, err
	}
	s := &session{node: n, conn: conn, stop: stop}
	s.link = link.New(conn, link.Options{MaxBody: uint64(n.of.MaxMessage), Grace: n.of.Grace, Leave: true, Late: fmt.Sprintf("(%s.WithGrace); it was left to its node", n.of.By),
		Long: n.of.By + ".WithMaxMessage", Other: "the node", OtherLong: "MaxBody of its " + n.of.By + ".Node, ferrule serve --max-message"})
	given := context.AfterFunc(ctx, func() { conn.Fail(ctx.Err()) })
	defer given()
	end := conn.Wait()
	defer end()
	err = s.link.Greet()
	var about *abi.Description
	if err == nil {
		about, err = s.link.Meet()
	}
	if err != nil {
		s.end(err)
		if why := conn.Err(); why != nil && !errors.Is(err, context.Canceled) {
			err = why
		}
		return nil, nil, err
	}
	n.of.mu.Lock()
	over := n.of.over
	if !over {
		n.of.sessions[s] = struct{}{}
	}
	n.of.mu.Unlock()
	if over {
		s.end(errClosing)
		return nil, nil, errClosing
	}
	return s, about, nil
}

// end ends a session.
func (s *session) end(why error) {
	s.link.Fail(why)
	s.finish()
}

func (s *session) finish() {
	s.once.Do(func() {
		s.stop()
		f := s.node.of
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.sessions, s)
	})
}

// begin lets calls into a session.
func (f *fleet) begin(s *session) {
	s.link.Begin(nil, func(why error) {
		go func() {
			f.forget(s)
			if why == link.ErrLeft { // what runs there goes on
				f.mu.Lock()
				s.node.leaves = true
				if f.nodes[s.node.ID] == s.node {
					f.remove(s.node.ID)
				}
				f.mu.Unlock()
				select {
				case <-s.link.Byed():
				case <-s.link.Dead():
				}
				s.end(errClosing)
				return
			}
			s.finish()
		}()
	})
}

// forget has no call go by a session any more.
func (f *fleet) forget(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.node.small == s {
		s.node.small = nil
	}
	if s.node.large == s {
		s.node.large = nil
	}
}

// fits reports whether what a node serves can do what was opened.
func (f *fleet) fits(about *abi.Description) error {
	has := func(all []abi.Symbol, name string) bool {
		return slices.ContainsFunc(all, func(s abi.Symbol) bool { return s.Name == name })
	}
	for _, s := range f.about.Funcs {
		if !has(about.Funcs, s.Name) {
			return fmt.Errorf("its version %s has no function %s", about.Manifest.Version, s.Name)
		}
	}
	for _, s := range f.about.Hooks {
		if !has(about.Hooks, s.Name) {
			return fmt.Errorf("its version %s has no hook %s", about.Manifest.Version, s.Name)
		}
	}
	for _, s := range about.Imports {
		if !has(f.about.Imports, s.Name) {
			return fmt.Errorf("its version %s imports %s, and the one that was opened does not", about.Manifest.Version, s.Name)
		}
	}
	return nil
}

// session returns the node's for an input of so many bytes, which it makes where there is none.
func (n *node) session(ctx context.Context, length int) (*session, error) {
	f := n.of
	place := &n.small
	if length > long {
		place = &n.large
	}
	get := func() *session {
		f.mu.Lock()
		defer f.mu.Unlock()
		if s := *place; s != nil && s.conn.Err() == nil && !s.link.Left() {
			return s
		}
		return nil
	}
	if s := get(); s != nil {
		return s, nil
	}
	if err := n.dialing.take(ctx); err != nil {
		return nil, err
	}
	defer n.dialing.give()
	if s := get(); s != nil {
		return s, nil
	}
	s, about, err := n.dial(ctx, false)
	if err == nil {
		if err = f.fits(about); err != nil {
			f.mu.Lock()
			n.refused = err
			f.mu.Unlock()
			s.end(errClosing)
		}
	}
	if err != nil {
		return nil, err
	}
	f.begin(s)
	f.mu.Lock()
	*place = s
	f.mu.Unlock()
	return s, nil
}

// few is with how many nodes a host has sessions that makes one call at a time, so that its calls are not one node's alone; with more only as its calls ask for them.
const few = 8

// pick takes the node with the fewest of this host's calls under way, not one of those; nil where there is none. The call is counted.
func (f *fleet) pick(not map[*node]bool) *node {
	const none, avoided = math.MaxInt, 1 << 30
	now, met := time.Now(), 0
	rank := func(n *node) (r int) {
		if n.leaves || n.refused != nil || len(not) > 0 && not[n] {
			return none
		}
		r = 2 * n.calls
		if n.small == nil && met >= few {
			r++ // one more session is for when those that there are have something to do
		}
		if n.avoided.After(now) {
			r += avoided
		}
		return r
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.list {
		if n.small != nil && rank(n) < avoided {
			if met++; met == few {
				break
			}
		}
	}
	least, alike := none, 0
	for _, n := range f.list {
		switch r := rank(n); {
		case r < least:
			least, alike = r, 1
		case r == least:
			alike++
		}
	}
	if least == none {
		return nil
	}
	nth := rand.IntN(alike)
	for _, n := range f.list {
		if rank(n) != least {
			continue
		}
		if nth == 0 {
			n.calls++
			n.probe(now)
			return n
		}
		nth--
	}
	panic("a node is gone while the lock is held")
}

func (f *fleet) done(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n.calls--
}

// How long a node whose calls were lost is avoided: twice as long each time.
const (
	leastPause = time.Second
	mostPause  = 16 * time.Second
)

// probe has a call that goes to a node that was avoided find out, for all, whether calls come back from there: others avoid it meanwhile. The fleet's mu is held.
func (n *node) probe(now time.Time) {
	if n.pause > 0 && !n.avoided.After(now) {
		n.probed, n.avoided = true, now.Add(n.pause)
	}
}

// comes takes in what became of a call at a node: it has come back, or, with late, was left there when its context had ended.
func (f *fleet) comes(n *node, late bool) {
	if !n.doubted.Load() {
		return
	}
	f.mu.Lock()
	probed := n.probed
	if !late {
		n.pause, n.probed, n.avoided = 0, false, time.Time{}
		n.doubted.Store(false)
	}
	f.mu.Unlock()
	if late && probed {
		f.avoid(n, false)
	}
}

// avoid has a node taken only where there is no other, for a while.
func (f *fleet) avoid(n *node, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); n.probed || !n.avoided.After(now) { // and not once for each of those that were there together
		n.pause, n.probed = min(max(2*n.pause, leastPause), mostPause), false
		n.avoided = now.Add(n.pause)
		n.doubted.Store(true)
	}
	if gone && f.nodes[n.ID] == n {
		f.remove(n.ID)
	}
}

// start is pool.Code's: of the plug-in, which is every node's, or of an instance of a host's own.
func (f *fleet) start(c *pool.Call, config []byte) ([]byte, abi.Status, error) {
	if !f.isOpen {
		return nil, abi.StatusOK, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.Start)
	defer cancel()
	go func() {
		select {
		case <-c.Abandoned():
			cancel()
		case <-ctx.Done():
		}
	}()
	tried := make(map[*node]bool)
	var last error = remote.ErrNoNode
	for {
		n := f.pick(tried)
		if n == nil {
			return nil, 0, f.unreached(last)
		}
		tried[n] = true
		s, about, err := n.dial(ctx, true)
		if err == nil {
			err = f.fits(about)
		}
		if err != nil {
			if s != nil {
				s.end(errClosing)
			}
			f.done(n)
			last = err
			if ctx.Err() != nil {
				return nil, 0, f.unreached(err)
			}
			continue
		}
		spoil := c.Spoiler()
		between, _ := c.Background().(*pool.Call)
		s.link.Begin(between, func(error) { spoil() })
		end := s.conn.Wait()
		given := context.AfterFunc(ctx, func() { s.link.Fail(ctx.Err()) }) // the node has its instance's start stop then
		out, status, err := s.link.Call(c, wire.Start, false, nil, config)
		end()
		if waited := given(); waited && err == nil && status == abi.StatusOK {
			c.SetState(s)
			return nil, abi.StatusOK, nil
		}
		s.end(errClosing)
		f.done(n)
		select {
		case <-c.Abandoned():
			return nil, 0, &engine.Ended{}
		default:
		}
		switch {
		case ctx.Err() != nil:
			crash := f.lost(n, fmt.Errorf("its start had not returned in %v (%s.WithStartTimeout)", f.Start, f.By))
			crash.Late = f.Start
			return nil, 0, crash
		case err != nil:
			return nil, 0, f.outcome(n, err)
		}
		return out, status, nil
	}
}

// stop is pool.Code's.
func (f *fleet) stop(c *pool.Call) {
	s, _ := c.State().(*session)
	if s == nil {
		return
	}
	s.link.Abandon()
	done := make(chan struct{})
	late := time.AfterFunc(f.Silence, func() { close(done) })
	s.link.Bye(done)
	late.Stop()
	s.finish()
	f.done(s.node)
}

// call is pool.Code's.
func (f *fleet) call(c *pool.Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
	symbols, hook := f.about.Funcs, fn >= len(f.about.Funcs)
	if hook {
		symbols, fn = f.about.Hooks, fn-len(symbols)
	}
	symbol := &symbols[fn]
	if s, ok := c.State().(*session); ok { // an instance of its own, and nowhere else
		end := s.conn.Wait()
		out, status, err := s.link.Call(c, symbol.Name, hook, dst, in)
		end()
		if status == abi.StatusPanic && err == nil || err != nil && s.conn.Err() != nil {
			c.Spoil()
		}
		if err != nil {
			return dst, 0, f.outcome(s.node, err)
		}
		return f.timely(c, dst, out, status)
	}
	again := symbol.Keys.Get("idempotent") == "yes" && c.Streams() == 0
	var tried map[*node]bool
	asked, attempts, busy, reentrant := false, 0, false, false
	var last, loss error = remote.ErrNoNode, nil
	var lossAt *node
	var patience context.Context
	for {
		n := f.pick(tried)
		if n == nil && !asked && !busy && !reentrant { // some may have come
			asked = true
			_ = f.find(c)
			n = f.pick(tried)
		}
		if n == nil {
			switch {
			case loss != nil:
			case reentrant:
				return dst, 0, engine.ErrReentrant
			case busy:
				last = remote.ErrBusy
			}
			if c.Err() != nil {
				return append(dst, untaken(loss)...), abi.StatusCancelled, nil
			}
			if !busy && !reentrant {
				if patience == nil {
					var cancel context.CancelFunc
					patience, cancel = context.WithTimeout(c, f.Silence)
					defer cancel()
				}
				if f.comesBack(patience) {
					asked, tried = false, nil
					continue
				}
				if c.Err() != nil {
					continue
				}
			}
			if loss != nil { // it has run, once
				return dst, 0, f.outcome(lossAt, loss)
			}
			return dst, 0, f.unreached(last)
		}
		out, status, err := f.callAt(n, c, symbol.Name, hook, dst, in)
		f.done(n)
		if err == nil {
			return f.timely(c, dst, out, status)
		}
		if tried == nil {
			tried = make(map[*node]bool)
		}
		tried[n] = true
		last = err
		var notRun *link.NotRun
		switch {
		case errors.As(err, &notRun):
			if notRun.Why == wire.Late && f.isOver(c) || c.Err() != nil {
				why := "its time was over before a node had a place for it"
				if loss != nil {
					why = untaken(loss)
				}
				return append(dst, why...), abi.StatusCancelled, nil
			}
			busy, reentrant = busy || notRun.Why == wire.Busy, reentrant || notRun.Why == wire.Reentrant
			continue
		case errors.Is(err, errUnsent):
			if c.Err() != nil {
				return append(dst, untaken(loss)...), abi.StatusCancelled, nil
			}
			continue
		}
		if attempts++; again && c.Err() == nil && attempts < f.Attempts && isLoss(err) {
			loss, lossAt = err, n
			continue
		}
		return dst, 0, f.outcome(n, err)
	}
}

// untaken says of a call whose context has ended that no node has it; loss is why the one was lost that had it, or nil.
func untaken(loss error) string {
	if loss != nil {
		return "the node that had it was lost, and no other one had taken it by then"
	}
	return "no node had taken it by then"
}

// errUnsent is of a call of which nothing was sent.
var errUnsent = errors.New("nothing of the call was sent")

type unsent struct{ why error }

func (u *unsent) Error() string        { return u.why.Error() }
func (u *unsent) Unwrap() error        { return u.why }
func (u *unsent) Is(target error) bool { return target == errUnsent }

func (f *fleet) callAt(n *node, c *pool.Call, name string, hook bool, dst, in []byte) ([]byte, abi.Status, error) {
	var never *link.Unsent
	for range 2 { // a session may be over just when it is taken
		s, err := n.session(c, len(in))
		if err != nil {
			f.avoid(n, errors.Is(err, duplex.ErrGone))
			return dst, 0, &unsent{err}
		}
		end := s.conn.Wait()
		out, status, err := s.link.Call(c, name, hook, dst, in)
		end()
		if never = nil; errors.As(err, &never) {
			continue
		}
		if isLoss(err) { // of the session: whether the node is gone the next one tells
			f.avoid(n, false)
		} else {
			_, late := err.(*engine.Overrun)
			f.comes(n, late)
		}
		return out, status, err
	}
	return dst, 0, &unsent{never}
}

// isLoss reports whether the session is over.
func isLoss(err error) bool {
	switch err.(type) {
	case nil, *engine.Violation, *engine.Overrun, *link.NotRun:
		return false
	}
	return !errors.Is(err, errUnsent)
}

// timely is what has become of a call that has an answer: one that came when its context had ended is no success.
func (f *fleet) timely(c *pool.Call, dst, out []byte, status abi.Status) ([]byte, abi.Status, error) {
	if at, ok := c.Deadline(); status == abi.StatusOK && (c.Err() != nil || ok && !time.Now().Before(at)) { // timers come late where this process was stopped
		f.isOver(c)
		return append(dst, "its answer came too late"...), abi.StatusCancelled, nil
	}
	if status == abi.StatusCancelled {
		f.isOver(c)
	}
	return out, status, nil
}

// isOver reports whether a call's context has ended, or is about to, which it waits for: a node's clock may be a little ahead.
func (f *fleet) isOver(c *pool.Call) bool {
	if c.Err() == nil {
		at, ok := c.Deadline()
		if !ok || time.Until(at) > soon {
			return false
		}
		<-c.Done()
	}
	return true
}

// soon is how much earlier a deadline may be over on a node than here: by half a round trip, which may be long.
const soon = 250 * time.Millisecond

// comesBack waits a moment where the connection to the broker is broken, or was a moment ago: nodes may be on their way back, too. It reports whether to look again.
func (f *fleet) comesBack(ctx context.Context) bool {
	since, err := f.Broker.Up(ctx)
	if err != nil || since.IsZero() || time.Since(since) > f.Silence {
		return false
	}
	select {
	case <-time.After(20 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// outcome dresses a call's error.
func (f *fleet) outcome(n *node, err error) error {
	if isLoss(err) {
		crash := f.lost(n, err)
		crash.Reason += "; what the call has done is not known"
		return crash
	}
	return err
}

// lost says that a node is.
func (f *fleet) lost(n *node, why error) *engine.Crash {
	crash := &engine.Crash{Subject: "the way to " + f.Path, Code: -1, Attempt: 1, Reason: "lost: " + why.Error(), Kind: remote.ErrNodeLost, Remedy: "See whether its nodes run"}
	if n != nil {
		crash.Subject = "the node " + n.ID
	}
	var shut *errShutdown
	if errors.As(why, &shut) {
		crash.GivenUp = shut.cause
	}
	return crash
}

// unreached says that a call was not made.
func (f *fleet) unreached(why error) error {
	kind := remote.ErrNoNode
	if errors.Is(why, remote.ErrBusy) {
		kind = remote.ErrBusy
	}
	return &unreached{kind, why, f.Target.String()}
}

// unreached is a call that no node had.
type unreached struct {
	kind, why error
	target    string
}

// Error says why, and what to do.
func (u *unreached) Error() string {
	text := fmt.Sprintf("%s: %v", u.target, u.kind)
	if u.why != u.kind {
		text += fmt.Sprintf(": %v", u.why)
	}
	if u.kind == remote.ErrBusy {
		return text + "; call again later, or start more nodes, or some with more workers"
	}
	return text + "; start one, or call again when there is one"
}

// Unwrap returns the kind.
func (u *unreached) Unwrap() error { return u.kind }

// close ends what the plug-in has.
func (f *fleet) close() {
	f.closing.Do(func() {
		close(f.closed)
		if f.unwatch != nil {
			f.unwatch()
		}
		f.mu.Lock()
		f.nodes, f.list, f.over = make(map[string]*node), nil, true
		f.mu.Unlock()
		for _, s := range f.all() {
			s.link.Abandon()
			s.conn.Close()
			s.end(errClosing)
		}
		f.Broker.Close()
	})
}

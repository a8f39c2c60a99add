package sidecar

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// call is one of the host's: what runs, its context, and its plugin.Host.
type call struct {
	*function // nil of a service, and of what is not known
	s         *session
	id        uint64
	name      string // where function is nil
	in        []byte
	size      int
	refused   string // why nothing runs
	service   bool
	looked    bool // somebody wants to know how far it is
	late      bool // much that was answered before waits for the host to read it
	soon      bool // another call is there already: the answer goes with its answer
	stream    uint8
	input     *input  // nil without
	output    *output // nil without
	asks      asks
	waited    atomic.Bool // for the host

	mu       sync.Mutex
	deadline time.Time // zero without
	err      error     // of the context
	done     chan struct{}
	timer    *time.Timer
	after    map[*func()]struct{}
	far      far
}

// far is how far a call is.
type far struct {
	done, total uint64
	told        time.Time
	untold      bool
}

// Deadline is context.Context's, as the next three.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	c.timed()
	return c.done
}

func (c *call) Err() error {
	c.mu.Lock()
	late := c.err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline)
	err := c.err
	c.mu.Unlock()
	if late {
		c.cancel(context.DeadlineExceeded)
		return c.Err()
	}
	return err
}

func (c *call) Value(key any) any { return c.s.base.Value(key) }

// AfterFunc has package context follow this context without a goroutine.
func (c *call) AfterFunc(f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = make(map[*func()]struct{})
	}
	c.after[&f] = struct{}{}
	c.timed()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.after[&f]
		delete(c.after, &f)
		return there
	}
}

// timed has the context end when its time is over, from when somebody can see that. mu is held.
func (c *call) timed() {
	if c.timer == nil && c.err == nil && !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.cancel(context.DeadlineExceeded) })
	}
}

// cancel ends the context.
func (c *call) cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
}

// own reports whether a context ends with a message alone: who waits for it may read the messages meanwhile. One with a deadline does not, nor does one that has been derived.
func (c *call) own(ctx context.Context) bool { return c.deadline.IsZero() && ctx.Done() == c.Done() }

// End is told when the function has returned: its goroutines that wait for the host come back.
func (c *call) End() { c.cancel(context.Canceled) }

// Ask is plugin.Host's, as what follows.
func (c *call) Ask(ctx context.Context, name string, in []byte) ([]byte, int32) {
	if _, ok := c.s.p.Ordinal(name); !ok {
		return undeclared(name)
	}
	c.waited.Store(true)
	return c.s.ask(ctx, c.own(ctx), c.id, &c.asks, name, in)
}

func (c *call) Next(ctx context.Context, in []byte) ([]byte, int32) {
	c.waited.Store(true)
	return c.s.ask(ctx, c.own(ctx), c.id, &c.asks, "ferrule.next", in)
}

func (c *call) Info(ctx context.Context, key string) (string, int32) {
	c.waited.Store(true)
	out, status := c.s.ask(ctx, c.own(ctx), c.id, &c.asks, "ferrule.info", []byte(key))
	return string(out), status
}

func (c *call) Log(_ context.Context, level int32, text string, fields []byte) {
	c.s.log(c.id, level, text, fields)
}

// Progress tells the host at most ten times a second; and how far the call was at its end.
func (c *call) Progress(done, total uint64) {
	if !c.looked {
		return
	}
	c.mu.Lock()
	now := time.Now()
	c.far.done, c.far.total = min(done, math.MaxInt64), min(total, math.MaxInt64)
	if c.far.untold = !c.far.told.IsZero() && now.Sub(c.far.told) < time.Second/10; c.far.untold {
		c.mu.Unlock()
		return
	}
	c.far.told = now
	m := outgoing{verb: progress, id: c.id, a: c.far.done, b: c.far.total}
	c.mu.Unlock()
	c.s.say(&m, nil)
}

// progressed tells what was not told yet.
func (c *call) progressed() {
	c.mu.Lock()
	f := c.far
	c.far.untold = false
	c.mu.Unlock()
	if f.untold {
		c.s.say(&outgoing{verb: progress, id: c.id, a: f.done, b: f.total}, nil)
	}
}

func (c *call) Read(p []byte) (int, int32) {
	if c.input == nil {
		return 0, int32(plugin.Unsupported)
	}
	c.waited.Store(true)
	return c.input.read(p)
}

func (c *call) Write(p []byte) int32 {
	if c.output == nil {
		return int32(plugin.Unsupported)
	}
	c.waited.Store(true)
	return c.output.write(p)
}

// Background is for what a start function has go on between calls.
func (c *call) Background() (context.Context, any) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.name != "ferrule.start" || !c.service {
		return nil, nil
	}
	if c.s.between == nil {
		ctx, cancel := context.WithCancel(c.s.base)
		c.s.between = &background{s: c.s, ctx: ctx, cancel: cancel}
	}
	return c.s.between.ctx, c.s.between
}

// background is the plugin.Host of what goes on between calls (rule R27 of ferrule.h).
type background struct {
	s      *session
	ctx    context.Context
	cancel context.CancelFunc
	over   bool // the plug-in is stopped; the session's mu guards it
}

func (b *background) ask(ctx context.Context, name string, in []byte) ([]byte, int32) {
	b.s.mu.Lock()
	over := b.over
	b.s.mu.Unlock()
	if over {
		return []byte("found a call after the plug-in was stopped"), int32(plugin.Misuse)
	}
	return b.s.ask(ctx, false, 0, &b.s.stray, name, in)
}

func (b *background) Ask(ctx context.Context, name string, in []byte) ([]byte, int32) {
	if _, ok := b.s.p.Ordinal(name); !ok {
		return undeclared(name)
	}
	return b.ask(ctx, name, in)
}

func (b *background) Info(ctx context.Context, key string) (string, int32) {
	out, status := b.ask(ctx, "ferrule.info", []byte(key))
	return string(out), status
}

func (b *background) Log(_ context.Context, level int32, text string, fields []byte) {
	b.s.log(0, level, text, fields)
}

func (b *background) Next(context.Context, []byte) ([]byte, int32) {
	return []byte("there is nothing behind what goes on between calls"), int32(plugin.Misuse)
}
func (b *background) Progress(uint64, uint64)            {}
func (b *background) Read([]byte) (int, int32)           { return 0, int32(plugin.Misuse) }
func (b *background) Write([]byte) int32                 { return int32(plugin.Misuse) }
func (b *background) Background() (context.Context, any) { return nil, nil }

func undeclared(name string) ([]byte, int32) {
	return []byte("found a call of " + name + ", which is neither an import nor a want of the plug-in"), int32(plugin.Misuse)
}

// asks are the calls of the host's functions for one call, or for none, that have no answer yet: as many as rule W11 allows. Others wait, and come in the
// order in which they were made. The session's mu guards them.
type asks struct {
	calls   int
	bytes   uint64
	waiting []*question
}

const maxAsked = 1024

// let lets those go on for which there is room.
func (a *asks) let(most uint64) {
	for len(a.waiting) > 0 && a.calls < maxAsked && a.bytes+a.waiting[0].bytes <= most {
		q := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.calls, a.bytes = a.calls+1, a.bytes+q.bytes
		q.admitted = true
		q.ring.ring()
	}
}

// question is a call of one of the host's functions.
type question struct {
	of       *asks
	bytes    uint64
	admitted bool // it may be made
	asked    bool // it was
	answered bool
	out      []byte
	status   int32
	ring     bell
}

func (q *question) ready() bool {
	if q.asked {
		return q.answered
	}
	return q.admitted
}

func (q *question) bell() *bell { return &q.ring }

// ask calls a function of the host's for the call with the id of, or for none. own says that ctx ends with a message, or with the session. What a call asks of
// a host that does not want it any more is for the host's function to refuse, as it is in the other forms of a plug-in. It takes mu.
func (s *session) ask(ctx context.Context, own bool, of uint64, a *asks, name string, in []byte) ([]byte, int32) {
	if uint64(len(in)) > s.most {
		return []byte("it is longer than the host takes"), int32(plugin.NoMemory)
	}
	done := ctx.Done()
	switch {
	case ctx.Err() == nil:
	case own && of != 0:
		done = nil
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.unanswered()
	}
	q := &question{of: a, bytes: uint64(len(in))}
	s.mu.Lock()
	a.waiting = append(a.waiting, q)
	a.let(s.most)
	s.mu.Unlock()
	if !s.await(q, done, own) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if at := slices.Index(a.waiting, q); at >= 0 {
			a.waiting = slices.Delete(a.waiting, at, at+1)
			a.let(s.most) // it may have kept shorter ones
		}
		return s.unanswered()
	}
	s.mu.Lock()
	s.last++
	m := outgoing{verb: called, id: s.last, name: name, of: of}
	s.asked[m.id] = q
	q.asked = true
	s.mu.Unlock()
	if err := s.w.send(&m, in, false); err != nil {
		s.end(err)
	}
	ok := s.await(q, done, own)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		return s.unanswered()
	}
	return q.out, q.status
}

// unanswered is what a question has come to whose answer nobody waits for any more. mu is held.
func (s *session) unanswered() ([]byte, int32) {
	if s.ended {
		return []byte("the host is gone"), int32(plugin.Failed)
	}
	return nil, int32(plugin.Cancelled)
}

// answered takes the host's answer in. It takes mu.
func (s *session) answered(m *message) error {
	id, status := m.id, int32(m.n)
	out, err := s.r.body(nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.asked[id]
	if q == nil {
		return breaks("W7", "one answer to each call", "DONE %d, which has no call in progress", id)
	}
	delete(s.asked, id)
	q.of.calls, q.of.bytes = q.of.calls-1, q.of.bytes-q.bytes
	q.of.let(s.most)
	if status == 8 || status > int32(plugin.Pass) && status < int32(plugin.Own) {
		status = int32(plugin.Failed)
	}
	q.out, q.status, q.answered = out, status, true
	q.ring.ring()
	return nil
}

// log writes a line.
func (s *session) log(of uint64, level int32, text string, fields []byte) {
	if level < 1 || level > s.trace() {
		level = s.trace()
	}
	if level > s.level {
		return
	}
	text = strings.ToValidUTF8(start(text, maxLog/2), "\uFFFD")
	text = start(text, maxLog/2) // which may have grown
	fields = bytes.ToValidUTF8(whole(fields), []byte("\uFFFD"))
	fields = whole(fields)
	s.say(&outgoing{verb: logged, level: level, of: of, fields: len(fields)}, append([]byte(text), fields...))
}

func (*session) trace() int32 { return int32(len(levels) - 1) }

// start is the beginning of a text, without half a character at its end.
func start(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// whole are the first fields, as many as there is room for.
func whole(fields []byte) []byte {
	if len(fields) <= maxLog/2 {
		return fields
	}
	return fields[:bytes.LastIndexByte(fields[:maxLog/2], 0)+1]
}

// say writes a message that nothing comes of.
func (s *session) say(m *outgoing, body []byte) {
	if err := s.w.send(m, body, false); err != nil {
		s.end(err)
	}
}

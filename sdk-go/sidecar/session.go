package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// What a host's calls without an answer may be together (rule W7).
const (
	maxCalls  = 4096
	maxInputs = 256 << 20
)

// session is one host's. One goroutine at a time reads: it reads a call, stops reading, and runs it, so that nobody needs to be woken for it. Who waits for the host within that call
// reads meanwhile itself. Where nobody reads for a tick, because the call takes longer, another goroutine does.
type session struct {
	p         *plugin.Plugin
	base      context.Context // whose values calls see; it ends with the session
	r         *reader
	w         *writer
	functions [2]map[string]*function // functions, and hooks
	serial    bool                    // one call at a time, all of them run by the same goroutine
	pinned    bool                    // on one thread of the system
	starts    bool                    // has a service start
	services  []string

	// The reader's, until it has read the hello; nobody else is there before.
	greeted bool
	level   int32  // of log lines
	most    uint64 // bytes of a body
	m       message

	running     sync.WaitGroup // calls
	unread      atomic.Int64   // answers that are being written
	unreadBytes int            // of long ones; mu guards it
	drains      chan struct{}  // closed when these are fewer; nil where nobody waits for that

	mu      sync.Mutex
	ended   bool
	why     error
	over    chan struct{}
	stopped chan struct{} // closed when what was started is stopped, or was before: nothing of the plug-in's is called any more
	reading bool          // somebody reads, or is about to
	turns   uint64        // how often that has ended
	waiting int           // who waits for a message and does not read
	idle    []*worker
	runner  *worker // of a serial plug-in: runs all of its calls
	pending []*call // for the runner
	watch   *time.Timer
	watched bool   // it runs
	seen    uint64 // turns when it was set
	left    *call  // which the last one who has read has left to run

	calls  map[uint64]*call // without an answer
	inputs int              // their bytes
	asked  map[uint64]*question
	last   uint64
	stray  asks // for no call

	life    life
	serving bool // a service runs
	state   any
	between *background
}

// life is how far a plug-in with state is.
type life uint8

const (
	fresh life = iota
	started
	stopped
)

// function is one of the plug-in's, or a hook.
type function struct {
	n    int
	slow atomic.Int32 // above 0 where it takes so long that somebody else is to read before it runs
}

const (
	tick     = 500 * time.Microsecond // how long nobody reads while a call runs
	long     = 20 * time.Microsecond  // what takes longer is slow
	sampled  = 16                     // one of so many calls is timed where functions are quick
	slowness = 8                      // so many calls are timed until a function is quick again
	kept     = 1 << 20                // bytes of memory that a goroutine keeps for inputs
)

func newSession(ctx context.Context, in io.Reader, out io.Writer, p *plugin.Plugin) *session {
	s := &session{p: p, base: ctx, r: newReader(in, maxBody), w: newWriter(out), serial: !p.Concurrent(), pinned: p.Pinned(), services: p.Services(),
		level: int32(len(levels) - 1), most: maxBody, over: make(chan struct{}), stopped: make(chan struct{}), calls: map[uint64]*call{}, asked: map[uint64]*question{}}
	s.starts = slices.Contains(s.services, "start")
	for hook, names := range [2][]string{p.Names(false), p.Names(true)} {
		s.functions[hook] = make(map[string]*function, len(names))
		for _, name := range names {
			n, _ := p.Function(name, hook == 1)
			s.functions[hook][name] = &function{n: n}
		}
	}
	s.watch = time.AfterFunc(time.Hour, s.tick)
	s.watch.Stop()
	return s
}

// worker is a goroutine that reads, and runs calls. One that does neither is kept.
type worker struct {
	s       *session
	wake    chan struct{}
	reads   bool  // it is the one that reads
	first   *call // what it is to run
	current *call // what it runs
	in      []byte
	ran     uint32
}

func (s *session) newWorker() *worker { return &worker{s: s, wake: make(chan struct{}, 1)} }

// begin has the session go on until it is over.
func (s *session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.newWorker()
	if s.serial {
		s.runner = w
	}
	s.reading, w.reads = true, true
	go w.work()
}

func (w *worker) work() {
	if w.s.pinned && w == w.s.runner {
		runtime.LockOSThread() // and the thread ends with this goroutine
	}
	defer w.gone()
	for c := w.next(); c != nil; c = w.next() {
		w.run(c)
	}
	w.unpin()
}

// unpin stops a pinned plug-in whose host is gone, on the thread that has started it. No call of it runs.
func (w *worker) unpin() {
	if s := w.s; s.pinned && w == s.runner {
		defer close(s.stopped)
		s.abandoned()
	}
}

// gone answers a call whose function has ended its goroutine, and has another one take its place.
func (w *worker) gone() {
	c, s := w.current, w.s
	if c == nil {
		return
	}
	s.answer(c, []byte("the function has ended its goroutine: it has called runtime.Goexit, as testing.T.FailNow does"), int32(plugin.Panic), false)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.runner == w:
		s.runner = s.newWorker()
		go s.runner.work()
	case s.ended:
	case !s.reading:
		s.lead()
	}
}

// rouse has an idle worker go on. mu is held, as in all that follows but where something else is said.
func (s *session) rouse(w *worker) {
	s.idle = slices.DeleteFunc(s.idle, func(o *worker) bool { return o == w })
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// helper returns a worker that has nothing to do, and whether it has to be started.
func (s *session) helper() *worker {
	if n := len(s.idle); n > 0 {
		w := s.idle[n-1]
		s.rouse(w)
		return w
	}
	w := s.newWorker()
	go func() { w.work() }()
	return w
}

// lead has another goroutine read, where nobody does.
func (s *session) lead() {
	s.reading = true
	s.helper().reads = true
}

// leave ends the reading of one who has read. slow says that it may be long until somebody else does so.
func (s *session) leave(slow bool) {
	s.reading = false
	s.turns++
	switch {
	case s.ended:
	case slow || s.waiting > 0 || len(s.calls) == 0:
		s.lead()
	case !s.watched:
		s.watched, s.seen = true, s.turns
		s.watch.Reset(tick)
	}
}

// tick sees to it that somebody reads. It takes mu.
func (s *session) tick() {
	s.mu.Lock()
	switch {
	case s.ended || s.reading:
		s.watched = false
	case s.turns == s.seen:
		s.watched = false
		if c := s.left; c != nil && c.function != nil && !c.waited.Load() {
			c.slow.Store(slowness)
		}
		s.lead()
	default:
		s.seen = s.turns
		s.watch.Reset(tick)
	}
	s.mu.Unlock()
	s.flush()
}

// flush writes the answers that wait for others. It takes mu.
func (s *session) flush() {
	if err := s.w.flush(); err != nil {
		s.end(err)
	}
}

// next returns the next call that a worker is to run; nil where it is not needed any more. It takes mu.
func (w *worker) next() *call {
	s := w.s
	s.mu.Lock()
	for {
		switch {
		case s.ended:
			if w.first != nil {
				s.running.Done()
			}
			s.mu.Unlock()
			return nil
		case w.first != nil:
			c := w.first
			w.first = nil
			s.mu.Unlock()
			return c
		case w == s.runner && len(s.pending) > 0:
			c := s.pending[0]
			s.pending = s.pending[1:]
			if w.reads {
				w.reads = false
				s.leave(false)
			}
			s.mu.Unlock()
			return c
		case w.reads || !s.reading && (!s.serial || w == s.runner):
			s.reading, w.reads = true, true
			if c := w.read(); c != nil {
				s.mu.Unlock()
				return c
			}
		case w == s.runner || len(s.idle) == 0 || len(s.idle) == 1 && s.idle[0] == s.runner:
			s.idle = append(s.idle, w)
			s.mu.Unlock()
			s.flush()
			select {
			case <-w.wake:
			case <-s.over:
			}
			s.mu.Lock()
			s.idle = slices.DeleteFunc(s.idle, func(o *worker) bool { return o == w }) // the session may be over
		default:
			s.mu.Unlock()
			s.flush()
			return nil
		}
	}
}

// read reads messages until there is a call for this worker, which does not read then any more; nil where it has stopped without one.
func (w *worker) read() *call {
	s := w.s
	for {
		s.mu.Unlock()
		if s.w.waits.Load() && !s.r.whole("CALL ") {
			s.flush()
		}
		c, err := s.read(w.in)
		s.mu.Lock()
		if c != nil {
			err = s.admit(c)
		}
		switch {
		case err != nil || s.ended:
			s.finish(err)
			w.reads = false
			s.leave(false)
			return nil
		case c == nil:
		case s.serial && w != s.runner:
			w.in = nil
			if s.pass(c) && s.waiting == 0 { // the runner reads, when it has run this one
				w.reads = false
				s.leave(false)
				return nil
			}
		default:
			w.in = c.in
			c.soon = c.function != nil && c.slow.Load() == 0 && s.r.whole("CALL ")
			w.reads = false
			s.left = c
			s.leave(!s.serial && c.function != nil && c.slow.Load() > 0)
			return c
		}
	}
}

// pass has another goroutine run a call, and reports whether that one had nothing to do.
func (s *session) pass(c *call) bool {
	if !s.serial {
		s.helper().first = c
		return true
	}
	s.pending = append(s.pending, c)
	if !slices.Contains(s.idle, s.runner) {
		return false
	}
	s.rouse(s.runner)
	return true
}

// waitable is what messages make ready.
type waitable interface {
	ready() bool
	bell() *bell
}

// bell wakes those who wait for something.
type bell struct{ waiting []chan struct{} }

func (b *bell) ring() {
	for _, wake := range b.waiting {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// await waits until t is ready, stop is closed, or the session is over, and reports whether it is ready. reads says that it may read itself meanwhile, since stop
// is closed by a message alone. It takes mu.
func (s *session) await(t waitable, stop <-chan struct{}, reads bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wake chan struct{}
	own := false
	for !t.ready() && !s.ended {
		select {
		case <-stop:
			if own {
				s.leave(false)
			}
			return false
		default:
		}
		if own || reads && !s.reading {
			s.reading, own = true, true
			s.mu.Unlock()
			s.flush()
			c, err := s.read(nil)
			s.mu.Lock()
			if c != nil {
				if err = s.admit(c); err == nil && !s.ended {
					s.pass(c)
				}
			}
			if err != nil {
				s.finish(err)
			}
			continue
		}
		if !s.reading {
			s.lead()
		}
		if wake == nil {
			wake = make(chan struct{}, 1)
		}
		b := t.bell()
		b.waiting = append(b.waiting, wake)
		s.waiting++
		s.mu.Unlock()
		s.flush()
		select {
		case <-wake:
		case <-stop:
		case <-s.over:
		}
		s.mu.Lock()
		s.waiting--
		b.waiting = slices.DeleteFunc(b.waiting, func(o chan struct{}) bool { return o == wake })
	}
	if own {
		s.leave(false)
	}
	return t.ready()
}

// end ends the session. It takes mu.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(err)
}

// finish ends the session: the host is gone, has broken a rule, or has said goodbye.
func (s *session) finish(err error) {
	if s.ended {
		return
	}
	s.ended = true
	if err != io.EOF {
		s.why = err
	}
	s.watch.Stop()
	for range s.pending {
		s.running.Done()
	}
	s.pending = nil
	for _, c := range s.calls {
		c.cancel(context.Canceled)
	}
	close(s.over)
}

// read reads one message, and does what it asks for; a call is returned, with its input in the memory of in. It is for the one who reads, without mu, which it takes.
func (s *session) read(in []byte) (*call, error) {
	m := &s.m
	if err := s.r.next(m); err != nil {
		return nil, err
	}
	if !s.greeted && m.verb != hello {
		return nil, breaks("W4", "HELLO", "%s first of all", verbs[m.verb].word)
	}
	switch m.verb {
	case hello:
		return nil, s.hello(m)
	case called:
		return s.receive(m, in)
	case done:
		return nil, s.answered(m)
	case part:
		return nil, s.part(m)
	case cancelled, more:
		s.mu.Lock()
		defer s.mu.Unlock()
		c := s.calls[m.id]
		switch {
		case c == nil:
		case m.verb == cancelled:
			c.cancel(context.Canceled)
		case c.output != nil:
			c.output.allow(m.n)
		}
	case bye:
		return nil, io.EOF
	default:
		return nil, breaks("W7", "CALL, DONE, CANCEL, PART, MORE or BYE", "%s from a host", verbs[m.verb].word)
	}
	return nil, nil
}

func (s *session) hello(m *message) error {
	if s.greeted {
		return breaks("W4", "one", "a second HELLO")
	}
	if m.length > 0 {
		return breaks("W4", "none of a host's", "HELLO with a body")
	}
	s.greeted = true
	if m.level != 0 {
		s.level = m.level
	}
	if m.maxBody != 0 {
		s.most = m.maxBody
	}
	if err := s.w.send(&outgoing{verb: hello}, s.p.Manifest(), false); err != nil {
		return err
	}
	if m.n != 1 {
		return breaks("W4", "version 1", "version %d of the wire", m.n)
	}
	return nil
}

// receive reads the rest of a call.
func (s *session) receive(m *message, in []byte) (*call, error) {
	c := &call{s: s, id: m.id, stream: m.stream, looked: m.watched}
	kind := 0
	if m.hook {
		kind = 1
	}
	if c.function = s.functions[kind][string(m.name)]; c.function == nil {
		c.name = string(m.name)
	}
	if m.timeout > 0 {
		c.deadline = time.Now().Add(time.Duration(min(m.timeout, 1<<40)) * time.Millisecond)
	}
	if m.length > 0 {
		s.mu.Lock()
		inputs := s.inputs
		s.mu.Unlock()
		if inputs > 0 && uint64(inputs)+m.length > maxInputs {
			return nil, breaks("W7", "268435456 at most, or one call", "calls without an answer with %d bytes", uint64(inputs)+m.length)
		}
	}
	var err error
	if c.in, err = s.r.body(in[:0]); err != nil {
		return nil, err
	}
	c.size = len(c.in)
	if m.stream&streamIn != 0 {
		c.input = &input{of: c, room: window}
	}
	if m.stream&streamOut != 0 {
		c.output = &output{of: c, room: window}
	}
	return c, nil
}

// admit takes in that the host calls.
func (s *session) admit(c *call) error {
	switch {
	case s.ended:
		return nil
	case s.calls[c.id] != nil:
		return breaks("W7", "an id that no call has which was not answered", "CALL %d twice", c.id)
	case len(s.calls) >= maxCalls:
		return breaks("W7", "4096 at most", "more than %d calls without an answer", maxCalls)
	case s.unread.Load() >= maxCalls+maxCalls/2: // some of these may have been read already
		return breaks("W7", "a host that reads them", "more than %d calls whose answers are not read", maxCalls)
	}
	service := c.function == nil && strings.HasPrefix(c.name, "ferrule.")
	switch {
	case service && len(s.calls) > 0:
		c.refused = "found " + c.name + " while a call runs, expected none: rule W10 of docs/wire.md"
	case service:
		s.serving, c.service = true, true
	case s.serving:
		c.refused = "found a call while a service runs, expected its answer first: rule W10 of docs/wire.md"
	case s.starts && s.life != started && c.function != nil:
		c.refused = "found a call of a plug-in that is not started, expected ferrule.start first: rule W10 of docs/wire.md"
	}
	s.calls[c.id] = c
	s.inputs += c.size
	c.late = s.unreadBytes >= maxInputs
	s.running.Add(1)
	return nil
}

// run runs a call, and answers it. It takes mu.
func (w *worker) run(c *call) {
	w.current = c
	w.ran++
	var out []byte
	var status int32
	if c.late {
		w.s.drained(c)
	}
	switch f := c.function; {
	case c.refused != "":
		out, status = []byte(c.refused), int32(plugin.Misuse)
	case c.service:
		out, status = w.s.serve(c)
	case f == nil:
		out, status = []byte("it has no function and no hook of this name"), int32(plugin.Unsupported)
	case w.s.serial || f.slow.Load() == 0 && w.ran%sampled != 1:
		out, status = w.s.p.Call(c, c, w.s.state, f.n, c.in)
	default:
		begun := time.Now()
		out, status = w.s.p.Call(c, c, w.s.state, f.n, c.in)
		f.took(c, time.Since(begun))
	}
	w.current = nil
	w.s.answer(c, out, status, c.soon)
	if cap(w.in) > kept {
		w.in = nil
	}
}

// took takes in how long a function took. What waits for the host lets others read itself.
func (f *function) took(c *call, took time.Duration) {
	switch {
	case c.waited.Load():
	case took > long:
		f.slow.Store(slowness)
	case f.slow.Load() > 0:
		f.slow.Add(-1)
	}
}

// answer ends a call. It takes mu.
func (s *session) answer(c *call, out []byte, status int32, soon bool) {
	if c.looked {
		c.progressed()
	}
	if status != 0 {
		out = bytes.ToValidUTF8(out, []byte("\uFFFD"))
	}
	if uint64(len(out)) > s.most {
		text := fmt.Sprintf("the output has %d bytes, and the host takes %d at most", len(out), s.most)
		out, status = []byte(text[:min(uint64(len(text)), s.most)]), int32(plugin.NoMemory)
	}
	large := 0
	if len(out) >= direct {
		large = len(out)
	}
	c.cancel(context.Canceled)
	s.unread.Add(1)
	s.mu.Lock()
	delete(s.calls, c.id) // it is answered before it is written: what the host does with the answer may be read before this goroutine goes on
	s.inputs -= c.size
	s.unreadBytes += large
	if c.service {
		s.serving = false
	}
	s.mu.Unlock()
	err := s.w.send(&outgoing{verb: done, id: c.id, status: status}, out, soon)
	s.unread.Add(-1)
	c.in = nil // of which out may be a part
	if large > 0 {
		s.mu.Lock()
		s.unreadBytes -= large
		if s.drains != nil && s.unreadBytes < maxInputs {
			close(s.drains)
			s.drains = nil
		}
		s.mu.Unlock()
	}
	if err != nil {
		s.end(err)
	}
	s.running.Done()
}

// drained waits until the host has read what it has left unread of long answers, or the call is not wanted any more. It takes mu.
func (s *session) drained(c *call) {
	for {
		s.mu.Lock()
		if s.unreadBytes < maxInputs {
			s.mu.Unlock()
			return
		}
		if s.drains == nil {
			s.drains = make(chan struct{})
		}
		drains := s.drains
		s.mu.Unlock()
		select {
		case <-drains:
		case <-c.Done():
			return
		}
	}
}

// serve runs a service. It takes mu. No other call runs meanwhile.
func (s *session) serve(c *call) (out []byte, status int32) {
	name := strings.TrimPrefix(c.name, "ferrule.")
	if !slices.Contains(s.services, name) {
		return []byte("there is no service " + c.name), int32(plugin.Unsupported)
	}
	s.mu.Lock()
	was := s.life
	s.mu.Unlock()
	switch {
	case name == "start" && was != fresh:
		return []byte("found a second ferrule.start, expected one"), int32(plugin.Misuse)
	case name != "start" && (was == stopped || s.starts && was != started):
		return []byte("found " + c.name + " of a plug-in that is not started, expected ferrule.start first"), int32(plugin.Misuse)
	}
	switch name {
	case "start":
		s.become(stopped) // unless it works
		var state any
		state, out, status = s.p.Start(c, c, c.in)
		if status != 0 {
			s.endBetween()
			break
		}
		s.state = state
		s.become(started)
	case "configure":
		out, status = s.p.Configure(c, c, s.state, c.in)
	case "save":
		out, status = s.p.Save(c, c, s.state)
	case "resume":
		out, status = s.p.Resume(c, c, s.state, c.in)
	case "stop":
		out, status = s.stop(c, c)
	}
	return out, status
}

func (s *session) become(l life) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = l
}

// stop stops what was started: nothing goes on between calls any more when it is over. It takes mu.
func (s *session) stop(ctx context.Context, h plugin.Host) (out []byte, status int32) {
	s.become(stopped)
	s.mu.Lock()
	between := s.between
	s.mu.Unlock()
	if between != nil {
		between.cancel()
	}
	defer s.endBetween()
	return s.p.Stop(ctx, h, s.state)
}

// endBetween ends what goes on between calls. It takes mu.
func (s *session) endBetween() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.between != nil {
		s.between.cancel()
		s.between.over = true
	}
}

// abandoned stops what was started and not stopped, as where the host was killed: no call runs any more. It takes mu.
func (s *session) abandoned() {
	s.mu.Lock()
	left := s.life == started
	s.mu.Unlock()
	if !left {
		s.endBetween()
		return
	}
	c := &call{s: s}
	_, _ = s.stop(c, c)
}

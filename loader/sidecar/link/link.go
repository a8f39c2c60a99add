// Package link is the host's end of a session with a sidecar: calls, host functions, streams, logs and progress over one stream of bytes, as
// docs/wire.md has it. Where the stream comes from, and what is behind it, is package sidecar's.
//
// There is one reader at a time, who has the token. A caller that waits reads itself, as long as nothing came for it: a call alone needs no other
// goroutine. Whatever comes for another call is put into that call, whose goroutine serves it. Where no caller waits, the watcher reads.
//
// Nothing of the host's runs in the reader, nor does the reader write: a sidecar that does not read, and a host function that does not
// return, hold up their own call only. The reader waits for one thing, and for a moment: for room for a log line (see putLog).
//
// It is experimental: it may change in a minor version (docs/promises.md).
package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/eager"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Stream is what the two speak over. Close ends a Read and a Write that wait. Where it has no deadlines, SetReadDeadline fails with os.ErrNoDeadline.
type Stream interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
}

// Options are what a link is made of.
type Options struct {
	Token   string
	MaxBody uint64        // in bytes
	Grace   time.Duration // how long a call may go on when its context has ended

	// Leave says that the stream is not this host's alone to end: a call which does not stop in time leaves the session as it is, which others use: what its answer says, when it comes, is left out.
	Leave bool
	Late  string // how errors go on after such a call; "" says that its sidecar was ended
	Long  string // what sets MaxBody, as errors name it; "" is sidecar.WithMaxMessage

	Other     string // how errors name the other side; "" is the sidecar
	OtherLong string // and what sets its longest message; "" is as a sidecar has it
}

// Leaving is for a sidecar that says BYE, while the session goes on. Both may be nil.
type Leaving struct {
	Vacant func() bool // reports whether nobody is on the way to Call, once over has been told; it does not wait, and mu is held
	Last   func()      // is called before BYE is answered, when no call runs any more. It may call
}

// Link is one session. Its methods may be called from any goroutine but where they say otherwise.
type Link struct {
	Options
	Leaving  Leaving // set before Begin, or not at all
	stream   Stream
	eager    *eager.Reader
	turn     turn // of who has the token
	r        *wire.Reader
	w        *wire.Writer
	about    *abi.Description
	ordinals map[string]uint32
	takes    uint64 // how long a body the sidecar takes

	token    chan struct{} // who takes it out reads
	watching atomic.Bool   // the watcher has it, and a caller that wants it kicks it out
	always   bool          // the stream cannot be interrupted: the watcher alone reads
	large    atomic.Int32  // who writes what may need the other side to be read meanwhile
	ask      chan struct{} // somebody does
	body     []byte        // whoever reads has it, for an answer whose call may be given up meanwhile (Leave)
	woken    atomic.Int32  // calls that are done, and whose goroutines do not know yet
	count    atomic.Uint64 // of messages that were read

	mu     sync.Mutex
	calls  map[uint64]*call // in progress
	last   uint64           // the id of the newest
	given  map[uint64]int   // calls that were given up (Leave), whose answers are still to come, with the bytes of their inputs
	room   room             // of calls without an answer
	idle   *call            // what is done for no call; nil before Begin, and where nothing is
	served chan struct{}    // closed when nothing of that is left
	stray  asked            // what the sidecar asks for that is of no call
	open   map[uint64]bool  // ids of the sidecar's calls that were not answered
	left   bool             // the sidecar has said BYE
	parts  bool             // the host is about to answer that
	byed   chan struct{}    // closed when the host has
	ending bool             // Close was called: what comes now is no fault
	why    error            // the session is over; it stays
	inside int              // how many calls were in it then
	dead   chan struct{}    // closed then

	// Over is called once, when the session ends that nobody has closed, or when its sidecar leaves: with the reason, on any goroutine, with mu held. It
	// does not wait.
	over func(why error)
}

// ErrLeft is the reason of a session that the sidecar has ended as it may (rule W6).
var ErrLeft = errors.New("it said BYE")

// call is one of the host's, while it runs.
type call struct {
	*pool.Call
	id     uint64
	signal chan struct{} // something came for it; of a capacity of 1

	// Guarded by the link's mu.
	input   int // bytes of it, until it is answered
	queue   []event
	queued  int   // bytes in it
	asked   asked // what the sidecar asks for
	hosting bool  // its own goroutine has a host function to run, or runs one
	writing int   // messages of it that are being written
	done    bool
	late    bool // its context had ended for as long as its grace
	struck  bool // it was not done in time, and the session was ended for that
	lost    int  // log lines that had no room
	full    bool // they have none, until half of the queue was served
	notRun  wire.Reason
	credit  int  // how much more the sidecar may send of the output stream
	refuse  bool // nobody takes the output any more
	more    uint64
	grown   chan struct{} // more has grown; of a capacity of 1
	over    chan struct{} // closed when it is done; nil where nobody needs it
	sent    chan struct{} // closed when it was written; as over

	// The reader's until done.
	out    []byte
	status abi.Status
	rule   string

	others sync.WaitGroup // goroutines that serve it beside its own
	used   int            // of the output stream, since MORE was sent last
}

// spare has calls that were done, with nothing but their signals, so that most calls make none.
var spare = sync.Pool{New: func() any { return &call{signal: make(chan struct{}, 1)} }}

// asked is what the sidecar has asked for: how many calls, and bytes of their bodies.
type asked struct {
	calls, bytes int
	answered     struct{ calls, bytes int } // those whose answers are being written. Of a sidecar that reads they are few
}

// event is what a call's own goroutine has to do.
type event struct {
	verb  wire.Verb
	id    uint64
	name  string
	body  []byte
	level abi.Level
	split int // of a log line: where its fields begin
}

// size is how much room an event takes, in bytes.
func (e *event) size() int { return len(e.body) + 128 }

// New makes a link, whose hello it sends. It is the first thing to be called; Meet is the next.
func New(s Stream, o Options) *Link {
	l := &Link{Options: o, stream: s, w: wire.NewWriter(s), token: make(chan struct{}, 1), ask: make(chan struct{}, 1),
		calls: make(map[uint64]*call), open: make(map[uint64]bool), dead: make(chan struct{}), byed: make(chan struct{})}
	l.r = wire.NewReader(source{l}, o.MaxBody)
	l.eager = eager.New(s)
	l.token <- struct{}{}
	return l
}

// turn is who reads.
type turn uint8

const (
	ofWatcher turn = iota // or who says hello
	ofOnly                // who waits for the only call in progress
	ofCaller              // who waits for one of several
)

// source is what a link reads from.
type source struct{ of *Link }

// Read waits on this thread, where that is a caller's: the watcher is to leave off at once.
func (s source) Read(b []byte) (int, error) {
	switch s.of.turn {
	case ofWatcher:
		return s.of.eager.Read(b)
	case ofCaller:
		// A goroutine that was just woken may be next on this processor. Those of other calls have their turn first, and most of them send another message
		// in it, so that the sidecar has much to read at once, and much to answer.
		runtime.Gosched()
	}
	return s.of.eager.Eagerly(b)
}

// Greet sends the host's hello. It is called before Meet, and may wait for the sidecar.
func (l *Link) Greet() error { return l.GreetBy(l.stream) }

// GreetBy sends it by another way than the stream, where it is not known yet which way that is.
func (l *Link) GreetBy(w io.Writer) error {
	hello := wire.Message{Verb: wire.Hello, Version: wire.Version, Token: []byte(l.Token), MaxBody: l.MaxBody}
	_, err := w.Write(wire.Append(nil, &hello, 0))
	return err
}

// Meet waits for the sidecar's hello, and returns what it says of itself. The error is a *wire.Error, or the stream's. Who closes the stream ends the waiting.
func (l *Link) Meet() (*abi.Description, error) {
	var m wire.Message
	if err := l.r.Next(&m); err != nil {
		return nil, err
	}
	if m.Verb != wire.Hello {
		return nil, &wire.Error{Rule: "W4", Found: m.Verb.String() + " first of all", Expected: "HELLO"}
	}
	if m.Version != wire.Version {
		return nil, &wire.Error{Rule: "W4", Found: "version " + string(appendNumber(nil, m.Version)) + " of the wire", Expected: "version 1"}
	}
	l.takes = wire.MaxBody
	if m.MaxBody != 0 {
		l.takes = m.MaxBody
	}
	l.takes = min(l.takes, l.MaxBody)
	body, err := l.r.Body(nil)
	if err != nil {
		return nil, err
	}
	l.about, err = wire.ParseManifest(body)
	return l.about, err
}

// Begin lets calls in. between is for what the sidecar does for no call; nil is where it may do nothing: its calls are refused, its lines left out. over is told of the end of the session, once, with nothing of the caller's needed but that it does not wait.
func (l *Link) Begin(between *pool.Call, over func(why error)) {
	l.ordinals = make(map[string]uint32)
	for i, s := range l.about.Ordinals() {
		l.ordinals[s.Name] = uint32(i)
	}
	l.always = l.Leave || errors.Is(l.stream.SetReadDeadline(time.Time{}), os.ErrNoDeadline)
	l.r.Resume = func() { _ = l.stream.SetReadDeadline(time.Time{}) }
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = over
	l.served = make(chan struct{})
	if between != nil {
		l.idle = &call{Call: between, signal: make(chan struct{}, 1)}
		go l.between(l.idle)
	} else {
		close(l.served)
	}
	go l.watch()
}

// between serves what the sidecar does for no call.
func (l *Link) between(x *call) {
	returned := false
	defer func() {
		if returned {
			close(l.served)
			return
		}
		l.mu.Lock()
		x.hosting = false
		l.mu.Unlock()
		notify(x.signal)
		go l.between(x) // a host function has ended the goroutine
	}()
	for {
		over := false
		select {
		case <-x.signal:
		case <-l.dead:
			over = true
		}
		for {
			e, _ := l.next(x)
			if e == nil {
				l.replenish(x) // as in await
				break
			}
			l.serve(x, e)
		}
		if over {
			returned = true
			return
		}
	}
}

const (
	unread = 5 * time.Millisecond // the longest that the watcher leaves an idle stream unread
	small  = 4 << 10              // what is shorter does not wait in a pipe, however many calls there are
	fits   = 64 << 10             // so much does not wait there for long, of the only call: the sidecar has nothing else to do but to read it
)

// watch reads where no caller does: between calls, while all calls are in host functions, and while somebody writes much.
func (l *Link) watch() {
	tick := time.NewTimer(unread)
	defer tick.Stop()
	for seen := l.count.Load(); ; {
		if l.large.Load() == 0 && !l.always {
			select {
			case <-l.dead:
				return
			case <-l.ask:
			case <-tick.C:
				tick.Reset(unread)
				if now := l.count.Load(); now != seen {
					seen = now
					continue
				}
			}
		}
		select {
		case <-l.dead:
			return
		case <-l.token:
		}
		l.watching.Store(true)
		for l.read() == nil && (l.always || l.watching.Load()) {
		}
		l.watching.Store(false)
		l.token <- struct{}{}
	}
}

// kick has the watcher give the token to who waits, unless it is needed where it is.
func (l *Link) kick() {
	if !l.always && l.large.Load() == 0 && l.watching.CompareAndSwap(true, false) {
		_ = l.stream.SetReadDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// read reads one message, and puts it where it belongs. The caller has the token. The error is errKicked, or that the session is over: then nobody looks
// for a message in what is left (rule W3).
func (l *Link) read() error {
	select {
	case <-l.dead:
		return errOver
	default:
	}
	l.count.Add(1)
	var m wire.Message
	err := l.r.Next(&m)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.r.Resume()
		return errKicked
	}
	if err == nil {
		err = l.take(&m)
	}
	if err != nil {
		l.fail(err)
	}
	return err
}

var (
	errKicked = errors.New("somebody else is to read")
	errOver   = errors.New("the session is over")
)

// take puts a message where it belongs. The error ends the session.
func (l *Link) take(m *wire.Message) error {
	switch m.Verb {
	case wire.Done:
		return l.takeDone(m)
	case wire.Call:
		return l.takeCall(m)
	case wire.Log:
		body, err := l.r.Body(nil)
		if err != nil {
			return err
		}
		l.putLog(m, event{verb: m.Verb, level: m.Level, body: body, split: len(body) - int(m.Fields)})
	case wire.Progress:
		l.mu.Lock()
		defer l.mu.Unlock()
		if x := l.calls[m.ID]; x != nil {
			x.Progress(m.Done, m.Total)
		}
	case wire.Part:
		return l.takePart(m)
	case wire.More:
		l.mu.Lock()
		defer l.mu.Unlock()
		if x := l.calls[m.ID]; x != nil && x.grown != nil {
			if x.more += m.N; x.more > 1<<62 {
				x.more = 1 << 62
			}
			notify(x.grown)
		}
	case wire.Bye:
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.left {
			l.left = true
			l.tell(ErrLeft)
			l.dismisses()
		}
	default:
		return &wire.Error{Rule: "W7", Found: m.Verb.String() + " from a sidecar", Expected: "DONE, CALL, LOG, PROGRESS, PART, MORE or BYE"}
	}
	return nil
}

// tell tells of the end. mu is held.
func (l *Link) tell(why error) {
	if !l.ending && l.over != nil {
		l.over(why)
		l.over = nil
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *Link) takeDone(m *wire.Message) error {
	l.mu.Lock()
	x := l.calls[m.ID]
	given := l.forget(m.ID)
	out := l.body[:0]
	if x != nil && !l.Leave { // whose memory is its own when it is given up
		out = x.out
	}
	l.mu.Unlock()
	if given {
		return l.r.Skip()
	}
	if x == nil {
		return &wire.Error{Rule: "W7", Found: "DONE " + string(appendNumber(nil, m.ID)) + ", which has no call in progress", Expected: "one answer to each call"}
	}
	status, notRun, rule, err := m.Status, m.NotRun, string(m.Rule), error(nil)
	id := m.ID
	if out, err = l.r.Body(out); err != nil { // until it is whole the call is in progress, and may be late
		return err
	}
	if l.Leave && cap(out) <= fits {
		l.body = out
	}
	l.mu.Lock()
	if l.forget(id) {
		l.mu.Unlock()
		return nil
	}
	if l.Leave {
		out = append(x.out, out...)
	}
	x.out, x.status, x.rule, x.notRun = out, status, rule, notRun
	delete(l.calls, id)
	l.leave(x.input)
	x.done = true
	signal, woken := x.signal, x.struck && l.Leave
	l.mu.Unlock()
	if !woken {
		l.woken.Add(1)
	}
	notify(signal) // x may be another call by now, which finds that nothing came for it
	return nil
}

// of returns the call that a message is of: nil where there is none, or it cannot be told. mu is held.
func (l *Link) of(m *wire.Message) *call {
	switch {
	case m.HasFor && m.For == 0:
		return l.idle
	case m.HasFor:
		return l.calls[m.For]
	case len(l.calls) == 1:
		for _, x := range l.calls {
			return x
		}
	case m.Verb == wire.Log: // it need not be known
		return l.idle
	}
	return nil
}

// What a call may have waiting for it.
const (
	maxQueued = 4 << 20 // bytes of log lines; then they wait for room, for a while, and then are left out
	maxGiven  = 4096    // calls that were given up, of all, and are not answered: the other side answers none
	maxAsked  = 1024    // calls of the sidecar's without an answer; what is more breaks rule W11
	patience  = 100 * time.Millisecond
)

// takeCall takes a call of the sidecar's.
func (l *Link) takeCall(m *wire.Message) error {
	e := event{verb: m.Verb, id: m.ID, name: string(m.Name)}
	l.mu.Lock()
	x := l.of(m)
	count := &l.stray
	if x != nil {
		count = &x.asked
	}
	calls, bytes, twice := max(count.calls, count.answered.calls/2)+1, uint64(max(count.bytes, count.answered.bytes/2))+m.Length, l.open[m.ID]
	l.mu.Unlock()
	switch {
	case twice:
		return &wire.Error{Rule: "W7", Found: "CALL " + string(appendNumber(nil, m.ID)) + " twice", Expected: "an id that no call of its own has which was not answered"}
	case calls > maxAsked:
		return &wire.Error{Rule: "W11", Found: "more than 1024 calls of host functions without an answer, for one call", Expected: "1024 at most"}
	case bytes > l.MaxBody:
		return &wire.Error{Rule: "W11", Found: "calls of host functions without an answer, for one call, with " + string(appendNumber(nil, bytes)) + " bytes",
			Expected: string(appendNumber(nil, l.MaxBody)) + " at most"}
	}
	var err error
	if e.body, err = l.r.Body(nil); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	count.calls, count.bytes = count.calls+1, count.bytes+len(e.body)
	l.open[e.id] = true
	switch {
	case x == nil:
		go func() {
			l.answer(nil, &e, abi.StatusMisuse, []byte("for which call that is cannot be told, or it is over (rule W11 of docs/wire.md)"))
		}()
	case x.hosting: // its own goroutine has another one to do, which may wait for this one
		x.others.Add(1)
		go func() {
			defer x.others.Done()
			l.hostCall(x, &e)
		}()
	default:
		x.hosting = true
		x.queue, x.queued = append(x.queue, e), x.queued+e.size()
		notify(x.signal)
	}
	return nil
}

// putLog puts a log line into the call that it is of.
func (l *Link) putLog(m *wire.Message, e event) {
	for waited := time.Duration(0); ; waited += time.Millisecond {
		l.mu.Lock()
		x := l.of(m)
		switch {
		case x == nil:
			l.mu.Unlock()
			return
		case !x.full && x.queued < maxQueued:
			x.queue, x.queued = append(x.queue, e), x.queued+e.size()
			l.mu.Unlock()
			notify(x.signal)
			return
		case x.full || waited >= patience: // others have waited for long enough
			x.full = true
			x.lost++
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		select {
		case <-l.dead:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (l *Link) takePart(m *wire.Message) error {
	l.mu.Lock()
	x := l.calls[m.ID]
	if x == nil || m.Length == 0 || x.refuse {
		l.mu.Unlock()
		return l.r.Skip()
	}
	if m.Length > uint64(x.credit) {
		l.mu.Unlock()
		return &wire.Error{Rule: "W15", Found: "a piece of a stream beyond what was asked for", Expected: "65536 bytes at first, and what each MORE asks for"}
	}
	x.credit -= int(m.Length)
	l.mu.Unlock()
	e := event{verb: m.Verb}
	var err error
	if e.body, err = l.r.Body(nil); err != nil {
		return err
	}
	l.mu.Lock()
	x.queue, x.queued = append(x.queue, e), x.queued+e.size()
	l.mu.Unlock()
	notify(x.signal)
	return nil
}

// next returns what a call has to do next; nil, and whether it is done, where that is nothing.
func (l *Link) next(x *call) (e *event, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(x.queue) == 0 {
		return nil, x.done || x.struck && l.Leave
	}
	first := x.queue[0]
	x.queue = x.queue[1:]
	if len(x.queue) == 0 {
		x.queue = nil
	}
	x.queued -= first.size()
	x.full = x.full && x.queued > maxQueued/2
	return &first, false
}

// serve does what an event asks for, on the call's goroutine.
func (l *Link) serve(x *call, e *event) {
	switch e.verb {
	case wire.Call:
		l.hostCall(x, e)
		l.mu.Lock()
		x.hosting = false
		l.mu.Unlock()
	case wire.Log:
		if c := pool.Enter(x.Call); c != nil {
			defer c.Exit()
			c.Log(x.Call, e.level, e.body[:e.split], e.body[e.split:])
			l.mu.Lock()
			lost := x.lost
			x.lost = 0
			l.mu.Unlock()
			if lost > 0 {
				c.Log(x.Call, abi.LogWarn, append(appendNumber(nil, uint64(lost)), " log lines were left out: they came faster than they were taken"...), nil)
			}
		}
	case wire.Part:
		if x.refuse {
			return
		}
		if status := x.Write(e.body); status != abi.StatusOK {
			l.mu.Lock()
			x.refuse = true
			l.mu.Unlock()
			_ = l.send(x, &wire.Message{Verb: wire.More, ID: x.id}, nil)
			return
		}
		if x.used += len(e.body); x.used >= wire.Window/2 {
			l.replenish(x)
		}
	}
}

// replenish asks for as much more of the output stream as was used, if any was.
func (l *Link) replenish(x *call) {
	if x.used == 0 || x.refuse {
		return
	}
	l.mu.Lock()
	x.credit += x.used
	l.mu.Unlock()
	_ = l.send(x, &wire.Message{Verb: wire.More, ID: x.id, N: uint64(x.used)}, nil)
	x.used = 0
}

// answer answers a call of the sidecar's that is of x; nil is of no call that is known.
func (l *Link) answer(x *call, e *event, status abi.Status, out []byte) {
	if uint64(len(out)) > l.takes {
		const long = "the host function's output is longer than the longest message"
		status, out = abi.StatusNoMemory, []byte(long[:min(len(long), int(l.takes))])
	}
	count := &l.stray
	if x != nil {
		count = &x.asked
	}
	l.mu.Lock()
	// It is answered before it is written: what the sidecar does when it has the answer may be read before this goroutine goes on.
	count.calls, count.bytes = count.calls-1, count.bytes-len(e.body)
	count.answered.calls, count.answered.bytes = count.answered.calls+1, count.answered.bytes+len(e.body)
	delete(l.open, e.id)
	l.mu.Unlock()
	_ = l.send(x, &wire.Message{Verb: wire.Done, ID: e.id, Status: status}, out)
	l.mu.Lock()
	count.answered.calls, count.answered.bytes = count.answered.calls-1, count.answered.bytes-len(e.body)
	l.mu.Unlock()
}

// send writes a message of a call's, or of none's. A sidecar that takes none is ended when the call's context has ended for as long as its grace: here, where that is so
// already, and by cancels where it comes to be.
func (l *Link) send(x *call, m *wire.Message, body []byte) error {
	if x != nil {
		l.mu.Lock()
		x.writing++
		late := x.late
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			x.writing--
			l.mu.Unlock()
		}()
		if late {
			stalled := time.AfterFunc(l.Grace, func() { l.fail(errStalled) })
			defer stalled.Stop()
		}
	}
	end := l.writes(len(body))
	defer end()
	return l.w.Send(m, body)
}

// writes has the stream read while so many bytes are written, until the function that it returns is called: the sidecar may wait for
// that before it reads.
func (l *Link) writes(n int) (end func()) {
	if n < small || l.always {
		return func() {}
	}
	if n <= fits { // the watcher looks by itself every now and then: to have it read costs more than the message
		l.mu.Lock()
		lone := len(l.calls) <= 1
		l.mu.Unlock()
		if lone {
			return func() {}
		}
	}
	l.large.Add(1)
	notify(l.ask)
	return func() { l.large.Add(-1) }
}

// hostCall runs a function of the host's for the sidecar.
func (l *Link) hostCall(x *call, e *event) {
	out, status := []byte("the host function has ended its goroutine"), abi.StatusPanic
	defer func() { l.answer(x, e, status, out) }()
	out, status = l.host(x, e)
}

func (l *Link) host(x *call, e *event) ([]byte, abi.Status) {
	c := pool.Enter(x.Call)
	if c == nil {
		return nil, abi.StatusMisuse
	}
	defer c.Exit()
	switch e.name {
	case wire.Next:
		if x == l.idle {
			return nil, abi.StatusMisuse
		}
		return c.Next(l.hosts(x, e), e.body)
	case wire.Info:
		switch {
		case len(e.body) == 0 || len(e.body) > maxKey || !utf8.Valid(e.body):
			return nil, abi.StatusMisuse // R26
		case string(e.body) == engine.KeyInstance:
			return appendNumber(nil, uint64(c.Number())), abi.StatusOK
		case string(e.body) == engine.KeyPath:
			return nil, abi.StatusUnsupported
		}
		return c.Host(x.Call, engine.Info, e.body)
	}
	ordinal, ok := l.ordinals[e.name]
	if !ok {
		return []byte("the manifest has no import and no want of this name"), abi.StatusUnsupported
	}
	return c.Host(l.hosts(x, e), ordinal, slices.Clip(e.body))
}

// hosted is the context of a host function: calls that are made with it are known to come from it.
type hosted struct {
	*pool.Call
	link *Link
	id   uint64 // of the sidecar's call
}

type hostedKey struct{}

// Value is context.Context's.
func (h *hosted) Value(key any) any {
	if key == (hostedKey{}) {
		return h
	}
	return h.Call.Value(key)
}

func (l *Link) hosts(x *call, e *event) context.Context {
	if !l.Leave { // whoever has a sidecar of its own knows that already
		return x.Call
	}
	return &hosted{x.Call, l, e.id}
}

// within returns the id of the sidecar's call that a call of the host's comes from; 0 for none.
func (l *Link) within(c *pool.Call) uint64 {
	h, _ := c.Context().Value(hostedKey{}).(*hosted)
	for h != nil && h.link != l {
		h, _ = h.Context().Value(hostedKey{}).(*hosted)
	}
	if h == nil {
		return 0
	}
	return h.id
}

// maxKey is the longest key, in bytes (rule R26).
const maxKey = 256

// Call calls a function of the sidecar's, a hook, or a service, and appends its output to dst. It has the streams of c. The error is an *engine.Violation, a
// *NotRun, or says that the session is over: it is its reason (an *Unsent where that was so before, and others may be had: Leave), or an *engine.Overrun of this call.
// The context of a service counts for nothing.
func (l *Link) Call(c *pool.Call, name string, hook bool, dst, in []byte) (out []byte, status abi.Status, err error) {
	if uint64(len(in)) > l.takes {
		why := fmt.Sprintf("the input is %s long, and the longest message %d (%s)", count.Of(len(in), "byte"), l.takes, cmp.Or(l.Long, "sidecar.WithMaxMessage"))
		if l.takes < l.MaxBody {
			why = fmt.Sprintf("the input is %s long, and %s takes %d at most (%s)", count.Of(len(in), "byte"), cmp.Or(l.Other, "the sidecar"), l.takes,
				cmp.Or(l.OtherLong, "Max-Body in its HELLO, rule W2 of docs/wire.md; of ferrule serve --max-message"))
		}
		return append(dst, why...), abi.StatusNoMemory, nil
	}
	streams := c.Streams()
	x := spare.Get().(*call)
	x.Call, x.out, x.credit, x.input = c, dst, wire.Window, len(in)
	ended := c.Done()
	service := strings.HasPrefix(name, "ferrule.")
	if service { // it is not given up half way: who calls it has a bound of its own
		ended = nil
	}
	if ended != nil || streams&abi.StreamIn != 0 {
		x.over, x.sent = make(chan struct{}), make(chan struct{})
		defer close(x.over)
	}
	if streams&abi.StreamIn != 0 {
		x.more, x.grown = wire.Window, make(chan struct{}, 1)
	}
	l.mu.Lock()
	if len(l.room.waiting) == 0 && l.fits(len(in)) || service { // no call is beside a service
		l.room.bytes, l.room.holders = l.room.bytes+len(in), nil
	} else {
		l.mu.Unlock()
		if why, status := l.enter(c, len(in)); status != abi.StatusOK {
			return append(dst, why...), status, nil
		}
		l.mu.Lock()
		l.room.sends()
	}
	if err := cmp.Or(l.why, l.byedWhy()); err != nil {
		l.leave(len(in))
		l.mu.Unlock()
		if l.Leave {
			err = &Unsent{err}
		}
		return dst, 0, err
	}
	l.last++
	x.id = l.last
	l.calls[x.id] = x
	x.writing++
	l.mu.Unlock()

	m := wire.Message{Verb: wire.Call, ID: x.id, Name: []byte(name), Hook: hook, Stream: streams, Watched: c.Watched(), Resumes: c.Resumes()}
	if l.Leave {
		m.Within = l.within(c)
	}
	if at, ok := c.Deadline(); ok {
		m.Timeout = uint64(max(1, (time.Until(at)+time.Millisecond-1)/time.Millisecond))
	}
	if ended != nil {
		go l.cancels(x, ended)
	}
	if l.woken.Load() > 0 && len(in) < small { // whoever has a result is likely to call again
		err = l.w.SendSoon(&m, in)
	} else {
		end := l.writes(len(in))
		err = l.w.Send(&m, in)
		end()
	}
	l.mu.Lock()
	x.writing--
	l.mu.Unlock()
	if err != nil {
		l.failSoon(err)
	}
	if x.sent != nil {
		close(x.sent)
	}
	if streams&abi.StreamIn != 0 {
		if entered := pool.Enter(c); entered != nil {
			go l.feed(x)
		}
	}
	returned := false
	defer func() {
		if !returned { // a host function has ended this goroutine
			l.fail(errEnded)
			l.settled()
		}
	}()
	if l.await(x) {
		l.woken.Add(-1)
	}
	x.others.Wait() // until then its context's end counts
	returned = true
	l.mu.Lock()
	if _, waits := l.calls[x.id]; waits && x.struck && l.Leave { // whoever reads its answer leaves its memory alone
		if l.given == nil {
			l.given = make(map[uint64]int)
		}
		l.given[x.id] = x.input
	}
	delete(l.calls, x.id)
	l.dismisses()
	done, struck, why, full := x.done, x.struck, l.why, len(l.given) > maxGiven
	l.mu.Unlock()
	if full {
		l.fail(errUnanswered)
	}
	switch {
	case done && x.notRun != 0 && x.status != abi.StatusOK:
		return dst, 0, &NotRun{x.notRun}
	case done && x.status == abi.StatusMisuse && isRule(x.rule):
		found, expected, _ := strings.Cut(strings.ToValidUTF8(string(x.out[len(dst):]), "\uFFFD"), "\n")
		return dst, 0, &engine.Violation{Rule: x.rule, Found: found, Expected: expected}
	case done:
		out, status = x.out, x.status
		if x.over == nil && streams == 0 { // no goroutine of its own knows it, and the reader has forgotten it
			*x = call{signal: x.signal}
			spare.Put(x)
		}
		return out, status, nil
	case struck:
		return dst, 0, &engine.Overrun{Grace: l.Grace, Cause: cmp.Or(engine.Cause(c.Context()), c.Err()), By: cmp.Or(l.Late, "(sidecar.WithGrace); its sidecar was ended")}
	}
	return dst, 0, why
}

// isRule reports whether a text names a rule of ferrule.h's, such as R8.
func isRule(text string) bool {
	digits, ok := strings.CutPrefix(text, "R")
	n, known := wire.Number([]byte(digits))
	return ok && known && 0 < n && n <= 99
}

// await waits until a call is done, which it reports, or the session is over, and does meanwhile what comes for the call. Then nobody uses it any more.
func (l *Link) await(x *call) (done bool) {
	token := l.token
	if l.always {
		token = nil
	}
	for over := false; !over; {
		l.kick()
		select {
		case <-x.signal:
		case <-token:
			l.mu.Lock()
			if l.turn = ofCaller; len(l.calls) == 1 {
				l.turn = ofOnly
			}
			l.mu.Unlock()
			for !l.has(x) {
				if err := l.read(); err != nil && err != errKicked {
					break
				}
			}
			for l.r.Whole() == wire.Done { // whoever reads next has no need to be woken for what is there
				if l.read() != nil {
					break
				}
			}
			l.turn = ofWatcher
			l.token <- struct{}{}
		case <-l.dead:
			l.settled()
			over = true
		}
		for {
			e, done := l.next(x)
			if done {
				return true
			}
			if e == nil {
				l.replenish(x) // who waits has used all that came: a sidecar whose next piece is as long as the window can send it
				break
			}
			l.serve(x, e)
		}
	}
	return false
}

// settled waits, in a session that is over, for who has read into a call's memory.
func (l *Link) settled() {
	<-l.token
	l.token <- struct{}{}
}

// has reports whether something came for the call.
func (l *Link) has(x *call) bool {
	select {
	case <-x.signal:
		return true
	default:
		return false
	}
}

// cancels tells the sidecar that a call's result is not wanted any more, and ends the session where the call is not done in time.
func (l *Link) cancels(x *call, ended <-chan struct{}) {
	select {
	case <-x.over:
		return
	case <-ended:
	}
	late := time.AfterFunc(l.Grace, func() {
		l.mu.Lock()
		x.late = true
		x.struck = (!x.done || x.writing > 0) && l.why == nil
		struck, writing := x.struck, x.writing > 0
		l.mu.Unlock()
		switch {
		case struck && l.Leave && !writing:
			l.woken.Add(1)
			notify(x.signal)
		case struck && l.Leave: // others wait behind it, or it behind others
			l.fail(errStalled)
		case struck:
			l.fail(ErrOverrun)
		}
	})
	defer late.Stop()
	select {
	case <-x.over:
		return
	case <-x.sent: // a CANCEL before its CALL would mean nothing
	}
	_ = l.w.Send(&wire.Message{Verb: wire.Cancel, ID: x.id}, nil)
	<-x.over
}

// ErrOverrun is the reason of a session that was ended because a call did not stop in time.
var ErrOverrun = errors.New("a call had not stopped in time after its context had ended")

var errUnanswered = errors.New("it had not answered thousands of calls that were given up")

var errStalled = errors.New("it took no messages for as long as a call had")

// NotRun says that a call did nothing, and why: it may be made elsewhere.
type NotRun struct{ Why wire.Reason }

// Error gives the reason.
func (n *NotRun) Error() string { return "the call was not run: " + n.Why.String() }

// Unsent says that nothing of a call was sent, since the session was over by then, and why: it may be made elsewhere.
type Unsent struct{ Why error }

// Error gives the reason.
func (u *Unsent) Error() string { return u.Why.Error() }

// Unwrap returns the reason.
func (u *Unsent) Unwrap() error { return u.Why }

// feed hands the call's input stream on. It is in the call, until it ends.
func (l *Link) feed(x *call) {
	defer x.Exit()
	for {
		l.mu.Lock()
		n := x.more
		l.mu.Unlock()
		if n == 0 {
			select {
			case <-x.grown:
				continue
			case <-x.over:
				return
			case <-l.dead:
				return
			}
		}
		piece, status := x.Piece(int(min(n, wire.Window/2, l.takes)))
		m := wire.Message{Verb: wire.Part, ID: x.id, Broken: status == abi.StatusFailed}
		if status != abi.StatusOK && !m.Broken {
			return // it was asked to stop
		}
		l.mu.Lock()
		over := x.done || x.struck || l.why != nil // nobody needs it any more; and who has begun is waited for
		if !over {
			x.others.Add(1)
		}
		l.mu.Unlock()
		if over {
			return
		}
		err := l.send(x, &m, piece)
		x.others.Done()
		if err != nil || len(piece) == 0 {
			return
		}
		l.mu.Lock()
		x.more -= uint64(len(piece))
		l.mu.Unlock()
	}
}

// fail ends the session.
func (l *Link) fail(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return
	}
	l.why = why
	for _, x := range l.calls {
		if !x.done {
			l.inside++
		}
	}
	close(l.dead)
	_ = l.stream.Close()
	l.tell(why)
}

// failSoon ends the session because nothing can be written. What the sidecar had written before is read first.
func (l *Link) failSoon(why error) { time.AfterFunc(lastWords, func() { l.fail(why) }) }

const lastWords = 500 * time.Millisecond

// Fail ends the session for a reason: what is behind it has ended.
func (l *Link) Fail(why error) { l.fail(why) }

// Dead is closed when the session is over.
func (l *Link) Dead() <-chan struct{} { return l.dead }

// Why returns why the session is over; nil where it is not.
func (l *Link) Why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// Inside returns how many calls had not come back when the session ended.
func (l *Link) Inside() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inside
}

// Left reports whether the sidecar has said BYE: it takes no more calls.
func (l *Link) Left() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left
}

// byedWhy is why no call is made any more where the host has said BYE. mu is held.
func (l *Link) byedWhy() error {
	select {
	case <-l.byed:
		return errByed
	default:
		return nil
	}
}

var errByed = errors.New("it had been told BYE, because it had said so")

// Byed is closed when the host has said BYE.
func (l *Link) Byed() <-chan struct{} { return l.byed }

// soon is how long a call may take from its place in the sidecar to the wire, where nothing else is known of that (Leaving.Vacant).
const soon = 50 * time.Millisecond

// dismisses sees to it that a sidecar which has said BYE gets the host's, when no call runs. mu is held.
func (l *Link) dismisses() {
	if l.left && !l.parts && len(l.calls) == 0 && l.why == nil {
		l.parts = true
		time.AfterFunc(soon, l.dismiss)
	}
}

func (l *Link) dismiss() {
	l.mu.Lock()
	if l.why != nil || len(l.calls) > 0 { // whose end has it looked at again
		l.parts = false
		l.mu.Unlock()
		return
	}
	vacant := l.Leaving.Vacant == nil || l.Leaving.Vacant()
	l.mu.Unlock()
	if !vacant {
		time.AfterFunc(soon, l.dismiss)
		return
	}
	if l.Leaving.Last != nil {
		l.Leaving.Last()
	}
	l.mu.Lock()
	first := l.why == nil && l.byes()
	l.mu.Unlock()
	if first {
		_ = l.w.Send(&wire.Message{Verb: wire.Bye}, nil)
	}
}

// byes reports whether BYE is still to be said, which the caller does. mu is held.
func (l *Link) byes() (first bool) {
	select {
	case <-l.byed:
		return false
	default:
		close(l.byed)
		return true
	}
}

// Bye ends the session as rule W6 has it: it waits until the stream ends, or until done. No call runs. Before Begin it may be called, too, once Meet has returned.
func (l *Link) Bye(done <-chan struct{}) {
	l.mu.Lock()
	l.ending = true
	first, served := l.byes(), l.served
	l.mu.Unlock()
	said := make(chan struct{})
	go func() { // which may wait for a sidecar that does not read
		defer close(said)
		if first && l.w.Send(&wire.Message{Verb: wire.Bye}, nil) != nil {
			l.fail(errClosed)
		}
	}()
	if served == nil { // nobody reads yet, and the end is to be seen
		<-l.token
		go func() {
			for l.read() == nil {
			}
			l.token <- struct{}{}
		}()
	}
	notify(l.ask)
	select {
	case <-l.dead:
	case <-done:
	}
	l.fail(errClosed)
	<-said
	l.settled()
	if served != nil {
		<-served
	}
}

// Abandon has nobody told of the session's end, as one that is replaced.
func (l *Link) Abandon() {
	l.mu.Lock()
	l.ending = true
	l.mu.Unlock()
}

var (
	errClosed = errors.New("it was closed")
	errEnded  = errors.New("a host function had ended the goroutine of a call")
)

func appendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }

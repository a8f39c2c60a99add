// Package serve puts a plug-in behind the wire of sidecars (docs/wire.md): one that this program opens, a library, a WebAssembly module, or Go functions
// (package builtin). A program whose main calls Stdio is a sidecar then:
//
//	err := serve.Stdio(context.Background(), serve.Go(plugin))
//
// The command `ferrule serve` is made of it.
package serve

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/eager"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/numbers"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Plugin is what is served.
type Plugin struct {
	// About is what it says of itself, such as loader.Inspect has it. It is only read.
	About *abi.Description
	// Open opens it, once for each session, with these options beside its own: the host functions that the other side offers, the configuration, the
	// logger, a state. Its session closes it.
	Open func(opts ...loader.Option) (*loader.Plugin, error)

	shared *Shared // or nil; then it is open already
}

// unknown is why a plug-in that says nothing of itself is not served: where that was not to be had, Open says why.
func (p Plugin) unknown() error {
	if p.Open != nil {
		opened, err := p.Open()
		if err != nil {
			return err
		}
		_ = opened.Close()
	}
	return errors.New("serve: found a Plugin without About, expected what it says of itself. Fill it in, as Go and File do")
}

// File returns the plug-in in a file, opened with these options, an engine among them where it is no library.
func File(path string, opts ...loader.Option) (Plugin, error) {
	lib, err := loader.Inspect(path)
	if err != nil {
		return Plugin{}, err
	}
	return Plugin{About: &lib.Description, Open: func(more ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(path, append(opts[:len(opts):len(opts)], more...)...)
	}}, nil
}

// Go returns a plug-in that is Go functions. What is wrong with it is the error of serving it.
func Go(p *builtin.Plugin) Plugin {
	about, err := builtin.Describe(p)
	if err != nil {
		return Plugin{Open: func(...loader.Option) (*loader.Plugin, error) { return nil, err }}
	}
	return Plugin{About: about, Open: func(opts ...loader.Option) (*loader.Plugin, error) { return builtin.Open(p, opts...) }}
}

// Options are for serving. The zero value has no token, and the wire's own bounds.
type Options struct {
	Token    string        // what a host has to say first; "" asks for none
	MaxBody  int64         // how long an input may be, in bytes; 0 is 256 MiB
	Sessions int           // how many there may be at a time, of a listener; 0 is any number. Others are closed at once
	Grace    time.Duration // how long calls may go on when the context has ended, after the host was told so (BYE); 0 asks them to stop at once
	Hello    time.Duration // how long a host that connects may take for its hello; 0 is 30 seconds
	Stall    time.Duration // how long a host of a listener may take nothing of what is written to it, before its session is over; 0 is 1 minute
	Metrics  *Metrics      // counts what is served; or nil
	Logger   *slog.Logger  // is told, from any goroutine, when the plug-in has crashed in a worker, which a host hears as a panic; nil drops it. A Shared has its own

	admit   func() bool // takes a place for a host that has said the token
	strange bool        // the host is not who has made the stream
}

// Metrics count what is served of one plug-in: its calls, their times and bytes, and who is connected. The zero value counts. WriteTo writes them in the text format of
// Prometheus; serve/web.Metrics serves that. Any goroutine may use it. Its fields are
//
//	Connections  what hosts or clients have open: Open now, and Total so far
//	Sessions     the same of hosts that have said hello
//	Ended        how sessions and connections of hosts have ended, by numbers.End
//	Refused      requests by HTTP that were no call, by status
//	Unknown      calls by the wire that nothing was run for, by status
type Metrics = numbers.Metrics

// counts has the metrics know the plug-in, where there are any.
func (o *Options) counts(about *abi.Description) {
	if o.Metrics != nil {
		o.Metrics.Of(about, false)
	}
}

// Stdio serves a plug-in to the process that has started this one, over Streams. It returns when the session is over: nil where it ended as it should.
func Stdio(ctx context.Context, p Plugin) error {
	conn, err := Streams()
	if err != nil {
		return err
	}
	return Session(ctx, conn, p, Options{})
}

// Streams returns what this process speaks by to the one that has started it, for Session: the descriptors that FERRULE_SIDECAR names, or standard input and
// output. On Unix, what this process prints to its standard output gets to its standard error from then on, and never between messages. It is called once.
func Streams() (io.ReadWriteCloser, error) {
	in, out, ok := strings.Cut(os.Getenv("FERRULE_SIDECAR"), ",")
	if !ok {
		return streams{os.Stdin, standardOutput(), eager.New(os.Stdin)}, nil
	}
	from, err := strconv.Atoi(in)
	to, err2 := strconv.Atoi(out)
	if err != nil || err2 != nil || from < 0 || to < 0 {
		return nil, fmt.Errorf("serve: found FERRULE_SIDECAR=%s, expected two descriptors such as 3,4", os.Getenv("FERRULE_SIDECAR"))
	}
	_ = os.Unsetenv("FERRULE_SIDECAR") // they are not for what this process starts
	source, sink := descriptor(from), descriptor(to)
	return streams{source, sink, eager.New(source)}, nil
}

// streams are two files that are one connection.
type streams struct {
	from, to *os.File
	eager    *eager.Reader
}

func (s streams) Read(b []byte) (int, error)        { return s.from.Read(b) }
func (s streams) SetReadDeadline(t time.Time) error { return s.from.SetReadDeadline(t) }

// Eagerly is Read, as package eager has it.
func (s streams) Eagerly(b []byte) (int, error) { return s.eager.Eagerly(b) }

func (s streams) Write(b []byte) (int, error) { return s.to.Write(b) }
func (s streams) Close() error                { return errors.Join(s.from.Close(), s.to.Close()) }

// Listen serves a plug-in to each host that connects, as a session of its own, until ctx ends. Then it closes the listener, lets calls end that run, for as long as
// Options.Grace, and returns nil. Otherwise it returns the listener's error. With TLS, l is a listener of tls.NewListener.
func Listen(ctx context.Context, l net.Listener, p Plugin, o Options) error {
	if p.About == nil {
		return p.unknown()
	}
	var sessions sync.WaitGroup
	o.counts(p.About)
	places := make(chan struct{}, max(o.Sessions, 1))
	closed := context.AfterFunc(ctx, func() { l.Close() })
	defer closed()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				var temporary interface{ Temporary() bool }
				if errors.As(err, &temporary) && temporary.Temporary() { // no descriptor is left, for example
					time.Sleep(20 * time.Millisecond)
					continue
				}
				return err
			}
			break
		}
		sessions.Go(func() {
			own := o
			own.strange = true
			if o.Sessions > 0 {
				admitted := false
				own.admit = func() bool { // who has not said the token keeps nobody out
					select {
					case places <- struct{}{}:
						admitted = true
					default:
					}
					return admitted
				}
				defer func() {
					if admitted {
						<-places
					}
				}()
			}
			_ = Session(ctx, conn, p, own)
		})
	}
	sessions.Wait()
	return nil
}

// Session serves one host, over conn, which it closes, whatever it returns. It returns when the session is over: nil where the host has ended it, or ctx has. When ctx ends, the host is
// told that no more calls are taken, and those that run after Options.Grace are asked to stop.
func Session(ctx context.Context, conn io.ReadWriteCloser, p Plugin, o Options) error {
	if p.About == nil {
		_ = conn.Close()
		return p.unknown()
	}
	o.counts(p.About)
	if o.MaxBody == 0 {
		o.MaxBody = wire.MaxBody
	}
	if o.Hello == 0 {
		o.Hello = 30 * time.Second
	}
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	to := &sink{conn: conn}
	s := &session{ctx: within, conn: conn, of: p, options: o, w: wire.NewWriter(to), maxBody: wire.MaxBody,
		calls: make(map[uint64]*call), asked: make(map[uint64]question), over: make(chan struct{}), level: abi.LogTrace}
	if o.Metrics != nil {
		if late, ok := conn.(interface{ atFirst(do func()) }); ok { // nobody is there before something has come
			late.atFirst(s.connects)
		} else {
			s.connects()
		}
		defer s.countEnd()
	}
	if p.shared != nil && p.About == p.shared.about {
		s.plugin, s.funcs = p.shared.plugin, p.shared.funcs
	}
	limits, ok := conn.(interface{ SetReadDeadline(time.Time) error })
	s.breaks = ok && !errors.Is(limits.SetReadDeadline(time.Time{}), os.ErrNoDeadline)
	s.r = wire.NewReader(&source{s, eager.New(conn)}, uint64(o.MaxBody))
	stop := context.AfterFunc(within, func() { s.end(nil) })
	defer stop()
	told := context.AfterFunc(ctx, func() {
		if o.Grace <= 0 || !s.greeted.Load() {
			cancel()
			return
		}
		late := time.AfterFunc(o.Grace, cancel) // also where the host does not read
		defer late.Stop()
		_ = s.w.Send(&wire.Message{Verb: wire.Bye}, nil)
		<-s.over
	})
	defer told()
	if _, started := conn.(streams); !started { // who has started this process is no stranger
		late := time.AfterFunc(o.Hello, func() {
			if !s.greeted.Load() {
				s.end(errHello)
			}
		})
		defer late.Stop()
	}
	if o.strange {
		if o.Stall == 0 {
			o.Stall = time.Minute
		}
		go to.watch(o.Stall, s.over, func() { s.end(errStall) })
	}
	go s.lead(nil)
	<-s.over
	if s.why != nil {
		if left, ok := conn.(interface{ drop() }); ok { // what the host has still written is no other session's
			left.drop()
		}
	}
	if s.why != nil || within.Err() != nil { // who waits for the other side waits for nothing
		_ = conn.Close()
	}
	cancel()
	closed := make(chan struct{})
	defer close(closed)
	go to.leave(closed)
	s.running.Wait()
	_ = s.w.Flush() // what calls that are over have left to another one to write
	s.mu.Lock()
	plugin, own := s.plugin, s.own
	s.mu.Unlock()
	if own != nil {
		_ = own.Close()
	} else if plugin != nil && p.shared == nil { // what it logs at its end is the host's
		_ = plugin.Close()
	}
	_ = conn.Close()
	return s.why
}

// session is one host's. One goroutine at a time leads: it reads a message, and where that is a call, runs it, as long as that is short: nobody needs to be woken for it. When it
// takes longer, or waits for the host, another goroutine leads.
type session struct {
	ctx     context.Context
	conn    io.ReadWriteCloser
	of      Plugin
	options Options
	r       *wire.Reader
	w       *wire.Writer
	breaks  bool // closing the stream ends a read of it
	// listening is 1 while a call reads, which waits for the host's answer. It is the reader's.
	listening int
	maxBody   uint64 // of the host
	level     abi.Level
	greeted   atomic.Bool
	running   sync.WaitGroup // calls
	spare     sync.Pool      // of *memory, which no goroutine that leads has

	serving sync.Mutex // who runs a service
	config  []byte     // guarded by serving, as behind
	behind  bool       // the start waits for the state that comes next

	mu     sync.Mutex
	plugin *loader.Plugin             // nil before ferrule.start
	own    *loader.Session            // of a Shared; or nil
	funcs  [2]map[string]*loader.Func // functions and hooks
	calls  map[uint64]*call           // in progress
	inputs int                        // bytes of what these were called with
	unread struct{ calls, bytes int } // answers that are being written
	drains chan struct{}              // closed when these are fewer; nil where nobody waits for that
	asked  map[uint64]question        // of the host, that were not answered yet
	stray  asks                       // those of them that are for no call
	last   uint64
	ended  bool
	why    error
	over   chan struct{} // closed when the session is over
	leaves []func()      // count that it ends: the host that is there, and then the one that has said hello
}

// sink is what a session writes to.
type sink struct {
	conn         io.WriteCloser
	begun, ended atomic.Uint64 // writes
}

// Write is io.Writer's.
func (k *sink) Write(b []byte) (n int, err error) {
	for {
		k.begun.Add(1)
		m, err := k.conn.Write(b[n:min(len(b), n+portion)]) // so that who takes it slowly is seen to take it
		k.ended.Add(1)
		if n += m; err != nil || n == len(b) {
			return n, err
		}
	}
}

// portion is how much is written at a time, in bytes.
const portion = 1 << 20

// leave closes the connection with a host that takes nothing, once the session is over: what is still said to it, such as log lines, has a moment each, until closed.
func (k *sink) leave(closed <-chan struct{}) { k.watch(moment, closed, func() { _ = k.conn.Close() }) }

const moment = time.Second

// watch calls stalled, once, when a write has not ended for as long as patience, or up to a half longer, unless over is closed before.
func (k *sink) watch(patience time.Duration, over <-chan struct{}, stalled func()) {
	t := time.NewTicker(max(patience/2, 1))
	defer t.Stop()
	for seen, looks := uint64(0), 0; ; {
		select {
		case <-over:
			return
		case <-t.C:
		}
		begun := k.begun.Load()
		if begun != seen || begun == k.ended.Load() {
			seen, looks = begun, 0
		} else if looks++; looks == 2 {
			stalled()
			return
		}
	}
}

// source is what a session reads from.
type source struct {
	of   *session
	from *eager.Reader
}

// Read waits on this thread where no call runs, but for one that waits itself: a goroutine of one that was just woken may be next on its processor.
func (s *source) Read(b []byte) (int, error) {
	s.of.mu.Lock()
	idle := len(s.of.calls) == s.of.listening
	s.of.mu.Unlock()
	if idle {
		return s.from.Eagerly(b)
	}
	return s.from.Read(b)
}

// question is a call of the host's functions that was not answered yet, with the context that it was made with.
type question struct {
	of    *asks
	bytes uint64

	ctx      context.Context
	answered chan answer
}

// answer is what the host has answered.
type answer struct {
	out    []byte
	status abi.Status
}

// call is one of the host's. It is the context of what it does.
type call struct {
	context.Context
	s      *session
	id     uint64
	cancel context.CancelFunc
	asks   asks

	lead *lead // of its goroutine, while that leads; changes hands by its own mu
	late bool  // much that was answered before waits for the host to read it

	input  *input // nil without one
	output *output

	numbers *numbers.Function // or nil
	begun   time.Time
}

// lead is a goroutine's turn to read.
type lead struct {
	mu     sync.Mutex
	within bool // it runs a call, or writes
	given  bool // another goroutine reads
	lent   bool // who waits for the host's answer, within that call, reads

	late *time.Timer // has it given when that takes longer

	*memory
}

// memory is what a goroutine that leads reads inputs into, and has outputs written to. It is that goroutine's alone.
type memory struct{ in, out []byte }

// trim lets go of what is long.
func (m *memory) trim() {
	const kept = 1 << 20
	if cap(m.in) > kept {
		m.in = nil
	}
	if cap(m.out) > kept {
		m.out = nil
	}
}

// give has another goroutine read from now on, and writes what waits for that. It may be called at any time, by any goroutine.
func (s *session) give(l *lead) {
	if l == nil {
		return
	}
	l.mu.Lock()
	gives := l.within && !l.given && !l.lent
	if gives {
		l.given = true
		go s.lead(nil)
	}
	l.mu.Unlock()
	if gives {
		s.flush()
	}
}

// flush writes the answers that wait for others.
func (s *session) flush() {
	if err := s.w.Flush(); err != nil {
		s.end(err)
	}
}

// more reports whether the goroutine still leads, and has the next message at hand.
func (s *session) more(l *lead) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.given && !l.lent && s.r.Whole() != 0
}

// short is how long a call may take before another goroutine reads.
const short = 100 * time.Microsecond

// listen has who waits for the host's answer read until it is there, where nobody else reads.
func (s *session) listen(l *lead, answered chan answer) {
	if l == nil {
		return
	}
	if !s.breaks { // a call that reads would not end with the session
		s.give(l)
		return
	}
	l.mu.Lock()
	lends := l.within && !l.given && !l.lent
	l.lent = l.lent || lends
	l.mu.Unlock()
	if !lends {
		return
	}
	s.listening = 1
	var beside *incoming // a call that came meanwhile: another goroutine runs it, and reads
	for m := (wire.Message{}); len(answered) == 0 && beside == nil; {
		err := s.r.Next(&m)
		switch {
		case err != nil:
		case m.Verb == wire.Call:
			beside = &incoming{m: m}
			err = s.receive(beside)
		default:
			err = s.take(&m)
		}
		if err != nil { // nobody reads any more
			beside = nil
			s.end(err)
			break
		}
	}
	s.listening = 0
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent = false
	switch {
	case beside != nil:
		l.given = true
		go s.lead(beside)
	case l.within:
		l.late.Reset(short)
	default: // the call is over, and its goroutine has left the reading to this one
		go s.lead(nil)
	}
}

// begin says that the goroutine does something from now on that may take long, or wait for the host: after a while another one reads.
func (l *lead) begin() {
	l.mu.Lock()
	l.within = true
	l.mu.Unlock()
	l.late.Reset(short) // which may still come when that is over, and then is for the next one
}

// ends says that it is over, and reports whether another goroutine reads now.
func (l *lead) ends() bool {
	l.late.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.within = false
	return l.given || l.lent // by a goroutine of the function's that goes on
}

// incoming is a call that was read.
type incoming struct {
	m    wire.Message
	name string
	in   []byte
}

// receive reads the rest of a call, with its input where c.in is.
func (s *session) receive(c *incoming) (err error) {
	if !s.greeted.Load() { // before any of its body has room
		return &wire.Error{Rule: "W4", Found: "CALL first of all", Expected: "HELLO"}
	}
	c.name = string(c.m.Name) // which reading the body overwrites
	c.in, err = s.r.Body(c.in[:0])
	return err
}

// lead runs a call, if there is one, and reads messages, until another goroutine does.
func (s *session) lead(first *incoming) {
	l := new(lead)
	// The one before may have given the reading away because its output was long: what it had is there again, and is not the collector's.
	if l.memory, _ = s.spare.Get().(*memory); l.memory == nil {
		l.memory = &memory{out: make([]byte, 0, 4<<10)}
	}
	l.late = time.AfterFunc(time.Hour, func() { s.give(l) })
	defer l.late.Stop()
	var c incoming
	for {
		if first != nil {
			c, first = *first, nil
		} else {
			if s.r.Whole() == 0 && s.w.Waits() { // reading may wait now
				l.begin() // for a host that reads nothing before its next calls are taken
				err := s.w.FlushSoon()
				given := l.ends()
				if err != nil {
					s.end(err)
				}
				if given {
					s.spare.Put(l.memory)
					return
				}
			}
			err := s.r.Next(&c.m)
			if err == nil && c.m.Verb == wire.Call {
				c.in = l.in
				err = s.receive(&c)
				l.in = c.in
			} else if err == nil {
				err = s.take(&c.m)
			}
			if err != nil {
				s.end(err)
				return
			}
			if c.m.Verb != wire.Call {
				continue
			}
		}
		admitted := s.admit(&c, l) // before another goroutine may read what is for it, such as CANCEL
		if admitted == nil {
			return
		}
		l.begin()
		s.call(admitted, &c.m, c.name, c.in, l)
		given := l.ends()
		l.trim()
		if given {
			s.flush() // it may have been given between the look at what comes next and the answer
			s.spare.Put(l.memory)
			return
		}
	}
}

// end ends the session.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	if !errors.Is(err, io.EOF) {
		s.why = err
	}
	close(s.over)
	for id, c := range s.asked {
		close(c.answered)
		delete(s.asked, id)
	}
}

// take does what a message asks for that is no call.
func (s *session) take(m *wire.Message) error {
	if !s.greeted.Load() && m.Verb != wire.Hello {
		return &wire.Error{Rule: "W4", Found: m.Verb.String() + " first of all", Expected: "HELLO"}
	}
	switch m.Verb {
	case wire.Hello:
		return s.hello(m)
	case wire.Done:
		status := m.Status
		out, err := s.r.Body(nil)
		if err != nil {
			return err
		}
		s.mu.Lock()
		c, ok := s.asked[m.ID]
		if ok {
			delete(s.asked, m.ID)
			c.of.leave(c.bytes, s.maxBody)
		}
		s.mu.Unlock()
		if !ok {
			return &wire.Error{Rule: "W7", Found: fmt.Sprintf("DONE %d, which has no call in progress", m.ID), Expected: "one answer to each call"}
		}
		c.answered <- answer{out, status}
	case wire.Cancel:
		if c := s.find(m.ID); c != nil {
			c.cancel()
		}
	case wire.Part:
		piece, err := s.r.Body(nil)
		if err != nil {
			return err
		}
		if c := s.find(m.ID); c != nil && c.input != nil {
			return c.input.put(piece, m.Broken)
		}
	case wire.More:
		if c := s.find(m.ID); c != nil && c.output != nil {
			c.output.allow(m.N)
		}
	case wire.Bye:
		return io.EOF
	default:
		return &wire.Error{Rule: "W7", Found: m.Verb.String() + " from a host", Expected: "CALL, DONE, CANCEL, PART, MORE or BYE"}
	}
	return nil
}

func (s *session) find(id uint64) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// hello answers one before anything else is read: what breaks a rule behind it is found by a host that knows whom it speaks with.
func (s *session) hello(m *wire.Message) error {
	switch {
	case s.greeted.Load():
		return &wire.Error{Rule: "W4", Found: "a second HELLO", Expected: "one"}
	case m.Length > 0:
		return &wire.Error{Rule: "W4", Found: "HELLO with a body", Expected: "none of a host's"}
	case s.options.Token != "" && subtle.ConstantTimeCompare(m.Token, []byte(s.options.Token)) != 1:
		return errToken // about which nothing is said to the other side
	case s.options.admit != nil && !s.options.admit():
		return errFull
	}
	if s.options.Metrics != nil {
		s.mu.Lock()
		if !s.ended {
			s.leaves = append(s.leaves, s.options.Metrics.Sessions.Begin())
		}
		s.mu.Unlock()
	}
	if m.Level != 0 {
		s.level = m.Level
	}
	if m.MaxBody != 0 {
		s.maxBody = m.MaxBody
	}
	s.greeted.Store(true)
	if err := s.w.Send(&wire.Message{Verb: wire.Hello, Version: wire.Version, MaxBody: uint64(s.options.MaxBody)}, wire.FormatManifest(s.about(), true)); err != nil {
		return err
	}
	if m.Version != wire.Version {
		return &wire.Error{Rule: "W4", Found: fmt.Sprintf("version %d of the wire", m.Version), Expected: "version 1"}
	}
	return nil
}

var (
	errToken = errors.New("serve: the host has not said the token")
	errHello = fmt.Errorf("serve: the host has not said hello in time: %w", os.ErrDeadlineExceeded)
	errStall = fmt.Errorf("serve: the host took nothing for too long: %w", os.ErrDeadlineExceeded)
	errFull  = errors.New("serve: there are as many sessions as there may be")
)

// about is what the host is told: ferrule_stop runs when the session ends, and is nothing that the host calls.
func (s *session) about() *abi.Description {
	about := *s.of.About
	about.HasStop = false
	return &about
}

// admit takes in that the host calls; nil where the session is over.
func (s *session) admit(in *incoming, l *lead) *call {
	m := &in.m
	c := &call{s: s, id: m.ID, lead: l}
	from := s.ctx
	if m.Within != 0 { // whoever waits for that one must not wait for this one: its context says so
		s.mu.Lock()
		if q, ok := s.asked[m.Within]; ok {
			from = q.ctx
		}
		s.mu.Unlock()
	}
	if m.Timeout > 0 {
		left := time.Duration(min(m.Timeout, 1<<40)) * time.Millisecond
		if aged, ok := s.conn.(interface{ Age() time.Duration }); ok { // it was under way for a while
			left -= aged.Age()
		}
		c.Context, c.cancel = context.WithTimeout(from, left)
	} else {
		c.Context, c.cancel = context.WithCancel(from)
	}
	if s.options.Metrics != nil {
		c.numbers = s.numbersOf(in.name, m.Hook)
	}
	if m.Stream&abi.StreamIn != 0 {
		c.input = newInput(c)
	}
	if m.Stream&abi.StreamOut != 0 {
		c.output = newOutput(c)
	}
	s.mu.Lock()
	_, twice := s.calls[c.id]
	beyond := s.beyond(len(in.in))
	admitted := !s.ended && !twice && beyond == nil
	if admitted {
		s.calls[c.id] = c
		s.inputs += len(in.in)
		c.late = s.unread.bytes >= mostUnread
		s.running.Add(1)
	}
	s.mu.Unlock()
	if !admitted {
		c.cancel()
		if twice {
			s.end(&wire.Error{Rule: "W7", Found: fmt.Sprintf("CALL %d twice", c.id), Expected: "an id that no call has which was not answered"})
		} else if beyond != nil {
			s.end(beyond)
		}
		return nil
	}
	c.numbers.Took(len(in.in))
	c.begun = c.numbers.Begin()
	return c
}

// numbersOf are those of what is called; nil of what the plug-in does not have.
func (s *session) numbersOf(name string, hook bool) *numbers.Function {
	if service, ok := strings.CutPrefix(name, "ferrule."); ok {
		return s.options.Metrics.Function(numbers.Service, service)
	}
	kind := numbers.Func
	if hook {
		kind = numbers.Hook
	}
	return s.options.Metrics.Function(kind, name)
}

// connects counts that a host is there.
func (s *session) connects() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.leaves = append(s.leaves, s.options.Metrics.Connections.Begin())
	}
}

// countEnd counts how the session has ended.
func (s *session) countEnd() {
	s.mu.Lock()
	leaves := s.leaves
	s.mu.Unlock()
	how := numbers.Closed
	switch {
	case len(leaves) == 0:
		return
	case len(leaves) == 1:
		how = numbers.Refused
	case s.why != nil:
		how = numbers.Broken
	}
	s.options.Metrics.Ended[how].Add(1)
	for _, end := range leaves {
		end()
	}
}

// call runs a call of the host's, on the goroutine that leads.
func (s *session) call(c *call, m *wire.Message, name string, in []byte, l *lead) {
	defer c.cancel()
	if c.late {
		s.give(l)
		s.drained(c)
	}
	out, done := s.run(c, name, in, m.Hook, m.Watched, m.Resumes)
	done.Verb, done.ID = wire.Done, c.id
	if uint64(len(out)) > s.maxBody {
		long := fmt.Sprintf("the output has %s, and the host takes %d at most (its WithMaxMessage)", count.Of(len(out), "byte"), s.maxBody)
		out, done.Status, done.Rule = []byte(long[:min(uint64(len(long)), s.maxBody)]), abi.StatusNoMemory, nil
	}
	if s.options.Metrics != nil { // before the answer: who has it finds it counted
		c.numbers.Gave(len(out))
		c.numbers.End(c.begun, done.Status)
		if c.numbers == nil {
			s.options.Metrics.Unknown.Add(done.Status)
		}
	}
	s.mu.Lock()
	delete(s.calls, c.id) // it is answered before it is written: what the host does when it has the answer may be read before this goroutine goes on
	s.inputs -= len(in)
	s.unread.calls, s.unread.bytes = s.unread.calls+1, s.unread.bytes+len(out)
	s.mu.Unlock()
	send := s.w.Send
	if s.more(l) { // the answers to calls that came together go together, unless one of them takes longer
		send = s.w.Put
	}
	err := send(&done, out)
	s.wrote(len(out))
	if err != nil {
		s.end(err)
	}
	s.running.Done()
}

// run does what a call asks for.
func (s *session) run(c *call, name string, in []byte, hook, watched, resumes bool) (out []byte, done wire.Message) {
	defer func() {
		if value := recover(); value != nil { // such as of a logger's
			out, done = fmt.Append(nil, value), wire.Message{Status: abi.StatusPanic}
		}
	}()
	if strings.HasPrefix(name, "ferrule.") {
		s.give(c.lead)
		return s.outcome(s.service(c, name, in, resumes))
	}
	s.mu.Lock()
	kind := 0
	if hook {
		kind = 1
	}
	plugin, fn := s.plugin, s.funcs[kind][name]
	s.mu.Unlock()
	switch {
	case plugin == nil:
		return []byte("it was not started: call ferrule.start first"), wire.Message{Status: abi.StatusMisuse}
	case fn == nil:
		return []byte("it has no function and no hook of this name"), wire.Message{Status: abi.StatusUnsupported}
	}
	if sh := s.of.shared; sh != nil {
		if why := s.enter(c); why != 0 {
			sh.counts[name].NotRun.Add(1)
			return nil, wire.Message{Status: abi.StatusFailed, NotRun: why}
		}
		defer sh.exit()
		sh.counted(name, func() bool {
			out, done = s.runs(c, fn, in, hook, watched)
			return done.Status == abi.StatusOK
		})
		return out, done
	}
	return s.runs(c, fn, in, hook, watched)
}

// enter takes a place of a Shared's.
func (s *session) enter(c *call) wire.Reason {
	why := s.of.shared.tryEnter(c)
	if why != wire.Busy {
		return why
	}
	s.give(c.lead) // it may wait
	return s.of.shared.enter(c)
}

// runs runs a function.
func (s *session) runs(c *call, fn *loader.Func, in []byte, hook, watched bool) (out []byte, done wire.Message) {
	ctx := context.Context(c)
	if hook {
		ctx = loader.WithNext(ctx, func(ctx context.Context, in []byte) ([]byte, error) { return s.ask(ctx, wire.Next, in) })
	}
	if watched {
		ctx = loader.WithProgress(ctx, func(done, total uint64) {
			_ = s.w.Send(&wire.Message{Verb: wire.Progress, ID: c.id, Done: done, Total: total}, nil)
		})
	}
	if c.input == nil && c.output == nil {
		out, status, err := fn.Try(ctx, c.lead.out[:0], in)
		c.lead.out = out[:0]
		if err == nil {
			return out, wire.Message{Status: status}
		}
		return s.outcome(nil, err)
	}
	s.give(c.lead)
	r, w := io.Reader(nil), io.Writer(nil)
	if c.input != nil {
		r = c.input
	}
	if c.output != nil {
		w = c.output
	}
	return s.outcome(fn.Stream(ctx, in, r, w))
}

// outcome is what a call's answer has of what has become of it.
func (s *session) outcome(out []byte, err error) ([]byte, wire.Message) {
	if err == nil {
		return out, wire.Message{}
	}
	logger := s.options.Logger
	if sh := s.of.shared; sh != nil {
		logger = sh.logger
	}
	tellCrash(logger, err)
	if usage, ok := err.(*loader.UsageError); ok && errors.Is(usage.Kind, loader.ErrReentrant) {
		return []byte(err.Error()), wire.Message{Status: abi.StatusFailed, NotRun: wire.Reentrant}
	}
	status, message, rule := Answer(err)
	return message, wire.Message{Status: status, Rule: []byte(rule)}
}

// tellCrash tells who runs a server of a crash that a call's error is of, once for each call that it has ended: to the caller it is a status and a message (Answer). Of any other error, and where logger is
// nil, it does nothing.
func tellCrash(logger *slog.Logger, err error) {
	if logger != nil && errors.Is(err, loader.ErrCrash) && !errors.Is(err, loader.ErrSuspended) { // what was not called because of earlier crashes has not crashed
		logger.Error(err.Error())
	}
}

// Answer returns what a call's error is to the other side (rule W8): a status, and a message for people; rule is that of ferrule.h which a function has broken, or "".
func Answer(err error) (status abi.Status, message []byte, rule string) {
	var called *loader.CallError
	var broke *loader.ContractError
	var open *loader.OpenError
	var crash *loader.CrashError
	var deadline *loader.DeadlineError
	switch {
	case errors.As(err, &called):
		return called.Status, []byte(called.Message), ""
	case errors.As(err, &broke):
		return abi.StatusMisuse, []byte(broke.Found + "\n" + broke.Expected), broke.Rule
	case errors.As(err, &open):
		if errors.As(open.Err, &called) {
			return called.Status, []byte(called.Message), ""
		}
		return abi.StatusFailed, []byte(err.Error()), ""
	case errors.As(err, &crash), errors.As(err, &deadline):
		return abi.StatusPanic, []byte(err.Error()), ""
	}
	status, _ = engine.StatusOf(err)
	return status, engine.Message(err, status), ""
}

// service runs what the host calls beside functions. resumes says of the start that a state comes next.
func (s *session) service(c *call, name string, in []byte, resumes bool) ([]byte, error) {
	s.serving.Lock()
	defer s.serving.Unlock()
	s.mu.Lock()
	plugin := s.plugin
	s.mu.Unlock()
	about := s.of.About
	switch {
	case name == wire.Start && plugin == nil && !s.behind:
		s.config = append([]byte(nil), in...)
		if s.behind = resumes && about.HasResume; s.behind { // a state is given to what is being opened
			return nil, nil
		}
		return nil, s.start(c, nil)
	case s.behind && name != wire.Resume:
		return nil, fmt.Errorf("ferrule.resume comes first, as its start has said: %w", abi.StatusMisuse)
	case s.behind:
		s.behind = false
		return nil, s.start(c, loader.NewState(about.Manifest.State, [][]byte{append([]byte{}, in...)}))
	case plugin == nil || name == wire.Start:
		return nil, fmt.Errorf("ferrule.start comes first, and once: %w", abi.StatusMisuse)
	case name == wire.Configure && about.HasConfigure:
		config := append([]byte{}, in...)
		err := plugin.Configure(c, config)
		if err == nil {
			s.config = config
		}
		return nil, err
	case name == wire.Save && about.HasSave:
		var saved []byte
		_, err := plugin.Handover(c, func(state *loader.State) (*loader.Plugin, error) {
			saved = state.Instances()[0]
			return nil, errSaved // the plug-in goes on as it was
		})
		if errors.Is(err, errSaved) {
			err = nil
		}
		return saved, err
	case name == wire.Resume && about.HasResume:
		// The start did not say so: what it has started is not needed.
		if err := plugin.Close(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.plugin = nil
		s.mu.Unlock()
		return nil, s.start(c, loader.NewState(about.Manifest.State, [][]byte{append([]byte{}, in...)}))
	}
	return nil, fmt.Errorf("there is no service %s: %w", name, abi.StatusUnsupported)
}

var errSaved = errors.New("it was saved")

// start opens the plug-in.
func (s *session) start(c *call, state *loader.State) error {
	if sh := s.of.shared; sh != nil {
		own, err := sh.plugin.NewSession(c, s.config)
		if err != nil {
			return err
		}
		funcs, err := functions(s.of.About, own)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.plugin, s.own, s.funcs = sh.plugin, own, funcs
		return err
	}
	opts := []loader.Option{loader.WithConfig(s.config), loader.WithLogger(slog.New(&logger{s: s}))}
	for _, f := range s.of.About.Imports {
		opts = append(opts, s.offers(f.Name))
	}
	for _, f := range s.of.About.Wants {
		if said, err := s.ask(c, wire.Info, []byte("offers."+f.Name)); err == nil && string(said) == "yes" {
			opts = append(opts, s.offers(f.Name))
		}
	}
	if data, err := s.ask(c, wire.Info, []byte("data")); err == nil {
		if info, err := os.Stat(string(data)); err == nil && info.IsDir() { // it may be another machine's
			opts = append(opts, loader.WithDataFolder(string(data)))
		}
	}
	if state != nil {
		opts = append(opts, loader.WithState(state))
	}
	plugin, err := s.of.Open(opts...)
	if err != nil {
		return err
	}
	funcs := [2]map[string]*loader.Func{{}, {}}
	for _, f := range s.of.About.Funcs {
		if fn, err := plugin.Func(f.Name); err == nil {
			funcs[0][f.Name] = fn
		}
	}
	for _, h := range s.of.About.Hooks {
		if fn, err := plugin.Hook(h.Name); err == nil {
			funcs[1][h.Name] = fn
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plugin, s.funcs = plugin, funcs
	return nil
}

func (s *session) offers(name string) loader.Option {
	return loader.WithHostFunc(name, func(ctx context.Context, in []byte) ([]byte, error) { return s.ask(ctx, name, in) })
}

type callKey struct{}

// Value is context.Context's: what a plug-in asks its host for is asked for at the host's.
func (c *call) Value(key any) any {
	switch key := key.(type) {
	case callKey:
		return c
	case engine.InfoKey:
		if key == engine.KeyInstance || key == engine.KeyPath {
			return nil
		}
		if out, err := c.s.ask(c, wire.Info, []byte(key)); err == nil {
			return string(out)
		}
		return nil
	}
	return c.Context.Value(key)
}

// ask calls a function of the host's, for the call that ctx is of.
func (s *session) ask(ctx context.Context, name string, in []byte) ([]byte, error) {
	m := wire.Message{Verb: wire.Call, Name: []byte(name), HasFor: true}
	var l *lead
	of := &s.stray
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		m.For, l, of = c.id, c.lead, &c.asks
	}
	if len(in) >= 4<<10 { // the host may write before it reads
		s.give(l)
	}
	if uint64(len(in)) > s.maxBody {
		return nil, fmt.Errorf("it is longer than the longest message: %w", abi.StatusNoMemory)
	}
	if err := s.room(ctx, of, uint64(len(in)), l); err != nil {
		return nil, err
	}
	answered := make(chan answer, 1)
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, errGone
	}
	s.last++
	m.ID = s.last
	s.asked[m.ID] = question{of, uint64(len(in)), ctx, answered}
	s.mu.Unlock()
	if err := s.w.Send(&m, in); err != nil {
		s.end(err)
	}
	s.listen(l, answered)
	a, ok := <-answered
	switch {
	case !ok:
		return nil, errGone
	case a.status == abi.StatusOK:
		return a.out, nil
	case len(a.out) == 0:
		return nil, a.status
	}
	return nil, fmt.Errorf("%s: %w", a.out, a.status)
}

var errGone = errors.New("the host is gone")

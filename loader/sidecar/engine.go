package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/confine"
	"github.com/ferrule-dev/ferrule/loader/sidecar/link"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

type sidecarEngine struct {
	options
	fault error
}

// Name is engine.Engine's.
func (e *sidecarEngine) Name() string { return "sidecar.Engine" }

// Words is engine.Engine's.
func (e *sidecarEngine) Words() engine.Words {
	return engine.Words{Kind: "programs and URLs", Twice: "Give it once, with all its options",
		Overdue: fmt.Sprintf("its sidecar is ended %v after it was asked to (sidecar.WithGrace). Have it look for CANCEL", e.grace),
		Import:  "imports: ", Start: wire.Start, Starting: "the program, its ferrule.start or its ferrule.resume"}
}

// Fault is engine.Engine's.
func (e *sidecarEngine) Fault() error { return e.fault }

// Recognises is engine.Engine's.
func (e *sidecarEngine) Recognises(f *engine.File) bool {
	if e.any || schemeOf(f.Path) != "" {
		return true
	}
	head, err := f.Head()
	return err == nil && isProgram(head)
}

// Look is engine.Looking's.
func (e *sidecarEngine) Look(f *engine.File) error {
	url, err := target(f.Path)
	if url || err != nil {
		return err
	}
	p, err := newProgram(f, &e.options, nil)
	p.close()
	return err
}

// target is URL of a path that may be a file's all the same, which may be named like a URL of another kind.
func target(path string) (url bool, err error) {
	url, err = URL(path)
	if err != nil && !url {
		if _, missing := os.Stat(path); missing == nil {
			err = nil
		}
	}
	return url, err
}

// Open is engine.Engine's.
func (e *sidecarEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (_ engine.Plugin, _ *abi.Description, err error) {
	l := &launcher{options: &e.options, path: f.Path, quit: make(chan struct{})}
	url, err := target(f.Path)
	if err != nil {
		return nil, nil, err
	}
	if url {
		if o.SHA256 != nil {
			return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrOption, Found: "WithSHA256 for a URL", Expected: "no digest: there is no file", Remedy: "Leave it out"}
		}
		if e.sandbox != nil {
			return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrOption, Found: "sidecar.WithSandbox for a URL", Expected: "none: nothing is started here that could be shut in",
				Remedy: "Leave it out, and have what starts the sidecar shut it in; or give the program's path"}
		}
	} else if l.program, err = newProgram(f, &e.options, o.SHA256); err != nil {
		return nil, nil, err
	}
	if e.sandbox != nil {
		if l.policy, err = e.sandbox.Resolve(o.Data); err != nil {
			l.program.close()
			return nil, nil, confine.Refused(f.Path, err)
		}
	}
	if schemeOf(f.Path) == "fifo" && o.Instances > 1 {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrOption, Found: fmt.Sprintf("WithInstances with %d for two FIFOs", o.Instances), Expected: "1: they are one session at a time",
			Remedy: "Give the sidecar a socket (unix:PATH), or leave the option out"}
	}
	opened := false
	defer func() {
		if !opened {
			l.close()
		}
	}()
	first, about, err := l.launch(ctx.Done())
	if err != nil {
		return nil, nil, givenUp(ctx, err)
	}
	l.first, l.about, l.manifest = first, about, wire.FormatManifest(about, false)
	host, err := accept(about)
	if err != nil {
		return nil, nil, err
	}
	own := &plugin{launcher: l}
	if own.Pool, err = pool.Open(ctx, l.code(), host, o); err != nil {
		return nil, nil, givenUp(ctx, err)
	}
	opened = true
	return own, about, nil
}

// givenUp says why a start was given up, where that is what has become of it.
func givenUp(ctx context.Context, err error) error {
	if _, ended := err.(*engine.Ended); ended {
		return ctx.Err()
	}
	return err
}

// plugin is an open one.
type plugin struct {
	*pool.Pool
	launcher *launcher
}

// Close is engine.Plugin's.
func (p *plugin) Close() error {
	err := p.Pool.Close()
	p.launcher.close()
	return err
}

// Shutdown is engine.Plugin's. What still runs when ctx ends is ended with its sidecars.
func (p *plugin) Shutdown(ctx context.Context) error {
	err := p.Pool.Shutdown(ctx)
	if err == nil {
		p.launcher.close()
		return nil
	}
	if late, ok := err.(*engine.Unfinished); ok {
		p.launcher.endAll(&errShutdown{late.Cause})
		go func() { _ = p.Close() }()
	}
	return err
}

// Isolation is engine.Isolated's: the process of the sidecar that was started last, where there is one, and which it is, counted from those that took the place of one that had ended.
func (p *plugin) Isolation() engine.Isolation {
	l := p.launcher
	l.mu.Lock()
	defer l.mu.Unlock()
	i, newest := engine.Isolation{Attempt: int(1 + l.renewed)}, 0
	if l.suspensions > 0 {
		i.Suspended = max(0, time.Until(l.earliest))
	}
	for s := range l.sessions {
		if s.attempt > newest && s.child != nil {
			newest, i.PID, i.Layers = s.attempt, s.child.PID(), s.child.Layers()
		}
	}
	return i
}

// errShutdown is why a session was ended when Shutdown's context had.
type errShutdown struct{ cause error }

func (e *errShutdown) Error() string { return "the context of Shutdown had ended" }

// launcher starts the sidecars of one plug-in, or connects to them.
type launcher struct {
	*options
	path     string
	program  *program // nil of a URL
	policy   []byte   // of its sandbox, if it has one
	about    *abi.Description
	manifest []byte

	mu       sync.Mutex
	first    *session              // was started before the first instance, whose it becomes
	sessions map[*session]struct{} // that have not ended
	children map[*child]struct{}   // of which something is left
	closed   bool
	attempt  int           // how many there have been
	ended    atomic.Int64  // how many have ended that nobody had closed
	renewed  int64         // how many were started in the place of one of these
	quit     chan struct{} // closed when nothing is to be waited for any more
	ends     sync.Once

	// How sidecars have ended, one after the other; see WithRestart.
	streak, suspensions int
	earliest            time.Time
	lastCrash           *engine.Crash
}

// session is an instance: what it is spoken to by, and the process behind it.
type session struct {
	launcher *launcher
	link     *link.Link
	child    *child // nil of a URL
	attempt  int
	worked   atomic.Bool // a call has come back
	quiet    atomic.Bool // its end is no crash: the host wants it
	spoil    func()
	begun    chan struct{} // closed when its start is over,
	started  bool          // and has not failed
	stopped  sync.Once     // ferrule.stop was called, where it is to be

	crashed sync.Once
	how     *engine.Crash
}

// subject is what errors say that ended.
func (l *launcher) subject() string {
	if l.program == nil {
		return "the connection to " + l.path
	}
	return "the sidecar"
}

// launch starts a sidecar, or connects to one, and waits until it has said what it is. The error is an *inspect.Error or an *engine.Crash.
func (l *launcher) launch(abandoned <-chan struct{}) (*session, *abi.Description, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.start)
	defer cancel()
	go func() {
		select {
		case <-abandoned:
			cancel()
		case <-l.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	l.mu.Lock()
	l.attempt++
	s := &session{launcher: l, attempt: l.attempt, begun: make(chan struct{})}
	l.mu.Unlock()
	var stream link.Stream
	var ways *pipes
	var err error
	if l.program != nil {
		if s.child, ways, err = l.startProgram(ctx); err != nil {
			if isClosed(abandoned) {
				return nil, nil, &engine.Ended{}
			}
			if refused, ok := err.(*inspect.Error); ok {
				refused.Path = l.path
				return nil, nil, refused
			}
			crash := &engine.Crash{Subject: l.subject(), Code: -1, Reason: "not started: " + err.Error(), Attempt: s.attempt, Err: err,
				Remedy: "See why the system does not start the program"}
			if where, remedy := l.program.onNoexec(err); where != "" {
				crash.Reason, crash.Remedy = "not started: the file system of "+where+" is mounted noexec", remedy
			}
			if errors.Is(err, context.DeadlineExceeded) {
				crash.Late = l.start
			}
			return nil, nil, crash
		}
		stream = ways
	} else if stream, err = l.dial(ctx); err != nil {
		if isClosed(abandoned) {
			return nil, nil, &engine.Ended{}
		}
		return nil, nil, err
	}
	l.owns(s.child)
	timedOut := context.AfterFunc(ctx, func() { stream.Close() })
	about, err := s.meet(stream, ways)
	if !timedOut() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		if err = l.takes(s); err == nil {
			return s, about, nil
		}
	}
	_ = stream.Close()
	switch {
	case isClosed(l.quit):
		err = errClosing
	case ctx.Err() != nil:
		late := fmt.Sprintf("it had not said what it is in %v (sidecar.WithStartTimeout)", l.start)
		if ways != nil {
			ways.mu.Lock()
			if len(ways.begins) > 0 {
				late += ", but " + ways.strays() + " (rule W16 of docs/wire.md)"
			}
			ways.mu.Unlock()
		}
		err = errors.New(late)
	}
	crash := s.look(err)
	if ctx.Err() == context.DeadlineExceeded {
		crash.Late = l.start
	}
	if isClosed(abandoned) {
		return nil, nil, &engine.Ended{}
	}
	crash.Unserved = true
	crash.Remedy = "See what it says, and have it begin as docs/wire.md says"
	if s.child == nil && isEnd(err) { // it need not say why (rule W4)
		crash.Reason += " before it had said what it is"
		crash.Remedy = l.turnedAway()
	}
	if l.sandbox != nil {
		crash.Remedy += "; in its sandbox it may lack what its policy does not grant, such as memory (sandbox.Policy)"
	}
	return nil, nil, crash
}

// turnedAway says why a sidecar that listens may have closed a connection.
func (l *launcher) turnedAway() string {
	var why []string
	if l.token == "" {
		why = append(why, "that it asks for a token (sidecar.WithToken)")
	} else {
		why = append(why, "that the token is wrong (sidecar.WithToken)")
	}
	if scheme, _, _ := strings.Cut(l.path, ":"); scheme == "tcp" && l.tls == nil {
		why = append(why, "that it speaks TLS (sidecar.WithTLS)")
	}
	return "It may be " + strings.Join(append(why, "that it has as many hosts as it takes"), ", ") + ", or that something else listens there: see what it says"
}

// takes keeps a session in mind that has begun, unless the plug-in is closed.
func (l *launcher) takes(s *session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosing
	}
	if l.sessions == nil {
		l.sessions = make(map[*session]struct{})
	}
	l.sessions[s] = struct{}{}
	if l.renewed < l.ended.Load() {
		l.renewed++
	}
	if s.child != nil {
		go s.watch()
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// owns keeps a child in mind until nothing is left of it.
func (l *launcher) owns(c *child) {
	if c == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.children == nil {
		l.children = make(map[*child]struct{})
	}
	l.children[c] = struct{}{}
	go func() {
		<-c.buried
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.children, c)
	}()
}

// watch ends the session some time after its process has, where the stream's end did not do so: somebody else may have it open.
func (s *session) watch() {
	<-s.child.gone
	time.AfterFunc(patience, func() { s.link.Fail(io.EOF) })
}

var errClosing = errors.New("the plug-in is being closed")

// meet exchanges hellos.
func (s *session) meet(stream link.Stream, ways *pipes) (*abi.Description, error) {
	o := link.Options{Token: s.launcher.token, MaxBody: s.launcher.maxMessage, Grace: s.launcher.grace}
	s.link = link.New(stream, o)
	if ways != nil {
		if err := ways.greet(s.link); err != nil {
			return nil, err
		}
		if err := ways.choose(s.child.tail); err != nil {
			return nil, err
		}
	} else if err := s.link.Greet(); err != nil {
		return nil, err
	}
	return s.link.Meet()
}

// greet sends the hello by both ways.
func (p *pipes) greet(l *link.Link) error {
	var errs [2]error
	for way := range p.in {
		if p.in[way] != nil {
			p.way = way
			errs[way] = l.GreetBy(p.in[way])
		}
	}
	p.way = 0
	if errs[0] != nil && errs[1] != nil {
		return errs[0]
	}
	return nil
}

// code is the plug-in for package pool.
func (l *launcher) code() *pool.Code {
	names := pool.Names{Start: wire.Start, Stop: wire.Stop, Configure: wire.Configure, Save: wire.Save, Resume: wire.Resume}
	code := &pool.Code{About: l.about, Names: names, Start: l.startInstance, Call: l.call, Stop: l.stopInstance}
	if l.about.HasConfigure {
		code.Configure = func(c *pool.Call, in []byte) ([]byte, abi.Status, error) {
			return c.State().(*session).service(c, wire.Configure, in, l.grace)
		}
	}
	if l.about.HasSave {
		code.Save = func(c *pool.Call, in []byte) ([]byte, abi.Status, error) {
			return c.State().(*session).service(c, wire.Save, in, l.grace)
		}
		code.Resume = func(c *pool.Call, in []byte) ([]byte, abi.Status, error) { // nobody needs what was to take it
			return c.State().(*session).service(c, wire.Resume, in, 0)
		}
	}
	return code
}

// service calls one, which may take as long as a start, and goes on for grace when nobody waits for it any more.
func (s *session) service(c *pool.Call, name string, in []byte, grace time.Duration) ([]byte, abi.Status, error) {
	out, status, err := s.bounded(c, name, in, grace)
	switch {
	case err == nil || s.link.Why() != errAbandoned:
		return s.outcome(out, status, err)
	case grace == 0:
		return nil, 0, &engine.Ended{}
	}
	return nil, 0, &engine.Overrun{Grace: grace, By: "(sidecar.WithGrace); its sidecar was ended"}
}

// bounded calls a service, and ends the session when it takes longer than WithStartTimeout, or grace after nobody waits for it any more.
func (s *session) bounded(c *pool.Call, name string, in []byte, grace time.Duration) ([]byte, abi.Status, error) {
	late := time.AfterFunc(s.launcher.start, func() { s.link.Fail(&errLate{name, s.launcher.start, "WithStartTimeout"}) })
	defer late.Stop()
	// Who has opened the plug-in may give up its context as soon as it is open, so that both come at once: one of them counts.
	var over sync.Once
	abandoned, done := c.Abandoned(), make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-abandoned:
		case <-done:
			return
		}
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			over.Do(func() { s.link.Fail(errAbandoned) })
		case <-done:
		}
	}()
	out, status, err := s.link.Call(c, name, false, nil, in)
	over.Do(func() {})
	return out, status, err
}

// startInstance is pool.Code's Start.
func (l *launcher) startInstance(c *pool.Call, config []byte) ([]byte, abi.Status, error) {
	l.mu.Lock()
	s := l.first
	l.first = nil
	l.mu.Unlock()
	if s == nil {
		if err := l.await(c.Abandoned()); err != nil {
			return nil, 0, err
		}
		var about *abi.Description
		var err error
		if s, about, err = l.launch(c.Abandoned()); err != nil {
			if crash, ok := err.(*engine.Crash); ok {
				l.failed(crash, false)
			}
			return nil, 0, err
		}
		if !bytes.Equal(wire.FormatManifest(about, false), l.manifest) {
			s.dismiss()
			return nil, 0, &inspect.Error{Path: l.path, Kind: loader.ErrLoad, Found: "a sidecar that says something else of itself than the first one", Expected: "the same manifest",
				Remedy: "Close the plug-in and open it again, where it was replaced"}
		}
	}
	between, _ := c.Background().(*pool.Call)
	s.spoil = c.Spoiler()
	s.link.Leaving = link.Leaving{Vacant: c.Vacant(), Last: func() { // ferrule.stop is called last of all, also of a sidecar that leaves
		<-s.begun
		if entered := pool.Enter(between); entered != nil { // otherwise it is being stopped
			defer entered.Exit()
			s.quiet.Store(true)
			s.stop(entered)
		}
	}}
	s.link.Begin(between, s.over)
	defer close(s.begun)
	if !l.about.HasStart {
		s.started = true
		c.SetState(s)
		return nil, abi.StatusOK, nil
	}
	out, status, err := s.bounded(c, wire.Start, config, 0)
	if err == nil && status == abi.StatusOK && s.link.Why() != errAbandoned {
		s.started = true
		c.SetState(s)
		return nil, abi.StatusOK, nil
	}
	out, status, err = s.outcome(out, status, err)
	s.quiet.Store(true)
	s.link.Abandon()
	if err == nil && status != abi.StatusPanic { // it is in order
		s.dismiss()
	} else {
		s.end(errClosing)
	}
	if s.link.Why() == errAbandoned {
		return nil, 0, &engine.Ended{}
	}
	return out, status, err
}

var errAbandoned = errors.New("nobody waits for it any more")

// errLate is of a service that took too long.
type errLate struct {
	service string
	in      time.Duration
	option  string // that says so
}

func (e *errLate) Error() string {
	return fmt.Sprintf("its %s had not returned in %v (sidecar.%s)", e.service, e.in, e.option)
}

// call is pool.Code's Call.
func (l *launcher) call(c *pool.Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
	s := c.State().(*session)
	symbols, hook := l.about.Funcs, fn >= len(l.about.Funcs)
	if hook {
		symbols, fn = l.about.Hooks, fn-len(symbols)
	}
	out, status, err := s.link.Call(c, symbols[fn].Name, hook, dst, in)
	return s.outcome(out, status, err)
}

// outcome dresses what has become of a call.
func (s *session) outcome(out []byte, status abi.Status, err error) ([]byte, abi.Status, error) {
	if err == nil {
		s.worked.Store(true)
		if status == abi.StatusPanic { // it is ended, and is no crash
			s.quiet.Store(true)
			s.link.Abandon()
		}
		return out, status, nil
	}
	switch err := err.(type) {
	case *engine.Overrun, *engine.Violation:
		return out, status, err
	case *link.NotRun:
		return append(out, err.Error()...), abi.StatusFailed, nil
	}
	return out, 0, s.crash(err)
}

// stopInstance is pool.Code's Stop.
func (l *launcher) stopInstance(c *pool.Call) {
	s := c.State().(*session)
	if why := s.link.Why(); why != nil {
		if !s.link.Left() {
			s.crash(why) // which is known before the next one is started
		}
		s.end(errClosing)
		return
	}
	s.quiet.Store(true)
	s.link.Abandon()
	s.stop(c)
	s.dismiss()
}

// stop calls ferrule.stop, once, where there is one to be called.
func (s *session) stop(c *pool.Call) {
	s.stopped.Do(func() {
		l := s.launcher
		if !l.about.HasStop || !s.started {
			return
		}
		late := time.AfterFunc(l.stop, func() { s.link.Fail(&errLate{wire.Stop, l.stop, "WithStopTimeout"}) })
		out, status, err := s.link.Call(c, wire.Stop, false, nil, nil)
		late.Stop()
		if err != nil {
			c.Log(c.Context(), abi.LogWarn, []byte(wire.Stop+": "+s.crash(err).Error()), nil)
		} else if status != abi.StatusOK {
			text := wire.Stop + ": " + status.String()
			if len(out) > 0 {
				text += ": " + string(out)
			}
			c.Log(c.Context(), abi.LogWarn, []byte(text), nil)
		}
	})
}

// dismiss ends a session as rule W6 has it. No call runs.
func (s *session) dismiss() {
	done := make(chan struct{})
	at := time.Now().Add(s.launcher.stop)
	late := time.AfterFunc(s.launcher.stop, func() { close(done) })
	s.link.Bye(done)
	late.Stop()
	if s.child != nil {
		s.child.end(time.Until(at))
	}
	s.forget()
}

// end ends a session at once.
func (s *session) end(why error) {
	s.link.Fail(why)
	if s.child != nil {
		s.child.end(0)
	}
	s.forget()
}

func (s *session) forget() {
	s.launcher.mu.Lock()
	defer s.launcher.mu.Unlock()
	delete(s.launcher.sessions, s)
}

// over takes in that a session has ended which nobody has closed, or that its sidecar leaves. It is called with the link's lock held.
func (s *session) over(why error) {
	s.spoil()
	s.launcher.ended.Add(1)
	if why != link.ErrLeft {
		go s.crash(why)
		return
	}
	go func() { // what it says when no call runs any more is BYE; then it has to end
		select {
		case <-s.link.Dead():
			return
		case <-s.link.Byed():
		}
		t := time.NewTimer(s.launcher.stop)
		defer t.Stop()
		select {
		case <-s.link.Dead():
		case <-t.C:
			s.end(errClosing)
		}
	}()
}

// patience is for how long a sidecar whose stream has ended may go on by itself, so that it can say why.
const patience = 500 * time.Millisecond

// crash says why a session is over, once its process has ended. Who asks first counts it, and all are told the same.
func (s *session) crash(why error) *engine.Crash {
	s.crashed.Do(func() {
		s.how = s.look(why)
		if _, shut := why.(*errShutdown); !shut && !s.quiet.Load() && why != errAbandoned {
			s.launcher.failed(s.how, s.worked.Load())
		}
	})
	own := *s.how
	own.Output = slices.Clone(own.Output)
	own.Others = max(0, s.link.Inside()-1)
	return &own
}

// look is crash, each time anew.
func (s *session) look(why error) *engine.Crash {
	crash := &engine.Crash{Subject: s.launcher.subject(), Code: -1, Attempt: s.attempt}
	var broke *wire.Error
	ended := isEnd(why)
	switch {
	case errors.As(why, &broke):
		crash.Reason = "ended by the host, because it does not keep to the wire: " + broke.Error()
	case ended && s.child == nil:
		crash.Reason = "ended by the other side"
	case ended:
	default:
		crash.Reason = "ended by the host: " + why.Error()
		switch why := why.(type) {
		case *errShutdown:
			crash.GivenUp = why.cause
		case *errLate:
			crash.Late = why.in
		}
	}
	if s.child == nil {
		s.forget()
		return crash
	}
	by := false
	if ended {
		select {
		case <-s.child.gone:
			by = true
		case <-time.After(patience):
			crash.Reason = "ended by the host: it had closed its standard output, or descriptor 4, and went on"
			if isBrokenPipe(why) {
				crash.Reason = "ended by the host: it had closed its standard input, or descriptor 3, and went on"
			}
		}
	}
	s.child.end(0)
	s.forget()
	crash.Output = s.child.tail.Lines()
	if by {
		crash.Signal, crash.Code = s.child.signal, s.child.code
		if crash.Signal == nil && crash.Code < 0 {
			crash.Reason = s.child.Unsaid()
		}
		if end := s.child.reached(); end.Reason != "" {
			crash.Reason, crash.Bound = end.Reason, end.Bound
		}
		if errors.Is(why, io.ErrUnexpectedEOF) {
			crash.Fault = "within a message"
		}
	}
	return crash
}

// isEnd reports whether an error says that the other side's end is closed.
func isEnd(why error) bool {
	return errors.Is(why, io.EOF) || errors.Is(why, io.ErrUnexpectedEOF) || isBrokenPipe(why)
}

// failed takes in that a sidecar has crashed: when the next one may be started.
func (l *launcher) failed(crash *engine.Crash, worked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if worked {
		l.streak, l.suspensions = 0, 0
	}
	l.lastCrash = crash
	l.streak++
	r := &l.restart
	switch {
	case l.streak >= r.limit:
		l.earliest = time.Now().Add(r.suspend << min(l.suspensions, 4))
		l.suspensions++
		l.streak = r.limit - 1 // one more crash suspends again
	case l.streak >= 2:
		l.earliest = time.Now().Add(min(maxDelay, r.delay<<min(l.streak-2, 20)))
	}
}

// await waits until a sidecar may be started. The error is an *engine.Crash where that is not soon, and an *engine.Ended where nobody waits for it.
func (l *launcher) await(abandoned <-chan struct{}) error {
	l.mu.Lock()
	wait, suspended := time.Until(l.earliest), l.suspensions > 0
	var crash engine.Crash
	if l.lastCrash != nil {
		crash = *l.lastCrash
	}
	l.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	if suspended {
		crash.Suspended, crash.Late = wait, 0
		crash.Output = slices.Clone(crash.Output)
		return &crash
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.quit:
	case <-abandoned:
		return &engine.Ended{}
	}
	return nil
}

// endAll ends all sessions, and those that are being started.
func (l *launcher) endAll(why error) {
	l.ends.Do(func() { close(l.quit) })
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.sessions {
		s.link.Fail(why)
	}
}

// close frees what the plug-in has beside its instances, which have been stopped.
func (l *launcher) close() {
	l.mu.Lock()
	l.closed = true
	first := l.first
	l.first = nil
	l.mu.Unlock()
	if first != nil { // it was refused
		first.dismiss()
	}
	l.bury()
	l.program.close()
}

// bury waits until nothing is left of all children, for a while: what the system does not let go of is nobody's to wait for.
func (l *launcher) bury() {
	t := time.NewTimer(l.stop)
	defer t.Stop()
	for {
		l.mu.Lock()
		var one *child
		for one = range l.children {
			break
		}
		l.mu.Unlock()
		if one == nil {
			return
		}
		select {
		case <-one.buried:
			l.mu.Lock()
			delete(l.children, one)
			l.mu.Unlock()
		case <-t.C:
			return
		}
	}
}

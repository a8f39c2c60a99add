package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/settings"
)

// spec is how a plug-in is to be: what was found of it, and what it may have. It never changes.
type spec struct {
	name    string
	entry   *config.Plugin // of config.yaml; nil where it has none
	dev     string         // the file that dev of config.yaml puts in its place; may be empty
	found   *found         // its file, or what is compiled in; nil where there is nothing
	err     *Error         // why it cannot be; nil where it can
	doubt   *Error         // of a Survey: what may keep it from being opened
	more    []*Error       // of a Survey: what is wrong beside err
	wanted  bool           // it is in config.yaml, or there is none
	enabled bool

	required bool
	limit    time.Duration // of each hook; 0 is the point's alone
	level    slog.Level
	settings []byte // what ferrule_start gets
	secrets  []string

	functions map[string]loader.HostFunc // what it may call, by the name of its import
	grants    []string                   // their names, sorted
	refused   []string                   // the names of wants that it was not granted; without a required one it has err
	permits   []string                   // in words, sorted
	decided   []string                   // of grants, those that Grants gave it
	providers []string                   // of the services among grants, in their order
	policy    sandbox.Policy             // what follows from them
	engine    engine.Engine              // that opens it, with them; nil of native code, and of what is compiled in
	isolated  bool
	sandboxed bool
	group     string
	data      string        // a folder of its own; may be empty
	grace     time.Duration // of a call after its limit; 0 is the worker's own
	stop      time.Duration // of the plug-in when it is closed, the same
	needs     []string      // the names of plug-ins that must run before it

	print string // all of the above that needs a new version when it changes, but for the settings
}

// same reports whether all is as it was that a plug-in is made of. Why it cannot be may have other words all the same, such as the number of a process or a port.
func (sp *spec) same(o *spec) bool {
	return sp.wanted == o.wanted && sp.enabled == o.enabled && sp.entry.Same(o.entry) && sp.dev == o.dev && sp.found.same(o.found) && sp.print == o.print
}

// apart reports whether it runs in a process of its own, or somewhere else.
func (sp *spec) apart() bool { return sp.isolated || sp.found != nil && sp.found.sidecar != nil }

// program reports whether it is a program that the system starts: a sidecar that is no URL.
func (sp *spec) program() bool {
	return sp.found != nil && sp.found.sidecar != nil && !sp.found.sidecar.url
}

// native reports whether it is native code.
func (sp *spec) native() bool { return sp.engine == nil && sp.found.builtin == nil }

// hangs reports whether what was opened in this process runs on in it after nobody waits for it any longer: each try more would leave a thread more.
func (sp *spec) hangs(err *Error) bool {
	_, late := errors.AsType[notWithin](err)
	return late && err.Step == StepStart && !sp.ends()
}

// ends reports whether what is being opened ends with its context, whatever it does.
func (sp *spec) ends() bool { return sp.engine != nil || sp.apart() }

// live is a version that runs.
type live struct {
	*loader.Plugin
	spec *spec
}

// entry is a plug-in by its name, from its discovery on. Versions of it come and go.
type entry struct {
	sys  *System
	name string

	// turn is held by whoever opens, replaces or closes the plug-in: foreign code runs meanwhile.
	turn chan struct{}

	tried bool // by a config.yaml that is refused where it fails: see change1. Whoever has turn has it

	rejected *rejected // the file that was not let in the last time; or nil. Whoever has System.change has it

	secrets settings.Redactor // of its lines and errors: those of the version that runs
	level   slog.LevelVar     // from which on its lines are written

	mu       sync.Mutex
	spec     *spec
	state    State
	err      *Error
	crash    error // of a call: the last crash of its worker; nil before there was one
	retry    *time.Timer
	retryAt  time.Time
	attempts int // how often opening has failed in a row
	live     *live
	flight   *flight                 // who waits for the plug-in to be opened
	opening  context.CancelCauseFunc // ends the try to open it that goes on; nil where none does, and where a change opens it
	attached map[string]*attachment  // by its key
	attempt  int                     // of its worker, that is known
	layers   []string                // what shuts its workers in, as the first one has said; nil before there was one
	replaced int
	restarts int
	drains   int     // versions that were detached, and are not closed
	leaving  []*live // versions that no call begins in any more, replaced ones too: calls may run in them, and start instances from their files
	after    State   // what follows on StateDraining

	waiting   string // the plug-in that a call of this one waits for, while it is opened
	forgotten bool   // Start has failed, and nobody knows of it any more
}

// flight is one opening, for which any number of callers wait.
type flight struct {
	done chan struct{}
	by   string // the plug-in in whose call it is opened; may be empty
	err  error
}

func newEntry(s *System, name string) *entry {
	return &entry{sys: s, name: name, turn: make(chan struct{}, 1), state: StateDiscovered, attached: map[string]*attachment{}}
}

// take waits for the plug-in's turn.
func (e *entry) take(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *entry) give() { <-e.turn }

// function returns the function of an attachment, for which it opens the plug-in where it is not. nil, without an error, is where the plug-in is there
// no more, or its version has no such function.
func (e *entry) function(ctx context.Context, a *attachment) (*loader.Func, error) {
	for {
		if err := e.run(ctx); err != nil {
			var gone *Error
			if a.point.kind != "" && errors.As(err, &gone) && (gone.Kind == ErrDisabled || gone.Kind == ErrNotFound) && !(a.point.kind == KindVeto && e.expected()) {
				return nil, nil
			}
			return nil, err
		}
		f, err := e.aimed(ctx, a)
		if f != nil || err != nil || a.point.kind != "" {
			return f, err
		}
		if err := e.lacks(a.name); err != nil {
			return nil, err
		}
	}
}

// expected reports whether somebody wants the plug-in, and nobody disables it.
func (e *entry) expected() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spec.wanted && e.spec.enabled
}

// aimed is function once the plug-in runs, or has run a moment ago.
func (e *entry) aimed(ctx context.Context, a *attachment) (*loader.Func, error) {
	e.mu.Lock()
	late, pending := a.late, a.pending()
	e.mu.Unlock()
	if pending {
		if e.sys.callerOf(ctx) == e.name {
			return nil, &Error{Plugin: e.name, Step: StepRun, Kind: ErrReentrant, Found: "an event of its own, while it is told past ones", Expected: "none before it was told them"}
		}
		select {
		case <-late:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return a.breaker.target.Load(), nil
}

// lacks is the error of a function that the plug-in does not export; nil where the plug-in does not run any more, and run says why, or opens it again.
func (e *entry) lacks(function string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live == nil {
		return nil
	}
	names := symbolNames(e.live.Info().Funcs)
	return &Error{Plugin: e.name, Step: StepRun, Kind: ErrFunction, Found: fmt.Sprintf("version %s, without the function %s", e.live.Version(), function),
		Expected: "one that exports it", Remedy: hint(function, names)}
}

// run returns when the plug-in runs, for which it is opened where it is not.
func (e *entry) run(ctx context.Context) error { return e.runFor(ctx, "") }

// runFor is run for a plug-in that needs it; "" is nobody but the caller that ctx has.
func (e *entry) runFor(ctx context.Context, by string) error {
	if ctx == nil {
		return &Error{Plugin: e.name, Step: StepRun, Kind: ErrOption, Found: "nil for a context", Expected: "a context"}
	}
	if by == "" {
		by = e.sys.callerOf(ctx)
	}
	if other := e.sys.entry(by); other != nil && other != e {
		other.mu.Lock()
		other.waiting = e.name
		other.mu.Unlock()
		defer func() {
			other.mu.Lock()
			other.waiting = ""
			other.mu.Unlock()
		}()
	}
	for {
		e.mu.Lock()
		f := e.flight
		switch {
		case e.live != nil:
			e.mu.Unlock()
			return nil
		case f != nil:
			e.mu.Unlock()
			if e.sys.waits(ctx, e) {
				return &Error{Plugin: e.name, Step: StepRun, Kind: ErrReentrant, Found: "a call that comes from its own start",
					Expected: "no call before it runs", Remedy: "Do not call at this point, or this plug-in, in the host functions that its start calls"}
			}
		case e.state == StateReady:
			f = &flight{done: make(chan struct{}), by: by}
			e.flight = f
			e.mu.Unlock()
			go e.fly(f)
		default:
			err := e.why()
			e.mu.Unlock()
			return err
		}
		select {
		case <-f.done:
			if f.err != nil && !errors.Is(f.err, errOutdated) {
				return f.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// why says why the plug-in does not run; e.mu is held.
func (e *entry) why() error {
	switch {
	case e.sys.closed.Load():
		return &Error{Plugin: e.name, Step: StepRun, Kind: ErrClosed, Found: "a system that is closed", Expected: "one that runs"}
	case e.forgotten:
		return &Error{Plugin: e.name, Step: StepRun, Kind: ErrNotStarted, Found: "a plug-in of a start that has failed", Expected: "a system that was started",
			Remedy: "Call Start again, and get the function from the system anew"}
	case e.err != nil:
		return e.err
	case e.spec.wanted:
		return &Error{Plugin: e.name, Step: StepRun, Kind: ErrClosed, Found: "a plug-in that is being closed (" + string(e.state) + ")", Expected: "one that runs"}
	case e.spec.found == nil:
		return &Error{Plugin: e.name, Step: StepRun, Kind: ErrNotFound, Found: "a plug-in whose file is not there any more", Expected: "its file", Remedy: "Put it back"}
	default:
		return e.sys.unlisted(e.name)
	}
}

// unlisted is the error of a plug-in whose file is there, and that config.yaml does not name.
func (s *System) unlisted(name string) *Error {
	return &Error{Plugin: name, Step: StepRun, Kind: ErrDisabled, Found: "a plug-in that " + s.configName() + " does not name", Expected: "an entry of plugins", Remedy: "Name it there (ferrule enable)"}
}

// disabled is the error of a plug-in that an entry disables. What else is wrong with it, such as no file, nobody has to mend: what is disabled is not installed.
func (s *System) disabled(entry *config.Plugin) *Error {
	return &Error{Plugin: entry.Name, Step: StepRun, Kind: ErrDisabled, Found: fmt.Sprintf("a plug-in that is disabled: enabled is false in its entry, line %d of %s", entry.Line, s.configName()),
		Expected: "one that is enabled", Remedy: "Enable it there (ferrule enable)"}
}

// fly opens the plug-in for those that wait.
func (e *entry) fly(f *flight) {
	ctx, cancel := within(e.sys.changes, openWithin)
	defer cancel()
	err := errors.New("the goroutine that opened it was ended (runtime.Goexit) by foreign code")
	defer func() {
		e.mu.Lock()
		e.flight = nil
		f.err = err
		e.mu.Unlock()
		close(f.done)
	}()
	if err = e.take(ctx); err != nil {
		return
	}
	defer e.give()
	ctx, done := e.endable(ctx)
	defer done()
	err = e.openNow(ctx)
}

// errOutdated ends a try to open a plug-in that is to become another one meanwhile. It is nobody's failure.
var errOutdated = errors.New("the plug-in is to become another one")

// endable is ctx for a try to open the plug-in, whose turn the caller has, that outdate may end.
func (e *entry) endable(ctx context.Context) (_ context.Context, done func()) {
	ctx, end := context.WithCancelCause(ctx)
	e.mu.Lock()
	e.opening = end
	e.mu.Unlock()
	return ctx, func() {
		e.mu.Lock()
		e.opening = nil
		e.mu.Unlock()
		end(nil)
	}
}

// outdate ends the try to open the plug-in that goes on, so that who is about to change it need not wait for one that hangs. It reports whether there is one that
// may go on, as the plug-in is to be what it is already. What does not end is waited for, and so is what others share a worker with, which would end, too.
func (e *entry) outdate(next *spec) (same bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.opening == nil {
		return false
	}
	if e.spec.same(next) && bytes.Equal(e.spec.settings, next.settings) {
		return true
	}
	if e.spec.ends() && e.spec.group == "" {
		e.opening(errOutdated)
	}
	return false
}

// openWithin is how long a plug-in may take to be opened.
const openWithin = 30 * time.Second

// within is ctx for as long as something may take. What is ended then says how long that was.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, notWithin(limit))
}

// notWithin is the error of what was not done in that time, a context.DeadlineExceeded.
type notWithin time.Duration

func (n notWithin) Error() string        { return "not done within " + time.Duration(n).String() }
func (n notWithin) Is(target error) bool { return target == context.DeadlineExceeded }

// openNow opens the plug-in, whose turn the caller has. What fails is its state.
func (e *entry) openNow(ctx context.Context) error {
	e.mu.Lock()
	if e.live != nil || e.state != StateReady {
		err := error(nil)
		if e.live == nil {
			err = e.why()
		}
		e.mu.Unlock()
		return err
	}
	if e.flight == nil { // it is opened by a change: those who come meanwhile wait for that
		f := &flight{done: make(chan struct{})}
		e.flight = f
		defer func() {
			e.mu.Lock()
			e.flight = nil
			e.mu.Unlock()
			close(f.done)
		}()
	}
	e.mu.Unlock()
	return e.try(ctx)
}

// try opens the plug-in, whose turn the caller has. It stays what it is until it runs or has failed.
func (e *entry) try(ctx context.Context) error {
	e.mu.Lock()
	sp := e.spec
	e.mu.Unlock()
	for _, need := range sp.needs {
		other := e.sys.entry(need)
		if other == nil {
			continue
		}
		if err := other.runFor(ctx, e.name); err != nil {
			if context.Cause(ctx) == errOutdated {
				return errOutdated
			}
			return e.fail(&Error{Plugin: e.name, Step: StepResolve, Kind: ErrDependency, Found: "a requirement that does not run", Expected: need + ", running", Err: err,
				Remedy: "Mend " + need}, true)
		}
	}
	l, err := e.open(ctx, sp, nil, nil)
	if err != nil {
		if context.Cause(ctx) == errOutdated {
			return errOutdated
		}
		hangs := sp.hangs(err)
		if hangs {
			err.Remedy = "It is not tried again before its file or its settings have changed, since it still hangs in this process"
		}
		return e.fail(err, !hangs)
	}
	e.mu.Lock()
	e.take1(l)
	e.mu.Unlock()
	e.event(Event{Kind: EventState})
	return nil
}

// fail notes why the plug-in does not run, and has it tried again later where that may help.
func (e *entry) fail(err *Error, again bool) *Error {
	e.mu.Lock()
	e.state, e.err, e.retryAt = StateFailed, err, time.Time{}
	if again && !e.sys.closed.Load() {
		e.attempts++
		e.retryAt = time.Now().Add(min(time.Minute, time.Second<<min(e.attempts-1, 6)))
	}
	e.setRetry()
	e.mu.Unlock()
	e.sys.relay(e)
	e.failure(Event{Kind: EventState, Err: err})
	return err
}

// failure is event for what has failed. The caller has the turn.
func (e *entry) failure(ev Event) {
	if e.tried || e.sys.closed.Load() { // what is closed ends what is being opened, which is no fault of its own
		e.sys.tell(e.completed(ev), slog.LevelDebug)
		return
	}
	e.event(ev)
}

// setRetry has a plug-in that has failed be tried again at its time. It is called wherever one comes to have failed, with e.mu held: one that drains has not, and is not tried.
func (e *entry) setRetry() {
	e.stopRetry()
	if e.state == StateFailed && !e.retryAt.IsZero() && !e.sys.closed.Load() {
		e.retry = time.AfterFunc(time.Until(e.retryAt), e.again)
	}
}

// stopRetry is called with e.mu held.
func (e *entry) stopRetry() {
	if e.retry != nil {
		e.retry.Stop()
		e.retry = nil
	}
}

// again tries to open a plug-in that has failed. It has failed until it runs: no call waits for that.
func (e *entry) again() {
	if !e.due() {
		return
	}
	e.sys.mend()
	ctx, cancel := within(e.sys.changes, openWithin)
	defer cancel()
	if e.take(ctx) != nil {
		e.later()
		return
	}
	defer e.give()
	if !e.due() { // something was done about it meanwhile
		return
	}
	ctx, done := e.endable(ctx)
	defer done()
	err := errOutdated // also where foreign code ends this goroutine
	defer func() {
		if err == errOutdated {
			e.later() // in case that no change comes of it
		}
	}()
	if err = e.try(ctx); err == nil {
		e.sys.relay(e)
	}
}

// later has a plug-in that could not be tried again, as something else was done with it, be tried soon, where it has failed by then.
func (e *entry) later() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == StateFailed && e.spec.err == nil {
		e.retryAt = time.Now().Add(time.Second)
		e.setRetry()
	}
}

// due reports whether a plug-in that has failed is to be tried again now.
func (e *entry) due() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state == StateFailed && e.spec.err == nil && !e.retryAt.IsZero() && !e.retryAt.After(time.Now()) && !e.sys.closed.Load() && !e.forgotten
}

// take1 has a version take the place of the one before, if there is one; e.mu is held.
func (e *entry) take1(l *live) {
	e.live, e.spec, e.state, e.err, e.crash, e.attempts = l, l.spec, StateStarted, nil, nil, 0
	i, _ := l.Isolation()
	e.attempt, e.layers = i.Attempt, i.Layers
	e.retryAt = time.Time{}
	e.stopRetry()
	for _, a := range e.attached {
		e.aim(a)
	}
}

// aim sets the function of an attachment to that of the version that runs; e.mu is held.
func (e *entry) aim(a *attachment) {
	if a.pending() {
		return // past events come first
	}
	a.breaker.renew(e.functionOf(a))
	if e.state == StateSuspended { // a call of this one, too, ends it
		a.breaker.mark()
	}
}

// functionOf returns an attachment's function in the version that runs, with its limit; nil where there is none. e.mu is held.
func (e *entry) functionOf(a *attachment) *loader.Func {
	if e.live == nil {
		return nil
	}
	if a.point.kind == "" {
		f, err := e.live.Func(a.name)
		if err != nil {
			return nil
		}
		return f
	}
	f, err := e.live.Hook(a.name)
	if err != nil || isWrapper(e.live.Info(), a.name) != a.wrap {
		return nil
	}
	limit := a.point.limit
	if own := e.spec.limit; own > 0 && (limit == 0 || own < limit) {
		limit = own
	}
	if limit > 0 {
		f = f.WithTimeout(limit)
	}
	return f
}

// open opens a version, which takes no place yet. before is the state of its predecessor, or nil; probe has it run in a worker, whatever it says.
func (e *entry) open(ctx context.Context, sp *spec, before *loader.State, probe func() []loader.Option) (*live, *Error) {
	step, kind := StepOpen, ErrOpen
	e.mu.Lock()
	had := e.spec.secrets
	e.mu.Unlock()
	e.secrets.Set(slices.Concat(had, sp.secrets))
	e.level.Set(sp.level)
	logger := e.logger()
	if probe != nil {
		logger = logger.With(slog.String("step", string(StepProbe))) // the version logs the same again when it is let in
	}
	opts := []loader.Option{loader.WithLogger(logger)}
	if sp.settings != nil {
		opts = append(opts, loader.WithConfig(sp.settings))
	}
	for name, fn := range sp.functions {
		opts = append(opts, loader.WithHostFunc(name, fn))
	}
	if before != nil {
		opts = append(opts, loader.WithState(before))
	}
	if sp.data != "" {
		if err := os.MkdirAll(sp.data, 0o700); err != nil {
			return nil, &Error{Plugin: e.name, Step: step, Kind: kind, Found: "a data folder that cannot be made", Expected: "one that is there, or can be", Err: err,
				Remedy: "Correct data in its entry of " + e.sys.configName()}
		}
		opts = append(opts, loader.WithDataFolder(sp.data))
	}
	opts = append(opts, loader.WithOverdue(e.overdue))
	path := e.name
	if sp.found.builtin != nil {
		opts = append(opts, loader.WithEngine(builtin.Engine(sp.found.builtin)))
	} else {
		path = sp.found.path
		switch {
		case sp.engine != nil:
			opts = append(opts, loader.WithEngine(sp.engine))
		case probe != nil:
			opts = append(opts, probe()...)
		case sp.isolated:
			opts = append(opts, e.sys.isolation(sp))
		default:
			opts = append(opts, e.sys.inProcess(sp)...)
		}
		if sp.found.sha256 != "" { // of the store, whose file may have changed since it was looked at
			opts = append(opts, loader.WithSHA256(sp.found.sha256))
		}
	}
	if e.sys.loaderOptions != nil {
		opts = append(opts, e.sys.loaderOptions(e.name)...)
	}
	p, err := loader.OpenContext(ctx, path, opts...)
	if err != nil {
		if errors.Is(err, loader.ErrStart) {
			step = StepStart
		}
		if sp.found.installed && (errors.Is(err, loader.ErrDigest) || errors.Is(err, loader.ErrRead)) {
			return nil, e.sys.damaged(e.name, sp.found, err)
		}
		return nil, &Error{Plugin: e.name, Step: step, Kind: kind, Err: e.redacted(err)}
	}
	l := &live{p, sp}
	if p.Version() != sp.found.desc.Manifest.Version {
		_ = p.Shutdown(ctx)
		return nil, &Error{Plugin: e.name, Step: StepOpen, Kind: ErrRange, Found: fmt.Sprintf("version %q in the file that was opened", p.Version()),
			Expected: fmt.Sprintf("%q, which was checked before", sp.found.desc.Manifest.Version), Remedy: "Call Reload, which takes over the file that is there now; with Watch that happens by itself"}
	}
	if err := e.health(ctx, l); err != nil {
		_ = p.Shutdown(ctx)
		return nil, err
	}
	return l, nil
}

// healthWithin is how long a plug-in's health function may take.
const healthWithin = 5 * time.Second

// overdue is told of calls that do not come back at their limit.
func (e *entry) overdue(name string, limit time.Duration) {
	e.mu.Lock()
	var hooks []*attachment
	if _, ends := e.spec.engine.(engine.Permitting); e.spec.apart() || ends {
		e.mu.Unlock()
		return // its worker is killed soon, or its engine ends the call, which fails as any other then
	}
	for _, a := range e.attached {
		if a.point.kind != "" && a.name == name {
			hooks = append(hooks, a)
		}
	}
	e.mu.Unlock()
	for _, a := range hooks {
		a.overdue(limit)
	}
}

// health calls the function that the manifest names for it.
func (e *entry) health(ctx context.Context, l *live) *Error {
	name := l.Info().Manifest.Keys.Get("health")
	if name == "" {
		return nil
	}
	ctx, cancel := within(ctx, healthWithin)
	defer cancel()
	if _, err := l.Call(ctx, name, nil); err != nil && !errors.Is(err, loader.ErrPass) {
		return &Error{Plugin: e.name, Step: StepHealth, Kind: ErrHealth, Found: "a failure of " + name + ", which its manifest names as health", Expected: "OK", Err: e.redacted(err)}
	}
	return nil
}

// close closes what runs; the state is what it has afterwards. The caller has the turn. It waits for what runs until ctx ends.
func (e *entry) close(ctx context.Context, state State) error {
	e.mu.Lock()
	e.stopRetry()
	e.retryAt = time.Time{}
	e.mu.Unlock()
	l := e.detach(state)
	if l == nil {
		return nil
	}
	return e.drain(ctx, l)
}

// detach has no call reach what runs any more, and returns it, to be drained; nil where nothing runs. The plug-in has the state when the calls in all that was
// detached have come back, unless it has another one by then. The caller has the turn.
func (e *entry) detach(state State) *live {
	e.mu.Lock()
	l, before := e.live, e.state
	e.live = nil
	for _, a := range e.attached {
		a.breaker.aim(nil)
	}
	if l != nil {
		e.drains++
		e.leaving = append(e.leaving, l)
	}
	e.state, e.after = state, state
	if e.drains > 0 {
		e.state = StateDraining
	}
	e.setRetry()
	changed := e.state != before
	e.mu.Unlock()
	if changed {
		e.event(Event{Kind: EventState})
	}
	return l
}

// becomes is the plug-in's state, or the one that it will have when a version that leaves has come to its end: calls that run there hold up nothing that is decided by it.
// e.mu is held.
func (e *entry) becomes() State {
	if e.state == StateDraining {
		return e.after
	}
	return e.state
}

// drain closes what was detached, and waits until ctx ends for the calls in it.
func (e *entry) drain(ctx context.Context, l *live) error {
	err := l.Shutdown(ctx)
	e.mu.Lock()
	e.left(l)
	e.drains--
	drained := e.drains == 0 && e.state == StateDraining
	if drained {
		e.state = e.after
		e.setRetry()
	}
	e.mu.Unlock()
	if drained {
		e.event(Event{Kind: EventState})
	}
	return err
}

// left has a version be gone that was leaving; e.mu is held.
func (e *entry) left(l *live) {
	e.leaving = slices.DeleteFunc(e.leaving, func(one *live) bool { return one == l })
}

// attach returns the attachment for a hook or a function, the same as long as the plug-in is known; e.mu is held.
func (e *entry) attach(p *point, name string, wrap bool) *attachment {
	key := string(p.kind) + "\x00" + name
	if wrap {
		key += "\x00wrap"
	}
	a := e.attached[key]
	if a == nil {
		a = &attachment{point: p, entry: e, name: name, wrap: wrap, count: e.sys.counter()}
		a.breaker.slow = e.sys.counting || e.sys.trace != nil
		e.attached[key] = a
		e.aim(a)
	}
	return a
}

// event posts an event of the plug-in's, and writes it to the log.
func (e *entry) event(ev Event) { e.sys.event(e.completed(ev)) }

// completed is an event of the plug-in's with what it is now.
func (e *entry) completed(ev Event) Event {
	e.mu.Lock()
	ev.State = e.state
	if e.live != nil {
		ev.Version = e.live.Version()
	} else if f := e.spec.found; f != nil && f.desc != nil {
		ev.Version = f.desc.Manifest.Version
	}
	e.mu.Unlock()
	ev.Err = e.told(ev.Err)
	ev.Plugin = e.name
	return ev
}

// crashed looks at the error of a call, which may say something about the plug-in's worker.
func (e *entry) crashed(err error) {
	var late *loader.DeadlineError
	if errors.As(err, &late) {
		e.event(Event{Kind: EventKilled, Err: err})
		return
	}
	var crash *loader.CrashError
	if !errors.As(err, &crash) {
		if other, ok := errors.AsType[*loader.OpenError](err); ok && other.Kind == loader.ErrLoad {
			e.other()
		}
		return
	}
	e.restarted(false) // the worker that has crashed, before its end is told
	e.mu.Lock()
	l, left := e.live, crash.Suspended
	if left == 0 || e.crash == nil {
		e.crash = err
	}
	e.mu.Unlock()
	if left == 0 {
		e.event(Event{Kind: EventCrashed, Err: err})
		if l != nil { // it may have been the last one for a while
			i, _ := l.Isolation()
			left = i.Suspended
		}
	}
	e.mu.Lock()
	if left == 0 || e.state != StateStarted || e.live != l {
		e.mu.Unlock()
		return
	}
	e.state = StateSuspended
	for _, a := range e.attached { // the next call that goes well ends it, whichever that is
		a.breaker.mark()
	}
	e.mu.Unlock()
	e.event(Event{Kind: EventSuspended, Err: err, For: left})
}

// other has a sidecar asked again that says something else of itself than it did.
func (e *entry) other() {
	e.mu.Lock()
	is := e.live != nil && e.live.spec.found.sidecar != nil
	e.mu.Unlock()
	if is {
		e.sys.another(e.name)
	}
}

// restarted looks whether the plug-in's worker is another one than it was, when a call went well after one had not, and when somebody asks. Only a call that
// went well ends a suspension: the last worker may be one that has crashed.
func (e *entry) restarted(well bool) {
	e.mu.Lock()
	l := e.live
	if l == nil || !l.spec.apart() {
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	i, _ := l.Isolation()
	e.mu.Lock()
	recovered := well && e.live == l && e.state == StateSuspended
	if recovered {
		e.state = StateStarted
	}
	more := i.Attempt - e.attempt
	if e.live != l || more <= 0 {
		e.mu.Unlock()
		if recovered {
			e.event(Event{Kind: EventState})
		}
		return
	}
	e.attempt = i.Attempt
	e.restarts += more
	e.mu.Unlock()
	e.event(Event{Kind: EventRestarted})
}

// gone reports whether nothing is left of the plug-in: nobody wants it, it has no file, and it does not run any more.
func (e *entry) gone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state == StateDiscovered && e.spec.found == nil && e.live == nil
}

// status returns what is known of the plug-in.
func (e *entry) status() Plugin {
	e.restarted(false)
	e.mu.Lock()
	defer e.mu.Unlock()
	sp := e.spec
	p := Plugin{Name: e.name, State: e.state, Enabled: sp.enabled && sp.wanted, Required: sp.required, RetryAt: e.retryAt, Isolated: sp.isolated, Group: sp.group,
		Grants: slices.Clone(sp.grants), Permits: slices.Clone(sp.permits), Requires: slices.Clone(sp.needs), Replaced: e.replaced, Restarts: e.restarts}
	var i loader.Isolation
	if e.live != nil {
		i, _ = e.live.Isolation()
		p.Worker = i.PID
	}
	if p.State == StateStarted && i.Suspended > 0 { // by calls that went past the points
		p.State = StateSuspended
	}
	switch {
	case p.State == StateSuspended:
		next := "none is started for a while"
		if i.Suspended == 0 {
			next = "the next call has another one started"
		}
		p.Err = &Error{Plugin: e.name, Step: StepRun, Found: "workers that crash again and again: " + next, Err: e.redacted(e.crash),
			Remedy: "It is tried again by itself; ferrule check on its file may find why"}
	case e.err != nil:
		p.Err = e.err
	}
	p.Declared = sp.declared(e.layers)
	if sp.found != nil {
		p.Source, p.Sidecar = sp.found.source(), sp.found.sidecar != nil
		p.describe(sp.found.desc)
	}
	return p
}

// declared reports whether something of the permits is not enforced, where layers are what shuts the worker in. One of best-effort that nobody has seen yet may have
// none.
func (sp *spec) declared(layers []string) bool {
	has := func(kind string) bool {
		return slices.ContainsFunc(layers, func(l string) bool { return strings.HasSuffix(l, ": "+kind) })
	}
	switch {
	case len(sp.permits) == 0 || sp.engine != nil && !sp.program() && !sp.isolated || sp.sandboxed && !sp.policy.BestEffort: // or it is not opened
		return false
	case !sp.sandboxed:
		return true
	}
	files, ports := len(sp.policy.Read)+len(sp.policy.Write), len(sp.policy.Connect)+len(sp.policy.Listen)
	return files > 0 && !has("files") || ports > 0 && !has("tcp")
}

// describe takes over what the plug-in says of itself.
func (p *Plugin) describe(d *abi.Description) {
	if d == nil {
		return
	}
	p.Version, p.Description = d.Manifest.Version, d.Manifest.Description
	p.Points, p.Functions = symbolNames(d.Hooks), symbolNames(d.Funcs)
	p.Provides = listOf(d.Manifest.Keys.Get("provides"))
}

// logger is the logger of the plug-in's own lines, all versions together: config.yaml says from which level on, and no line has a secret of its settings.
func (e *entry) logger() *slog.Logger {
	return slog.New(&levelled{e.secrets.Handler(e.sys.logger.Handler()), &e.level})
}

// redacted is an error of the plug-in's, or one in whose text are words of its own, without the secrets of its settings.
func (e *entry) redacted(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := e.secrets.Text(text); clean != text {
		return &reworded{clean, err}
	}
	return err
}

// told is redacted of an error that is told by itself, in no Error and no HookError, which have the words of config.yaml: so has this.
func (e *entry) told(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if words := inConfig.Replace(text); words != text {
		err = &reworded{words, err}
	}
	return e.redacted(err)
}

// reworded is an error with another text.
type reworded struct {
	text string
	err  error
}

func (r *reworded) Error() string { return r.text }
func (r *reworded) Unwrap() error { return r.err }

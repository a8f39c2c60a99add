package plugins

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// Reload reads config.yaml and looks into the folders again, and takes over what has changed. Watch does so by itself.
//
// A change of config.yaml is taken over as a whole or not at all: where a plug-in could not be as it says, all stay as they were, and Reload returns
// why. One that has become empty is not taken over: it may be being written. A file that was replaced is taken over for itself: where it cannot take the place of the version that runs, that one stays, and its
// Plugin.Err says why; Reload returns that, too. It is not tried again before it, its settings or what it is granted have changed; Replace tries it each time. No call
// fails because of either. A point or an offer that was made after Start is an error of each Reload, too (ErrLate).
func (s *System) Reload(ctx context.Context) error { return s.reload(ctx, true) }

// reload is Reload. One that somebody has asked for tries again at once what could not be downloaded.
func (s *System) reload(ctx context.Context, asked bool) error {
	ctx, give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	s.download.patient(!asked)
	if s.closed.Load() || !s.isStarted() {
		return s.notRunning()
	}
	s.mu.Lock()
	before := s.plans
	s.mu.Unlock()
	conf := before.conf
	var failed []error
	if s.configPath != "" {
		text, err := config.Read(s.configPath)
		var next *config.Config
		if err == nil {
			next, err = config.Parse(s.configPath, text)
		}
		same := err == nil && sameConfig(conf, next)
		if err == nil && !same && isBlank(text) {
			err = errEmptied
		}
		switch {
		case err != nil:
			failed = append(failed, s.refuseConfig(&refusal{cause: err}, text))
		case same:
			if s.refused() != nil { // it is as it was again
				s.refuse(nil)
				s.event(Event{Kind: EventConfig})
			}
		default:
			if r := s.configure(ctx, before, next, asked); r != nil {
				failed = append(failed, s.refuseConfig(r, text))
			} else {
				s.refuse(nil)
				s.event(Event{Kind: EventConfig})
				s.mu.Lock()
				before = s.plans
				s.mu.Unlock()
				conf = next
			}
		}
	}
	now, err := s.lookWith(ctx, conf)
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	failed = append(failed, s.adopt(ctx, before, now)...)
	s.forgetFiles()
	if asked {
		failed = append(failed, s.setUp(false))
	}
	return errors.Join(failed...)
}

// errEmptied is why a config.yaml that says nothing any more is not taken over: who writes it in place empties it first, and without its plug-ins a point agrees to all.
var errEmptied = errors.New("found an empty file, expected what it says, as it said something before. Wait until it is written; or write plugins: [] into it to have no plug-ins")

// isBlank reports whether a file has nothing but white space, comments and --- in it.
func isBlank(text []byte) bool {
	text, _ = bytes.CutPrefix(text, []byte("\ufeff"))
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) > 0 && string(line) != "---" {
			return false
		}
	}
	return true
}

// refusal is a config.yaml that was not taken over. It never changes.
type refusal struct {
	since time.Time // one is not taken over, this one or the one before it
	cause error
	file  [sha256.Size]byte // of its text
	plan  *plan             // how all would have become; nil where that could not be said
	tried bool              // plug-ins were to become so, and could not
}

// ConfigRefused returns why the config.yaml that is there was not taken over, and since when one is not, however often it was changed meanwhile; nil where what it says
// holds. What to do is in the error's text.
func (s *System) ConfigRefused() (since time.Time, why error) {
	r := s.refused()
	if r == nil {
		return time.Time{}, nil
	}
	return r.since, r.cause
}

// refused returns what was refused last, or nil. It changes under change alone.
func (s *System) refused() *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusal
}

func (s *System) refuse(r *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = r
}

// refuseConfig says that a config.yaml with this text is not taken over: once as long as it is the same text and the same reason. Who has written another one is to know
// that it is not in force, also where the reason is the one of before.
func (s *System) refuseConfig(r *refusal, text []byte) error {
	r.file = sha256.Sum256(text)
	err := fmt.Errorf("%s was not taken over, and all is as it was: %w", s.configName(), r.cause)
	before := s.refused()
	if r.since = time.Now(); before != nil {
		r.since = before.since
	}
	s.refuse(r)
	if before == nil || before.file != r.file || before.cause.Error() != r.cause.Error() {
		s.event(Event{Kind: EventConfig, Err: err})
	}
	return err
}

// holds reports whether plug-ins that were to become as a plan says could not, with the same of all that they get: nothing would come of it but the same.
func (r *refusal) holds(now *plan) bool {
	return r != nil && r.tried && sameConfig(r.plan.conf, now.conf) && maps.EqualFunc(r.plan.specs, now.specs, func(a, b *spec) bool {
		return a.found.same(b.found) && a.print == b.print && bytes.Equal(a.settings, b.settings) && (a.err == nil) == (b.err == nil)
	})
}

// sameConfig reports whether two configurations say the same.
func sameConfig(a, b *config.Config) bool { return reflect.DeepEqual(a, b) }

// configure takes a new configuration over, or nothing of it, and returns why. What was refused is tried again where it was asked for, or where something of it has changed.
func (s *System) configure(ctx context.Context, before *plan, conf *config.Config, asked bool) *refusal {
	all, err := s.discover(ctx, conf, before.found)
	if err != nil {
		return &refusal{cause: err}
	}
	all, failed, err := s.fetch(ctx, conf, all, before.found)
	if err != nil {
		return &refusal{cause: err}
	}
	now := s.plan(conf, s.running(all), failed)
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(now.specs)) {
		sp, old := now.specs[name], before.specs[name]
		had := old != nil && old.enabled && old.wanted && old.err != nil // failed already, for which this file is not to blame
		if sp.err != nil && sp.wanted && sp.enabled && !(had && (sp.err.same(old.err) || sp.same(old))) {
			faults = append(faults, sp.err)
		}
	}
	if len(faults) > 0 {
		return &refusal{cause: errors.Join(faults...), plan: now}
	}
	if r := s.refused(); !asked && r.holds(now) {
		return &refusal{cause: r.cause, plan: now, tried: true}
	}
	done, err := s.turn(ctx, before, now)
	if err == nil {
		s.level.Set(conf.Logging.Level)
		if !maps.Equal(before.conf.Dev, conf.Dev) {
			s.overridden(conf)
		}
		s.audit(before, now)
		return nil
	}
	for _, was := range slices.Backward(done) {
		back := before.specs[was.name]
		if back == nil {
			back = absent(now.specs[was.name])
		}
		e := s.entry(was.name)
		if e == nil {
			continue
		}
		undo := func() error { return s.change1(s.life, e, back, nil) }
		if was.failed {
			undo = func() error { return s.failAgain(e, was) }
		}
		if err := undo(); err != nil {
			s.log(slog.LevelError, "a plug-in could not be set back", slog.String("plugin", was.name), slog.Any("err", err))
		}
	}
	s.force(before)
	return &refusal{cause: err, plan: now, tried: ctx.Err() == nil}
}

// running returns what was found with the files that run in the place of others that are at their paths by now: whether these are any good is not a
// question of config.yaml.
func (s *System) running(all []*found) []*found {
	by := map[string]*found{}
	for _, e := range s.all() {
		e.mu.Lock()
		if e.live != nil {
			by[e.live.spec.found.key()] = e.live.spec.found
		}
		e.mu.Unlock()
	}
	all = slices.Clone(all)
	for i, f := range all {
		runs := by[f.key()]
		if f.sidecar != nil && runs != nil && runs.sidecar.launch != f.sidecar.launch {
			continue // that is config.yaml's to say
		}
		if f.builtin == nil && runs != nil && !runs.same(f) {
			own := *runs
			own.precedence = f.precedence
			all[i] = &own
		}
	}
	return all
}

// absent is the spec of a plug-in that nobody wants.
func absent(sp *spec) *spec {
	gone := *sp
	gone.wanted, gone.functions = false, nil
	return &gone
}

// turn has plug-ins become as a plan says, one after the other, and ends with the first that does not. done are those that were to.
func (s *System) turn(ctx context.Context, before, now *plan) (done []*condition, err error) {
	for _, name := range s.sequence(before, now) {
		was := &condition{name: name}
		done = append(done, was) // also one that fails: what it was to be is taken back, too
		if bad := s.changeTo(ctx, name, now.specs[name], before.specs[name], was); bad != nil {
			return done, bad
		}
	}
	s.force(now)
	return done, nil
}

// condition is what a plug-in was before a change that may be taken back.
type condition struct {
	name     string
	failed   bool // nothing ran that could be set back: what follows is how it had failed
	spec     *spec
	err      *Error
	attempts int
	retryAt  time.Time
}

// failAgain has a plug-in be failed as it was. It is not opened for that: it would fail, and be told, once more.
func (s *System) failAgain(e *entry, was *condition) error {
	if err := e.take(s.life); err != nil {
		return err
	}
	defer e.give()
	e.mu.Lock()
	e.spec, e.err, e.attempts, e.retryAt = was.spec, was.err, was.attempts, was.retryAt
	e.mu.Unlock()
	if l := e.detach(StateFailed); l != nil {
		s.background.Go(func() {
			_ = e.drain(s.life, l)
			s.forgetLater()
		})
	}
	return nil
}

// sequence is the order in which plug-ins change: what others need comes before these, and what goes, goes last.
func (s *System) sequence(before, now *plan) []string {
	names := slices.Clone(now.order)
	for _, name := range slices.Backward(before.order) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	all := map[string]*spec{}
	maps.Copy(all, before.specs)
	maps.Copy(all, now.specs)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// force has a plan be the one that is in force.
func (s *System) force(p *plan) {
	s.mu.Lock()
	s.plans = p
	s.forgetUnused(p)
	s.mu.Unlock()
	s.lines()
}

// changeTo has the plug-in of a name become as next says; nil is gone. was is as of change1.
func (s *System) changeTo(ctx context.Context, name string, next, before *spec, was *condition) error {
	e := s.entry(name)
	switch {
	case e == nil && next == nil:
		return nil
	case e == nil:
		e = newEntry(s, name)
		e.spec = absent(next)
		s.mu.Lock()
		s.entries[name] = e
		s.mu.Unlock()
	case next == nil:
		next = absent(before)
		next.found = nil
	}
	if err := s.change1(ctx, e, next, was); err != nil {
		return err
	}
	return nil
}

// adopt takes over what was found in the folders, each plug-in for itself, and returns what could not be.
func (s *System) adopt(ctx context.Context, before, now *plan) (failed []error) {
	for _, name := range s.sequence(before, now) {
		next, old := now.specs[name], before.specs[name]
		if next != nil {
			s.auditRefused(before.spec(name), next)
		}
		if next == nil && s.configPath == "" || next != nil {
			if err := s.changeTo(ctx, name, next, old, nil); err != nil {
				failed = append(failed, err)
			}
		}
		if e := s.entry(name); e != nil && now.specs[name] != nil {
			e.mu.Lock()
			now.specs[name] = e.spec // the version that stays is what counts, also for the next look
			e.mu.Unlock()
			s.auditGranted(before.spec(name), now.specs[name])
		}
	}
	s.force(now)
	s.warnings(now)
	s.askLater(now)
	return failed
}

// change1 has one plug-in become as next says. On failure it is as it was. was, if there is one, is of a change that is taken back where any plug-in fails in it,
// and is told what the plug-in was before: why one fails is said in the refusal of config.yaml then, and its own line is for who debugs.
func (s *System) change1(ctx context.Context, e *entry, next *spec, was *condition) error {
	if e.outdate(next) {
		return nil
	}
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	e.tried = was != nil
	defer func() { e.tried = false }()
	e.mu.Lock()
	cur, l, state := e.spec, e.live, e.state
	failed := l == nil && e.becomes() == StateFailed
	if was != nil {
		was.failed, was.spec, was.err, was.attempts, was.retryAt = failed, cur, e.err, e.attempts, e.retryAt
	}
	e.mu.Unlock()
	switch {
	case !next.wanted || !next.enabled:
		e.mu.Lock()
		e.spec, e.err = next, next.err
		e.stopRetry()
		e.retryAt = time.Time{}
		e.mu.Unlock()
		s.relay(e) // nothing new reaches it
		if l := e.detach(initial(next)); l != nil {
			s.background.Go(func() {
				_ = e.drain(s.life, l)
				s.forgetLater()
			})
		}
		return nil
	case next.err != nil && l != nil:
		return e.keep(next.err)
	case next.err != nil:
		e.mu.Lock()
		known, had := e.err.same(next.err), cur.err != nil && cur.same(next)
		if e.spec = next; known {
			e.err = next.err // with the line that its entry is in by now
		}
		e.mu.Unlock()
		if known {
			return nil
		}
		if err := e.fail(next.err, false); !had {
			return err
		}
		return nil // it had failed, and nothing of it has changed but why
	case l == nil:
		e.mu.Lock()
		again := cur.found.same(next.found) && cur.print == next.print && bytes.Equal(cur.settings, next.settings)
		e.spec = next
		if again && failed && cur.err == nil {
			e.mu.Unlock()
			if was != nil {
				was.failed = false // nothing was changed: it may run by the time that others are set back
			}
			return nil // it is tried again when it is its time
		}
		e.state, e.err, e.attempts, e.retryAt = StateReady, nil, 0, time.Time{}
		e.stopRetry()
		e.mu.Unlock()
		if state != StateReady {
			e.event(Event{Kind: EventState})
		}
		if next.required || s.limited(next) {
			ctx, cancel := within(ctx, openWithin)
			defer cancel()
			if err := e.openNow(ctx); err != nil {
				return err
			}
		}
		s.relay(e)
		return nil
	}
	sameFile, samePrint := cur.found.same(next.found), cur.print == next.print
	// A script without configure gets other settings by being run anew, and so does what has no worker that could take them.
	anew := scripts(next.found.format) && !next.found.desc.HasConfigure && !bytes.Equal(cur.settings, next.settings)
	if sameFile && samePrint && !anew && !bytes.Equal(cur.settings, next.settings) {
		e.secrets.Set(slices.Concat(cur.secrets, next.secrets))
		err := l.Configure(ctx, next.settings)
		switch {
		case errors.Is(err, loader.ErrSuspended): // the settings may be why its workers crash: one with the others need not wait
			anew = true
		case err != nil:
			return e.keep(&Error{Plugin: e.name, Step: StepSettings, Kind: ErrSettings, Found: "settings that it does not take", Expected: "those that it takes", Err: e.redacted(err),
				Remedy: "Correct its config in " + s.configName()})
		}
	}
	if sameFile && samePrint && !anew {
		e.secrets.Set(next.secrets)
		e.level.Set(next.level)
		e.mu.Lock()
		if e.spec, l.spec = next, next; was == nil || e.rejected == nil { // else the look into the folders that follows says what became of the file
			e.err = nil
		}
		for _, a := range e.attached {
			if cur.limit != next.limit && !a.pending() {
				a.breaker.aim(e.functionOf(a))
			}
		}
		e.mu.Unlock()
		return nil
	}
	if !sameFile && e.wasRejected(next) {
		return e.keep(e.rejected.err)
	}
	err := s.replace(ctx, e, l, next)
	if err != nil && !sameFile && ctx.Err() == nil {
		e.rejected = &rejected{next, err}
		return err
	}
	e.rejected = nil
	if err != nil { // not (*Error)(nil), which is an error that is there
		return err
	}
	return nil
}

// rejected is a file that did not take the place of the version that runs.
type rejected struct {
	spec *spec
	err  *Error
}

// wasRejected reports whether a version that is in a file was tried before, with the same of all that it gets: nothing would come of it but the same.
func (e *entry) wasRejected(next *spec) bool {
	r := e.rejected
	if r == nil {
		return false
	}
	if f, was := next.found, r.spec.found; sameFile(f.info, was.info) { // the look before this one was at another file: what has the same times has the same content where its digest says so
		if f.digest == nil && was.digest != nil {
			f.digest = digest(f.path)
		}
		f.parts = partsNow(f.path, was.parts)
	}
	return r.spec.found.same(next.found) && r.spec.print == next.print && bytes.Equal(r.spec.settings, next.settings)
}

// keep notes why another version did not take the plug-in's place.
func (e *entry) keep(err *Error) *Error {
	e.mu.Lock()
	known := e.err.same(err)
	e.err = err
	e.mu.Unlock()
	if !known {
		e.failure(Event{Kind: EventKept, Err: err})
	}
	return err
}

// replace has a version take the place of the one that runs. The caller has the turn.
func (s *System) replace(ctx context.Context, e *entry, old *live, next *spec) *Error {
	ctx, cancel := within(ctx, openWithin)
	defer cancel()
	if !next.isolated && next.native() && !old.spec.found.same(next.found) {
		if err := e.probe(ctx, next); err != nil {
			return e.keep(err)
		}
	}
	was := old.Info()
	will := next.found.desc
	handed := false
	if was.Manifest.State != "" && was.Manifest.State == will.Manifest.State && was.HasSave && will.HasResume {
		var bad *Error
		_, err := old.Handover(ctx, func(st *loader.State) (*loader.Plugin, error) {
			var l *live
			if l, bad = e.open(ctx, next, st, nil); bad != nil {
				return nil, bad
			}
			e.succeed(l)
			return l.Plugin, nil
		})
		switch {
		case bad != nil:
			return e.keep(bad)
		case errors.Is(err, loader.ErrSuspended): // what its workers held went with them
		case err != nil:
			return e.keep(&Error{Plugin: e.name, Step: StepHandover, Kind: ErrOpen, Found: "a state that cannot be handed over", Err: err})
		default:
			handed = true
		}
	}
	if !handed {
		l, err := e.open(ctx, next, nil, nil)
		if err != nil {
			return e.keep(err)
		}
		e.succeed(l)
	}
	e.mu.Lock()
	e.leaving = append(e.leaving, old)
	e.mu.Unlock()
	s.background.Go(func() {
		if err := old.Shutdown(s.life); err != nil && !s.closed.Load() {
			s.log(slog.LevelWarn, "the version before could not be closed", slog.String("plugin", e.name), slog.Any("err", e.told(err)))
		}
		e.mu.Lock()
		e.left(old)
		e.mu.Unlock()
		s.forgetLater()
	})
	s.relay(e)
	e.event(Event{Kind: EventReplaced})
	return nil
}

// succeed has a version take the place of the one before.
func (e *entry) succeed(l *live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.take1(l)
	e.replaced++
}

// probe starts a version once in a worker process, calls its health, and closes it: one that crashes does not reach this process.
func (e *entry) probe(ctx context.Context, next *spec) *Error {
	l, err := e.open(ctx, next, nil, func() []loader.Option { return []loader.Option{isolate.InWorker()} })
	if err != nil {
		return &Error{Plugin: e.name, Step: StepProbe, Kind: err.Kind, Found: "a version that does not start in a worker process, where it is tried first", Err: err,
			Remedy: "It was not let into this process: mend the new version"}
	}
	if bad := l.Shutdown(ctx); bad != nil {
		return &Error{Plugin: e.name, Step: StepProbe, Kind: ErrOpen, Found: "a version that cannot be stopped in a worker process, where it is tried first", Err: bad,
			Remedy: "It was not let into this process: mend the new version"}
	}
	return nil
}

// Replace has the file at path take the place of the version of a plug-in that runs, as if the file had been put into its folder. It holds until the next Reload
// finds another file of the plug-in.
func (s *System) Replace(ctx context.Context, name, path string) error {
	ctx, give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	if s.closed.Load() || !s.isStarted() {
		return s.notRunning()
	}
	abs, err := abspath.Of(path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	before := s.plans
	s.mu.Unlock()
	f := &found{path: abs, precedence: devPrecedence}
	s.read(f, nil)
	if entry := before.conf.Plugin(name); f.err != nil && entry != nil && entry.Sidecar != nil && entry.Sidecar.Program != "" { // it may be a program, too
		own, c := *entry, *entry.Sidecar
		own.Sidecar, c.Program = &c, abs
		if f = s.sidecarOf(&own); entry.Enabled {
			s.consult(ctx, f, nil)
		}
	}
	if f.err != nil {
		bad := f.unreadable()
		bad.Plugin = name
		return bad
	}
	if f.name() != name {
		return &Error{Plugin: name, Step: StepDiscover, Kind: ErrUnreadable, Found: "the plug-in " + f.name() + " in " + path, Expected: name, Remedy: "Name the file of the plug-in that is to be replaced"}
	}
	all := slices.DeleteFunc(slices.Clone(before.found), func(o *found) bool { return o.name() == name })
	now := s.plan(before.conf, append(all, f), nil)
	e := s.entry(name)
	if e == nil {
		missing, _ := s.missing(name, before.conf, before.found, func() []string { return s.programsIn(before.conf) })
		return missing
	}
	switch sp := now.specs[name]; {
	case !sp.wanted:
		return s.unlisted(name)
	case !sp.enabled:
		return sp.err
	}
	e.rejected = nil // who asks for it by hand wants it tried
	s.auditRefused(before.spec(name), now.specs[name])
	if err := s.changeTo(ctx, name, now.specs[name], before.specs[name], nil); err != nil {
		return err
	}
	s.auditGranted(before.spec(name), now.specs[name])
	for other := range now.specs {
		if other != name {
			now.specs[other] = before.specs[other]
		}
	}
	s.force(now)
	return nil
}

// notRunning is the error of a change to a system that is not there.
func (s *System) notRunning() error {
	if s.closed.Load() {
		return ErrClosed
	}
	return ErrNotStarted
}

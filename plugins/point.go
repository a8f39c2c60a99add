package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// Kind is what becomes of the results of the hooks at a point.
type Kind string

// The kinds of points, each made by the function of its name.
const (
	KindNotify  Kind = "notify"  // all are told; what they return is dropped
	KindCollect Kind = "collect" // each result is handed back
	KindFirst   Kind = "first"   // the first that has something to say decides
	KindPipe    Kind = "pipe"    // each gets what the one before it has made
	KindVeto    Kind = "veto"    // each may object
	KindWrap    Kind = "wrap"    // all stand around a function of the application
)

// function is the name of the function that makes such a point.
func (k Kind) function() string { return strings.ToUpper(string(k[:1])) + string(k[1:]) }

// point is an extension point of any kind, on bytes.
type point struct {
	sys  *System
	name string
	kind Kind

	policy   Policy
	limit    time.Duration // of one hook; 0 is none
	limited  bool          // the host has set it: its plug-ins are opened at Start
	after    int           // failures in a row that open the breaker; 0 is never
	leaveOut time.Duration // for how long the first time
	parallel bool
	needs    []string // functions that each plug-in must export
	codec    loader.Codec
	doc      string

	history *history // of a Notify that keeps events; or nil

	valid func(a *attachment, out []byte) error // of a Wrap where others go on without a hook whose result is none; or nil

	line atomic.Pointer[line]
}

// line is what is attached to a point, in its order. It never changes: another one takes its place.
type line struct {
	hooks []*attachment
	fault error // of a point that was made after Start, which never has hooks, and of one before Start: every dispatch fails with it. nil otherwise
}

// attachment is the hook of one plug-in at one point. It stays when another version of the plug-in takes over.
type attachment struct {
	point *point
	entry *entry
	name  string // of the hook, which is the point's, or of the function
	wrap  bool   // it stands around those behind it (rule R33)

	breaker breaker  // and the function of the version that runs
	count   *counter // nil where nobody counts

	spare bool // of a Func whose name the plug-in does not export: the entry does not know it. See Func.attachment

	late  chan struct{} // closed when past events were told; nil where there are none to tell. Set before the attachment is in a line
	told  bool          // it has been in a line; guarded by the history's mu
	skips skips
}

// try calls the hook. With an error, which is a *HookError, the status does not count; otherwise it is OK or PASS. The loops of dispatch make the call that goes
// well themselves, where nothing stands in its way (breaker.clear): a function less for each plug-in is half of what a dispatch costs.
func (a *attachment) try(ctx context.Context, dst, in []byte) ([]byte, loader.Status, error) {
	f := a.breaker.target.Load()
	if f == nil || a.point.sys.trace != nil || a.breaker.trouble.Load() {
		return a.slow(ctx, dst, in)
	}
	out, status, err := a.counted(ctx, f, dst, in)
	if err != nil || status != 0 {
		return a.odd(ctx, dst, in, f, false, out, status, err)
	}
	return out, 0, nil
}

// slow is try where the plug-in is not open, has failed lately, or its calls are traced.
func (a *attachment) slow(ctx context.Context, dst, in []byte) (out []byte, status loader.Status, err error) {
	if a.point.sys.trace == nil {
		return a.call(ctx, dst, in)
	}
	return a.traced(ctx, func(inside context.Context) ([]byte, loader.Status, error) { return a.call(inside, dst, in) })
}

// call is slow without the trace.
func (a *attachment) call(ctx context.Context, dst, in []byte) ([]byte, loader.Status, error) {
	f := a.breaker.target.Load()
	if f == nil {
		var err error
		if f, err = a.entry.function(ctx, a); err != nil {
			return dst, 0, a.wrong(err)
		}
		if f == nil { // the plug-in has gone, or its new version has no such hook: as if it had never been here
			return dst, loader.ErrPass, nil
		}
	}
	trial := false
	if a.breaker.trouble.Load() {
		ok, last, wait := a.breaker.enter(time.Now())
		if !ok {
			if a.unheard(ctx) {
				return dst, loader.ErrPass, nil
			}
			left, again := "for another "+sentence.Wait(wait, time.Millisecond), "; it is tried again then"
			if wait == 0 { // by another call
				left, again = "while it is tried again", ""
			}
			return dst, 0, a.wrong(&Error{Plugin: a.entry.name, Step: StepRun, Kind: ErrBroken,
				Found:  fmt.Sprintf("a hook that %s, and is left out %s", a.breaker.why(), left),
				Remedy: "See why it fails in the log" + again})
		}
		trial = last
	}
	back := false
	defer func() {
		if !back { // the goroutine of the call was ended
			a.breaker.abandoned(trial)
		}
	}()
	out, status, err := a.counted(ctx, f, dst, in)
	back = true
	if err != nil || status != 0 {
		return a.odd(ctx, dst, in, f, trial, out, status, err)
	}
	a.well(trial)
	return out, 0, nil
}

// unheard reports whether nobody would hear that a hook is left out: none of these calls then costs an error and a line in the log. That it is has both.
func (a *attachment) unheard(ctx context.Context) bool {
	return a.point.policy == Skip && a.point.sys.trace == nil && ctx != nil && ctx.Err() == nil
}

// counted is the call itself, with a count of it where somebody counts.
func (a *attachment) counted(ctx context.Context, f *loader.Func, dst, in []byte) ([]byte, loader.Status, error) {
	if a.count == nil {
		return f.Try(ctx, dst, in)
	}
	begun := a.count.begin()
	out, status, err := f.Try(ctx, dst, in)
	a.count.end(begun, status, err)
	return out, status, err
}

// odd is what becomes of a call that did not return OK.
func (a *attachment) odd(ctx context.Context, dst, in []byte, f *loader.Func, trial bool, out []byte, status loader.Status, err error) ([]byte, loader.Status, error) {
	if err == nil && status == loader.ErrPass {
		a.well(trial)
		return dst, status, nil
	}
	if err != nil && a.breaker.target.Load() != f && errors.Is(err, loader.ErrClosed) {
		a.breaker.abandoned(trial)
		return a.call(ctx, dst, in) // it was not run: another version has taken over meanwhile
	}
	if err == nil {
		err = f.StatusError(ctx, status, out[len(dst):])
	}
	if a.breaker.target.Load() == f {
		a.ill(ctx, err, trial)
	} else { // it says nothing about the version that runs by now
		a.breaker.abandoned(trial)
	}
	return dst, 0, a.wrong(err)
}

// wrong is the error of a hook.
func (a *attachment) wrong(err error) error {
	e := &HookError{Plugin: a.entry.name, Err: a.entry.redacted(err)}
	if a.point.kind != "" {
		e.Point = a.point.name
	}
	return e
}

// well notes a call that went well.
func (a *attachment) well(trial bool) {
	if !a.breaker.trouble.Load() {
		return
	}
	a.entry.restarted(true)
	if a.breaker.succeeded(trial) {
		a.entry.event(Event{Kind: EventRecovered, Point: a.point.name})
	}
}

// ill notes a failure. One that says nothing about the hook does not count: the caller's context has ended, or what was passed in is not valid.
func (a *attachment) ill(ctx context.Context, err error, trial bool) {
	a.entry.crashed(err) // its worker's end is one, whatever it says about the hook
	var usage *loader.UsageError
	if errors.As(err, &usage) || errors.Is(err, loader.ErrInvalid) || ctx.Err() != nil || innocent(ctx) {
		a.breaker.abandoned(trial)
		return
	}
	if opened, again, wait := a.breaker.failed(time.Now(), err, trial, a.point.after, a.point.leaveOut); opened {
		ev := a.entry.completed(Event{Kind: EventLeftOut, Point: a.point.name, Err: err, For: wait})
		if again {
			a.point.sys.tell(ev, slog.LevelDebug) // the log has it already
			return
		}
		a.point.sys.event(ev)
	}
}

// behindKey is the key of contexts of wrappers for whether what stands behind them has failed.
type behindKey struct{}

// innocent reports whether a wrapper has passed on what has failed behind it.
func innocent(ctx context.Context) bool {
	failed, ok := ctx.Value(behindKey{}).(*atomic.Bool)
	return ok && failed.Load()
}

// overdue has a hook left out at once that does not come back: it holds its caller, and is to hold nobody else.
func (a *attachment) overdue(limit time.Duration) {
	if a.point.after == 0 {
		a.entry.event(Event{Kind: EventOverdue, Point: a.point.name, For: limit})
		return
	}
	err := &Error{Plugin: a.entry.name, Step: StepRun, Kind: ErrBroken,
		Found: fmt.Sprintf("a call that has not come back %v after its start", limit), Expected: "one that polls for its end (ferrule_cancelled)",
		Remedy: "Isolate it (isolate in config.yaml), where such a call is ended"}
	if opened, wait := a.breaker.trip(time.Now(), err, a.point.leaveOut); opened {
		a.entry.event(Event{Kind: EventLeftOut, Point: a.point.name, For: wait, Err: err})
	}
}

// skips are the failures of a hook that nobody hears of but who reads the log.
type skips struct {
	mu    sync.Mutex
	said  time.Time // when the log had the last line
	since int       // how many there were since then
}

// saidEvery is how long the log has no second line of a hook that was skipped.
const saidEvery = 10 * time.Second

// skipped writes the failure of a hook to the log that nobody else hears of, with how many there were since the last line. That it is left out is no failure of its own.
func (a *attachment) skipped(err error) {
	if hook, ok := err.(*HookError); ok {
		if own, ok := hook.Err.(*Error); ok && own.Kind == ErrBroken && own.Plugin == a.entry.name {
			return
		}
	}
	now := time.Now()
	a.skips.mu.Lock()
	a.skips.since++
	times := a.skips.since
	quiet := !a.skips.said.IsZero() && now.Sub(a.skips.said) < saidEvery
	if !quiet {
		a.skips.said, a.skips.since = now, 0
	}
	a.skips.mu.Unlock()
	if quiet {
		return
	}
	attrs := []slog.Attr{slog.String("plugin", a.entry.name), slog.String("point", a.point.name), slog.Any("err", a.entry.told(err))}
	if times > 1 {
		attrs = append(attrs, slog.Int("times", times))
	}
	a.point.sys.log(slog.LevelWarn, "a hook failed, and was skipped", attrs...)
}

// outcome is what policies make of the errors of one dispatch.
type outcome struct{ errs []error }

// add takes one error, and reports whether the dispatch is to end with it.
func (o *outcome) add(ctx context.Context, a *attachment, err error) (stop bool) {
	if ctx == nil || ctx.Err() != nil { // that is no failure of the hook, and the others would not run
		o.errs = append(o.errs, err)
		return true
	}
	switch a.point.policy {
	case Skip:
		a.skipped(err)
		return false
	case Join:
		o.errs = append(o.errs, err)
		return false
	}
	o.errs = append(o.errs, err)
	return true
}

// error returns the errors as one.
func (o *outcome) error() error {
	switch len(o.errs) {
	case 0:
		return nil
	case 1:
		return o.errs[0]
	}
	return errors.Join(o.errs...)
}

// scratch is memory that a dispatch needs and nobody keeps.
type scratch struct{ a, b []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxKept is how much memory a scratch keeps for the next dispatch, in bytes.
const maxKept = 64 << 10

func (s *scratch) free() {
	if cap(s.a)+cap(s.b) <= maxKept {
		scratches.Put(s)
	}
}

// Each kind runs the hooks of a line on bytes. What they return is appended to dst; with an error dst is returned as it was.

// pipe hands what each hook makes of in to the next one. by is the last that has made something of it; nil is none. made, where it is
// not nil, is told what each has made, whose bytes it does not keep.
func (p *point) pipe(ctx context.Context, dst, in []byte, made func(a *attachment, out []byte)) (out []byte, by *attachment, err error) {
	l := p.line.Load()
	if l.fault != nil {
		return dst, nil, l.fault
	}
	s := scratches.Get().(*scratch)
	defer s.free()
	var o outcome
	var status loader.Status
	for _, a := range l.hooks {
		if f := a.breaker.clear.Load(); f == nil {
			out, status, err = a.try(ctx, s.a[:0], in)
		} else if out, status, err = f.Try(ctx, s.a[:0], in); err != nil || status != 0 {
			out, status, err = a.odd(ctx, s.a[:0], in, f, false, out, status, err)
		}
		if err != nil {
			if o.add(ctx, a, err) {
				return dst, nil, o.error()
			}
			continue
		}
		if status == 0 {
			s.a, s.b = s.b, out // out is read from now on; the hook after the next writes over it
			in, by = out, a
			if made != nil {
				made(a, out)
			}
		}
	}
	if len(o.errs) > 0 { // of the policy Join
		return append(dst, in...), by, o.error()
	}
	return append(dst, in...), by, nil
}

// first appends the first result, which is by's; nil is where nobody had anything to say. A result that took returns an error for is a failure of its hook; nil for took
// takes any.
func (p *point) first(ctx context.Context, dst, in []byte, took func(a *attachment, out []byte) error) (out []byte, by *attachment, err error) {
	l := p.line.Load()
	if l.fault != nil {
		return dst, nil, l.fault
	}
	var o outcome
	var status loader.Status
	for _, a := range l.hooks {
		if f := a.breaker.clear.Load(); f == nil {
			out, status, err = a.try(ctx, dst, in)
		} else if out, status, err = f.Try(ctx, dst, in); err != nil || status != 0 {
			out, status, err = a.odd(ctx, dst, in, f, false, out, status, err)
		}
		if err == nil && status == 0 && took != nil {
			err = took(a, out)
		}
		if err != nil {
			if o.add(ctx, a, err) {
				return dst, nil, o.error()
			}
			continue
		}
		if status == 0 {
			return out, a, o.error()
		}
	}
	return dst, nil, o.error()
}

// veto returns the first objection, of which reason is a copy; by is nil where there is none.
func (p *point) veto(ctx context.Context, in []byte) (by *attachment, reason string, err error) {
	l := p.line.Load()
	if l.fault != nil {
		return nil, "", l.fault
	}
	s := scratches.Get().(*scratch)
	defer s.free()
	var o outcome
	var out []byte
	var status loader.Status
	for _, a := range l.hooks {
		if f := a.breaker.clear.Load(); f == nil {
			out, status, err = a.try(ctx, s.a[:0], in)
		} else if out, status, err = f.Try(ctx, s.a[:0], in); err != nil || status != 0 {
			out, status, err = a.odd(ctx, s.a[:0], in, f, false, out, status, err)
		}
		if err != nil {
			if o.add(ctx, a, err) {
				return nil, "", o.error()
			}
			continue
		}
		s.a = out[:0]
		if status == 0 && len(out) > 0 {
			return a, strings.ToValidUTF8(string(out), "\uFFFD"), o.error()
		}
	}
	return nil, "", o.error()
}

// notify tells all hooks.
func (p *point) notify(ctx context.Context, l *line, in []byte) error {
	if l.fault != nil {
		return l.fault
	}
	if p.parallel && len(l.hooks) > 1 {
		return p.each(ctx, l, in, func(int, []byte, loader.Status, error) {})
	}
	s := scratches.Get().(*scratch)
	defer s.free()
	var o outcome
	var out []byte
	var status loader.Status
	var err error
	for _, a := range l.hooks {
		if f := a.breaker.clear.Load(); f == nil {
			out, _, err = a.try(ctx, s.a[:0], in)
		} else if out, status, err = f.Try(ctx, s.a[:0], in); err != nil || status != 0 {
			out, _, err = a.odd(ctx, s.a[:0], in, f, false, out, status, err)
		}
		if err != nil {
			if o.add(ctx, a, err) {
				break
			}
			continue
		}
		s.a = out[:0]
	}
	return o.error()
}

// collect has each result, whose bytes are took's to keep.
func (p *point) collect(ctx context.Context, in []byte, took func(a *attachment, out []byte)) error {
	l := p.line.Load()
	if l.fault != nil {
		return l.fault
	}
	if p.parallel && len(l.hooks) > 1 {
		outs := make([][]byte, len(l.hooks))
		heard := make([]bool, len(l.hooks))
		err := p.each(ctx, l, in, func(i int, out []byte, status loader.Status, err error) {
			outs[i], heard[i] = out, err == nil && status == 0
		})
		for i, a := range l.hooks {
			if heard[i] {
				took(a, outs[i])
			}
		}
		return err
	}
	var o outcome
	for _, a := range l.hooks {
		out, status, err := a.try(ctx, nil, in)
		if err != nil {
			if o.add(ctx, a, err) {
				break
			}
			continue
		}
		if status == 0 {
			took(a, out)
		}
	}
	return o.error()
}

// each calls all hooks at the same time, each on a goroutine but the first, and tells what came of each, on the caller's goroutine. With the
// policy Stop, the error is that of the first one in the line that has failed; the others have run nevertheless.
func (p *point) each(ctx context.Context, l *line, in []byte, tell func(i int, out []byte, status loader.Status, err error)) error {
	type answer struct {
		out    []byte
		status loader.Status
		err    error
		back   bool // it has come back, and did not end its goroutine
	}
	answers := make([]answer, len(l.hooks))
	call := func(i int) {
		r := &answers[i]
		r.out, r.status, r.err = l.hooks[i].try(ctx, nil, in)
		r.back = true
	}
	var all sync.WaitGroup
	for i := 1; i < len(l.hooks); i++ {
		all.Go(func() { call(i) })
	}
	call(0)
	all.Wait()
	var o outcome
	stopped := false
	for i, a := range l.hooks {
		r := &answers[i]
		if !r.back {
			r.err = a.wrong(errors.New("a host function ended the goroutine of the call (runtime.Goexit)"))
		}
		tell(i, r.out, r.status, r.err)
		if r.err != nil && !stopped {
			stopped = o.add(ctx, a, r.err)
		}
	}
	return o.error()
}

// around runs core with the hooks around it, the first one outermost.
func (p *point) around(ctx context.Context, dst, in []byte, core loader.HostFunc) ([]byte, error) {
	l := p.line.Load()
	if l.fault != nil {
		return dst, l.fault
	}
	var o outcome
	out, err := p.layer(ctx, l.hooks, dst, in, core, &o)
	if own, ok := err.(*coreError); ok {
		return dst, own.err
	}
	if err == nil {
		err = o.error()
	}
	return out, err
}

// layer is around for the hooks from some place on.
func (p *point) layer(ctx context.Context, hooks []*attachment, dst, in []byte, core loader.HostFunc, o *outcome) ([]byte, error) {
	if len(hooks) == 0 {
		out, err := core(ctx, in)
		if err != nil {
			return dst, &coreError{err}
		}
		return append(dst, out...), nil
	}
	a := hooks[0]
	var mu sync.Mutex // a wrapper may run what is behind it on several threads at a time
	var ran result
	failedBehind := new(atomic.Bool)
	next := loader.WithNext(context.WithValue(ctx, behindKey{}, failedBehind), func(ctx context.Context, in []byte) ([]byte, error) {
		var own outcome
		out, err := p.layer(ctx, hooks[1:], nil, in, core, &own)
		mu.Lock()
		defer mu.Unlock()
		o.errs = append(o.errs, own.errs...)
		ran = result{true, out, err}
		failedBehind.Store(err != nil)
		return out, err
	})
	out, status, err := a.try(next, dst, in)
	if err == nil && status == 0 && p.valid != nil {
		err = p.valid(a, out[len(dst):])
	}
	mu.Lock()
	behind := ran
	mu.Unlock()
	switch {
	case err == nil && status == 0:
		return out, nil
	case err != nil && behind.err != nil:
		return dst, behind.err // what is behind it has failed, which is why it did
	case err != nil && o.add(ctx, a, err):
		errs := o.error()
		o.errs = nil
		return dst, errs
	case behind.ran: // as if it was not there, with what it has run
		return append(dst, behind.out...), behind.err
	}
	return p.layer(ctx, hooks[1:], dst, in, core, o)
}

// result is what stood behind a wrapper gave the last time that it was run.
type result struct {
	ran bool
	out []byte
	err error
}

// coreError is the error of the application's own function, on its way through the hooks around it.
type coreError struct{ err error }

func (e *coreError) Error() string { return e.err.Error() }
func (e *coreError) Unwrap() error { return e.err }

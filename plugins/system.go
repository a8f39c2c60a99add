package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/internal/order"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// System is an application's plug-ins. What New and the functions of points and offers make is set up first, by one goroutine; from Start on, its methods may
// be called from any goroutine at the same time.
type System struct {
	app, version   string
	configPath     string
	folders        []string
	builtins       []*builtin.Plugin
	engines        []engine.Engine // for files that are no native code
	download       *download       // or nil
	lockFile       string          // "" is beside config.yaml
	storeFolder    string          // "" is the default one
	onDownload     func(install.Progress)
	downloadJitter time.Duration
	watching       bool
	counting       bool
	trace          *trace // or nil
	logger         *slog.Logger
	decide         func(Request) bool
	required       []string
	loaderOptions  func(name string) []loader.Option
	points         map[string]*point
	offers         map[string]*offer
	faults         []error // of options, points and offers; those that are there after Start came too late. Guarded by mu
	surveying      bool    // the application is not known: see Survey

	events     events
	level      slog.LevelVar
	life       context.Context // ends with Close
	end        context.CancelFunc
	changes    context.Context // ends when Close begins, and with it a change that goes on
	settleDown context.CancelFunc
	background sync.WaitGroup
	closed     atomic.Bool
	finished   chan struct{}   // everything is closed
	drained    chan struct{}   // everything but that OnEvent has not come back
	closing    context.Context // ends when the first context of a Shutdown does: what has not come back by then is killed, where it can be
	hurry      context.CancelFunc
	outcome    error // of closing; to be read when drained is closed

	warned map[string]bool // what is in the log already, of what lasts; guarded by change

	// change is held by whoever changes which plug-ins there are. Foreign code runs meanwhile.
	change chan struct{}

	lineMu sync.Mutex        // lines are made one after the other
	said   map[string]string // what could not be followed at a point the last time; guarded by lineMu

	mu      sync.Mutex
	sealed  bool // Start is running, or has come back without an error: points and offers come too late
	started bool
	plans   *plan    // the one that is in force
	refusal *refusal // of the config.yaml that is there; or nil

	asking   *time.Timer     // for sidecars that have not said what they are; or nil
	askPause time.Duration   // that is waited for that
	others   map[string]bool // the names of those that say something else of themselves by now
	entries  map[string]*entry
	quotas   map[string]*quota
	groups   map[string]*isolate.Group
	watcher  *watcher
}

// New makes the system of an application: its name, which plug-ins know it by (host.<application> in a manifest), and its version, a
// semantic one, which they may ask for. What is wrong with these and with the options is an error of Start's.
func New(app, version string, opts ...Option) *System {
	life, end := context.WithCancel(context.Background())
	changes, settleDown := context.WithCancel(life)
	closing, hurry := context.WithCancel(context.Background())
	s := &System{closing: closing, hurry: hurry, changes: changes, settleDown: settleDown, app: app, version: version, logger: slog.Default(), points: map[string]*point{}, offers: map[string]*offer{}, life: life, end: end,
		change: make(chan struct{}, 1), finished: make(chan struct{}), drained: make(chan struct{}), entries: map[string]*entry{}, quotas: map[string]*quota{}, groups: map[string]*isolate.Group{}, said: map[string]string{}}
	for _, opt := range opts {
		if opt == nil {
			s.wrong("New", "nil for an option", "one that is made by a function of this package")
			continue
		}
		opt(s)
	}
	s.events.idle = sync.NewCond(&s.events.mu)
	s.events.panicked = func(cause any) {
		s.log(slog.LevelError, "a function of OnEvent has panicked", slog.Any("panic", cause))
	}
	return s
}

// wrong notes what is wrong with an option.
func (s *System) wrong(option, found, expected string) {
	s.fault(fmt.Errorf("plugins.%s: %w: found %s, expected %s", option, ErrOption, found, expected))
}

// fault notes an error of how the system is set up: Start returns it. Nobody waits for one that comes after Start: it is a line in the log, once,
// and Reload returns it.
func (s *System) fault(err error) {
	s.mu.Lock()
	late := s.sealed
	known := late && slices.ContainsFunc(s.faults, func(f error) bool { return f.Error() == err.Error() })
	if !known {
		s.faults = append(s.faults, err)
	}
	s.mu.Unlock()
	if late && !known {
		s.log(slog.LevelError, "the application has made it too late", slog.Any("err", err))
	}
}

// setUp returns what is wrong with how the system is set up, or nil. Where all is well and begin says that Start goes on with that,
// what comes from then on is too late.
func (s *System) setUp(begin bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = s.sealed || begin && len(s.faults) == 0
	return errors.Join(s.faults...)
}

// named is what is wrong with the application's name and version, to which plug-ins compare what they ask for.
func (s *System) named() error {
	text := "plugins.New: %w: found %q for the application's %s, expected %s"
	var failed []error
	if s.app == "" {
		failed = append(failed, fmt.Errorf(text, ErrOption, s.app, "name", "the one that plug-ins know it by (host.<application> in a manifest)"))
	}
	if !ranges.ParseVersion(s.version).Comparable() {
		failed = append(failed, fmt.Errorf(text, ErrOption, s.version, "version", "a semantic version, such as 1.4.0"))
	}
	return errors.Join(failed...)
}

// tooLate is the error of a point or an offer that function has made after Start; nil before.
func (s *System) tooLate(function, what, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sealed {
		return nil
	}
	return fmt.Errorf("plugins.%s of %s: %w: found %s made after Start, expected one made before. Move plugins.%[1]s before sys.Start",
		function, name, ErrLate, what)
}

func (p *point) wrong(option, found, expected string) {
	p.sys.wrong(option+" of the point "+p.name, found, expected)
}

// point makes a point.
func (s *System) point(name string, kind Kind, policy Policy, opts []PointOption) *point {
	p := &point{sys: s, name: name, kind: kind, policy: policy, limit: limitOf(kind), after: breakAfter, leaveOut: breakFor, codec: loader.JSON}
	p.line.Store(&line{fault: fmt.Errorf("plugins.%s of %s: %w: found a call before Start was through, when nobody knows who has a say there, expected one after it. Call Start first, and let nothing that starts meanwhile call the point; where Start fails, its error says why",
		kind.function(), name, ErrNotStarted)})
	for _, opt := range opts {
		if opt == nil {
			p.wrong(string(kind), "nil for an option", "one that is made by a function of this package")
			continue
		}
		opt(p)
	}
	if err := s.tooLate(kind.function(), "a point", name); err != nil {
		p.line.Store(&line{fault: err})
		s.fault(err)
		return p
	}
	switch {
	case !abi.ValidName(name):
		p.wrong(string(kind), fmt.Sprintf("the name %q", name), "a C identifier")
	case s.points[name] != nil:
		p.wrong(string(kind), "a second point of this name", "each once")
	default:
		s.points[name] = p
	}
	return p
}

// limitOf is the limit of a hook at a point where nobody has said another one. One that stands around others has none: all of them are in it.
func limitOf(kind Kind) time.Duration {
	if kind == KindWrap {
		return 0
	}
	return DefaultLimit
}

// offer adds a host function.
func (s *System) offer(o *offer) {
	if err := s.tooLate("Offer", "an offer", o.name); err != nil {
		s.fault(err)
		return
	}
	switch {
	case o.fault != "":
		s.wrong("Offer", o.fault, "a C identifier, a function, and what its options ask for")
	case s.offers[o.name] != nil:
		s.wrong("Offer", "a second function "+o.name, "each once")
	default:
		s.offers[o.name] = o
	}
}

func (s *System) isStarted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// Start finds the plug-ins, decides which can be there and what they may have, and opens those that are required or attach to a point with a Limit. The error
// is about the system as a whole: config.yaml, an option, or a required plug-in, which is an *Error. Then the system is as before, and Start may be called
// again. What is wrong with other plug-ins is in List.
//
// ctx is that of the start alone.
func (s *System) Start(ctx context.Context) error {
	ctx, give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	switch {
	case s.closed.Load():
		return ErrClosed
	case s.isStarted():
		return fmt.Errorf("%w: found a system that was started, expected one Start", ErrOption)
	}
	s.warned = nil
	unnamed := s.named()
	if err := errors.Join(unnamed, s.setUp(unnamed == nil)); err != nil {
		return err
	}
	done := false
	defer func() {
		s.mu.Lock()
		s.sealed = done
		s.mu.Unlock()
	}()
	p, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.plans, s.entries = p, s.planned(p)
	s.mu.Unlock()
	s.level.Set(p.conf.Logging.Level)
	s.warnings(p)
	s.overridden(p.conf)
	s.audit(nil, p)
	for _, name := range p.order {
		if e := s.entries[name]; e.spec.required || s.limited(e.spec) {
			_ = e.run(ctx) // its state says it
		}
	}
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[name]
		e.mu.Lock()
		err, told, required, state := e.err, e.err != e.spec.err, e.spec.required && e.spec.enabled, e.state
		disabled := !e.spec.enabled
		e.mu.Unlock()
		if err == nil || disabled {
			continue
		}
		if !told {
			s.event(Event{Kind: EventState, Plugin: name, State: state, Err: err})
		}
		if required {
			failed = append(failed, err)
		}
	}
	for _, name := range s.required { // config.yaml may disable what others need, and not what the application does
		if e := s.entries[name]; e != nil {
			e.mu.Lock()
			if e.live == nil && (e.err == nil || !e.spec.enabled) {
				failed = append(failed, e.why())
			}
			e.mu.Unlock()
		}
	}
	if err := ctx.Err(); err != nil {
		failed = append(failed, context.Cause(ctx))
	}
	if len(failed) == 0 && s.watching {
		if err := s.watch(p); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		s.forget()
		_ = s.closeAll(s.changes)
		s.mu.Lock()
		s.entries, s.plans = map[string]*entry{}, nil
		s.mu.Unlock()
		return errors.Join(failed...)
	}
	s.lines()
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	s.askLater(p)
	done = true
	return nil
}

// forget has no plug-in tried again: Start has failed.
func (s *System) forget() {
	for _, e := range s.all() {
		e.mu.Lock()
		e.forgotten = true
		e.mu.Unlock()
	}
}

// initial is a plug-in's state before it is opened.
func initial(sp *spec) State {
	switch {
	case !sp.wanted:
		return StateDiscovered
	case !sp.enabled:
		return StateDisabled
	case sp.err != nil:
		return StateFailed
	}
	return StateReady
}

// limited reports whether a plug-in attaches to a point with a limit, within which it should not have to be opened.
func (s *System) limited(sp *spec) bool {
	return slices.ContainsFunc(sp.found.desc.Hooks, func(h abi.Symbol) bool {
		p := s.points[h.Name]
		return p != nil && (p.limited && p.limit > 0 || sp.limit > 0)
	})
}

// take waits until nobody else changes which plug-ins there are. give ends that; until then ctx ends with the one that was passed in, and when Close begins.
func (s *System) take(parent context.Context) (ctx context.Context, give func(), err error) {
	if parent == nil {
		return nil, nil, fmt.Errorf("%w: found nil for a context, expected a context", ErrOption)
	}
	if name := s.callerOf(parent); name != "" {
		return nil, nil, &Error{Plugin: name, Step: StepRun, Kind: ErrReentrant, Found: "a change of the plug-ins in a call of one of them, for which it might wait",
			Expected: "one from elsewhere", Remedy: "Have another goroutine do it, with a context of its own"}
	}
	select {
	case s.change <- struct{}{}:
	case <-parent.Done():
		return nil, nil, context.Cause(parent)
	case <-s.changes.Done():
		return nil, nil, ErrClosed
	}
	ctx, end := context.WithCancelCause(parent)
	stop := context.AfterFunc(s.changes, func() { end(ErrClosed) })
	return ctx, func() {
		stop()
		end(nil)
		<-s.change
	}, nil
}

// look reads config.yaml and the folders, and makes a plan of them.
func (s *System) look(ctx context.Context) (*plan, error) {
	conf := &config.Config{}
	if s.configPath != "" {
		c, err := config.Load(s.configPath)
		if err != nil {
			return nil, err
		}
		conf = c
	} else {
		conf.Logging.Level = slog.LevelDebug - 4 // the logger's own level holds
	}
	return s.lookWith(ctx, conf)
}

func (s *System) lookWith(ctx context.Context, conf *config.Config) (*plan, error) {
	s.mu.Lock()
	var before []*found
	if s.plans != nil {
		before = s.plans.found
	}
	s.mu.Unlock()
	all, err := s.discover(ctx, conf, before)
	if err != nil {
		return nil, err
	}
	all, failed, err := s.fetch(ctx, conf, all, before)
	if err != nil {
		return nil, err
	}
	return s.plan(conf, all, failed), nil
}

// Close stops all plug-ins, those that need others before these, and waits for the calls that run, and for OnEvent. It must
// not be called by a host function, or by whom OnEvent tells: it would wait for itself.
func (s *System) Close() error { return s.Shutdown(context.Background()) }

// Shutdown is Close with a bound: when ctx ends, workers are killed, and what runs in this process is left to end behind it. See
// loader.Plugin.Shutdown.
func (s *System) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return fmt.Errorf("%w: found nil for a context, expected a context", ErrOption)
	}
	if !s.closed.Swap(true) {
		go func() {
			defer close(s.finished)
			s.settleDown()
			s.unwatch()
			s.change <- struct{}{} // what goes on with a change ends first; nothing begins any more
			s.unwatch()            // a Start that was about to end may have begun to
			context.AfterFunc(s.closing, s.end)
			s.outcome = s.closeAll(s.closing)
			<-s.change
			s.background.Wait() // versions of before, too: their calls have the same time
			s.download.close()
			s.end()
			close(s.drained)
			_ = s.events.wait(context.Background())
		}()
	}
	defer context.AfterFunc(ctx, s.hurry)()
	select {
	case <-s.finished:
		return s.outcome
	case <-ctx.Done():
	}
	late := time.NewTimer(closeLate)
	defer late.Stop()
	select {
	case <-s.finished:
		return s.outcome
	case <-late.C:
	}
	select {
	case <-s.drained:
		return errors.Join(s.outcome, s.events.wait(ctx))
	default:
		return fmt.Errorf("the plug-ins are not closed yet, which goes on: %w", context.Cause(ctx))
	}
}

// closeLate is how long Shutdown still waits when its context has ended: until workers are killed.
const closeLate = 500 * time.Millisecond

// closeAll closes all plug-ins in the reverse of the order in which they were started.
func (s *System) closeAll(ctx context.Context) error {
	s.mu.Lock()
	var names []string
	if s.plans != nil {
		names = slices.Clone(s.plans.order)
	}
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	entries := s.entries
	s.mu.Unlock()
	slices.Reverse(names)
	var failed []error
	for _, name := range names {
		e := entries[name]
		if e == nil {
			continue
		}
		if err := e.take(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
			continue
		}
		e.mu.Lock()
		after := StateGone
		if e.live == nil && e.state != StateReady {
			after = e.becomes()
		}
		e.mu.Unlock()
		if err := e.close(ctx, after); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
		e.give()
	}
	return errors.Join(failed...)
}

// lines has each point's line made anew, from the plug-ins that are there. What cannot be followed of an order is a line in the log, once.
func (s *System) lines() {
	var news [][]slog.Attr
	defer func() {
		for _, n := range news {
			s.log(slog.LevelWarn, "the order of hooks", n...)
		}
	}()
	s.lineMu.Lock()
	defer s.lineMu.Unlock()
	late := s.isStarted()
	for _, p := range s.points {
		hooks, places, _, faults := s.arrange(p.name, p)
		l := &line{hooks: make([]*attachment, len(places))}
		for i, place := range places {
			l.hooks[i] = hooks[place.Hook]
		}
		p.publish(l, late)
		said := ""
		for _, f := range faults {
			said += f.Error()
		}
		if said != s.said[p.name] {
			s.said[p.name] = said
			for _, f := range faults {
				news = append(news, []slog.Attr{slog.String("point", p.name), slog.Any("err", f)})
			}
		}
	}
}

// arrange returns the hooks at a point, and their order. p is nil where the point is not known: there are no attachments then.
func (s *System) arrange(name string, p *point) (attachments []*attachment, places []order.Place, described []order.Hook, faults []order.Fault) {
	s.mu.Lock()
	var user []string
	if s.plans != nil {
		user = s.plans.conf.Hooks[name]
	}
	s.mu.Unlock()
	var failed []string // whose hook is not there, or may be one that is not there: what keeps it from its place is said of the plug-in
	absent := map[string]order.Absence{}
	for _, e := range s.all() {
		e.mu.Lock()
		listed := slices.Contains(user, e.name)
		h, ok := e.hook(name, p, listed)
		switch {
		case ok:
			described = append(described, h)
			if p != nil {
				attachments = append(attachments, e.attach(p, name, h.Wrap))
			}
		case !listed: // nobody asks why it is not there
		case e.becomes() == StateFailed && e.mayHook(name):
			failed = append(failed, e.name)
		default:
			if why, known := e.absence(name, p); known {
				absent[e.name] = why
			} else {
				failed = append(failed, e.name)
			}
		}
		e.mu.Unlock()
	}
	user = slices.DeleteFunc(slices.Clone(user), func(plugin string) bool { return slices.Contains(failed, plugin) })
	places, faults = order.Of(name, described, user, func(plugin string) order.Absence {
		why, there := absent[plugin]
		if !there && s.surveying {
			return order.NotKnown
		}
		return why
	})
	return attachments, places, described, faults
}

// hook describes the plug-in's hook at a point, where it has one that is to be called; listed says that config.yaml names it there. e.mu is held.
func (e *entry) hook(name string, p *point, listed bool) (h order.Hook, ok bool) {
	switch e.becomes() {
	case StateReady, StateStarted, StateSuspended:
		if !e.spec.usable() {
			return h, false
		}
	case StateFailed: // who may object and cannot has not agreed; other kinds of points go on without it
		if p == nil || p.kind != KindVeto || !e.spec.wanted || !e.spec.enabled {
			return h, false
		}
		if e.spec.found == nil || e.spec.found.desc == nil { // which hooks it has nobody can read: the user's word is what there is
			return order.Hook{Plugin: e.name}, listed
		}
	default:
		return h, false
	}
	d := e.spec.found.desc
	if e.live != nil {
		d = e.live.Info()
	}
	i := slices.IndexFunc(d.Hooks, func(h abi.Symbol) bool { return h.Name == name })
	if i < 0 {
		return h, false
	}
	keys := d.Hooks[i].Keys
	h = order.Hook{Plugin: e.name, First: keys.Get("order") == "first", Last: keys.Get("order") == "last", Before: listOf(keys.Get("before")),
		After: listOf(keys.Get("after")), Wrap: keys.Get("wrap") == "yes", Optional: keys.Get("optional") == "yes"}
	_, _ = fmt.Sscan(keys.Get("priority"), &h.Priority) // what is no number is 0
	return h, p == nil || h.Wrap == (p.kind == KindWrap)
}

// absence says why the plug-in, which has not failed, has no hook at a point. known is false where it has one and is being closed. e.mu is held.
func (e *entry) absence(name string, p *point) (why order.Absence, known bool) {
	sp := e.spec
	switch {
	case !e.mayHook(name):
		return order.Hookless, true
	case !sp.wanted && sp.found == nil:
		return order.NotThere, true
	case !sp.wanted:
		return order.Unlisted, true
	case !sp.enabled:
		return order.Disabled, true
	case p != nil && sp.found != nil && sp.found.desc != nil && isWrapper(sp.found.desc, name) != (p.kind == KindWrap):
		return order.Uncalled, true
	}
	return 0, false
}

// mayHook reports whether the plug-in has a hook of that name, as far as is known: what cannot be read may have it. e.mu is held.
func (e *entry) mayHook(name string) bool {
	found := e.spec.found
	return found == nil || found.desc == nil || found.sidecar != nil && found.sidecar.unasked || slices.ContainsFunc(found.desc.Hooks, func(h abi.Symbol) bool { return h.Name == name })
}

// relay has lines made anew once the system has started: a plug-in has failed, or come back.
func (s *System) relay(*entry) {
	if s.isStarted() && !s.closed.Load() {
		s.lines()
	}
}

// all returns the plug-ins by name.
func (s *System) all() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*entry, 0, len(s.entries))
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		all = append(all, s.entries[name])
	}
	return all
}

// entry returns the plug-in of a name, or nil.
func (s *System) entry(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[name]
}

// Application returns the name and the version that New was given.
func (s *System) Application() (name, version string) { return s.app, s.version }

// List returns what is known of each plug-in, by name.
func (s *System) List() []Plugin {
	var list []Plugin
	for _, e := range s.all() {
		if !e.gone() {
			list = append(list, e.status())
		}
	}
	return list
}

// Plugin returns what is known of one plug-in.
func (s *System) Plugin(name string) (Plugin, bool) {
	e := s.entry(name)
	if e == nil || e.gone() {
		return Plugin{}, false
	}
	return e.status(), true
}

// Place is the place of a hook at a point.
type Place struct {
	Plugin string // whose hook it is
	State  State  // of that plug-in
	Reason string // why it stands there: the user's list, before, after, priority, by name …
}

// Order is the order of the hooks at a point.
type Order struct {
	Point  string  // the point's name
	Kind   Kind    // "" of a point that the application does not have
	Doc    string  // what the point is for
	Places []Place // in the order in which they are called; the caller's
	Faults []error // each an *Error: what hooks or config.yaml say that could not be followed, and what was done instead
}

// Hooks returns the order of the hooks at each point, by the point's name: also at points that the application does not have, which are never called.
func (s *System) Hooks() []Order {
	names := map[string]*point{}
	for name, p := range s.points {
		names[name] = p
	}
	for _, e := range s.all() {
		e.mu.Lock()
		if e.spec.found != nil && e.spec.found.desc != nil {
			for _, h := range e.spec.found.desc.Hooks {
				if _, ok := names[h.Name]; !ok {
					names[h.Name] = nil
				}
			}
		}
		e.mu.Unlock()
	}
	var all []Order
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p := names[name]
		o := Order{Point: name}
		if p != nil {
			o.Kind, o.Doc = p.kind, p.doc
		}
		_, places, hooks, faults := s.arrange(name, p)
		for _, place := range places {
			plugin := hooks[place.Hook].Plugin
			known, _ := s.Plugin(plugin)
			o.Places = append(o.Places, Place{plugin, known.State, place.Reason})
		}
		for _, f := range faults {
			who := f.Plugin
			if who == "" {
				who = s.configName()
			}
			o.Faults = append(o.Faults, &Error{Plugin: who, Step: StepResolve, Found: f.Found, Expected: f.Expected, Remedy: f.Remedy, Kind: f.Kind})
		}
		if p != nil || len(o.Places) > 0 {
			all = append(all, o)
		}
	}
	return all
}

// configName is how errors call the configuration file.
func (s *System) configName() string {
	if s.configPath == "" {
		return "config.yaml"
	}
	return s.configPath
}

// log writes a line of the system's own. A handler that panics does not get further than here.
func (s *System) log(level slog.Level, text string, attrs ...slog.Attr) {
	if level < s.level.Level() {
		return
	}
	defer func() { _ = recover() }()
	s.logger.LogAttrs(context.Background(), level, text, attrs...)
}

// filled are those attributes of a line that are not empty.
func filled(attrs ...slog.Attr) []slog.Attr {
	return slices.DeleteFunc(attrs, func(a slog.Attr) bool { return a.Value.String() == "" })
}

// event hands an event on, and writes to the log what somebody should know of.
func (s *System) event(ev Event) {
	level := slog.LevelInfo
	switch {
	case ev.Err != nil && ev.State == StateFailed:
		level = slog.LevelError
	case ev.Err != nil:
		level = slog.LevelWarn
	case ev.Kind == EventState:
		level = slog.LevelDebug
	}
	s.tell(ev, level)
}

// tell is event with another level in the log.
func (s *System) tell(ev Event, level slog.Level) {
	ev.Time = time.Now()
	s.events.post(ev)
	attrs := filled(slog.String("plugin", ev.Plugin), slog.String("version", ev.Version), slog.String("state", string(ev.State)), slog.String("point", ev.Point), slog.String("name", ev.Name))
	if ev.For != 0 {
		attrs = append(attrs, slog.Duration("for", ev.For))
	}
	if ev.Err != nil {
		attrs = append(attrs, slog.Any("err", ev.Err))
	}
	text := "plug-in " + string(ev.Kind)
	switch {
	case ev.Kind == EventConfig && ev.Err != nil:
		text = "config.yaml refused"
	case ev.Kind == EventConfig:
		text = "config.yaml taken over"
	}
	s.log(level, text, attrs...)
}

// audit tells what was granted and refused that was not before, once the plug-ins are as now says.
func (s *System) audit(before, now *plan) {
	for _, name := range slices.Sorted(maps.Keys(now.specs)) {
		s.auditRefused(before.spec(name), now.specs[name])
		s.auditGranted(before.spec(name), now.specs[name])
	}
}

// spec is how a plug-in is in a plan; an empty one where it is not, or there is no plan.
func (p *plan) spec(name string) *spec {
	if p == nil || p.specs[name] == nil {
		return &spec{}
	}
	return p.specs[name]
}

// auditGranted tells what a version has, which is in, that the one before had not.
func (s *System) auditGranted(old, sp *spec) {
	s.tellNames(EventGranted, sp, sp.has(), old.has())
}

// has are the names of all that a plug-in has: one that cannot be has nothing, whatever it was granted.
func (sp *spec) has() []string {
	if sp.err != nil {
		return nil
	}
	return slices.Concat(sp.grants, sp.permits)
}

// auditRefused tells what a version does not get, whether it is let in or not.
func (s *System) auditRefused(old, sp *spec) {
	s.tellNames(EventRefused, sp, sp.refused, old.refused)
	if sp.found != nil && sp.wanted && sp.enabled && sp.err != nil && sp.err.Kind == ErrGrant && !sp.err.same(old.err) {
		s.event(Event{Kind: EventRefused, Plugin: sp.name, Version: sp.version(), Err: sp.err})
	}
}

// tellNames tells of each name that was not there before.
func (s *System) tellNames(kind EventKind, sp *spec, names, had []string) {
	if sp.found == nil || !sp.wanted || !sp.enabled {
		return
	}
	for _, n := range names {
		if !slices.Contains(had, n) {
			s.event(Event{Kind: kind, Plugin: sp.name, Version: sp.version(), Name: n})
		}
	}
}

// version is that of what was found; "" of nothing, and of what cannot be read.
func (sp *spec) version() string {
	if sp.found == nil || sp.found.desc == nil {
		return ""
	}
	return sp.found.desc.Manifest.Version
}

// Func is a function of a plug-in, whichever version of it runs when it is called. It may be used from any goroutine at the same time, and after Close,
// when its calls fail.
type Func struct{ a *attachment }

// Func returns a function of a plug-in, which need not run: its first call opens it. The error is an *Error: there is no such plug-in, or none is known before Start.
// That it has no such function is an error of the call.
func (s *System) Func(plugin, function string) (*Func, error) {
	e := s.entry(plugin)
	if e == nil {
		s.mu.Lock()
		names, known := slices.Collect(maps.Keys(s.entries)), s.plans != nil
		s.mu.Unlock()
		switch {
		case s.closed.Load():
			return nil, &Error{Plugin: plugin, Step: StepRun, Kind: ErrClosed, Found: "a system that is closed", Expected: "one that runs"}
		case !known:
			return nil, &Error{Plugin: plugin, Step: StepRun, Kind: ErrNotStarted, Found: "a system that was not started, and knows no plug-ins", Expected: "one that was", Remedy: "Call Start first"}
		}
		return nil, &Error{Plugin: plugin, Step: StepRun, Kind: ErrNotFound, Found: "no such plug-in", Expected: "one of those in List", Remedy: hint(plugin, names)}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	f := &Func{&attachment{point: &point{sys: s, name: function, policy: Stop}, entry: e, name: function, spare: true}}
	f.a = e.known(f.a)
	return f, nil
}

// known returns the attachment in whose place one is that the plug-in does not know: where its version has such a function by now. Names that none has leave nothing
// behind. e.mu is held.
func (e *entry) known(a *attachment) *attachment {
	funcs := []abi.Symbol(nil)
	switch {
	case e.live != nil:
		funcs = e.live.Info().Funcs
	case e.spec.found != nil && e.spec.found.desc != nil:
		funcs = e.spec.found.desc.Funcs
	}
	if kept := e.attached["\x00"+a.name]; kept != nil {
		return kept
	}
	if !slices.ContainsFunc(funcs, func(f abi.Symbol) bool { return f.Name == a.name }) {
		return a
	}
	return e.attach(a.point, a.name, false)
}

// attachment returns what is to be called.
func (f *Func) attachment() *attachment {
	if !f.a.spare {
		return f.a
	}
	f.a.entry.mu.Lock()
	defer f.a.entry.mu.Unlock()
	return f.a.entry.known(f.a)
}

// Call calls the function and returns its result, which is the caller's. The error is a *HookError without a point, around that of loader.Func.Append or an *Error.
func (f *Func) Call(ctx context.Context, in []byte) ([]byte, error) { return f.Append(ctx, nil, in) }

// Append appends the function's result to dst. A function that has nothing to say is an error, loader.ErrPass.
func (f *Func) Append(ctx context.Context, dst, in []byte) ([]byte, error) {
	a := f.attachment()
	out, status, err := a.try(ctx, dst, in)
	if err == nil && status != 0 {
		err = a.wrong(status)
	}
	return out, err
}

// Caller returns the name of the plug-in whose call a host function serves; ctx is the one that it was given. ok is false for any other context.
func Caller(ctx context.Context) (plugin string, ok bool) { return loader.Caller(ctx) }

// callerOf returns the name of the plug-in that a context comes from; "" where it comes from none.
func (s *System) callerOf(ctx context.Context) string {
	name, _ := loader.Caller(ctx)
	return name
}

// waits reports whether a call with this context would wait for itself: it comes from the start of e, or from that of a plug-in for which e waits, in a circle of any
// length.
func (s *System) waits(ctx context.Context, e *entry) bool {
	caller := s.callerOf(ctx)
	if caller == "" {
		return false
	}
	if s.opens(caller, e.name) {
		return true
	}
	for at, n := e, 0; at != nil && n < 64; n++ {
		if at.name == caller {
			return true
		}
		at.mu.Lock()
		next := at.waiting
		at.mu.Unlock()
		at = s.entry(next)
	}
	return false
}

// opens reports whether the plug-in of the first name is opened for the one of the second, or for one that is opened for that.
func (s *System) opens(name, target string) bool {
	for range 64 {
		switch name {
		case "":
			return false
		case target:
			return true
		}
		other := s.entry(name)
		if other == nil {
			return false
		}
		other.mu.Lock()
		f := other.flight
		other.mu.Unlock()
		if f == nil {
			return false
		}
		name = f.by
	}
	return true
}

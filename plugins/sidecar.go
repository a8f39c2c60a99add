package plugins

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/settings"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// named is how the sidecar of an entry of config.yaml is reached. It never changes.
type named struct {
	name    string            // the entry's
	url     bool              // the path of its found is a URL, and no file's
	nodes   bool              // it is on other machines, whose settings are their own
	launch  [sha256.Size]byte // of all that it is started, or spoken to, with
	secrets []string
	options []sidecar.Option // of a program, but for its sandbox
	engine  engine.Engine    // by which it is asked what it is: of a program in the sandbox of what its entry permits, if it is to be in one
	err     error            // why it cannot be reached so
	reads   []string         // the files that this was made of
	version string           // that it has to have; "" is any
	unasked bool             // nobody has asked it what it is: its description has its name, and no more
	looked  bool             // then what it is made of is looked for all the same
}

// sidecars are those that config.yaml names, one for each entry that does.
func (s *System) sidecars(conf *config.Config) (all []*found) {
	for i := range conf.Plugins {
		entry := &conf.Plugins[i]
		if _, dev := conf.Dev[entry.Name]; entry.Sidecar == nil || dev {
			continue
		}
		f := s.sidecarOf(entry)
		f.sidecar.unasked, f.sidecar.looked = s.surveying || !entry.Enabled, s.surveying && entry.Enabled
		all = append(all, f)
	}
	return all
}

// sidecarOf is the sidecar of an entry, of which nothing has run.
func (s *System) sidecarOf(entry *config.Plugin) *found {
	c := entry.Sidecar
	n := &named{name: entry.Name, url: c.URL != "", engine: sidecar.Engine()}
	f := &found{path: c.Program, sidecar: n, precedence: namedPrecedence, was: entry.Name}
	launched := []string{c.Program, c.URL}
	part := func(words ...string) {
		asJSON, _ := json.Marshal(words) // of texts
		launched = append(launched, string(asJSON))
	}
	part(c.Interpreter...)
	part(c.Args...)
	fault := func(found, expected, remedy string, err error) {
		if n.err == nil {
			n.err = &Error{Plugin: entry.Name, Step: StepSettings, Kind: ErrSettings, Found: found, Expected: expected, Err: err, Remedy: fmt.Sprintf("%s in its entry, line %d", remedy, entry.Line)}
		}
	}
	read := func(path, what string) []byte {
		n.reads = append(n.reads, path)
		text, err := regular.Read(path, config.MaxSize)
		if err != nil {
			fault("no "+what+" that can be read", "a file", "Correct it", err)
		}
		part(what, string(text))
		return text
	}
	if !n.url {
		var options []sidecar.Option
		if c.Interpreter != nil {
			options = append(options, sidecar.WithInterpreter(c.Interpreter[0], c.Interpreter[1:]...))
		}
		if c.Args != nil {
			options = append(options, sidecar.WithArgs(c.Args...))
		}
		if c.Env != nil {
			env := n.environment(entry)
			part(env...)
			options = append(options, sidecar.WithEnv(env...))
		}
		n.bound(entry, options, launched)
		return f
	}
	f.path = c.URL
	scheme, rest, _ := strings.Cut(c.URL, ":")
	switch scheme { // what may be there later
	case "unix", "http+unix":
		n.reads = append(n.reads, rest)
	case "fifo":
		n.reads = append(n.reads, strings.Split(rest, ",")...)
	}
	var access engine.Access
	if c.TokenFile != "" {
		text := read(c.TokenFile, "token-file")
		access.Token = strings.TrimRight(string(text), "\r\n")
		n.secrets = append(n.secrets, access.Token)
		if access.Token == "" {
			fault("nothing in "+c.TokenFile, "the token", "Write it there, or correct token-file", nil)
		}
	}
	if c.TLS {
		part("tls")
	}
	var roots *x509.CertPool
	if c.CA != "" {
		access.CA = read(c.CA, "ca")
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(access.CA) {
			fault("no certificate in "+c.CA, "one, as PEM", "Correct ca", nil)
		}
	}
	n.launch = sum(launched)
	switch {
	case config.IsHTTP(c.URL):
		s.byApplications(n, entry, access, "an HTTP server", "plugins.Engines(web.Engine()), of github.com/ferrule-dev/ferrule/loader/sidecar/web", fault)
		return f
	case config.IsBroker(c.URL):
		n.nodes = true
		kind := "nats"
		if strings.HasPrefix(scheme, "mqtt") {
			kind = "mqtt"
		}
		s.byApplications(n, entry, access, "a plug-in on other machines", fmt.Sprintf("plugins.Engines(%s.Engine()), of github.com/ferrule-dev/ferrule/loader/remote/%[1]s", kind), fault)
		return f
	}
	var options []sidecar.Option
	if c.TokenFile != "" {
		options = append(options, sidecar.WithToken(access.Token))
	}
	if c.TLS {
		options = append(options, sidecar.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}))
	}
	n.engine = sidecar.Engine(options...)
	return f
}

// byApplications finds the engine for a sidecar that is an HTTP server, or on other machines: the application's, since package plugins brings along neither net/http nor a
// broker's client. what is in the URL, which those engines open.
func (s *System) byApplications(n *named, entry *config.Plugin, access engine.Access, what, engines string, fault func(found, expected, remedy string, err error)) {
	file := &engine.File{Path: entry.Sidecar.URL}
	defer file.Close()
	i := slices.IndexFunc(s.engines, func(e engine.Engine) bool { return e.Recognises(file) })
	if i < 0 {
		n.err = &Error{Plugin: entry.Name, Step: StepOpen, Kind: ErrEngine, Err: &loader.OpenError{Path: entry.Sidecar.URL, Kind: loader.ErrNoEngine, Found: what, Expected: "an engine for it", Remedy: "Give the system one: " + engines}}
		return
	}
	n.engine = s.engines[i]
	own, ok := n.engine.(engine.Reaching)
	if !ok {
		if access.Token != "" || access.CA != nil {
			fault("token-file or ca for "+n.engine.Name(), "neither: it takes none", "Take them out", nil)
		}
		return
	}
	e, err := own.Reach(access)
	if open, ok := errors.AsType[*loader.OpenError](err); ok {
		fault(open.Found, open.Expected, "Correct what token-file or ca names", nil)
	} else if err != nil {
		fault("a token, or certificates, that "+n.engine.Name()+" does not take", "others", "Correct what token-file or ca names", err)
	} else {
		n.engine = e
	}
}

// installedSidecar is one that was installed, of which nothing has run.
func (s *System) installedSidecar(entry *config.Plugin, name, version, path, digest string) *named {
	n := &named{name: name, version: version, unasked: s.surveying}
	n.bound(entry, nil, []string{path, digest})
	return n
}

// bound has a program keep to what its entry, if it has one, says of its process. launched is what else it is started with.
func (n *named) bound(entry *config.Plugin, options []sidecar.Option, launched []string) {
	var policy *sandbox.Policy
	if inSandbox(entry) {
		p := policyOf(entry.Permit, entry)
		policy = &p
		text, _ := json.Marshal(p) // of texts and numbers
		launched = append(launched, string(text))
	}
	if entry != nil && entry.Isolate != nil {
		if grace := entry.Isolate.Grace; grace > 0 {
			options, launched = append(options, sidecar.WithGrace(grace)), append(launched, "grace "+grace.String())
		}
		if stop := entry.Isolate.Stop; stop > 0 {
			options, launched = append(options, sidecar.WithStopTimeout(stop)), append(launched, "stop "+stop.String())
		}
	}
	n.options, n.launch = options, sum(launched)
	n.engine = n.within(policy)
}

// within is the engine that has the program in that sandbox; nil is none.
func (n *named) within(policy *sandbox.Policy) engine.Engine {
	if policy == nil {
		return sidecar.Engine(n.options...)
	}
	return sidecar.Engine(append(slices.Clip(n.options), sidecar.WithSandbox(*policy))...)
}

// inSandbox reports whether a program's entry has it in a sandbox: as isolate says, and without that where it has permit, be it an empty one.
func inSandbox(entry *config.Plugin) bool {
	switch {
	case entry == nil:
		return false
	case entry.Isolate != nil:
		return entry.Isolate.Sandbox != config.SandboxNone
	}
	return entry.Permit.Said
}

func sum(words []string) [sha256.Size]byte {
	asJSON, _ := json.Marshal(words) // of texts
	return sha256.Sum256(asJSON)
}

// environment are the variables of an entry, with the secrets that they refer to.
func (n *named) environment(entry *config.Plugin) []string {
	own := &config.Plugin{Name: entry.Name, Line: entry.Line, Column: entry.Column, Config: entry.Sidecar.Env}
	text, secrets, err := settings.Resolve(own, "", os.LookupEnv, func(path string) ([]byte, error) {
		n.reads = append(n.reads, path)
		return regular.Read(path, config.MaxSize)
	})
	n.secrets = append(n.secrets, secrets...)
	if err != nil {
		n.err = &Error{Plugin: entry.Name, Step: StepSettings, Kind: ErrSettings, Err: err}
		return nil
	}
	values := map[string]json.RawMessage{}
	if n.err = json.Unmarshal(text, &values); n.err != nil {
		return nil
	}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := string(values[name]) // a number, as it is written
		_ = json.Unmarshal(values[name], &value)
		env = append(env, name+"="+value)
	}
	return env
}

// file is what tells, when it has changed, that the sidecar may be another one: its program, or its socket; "" where there is no such file.
func (f *found) file() string {
	if !f.sidecar.url {
		return f.path
	}
	path, ok := strings.CutPrefix(strings.TrimPrefix(f.path, "http+"), "unix:")
	if !ok || !filepath.IsAbs(path) {
		return ""
	}
	return path
}

var errAsked = errors.New("what it is was all that was asked")

// consult starts a sidecar, or connects to it, has it say what it is, and ends that session. One that is the same as before, and has said so, is not asked again.
func (s *System) consult(ctx context.Context, f, before *found) {
	n := f.sidecar
	if n.unasked {
		if f.err = nil; n.looked {
			f.err = f.look()
		}
		if f.err == nil {
			f.desc = &abi.Description{Manifest: &abi.Manifest{Name: n.name, Version: n.version}}
		}
		return
	}
	if n.err != nil {
		f.err = n.err
		return
	}
	if file := f.file(); file != "" {
		info, err := os.Stat(file)
		if err == nil {
			f.stamp(info)
		} else if !n.url {
			f.err = noProgram(f.path, err)
			return
		}
	}
	known := before != nil && before.sidecar != nil && before.desc != nil && !before.sidecar.unasked && before.sidecar.launch == n.launch && !s.stale(n.name)
	if f.fresh || known && before.fresh {
		f.digest = digest(f.path)
	}
	if f.desc = nil; known {
		if f.desc = before.desc; f.same(before) {
			return
		}
		f.desc = nil
	}
	e := n.engine
	if f.err = e.Fault(); f.err != nil {
		return
	}
	var about *abi.Description
	file := &engine.File{Path: f.path}
	defer file.Close()
	how := &engine.Options{Instances: 1}
	if bytes, err := hex.DecodeString(f.sha256); err == nil && len(bytes) == len(engine.Digest{}) { // of one that was installed: what runs is what was verified
		how.SHA256 = (*engine.Digest)(bytes)
	}
	_, _, err := e.Open(ctx, file, how, func(d *abi.Description) (engine.Host, error) {
		about = d
		return nil, errAsked
	})
	var secrets settings.Redactor
	secrets.Set(n.secrets)
	switch {
	case about == nil:
		f.err = err
		text := err.Error()
		if crash, ok := errors.AsType[*engine.Crash](err); ok && len(crash.Output) > 0 {
			text = escape.Lines(text + crash.LastWords())
		}
		if clean := secrets.Text(text); clean != err.Error() {
			f.err = &reworded{clean, err}
		}
	case about.Manifest.Name != n.name:
		f.err = &loader.OpenError{Path: f.path, Kind: loader.ErrLoad, Found: "the plug-in " + about.Manifest.Name, Expected: n.name + ", in whose entry it is", Remedy: "Correct the entry's name, or what it names"}
	case n.version != "" && about.Manifest.Version != n.version:
		f.err = &loader.OpenError{Path: f.path, Kind: loader.ErrLoad, Found: "version " + about.Manifest.Version, Expected: n.version + ", as its description says", Remedy: "Ask whoever publishes it to push the program that belongs to the version"}
	default:
		f.desc = about
		s.mu.Lock()
		delete(s.others, n.name)
		s.mu.Unlock()
	}
}

// look finds what keeps a sidecar from being started, or from being reached, as far as that can be seen with nothing of it run and nobody asked.
func (f *found) look() error {
	n := f.sidecar
	if errors.Is(n.err, loader.ErrNoEngine) { // which is said in its place: the application may have one
		return nil
	}
	if n.err != nil {
		return n.err
	}
	if err := n.engine.Fault(); err != nil {
		return err
	}
	if !n.url {
		if _, err := os.Stat(f.path); err != nil {
			return noProgram(f.path, err)
		}
	}
	looking, ok := n.engine.(engine.Looking)
	if !ok {
		return nil
	}
	file := &engine.File{Path: f.path}
	defer file.Close()
	return looking.Look(file)
}

func noProgram(path string, err error) error {
	return &loader.OpenError{Path: path, Kind: loader.ErrRead, Found: "no program", Err: err, Expected: "one that can be started", Remedy: "Correct program in its entry"}
}

// sameSidecar reports whether two are the same sidecar, as far as can be told without asking it.
func (f *found) sameSidecar(o *found) bool {
	a, b := f.sidecar, o.sidecar
	return a.name == b.name && a.launch == b.launch && a.unasked == b.unasked && reflect.DeepEqual(f.desc, o.desc)
}

// silent is the error of a sidecar that does not say what it is.
func (f *found) silent() *Error {
	if e, ok := f.err.(*Error); ok {
		return e
	}
	e := &Error{Plugin: f.sidecar.name, Step: StepDiscover, Kind: ErrUnreadable, Err: f.err}
	if open := (*loader.OpenError)(nil); !errors.As(f.err, &open) {
		e.Found, e.Expected, e.Remedy = "a sidecar that does not say what it is: "+f.path, "its manifest, within the time for its start", "See what it says, and have it begin as docs/wire.md says"
		if crash, ok := errors.AsType[*engine.Crash](f.err); ok && crash.Remedy != "" {
			e.Remedy = inConfig.Replace(strings.TrimSuffix(crash.Remedy, "."))
		}
	}
	return e
}

// overPermitted is the error of a sidecar that somebody else has started, whose manifest asks for what nothing would hold it to.
func (s *System) overPermitted(sp *spec) *Error {
	if sp.found.sidecar == nil || !sp.found.sidecar.url {
		return nil
	}
	var asks []string
	for _, what := range []string{"read", "write", "connect", "listen"} {
		for _, item := range listOf(sp.found.desc.Manifest.Keys.Get("permit." + what)) {
			asks = append(asks, what+" "+item)
		}
	}
	if asks == nil {
		return nil
	}
	return &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrEngine, Found: "a manifest that asks for " + strings.Join(asks, ", "), Expected: "none of that: nothing here holds a sidecar to permits that somebody else has started",
		Remedy: "Have it ask for nothing, and shut it in by what starts it; or name its program in its entry, in place of its url"}
}

// A sidecar that did not say what it is, is asked again after a time that doubles from the first of these to the second.
const (
	firstAsk = time.Second
	lastAsk  = time.Minute
)

// askLater has the sidecars asked again that did not say what they are: those of other hosts, and sockets, may be there later. The caller has change.
func (s *System) askLater(p *plan) {
	var silent []*entry
	for _, f := range p.found {
		if sp := p.specs[f.name()]; f.sidecar != nil && f.err != nil && sp != nil && sp.found == f && sp.wanted && sp.enabled {
			if e := s.entry(sp.name); e != nil {
				silent = append(silent, e)
			}
		}
	}
	s.mu.Lock()
	if s.asking != nil {
		s.asking.Stop()
		s.asking = nil
	}
	pause := min(lastAsk, max(firstAsk, 2*s.askPause))
	if silent == nil || s.closed.Load() {
		s.askPause = 0
	} else {
		s.askPause, s.asking = pause, time.AfterFunc(pause, s.askAgain)
	}
	s.mu.Unlock()
	for _, e := range silent {
		e.mu.Lock()
		e.retryAt = time.Now().Add(pause)
		e.mu.Unlock()
	}
}

// stale reports whether a sidecar has said something else of itself than it did, when an instance of it was started.
func (s *System) stale(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others[name]
}

// another notes that a plug-in's sidecar is another one than it was when it was asked, and has it asked again.
func (s *System) another(name string) {
	s.mu.Lock()
	known := s.others[name]
	if s.others == nil {
		s.others = map[string]bool{}
	}
	s.others[name] = true
	started := s.started
	s.mu.Unlock()
	if !known && started && !s.closed.Load() {
		go s.askAgain()
	}
}

// askAgain asks the sidecars that did not say what they are, and those that say something else by now, and takes over what comes of it. Nothing else is looked at.
func (s *System) askAgain() {
	ctx, give, err := s.take(s.life)
	if err != nil {
		return
	}
	defer give()
	s.mu.Lock()
	before := s.plans
	s.mu.Unlock()
	if before == nil || !s.isStarted() {
		return
	}
	all := slices.Clone(before.found)
	asked := map[string]bool{}
	var again []*found
	for i, f := range all {
		if f.sidecar == nil || f.err == nil && !s.stale(f.sidecar.name) {
			continue
		}
		entry := before.conf.Plugin(f.sidecar.name)
		switch {
		case f.sidecar.unasked:
			continue
		case f.installed:
			own := *f
			own.desc, own.err = nil, nil
			all[i] = &own
		case entry == nil || entry.Sidecar == nil:
			continue
		default:
			all[i] = s.sidecarOf(entry)
		}
		asked[f.sidecar.name] = true
		again = append(again, all[i])
	}
	s.readAll(ctx, again, nil)
	if ctx.Err() != nil {
		return
	}
	now := s.plan(before.conf, all, nil)
	for _, name := range s.sequence(before, now) { // who needs one of them may be there now, too
		next, old := now.specs[name], before.specs[name]
		mended := next != nil && old != nil && next.err == nil && old.err != nil
		if next == nil || !asked[name] && !mended {
			now.specs[name] = old
			continue
		}
		_ = s.changeTo(ctx, name, next, old, nil) // what fails is an event, and in List
		if e := s.entry(name); e != nil {
			e.mu.Lock()
			now.specs[name] = e.spec
			e.mu.Unlock()
			s.auditGranted(old, now.specs[name])
		}
	}
	maps.DeleteFunc(now.specs, func(_ string, sp *spec) bool { return sp == nil })
	s.force(now)
	s.warnings(now)
	s.askLater(now)
}

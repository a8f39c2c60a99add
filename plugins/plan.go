package plugins

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/resolve"
)

// plan is how all plug-ins are to be, as config.yaml and what was found say. Making one runs nothing of a plug-in's.
type plan struct {
	conf  *config.Config
	found []*found
	specs map[string]*spec
	order []string // of those that can start: each behind all that it needs
	read  []string // the paths of the files with secrets that settings refer to, there or not
}

// plan makes a plan. It asks Grants, which is foreign: no lock is held.
func (s *System) plan(conf *config.Config, all []*found, failed map[string]error) *plan {
	p := &plan{conf: conf, found: all, specs: map[string]*spec{}}
	listed := s.configPath != ""
	programs := sync.OnceValue(func() []string { return s.programsIn(conf) }) // once, however many are missing
	var candidates, unlisted []*found                                         // of those that somebody wants, and of the others
	for _, f := range all {
		name := f.name()
		entry := conf.Plugin(name)
		wanted := !listed || entry != nil || f.builtin != nil || f.installed
		switch {
		case f.desc == nil:
		case wanted:
			candidates = append(candidates, f)
		default:
			unlisted = append(unlisted, f)
		}
		if old := p.specs[name]; old == nil || wanted && !old.wanted || wanted == old.wanted && better(f, old.found) {
			p.specs[name] = s.spec(name, f, conf, entry, wanted)
		}
	}
	for i := range conf.Plugins {
		if entry := &conf.Plugins[i]; p.specs[entry.Name] == nil {
			sp := s.spec(entry.Name, nil, conf, entry, true)
			missing, here := s.missing(entry.Name, conf, all, programs)
			if sp.err = missing; failed[entry.Name] != nil {
				sp.err = s.unfetched(conf, entry.Name, failed[entry.Name], missing, here)
			}
			p.specs[entry.Name] = sp
		}
	}
	for _, name := range s.required {
		if sp := p.specs[name]; sp == nil {
			sp = s.spec(name, nil, conf, nil, true)
			sp.err, _ = s.missing(name, conf, all, programs)
			p.specs[name] = sp
		}
	}
	for _, f := range all {
		if f.sidecar != nil {
			p.read = append(p.read, f.sidecar.reads...)
		}
	}
	s.overrides(p)
	s.resolve(p, candidates, unlisted)
	s.group(p)
	s.keepApart(p)
	for name, sp := range p.specs {
		if !sp.enabled {
			sp.err = s.disabled(conf.Plugin(name))
		}
		sp.seal()
	}
	return p
}

// better reports which of two plug-ins of one name counts, or would if it could be read.
func better(a, b *found) bool {
	if (a.desc != nil) != (b.desc != nil) {
		return a.desc != nil
	}
	return cmp.Or(cmp.Compare(a.precedence, b.precedence), cmp.Compare(a.path, b.path)) < 0
}

// spec is the beginning of one: what does not depend on other plug-ins.
func (s *System) spec(name string, f *found, conf *config.Config, entry *config.Plugin, wanted bool) *spec {
	sp := &spec{name: name, entry: entry, dev: conf.Dev[name], found: f, wanted: wanted, enabled: true, level: conf.Logging.Level, required: slices.Contains(s.required, name)}
	if level, ok := conf.Logging.Plugins[name]; ok {
		sp.level = level
	}
	if entry != nil {
		sp.enabled, sp.required, sp.limit, sp.data = entry.Enabled, sp.required || entry.Required, entry.Limit, entry.Data
		if i := entry.Isolate; f != nil && f.sidecar != nil {
			sp.sandboxed = !f.sidecar.url && inSandbox(entry)
		} else if i != nil {
			sp.isolated, sp.sandboxed, sp.group, sp.grace, sp.stop = true, i.Sandbox != config.SandboxNone, i.Group, i.Grace, i.Stop
		}
	}
	if f != nil && f.desc == nil {
		sp.err = f.unreadable()
	}
	return sp
}

// programEntry is the entry of a program in a folder, whose name is mostly that of its file: not where another file is that plug-in.
func (p *plan) programEntry(path string) string {
	name := stem(path)
	if sp := p.specs[name]; sp != nil && sp.found != nil {
		name = ""
	}
	return config.ProgramEntry(name, path)
}

// overrides says which files of config.yaml's dev are not what they stand for.
func (s *System) overrides(p *plan) {
	for name, path := range p.conf.Dev {
		for _, f := range p.found {
			if f.path != path || f.precedence != devPrecedence {
				continue
			}
			sp := p.specs[name]
			switch {
			case f.desc == nil && sp != nil:
				fault := &Error{Plugin: name, Step: StepDiscover, Kind: ErrUnreadable, Found: "its file of dev in " + s.configName() + ", which cannot be read", Err: f.err}
				if errors.Is(f.err, fs.ErrNotExist) {
					fault.Found, fault.Expected, fault.Remedy = "no file "+path, "its file of dev in "+s.configName(), "Build it, or correct dev"
				}
				if isProgram(path) {
					fault.Err = nil // it says what a library would be
					fault.Found, fault.Expected, fault.Remedy = "a program as its file of dev in "+s.configName(), "a library, or a WebAssembly module", "Have its entry name the program, in place of dev: "+config.ProgramEntry(name, path)
				}
				sp.err = fault
			case f.desc != nil && f.name() != name:
				fault := &Error{Plugin: name, Step: StepDiscover, Kind: ErrUnreadable, Found: fmt.Sprintf("the plug-in %s in %s", f.name(), path), Expected: name + ", in whose place dev puts it",
					Remedy: "Correct dev in " + s.configName()}
				if sp == nil {
					sp = &spec{name: name, dev: path, wanted: true, enabled: true}
					p.specs[name] = sp
				}
				sp.err = fault
			}
		}
	}
}

// seal makes what tells whether a new version is needed.
func (sp *spec) seal() {
	sp.print = fmt.Sprintf("%q %q %v %q %s", sp.grants, sp.providers, sp.isolated, sp.data, sp.groupKey())
}

// usable reports whether the plug-in may run.
func (sp *spec) usable() bool { return sp.wanted && sp.enabled && sp.err == nil }

// resolve finds out which plug-ins can be beside each other, and what they may have. Those that are unlisted cannot be; who needs them is told so.
func (s *System) resolve(p *plan, candidates, unlisted []*found) {
	offers := map[string]bool{}
	for name := range s.offers {
		offers[name] = true
	}
	services := map[string]bool{} // what some plug-in has for others; of what nobody has, grant says what was meant
	providers := slices.Concat(candidates, unlisted)
	if s.surveying { // what an unlisted one provides may as well be the application's
		providers = candidates
	}
	for _, f := range providers {
		for _, name := range listOf(f.desc.Manifest.Keys.Get("provides")) {
			services[name] = true
		}
	}
	in := make([]resolve.Plugin, len(candidates))
	for i, f := range candidates {
		m := f.desc.Manifest
		sp := p.specs[f.name()]
		in[i] = resolve.Plugin{Name: m.Name, Version: m.Version, Source: f.source(), Precedence: f.precedence, Required: sp.required, Disabled: !sp.enabled,
			Host: map[string]string{}, Requires: listOf(m.Keys.Get("requires")), Conflicts: listOf(m.Keys.Get("conflicts")), Provides: listOf(m.Keys.Get("provides")),
			Imports: slices.DeleteFunc(symbolNames(f.desc.Imports), func(name string) bool { return !services[name] })}
		if entry := p.conf.Plugin(m.Name); entry != nil {
			if in[i].Range = entry.Version; f.sidecar != nil && f.sidecar.unasked {
				in[i].Range = "" // of a version that nobody knows
			}
		}
		for _, kv := range m.Keys {
			if app, ok := strings.CutPrefix(kv.Key, "host."); ok && !s.surveying {
				in[i].Host[app] = kv.Value
			}
		}
	}
	for _, f := range unlisted {
		in = append(in, resolve.Plugin{Name: f.name(), Source: f.source(), Unlisted: true, Provides: listOf(f.desc.Manifest.Keys.Get("provides"))})
	}
	for name, sp := range p.specs {
		if !sp.enabled && (sp.found == nil || sp.found.desc == nil) { // it is disabled, and not missing
			in = append(in, resolve.Plugin{Name: name, Disabled: true})
		}
	}
	r := resolve.Resolve(s.app, s.version, in, offers)
	provider := func(service string) string {
		if by, ok := r.Providers[service]; ok {
			return in[by].Name
		}
		return ""
	}
	for i, fault := range r.Failed {
		sp := p.specs[in[i].Name]
		if sp.found != candidates[i] {
			continue
		}
		if sp.err == nil {
			sp.err = s.resolved(fault)
		}
		if s.surveying { // what else is wrong with it: whoever mends one of its faults is to know of all
			for _, more := range fault.More {
				sp.more = append(sp.more, s.resolved(more))
			}
			s.examine(p, sp, provider)
		}
	}
	for _, i := range r.Order {
		f := candidates[i]
		sp := p.specs[f.name()]
		if sp.found != f {
			continue
		}
		for _, line := range in[i].Requires {
			name, _ := ranges.Split(line)
			sp.needs = append(sp.needs, name)
		}
		if s.surveying {
			s.examine(p, sp, provider)
		} else {
			s.check(p, sp)
			s.engage(p, sp)
			s.grant(p, sp, provider)
			s.settle(p, sp)
		}
		slices.Sort(sp.needs)
		sp.needs = slices.Compact(sp.needs)
		for _, need := range sp.needs {
			if other := p.specs[need]; sp.err == nil && other != nil && other.err != nil {
				sp.err = &Error{Plugin: sp.name, Step: StepResolve, Kind: ErrDependency, Found: "a requirement that has failed", Expected: need + ", running",
					Remedy: "Mend " + need + " first", Err: other.err}
			}
		}
		if sp.err == nil {
			p.order = append(p.order, sp.name)
		}
	}
}

// examine is check, engage, grant and settle of a Survey, each whatever the others have found: err is the first fault, and more has the others.
func (s *System) examine(p *plan, sp *spec, provider func(service string) string) {
	first := sp.err
	for _, look := range []func(){func() { s.check(p, sp) }, func() { s.engage(p, sp) }, func() { s.grant(p, sp, provider) }, func() { s.settle(p, sp) }} {
		sp.err = nil
		look()
		switch {
		case sp.err == nil:
		case first == nil:
			first = sp.err
		default:
			sp.more = append(sp.more, sp.err)
		}
	}
	sp.err = first
}

// resolved is a fault of package resolve as an error of this one.
func (s *System) resolved(f *resolve.Fault) *Error {
	e := &Error{Plugin: f.Plugin, Step: StepResolve, Found: f.Found, Expected: f.Expected, Remedy: f.Remedy, Kind: f.Kind}
	for _, k := range []struct{ from, to error }{{resolve.ErrDependencyFailed, ErrDependency}, {resolve.ErrMissing, ErrMissing}, {resolve.ErrRange, ErrRange}, {resolve.ErrVersion, ErrRange},
		{resolve.ErrHost, ErrRange}, {resolve.ErrDouble, ErrDouble}, {resolve.ErrConflict, ErrConflict}, {resolve.ErrService, ErrService}, {resolve.ErrCircle, ErrCircle}} {
		if errors.Is(f, k.from) {
			e.Kind = k.to
			break
		}
	}
	if f.Absent != "" && s.surveying {
		e.Remedy += ", unless the application has " + f.Absent + " compiled in"
		e.Unsure = true
	}
	if f.Cause != nil {
		cause := s.resolved(f.Cause)
		e.Err, e.Unsure = cause, cause.Unsure
	}
	return e
}

// check looks at the points that the plug-in attaches to.
func (s *System) check(p *plan, sp *spec) {
	for _, h := range sp.found.desc.Hooks {
		pt := s.points[h.Name]
		if pt == nil {
			continue
		}
		for _, need := range pt.needs {
			if !slices.ContainsFunc(sp.found.desc.Funcs, func(f abi.Symbol) bool { return f.Name == need }) && sp.err == nil {
				sp.err = &Error{Plugin: sp.name, Step: StepResolve, Kind: ErrFunction, Found: fmt.Sprintf("a hook at %s, and no function %s", h.Name, need),
					Expected: "the functions that this point asks for: " + strings.Join(pt.needs, ", "), Remedy: "Install a version of the plug-in that has it"}
			}
		}
	}
	if health := sp.found.desc.Manifest.Keys.Get("health"); health != "" && sp.err == nil && !slices.Contains(symbolNames(sp.found.desc.Funcs), health) {
		sp.err = &Error{Plugin: sp.name, Step: StepResolve, Kind: ErrFunction, Found: "a manifest that names " + strconv.Quote(health) + " as health, and no such function", Expected: "one that is exported",
			Remedy: "Install a version of the plug-in that has it"}
	}
}

// warnings are hooks that nobody calls, once for each version of a plug-in, and folders that are not there, once as long as they are
// not. The caller has change.
func (s *System) warnings(p *plan) {
	now := map[string]bool{}
	warn := func(key, text, remedy string, attrs ...slog.Attr) {
		if now[key] = true; s.warned[key] {
			return
		}
		if remedy != "" {
			attrs = append(attrs, slog.String("remedy", remedy))
		}
		s.log(slog.LevelWarn, text, attrs...)
	}
	for _, folder := range s.foldersOf(p.conf) {
		if !exists(folder) {
			warn("folder "+folder, "a folder of plug-ins is not there",
				"Make it, or name another one: plugins.Folder, or folders: in "+s.configName(), slog.String("folder", folder))
		} else if err := folderError(folder); err != nil {
			warn("unread "+folder, "a folder of plug-ins cannot be read: what is in it is not known", "Change its permissions, or take it out of folders", slog.String("folder", folder), slog.Any("err", err))
		}
	}
	for _, path := range s.programsIn(p.conf) {
		warn("program "+path, "a program in a folder of plug-ins is no plug-in until an entry names it: it is not run", "Where it is one, write its entry so in "+s.configName()+": "+p.programEntry(path), slog.String("file", path))
	}
	defer func() { s.warned = now }()
	for _, name := range slices.Sorted(maps.Keys(p.specs)) {
		sp := p.specs[name]
		if !sp.usable() {
			continue
		}
		for _, h := range sp.found.desc.Hooks {
			pt, wrap := s.points[h.Name], h.Keys.Get("wrap") == "yes"
			attrs := []slog.Attr{slog.String("plugin", name), slog.String("version", sp.version()), slog.String("point", h.Name)}
			key := strings.Join([]string{"hook", name, sp.version(), h.Name}, "\x00")
			switch {
			case pt == nil && h.Keys.Get("optional") == "yes":
			case pt == nil:
				warn(key, "a hook is never called: the application has no such point",
					hint(h.Name, slices.Collect(maps.Keys(s.points))), attrs...)
			case wrap != (pt.kind == KindWrap):
				warn(key, "a hook is never called: at points of the kind wrap a hook says wrap=yes, and at others it does not", "",
					append(attrs, slog.String("kind", string(pt.kind)), slog.Bool("wrap", wrap))...)
			}
		}
	}
}

// isWrapper reports whether a hook says that it stands around others.
func isWrapper(d *abi.Description, hook string) bool {
	i := slices.IndexFunc(d.Hooks, func(h abi.Symbol) bool { return h.Name == hook })
	return i >= 0 && d.Hooks[i].Keys.Get("wrap") == "yes"
}

// listOf returns the items of a list of the manifest: one a line.
func listOf(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func symbolNames(symbols []abi.Symbol) []string {
	names := make([]string, len(symbols))
	for i, s := range symbols {
		names[i] = s.Name
	}
	return names
}

// foldersOf returns the folders where plug-ins are looked for, in their order.
func (s *System) foldersOf(conf *config.Config) []string {
	all := slices.Concat(s.folders, conf.Folders)
	for i, f := range all {
		if abs, err := abspath.Of(f); err == nil {
			all[i] = abs
		}
	}
	return all
}

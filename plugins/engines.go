package plugins

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// addEngine is one of Engines.
func (s *System) addEngine(e engine.Engine) {
	if e == nil {
		s.wrong("Engines", "nil", "engines, such as wasm.Engine()")
		return
	}
	if err := e.Fault(); err != nil {
		s.fault(fmt.Errorf("plugins.Engines: %w: %w", ErrOption, err))
		return
	}
	words := e.Words()
	switch {
	case words.Names != nil:
		s.wrong("Engines", e.Name()+", which opens plug-ins by their names", "one for files; plug-ins in Go are given by plugins.Builtin")
	case words.Kind == engine.NativeCode("", "").Kind:
		s.wrong("Engines", e.Name()+", which opens native code", "one for other files: the system opens native code by itself, in this process or as isolate says in config.yaml")
	case slices.ContainsFunc(s.engines, func(o engine.Engine) bool { return o.Name() == e.Name() || o.Words().Kind == words.Kind }):
		s.wrong("Engines", e.Name()+" beside another one for "+words.Kind, "one engine for each kind of file")
	default:
		s.engines = append(s.engines, e)
	}
}

// foreign reports whether a file is no native code.
func foreign(format inspect.Format) bool { return format == inspect.Wasm || scripts(format) }

// engineFor returns the engine that opens a file which was read; nil of native code, and where there is none.
func (s *System) engineFor(f *found) engine.Engine {
	if !foreign(f.format) {
		return nil
	}
	file := &engine.File{Path: f.path}
	defer file.Close()
	return s.opener(file)
}

// opener returns the engine of Engines that opens a file; nil where there is none.
func (s *System) opener(file *engine.File) engine.Engine {
	for _, e := range s.engines {
		if !e.Recognises(file) {
			continue
		}
		if several, ok := e.(engine.Several); ok {
			return several.Of(file)
		}
		return e
	}
	return nil
}

// kinds are those of plug-ins that the system can load; nil are all.
func (s *System) kinds() []registry.Kind {
	all := []registry.Kind{registry.Library, registry.Program, registry.Script}
	if s.surveying { // the application may have engines that nobody here knows
		return nil
	}
	if slices.ContainsFunc(s.engines, func(e engine.Engine) bool { return e.Words().Kind == engine.WebAssembly }) {
		all = append(all, registry.Wasm)
	}
	for _, script := range []struct {
		kind registry.Kind
		file *engine.File
	}{{registry.JavaScript, engine.Memory("a.js", []byte("// ferrule: name=a version=1.0.0\n"))}, {registry.Python, engine.Memory("a.py", []byte("# ferrule: name=a version=1.0.0\n"))}} {
		if s.opener(script.file) != nil {
			all = append(all, script.kind)
		}
	}
	return all
}

// engage finds the engine that is to open the plug-in.
func (s *System) engage(p *plan, sp *spec) {
	if n := sp.found.sidecar; sp.err == nil && n != nil {
		sp.engine = n.engine
		if fault, ok := n.err.(*Error); ok && s.surveying { // the application may have what is missing
			sp.doubt = fault
		}
		if entry := p.conf.Plugin(sp.name); entry != nil && entry.Isolate != nil && entry.Isolate.Group != "" { // of an installed one: config.yaml does not know what it is
			sp.err = &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrEngine, Found: "a group for a sidecar", Expected: "isolate without it: a sidecar is a process of its own, which no other plug-in shares",
				Remedy: fmt.Sprintf("Take group out of its entry, line %d of %s", entry.Line, s.configName())}
		}
		return
	}
	if sp.err != nil || !foreign(sp.found.format) {
		return
	}
	sp.engine = sp.found.engine
	entry := p.conf.Plugin(sp.name)
	if apart, ok := sp.engine.(engine.Apart); ok {
		s.apart(sp, apart, entry)
		return
	}
	if entry != nil && entry.Isolate != nil && (sp.engine != nil || sp.found.format == inspect.Wasm) {
		what, remedy := "a WebAssembly module", "Take isolate out of its entry, line %d of %s; how much memory it may have is permit.memory"
		if scripts(sp.found.format) {
			what = "a script in " + string(sp.found.format)
		}
		sp.err = &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrEngine, Found: "isolate for " + what, Expected: "an entry without it: it runs in this process as WebAssembly, and has its own memory and nothing else",
			Remedy: fmt.Sprintf(remedy, entry.Line, s.configName())}
		return
	}
	if sp.engine != nil {
		return
	}
	missing := &loader.OpenError{Path: sp.found.path, Kind: loader.ErrNoEngine, Found: "a WebAssembly module", Expected: "an engine for it",
		Remedy: "Give the system one: plugins.Engines(wasm.Engine()), of github.com/ferrule-dev/ferrule/loader/wasm"}
	switch sp.found.format {
	case inspect.JavaScript:
		missing.Found, missing.Remedy = "a script in JavaScript", "Give the system one: plugins.Engines(script.Engine()), of github.com/ferrule-dev/ferrule/loader/script"
	case inspect.Python:
		missing.Found = "a script in Python"
		missing.Remedy = "Give the system one: plugins.Engines(script.Engine(script.WithPython(path, nil))), of github.com/ferrule-dev/ferrule/loader/script, whose BuildPython makes the library at the path"
	}
	fault := &Error{Plugin: sp.name, Step: StepOpen, Kind: ErrEngine, Err: missing}
	if s.surveying { // the application may have one
		sp.doubt = fault
		return
	}
	sp.err = fault
}

// apart says where the native code of a plug-in's engine runs: in a worker where the entry says so or permits something, else as the engine is.
func (s *System) apart(sp *spec, own engine.Apart, entry *config.Plugin) {
	if entry != nil && entry.Isolate != nil && entry.Isolate.Group != "" {
		sp.err = &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrEngine, Found: "a group for a script", Expected: "isolate without it: a script's interpreter has a worker of its own",
			Remedy: fmt.Sprintf("Take group out of its entry, line %d of %s", entry.Line, s.configName())}
		return
	}
	sp.sandboxed = inSandbox(entry)
	sp.isolated = own.Isolated() || entry != nil && entry.Isolate != nil || sp.sandboxed
}

// permitted has the engine of a plug-in give it what it was permitted, and no more.
func (s *System) permitted(sp *spec, entry *config.Plugin) *Error {
	if sp.engine == nil {
		return nil
	}
	if sp.program() {
		return s.shutIn(sp, entry)
	}
	p := engine.Permits{Read: sp.policy.Read, Write: sp.policy.Write, Connect: sp.policy.Connect, Listen: sp.policy.Listen, Memory: sp.policy.Memory}
	if apart, ok := sp.engine.(engine.Apart); ok {
		return s.within(sp, apart, entry)
	}
	own, ok := sp.engine.(engine.Permitting)
	if !ok {
		if len(p.Read)+len(p.Write)+len(p.Connect)+len(p.Listen) == 0 && p.Memory == 0 {
			return nil
		}
		return s.unsuited(sp, entry, &inspect.Error{Kind: loader.ErrOption, Found: "permits", Expected: "none: " + sp.engine.Name() + " enforces none", Remedy: "Take permit out of its entry"})
	}
	with, err := own.With(p)
	if err != nil {
		return s.unsuited(sp, entry, err)
	}
	sp.engine = with
	return nil
}

// within has the native code of a plug-in's engine in a worker, where it is to be in one, and there in the sandbox of what the plug-in was permitted.
func (s *System) within(sp *spec, own engine.Apart, entry *config.Plugin) *Error {
	if len(sp.permits) > 0 && (entry == nil || entry.Isolate == nil) { // by Grants
		sp.sandboxed, sp.isolated = true, true
	}
	if !sp.sandboxed && (entry == nil || entry.Isolate == nil) {
		return nil
	}
	worker := func(reads []string) engine.Engine {
		policy := sp.policy
		policy.Read = slices.Concat(policy.Read, reads)
		return isolate.Engine(isolationOf(sp, policy)...)
	}
	if s.surveying { // nothing is opened: what the native code has to read is the application's, and may be elsewhere
		if err := worker(nil).Fault(); err != nil {
			return s.unsuited(sp, entry, err)
		}
		return nil
	}
	with, err := own.In(worker)
	if err != nil {
		return s.unsuited(sp, entry, err)
	}
	sp.engine = with
	return nil
}

// shutIn has a program in the sandbox of what it was permitted. One whose entry says nothing of a sandbox has one where Grants has permitted something.
func (s *System) shutIn(sp *spec, entry *config.Plugin) *Error {
	if len(sp.permits) > 0 && (entry == nil || entry.Isolate == nil) {
		sp.sandboxed = true
	}
	if !sp.sandboxed {
		return nil
	}
	sp.engine = sp.found.sidecar.within(&sp.policy)
	if err := sp.engine.Fault(); err != nil {
		return s.unsuited(sp, entry, err)
	}
	return nil
}

// unpermittable is the error of a plug-in whose manifest asks for what its engine gives to nobody: no permit helps, so none is named.
func (s *System) unpermittable(sp *spec) *Error {
	own, ok := sp.engine.(engine.Permitting)
	if !ok {
		return nil
	}
	var p engine.Permits
	for _, list := range []struct {
		key string
		to  *[]uint16
	}{{"permit.connect", &p.Connect}, {"permit.listen", &p.Listen}} {
		for _, item := range listOf(sp.found.desc.Manifest.Keys.Get(list.key)) {
			if n := number(item); n >= 0 { // else the manifest makes no sense, which is said elsewhere
				*list.to = append(*list.to, uint16(n))
			}
		}
	}
	if _, err := own.With(p); err != nil {
		e := s.unsuited(sp, nil, err)
		e.Found = "a manifest that asks for " + e.Found
		return e
	}
	return nil
}

// unsuited is the error of permits that an engine does not give. entry is where they are; nil where they are elsewhere.
func (s *System) unsuited(sp *spec, entry *config.Plugin, err error) *Error {
	e := &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrEngine}
	open, ok := errors.AsType[*loader.OpenError](err)
	if !ok {
		e.Found, e.Err = "permits that its engine does not give", err
		return e
	}
	e.Found, e.Expected, e.Remedy = open.Found, open.Expected, open.Remedy
	if entry != nil {
		e.Remedy += fmt.Sprintf(". Its permits are in its entry, line %d of %s", entry.Line, s.configName())
	}
	return e
}

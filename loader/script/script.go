// Package script opens scripts in JavaScript and in Python as plug-ins, behind the same *loader.Plugin as native code.
//
//	p, err := loader.Open("discount.js", loader.WithEngine(script.Engine()))
//
// A script is a plug-in by its header, comments at its top, which are read before anything of it runs:
//
//	// ferrule: name=discount version=1.2.0
//	// ferrule: fn=before_checkout in=json out=json import=loyalty_points
//	import { host } from "ferrule";
//
//	export function before_checkout(cart) {
//		return { percent: host.loyalty_points(cart.customer) > 100 ? 10 : 5 };
//	}
//
// JavaScript runs in an interpreter that is a plug-in itself: quickjs-ng, compiled to WebAssembly, in this process and in memory of its own, with fuel and without files and network; or as
// a library, where WithAdapter names one. Python runs in the system's own, which a library embeds (WithPython), in a worker process unless it is asked for here.
package script

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// interpreter is quickjs-ng with adapter.c, which build.sh compiles.
//
//go:embed javascript/javascript.wasm
var interpreter []byte

//go:embed javascript/ferrule.js
var javascriptModule string

//go:embed python/ferrule.py
var pythonModule string

// language is what this package knows of one.
type language struct {
	format     inspect.Format
	extensions []string
	header     string // one in few words
	adapter    string // the name of the plug-in that runs it
	module     string // the module ferrule in it
	folder     string // where its adapter is built
}

// adapterVersion is what the adapters and this package agree on.
const adapterVersion = "1.0.0"

var (
	javascript = &language{inspect.JavaScript, []string{".js", ".mjs"}, "// ferrule: name=a version=1.0.0 fn=f", "ferrule-javascript", javascriptModule, "javascript"}
	python     = &language{inspect.Python, []string{".py"}, "# ferrule: name=a version=1.0.0 fn=f", "ferrule-python", pythonModule, "python"}
	languages  = []*language{javascript, python}
)

// MaxFunctions is how many functions and hooks, together, and how many host functions a script's header may name.
const MaxFunctions = 64

// Option is an option of Engine.
type Option func(*options) error

type options struct {
	given   engine.Given
	wasm    []wasm.Option
	adapter string
	inner   engine.Engine // of the adapter
	memory  int64

	python   string
	inPython engine.Engine
	venv     string
}

// WithWasm has the interpreter run with these options of loader/wasm: how much memory an instance has, how much fuel a call has, where what was compiled is kept. Most hosts give
// wasm.WithCache: without it each opening compiles the interpreter, which takes some half a second.
func WithWasm(opts ...wasm.Option) Option {
	return func(o *options) error {
		if err := o.given.Once("WithWasm"); err != nil {
			return err
		}
		o.wasm = opts
		return nil
	}
}

// WithAdapter has the interpreter be a library, at this path, which e opens: loader.Native() in this process, or isolate.InWorker(). It is some four times as fast as
// WebAssembly. In this process there is no sandbox. The library is built from this module's folder javascript, by its build.sh.
func WithAdapter(path string, e engine.Engine) Option {
	return func(o *options) error {
		if err := o.given.Once("WithAdapter"); err != nil {
			return err
		}
		if path == "" || e == nil {
			return o.given.Faulty("WithAdapter", "no path, or no engine", "both")
		}
		o.adapter, o.inner = path, e
		return nil
	}
}

// WithMemory sets how much memory the script of an instance may have that runs in a library (WithAdapter), in bytes, 1 MiB or more; without it any amount.
func WithMemory(n int64) Option {
	return func(o *options) error {
		if err := o.given.Once("WithMemory"); err != nil {
			return err
		}
		if n < 1<<20 {
			return o.given.Faulty("WithMemory", fmt.Sprintf("%d bytes", n), "1048576 or more")
		}
		o.memory = n
		return nil
	}
}

// WithPython has scripts in Python opened, by the library at this path, which is built from this module's folder python, by its build.sh, for the Python that it is to embed. e opens it: nil is
// isolate.Engine(), a worker process, which sandbox.With can shut in. With loader.Native() scripts run in this process: faster where they call the host, without a sandbox, all
// in one interpreter, which stays until the process ends; a module such as numpy cannot be started twice in it.
func WithPython(path string, e engine.Engine) Option {
	return func(o *options) error {
		if err := o.given.Once("WithPython"); err != nil {
			return err
		}
		if path == "" {
			return o.given.Faulty("WithPython", "no path", "that of the adapter")
		}
		if e == nil {
			e = isolate.Engine()
		}
		o.python, o.inPython = path, e
		return nil
	}
}

// WithVirtualenv has Python have the packages of a virtual environment, the folder that python -m venv has made.
func WithVirtualenv(folder string) Option {
	return func(o *options) error {
		if err := o.given.Once("WithVirtualenv"); err != nil {
			return err
		}
		abs, err := abspath.Of(folder)
		if folder == "" || err != nil {
			return o.given.Faulty("WithVirtualenv", "no folder", "one")
		}
		if _, err := os.Stat(filepath.Join(abs, "pyvenv.cfg")); err != nil {
			return o.given.Faulty("WithVirtualenv", "the folder "+abs+", which has no pyvenv.cfg", "one that python -m venv has made")
		}
		o.venv = filepath.Join(abs, "bin", "python")
		return nil
	}
}

// Engine returns an engine for loader.WithEngine that opens scripts. It can be used for any number of plug-ins, at the same time, too.
func Engine(opts ...Option) engine.Engine {
	e := &scriptEngine{}
	e.given.By = "script"
	e.fault = engine.Take(&e.given, &e.options, opts)
	if e.fault != nil {
		return e
	}
	if e.inner == nil {
		e.inner = wasm.Engine(e.wasm...)
	} else if e.wasm != nil {
		e.fault = e.given.Faulty("WithWasm", "it with WithAdapter", "one of the two")
		return e
	}
	if e.venv != "" && e.python == "" {
		e.fault = e.given.Faulty("WithVirtualenv", "it without WithPython", "both")
		return e
	}
	if e.fault = e.inner.Fault(); e.fault == nil && e.inPython != nil {
		e.fault = e.inPython.Fault()
	}
	if permitting, ok := e.inner.(engine.Permitting); ok && e.adapter == "" && e.python == "" {
		return &permittingEngine{e, permitting}
	}
	return e
}

type scriptEngine struct {
	options
	fault error
}

// permittingEngine is one whose interpreter shuts its plug-ins in by itself.
type permittingEngine struct {
	*scriptEngine
	inner engine.Permitting
}

// With is engine.Permitting's.
func (e *permittingEngine) With(p engine.Permits) (engine.Engine, error) {
	if found := reaches(p); found != "" {
		return nil, &inspect.Error{Kind: loader.ErrOption, Found: found, Expected: "none: a script in JavaScript has no files and no network", Remedy: "Offer it a host function for what it needs there"}
	}
	inner, err := e.inner.With(p)
	if err != nil {
		return nil, err
	}
	own := *e.scriptEngine
	own.inner = inner
	return &permittingEngine{&own, inner.(engine.Permitting)}, nil
}

// Of is engine.Several's: JavaScript in WebAssembly shuts itself in, and what runs scripts as a library may be in a worker.
func (e *scriptEngine) Of(f *engine.File) engine.Engine {
	head, err := f.Head()
	if err != nil {
		return e
	}
	in := languageOf(f.Path, head)
	permitting, ok := e.inner.(engine.Permitting)
	switch {
	case in == python && e.python == "":
		return nil
	case in == python:
		return &apartEngine{e, in, f.Path}
	case e.adapter != "":
		return &apartEngine{e, javascript, f.Path}
	case ok:
		return &permittingEngine{e, permitting}
	}
	return e
}

// apartEngine is one whose interpreter is a library, for one script.
type apartEngine struct {
	*scriptEngine
	in   *language
	path string
}

func (e *apartEngine) runs() engine.Engine {
	if e.in == python {
		return e.inPython
	}
	return e.inner
}

// Isolated is engine.Apart's.
func (e *apartEngine) Isolated() bool { return e.runs().Name() == isolate.Engine().Name() }

// In is engine.Apart's.
func (e *apartEngine) In(worker func(reads []string) engine.Engine) (engine.Engine, error) {
	own := *e.scriptEngine
	if e.in == javascript {
		own.inner = worker(nil)
		return &apartEngine{&own, e.in, e.path}, own.inner.Fault()
	}
	reads, err := e.reads()
	if err != nil {
		return nil, err
	}
	own.inPython = worker(reads)
	return &apartEngine{&own, e.in, e.path}, own.inPython.Fault()
}

// reads are what Python has to read: its own modules, which the adapter knows, the script's folder, and the virtual environment.
func (e *apartEngine) reads() ([]string, error) {
	abs, err := engine.Absolute(e.path)
	if err != nil {
		return nil, err
	}
	folders := []string{filepath.Dir(abs)}
	if e.venv != "" {
		folders = append(folders, filepath.Dir(filepath.Dir(e.venv)))
	}
	return PythonReads(e.python, folders...)
}

// reaches is what permits have of files and of the network, in words; "" is nothing.
func reaches(p engine.Permits) string {
	for _, list := range []struct {
		what  string
		items []string
	}{{"files that it may read", p.Read}, {"files that it may write", p.Write}, {"ports that it may connect to", texts(p.Connect)}, {"ports that it may listen on", texts(p.Listen)}} {
		if len(list.items) > 0 {
			return fmt.Sprintf("%s (%s)", list.what, strings.Join(list.items, ", "))
		}
	}
	return ""
}

func texts(ports []uint16) (all []string) {
	for _, port := range ports {
		all = append(all, fmt.Sprint(port))
	}
	return all
}

// Memory is engine.Permitting's.
func (e *permittingEngine) Memory() int64 { return e.inner.Memory() }

// Name is engine.Engine's.
func (e *scriptEngine) Name() string { return "script.Engine" }

// Words is engine.Engine's.
func (e *scriptEngine) Words() engine.Words {
	return engine.Words{Kind: "scripts", Twice: "Give it once, with all its options",
		Overdue: "have the script look at cancelled() of the module ferrule", Import: "import=", Start: "its top level", Starting: "its top level"}
}

// Fault is engine.Engine's.
func (e *scriptEngine) Fault() error { return e.fault }

// Recognises is engine.Engine's.
func (e *scriptEngine) Recognises(f *engine.File) bool {
	head, err := f.Head()
	return err == nil && languageOf(f.Path, head) != nil
}

// languageOf is what a file that begins with head is a script in, by its header, or, where it has none, by what it is called; or nil.
func languageOf(path string, head []byte) *language {
	format := inspect.ScriptOf(head)
	if format == "" && (inspect.Recognises(head) || inspect.IsWasm(head)) {
		return nil
	}
	i := slices.IndexFunc(languages, func(l *language) bool {
		return l.format == format || format == "" && slices.Contains(l.extensions, strings.ToLower(filepath.Ext(path)))
	})
	if i < 0 {
		return nil
	}
	return languages[i]
}

// maxScript is the longest script, in bytes.
const maxScript = 16 << 20

// Open is engine.Engine's.
func (e *scriptEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	text, err := f.Bytes(o.SHA256, maxScript)
	if err != nil {
		return nil, nil, err
	}
	head := text[:min(len(text), engine.HeadSize)]
	in := languageOf(f.Path, head)
	if inspect.ScriptOf(head) == "" {
		return nil, nil, withoutHeader(f.Path, in, text)
	}
	if in == python && e.python == "" {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrNoEngine, Found: "a script in Python", Expected: "the adapter that runs it",
			Remedy: "Build it with script.BuildPython, and give script.WithPython its path"}
	}
	lib, err := inspect.Read(bytes.NewReader(text), int64(len(text)))
	if e, ok := err.(*inspect.Error); ok {
		e.SetPath(f.Path)
	}
	if err != nil {
		return nil, nil, err
	}
	about := &lib.Description
	ordinals := about.Ordinals()
	if n := max(len(about.Funcs)+len(about.Hooks), len(ordinals)); n > MaxFunctions {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrManifest, Found: fmt.Sprintf("%d functions, or host functions, in the header", n), Expected: fmt.Sprintf("%d at most of each", MaxFunctions),
			Remedy: "Make several scripts of it"}
	}
	imports, err := newFiles(f.Path, o.SHA256 != nil)
	if err != nil {
		return nil, nil, err
	}
	starts := &startup{in: in, script: string(text), name: imports.name, memory: e.memory, about: about}
	inner := *o
	runs, adapter := e.inner, engine.Memory(f.Path, interpreter)
	switch {
	case in == python:
		runs, adapter = e.inPython, &engine.File{Path: e.python}
		starts.name, starts.venv = filepath.Join(imports.folder, imports.name), e.venv
		if !utf8.ValidString(starts.name) {
			return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrManifest, Found: fmt.Sprintf("the path %q, which is no UTF-8", starts.name), Expected: "one that is", Remedy: "Name the script otherwise"}
		}
		if i := invalid(text); i >= 0 {
			return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrManifest, Found: fmt.Sprintf("line %d: bytes that are no UTF-8", 1+bytes.Count(text[:i], []byte("\n"))), Expected: "UTF-8, whatever coding the script names",
				Remedy: "Save it so"}
		}
		starts.script = strings.TrimPrefix(starts.script, "\ufeff")
	case e.adapter != "":
		adapter = &engine.File{Path: e.adapter}
	}
	defer adapter.Close()
	inner.SHA256, inner.Config, inner.Owner = nil, starts.with(o.Config), about.Manifest.Name
	p, _, err := runs.Open(ctx, adapter, &inner, func(found *abi.Description) (engine.Host, error) {
		if m := found.Manifest; m.Name != in.adapter || m.Version != adapterVersion {
			return nil, &inspect.Error{Path: adapter.Path, Kind: loader.ErrOption, Found: fmt.Sprintf("%s %s as the adapter of %s", m.Name, m.Version, in.format),
				Expected: in.adapter + " " + adapterVersion, Remedy: "Build it from the folder " + in.folder + " of this version of the module"}
		}
		if in == python && e.venv != "" {
			if err := ofPython(e.venv, found.Manifest.Keys.Get("permit.read")); err != nil {
				return nil, err
			}
		}
		host, err := accept(about)
		if err != nil {
			return nil, err
		}
		reads := imports
		if in == python {
			reads = nil
		}
		return &scriptHost{host, reads, len(ordinals)}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	own := &plugin{p, starts}
	if isolated, ok := p.(engine.Isolated); ok {
		return &isolatedPlugin{own, isolated}, about, nil
	}
	return own, about, nil
}

// headerLine is a line of a header, wherever it stands.
var headerLine = regexp.MustCompile(`(?m)^[ \t]*(//|#)[ \t]*ferrule:[ \t]*\S`)

// withoutHeader is the error of a script that begins with none. in is nil of a file that is none by its name either.
func withoutHeader(path string, in *language, text []byte) error {
	e := &inspect.Error{Path: path, Kind: loader.ErrManifest, Found: "no header", Remedy: "Write one"}
	switch at := headerLine.FindIndex(text); {
	case inspect.Recognises(text):
		e.Found, e.Remedy = "native code", "Open it with loader.Native(), or in a worker with isolate.InWorker()"
	case inspect.IsWasm(text):
		e.Found, e.Remedy = "a WebAssembly module", "Open it with wasm.Engine()"
	case at == nil:
	case in == python && inspect.RunsOther(text) != "":
		e.Found, e.Expected = fmt.Sprintf("a first line that names no Python that is known, %.100q", inspect.RunsOther(text)), "one that names Python, such as #!/usr/bin/env python3, or none with #!"
		e.Remedy = "Write that line, or take it out"
		return e
	case at[0] >= engine.HeadSize-len("// ferrule: ") && inspect.ScriptOf(text) != "":
		e.Found, e.Remedy = fmt.Sprintf("its header in line %d, behind other comments", 1+bytes.Count(text[:at[0]], []byte("\n"))), "Move it up"
	default:
		e.Found, e.Remedy = fmt.Sprintf("its header in line %d, behind a statement", 1+bytes.Count(text[:at[0]], []byte("\n"))), "Move it up"
	}
	if in == nil {
		in = javascript
	}
	e.Expected = fmt.Sprintf("a comment such as %s, before the first statement and in the first %d bytes", in.header, engine.HeadSize)
	return e
}

// ofPython is what is wrong with a virtual environment for an adapter that reads these folders: it was made by another Python, whose library is not that of the adapter's.
func ofPython(venv, reads string) error {
	library, _, _ := strings.Cut(reads, "\n") // PREFIX/lib/python3.11
	own := filepath.Join(filepath.Dir(filepath.Dir(library)), "bin", filepath.Base(library))
	folder := filepath.Dir(filepath.Dir(venv))
	text, err := os.ReadFile(filepath.Join(folder, "pyvenv.cfg"))
	if err != nil {
		return nil // Python says so
	}
	home := ""
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "home" {
			home = strings.TrimSpace(value)
		}
	}
	is, err := filepath.EvalSymlinks(own)
	if home == "" || err != nil {
		return nil
	}
	if of, err := filepath.EvalSymlinks(filepath.Join(home, filepath.Base(library))); err != nil || of != is {
		return &inspect.Error{Path: folder, Kind: loader.ErrOption, Found: "a virtual environment of the Python in " + home, Expected: "one of " + own + ", which the adapter embeds",
			Remedy: "Make it by " + own + " -m venv, or build the adapter by script.BuildPython with the python3-config of the other"}
	}
	return nil
}

// invalid is where text is no UTF-8; -1 where all of it is.
func invalid(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// startup makes what an adapter's ferrule_start gets, and its ferrule_configure.
type startup struct {
	in           *language
	script, name string
	venv         string
	memory       int64
	about        *abi.Description
}

// with is that with these settings.
func (s *startup) with(settings []byte) []byte {
	var functions, ordinals []string
	for _, symbols := range [][]abi.Symbol{s.about.Funcs, s.about.Hooks} {
		for _, symbol := range symbols {
			kind := "t"
			switch media, _, _ := strings.Cut(symbol.In, ";"); {
			case media == "application/json" || strings.HasSuffix(media, "+json"):
				kind = "j"
			case media != "" && !strings.HasPrefix(media, "text/"):
				kind = "b"
			}
			functions = append(functions, kind+symbol.Name)
		}
	}
	for _, service := range []struct {
		has  bool
		name string
	}{{s.about.HasConfigure, "configure"}, {s.about.HasSave, "save"}, {s.about.HasResume, "resume"}, {s.about.HasStop, "stop"}} {
		if service.has {
			functions = append(functions, "s"+service.name)
		}
	}
	for _, symbol := range s.about.Ordinals() {
		ordinals = append(ordinals, symbol.Name)
	}
	parts := []string{s.in.module, s.name, s.script, strings.Join(functions, "\n"), strings.Join(ordinals, "\n"), string(settings), fmt.Sprint(s.memory) + "\x00", s.venv}
	var b []byte
	for _, part := range parts {
		n := uint32(len(part))
		b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		b = append(b, part...)
	}
	return b
}

// plugin is an open script.
type plugin struct {
	engine.Plugin
	starts *startup
}

// isolatedPlugin is one whose interpreter is in a worker.
type isolatedPlugin struct {
	*plugin
	engine.Isolated
}

// Configure is engine.Configurable's.
func (p *plugin) Configure(ctx context.Context, config []byte) ([]byte, abi.Status, error) {
	return p.Plugin.(engine.Configurable).Configure(ctx, p.starts.with(config))
}

// NewSession is engine.Sessions'.
func (p *plugin) NewSession(ctx context.Context, config []byte) (engine.Plugin, error) {
	if config != nil {
		config = p.starts.with(config)
	}
	return p.Plugin.(engine.Sessions).NewSession(ctx, config)
}

// Hold is engine.Holder's.
func (p *plugin) Hold(ctx context.Context) (engine.Hold, error) {
	return p.Plugin.(engine.Holder).Hold(ctx)
}

// scriptHost is a script's host for the adapter that runs it.
type scriptHost struct {
	engine.Host
	files *files // nil for Python
	known int    // how many host functions the script may call
}

// Call is engine.Host's.
func (h *scriptHost) Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	switch {
	case ordinal == MaxFunctions && h.files != nil:
		return h.files.read(string(in))
	case ordinal == MaxFunctions:
		return nil, abi.StatusUnsupported // Python reads its files itself, as far as a sandbox lets it
	case ordinal < MaxFunctions && int(ordinal) >= h.known:
		return nil, abi.StatusUnsupported
	}
	return h.Host.Call(ctx, ordinal, in)
}

package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// Plugin is an open plug-in. Its methods may be called from any goroutine at the same time.
//
// How many calls it runs at once is what its manifest says: by default one for each instance, and the others wait, until their context
// ends; see WithInstances, and WithMaxCalls for concurrent plug-ins.
//
// What the host passes in, which are contexts, host functions and log handlers, may panic, block or call plug-ins: nothing of the
// plug-in's is locked meanwhile, but for the instance whose call it is.
type Plugin struct {
	info   *abi.Description
	engine engine.Plugin
	funcs  map[string]*Func
	hooks  map[string]*Func

	timeout time.Duration // of each call; 0 is none
	resumed bool          // it was opened with a state (WithState)
	quick   bool          // functions may be entered by the quick crossing (WithQuick)
}

// Open loads the plug-in at path and starts it: native code in this process, or what the engine opens that an option has chosen (see
// WithEngine, package isolate and package builtin). The error is an *OpenError.
//
// Opening the same file again gives another plug-in with its own instances, on the library that is loaded already. A
// file that was replaced since then is loaded anew, from a private copy of it as in WithPrivateCopy: the system would hand
// out the old one.
//
// The file that was opened is the file: it is opened once, and what was read from it is what is loaded, and what the
// workers of an isolated plug-in load later, whatever is at the path by then. But the library of a plug-in in this process
// is the file itself, which the system reads from as it runs: never overwrite it in place (cp, a linker, rsync --inplace),
// or the process runs a mixture of both, or ends by SIGBUS. Write the new version beside it and rename it over the old one
// (mv, install), or open it with WithPrivateCopy, or isolated.
//
// Before anything of the library runs, its file was read and found to be a plug-in for this platform, with every host
// function that it needs on offer. Nothing is left behind when Open fails, but that a library whose ferrule_start
// failed stays loaded (see WithUnload).
//
// While a library's constructors run, the system's loader lets no other library be loaded or unloaded; nothing else waits
// for them. See OpenContext for a bound.
func Open(path string, opts ...Option) (*Plugin, error) {
	return OpenContext(context.Background(), path, opts...)
}

// OpenContext is Open, which it gives up when ctx ends. The error is an *OpenError then, which wraps the cause of ctx.
//
// What was given up goes on in the background as far as it cannot be ended: in this process the library's constructors and
// its ferrule_start do. When they return, the plug-in is closed; the library stays loaded, as after Close. The worker of an
// isolated plug-in is killed.
//
// Only Open itself is bound to ctx: the plug-in is not, and host functions do not get it when ferrule_start calls them.
func OpenContext(ctx context.Context, path string, opts ...Option) (*Plugin, error) {
	o := options{instances: 1, logger: slog.Default()}
	if err := o.apply(path, opts); err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, &OpenError{Path: path, Kind: ErrOption, Found: "OpenContext with nil for a context", Expected: "a context",
			Remedy: "Call Open, or pass context.Background()"}
	}
	if ctx.Err() != nil {
		return nil, &OpenError{Path: path, Kind: ErrStart, Err: fmt.Errorf("not opened: the context had ended before: %w", engine.Cause(ctx)),
			Remedy: "Pass a context that has not ended"}
	}
	done := ctx.Done()
	if done == nil {
		return o.open(context.Background(), path)
	}
	type outcome struct {
		plugin *Plugin
		err    error
	}
	opened := make(chan outcome)
	go func() {
		// Also when a host function, called by ferrule_start, ends this goroutine.
		r := outcome{err: &OpenError{Path: path, Kind: ErrStart, Found: "a host function that ended the goroutine in which the plug-in was started",
			Expected: "one that returns", Remedy: "Do not call runtime.Goexit, or t.FailNow, in a host function"}}
		defer func() {
			select {
			case opened <- r:
			case <-done:
				if r.plugin != nil {
					_ = r.plugin.Close() // there is nobody to tell
				}
			}
		}()
		r.plugin, r.err = o.open(bound{context.Background(), done}, path)
	}()
	select {
	case r := <-opened:
		if r.err == errGivenUp {
			return nil, o.gaveUp(path, ctx)
		}
		return r.plugin, r.err
	case <-done:
		return nil, o.gaveUp(path, ctx)
	}
}

// bound ends when a caller's context does. Nothing else of that is asked but by the caller's own goroutine: a context is
// foreign code, which may panic where nobody is to recover, or while something is taken.
type bound struct {
	context.Context // the background
	done            <-chan struct{}
}

func (b bound) Done() <-chan struct{} { return b.done }

func (b bound) Err() error {
	select {
	case <-b.done:
		return errGivenUp
	default:
		return nil
	}
}

// errGivenUp becomes what gaveUp says.
var errGivenUp = errors.New("given up")

func (o *options) gaveUp(path string, ctx context.Context) error {
	words := native.Engine{}.Words()
	if len(o.engines) == 1 {
		words = o.engines[0].Words()
	}
	return &OpenError{Path: path, Kind: ErrStart, Err: engine.Cause(ctx), Remedy: "Give it more time, or look for what " + words.Starting + " may wait for"}
}

// open is OpenContext without giving up where the native engine cannot. ctx is a bound, or the background.
func (o *options) open(ctx context.Context, path string) (*Plugin, error) {
	eng, info, err := o.start(ctx, path)
	if err != nil {
		return nil, err
	}
	p := &Plugin{info: info, engine: eng, timeout: o.timeout, resumed: o.state != nil, quick: o.quick}
	p.funcs, p.hooks = p.functions(eng)
	return p, nil
}

// functions returns the plug-in's functions and its hooks by name, as e has them.
func (p *Plugin) functions(e engine.Plugin) (funcs, hooks map[string]*Func) {
	funcs, hooks = make(map[string]*Func, len(p.info.Funcs)), make(map[string]*Func, len(p.info.Hooks))
	for i, s := range p.info.Funcs {
		funcs[s.Name] = p.newFunc(e, i, s.Name)
	}
	for i, s := range p.info.Hooks {
		hooks[s.Name] = p.newFunc(e, len(p.info.Funcs)+i, s.Name)
	}
	return funcs, hooks
}

func (p *Plugin) newFunc(e engine.Plugin, index int, name string) *Func {
	if q, ok := e.(engine.Quick); ok && p.quick {
		if quick := q.Quick(index); quick != nil {
			e = quick
		}
	}
	f := &Func{p, e, engine.Fn{Index: index}, name}
	if p.timeout > 0 {
		f.fn.Limit = &engine.Limit{After: p.timeout, By: "loader.WithCallTimeout", Func: name}
	}
	return f
}

// start has the engine that the options ask for open the plug-in.
func (o *options) start(ctx context.Context, path string) (engine.Plugin, *abi.Description, error) {
	f := &engine.File{Path: path}
	defer f.Close()
	e, err := o.engineFor(f)
	if err != nil {
		return nil, nil, err
	}
	name := path
	var state [][]byte
	if o.state != nil {
		state = o.state.saved
	}
	p, info, err := e.Open(ctx, f, &engine.Options{SHA256: o.sha256, Private: o.private, Unload: o.unload, ExecStack: o.execStack, Config: o.config, State: state, Data: o.data,
		Instances: o.instances, MaxCalls: o.maxCalls},
		func(d *abi.Description) (engine.Host, error) {
			name = d.Manifest.Name
			if err := o.accept(path, d, e.Words()); err != nil {
				return nil, err
			}
			return newServices(d, o, e.Words()), nil
		})
	switch err := err.(type) {
	case nil:
		return p, info, nil
	case *engine.StartError:
		failed := startError(name, path, err)
		if len(o.config) > 0 { // an empty one is none: the plug-in cannot tell them apart
			return nil, nil, startedWith("that Open was given (WithConfig)", failed)
		}
		if failed.Remedy == ofConfiguration {
			failed.Remedy = "It was started without a configuration: give it one where it needs one (WithConfig)"
		}
		return nil, nil, failed
	case *engine.Crash:
		return nil, nil, crashAtOpen(name, path, err, e.Words())
	case *OpenError:
		if err.Path == "" { // it is about an option of the engine's
			own := *err
			own.Path = path
			return nil, nil, &own
		}
	}
	return nil, nil, err
}

// engineFor returns the engine that opens the file: where there is a choice, the first one that recognises it.
func (o *options) engineFor(f *engine.File) (engine.Engine, error) {
	if len(o.engines) == 0 {
		if err := unopened(f.Path, native.Engine{}.Words().Kind+" ("+native.Engine{}.Name()+")"); err != nil {
			return nil, err
		}
		return native.Engine{}, nil
	}
	var expected, names []string // what they open, and by which names
	var files []engine.Engine    // those that open files
	for _, e := range o.engines {
		words := e.Words()
		if words.Names == nil {
			files = append(files, e)
		} else if e.Recognises(f) {
			return e, nil
		}
		expected = append(expected, words.Kind+" ("+e.Name()+")")
		names = append(names, words.Names...)
	}
	if len(files) == len(o.engines) && len(files) == 1 {
		if scheme, _ := engine.URL(f.Path); scheme == "" || engine.OpensURLs(files[0].Name()) {
			return files[0], nil // it knows best what is wrong with a file that is not for it
		}
	}
	for _, e := range files {
		if e.Recognises(f) {
			return e, nil
		}
	}
	if err := unopened(f.Path, strings.Join(expected, " or ")); err != nil {
		return nil, err
	}
	head, err := f.Head()
	if err != nil && len(files) == 0 {
		return nil, &OpenError{Path: f.Path, Kind: ErrNoEngine, Found: "no plug-in in Go of this name, and no file", Expected: strings.Join(expected, " or "),
			Remedy: "Check the name: " + didYouMean(f.Path, names)}
	}
	var unread *OpenError
	if errors.As(err, &unread) && errors.Is(err, fs.ErrNotExist) { // it may be a name
		missing := *unread
		missing.Expected = "a file, or the name of one of the plug-ins in Go"
		missing.Remedy = "Check the path, or the name: " + didYouMean(f.Path, names)
		return nil, &missing
	}
	if len(files) == 1 {
		return files[0], nil
	}
	if err != nil {
		return nil, err
	}
	found, remedy := "a file of another kind", "Give the engine that opens such files with loader.WithEngine"
	var other *OpenError
	if _, err := inspect.File(f.Path); errors.As(err, &other) && other.Kind == ErrNotLibrary {
		found = other.Found
	}
	if inspect.Recognises(head) {
		found, remedy = "native code", "Add loader.WithEngine(loader.Native()), or isolate.InWorker()"
	}
	format := inspect.ScriptOf(head)
	if inspect.IsWasm(head) {
		format = inspect.Wasm
	}
	if where, what := native.Elsewhere(format); where != "" {
		found, remedy = where, what
	}
	if len(names) > 0 {
		remedy += "; of the names of plug-ins in Go: " + didYouMean(f.Path, names)
	}
	return nil, &OpenError{Path: f.Path, Kind: ErrNoEngine, Found: found, Expected: strings.Join(expected, " or "), Remedy: remedy}
}

// unopened returns an error where a path is a URL that no engine which was given opens, and no file has it for a name.
func unopened(path, expected string) error {
	scheme, option := engine.URL(path)
	if scheme == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return &OpenError{Path: engine.WithoutUsers(path), Kind: ErrNoEngine, Found: "a URL that begins with " + scheme + ":", Expected: expected, Remedy: "Add " + option}
}

// accept reports what the host requires and the library has not, what it needs and the options do not offer, and what they ask
// for that it cannot bear.
func (o *options) accept(path string, d *abi.Description, words engine.Words) error {
	if err := o.acceptRequired(path, d); err != nil {
		return err
	}
	if d.Manifest.Threads == abi.Pinned && o.instances > maxPinned {
		err := optionError("WithInstances", fmt.Sprintf("%d for a plug-in with threads=pinned", o.instances),
			fmt.Sprintf("1 to %d: each has a thread of its own", maxPinned)).(*OpenError)
		err.Path = path
		return err
	}
	if err := o.acceptState(path, d); err != nil {
		return err
	}
	var missing []string
	for _, s := range d.Imports {
		if o.hostFuncs[s.Name] == nil {
			missing = append(missing, s.Name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	offered := make([]string, 0, len(o.hostFuncs))
	for name := range o.hostFuncs {
		offered = append(offered, name)
	}
	slices.Sort(offered)
	offers := "the host offers none"
	if len(offered) > 0 {
		offers = "of what is offered: " + didYouMean(missing[0], offered)
	}
	return &OpenError{Path: path, Kind: ErrMissingImport, Symbol: words.Import + missing[0],
		Found:    "imports without a host function: " + strings.Join(missing, ", "),
		Expected: "every import on offer",
		Remedy:   fmt.Sprintf("Pass loader.WithHostFunc(%q, …) to Open; %s", missing[0], offers)}
}

// Inspect reads what the plug-in at path says of itself, without running any of it: name and version, functions with
// their documentation, hooks, imports, format and platform. It reads ELF, Mach-O, PE and WebAssembly files on any system. The error
// is an *OpenError.
func Inspect(path string) (*inspect.Library, error) {
	lib, err := inspect.File(path)
	if scheme, option := engine.URL(path); errors.Is(err, fs.ErrNotExist) && scheme != "" {
		return nil, &OpenError{Path: engine.WithoutUsers(path), Kind: ErrRead, Found: "a URL that begins with " + scheme + ":", Expected: "a file", Err: err,
			Remedy: "What stands behind a URL is known when it is open: call Open, with " + option}
	}
	return lib, err
}

// Isolation says where the plug-in runs: false when it is in this process, otherwise its worker, as it is now. The Isolation
// is the caller's.
func (p *Plugin) Isolation() (Isolation, bool) {
	if e, ok := p.engine.(engine.Isolated); ok {
		return Isolation(e.Isolation()), true
	}
	return Isolation{}, false
}

// Name returns the name in the plug-in's manifest, as it was when the plug-in was opened; also after Close.
func (p *Plugin) Name() string { return p.info.Manifest.Name }

// Version returns the version in the plug-in's manifest, as Name does.
func (p *Plugin) Version() string { return p.info.Manifest.Version }

// Info returns what the plug-in says of itself: its manifest, its functions, hooks and imports, as they were when it was opened.
// It is shared, and valid after Close, too: read it only.
func (p *Plugin) Info() *abi.Description { return p.info }

// Library returns what Inspect found in the file that was opened, where the plug-in is native code, isolated or not; nil with
// other engines. It is shared, and valid after Close, too: read it only.
func (p *Plugin) Library() *inspect.Library {
	if e, ok := p.engine.(interface{ Library() *inspect.Library }); ok {
		return e.Library()
	}
	return nil
}

// Func returns the exported function with this name; its Append is the hot path. The error is a *UsageError. A Func
// stays valid after Close, when its calls fail with ErrClosed.
func (p *Plugin) Func(name string) (*Func, error) { return p.funcOf(p.funcs, name) }

func (p *Plugin) funcOf(funcs map[string]*Func, name string) (*Func, error) {
	if f := funcs[name]; f != nil {
		return f, nil
	}
	if p.hooks[name] != nil {
		return nil, &UsageError{p.Name(), name, ErrNoFunc, name + " is a hook: use Hook"}
	}
	return nil, p.noFunc(name, ErrNoFunc, p.info.Funcs)
}

// Hook returns what the plug-in attaches to the extension point, as Func does for functions. The error is a
// *UsageError: the plug-in does not attach to that point.
func (p *Plugin) Hook(point string) (*Func, error) { return p.hookOf(p.hooks, point) }

func (p *Plugin) hookOf(hooks map[string]*Func, point string) (*Func, error) {
	if f := hooks[point]; f != nil {
		return f, nil
	}
	if p.funcs[point] != nil {
		return nil, &UsageError{p.Name(), point, ErrNoHook, point + " is a function: use Func"}
	}
	return nil, p.noFunc(point, ErrNoHook, p.info.Hooks)
}

// Call calls the exported function with this name and returns its result, which is the caller's. in is only read, and
// not kept. See Func.Append for the errors.
func (p *Plugin) Call(ctx context.Context, name string, in []byte) ([]byte, error) {
	f, err := p.Func(name)
	if err != nil {
		return nil, err
	}
	return f.Append(ctx, nil, in)
}

// Close refuses new calls, waits for those that run, stops every instance and frees what belongs to the plug-in. The
// library stays loaded, see WithUnload. Calls that come later, or still wait for an instance, fail with ErrClosed. A second
// Close waits for the first and returns the same. Close must not be called by a host function in a call of this
// plug-in: it would wait for itself.
//
// The worker of an isolated plug-in ends with it; a crash on the way is a *CrashError. In this process the error is nil, or, with
// WithUnload, what the system says that cannot unload the library. A ferrule_stop that fails is a log line.
func (p *Plugin) Close() error { return p.closed(p.engine.Close()) }

// Shutdown is Close with a bound. It refuses new calls at once. When ctx ends before the plug-in is closed, it returns, at
// most some 100 ms later, and what is left to do is done in the background.
//
// Isolated, the worker is killed when ctx ends: calls in it fail with a *CrashError, and Shutdown returns one, too; or a
// *ShutdownError, when calls have not come back although their worker is dead, because a host function or whoever holds a
// View has them. In this process nothing can be ended: the error is a *ShutdownError that says what still runs. It may be the
// library's destructors, with WithUnload.
//
// A Close or another Shutdown at the same time waits for the same end, each within its own bound. Without a bound, as when ctx
// cannot end, the errors are those of Close. A nil ctx is a *UsageError, and closes nothing.
func (p *Plugin) Shutdown(ctx context.Context) error { return p.closed(p.engine.Shutdown(ctx)) }

// closed dresses an engine's error of Close or Shutdown.
func (p *Plugin) closed(err error) error {
	switch err := err.(type) {
	case *engine.Crash:
		if err.Unasked {
			return crashError(p.Name(), "", err)
		}
		return crashError(p.Name(), abi.SymbolStop, err)
	case *engine.Unfinished:
		return &ShutdownError{p.Name(), err.Calls, err.Views, err.Cause, err.Unloading}
	}
	if err == engine.ErrNilContext {
		return callError(p.Name(), "", 0, nil, err, nil)
	}
	return err
}

func (p *Plugin) noFunc(name string, kind error, symbols []abi.Symbol) error {
	names := make([]string, len(symbols))
	for i, s := range symbols {
		names[i] = s.Name
	}
	return &UsageError{p.Name(), name, kind, didYouMean(name, names)}
}

// Func is one exported function or hook of an open plug-in. It may be used from any goroutine at the same time.
type Func struct {
	plugin *Plugin
	engine engine.Plugin // the plug-in's, or a session's
	fn     engine.Fn
	name   string
}

// Name returns the function's name, or the hook's extension point.
func (f *Func) Name() string { return f.name }

// Quick reports whether Append, Call and Try enter the function by the quick crossing (WithQuick). It is false where the function
// does not say that it is quick, where the plug-in is pinned, isolated or no native code, and where the platform or this Go release
// has no quick crossing; and for good once the function was found not to keep its promise. Any goroutine may ask, at any time.
func (f *Func) Quick() bool {
	q, ok := f.engine.(engine.QuickPlugin)
	return ok && q.IsQuick(f.fn.Index)
}

// Call is Append into a new slice, which is the caller's.
func (f *Func) Call(ctx context.Context, in []byte) ([]byte, error) { return f.Append(ctx, nil, in) }

// Append calls the function with in, and appends its result to dst, as the built-in append does: into dst's spare
// capacity where that is enough, and then nothing is allocated and the plug-in writes straight into dst. in is only
// read. Neither is kept. in and dst's spare capacity must not overlap.
//
// When ctx ends while the function runs, or its limit is over (WithCallTimeout, Func.WithTimeout), it is asked to stop, and Append returns what it then
// returns. When ctx has ended before, or ends while Append waits for an instance, the function is not called.
//
// With an error, dst is returned as it was, and its spare capacity may have been written to. The error is a *CallError, a
// *ContractError or a *UsageError, or an *OpenError when the instance had panicked before and could not be started anew.
// Isolated, it may be a *CrashError or a *DeadlineError, and an *OpenError when a new worker could not open the plug-in.
//
// In this process the function runs on the thread of the calling goroutine, or on the instance's own with threads=pinned.
func (f *Func) Append(ctx context.Context, dst, in []byte) ([]byte, error) {
	out, status, err := f.engine.Append(ctx, f.fn, dst, in)
	if err != nil || status != 0 {
		return dst, f.error(status, out[len(dst):], err, ctx)
	}
	return out, nil
}

// Try is Append that makes no error of a status: of FERRULE_PASS, by which a plug-in says that it has nothing to say to
// this input (rule R22), or of any other. With a status other than abi.StatusOK, what was appended is the plug-in's message, which may be
// no UTF-8; no error is made of it, so that a call that is declined costs what a call costs (StatusError makes one). The error says why there is no status, as
// Append's does; a *CallError among them is the loader's own, or says that the function has stopped because its limit was over.
func (f *Func) Try(ctx context.Context, dst, in []byte) ([]byte, Status, error) {
	out, status, err := f.engine.Append(ctx, f.fn, dst, in)
	if err == nil {
		return out, status, nil
	}
	return dst, 0, f.noStatus(ctx, err, status, out[len(dst):])
}

// StatusError makes the error of a status that Try has returned for ctx, which is Append's: a *CallError, in which errors.Is finds why the context has ended
// where that is why. message is what Try has appended; it is copied. The status is not abi.StatusOK.
func (f *Func) StatusError(ctx context.Context, status Status, message []byte) error {
	return f.error(status, message, nil, ctx)
}

// noStatus makes an error of an engine's. It is kept out of line: what it takes in line makes Try slower.
//
//go:noinline
func (f *Func) noStatus(ctx context.Context, err error, status Status, message []byte) error {
	return f.error(status, message, err, ctx)
}

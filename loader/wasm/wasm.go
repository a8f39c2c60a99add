package wasm

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/contract"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/extism"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/folder"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/guest"
)

// Option is one choice of Engine's; see the With… functions. Each is given once. Making one does not fail: what is wrong with it is a
// *loader.OpenError of the kind loader.ErrOption, which Open returns.
type Option func(*options) error

type options struct {
	limits  guest.Limits
	folder  string // of the compilation cache
	http    *extism.HTTP
	folders []folder.Permit
	given   engine.Given
}

// DefaultMemory is how much memory an instance may have without WithMemory, in bytes.
const DefaultMemory = 256 << 20

// Engine returns an engine for loader.WithEngine that opens WebAssembly modules. It can be used for any number of plug-ins, at the same time, too:
// each has its own memory.
func Engine(opts ...Option) engine.Engine {
	e := &wasmEngine{options: options{limits: guest.Limits{Memory: DefaultMemory, Grace: 500 * time.Millisecond}, given: engine.Given{By: by}}}
	e.fault = engine.Take(&e.given, &e.options, opts)
	if e.fault == nil && e.folder != "" {
		var err error
		if e.limits.Cache, err = guest.NewCache(e.folder); err != nil {
			e.fault = &loader.OpenError{Kind: loader.ErrOption, Found: "wasm.WithCache with a folder that cannot be used", Expected: "one that can be written to", Err: err,
				Remedy: "Give another folder"}
		}
	}
	return e
}

// by is the package's name, as errors have it.
const by = "wasm"

func faulty(option, found, expected string) error {
	return (&engine.Given{By: by}).Faulty(option, found, expected)
}

func once(name string, set func(*options) error) Option {
	return func(o *options) error {
		if err := o.given.Once(name); err != nil {
			return err
		}
		return set(o)
	}
}

// WithMemory sets how much memory an instance may have, in bytes, from 64 KiB to 4 GiB, rounded down to 64 KiB; without it DefaultMemory. An instance of a plug-in
// of Extism's has it together with what Extism's kernel keeps for it: inputs, results, variables' copies. A module that
// needs more at once fails to open; one that asks for more while it runs is told that there is none, as malloc tells it.
func WithMemory(n int64) Option {
	return once("WithMemory", func(o *options) error {
		o.limits.Memory = n
		if n < guest.PageSize || n > 1<<32 {
			return faulty("WithMemory", fmt.Sprint(n), "65536 to 4294967296")
		}
		return nil
	})
}

// WithFuel sets how many loops and functions a call may run, each round of a loop counted, n of 1 or more; without it any number. It is the same for the same call
// every time, on every machine. A call that has used it is ended: loader.ErrPanic, and the instance is started anew.
func WithFuel(n int64) Option {
	return once("WithFuel", func(o *options) error {
		o.limits.Fuel = n
		if n < 1 {
			return faulty("WithFuel", fmt.Sprint(n), "1 or more")
		}
		return nil
	})
}

// WithGrace sets how long a function may go on after its context has ended, or its limit is over (loader.WithCallTimeout), before it is ended; without it half a
// second. The call fails with a *loader.DeadlineError then, and the instance is started anew. d is more than 0.
func WithGrace(d time.Duration) Option {
	return once("WithGrace", func(o *options) error {
		o.limits.Grace = d
		if d <= 0 {
			return faulty("WithGrace", d.String(), "more than 0")
		}
		return nil
	})
}

// WithCache sets a folder where compiled modules are kept, so that the next process that opens one need not compile it. Who can write to it can run
// code in this process: it is to be this user's alone. It is made where it is missing.
func WithCache(folder string) Option {
	return once("WithCache", func(o *options) error {
		o.folder = folder
		if folder == "" {
			return faulty("WithCache", "an empty path", "a folder")
		}
		return nil
	})
}

// WithFolder lets modules that use WASI see a folder, with all that is in it, as if it stood at the path at, such as "/data"; with write they may change what is
// there, too. In place of a folder it may be a file. Symbolic links in it are followed as long as they do not lead out of it, and modules can neither make nor move any; all instances together have 256 open files; what is neither a
// regular file nor a folder cannot be opened. It has to be there when a plug-in is opened, which keeps the one that is there then. It is given once for each path.
func WithFolder(at, path string, write bool) Option {
	return once("WithFolder of "+at, func(o *options) error {
		if at == "" || path == "" {
			return faulty("WithFolder", fmt.Sprintf("%q at %q", path, at), "a folder, and where it is to be seen")
		}
		o.folders = append(o.folders, folder.Permit{At: at, Path: path, Write: write})
		return nil
	})
}

// WithHTTP lets plug-ins of Extism's make HTTP requests to these hosts, each a name, or a pattern as path.Match takes it; "*" is all. Without it none may be made. A request
// that is refused, or fails, ends the call, as it does in Extism's own hosts. Plug-ins of Ferrule's have no HTTP but through host functions.
func WithHTTP(hosts ...string) Option {
	return once("WithHTTP", func(o *options) error {
		o.http = &extism.HTTP{Hosts: slices.Clone(hosts), Headers: true}
		return nil
	})
}

type wasmEngine struct {
	options
	fault error
}

// Name is engine.Engine's.
func (e *wasmEngine) Name() string { return "wasm.Engine" }

// Words is engine.Engine's.
func (e *wasmEngine) Words() engine.Words {
	return engine.Words{Kind: engine.WebAssembly, Twice: "Give it once, with all its options",
		Overdue: fmt.Sprintf("it is ended %v after it was asked to (wasm.WithGrace). Have it look at ferrule_cancelled", e.limits.Grace),
		Import:  abi.PrefixImport, Start: abi.SymbolStart, Starting: "the module's constructors or its ferrule_start"}
}

// Fault is engine.Engine's.
func (e *wasmEngine) Fault() error { return e.fault }

// Memory is engine.Permitting's.
func (e *wasmEngine) Memory() int64 { return e.limits.Memory }

// With is engine.Permitting's: paths are seen where they are, and there is no network.
func (e *wasmEngine) With(p engine.Permits) (engine.Engine, error) {
	if len(p.Connect) > 0 || len(p.Listen) > 0 {
		return nil, &inspect.Error{Kind: loader.ErrOption, Found: "ports that it may " + network(p), Expected: "none: a WebAssembly module has no network",
			Remedy: "Offer it a host function for what it needs there, or take the plug-in as a library"}
	}
	own := *e
	own.folders = slices.Clone(e.folders)
	for _, list := range []struct {
		paths []string
		write bool
	}{{p.Read, false}, {p.Write, true}} {
		for _, path := range list.paths {
			own.folders = append(own.folders, folder.Permit{At: filepath.ToSlash(path), Path: path, Write: list.write})
		}
	}
	if p.Memory > 0 {
		if p.Memory < guest.PageSize {
			return nil, &inspect.Error{Kind: loader.ErrOption, Found: fmt.Sprintf("memory of %d bytes", p.Memory), Expected: "65536 or more: modules have it in pieces of that size",
				Remedy: "Permit more"}
		}
		own.limits.Memory = min(p.Memory, 1<<32)
	}
	return &own, nil
}

func network(p engine.Permits) string {
	var all []string
	for _, port := range p.Connect {
		all = append(all, fmt.Sprintf("connect to (%d)", port))
	}
	for _, port := range p.Listen {
		all = append(all, fmt.Sprintf("listen on (%d)", port))
	}
	return strings.Join(all, ", ")
}

// Recognises is engine.Engine's.
func (e *wasmEngine) Recognises(f *engine.File) bool {
	head, err := f.Head()
	return err == nil && bytes.HasPrefix(head, []byte("\x00asm"))
}

// maxModule is the longest module, in bytes.
const maxModule = 1 << 30

// Open is engine.Engine's.
func (e *wasmEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	module, err := f.Bytes(o.SHA256, maxModule)
	if err != nil {
		return nil, nil, err
	}
	lib, err := inspect.Read(bytes.NewReader(module), int64(len(module)))
	if e, ok := err.(*inspect.Error); ok {
		e.SetPath(f.Path)
	}
	if err != nil {
		return nil, nil, err
	}
	lib.SetPath(f.Path)
	if lib.Format != inspect.Wasm {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrNoEngine, Found: "native code", Expected: "WebAssembly (wasm.Engine)",
			Remedy: "Add loader.WithEngine(loader.Native()), or isolate.InWorker()"}
	}
	host, err := accept(&lib.Description)
	if err != nil {
		return nil, nil, err
	}
	r, err := guest.New(context.Background(), e.limits)
	if err != nil {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrLoad, Found: "an error of the runtime", Err: err, Remedy: "See what it says"}
	}
	own := &plugin{runtime: r}
	if own.folders, err = e.open(f.Path, o.Data); err != nil {
		own.free()
		return nil, nil, err
	}
	code, err := e.code(own, f.Path, module, lib, o)
	if err != nil {
		own.free()
		return nil, nil, err
	}
	if own.Pool, err = pool.Open(ctx, code, host, o); err != nil {
		own.free()
		return nil, nil, err
	}
	return own, &lib.Description, nil
}

// open opens what a plug-in's module may see. data is the folder of its own; "" is none.
func (e *wasmEngine) open(path, data string) (*folder.Folders, error) {
	all := slices.Clone(e.folders)
	if data != "" {
		all = append(all, folder.Permit{At: filepath.ToSlash(data), Path: data, Write: true})
	}
	folders, err := folder.Open(all)
	if err != nil {
		return nil, &inspect.Error{Path: path, Kind: loader.ErrOption, Found: "a path that the module is to see, where " + err.Error(), Expected: "a folder or a file that is there", Err: err,
			Remedy: "Make it, or leave it out"}
	}
	return folders, nil
}

// code compiles a module by the contract that it keeps.
func (e *wasmEngine) code(p *plugin, path string, module []byte, lib *inspect.Library, o *engine.Options) (*pool.Code, error) {
	if lib.Extism {
		return e.extismCode(p, path, module, &lib.Description, o)
	}
	beside := ""
	if abs, err := engine.Absolute(path); err == nil {
		beside = filepath.Dir(abs)
	}
	code, err := contract.New(context.Background(), p.runtime, module, &lib.Description, beside, p.config)
	if err != nil {
		return nil, refused(path, err)
	}
	return code.Pool(max(runtime.GOMAXPROCS(0)-o.Instances, 0)), nil
}

// plugin is an open one.
type plugin struct {
	*pool.Pool
	runtime *guest.Runtime
	folders *folder.Folders
}

// config is what an instance has of WASI: the time, random numbers, and the folders that it may see.
func (p *plugin) config() wazero.ModuleConfig {
	seen := wazero.NewFSConfig()
	p.folders.Each(func(at string, of sys.FS) { seen = seen.(sysfs.FSConfig).WithSysFSMount(of, at) })
	return wazero.NewModuleConfig().WithSysWalltime().WithSysNanotime().WithFSConfig(seen)
}

// free frees what the plug-in has. Nothing of it runs.
func (p *plugin) free() {
	_ = p.runtime.Close(context.Background())
	if p.folders != nil {
		p.folders.Close()
	}
}

// Close is engine.Plugin's.
func (p *plugin) Close() error {
	err := p.Pool.Close()
	p.free()
	return err
}

// Shutdown is engine.Plugin's. What still runs when ctx ends keeps the module until it has ended.
func (p *plugin) Shutdown(ctx context.Context) error {
	err := p.Pool.Shutdown(ctx)
	if err == nil {
		p.free()
		return nil
	}
	go func() { _ = p.Close() }()
	return err
}

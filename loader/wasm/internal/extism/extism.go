// Package extism runs Extism's plug-ins, unmodified, on wazero.
//
// Extism's contract is a module of its own, the kernel: it keeps the blocks of bytes that a plug-in and its host exchange. Most of what a plug-in
// imports is exported by the kernel, so the two are linked directly, and no call between them passes through Go. The rest, configuration,
// variables, logs, HTTP and the host's own functions, is written here, and means what it means in Extism's Go SDK, version 1.7.1.
//
// A plug-in can write anywhere in the kernel's memory, so what the kernel says is not trusted, and it can be made to loop for ever: who limits the
// plug-in's time limits the kernel's, too, which is why both are compiled, prepared and entered in the same way.
package extism

import (
	"context"
	_ "embed" // for the kernel
	"errors"
	"path"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

// kernel is extism-runtime.wasm of github.com/extism/go-sdk v1.7.1. Its licence is in kernel.LICENSE.
//
//go:embed kernel.wasm
var kernel []byte

// The modules that a plug-in imports from.
const (
	moduleEnv  = "extism:host/env"  // Extism's own functions
	moduleUser = "extism:host/user" // the host's functions
	moduleWASI = "wasi_snapshot_preview1"
)

// The modules that the shim imports from; only it sees these names.
const (
	fromKernel = "kernel"
	fromHost   = "host"
)

// Host is what an instance calls.
type Host interface {
	// Call runs the host function with this place in the imports that Compile was given. Its output is copied before anything else of the
	// instance runs; where the status is not abi.StatusOK it is a message, and the plug-in's call is ended with a *HostError.
	Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status)
	// Context is that of the call that runs: it ends what the host does for the plug-in.
	Context() context.Context
	// Log takes a line whose level Offer.Level lets through. text is valid until Log returns.
	Log(ctx context.Context, level abi.Level, text []byte)
}

// Offer says what a plug-in is given.
type Offer struct {
	Config map[string]string
	// Level is the least important level that is logged; 0 logs nothing.
	Level abi.Level
	// Vars is how many bytes the variables of an instance may take, as Extism counts them; 0 is DefaultVars, less than 0 refuses all.
	Vars int64
	// HTTP is how the plug-in may make requests; nil refuses all.
	HTTP *HTTP
}

// DefaultVars is how many bytes the variables of an instance may take without Offer.Vars.
const DefaultVars = 1 << 20

// Compiler compiles a module. It may add what limits it first.
type Compiler func(ctx context.Context, module []byte) (wazero.CompiledModule, error)

// Invoker enters a function of an instance. stack is as wazero's CallWithStack has it. An error that has an ExitCode() uint32 says that the module ended
// itself.
type Invoker func(f api.Function, stack []uint64) error

// Code is a plug-in that is compiled. It may be used by any goroutine.
type Code struct {
	rt                 wazero.Runtime
	kernel, shim, main wazero.CompiledModule
	host, hostUser     api.Module // the same for every instance
	offer              Offer
	instances          instances
}

// Compile compiles a plug-in for a runtime that has WASI. imports are the names of the host's functions, by their ordinals. The error is an *ImportError
// where the plug-in needs what is not offered, and otherwise compile's or wazero's. Closing the runtime frees what Compile made.
func Compile(ctx context.Context, rt wazero.Runtime, compile Compiler, module []byte, imports []string, offer *Offer) (*Code, error) {
	c := &Code{rt: rt, offer: *offer}
	if c.offer.Vars == 0 {
		c.offer.Vars = DefaultVars
	}
	if h := c.offer.HTTP; h != nil {
		for _, pattern := range h.Hosts {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, &PatternError{pattern}
			}
		}
	}
	var err error
	if c.kernel, err = compile(ctx, kernel); err != nil {
		return nil, err
	}
	if c.main, err = compile(ctx, module); err != nil {
		return nil, err
	}
	known := make(map[string]signature)
	for name, d := range c.kernel.ExportedFunctions() {
		known[name] = signature{d.ParamTypes(), d.ResultTypes()}
	}
	host := rt.NewHostModuleBuilder(fromHost)
	own := c.services()
	for _, s := range own {
		known[s.name] = s.signature
		c.export(host, s)
	}
	env, user, err := sortImports(c.main, known, imports)
	if err != nil {
		return nil, err
	}
	if c.host, err = start(ctx, rt, host); err != nil {
		return nil, err
	}
	if len(user) > 0 {
		b := rt.NewHostModuleBuilder(fromHost)
		for _, u := range user {
			c.export(b, c.hostFunction(u))
		}
		if c.hostUser, err = start(ctx, rt, b); err != nil {
			return nil, err
		}
	}
	mine := make(map[string]bool)
	for _, s := range own {
		mine[s.name] = true
	}
	if c.shim, err = rt.CompileModule(ctx, shim(env, mine)); err != nil {
		return nil, err
	}
	return c, nil
}

// start instantiates a module of Go functions, without a name: a runtime may have any number of them.
func start(ctx context.Context, rt wazero.Runtime, b wazero.HostModuleBuilder) (api.Module, error) {
	return fuel.Instantiate(ctx, rt, b, wazero.NewModuleConfig().WithName(""))
}

// Instance is an instance of a plug-in. One call runs in it at a time.
type Instance struct {
	code         *Code
	host         Host
	invoke       Invoker
	main, kernel api.Module
	linked       api.Module // what the plug-in imports of the kernel and of the host, which keeps the kernel
	mem          api.Memory // the kernel's

	reset, alloc, free, length, inputSet, outputOffset, outputLength, errorGet api.Function

	stack       [2]uint64
	vars        map[string][]byte
	varSize     int64
	response    response
	failure     error // what a service of this package has ended the call with
	ended       bool
	initialised bool
}

// Instantiate makes an instance. prepare is called for each module of it, the kernel first, before anything of that runs; what a module runs by itself
// (its start section) is prepare's to have run where the compiler has not left it to wazero. Then the plug-in's language runtime is initialised, as
// Extism does it: by hs_init, _initialize or __wasm_call_ctors; but for a command, which has a _start that does this, only before the first other function.
func (c *Code) Instantiate(ctx context.Context, cfg wazero.ModuleConfig, host Host, prepare func(m api.Module) error, invoke Invoker) (_ *Instance, err error) {
	in := &Instance{code: c, host: host, invoke: invoke, vars: make(map[string][]byte)}
	defer func() {
		if err != nil {
			in.Close(ctx)
		}
	}()
	bare := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	if in.kernel, err = c.rt.InstantiateModule(ctx, c.kernel, bare); err != nil {
		return nil, err
	}
	if err = prepare(in.kernel); err != nil {
		return nil, err
	}
	in.mem = in.kernel.Memory()
	for name, f := range map[string]*api.Function{"reset": &in.reset, "alloc": &in.alloc, "free": &in.free, "length": &in.length, "input_set": &in.inputSet,
		"output_offset": &in.outputOffset, "output_length": &in.outputLength, "error_get": &in.errorGet} {
		*f = in.kernel.ExportedFunction(name)
	}
	in.linked, err = c.rt.InstantiateModule(resolve(ctx, map[string]api.Module{fromKernel: in.kernel, fromHost: c.host}), c.shim, bare)
	if err != nil {
		return nil, err
	}
	from := map[string]api.Module{moduleEnv: in.linked}
	if c.hostUser != nil {
		from[moduleUser] = c.hostUser
	}
	if in.main, err = c.rt.InstantiateModule(resolve(ctx, from), c.main, cfg.WithName("").WithStartFunctions()); err != nil {
		return nil, err
	}
	c.instances.add(in.main, in)
	if err = prepare(in.main); err != nil {
		return nil, err
	}
	if in.main.ExportedFunction("_start") == nil || in.main.ExportedFunction("_initialize") != nil {
		if err = in.initialise(); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// resolve makes a context in which imports from these modules are theirs.
func resolve(ctx context.Context, from map[string]api.Module) context.Context {
	return experimental.WithImportResolver(ctx, func(name string) api.Module { return from[name] })
}

// initialise runs the initialiser of the plug-in's language runtime, once.
func (in *Instance) initialise() error {
	if in.initialised {
		return nil
	}
	in.initialised = true
	none := func(name string) api.Function {
		if f := in.main.ExportedFunction(name); f != nil && len(f.Definition().ParamTypes()) == 0 && len(f.Definition().ResultTypes()) <= 1 {
			return f
		}
		return nil
	}
	reactor := none("_initialize")
	if f := in.main.ExportedFunction("hs_init"); f != nil {
		if d := f.Definition(); !isHaskell(d) {
			return &SignatureError{d.Name(), "(i32, i32)"}
		}
		if reactor != nil {
			if err := in.enter(reactor, in.stack[:]); err != nil {
				return err
			}
		}
		in.stack = [2]uint64{}
		return in.enter(f, in.stack[:])
	}
	if reactor == nil {
		reactor = none("__wasm_call_ctors")
	}
	if reactor == nil {
		return nil
	}
	return in.enter(reactor, in.stack[:])
}

func isHaskell(d api.FunctionDefinition) bool {
	p := d.ParamTypes()
	return len(p) == 2 && p[0] == api.ValueTypeI32 && p[1] == api.ValueTypeI32 && len(d.ResultTypes()) <= 1
}

// Function returns what the plug-in exports with this name; nil where it exports no such function.
func (in *Instance) Function(name string) api.Function { return in.main.ExportedFunction(name) }

// Ended reports whether the instance is not to be called any more: it has trapped, exited, or was ended.
func (in *Instance) Ended() bool { return in.ended }

// Close ends the instance. Nothing of it runs.
func (in *Instance) Close(ctx context.Context) {
	in.ended = true
	if in.main != nil {
		in.code.instances.remove(in.main)
		_ = in.main.Close(ctx)
	}
	if in.linked != nil {
		_ = in.linked.Close(ctx)
	}
	if in.kernel != nil {
		_ = in.kernel.Close(ctx)
	}
}

// Append calls a function of the plug-in, and appends its output to dst. The error is a *Failed where the plug-in says that it failed; what output it set
// is appended then, too. After any other error Ended says whether the instance is of use.
func (in *Instance) Append(f api.Function, dst, input []byte) ([]byte, error) {
	if in.ended {
		return dst, ErrEnded
	}
	d := f.Definition()
	results := len(d.ResultTypes())
	if len(d.ParamTypes()) != 0 || results > 1 {
		return dst, &SignatureError{d.Name(), "() -> (i32)"}
	}
	if name := d.ExportNames(); !in.initialised && !startsItself(name) {
		if err := in.initialise(); err != nil {
			return dst, err
		}
	}
	s := in.stack[:]
	if err := in.enter(in.reset, s); err != nil {
		return dst, err
	}
	at, err := in.write(input)
	if err != nil {
		return dst, err
	}
	s[0], s[1] = at, uint64(len(input))
	if err := in.enter(in.inputSet, s); err != nil {
		return dst, err
	}
	s[0] = 0
	if err := in.enter(f, s); err != nil {
		exit, ok := errors.AsType[*Exited](err)
		if !ok || exit.Code != 0 {
			return dst, err
		}
		results = 0 // an exit with 0 is a success, with the output that was set
	}
	code := int32(0)
	if results == 1 {
		code = int32(uint32(s[0]))
	}
	message, err := in.message()
	if err != nil {
		return dst, err
	}
	if dst, err = in.output(dst); err != nil {
		return dst, err
	}
	if code != 0 || message != "" {
		return dst, &Failed{Code: code, Message: message}
	}
	return dst, nil
}

func startsItself(names []string) bool {
	for _, name := range names {
		if name == "_start" || name == "_initialize" {
			return true
		}
	}
	return false
}

// enter runs a function of the instance.
func (in *Instance) enter(f api.Function, stack []uint64) error {
	in.failure = nil
	err := in.invoke(f, stack)
	if err == nil {
		return nil
	}
	return in.over(err)
}

// over says why a function of the instance did not return.
func (in *Instance) over(err error) error {
	in.ended = true
	if in.failure != nil {
		return in.failure
	}
	var exit interface{ ExitCode() uint32 }
	if errors.As(err, &exit) {
		return &Exited{exit.ExitCode()}
	}
	return err
}

// message returns what the plug-in has set as its error.
func (in *Instance) message() (string, error) {
	s := in.stack[:]
	if err := in.enter(in.errorGet, s); err != nil || s[0] == 0 {
		return "", err
	}
	b, err := in.read(s[0])
	return string(b), err
}

// output appends what the plug-in has set as its output.
func (in *Instance) output(dst []byte) ([]byte, error) {
	s := in.stack[:]
	if err := in.enter(in.outputOffset, s); err != nil {
		return dst, err
	}
	at := s[0]
	if err := in.enter(in.outputLength, s); err != nil {
		return dst, err
	}
	b, err := in.view(at, s[0])
	return append(dst, b...), err
}

// read returns a block of the kernel's, which is valid until anything of the instance runs. What is no block has no bytes.
func (in *Instance) read(at uint64) ([]byte, error) {
	in.stack[0] = at
	if err := in.enter(in.length, in.stack[:]); err != nil {
		return nil, err
	}
	return in.view(at, in.stack[0])
}

// view returns bytes of the kernel's memory.
func (in *Instance) view(at, n uint64) ([]byte, error) {
	if at <= 1<<32-1 && n <= 1<<32-1 {
		if b, ok := in.mem.Read(uint32(at), uint32(n)); ok {
			return b, nil
		}
	}
	return nil, &BlockError{Offset: at, Length: n, Memory: in.mem.Size()}
}

// write makes a block with these bytes.
func (in *Instance) write(b []byte) (uint64, error) {
	in.stack[0] = uint64(len(b))
	if err := in.enter(in.alloc, in.stack[:]); err != nil {
		return 0, err
	}
	at := in.stack[0]
	if at == 0 && len(b) > 0 {
		return 0, &MemoryError{len(b)}
	}
	room, err := in.view(at, uint64(len(b)))
	copy(room, b)
	return at, err
}

// release gives a block back.
func (in *Instance) release(at uint64) error {
	in.stack[0] = at
	return in.enter(in.free, in.stack[:])
}

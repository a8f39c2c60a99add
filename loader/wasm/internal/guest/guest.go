// Package guest runs WebAssembly modules under fuel: what both contracts, Ferrule's and Extism's, need of wazero.
//
// A module cannot harm this process, but it can keep it busy for ever, and take memory. So each loop and each function counts down (package
// fuel), and at 0 this package looks whether the call is still wanted: when it is not, the function is asked to stop, and a grace period
// later it is ended where it is. What was ended half way, or has trapped, is not used any more.
package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

// PageSize is how long a page of a module's memory is, in bytes.
const PageSize = 64 << 10

// Limits are those of a plug-in.
type Limits struct {
	Memory int64         // bytes, of each instance
	Fuel   int64         // how much a call may use; 0 is any amount
	Grace  time.Duration // how long a function may go on after it was asked to stop
	Cache  *Cache        // nil is none
}

// Cache keeps compiled modules, for any number of plug-ins. It may be used by any goroutine.
type Cache struct {
	kept wazero.CompilationCache
	// wazero shows others a module that it has read from the folder before the way into its functions is made: whoever gets it from memory meanwhile has none.
	compiling sync.Mutex
}

// NewCache makes one that keeps modules in a folder.
func NewCache(folder string) (*Cache, error) {
	kept, err := wazero.NewCompilationCacheWithDir(folder)
	if err != nil {
		return nil, err
	}
	return &Cache{kept: kept}, nil
}

// elements is how many elements the tables of a module may have: they take an eighth of what its memory may, or 80 KB.
func (l Limits) elements() uint32 { return uint32(max(l.Memory/8/8, 10_000)) }

// Runtime is where the modules of one plug-in live. It may be used by any goroutine.
type Runtime struct {
	wazero.Runtime
	limits Limits
	binder *fuel.Binder
}

// freeing is a runtime whose Close frees all code, which a cache would keep as long as it lives.
type freeing struct {
	wazero.Runtime
	cache    *Cache
	compiled []wazero.CompiledModule // added to while the plug-in opens, by one goroutine
}

func (r *freeing) CompileModule(ctx context.Context, module []byte) (wazero.CompiledModule, error) {
	if r.cache != nil {
		r.cache.compiling.Lock()
		defer r.cache.compiling.Unlock()
	}
	code, err := r.Runtime.CompileModule(ctx, module)
	if err == nil {
		r.compiled = append(r.compiled, code)
	}
	return code, err
}

// Frees has Close free code, too, that a builder of Go functions has compiled.
func (r *freeing) Frees(code wazero.CompiledModule) { r.compiled = append(r.compiled, code) }

func (r *freeing) Close(ctx context.Context) error {
	err := r.Runtime.Close(ctx)
	for _, code := range r.compiled {
		_ = code.Close(ctx)
	}
	return err
}

// New makes a Runtime, which Close ends.
func New(ctx context.Context, l Limits) (*Runtime, error) {
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(min(max(l.Memory/PageSize, 1), 65536))).
		WithDebugInfoEnabled(false) // which reads more of a module, and tells lines that nothing shows
	if l.Cache != nil {
		config = config.WithCompilationCache(l.Cache.kept)
	}
	r := &Runtime{Runtime: &freeing{Runtime: wazero.NewRuntimeWithConfig(ctx, config), cache: l.Cache}, limits: l}
	var err error
	if r.binder, err = fuel.NewBinder(ctx, r.Runtime, tick); err == nil {
		_, err = wasi_snapshot_preview1.Instantiate(ctx, r.Runtime)
	}
	if err != nil {
		_ = r.Close(ctx)
		return nil, err
	}
	return r, nil
}

// Compile gives a module fuel, and compiles it. The error is *fuel.Error, *fuel.Unsupported, *fuel.Excess, or wazero's.
func (r *Runtime) Compile(ctx context.Context, module []byte) (wazero.CompiledModule, error) {
	fuelled, err := fuel.Instrument(module, r.limits.elements())
	if err != nil {
		return nil, err
	}
	return r.CompileModule(ctx, fuelled)
}

// Guest is an instance of a module. One call runs in it at a time, which Serve names before anything of it is entered.
type Guest struct {
	Module  api.Module
	runtime *Runtime
	counter []api.MutableGlobal // of each module of the instance
	ctx     context.Context
	start   api.Function // or nil
	unbind  []func()

	// Owner is whose instance it is, for the host functions that Of finds it in.
	Owner any
	// Look is called now and then while a function runs; or nil.
	Look func()
	// Asked is called once, while a function runs, when it is to stop. It may write to the memory, and runs no code of the module's.
	Asked func()

	call  *pool.Call // that runs
	done  <-chan struct{}
	gone  <-chan struct{}
	until time.Time
	limit *engine.Limit
	asked time.Time // when it was asked to stop; zero where it was not
	said  words     // what it has written in the call
	fuel  int64     // what is left, behind what the counter has
	ended error     // why it was ended
	broke bool      // a function of it did not return
}

// key is the key of the Guest in the contexts that wazero hands to host functions.
type key struct{}

// withGuest is such a context.
type withGuest struct {
	context.Context
	guest *Guest
}

func (w *withGuest) Value(k any) any {
	if k == (key{}) {
		return w.guest
	}
	return w.Context.Value(k)
}

// Of returns the Guest in which a host function was called.
func Of(ctx context.Context) *Guest {
	g, _ := ctx.Value(key{}).(*Guest)
	return g
}

// slice is how much fuel there is between two looks: some 50 µs of a tight loop.
const slice = 100_000

// Instantiate makes an instance, in which nothing has run yet: Start is due. config's name and start functions are not used.
func (r *Runtime) Instantiate(ctx context.Context, code wazero.CompiledModule, config wazero.ModuleConfig) (*Guest, error) {
	g := r.NewGuest()
	m, err := r.InstantiateModule(r.NewBudget().Context(ctx), code, g.Config(config).WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	if err := g.Bind(ctx, m); err != nil {
		_ = m.Close(ctx)
		return nil, err
	}
	return g, nil
}

// NewGuest makes a Guest for an instance of a module that somebody else instantiates: with Config, and then Bind.
func (r *Runtime) NewGuest() *Guest {
	g := &Guest{runtime: r}
	g.ctx = &withGuest{context.Background(), g}
	return g
}

// Config adds to an instance's configuration what ends with its calls.
func (g *Guest) Config(config wazero.ModuleConfig) wazero.ModuleConfig {
	return config.WithNanosleep(g.sleep).WithRandSource(random{g}).WithStdout(&g.said).WithStderr(&g.said)
}

// random are random numbers for a module, which looks now and then whether they are still wanted.
type random struct{ guest *Guest }

func (r random) Read(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = rand.Read(b[n:min(n+1<<20, len(b))])
		n += more
		r.guest.AskEnded()
	}
	return n, err
}

// Bind makes an instance of a module that Compile has compiled, in which nothing has run, the Guest's. A Guest may have several, which call each other.
func (g *Guest) Bind(ctx context.Context, m api.Module) error {
	counter, unbind, err := g.runtime.binder.Bind(ctx, m)
	if err != nil {
		return err
	}
	g.counter, g.unbind = append(g.counter, counter), append(g.unbind, unbind)
	g.Module, g.start = m, m.ExportedFunction(fuel.StartFunction)
	return nil
}

// Start runs what the module that was bound last runs by itself. Serve was called.
func (g *Guest) Start() error {
	if g.start == nil {
		return nil
	}
	return g.Enter(g.start, nil)
}

// Close ends the instance. Nothing of it runs.
func (g *Guest) Close() {
	g.Unbind()
	_ = g.Module.Close(context.Background())
}

// Unbind is Close for an instance that somebody else closes.
func (g *Guest) Unbind() {
	for _, unbind := range g.unbind {
		unbind()
	}
	g.unbind = nil
}

// Serve says for which call the functions that are entered from now on run.
func (g *Guest) Serve(c *pool.Call) {
	g.call, g.done, g.gone = c, c.Ended(), c.Abandoned()
	g.until, g.limit = c.Limit()
	g.asked = time.Time{}
	if len(g.said.kept) > 0 {
		g.said = words{}
	}
	g.fuel = g.runtime.limits.Fuel
	if g.fuel == 0 {
		g.fuel = math.MaxInt64
	}
	g.share()
}

// ServeAtMost is Serve for what nobody else bounds: a call that no context ends has so long.
func (g *Guest) ServeAtMost(c *pool.Call, d time.Duration, what string) {
	g.Serve(c)
	if g.limit == nil && g.done == nil && g.gone == nil {
		g.until, g.limit = time.Now().Add(d), &engine.Limit{After: d, By: "what a module has for " + what, Func: what}
	}
}

// share gives the counters fuel until the next look. What they have not used is theirs no more when they are collected.
func (g *Guest) share() {
	n := min(g.fuel/int64(max(len(g.counter), 1)), slice)
	for _, counter := range g.counter {
		counter.Set(uint64(n))
		g.fuel -= n
	}
}

// collect takes back what the counters have; one below 0 has used more than it had.
func (g *Guest) collect() {
	for _, counter := range g.counter {
		g.fuel += int64(int32(counter.Get()))
		counter.Set(0)
	}
}

// Memory returns how much memory the instance may have, in bytes.
func (g *Guest) Memory() int64 { return g.runtime.limits.Memory }

// Call returns the call that runs.
func (g *Guest) Call() *pool.Call { return g.call }

// Broken reports whether a function of the instance did not return: nothing of it is to be entered any more.
func (g *Guest) Broken() bool { return g.broke }

// Enter runs a function of the instance. stack has its arguments, and gets its results, as wazero's CallWithStack has it. The error is a *Trap, an *Exit,
// a *OutOfFuel, or an *engine.Overrun: the instance is not to be entered again then.
func (g *Guest) Enter(f api.Function, stack []uint64) error {
	before := g.broke
	g.broke = true // as long as it runs: a host function of it may end this goroutine
	err := f.CallWithStack(g.ctx, stack)
	if err == nil {
		g.broke = before
		return nil
	}
	return g.failed(err)
}

func (g *Guest) failed(err error) error {
	if g.ended != nil {
		return g.ended
	}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return &Exit{exit.ExitCode(), g.said.lines()}
	}
	text, trace, _ := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	return &Trap{What: strings.TrimPrefix(text, "wasm error: "), Stack: frames(trace), Output: g.said.lines()}
}

// frames returns the names of a trace's functions, the innermost first.
func frames(trace string) (names []string) {
	for line := range strings.Lines(trace) {
		name := strings.TrimSpace(line)
		if i := strings.IndexByte(name, '('); i > 0 {
			name = name[:i]
		}
		if _, rest, ok := strings.Cut(name, ".wasm."); ok { // the name that the module has for itself
			name = rest
		}
		if name = strings.TrimPrefix(name, "."); name != "" && !strings.HasPrefix(name, "0x") {
			names = append(names, name)
		}
	}
	return names
}

// tick is called by a guest whose fuel is used up.
func tick(ctx context.Context) {
	g := Of(ctx)
	g.collect()
	if g.fuel < 0 {
		g.End(&OutOfFuel{g.runtime.limits.Fuel})
	}
	if g.Look != nil {
		g.Look()
	}
	g.look()
	g.share()
}

// sleep is what WASI's poll_oneoff sleeps by: for as long as the call is wanted.
func (g *Guest) sleep(ns int64) {
	over := time.NewTimer(time.Duration(ns))
	defer over.Stop()
	var struck <-chan time.Time
	if g.limit != nil {
		limit := time.NewTimer(time.Until(g.until))
		defer limit.Stop()
		struck = limit.C
	}
	select {
	case <-over.C:
	case <-struck:
	case <-g.done:
	case <-g.gone:
	}
	g.AskEnded()
}

// ask asks the function that runs to stop.
func (g *Guest) ask(now time.Time) {
	g.asked = now
	if g.Asked != nil {
		g.Asked()
	}
}

// AskEnded asks the function that runs to stop where its call is not wanted any more, and ends it where it was asked before, and has had its time: what a host
// function has ended is known to the module when that returns. It is for a host function that has done what it is for.
func (g *Guest) AskEnded() {
	if g.done == nil && g.gone == nil && g.limit == nil {
		return
	}
	g.look()
}

// look asks the function that runs to stop, or ends it.
func (g *Guest) look() {
	now := time.Now()
	switch cause, wanted := g.wanted(now); {
	case wanted:
	case g.asked.IsZero():
		g.ask(now)
	case now.Sub(g.asked) > g.runtime.limits.Grace:
		g.End(&engine.Overrun{Grace: g.runtime.limits.Grace, Cause: cause(), By: "(wasm.WithGrace); it was ended"})
	}
}

// End ends the function that runs, from a host function that it has called: Enter returns why.
func (g *Guest) End(why error) {
	g.ended = why
	panic(why) // which wazero turns into an error of its own
}

// wanted reports whether the call is wanted, and returns what says why it is not, which runs foreign code.
func (g *Guest) wanted(now time.Time) (cause func() error, wanted bool) {
	if g.limit != nil && !now.Before(g.until) {
		return func() error { return g.limit }, false
	}
	select {
	case <-g.done:
		return func() error {
			if err := engine.Cause(g.call.Context()); err != nil {
				return err
			}
			return context.Canceled
		}, false
	case <-g.gone:
		return func() error { return context.Canceled }, false
	default:
		return nil, true
	}
}

// Trap says that a function of the module's did what WebAssembly does not allow.
type Trap struct {
	What  string   // such as "unreachable", or "out of bounds memory access"
	Stack []string // the functions, the innermost first, by their names in the module, where it has names

	Output []string // the last lines that the call has written to its standard output and its standard error
}

// Error says what it was, and where, and what the module wrote last.
func (t *Trap) Error() string {
	text := "the module trapped: " + t.What
	stack := t.Stack
	for len(t.Output) > 0 && len(stack) > 1 && strings.HasPrefix(stack[0], "runtime.") { // by which a Go runtime ends its program, and says why
		stack = stack[1:]
	}
	if len(stack) > 0 {
		text += ", in " + strings.Join(stack[:min(len(stack), 4)], ", called by ")
	}
	return text + lastwords.Of(t.Output)
}

// Exit says that the module ended itself, by WASI's proc_exit.
type Exit struct {
	Code   uint32
	Output []string // as Trap's
}

// ExitCode returns the code.
func (e *Exit) ExitCode() uint32 { return e.Code }

// Error gives the exit code.
func (e *Exit) Error() string {
	return fmt.Sprintf("the module exited with the code %d", int32(e.Code)) + lastwords.Of(e.Output)
}

// words are what a module writes in a call to its standard output and its standard error, which nobody else gets.
type words struct {
	kept   []byte
	report lastwords.Report
}

// keptBytes, and twice as many, are kept of it; keptLines are told.
const (
	keptBytes = 4 << 10
	keptLines = 20
)

func (w *words) Write(b []byte) (int, error) {
	w.report.Take(b)
	w.kept = append(w.kept, b[max(0, len(b)-2*keptBytes):]...)
	if len(w.kept) > 2*keptBytes {
		w.kept = append(w.kept[:0], w.kept[len(w.kept)-keptBytes:]...)
	}
	return len(b), nil
}

func (w *words) lines() []string {
	text := strings.TrimRight(strings.ToValidUTF8(string(w.kept), "\uFFFD"), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return w.report.Lines(lines[max(0, len(lines)-keptLines):])
}

// OutOfFuel says that a call has used what fuel it may.
type OutOfFuel struct{ Fuel int64 }

// Error says how much that was.
func (o *OutOfFuel) Error() string {
	return fmt.Sprintf("the call has used its fuel of %d", o.Fuel)
}

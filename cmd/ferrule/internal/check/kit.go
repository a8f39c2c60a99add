package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/words"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// budget is how long a call may run before its cancel word is set.
const budget = 500 * time.Millisecond

// kit is the worker's side of a case: the open library, and how to call it. Its methods that call the library are for the
// case's own goroutine, which stays on one thread, unless they say otherwise.
type kit struct {
	task
	lib    *inspect.Library
	random *rand.Rand

	library           uintptr
	functions         []function
	start, stop, bulk uintptr // 0 where not exported
	table             []byte  // struct ferrule_host

	// What follows is what the step says of the calls that come, set by expect.
	rule, expected, mend string

	mu      sync.Mutex
	report  *os.File
	found   map[Finding]bool
	over    map[string]bool    // functions of which a call took longer than budget
	slow    map[string]bool    // those of which two did
	events  map[misuse]bool    // what the library's use of host services showed
	live    map[uintptr]*frame // the frames that were ever handed out
	serve   func(ordinal uint32, in []byte) (abi.Status, []byte)
	served  atomic.Int64 // calls of host functions
	longest atomic.Int64 // how long the longest of these took in the call that is measured, in nanoseconds
	shell   func(line string, in []byte) ([]byte, error)
}

// answer is how a host function answers that no case has an answer of its own for.
func (k *kit) answer(ordinal uint32, in []byte) (abi.Status, []byte) {
	i, ok := k.Imports[k.lib.Imports[ordinal].Name]
	switch {
	case !ok:
		return abi.StatusOK, []byte("import")
	case i.Command == "":
		return abi.StatusOK, i.Answer
	}
	out, err := k.shell(i.Command, in)
	if err != nil {
		return abi.StatusFailed, []byte(err.Error())
	}
	return abi.StatusOK, out
}

// function is an exported function or hook.
type function struct {
	label string // as messages have it: "resize", "hook before_save"
	addr  uintptr
}

// misuse is a use of host services that breaks a rule.
type misuse struct{ rule, seen, expected, mend string }

// Work is a worker: it reads a task from r, runs the case, and writes what it finds to the task's report.
// shell runs a command line that serves an import.
func Work(r io.Reader, shell func(line string, in []byte) ([]byte, error)) error {
	runtime.LockOSThread() // for pinned plug-ins, and for what belongs to a thread: its mask, its rounding mode
	k := &kit{found: map[Finding]bool{}, slow: map[string]bool{}, over: map[string]bool{}, events: map[misuse]bool{},
		live: map[uintptr]*frame{}}
	if err := json.NewDecoder(r).Decode(&k.task); err != nil {
		return fmt.Errorf("the task cannot be read: %w", err)
	}
	if k.Case == child {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	i := slices.IndexFunc(cases, func(c Case) bool { return c.Name == k.Case })
	if i < 0 || cases[i].dynamic == nil {
		return &UnknownCaseError{k.Case}
	}
	var err error
	if k.report, err = os.OpenFile(k.Report, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if k.lib, err = inspect.File(k.Path); err != nil {
		return err
	}
	k.random = rand.New(rand.NewPCG(k.Seed, uint64(i)))
	k.serve = k.answer
	k.shell = shell
	if k.table, err = guarded(4096); err != nil {
		return err
	}
	*at[abi.Host](k.table, 0) = hostTable(k)
	cases[i].dynamic(k)
	if flush := libc("fflush"); flush != 0 {
		purego.SyscallN(flush, 0) // what the library left in a buffer of its standard output
	}
	k.send(event{Done: true})
	return nil
}

func hostTable(k *kit) abi.Host {
	return abi.Host{
		Size: sizeHost,
		Call: purego.NewCallback(func(call, request uintptr) uintptr { return uintptr(uint32(k.hostCall(call, request))) }),
		Log: purego.NewCallback(func(call, level, text, n uintptr) uintptr {
			return uintptr(uint32(k.hostLog(call, text, n)))
		}),
	}
}

func (k *kit) send(e event) {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.report.Write(append(b, '\n')); err != nil {
		panic(err)
	}
}

// find reports a finding. Of those that differ in what was seen only, the first counts.
func (k *kit) find(f Finding) {
	key := f
	key.Seen = ""
	k.mu.Lock()
	known := k.found[key]
	k.found[key] = true
	k.mu.Unlock()
	if !known {
		k.send(event{Finding: &f})
	}
}

func (k *kit) note(format string, args ...any) { k.send(event{Note: fmt.Sprintf(format, args...)}) }
func (k *kit) skip(format string, args ...any) { k.send(event{Skip: fmt.Sprintf(format, args...)}) }

// expect says which rule the calls that follow are about: what to say when the process does not live through one.
func (k *kit) expect(rule, expected, mend string) {
	if rule == "R7" && k.lib.HasStart {
		mend += ". Where it is not the input, it is the state: what call->state points to must outlive ferrule_start, and so be no " +
			"variable of that function"
	}
	k.rule, k.expected, k.mend = rule, expected, mend
}

// open opens the library and binds its imports. When that fails it reports so, and no other case can run.
func (k *kit) open() bool {
	const expected = "a library that opens with all its symbols bound (RTLD_NOW) and none of them shared (RTLD_LOCAL)"
	k.send(event{Step: &step{What: "opening the library", Rule: "R4", Expected: "static constructors that return",
		Mend: "Do nothing in constructors; a host does not expect code to run before ferrule_start", Fatal: true}})
	var err error
	if k.library, err = openLibrary(k.Path); err != nil {
		f := Finding{Rule: "R4", Severity: Error, Seen: err.Error(), Expected: expected, Mend: "Build the library for this system"}
		if why := k.reason(); why != nil {
			f.Seen, f.Mend = strings.TrimPrefix(why.Symbol+": ", ": ")+why.Kind.Error()+": found "+why.Found, why.Remedy
			f.Expected = why.Expected
		}
		k.find(f)
		k.send(event{Stop: "the library cannot be opened"})
		return false
	}
	if bottom := stackBottom(); bottom != 0 {
		k.send(event{Stack: uint64(bottom)})
	}
	symbol := func(name string) uintptr {
		a, err := findSymbol(k.library, name)
		if err != nil {
			k.find(Finding{Rule: "R2", Severity: Error, Seen: name + " is not found once the library is open: " + err.Error(),
				Expected: "the exported names that the file shows", Mend: "Build the library anew, without tools that edit its names"})
		}
		return a
	}
	symbol(abi.SymbolManifest)
	k.functions = functions(k.lib, symbol)
	k.functions = slices.DeleteFunc(k.functions, func(f function) bool {
		return f.addr == 0 || k.Without[f.label] != ""
	})
	for ordinal, i := range k.lib.Imports {
		if slot := symbol(abi.PrefixImport + i.Name); slot != 0 {
			setUint32(slot, uint32(ordinal))
		}
	}
	if k.lib.HasStart {
		k.start = symbol(abi.SymbolStart)
	}
	if k.lib.HasStop {
		k.stop = symbol(abi.SymbolStop)
	}
	if k.lib.HasBatch {
		k.bulk = symbol(abi.SymbolBatch)
	}
	return true
}

// reason is why the library cannot be opened, as a host gets to read it, or nil where a host can open it.
func (k *kit) reason() *loader.OpenError {
	none := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	opts := []loader.Option{loader.WithExecutableStack(), loader.WithLogger(slog.New(slog.DiscardHandler))}
	for _, i := range k.lib.Imports {
		opts = append(opts, loader.WithHostFunc(i.Name, none))
	}
	p, err := loader.Open(k.Path, opts...)
	if err == nil {
		_ = p.Close()
		return nil
	}
	why, ok := errors.AsType[*loader.OpenError](words.Error(err))
	if !ok || why.Kind == nil || why.Found == "" {
		return nil
	}
	return why
}

// functions are what a host may call, with the addresses of their symbols.
func functions(lib *inspect.Library, symbol func(string) uintptr) (all []function) {
	for _, f := range lib.Funcs {
		all = append(all, function{f.Name, symbol(abi.PrefixFunc + f.Name)})
	}
	for _, h := range lib.Hooks {
		all = append(all, function{"hook " + h.Name, symbol(abi.PrefixHook + h.Name)})
	}
	return all
}

// MaxInput is the longest input and configuration, in bytes.
const MaxInput = 1 << 20

// The sizes of a lane's memory.
const (
	maxRoom   = 1<<20 + 64<<10
	frameSlot = 256 // bytes for each frame: struct ferrule_call, and what may be behind it
	frameArea = 64 << 10
)

// lane is the memory of one call at a time. Calls of several threads have a lane each.
type lane struct {
	frames, in, room []byte
	next             int // the slot of the next frame
}

func (k *kit) lane() *lane {
	l := &lane{}
	var err error
	for _, m := range []struct {
		b    *[]byte
		size int
	}{{&l.frames, frameArea}, {&l.in, MaxInput + 64<<10}, {&l.room, maxRoom}} {
		if *m.b, err = guarded(m.size); err != nil {
			panic(err)
		}
	}
	return l
}

// frame is a frame that was handed out, and what its call has going on.
type frame struct {
	state   int // idle, running, releasing
	kept    map[uint32]reply
	counter uint32
}

type reply struct {
	status abi.Status
	out    []byte
}

const (
	idle = iota
	running
	releasing
)

func (k *kit) setState(at uintptr, state int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.live[at]
	if f == nil {
		f = &frame{}
		k.live[at] = f
	}
	if f.state = state; state == idle {
		f.kept = nil
	}
}

// options say how a call differs from an ordinary one.
type options struct {
	name               string // how a step says so
	readOnly, guardIn  bool   // the input is on read-only memory; ends where memory ends
	room               int    // its size, unless 0; none for 0
	noRoom, guardRoom  bool   // no room at all; the room ends where memory ends
	tail               int    // bytes behind struct ferrule_call that `size` covers
	poison, guardFrame bool   // bytes that make no sense stand behind `size`; nothing stands there
	table              uintptr
	cancelled          bool          // the cancel word is set on entry
	cancelAfter        time.Duration // otherwise: when it is set; budget when 0
	keep               bool          // do not release; the caller does
	quiet              bool          // no step
}

// outcome is what came of a call.
type outcome struct {
	status  abi.Status
	out     []byte  // a copy
	breach  *misuse // how what the call left in the frame breaks R8
	own     bool    // the result is the plug-in's memory
	wrote   bool    // something was written into the room, and there is no result
	changed string  // which other members of the frame differ from what the host put there
	tail    bool    // what stood behind the frame was written over
	took    time.Duration
	late    time.Duration // how long it ran after its cancel word was set, but for one host function, and for what the thread waited for a processor
	release func()        // with options.keep, and when release was set
}

// same reports whether two outcomes are the same for a host.
func (o *outcome) same(p *outcome) bool {
	return o.status == p.status && string(o.out) == string(p.out) && (o.breach == nil) == (p.breach == nil)
}

const (
	poisonByte = 0xA5 // behind a frame
	freshByte  = 0xEE // in a room before the call
)

const usualRoom = 64 << 10

// instance is one plug-in state.
type instance struct {
	k     *kit
	l     *lane
	state uintptr
}

// call calls a function of the instance.
func (i *instance) call(f function, in input, o options) *outcome {
	k := i.k
	if !o.quiet {
		how := ""
		if o.name != "" {
			how = ", " + o.name
		}
		k.send(event{Step: &step{What: f.label + " with " + in.name + how, Function: f.label, Rule: k.rule,
			Expected: k.expected, Mend: k.mend}})
	}
	r, _ := k.enter(i.l, f.addr, i.state, in.bytes, o)
	if r.took > budget && o.cancelAfter == 0 && !o.cancelled && !o.quiet {
		if len(in.bytes) < 64<<10 {
			// Twice, because once may be the machine's doing.
			if k.slow[f.label] = k.over[f.label]; k.slow[f.label] {
				k.send(event{Slow: f.label})
			}
			k.over[f.label] = true
		}
		if r.late > 2*time.Second {
			k.ignoresCancel(f, in, r)
		}
	}
	if r.status == abi.StatusPanic { // R16
		i.end()
		if j := k.begin(i.l, k.Config); j != nil {
			i.state = j.state
		}
	}
	return r
}

func (k *kit) ignoresCancel(f function, in input, r *outcome) {
	k.find(Finding{Rule: "R17", Severity: Error, Function: f.label,
		Seen: fmt.Sprintf("%s with %s ran for %v after its cancel word was set", f.label, in.name,
			r.late.Round(time.Millisecond)),
		Expected: "a function that returns soon after that", Mend: "Poll ferrule_cancelled in every loop that may run long"})
	k.send(event{Broken: f.label})
}

// enter enters an address of the library with a frame. It returns the state that the frame has afterwards.
func (k *kit) enter(l *lane, fn, state uintptr, bytes []byte, o options) (*outcome, uintptr) {
	in := l.in[:len(bytes)]
	if o.guardIn {
		in = l.in[len(l.in)-len(bytes):]
	}
	copy(in, bytes)
	if o.readOnly {
		if err := protect(l.in, true); err != nil {
			panic(err)
		}
	}
	size := o.room
	if size == 0 && !o.noRoom {
		size = usualRoom
	}
	room := l.room[:size]
	if o.guardRoom {
		room = l.room[len(l.room)-size:]
	}
	for i := range min(len(room), 4<<10) {
		room[i] = freshByte
	}
	off := l.next % (frameArea/frameSlot - 1) * frameSlot // the last slot has the cancel word
	l.next++
	var behind []byte
	if o.guardFrame {
		off = len(l.frames) - int(sizeCall)
	} else {
		behind = l.frames[off+int(sizeCall) : off+frameSlot]
		for i := range behind {
			behind[i] = 0
			if o.poison {
				behind[i] = poisonByte
			}
		}
	}
	c := at[abi.Call](l.frames, off)
	inAddr, roomAddr := l.at(l.in, in), l.at(l.room, room)
	table := addr(k.table)
	if o.table != 0 {
		table = o.table
	}
	word := cancelWord(l)
	word.Store(0)
	if o.cancelled {
		word.Store(1)
	}
	*c = abi.Call{Size: sizeCall + uintptr(o.tail), State: state, In: inAddr, InLen: uintptr(len(in)), Out: roomAddr,
		OutCap: uintptr(size), Host: table, Cancel: addr(l.frames[frameArea-frameSlot:])}
	before := *c
	frameAddr := addr(l.frames[off:])
	k.setState(frameAddr, running)

	var set, had atomic.Int64 // when the word was set, and how long the thread had waited by then, in nanoseconds
	begun := time.Now()
	self := thread()
	if !o.quiet {
		had.Store(int64(waited(self)))
		k.longest.Store(0)
	}
	if !o.cancelled && !o.quiet {
		after := o.cancelAfter
		if after == 0 {
			after = budget
		}
		timer := time.AfterFunc(after, func() {
			had.Store(int64(waited(self)))
			k.longest.Store(0)
			set.Store(int64(time.Since(begun)))
			word.Store(1)
		})
		defer timer.Stop()
	}
	status, _, _ := purego.SyscallN(fn, frameAddr)
	r := &outcome{status: abi.Status(int32(status)), took: time.Since(begun)}
	if at := time.Duration(set.Load()); at > 0 || o.cancelled {
		r.late = r.took - at
		if !o.quiet { // what is not the function's own does not count
			r.late -= min(r.late, waited(self)-time.Duration(had.Load())+time.Duration(k.longest.Load()))
		}
	}
	k.setState(frameAddr, idle)
	after := *c
	r.own = after.Release != 0
	for _, m := range []struct {
		name         string
		before, now  uintptr
		mayHaveMoved bool
	}{
		{"size", before.Size, after.Size, false},
		{"state", before.State, after.State, fn == k.start},
		{"in", before.In, after.In, false},
		{"in_len", before.InLen, after.InLen, false},
		{"out_cap", before.OutCap, after.OutCap, r.own},
		{"host", before.Host, after.Host, false},
		{"cancel", before.Cancel, after.Cancel, false},
	} {
		if m.before != m.now && !m.mayHaveMoved && r.changed == "" {
			r.changed = m.name
		}
	}
	if o.poison {
		r.tail = slices.ContainsFunc(behind, func(b byte) bool { return b != poisonByte })
	}
	r.take(&before, &after)
	if !r.own && len(r.out) == 0 {
		r.wrote = slices.ContainsFunc(room[:min(len(room), 4<<10)], func(b byte) bool { return b != freshByte })
	}
	if o.readOnly {
		if err := protect(l.in, false); err != nil {
			panic(err)
		}
	}
	if r.own {
		release := func() {
			k.setState(frameAddr, releasing)
			purego.SyscallN(c.Release, frameAddr)
			k.setState(frameAddr, idle)
		}
		if o.keep {
			r.release = release
		} else {
			release()
		}
	}
	return r, after.State
}

// cancelWord is the lane's: it lies in the last slot of the frames, which no frame takes but a guarded one, behind it.
func cancelWord(l *lane) *atomic.Uint32 { return at[atomic.Uint32](l.frames, frameArea-frameSlot) }

// at returns the address of a part of a lane's memory, also of an empty one at its end.
func (l *lane) at(whole, part []byte) uintptr {
	return addr(whole) + uintptr(cap(whole)-cap(part))
}

// take reads the result out of the frame (R8).
func (r *outcome) take(before, after *abi.Call) {
	const mend = "Set out_len to what was written, or point out at memory of your own and set release"
	n := after.OutLen
	switch {
	case n > math.MaxInt:
		r.breach = &misuse{"R8", fmt.Sprintf("out_len %d", n), "PTRDIFF_MAX at most", mend}
	case after.Out == 0 && n > 0:
		r.breach = &misuse{"R8", fmt.Sprintf("out_len %d with out NULL", n), "out to point at the result", mend}
	case !valid(after.Out, n):
		r.breach = &misuse{"R8", fmt.Sprintf("out_len %d at %#x, beyond the end of memory", n, after.Out), "out to point at out_len bytes", mend}
	case r.own:
		r.out = slices.Clone(view(after.Out, n))
	case n > before.OutCap:
		r.breach = &misuse{"R8", fmt.Sprintf("out_len %d in a room of %s, without release", n, plural(int(before.OutCap), "byte")),
			"out_len of out_cap at most, or release set", mend + "; mind that snprintf returns what it would have written"}
	case after.Out != before.Out && n > 0:
		r.breach = &misuse{"R8", "another pointer in out, without release",
			"release set when out is the plug-in's own memory", mend}
	default:
		r.out = slices.Clone(view(before.Out, n))
	}
}

// begin starts an instance; nil when that fails, which it reports.
func (k *kit) begin(l *lane, config []byte) *instance {
	i := &instance{k: k, l: l}
	if k.start == 0 {
		return i
	}
	k.send(event{Step: &step{What: "ferrule_start", Rule: "R15", Expected: "a status, with the configuration as it is",
		Mend: "Check the configuration, and return FERRULE_INVALID with a message", Fatal: true}})
	r, state := k.enter(l, k.start, 0, config, options{cancelAfter: time.Hour})
	if r.status != abi.StatusOK {
		k.find(Finding{Rule: "R15", Severity: Error,
			Seen:     fmt.Sprintf("ferrule_start failed with %v: %q", r.status, r.out),
			Expected: "an instance, with a configuration of " + plural(len(config), "byte"),
			Mend:     "Pass a configuration that it takes with --config"})
		k.send(event{Stop: "ferrule_start fails"})
		return nil
	}
	i.state = state
	return i
}

// end stops the instance.
func (i *instance) end() *outcome {
	if i.k.stop == 0 {
		return nil
	}
	i.k.send(event{Step: &step{What: "ferrule_stop", Rule: "R15", Expected: "a status", Fatal: true,
		Mend: "Free what ferrule_start made, once"}})
	r, _ := i.k.enter(i.l, i.k.stop, i.state, nil, options{cancelAfter: time.Hour})
	return r
}

// openFunctions is open for cases that need a function to call.
func (k *kit) openFunctions() bool {
	if !k.open() {
		return false
	}
	if len(k.functions) == 0 {
		why := "the library has no function to call"
		if len(k.Without) > 0 {
			why = "every function is left out, for what earlier cases found"
		}
		k.skip("%s", why)
		return false
	}
	return true
}

// each opens the library and calls do for each function with an instance of its own, which it stops afterwards.
func (k *kit) each(do func(i *instance, f function)) {
	if !k.openFunctions() {
		return
	}
	l := k.lane()
	for _, f := range k.functions {
		i := k.begin(l, k.Config)
		if i == nil {
			return
		}
		do(i, f)
		i.end()
	}
}

// input is what a function is called with, and how a message says so.
type input struct {
	name  string
	bytes []byte
}

// samples are ordinary inputs of a function.
func (k *kit) samples(f function) []input {
	all := []input{
		{"no input", nil},
		{"one byte", []byte("a")},
		{"a text", []byte("The quick brown fox jumps over the lazy dog, 12 times.\n")},
		{"a JSON object", []byte(`{"name": "ada", "items": [1, 2, 3], "ok": true}`)},
	}
	if own, ok := k.Inputs[f.label]; ok {
		all = append(all, input{"the input of --in", own})
	}
	return all
}

// hostCall is host->call. It runs on any thread.
func (k *kit) hostCall(at, request uintptr) abi.Status {
	k.served.Add(1)
	defer func(begun time.Time) {
		took := int64(time.Since(begun))
		for longest := k.longest.Load(); took > longest && !k.longest.CompareAndSwap(longest, took); {
			longest = k.longest.Load()
		}
	}(time.Now())
	f := k.service(at, "call")
	if f == nil {
		return abi.StatusMisuse
	}
	r := nativeRequest(request)
	if r == nil {
		return k.misuse("R18", fmt.Sprintf("a ferrule_request at the address %#x", request), "the aligned address of one",
			"Pass a pointer to a ferrule_request")
	}
	if r.Size < sizeRequest {
		return k.misuse("R21", fmt.Sprintf("a ferrule_request whose size is %d", r.Size),
			fmt.Sprintf("sizeof(ferrule_request), %d", sizeRequest), "Set every member; memset the request to 0 first")
	}
	in, inLen, out, outCap, ordinal, number := r.In, r.InLen, r.Out, r.OutCap, r.Ordinal, r.Kept
	if !valid(in, inLen) || !valid(out, outCap) {
		return k.misuse("R18", "a ferrule_request with a NULL pointer and a length, or a length beyond the end of memory",
			"in and out that hold what their lengths say", "Set every member; memset the request to 0 first")
	}
	var a reply
	if number != 0 {
		k.mu.Lock()
		var ok bool
		a, ok = f.kept[number]
		if ok && uintptr(len(a.out)) <= outCap {
			delete(f.kept, number)
		}
		k.mu.Unlock()
		if !ok {
			return k.misuse("R18", fmt.Sprintf("a ferrule_request that fetches the result %d, which is not kept", number),
				"kept 0, or the number of a result that is", "Fetch a kept result once, with the request that got FERRULE_MORE")
		}
	} else {
		if int64(ordinal) >= int64(len(k.lib.Imports)) {
			return k.misuse("R5", fmt.Sprintf("the ordinal %d, of %d imports", ordinal, len(k.lib.Imports)),
				"the value of an import slot", "Pass FERRULE_ORDINAL(name)")
		}
		a.status, a.out = k.serve(ordinal, slices.Clone(view(in, inLen)))
	}
	r.OutLen = uintptr(len(a.out))
	if uintptr(len(a.out)) > outCap {
		if number == 0 {
			k.mu.Lock()
			if f.kept == nil {
				f.kept = map[uint32]reply{}
			}
			f.counter++
			number = f.counter
			f.kept[number] = a
			k.mu.Unlock()
		}
		r.Kept = number
		return abi.StatusMore
	}
	copy(view(out, outCap), a.out)
	r.Kept = 0
	return a.status
}

// hostLog is host->log. It runs on any thread.
func (k *kit) hostLog(at, text, n uintptr) abi.Status {
	if k.service(at, "log") == nil {
		return abi.StatusMisuse
	}
	if !valid(text, n) {
		return k.misuse("R18", "a log line that is NULL, with a length, or that goes beyond the end of memory", "the line's bytes", "Pass the text with its length")
	}
	if line := view(text, n); !utf8.Valid(line) {
		k.misuse("R18", fmt.Sprintf("the log line %.60q", line), "UTF-8", "Turn texts into UTF-8 before they are logged")
	}
	return abi.StatusOK
}

// service finds the frame that a service is used with, if it may be.
func (k *kit) service(at uintptr, name string) *frame {
	k.mu.Lock()
	f := k.live[at]
	state := idle
	if f != nil {
		state = f.state
	}
	k.mu.Unlock()
	switch {
	case f == nil:
		k.misuse("R18", "host->"+name+" with a frame that is not the host's", "the frame of the running call",
			"Pass the pointer that the function got")
	case state == releasing:
		k.misuse("R9", "host->"+name+" in release", "a release that does not use the host",
			"Log or call before the function returns")
	case state == idle:
		k.misuse("R14", "host->"+name+" with a frame whose call is over",
			"threads that have stopped using the frame when the function returns",
			"Join the threads, or tell them to stop and wait until they did")
	default:
		return f
	}
	return nil
}

func (k *kit) misuse(rule, seen, expected, mend string) abi.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events[misuse{rule, seen, expected, mend}] = true
	return abi.StatusMisuse
}

// misuses reports what was seen of the library's use of host services that breaks one of these rules.
func (k *kit) misuses(function string, rules ...string) {
	k.mu.Lock()
	events := k.events
	k.events = map[misuse]bool{}
	k.mu.Unlock()
	for e := range events {
		if slices.Contains(rules, e.rule) {
			k.find(Finding{Rule: e.rule, Severity: Error, Function: function, Seen: e.seen, Expected: e.expected, Mend: e.mend})
		}
	}
}

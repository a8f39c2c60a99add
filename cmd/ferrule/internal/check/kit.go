package check

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crash"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
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
	kinds             map[uintptr]function // by their addresses
	start, stop, bulk uintptr              // 0 where not exported
	configure         uintptr
	save, resume      uintptr
	slots             []uintptr // of wants
	table             []byte    // struct ferrule_host

	// What follows is what the step says of the calls that come, set by expect.
	rule, expected, mend string

	mu      sync.Mutex
	report  *os.File
	found   map[string]bool
	over    once                   // functions of which a call took longer than budget
	slow    map[string]bool        // those of which two did
	late    once                   // those of which a call went on for long after it was cancelled
	held    once                   // those of which a release took long
	events  map[misuse]bool        // what the library's use of host services showed
	live    map[uintptr]*frame     // the frames that were ever handed out
	rooms   [][]byte               // what host->room gave to calls that are over
	spare   []*between             // what host->background gave to instances that are stopped
	pages   []*pages               // of input streams of calls that are over
	used    map[string]bool        // which services were
	started map[uintptr][]*between // of instances that run, by their state
	serve   func(ordinal uint32, in []byte) (abi.Status, []byte)
	wants   offer
	answers func(key string) (abi.Status, []byte) // of host->info, where a case has answers of its own
	behind  func(in []byte) (abi.Status, []byte)  // what stands behind a wrapper
	alone   bool                                  // host->background has no memory
	served  atomic.Int64                          // calls of host functions
	longest atomic.Int64                          // how long the longest of these took in the call that is measured, in nanoseconds
	shell   func(line string, in []byte) ([]byte, error)

	runs map[*run]bool // what runs in the library now; guarded by mu
	ran  map[string]pace
}

// run is a stay in the library's code.
type run struct {
	label string // whose it is, as a step's Function has it
	begun time.Time
}

// pace is how often a function has returned in a case, and how long it took.
type pace struct {
	Calls   int           `json:"calls"`
	Longest time.Duration `json:"longest"`
}

// paces is an event: where a case stands. When time runs out, it tells a function that does not return from one that was
// called too often for that time.
type paces struct {
	Ran     map[string]pace `json:"ran"`
	Running time.Duration   `json:"running"` // how long what is the longest in the library has been there by now; 0 when nothing is
}

// enters says that the library's code runs, on any thread, until leave is called.
func (k *kit) enters(fn uintptr) (leave func()) {
	r := &run{k.kinds[fn].label, time.Now()}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.runs[r] = true
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.runs, r)
		p := k.ran[r.label]
		k.ran[r.label] = pace{p.Calls + 1, max(p.Longest, time.Since(r.begun))}
	}
}

// tell reports the paces ten times a second: the process may be ended at any time.
func (k *kit) tell() {
	for now := range time.Tick(100 * time.Millisecond) {
		e := &paces{}
		k.mu.Lock()
		e.Ran = maps.Clone(k.ran)
		for r := range k.runs {
			e.Running = max(e.Running, now.Sub(r.begun))
		}
		k.mu.Unlock()
		k.send(event{Paces: e})
	}
}

// answer is how a host function answers that no case has an answer of its own for.
func (k *kit) answer(ordinal uint32, in []byte) (abi.Status, []byte) {
	i, ok := k.Imports[k.lib.Ordinals()[ordinal].Name]
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
	label  string // as messages have it: "resize", "hook before_save"
	addr   uintptr
	stream abi.Stream // what its meta text says (R24)
	wrap   bool       // likewise (R33)
	quick  bool       // likewise (R34)
}

// misuse is a use of host services that breaks a rule.
type misuse struct {
	rule, seen, expected, mend string
	warning                    bool
}

// ErrTask says that what a worker reads is no task.
var ErrTask = errors.New("the task cannot be read")

// Work is a worker: it reads a task from r, runs the case, and writes what it finds to the task's report.
// shell runs a command line that serves an import.
func Work(r io.Reader, shell func(line string, in []byte) ([]byte, error)) error {
	runtime.LockOSThread() // for pinned plug-ins, and for what belongs to a thread: its mask, its rounding mode
	k := &kit{found: map[string]bool{}, slow: map[string]bool{}, over: once{}, late: once{}, held: once{}, events: map[misuse]bool{},
		used: map[string]bool{}, behind: func(in []byte) (abi.Status, []byte) { return abi.StatusOK, in },
		live: map[uintptr]*frame{}, started: map[uintptr][]*between{}, runs: map[*run]bool{}, ran: map[string]pace{}}
	if err := gob.NewDecoder(r).Decode(&k.task); err != nil {
		return fmt.Errorf("%w: %w", ErrTask, err)
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
	k.send(event{Process: os.Getpid()})
	if k.lib, err = inspect.File(k.Path); err != nil {
		return err
	}
	crashed, err := os.Create(k.Crash)
	if err != nil {
		return err
	}
	defer crashed.Close()
	if err := crash.Record(crashed); err != nil {
		return err
	}
	k.random = rand.New(rand.NewPCG(k.Seed, uint64(i)))
	k.serve = k.answer
	k.shell = shell
	if throughEngine(k.lib) {
		go k.tell()
		m := &module{kit: k}
		moduleCases[k.Case](m)
		k.send(event{Done: true})
		if engines.IsPython(k.lib) && !m.here { // its workers have keepers, which are none of what the plug-in leaves
			childless()
		}
		return nil
	}
	if k.table, err = guarded(4096); err != nil {
		return err
	}
	putHost(k.table, 0, hostTable(k))
	go k.tell()
	cases[i].dynamic(k)
	if flush := libc("fflush"); flush != 0 {
		purego.SyscallN(flush, 0) // what the library left in a buffer of its standard output
	}
	k.send(event{Done: true})
	return nil
}

func (k *kit) send(e event) {
	if e.Step != nil {
		e.Step.Began = time.Now()
	}
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
	key := strings.Join([]string{f.Rule, f.Severity, f.Function, f.Expected, f.Mend}, "\x00")
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

const stateOutlives = "Where it is not the input, it is the state: what call->state points to must outlive ferrule_start, and so be no " +
	"variable of that function"

// expect says which rule the calls that follow are about: what to say when the process does not live through one.
func (k *kit) expect(rule, expected, mend string) {
	if rule == "R7" && k.lib.HasStart {
		mend += ". " + stateOutlives
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
	k.kinds = map[uintptr]function{}
	for _, f := range k.functions {
		known := k.kinds[f.addr] // two names may have one code
		f.stream, f.wrap = f.stream|known.stream, f.wrap || known.wrap
		k.kinds[f.addr] = f
	}
	for ordinal, i := range k.lib.Imports {
		if slot := symbol(abi.PrefixImport + i.Name); slot != 0 {
			setUint32(slot, uint32(ordinal))
		}
	}
	for _, w := range k.lib.Wants {
		k.slots = append(k.slots, symbol(abi.PrefixWant+w.Name))
	}
	k.offer(offered)
	if k.lib.HasStart {
		k.start = symbol(abi.SymbolStart)
	}
	if k.lib.HasStop {
		k.stop = symbol(abi.SymbolStop)
	}
	if k.lib.HasConfigure {
		k.configure = symbol(abi.SymbolConfigure)
	}
	if k.lib.HasSave && k.lib.HasResume {
		k.save, k.resume = symbol(abi.SymbolSave), symbol(abi.SymbolResume)
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
		all = append(all, function{f.Name, symbol(abi.PrefixFunc + f.Name), f.Stream, false, f.Keys.Get("quick") == "yes"})
	}
	for _, h := range lib.Hooks {
		all = append(all, function{"hook " + h.Name, symbol(abi.PrefixHook + h.Name), h.Stream, h.Keys.Get("wrap") == "yes", h.Keys.Get("quick") == "yes"})
	}
	return all
}

// lateness tells how long a function went on after it was cancelled.
type lateness struct {
	begun  time.Time
	thread int          // the function's, whose waits for a processor do not count; 0 where they do
	at     atomic.Int64 // when it was cancelled, in nanoseconds from begun on; 0 where it was not
	had    atomic.Int64 // how long the thread had waited by then, in nanoseconds
}

// cancelled comes right before the function is told.
func (l *lateness) cancelled() {
	if l.thread != 0 {
		l.had.Store(int64(waited(l.thread)))
	}
	l.at.Store(max(1, int64(time.Since(l.begun))))
}

// of is the lateness of a function that took so long.
func (l *lateness) of(took time.Duration) time.Duration {
	at := time.Duration(l.at.Load())
	if at == 0 {
		return 0
	}
	late := max(0, took-at)
	if l.thread != 0 {
		late -= min(late, max(0, waited(l.thread)-time.Duration(l.had.Load()))) // 0 where the system did not say
	}
	return late
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
	last             []byte // one frame of version 1.0, where memory ends: apart, as no two frames overlap
	flow             []byte // the input stream of an ordinary call
	words            []byte // those for progress, where memory ends
	next             int    // the slot of the next frame
}

func (k *kit) lane() *lane {
	l := &lane{}
	var err error
	for _, m := range []struct {
		b    *[]byte
		size int
	}{{&l.frames, frameArea}, {&l.last, 4096}, {&l.words, 4096}, {&l.flow, MaxInput + 64<<10}, {&l.in, MaxInput + 64<<10}, {&l.room, maxRoom}} {
		if *m.b, err = guarded(m.size); err != nil {
			panic(err)
		}
	}
	for what, b := range map[string][]byte{areaInput: l.in, areaRoom: l.room} {
		begin := uint64(addr(b))
		k.send(event{Area: &area{what, begin, begin + uint64(len(b)) + uint64(os.Getpagesize())}})
	}
	return l
}

// frame is a frame that was handed out, and what its call has going on.
type frame struct {
	state       int // idle, running, releasing, outside
	kept        map[uint32]reply
	counter     uint32
	rooms       [][]byte // what the call was given by host->room
	out, outCap uintptr  // the last of these
	starts      bool     // it is ferrule_start's
	between     *between // what ferrule_start was given by host->background, or nil
	background  bool     // it is such a frame itself

	// What the call that runs has, set by enter.
	function  function
	stream    *stream // nil where it has none
	wraps     bool    // something stands behind it
	refuses   bool    // host->room has no memory
	hasty     bool    // no service is served
	takesBack []byte  // the room that it began with, where nobody may touch a room once another one is given
	excused   bool    // a service has refused something that a host need not have
	since     bool    // it has used a service that came with version 1.1
}

type reply struct {
	status abi.Status
	out    []byte
}

const (
	idle = iota
	running
	releasing
	outside // between calls: host->background's
)

func (k *kit) setState(at uintptr, state int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.frame(at)
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
	first              bool   // the frame is one of version 1.0
	tail               int    // bytes behind struct ferrule_call that `size` covers
	poison, guardFrame bool   // bytes that make no sense stand behind `size`; nothing stands there
	table              uintptr
	cancelled          bool          // the cancel word is set on entry
	cancelAfter        time.Duration // otherwise: when it is set; budget when 0
	keep               bool          // do not release; the caller does
	plain              bool          // without a stream, and with nothing behind
	stream             *flow         // the streams of a function that has some; some ordinary ones when nil
	refuseRoom         bool          // host->room has no memory
	takeBack           bool          // nobody may touch a room once host->room has given another one
	unwatched          bool          // without words for progress
	hasty              bool          // as a host calls what is quick: without words for cancellation and progress, and with no service
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

	written, sum int  // how many bytes were written to the output stream, and their sum
	broke        bool // the input stream broke off, and it was told
	excused      bool // a service has refused something that a host need not have
	since        bool // it has used a service that came with version 1.1
}

// failure says for a finding how a function has failed, with the begin of its message, which may be of any length.
func (o *outcome) failure() string { return fmt.Sprintf("failed with %v: %.200q", o.status, o.out) }

// same reports whether two outcomes are the same for a host.
func (o *outcome) same(p *outcome) bool {
	// Threads that write are in no order (R24).
	return o.status == p.status && string(o.out) == string(p.out) && (o.breach == nil) == (p.breach == nil) &&
		o.written == p.written && o.sum == p.sum
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
			if k.slow[f.label] = k.over.again(f.label); k.slow[f.label] {
				k.send(event{Slow: f.label})
			}
		}
		if r.late > 2*time.Second && k.late.again(f.label) {
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

// once are functions of which something was seen once in a case, which may be the machine's doing: one that is busy with other things may stand still for seconds.
type once map[string]bool

// again reports whether it was seen before.
func (o once) again(function string) bool {
	was := o[function]
	o[function] = true
	return was
}

func (k *kit) ignoresCancel(f function, in input, r *outcome) {
	k.find(Finding{Rule: "R17", Severity: Error, Function: f.label,
		Seen: fmt.Sprintf("%s with %s ran for %v after its cancel word was set", f.label, in.name,
			r.late.Round(time.Millisecond)),
		Expected: "a function that returns soon after that", Mend: "Poll ferrule_cancelled (in Go: the context's Err) in every loop that may run long"})
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
	known := sizeCall
	if o.first {
		known = abi.CallSize10
	}
	frames := l.frames
	if o.guardFrame {
		if o.first {
			frames = l.last
		}
		off = len(frames) - int(known)
	} else {
		behind = l.frames[off+int(known) : off+frameSlot]
		for i := range behind {
			behind[i] = 0
			if o.poison {
				behind[i] = poisonByte
			}
		}
	}
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
	before := abi.Call{Size: known + uintptr(o.tail), State: state, In: inAddr, InLen: uintptr(len(in)), Out: roomAddr,
		OutCap: uintptr(size), Host: table, Cancel: addr(l.frames[frameArea-frameSlot:])}
	if !o.first && !o.unwatched && !o.hasty {
		before.Progress = l.progress()
	}
	if o.hasty {
		before.Cancel = 0
	}
	putCall(frames, off, before)
	frameAddr := addr(frames[off:])
	f := k.prepare(frameAddr, fn, bytes, l, o)
	k.setState(frameAddr, running)
	ended := k.lifetime(frameAddr, fn, state)

	late := lateness{begun: time.Now()}
	if !o.quiet { // what is not the function's own does not count
		late.thread = thread()
		k.longest.Store(0)
	}
	if o.cancelled {
		late.cancelled()
	}
	if !o.cancelled && !o.quiet {
		after := o.cancelAfter
		if after == 0 {
			after = budget
		}
		timer := time.AfterFunc(after, func() {
			k.longest.Store(0)
			late.cancelled()
			word.Store(1)
		})
		defer timer.Stop()
	}
	leave := k.enters(fn)
	status, _, _ := purego.SyscallN(fn, frameAddr)
	leave()
	given := k.takeRoom(frameAddr, &before)
	r := &outcome{status: abi.Status(int32(status)), took: time.Since(late.begun)}
	k.finish(f, r)
	if r.late = late.of(r.took); !o.quiet {
		r.late -= min(r.late, time.Duration(k.longest.Load()))
	}
	k.setState(frameAddr, idle)
	after := getCall(frames, off, known)
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
		{"progress", before.Progress, after.Progress, false},
	} {
		if m.before != m.now && !m.mayHaveMoved && r.changed == "" {
			r.changed = m.name
		}
	}
	if o.poison {
		r.tail = slices.ContainsFunc(behind, func(b byte) bool { return b != poisonByte })
	}
	r.take(&before, &after)
	k.giveBack(given)
	if ended != nil {
		ended(r.status, after.State)
	}
	if !r.own && len(r.out) == 0 && given == nil {
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
			leave := k.enters(after.Release)
			purego.SyscallN(after.Release, frameAddr)
			leave()
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

// progress is the address of the lane's two words for it, where memory ends.
func (l *lane) progress() uintptr { return addr(l.words[len(l.words)-16:]) }

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
		r.breach = &misuse{rule: "R8", seen: fmt.Sprintf("out_len %d", n), expected: "PTRDIFF_MAX at most", mend: mend}
	case after.Out == 0 && n > 0:
		r.breach = &misuse{rule: "R8", seen: fmt.Sprintf("out_len %d with out NULL", n), expected: "out to point at the result", mend: mend}
	case !valid(after.Out, n):
		r.breach = &misuse{rule: "R8", seen: fmt.Sprintf("out_len %d at %#x, beyond the end of memory", n, after.Out), expected: "out to point at out_len bytes", mend: mend}
	case r.own:
		r.out = slices.Clone(view(after.Out, n))
	case n > before.OutCap:
		r.breach = &misuse{rule: "R8", seen: fmt.Sprintf("out_len %d in a room of %s, without release", n, plural(int(before.OutCap), "byte")),
			expected: "out_len of out_cap at most, or release set", mend: mend + "; mind that snprintf returns what it would have written"}
	case after.Out != before.Out && n > 0:
		r.breach = &misuse{rule: "R8", seen: "another pointer in out, without release",
			expected: "release set when out is the plug-in's own memory", mend: mend}
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
			Seen:     "ferrule_start " + r.failure(),
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

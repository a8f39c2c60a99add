package check

import (
	"debug/elf"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// runBatch runs a function over inputs with ferrule_batch. done is what it says it has run; the outcomes are those of the
// inputs, as far as done says.
func (k *kit) runBatch(i *instance, f function, inputs []input, cancelled bool) (outcomes []*outcome,
	status abi.Status, done uintptr) {
	l := i.l
	control, err := guarded(4096)
	if err != nil {
		panic(err)
	}
	word := cancelWord(l)
	word.Store(0)
	if cancelled {
		word.Store(1)
	}
	var before []abi.Call
	used := 0
	for n, in := range inputs {
		copy(l.in[used:], in.bytes)
		c := abi.Call{Size: sizeCall, State: i.state, In: addr(l.in) + uintptr(used), InLen: uintptr(len(in.bytes)),
			Host: addr(k.table), Cancel: addr(l.frames[frameArea-frameSlot:]), Progress: l.progress()}
		if n == 0 {
			c.Out, c.OutCap = addr(l.room), usualRoom
		}
		putCall(l.frames, n*frameSlot, c)
		k.prepare(addr(l.frames[n*frameSlot:]), f.addr, in.bytes, l, options{plain: true})
		k.setState(addr(l.frames[n*frameSlot:]), running)
		before = append(before, c)
		used += len(in.bytes)
	}
	frames := at[abi.Frames](control, 0)
	*frames = abi.Frames{Size: sizeFrames, Fn: f.addr, Calls: addr(l.frames), Stride: frameSlot,
		Count:    uintptr(len(inputs)),
		Statuses: addr(control[1024:])}
	leave := k.enters(f.addr)
	r, _, _ := purego.SyscallN(k.bulk, addr(control))
	leave()
	done = frames.Done
	rooms := make([]abi.Call, len(inputs)) // with what host->room gave, or no room
	for n := range inputs {
		given := k.takeRoom(addr(l.frames[n*frameSlot:]), &rooms[n])
		defer k.giveBack(given)
		k.setState(addr(l.frames[n*frameSlot:]), idle)
	}
	for n := range min(done, uintptr(len(inputs))) {
		c := at[abi.Call](l.frames, int(n)*frameSlot)
		o := &outcome{status: abi.Status(*at[int32](control, 1024+int(n)*4)), own: c.Release != 0}
		before[n].Out, before[n].OutCap = c.Out, usualRoom // each record's room begins where the one before it ended
		if rooms[n].Out != 0 {
			before[n].Out, before[n].OutCap = rooms[n].Out, rooms[n].OutCap
		}
		o.take(&before[n], c)
		if o.own {
			k.setState(addr(l.frames[int(n)*frameSlot:]), releasing)
			leave := k.enters(c.Release)
			purego.SyscallN(c.Release, addr(l.frames[int(n)*frameSlot:]))
			leave()
			k.setState(addr(l.frames[int(n)*frameSlot:]), idle)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, abi.Status(int32(r)), done
}

func checkBatch(k *kit) {
	if !k.lib.HasBatch {
		k.skip("the library has no ferrule_batch")
		return
	}
	const mend = "Let FERRULE_PLUGIN or the SDK define ferrule_batch"
	k.expect("R19", "what single calls give", mend)
	// fresh calls do with a new instance, which is alone.
	l := k.lane()
	fresh := func(do func(i *instance)) {
		if i := k.begin(l, k.Config); i != nil {
			do(i)
			i.end()
		}
	}
	if !k.openFunctions() {
		return
	}
	for _, f := range k.functions {
		inputs := k.samples(f)
		// Two instances tell whether the function can be compared at all.
		var want [2][]*outcome
		for n := range want {
			fresh(func(i *instance) {
				i.calls(f, inputs, options{plain: true}, func(_ input, r *outcome) { want[n] = append(want[n], r) })
			})
		}
		switch {
		case slices.ContainsFunc(want[1], func(o *outcome) bool { return o.status == abi.StatusPanic }):
			k.note("%s was not compared: it panics", f.label)
		case len(want[1]) < len(inputs) || slices.ContainsFunc(want[1], func(o *outcome) bool { return o.breach != nil }):
			k.note("%s was not compared: it does not come to an end with each input", f.label)
		case !slices.EqualFunc(want[0], want[1], (*outcome).same):
			k.note("%s was not compared: it does not do the same in each new instance", f.label)
		default:
			fresh(func(i *instance) { i.compareBatch(f, inputs, want[1]) })
		}
	}
}

// compareBatch runs the inputs as a batch, which must give what single calls gave, and a cancelled one.
func (i *instance) compareBatch(f function, inputs []input, want []*outcome) {
	k := i.k
	find := func(seen, expected string) {
		k.find(Finding{Rule: "R19", Severity: Error, Function: f.label, Seen: "ferrule_batch of " + f.label + ": " + seen,
			Expected: expected, Mend: k.mend})
	}
	k.send(event{Step: &step{What: "ferrule_batch of " + f.label, Function: f.label, Rule: "R19", Expected: k.expected,
		Mend: k.mend}})
	got, status, done := k.runBatch(i, f, inputs, false)
	switch {
	case status != abi.StatusOK || done != uintptr(len(inputs)):
		find(fmt.Sprintf("status %d and done %d", int32(status), done),
			fmt.Sprintf("status 0 and done %d, for as many records", len(inputs)))
		return
	default:
		for n := range want {
			if !got[n].same(want[n]) && got[n].status != abi.StatusNoMemory {
				find(fmt.Sprintf("record %d of %d has %s", n+1, len(inputs), differs(want[n], got[n])), "what single calls give")
				return
			}
		}
	}
	if _, _, done := k.runBatch(i, f, inputs, true); done >= uintptr(len(inputs)) {
		find(fmt.Sprintf("cancelled before it began, it ran all %d records", done), "a batch that stops when it is cancelled")
	}
}

// sequence is what an instance answers to the same calls.
func (i *instance) sequence(f function) (all []*outcome) {
	for range 2 {
		i.calls(f, i.k.samples(f), options{}, func(_ input, r *outcome) { all = append(all, r) })
	}
	return all
}

func checkInstances(k *kit) {
	k.expect("R15", anyInput, mendInput)
	if !k.openFunctions() {
		return
	}
	l, m := k.lane(), k.lane()
	for _, f := range k.functions {
		// Two instances, one after the other, tell what the function does when it is alone, if it always does the same.
		var alone []*outcome
		comparable := true
		for range 2 {
			i := k.begin(l, k.Config)
			if i == nil {
				return
			}
			got := i.sequence(f)
			i.end()
			comparable = comparable && (alone == nil || slices.EqualFunc(alone, got, (*outcome).same)) && !k.slow[f.label]
			alone = got
		}
		if !comparable {
			k.note("%s was not compared: it does not do the same in each new instance", f.label)
			continue
		}
		a, b := k.begin(l, k.Config), k.begin(m, k.Config)
		if a == nil || b == nil {
			return
		}
		n := 0
		for range 2 {
			for _, in := range k.samples(f) {
				for _, i := range []*instance{a, b} {
					if r := i.call(f, in, options{}); n < len(alone) && !r.same(alone[n]) {
						k.find(Finding{Rule: "R13", Severity: Warning, Function: f.label,
							Seen:     fmt.Sprintf("%s with %s, beside a second instance: %s", f.label, in.name, differs(alone[n], r)),
							Expected: "what it gives in an instance that is alone",
							Mend:     "Keep what a call leaves for the next in call->state; static variables are shared by all instances"})
					}
				}
				n++
			}
		}
		a.end()
		b.end()
	}
}

// checkHandles gives functions what others have given: it may be a number or a name that stands for something, or what a pointer is made of.
func checkHandles(k *kit) {
	const mend = "Keep what a result stands for in call->state, and look it up there; let no result be a pointer"
	k.expect("R15", anyInput, mend)
	if !k.openFunctions() {
		return
	}
	begun := time.Now()
	for _, from := range k.functions {
		a := k.begin(k.lane(), k.Config)
		if a == nil {
			return
		}
		var given []input
		a.calls(from, k.samples(from), options{}, func(in input, r *outcome) {
			known := slices.ContainsFunc(given, func(g input) bool { return string(g.bytes) == string(r.out) })
			if r.status == abi.StatusOK && r.breach == nil && len(r.out) > 0 && len(r.out) <= MaxInput && string(r.out) != string(in.bytes) && !known {
				given = append(given, input{"what " + from.label + " gave for " + in.name, slices.Clone(r.out)})
			}
		})
		type taken struct {
			to   function
			in   input
			with *outcome // in another instance, while the one that gave it is there
		}
		var all []taken
		l := k.lane()
		for _, to := range k.functions {
			b := k.begin(l, k.Config)
			if b == nil {
				return
			}
			if time.Since(begun) < 2*time.Second {
				b.calls(to, given, options{name: "in another instance"}, func(in input, r *outcome) { all = append(all, taken{to, in, r}) })
			}
			b.end()
		}
		a.end()
		// The same without that instance: once it is stopped, in one that knows of nothing. Twice, as not every function does the same twice.
		for _, t := range all {
			if time.Since(begun) > 4*time.Second {
				k.note("not every function was given what others have given: it takes long")
				return
			}
			var without [2]*outcome
			for n := range without {
				c := k.begin(l, k.Config)
				if c == nil {
					return
				}
				c.calls(t.to, []input{t.in}, options{name: "in another instance, after the one that gave it has stopped"},
					func(_ input, r *outcome) { without[n] = r })
				c.end()
			}
			if without[0] == nil || without[1] == nil || !without[0].same(without[1]) || t.with.status != abi.StatusOK || without[0].status == abi.StatusOK {
				continue
			}
			k.find(Finding{Rule: "R13", Severity: Warning, Function: t.to.label,
				Seen: fmt.Sprintf("%s with %s, in another instance: it works as long as the instance that gave it is there, and has %s afterwards",
					t.to.label, t.in.name, differs(t.with, without[0])),
				Expected: "what it gives in an instance that is alone", Mend: mend})
		}
	}
}

// checkUnload ends this process, as a program ends, after it has unloaded the library.
func checkUnload(k *kit) {
	if !k.open() {
		return
	}
	for _, name := range registering(k.Path) {
		k.find(Finding{Rule: "R20", Severity: Warning, Seen: "the library is linked with " + name,
			Expected: "nothing that runs at the end of the host's process",
			Mend:     "Free in ferrule_stop what ferrule_start has made; let nothing be left to do at the end"})
	}
	k.expect("R20", anyInput, mendInput)
	threadsToSpare()
	before, counted := threads()
	l := k.lane()
	i := k.begin(l, k.Config)
	if i == nil {
		return
	}
	for _, f := range k.functions {
		i.calls(f, k.samples(f)[:1], options{}, nil)
	}
	i.end()
	const mend = "Let destructors of static variables and functions with __attribute__((destructor)) do no more than free memory of the library's own"
	now := before
	for range 50 {
		if now, _ = threads(); now <= before {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	switch {
	case !counted:
	case now > before:
		k.note("it was not unloaded: threads may run in it")
	default:
		k.send(event{Step: &step{What: "unloading the library", Rule: "R20", Expected: "a library that can be unloaded when no instance is left", Mend: mend}})
		closeLibrary(k.library)
		time.Sleep(20 * time.Millisecond)
	}
	exit := libc("exit")
	if exit == 0 {
		return
	}
	k.send(event{Step: &step{What: "the end of the process", Rule: "R20", Expected: "a process that ends well, with exit code 0", Mend: mend}})
	k.send(event{Exits: true})
	purego.SyscallN(exit, 0)
}

// registering are the names with which a library has something run at the end of the process, as far as its symbols are there. A library
// of the GNU C library that uses atexit has it in itself.
func registering(path string) (names []string) {
	f, err := elf.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	own, _ := f.Symbols()
	foreign, _ := f.DynamicSymbols()
	for _, name := range []string{"atexit", "at_quick_exit", "on_exit"} {
		has := func(s elf.Symbol) bool { return s.Name == name }
		if slices.ContainsFunc(own, has) || slices.ContainsFunc(foreign, has) {
			names = append(names, name)
		}
	}
	return names
}

// calm returns those of a function's samples with which it does not panic. After a panic an instance answers nothing but PANIC, whichever
// function is called (R16), and here several threads share one, which so cannot be started anew.
func (k *kit) calm(f function) (inputs []input, ok bool) {
	i := k.begin(k.lane(), k.Config)
	if i == nil {
		return nil, false
	}
	samples := k.samples(f)
	i.calls(f, samples, options{}, func(in input, r *outcome) {
		if r.status != abi.StatusPanic {
			inputs = append(inputs, in)
		}
	})
	i.end()
	if n := len(samples) - len(inputs); n > 0 && !k.slow[f.label] {
		k.note("%s was not called at the same time with %d of %s: it panics with them", f.label, n, plural(len(samples), "input"))
	}
	return inputs, true
}

// hammerTime is how long each function is called on all threads.
const hammerTime = 40 * time.Millisecond

func checkThreads(k *kit) {
	if !k.openFunctions() {
		return
	}
	word := k.lib.Manifest.Threads
	instances, threads := 4, 1
	if word == abi.Concurrent {
		instances, threads = 2, 4
	}
	k.expect("R13", "what one thread gets", "Guard what calls share, or declare what the library keeps to: threads=serial")
	if word != abi.Concurrent {
		k.mend = "Guard static variables with a lock, or keep their content in call->state: instances run at the same time"
	}
	who := fmt.Sprintf("%d instances at the same time", instances)
	if word == abi.Concurrent {
		who = fmt.Sprintf("%d instances on %d threads each, at the same time", instances, threads)
	}

	// member is one thread with the instance that it calls. The instance's first thread starts and stops it.
	type member struct {
		i    *instance
		work chan func(m *instance)
		done chan struct{}
	}
	var members []*member
	run := func(m *member, do func(*instance)) { m.work <- do; <-m.done }
	all := func(do func(*instance)) {
		for _, m := range members {
			m.work <- do
		}
		for _, m := range members {
			<-m.done
		}
	}
	for range instances {
		var first *member
		for range threads {
			m := &member{work: make(chan func(*instance)), done: make(chan struct{})}
			go func() {
				runtime.LockOSThread()
				for do := range m.work {
					do(m.i)
					m.done <- struct{}{}
				}
			}()
			if first == nil {
				first = m
				run(m, func(*instance) { m.i = k.begin(k.lane(), k.Config) })
			} else if first.i != nil {
				m.i = &instance{k, k.lane(), first.i.state}
			}
			if m.i == nil {
				return
			}
			members = append(members, m)
		}
	}
	calm := map[string][]input{}
	for _, f := range k.functions {
		inputs, ok := k.calm(f)
		if !ok {
			return
		}
		if calm[f.label] = inputs; len(inputs) == 0 {
			continue
		}
		baseline := map[*instance][]*outcome{}
		sure := true
		measure := func() bool { // one after the other
			same := true
			for _, m := range members {
				run(m, func(i *instance) {
					for n, in := range inputs {
						r, ok := i.sure(f, in)
						if !ok {
							same = false
							return
						}
						if n >= len(baseline[i]) {
							baseline[i] = append(baseline[i], r)
						} else {
							same = same && r.same(baseline[i][n])
						}
					}
				})
				if !same {
					return false
				}
			}
			return same
		}
		if sure = measure(); !sure {
			continue
		}
		k.send(event{Step: &step{What: f.label + ", " + who, Function: f.label, Rule: "R13", Expected: k.expected,
			Mend: k.mend}})
		var mu sync.Mutex
		var wrong string
		var panicked atomic.Bool
		all(func(i *instance) {
			for begun := time.Now(); time.Since(begun) < hammerTime; {
				for n, in := range inputs {
					r, _ := k.enter(i.l, f.addr, i.state, in.bytes, options{quiet: true})
					if r.status == abi.StatusPanic {
						panicked.Store(true)
					}
					if !r.same(baseline[i][n]) {
						mu.Lock()
						if wrong == "" {
							wrong = f.label + " with " + in.name + ", " + who + ": " + differs(baseline[i][n], r)
						}
						mu.Unlock()
					}
				}
			}
		})
		if wrong == "" {
			continue
		}
		if !panicked.Load() && !measure() {
			k.note("%s was not compared: it does not do the same twice", f.label)
			continue
		}
		k.find(Finding{Rule: "R13", Severity: Error, Function: f.label, Seen: wrong, Expected: k.expected, Mend: k.mend})
		k.send(event{Broken: f.label})
		if panicked.Load() {
			k.note("nothing was called after %s: it panicked, and threads share its instance", f.label)
			return
		}
	}
	defer func() {
		for n, m := range members {
			if n%threads == 0 {
				run(m, func(i *instance) { i.end() })
			}
		}
	}()
	if len(k.functions) < 2 {
		return
	}
	// All functions at once: what they get is not compared, as one may say what another does. They must live through it.
	k.send(event{Step: &step{What: "all functions, " + who, Rule: "R13", Expected: "calls that return", Mend: k.mend}})
	var turn atomic.Int64
	all(func(i *instance) {
		mine := int(turn.Add(1))
		for begun := time.Now(); time.Since(begun) < 3*hammerTime; mine++ {
			f := k.functions[mine%len(k.functions)]
			if k.slow[f.label] {
				continue
			}
			for _, in := range calm[f.label] {
				k.enter(i.l, f.addr, i.state, in.bytes, options{quiet: true})
			}
		}
	})
}

// The least growth in one block of calls that counts as a leak, and the number of blocks that must grow so: memory that
// is kept for later, the library's or Go's own, stops growing before that. One more block need not: where Go's heap is counted too (resident),
// what its runtime gives back to the system meanwhile, at a time of its own, hides what the library keeps.
const (
	leak   = 32 << 10
	blocks = 8
)

// What a library with a collector has made between two collections is no leak: a Go runtime's first one comes at 4 MiB, and its next at twice what it kept. Its leak has at least as
// many bytes in all, and who leaves so little behind that it takes more blocks than these is not found.
const (
	collected  = 16 << 20
	own        = 48 << 20 // what this process has without the library
	mostBlocks = 128
)

// growth runs blocks of work until two leave the process's memory as it was. It returns how many bytes each of the others left
// behind when there are enough, of a library with a Go runtime also in all; ok is false where the system does not tell.
func growth(library *inspect.Library, block func() bool) (bytes []int, ok bool) {
	least := 0
	if now, ok := resident(); ok && library.GoVersion != "" {
		least = max(collected, now-own)
	}
	before, flat, all := 0, 0, 0
	for n := 0; len(bytes) < blocks || all < least; n++ {
		if n == mostBlocks {
			return nil, true
		}
		if !block() {
			return nil, true
		}
		runtime.GC()
		debug.FreeOSMemory() // Go's own memory, as flat as it gets
		now, ok := resident()
		if !ok {
			return nil, false
		}
		switch {
		case n == 0:
		case now-before >= leak:
			bytes, all = append(bytes, now-before), all+now-before
		case flat > 0:
			return nil, true
		default:
			flat++
		}
		before = now
	}
	return bytes, true
}

// sanitized is why memory is not measured.
const sanitized = "AddressSanitizer keeps what is freed for a while"

func checkStartStop(k *kit) {
	if k.Sanitized {
		k.skip(sanitized)
		return
	}
	if !k.open() {
		return
	}
	if k.start == 0 {
		k.skip("the library has no ferrule_start")
		return
	}
	l := k.lane()
	i := k.begin(l, k.Config)
	if i == nil {
		return
	}
	i.end()
	k.send(event{Step: &step{What: "ferrule_start and ferrule_stop, 1,000 times", Rule: "R15",
		Expected: "an instance each time",
		Mend:     "Let ferrule_stop undo what ferrule_start did"}})
	failed, count := "", 0
	g, ok := growth(k.lib, func() bool {
		begun := time.Now()
		for count = 0; count < 1000 && failed == "" && time.Since(begun) < time.Second; count++ {
			r, state := k.enter(l, k.start, 0, k.Config, options{quiet: true})
			if r.status != 0 {
				failed = "ferrule_start " + r.failure()
			} else if k.stop != 0 {
				k.enter(l, k.stop, state, nil, options{quiet: true})
			}
		}
		return failed == ""
	})
	switch {
	case failed != "":
		k.find(Finding{Rule: "R15", Severity: Error, Seen: fmt.Sprintf("%s, after it had worked before", failed),
			Expected: "an instance each time", Mend: "Let ferrule_stop undo what ferrule_start did"})
	case !ok:
		k.note("memory was not measured: not done on this system")
	case g != nil:
		k.find(Finding{Rule: "R15", Severity: Error,
			Seen:     fmt.Sprintf("%d more bytes after each %d instances", slices.Min(g), count),
			Expected: "memory as before, when every instance has stopped", Mend: "Free in ferrule_stop what ferrule_start and the calls made"})
	}
}

func checkLeaks(k *kit) {
	if _, ok := resident(); !ok {
		k.skip("memory is not measured on this system")
		return
	}
	if k.Sanitized {
		k.skip(sanitized)
		return
	}
	k.expect("R9", "calls that return", mendInput)
	k.each(func(i *instance, f function) {
		inputs := k.samples(f)
		i.calls(f, inputs, options{}, nil)
		if k.slow[f.label] {
			return
		}
		count := 0
		g, _ := growth(k.lib, func() bool {
			begun := time.Now()
			for count = 0; count < 1000 && time.Since(begun) < 200*time.Millisecond; count++ {
				o := options{quiet: true, noRoom: count%2 == 0}
				if r, _ := k.enter(i.l, f.addr, i.state, inputs[count%len(inputs)].bytes, o); r.status == abi.StatusPanic {
					i.end()
					j := k.begin(i.l, k.Config)
					if j == nil {
						return false
					}
					i.state = j.state
				}
			}
			return true
		})
		if g != nil {
			k.find(Finding{Rule: "R9", Severity: Error, Function: f.label,
				Seen:     fmt.Sprintf("%s: %d more bytes after each %d calls", f.label, slices.Min(g), count),
				Expected: "memory as before, when every result was released",
				Mend:     "Free what a call makes before it returns, and its result in release"})
		}
	})
}

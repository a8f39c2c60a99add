package check

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
)

// The cases about what came with version 1.1, but for streams.

// offer says what the host does about wants.
type offer int

const (
	offered  offer = iota
	withheld       // none is offered
	older          // the host is older than wants
)

// offer sets the slots of wants for a host that does so.
func (k *kit) offer(o offer) {
	k.wants = o
	for index, slot := range k.slots {
		switch {
		case slot == 0:
		case o == older:
			setUint32(slot, unbound)
		default:
			setUint32(slot, uint32(len(k.lib.Imports)+index))
		}
	}
}

// unbound is FERRULE_UNBOUND.
const unbound = 0xFFFFFFFF

func checkWants(k *kit) {
	if len(k.lib.Wants) == 0 {
		k.skip("the library wants nothing")
		return
	}
	k.expect("R23", "a status, whether a want is offered or not",
		"Look at the status that host->call returns: FERRULE_UNSUPPORTED says that the want is not offered")
	k.each(func(i *instance, f function) {
		defer k.offer(offered)
		for _, o := range []struct {
			name string
			offer
		}{{"with no want offered", withheld}, {"by a host that is older than wants", older}} {
			k.offer(o.offer)
			i.calls(f, k.samples(f), options{name: o.name}, nil)
			k.misuses(f.label, "R5", "R23")
		}
	})
}

func checkRoom(k *kit) {
	k.each(func(i *instance, f function) {
		for _, in := range k.samples(f) {
			k.expect("R25", "a status, also where there is no more room", "Look at what host->room returns before using more than out_cap bytes")
			small := options{name: "in a room of 8 bytes where memory ends", room: 8, guardRoom: true}
			for _, o := range []options{small, {name: "in the usual room"}} {
				if k.slow[f.label] {
					return
				}
				want := i.call(f, in, o)
				if want.breach != nil || !want.same(i.call(f, in, o)) {
					k.note("%s was not compared: it does not do the same twice", f.label)
					continue
				}
				refused, gone := o, o
				refused.refuseRoom, refused.name = true, o.name+", where host->room has no memory"
				gone.takeBack, gone.name = true, o.name+", where the old one is gone when host->room gives another"
				// A function may fail then as it likes, but for a result that is another one.
				finding := Finding{Rule: "R25", Severity: Error, Function: f.label, Mend: k.mend,
					Expected: "the same result, or a failure, as FERRULE_NO_MEMORY is one"}
				if r := i.call(f, in, refused); (r.breach != nil || r.status == abi.StatusOK && want.status == abi.StatusOK && !r.same(want)) &&
					i.call(f, in, o).same(want) {
					finding.Seen = f.label + " with " + in.name + ", " + refused.name + ": " + differs(want, r)
					k.find(finding)
				}
				k.expect("R25", "an old room that nobody uses once host->room has given another one",
					"Take call->out anew after each host->room: what it pointed to before is gone")
				i.compare(f, in, want, gone, nil, Finding{Rule: "R25", Expected: "the same result", Mend: k.mend})
			}
		}
	})
	k.onceUsed("no function has asked for room", "room")
}

func checkInfo(k *kit) {
	k.expect("R26", "a status, whatever host->info says",
		"Look at the status first, then at out_len; for FERRULE_MORE give the same request more room")
	long := bytes.Repeat([]byte("/a/long/path"), 1<<13)
	k.each(func(i *instance, f function) {
		for _, o := range []struct {
			name   string
			status abi.Status
			out    []byte
		}{
			{"where host->info knows nothing", abi.StatusUnsupported, nil},
			{"where host->info answers with nothing", abi.StatusOK, nil},
			{"where host->info answers with one letter", abi.StatusOK, []byte("x")},
			{"where host->info answers with 96 KiB, which FERRULE_MORE announces", abi.StatusOK, long},
		} {
			k.answers = func(string) (abi.Status, []byte) { return o.status, o.out }
			i.calls(f, k.samples(f), options{name: o.name}, nil)
		}
		k.answers = nil
	})
	k.onceUsed("no function has used host->info", "info")
}

func checkNext(k *kit) {
	if !slices.ContainsFunc(k.lib.Hooks, func(h abi.Symbol) bool { return h.Keys.Get("wrap") == "yes" }) {
		k.skip("no hook stands around others")
		return
	}
	k.expect("R33", "a status, whatever host->next returns",
		"Look at the status first, then at out_len; for FERRULE_MORE give the same request more room")
	whole := k.behind
	k.each(func(i *instance, f function) {
		if !f.wrap {
			return
		}
		i.calls(f, k.samples(f), options{name: "with nothing behind it", plain: true}, nil)
		for _, o := range []struct {
			name   string
			status abi.Status
			out    []byte
		}{
			{"which returns nothing", abi.StatusOK, nil},
			{"which passes", abi.StatusPass, nil},
			{"which fails", abi.StatusFailed, []byte("no connection to the database")},
			{"which fails without a message", abi.StatusOwn + 234, nil},
			{"which returns 1 MiB", abi.StatusOK, bytes.Repeat([]byte("a"), 1<<20)},
		} {
			k.behind = func([]byte) (abi.Status, []byte) { return o.status, o.out }
			i.calls(f, k.samples(f), options{name: "with something behind it " + o.name}, nil)
		}
		k.behind = whole
	})
}

func checkProgress(k *kit) {
	k.expect("R30", "a status, also where nobody looks at the progress", "Use ferrule_set_progress, or look whether progress is NULL; it is two numbers")
	k.each(func(i *instance, f function) {
		i.calls(f, k.samples(f), options{name: "where progress is NULL", unwatched: true}, nil)
	})
}

// Of how many calls with the same input the shortest one counts: the machine may have other work in the others.
const quickTries = 20

// quickLimit is how long what is quick may take (R34).
const quickLimit = 10 * time.Microsecond

func checkQuick(k *kit) {
	k.expect("R34", "a status, where nobody cancels and no host service serves", "Look whether cancel and progress are NULL, or leave quick=yes out")
	any := false
	k.each(func(i *instance, f function) {
		if !f.quick {
			return
		}
		any = true
		found := false
		i.calls(f, k.samples(f), options{name: "as what is quick", hasty: true}, func(in input, r *outcome) {
			k.misuses(f.label, "R34")
			shortest := r.took
			for n := 1; n < quickTries && shortest > quickLimit && r.status != abi.StatusPanic; n++ {
				shortest = min(shortest, i.call(f, in, options{hasty: true, quiet: true}).took)
			}
			if shortest > quickLimit && !found && r.status != abi.StatusPanic {
				found = true // once
				k.find(Finding{Rule: "R34", Severity: Error, Function: f.label,
					Seen: fmt.Sprintf("%s with %s, which says quick=yes, took %v, the shortest of %d times", f.label, in.name,
						shortest.Round(100*time.Nanosecond), quickTries),
					Expected: fmt.Sprintf("less than %v", quickLimit), Mend: "Leave quick=yes out: hosts stand still until such a function returns"})
			}
		})
		k.misuses(f.label, "R34") // of the last times, which are not the next function's
	})
	if !any {
		k.skip("nothing of the library says quick=yes")
	}
}

func checkBetween(k *kit) {
	if !k.open() {
		return
	}
	if k.start == 0 {
		k.skip("the library has no ferrule_start")
		return
	}
	const mend = "Test FERRULE_HAS(call->host, background), and return FERRULE_UNSUPPORTED where it is missing; NULL says that there is no memory"
	l := k.lane()
	k.used["background"] = false
	var p patience
	p.begins()
	if i := k.begin(l, k.Config); i == nil {
		return
	} else {
		time.Sleep(20 * time.Millisecond)
		i.end()
	}
	if !k.used["background"] {
		k.skip("ferrule_start does not ask for host->background")
		return
	}
	p.settle(50 * time.Millisecond)
	k.misuses("", "R27")

	// A start that fails has ended what it had begun. Go's own threads since are none of it, and what was waited for them is not taken from here.
	p = patience{}
	p.begins()
	for _, c := range []input{{"no configuration", nil}, {"a configuration that is not UTF-8", []byte("caf\xe9")},
		{fmt.Sprintf("a configuration of 1,000 random bytes (--seed %d)", k.Seed), k.bytes(1000)}} {
		k.startWith(l, c, options{}, "", "R27", "a status, and nobody who uses the frame afterwards where it is a failure",
			"End and join the threads that use it before ferrule_start returns with a failure")
	}
	k.alone = true
	k.startWith(l, input{"the configuration", k.Config}, options{}, ", where host->background has no memory", "R27", "a status", mend)
	k.alone = false

	b, err := guarded(4096)
	if err != nil {
		panic(err)
	}
	h := *at[abi.Host](k.table, 0)
	h.Size = abi.HostSize10
	off := len(b) - int(h.Size)
	putHost(b, off, h)
	k.startWith(l, input{"the configuration", k.Config}, options{table: addr(b[off:])}, ", with a host table of version 1.0, where memory ends", "R27", "a status", mend)
	p.settle(50 * time.Millisecond)
	k.misuses("", "R27")
}

// startWith starts an instance, which may fail, and stops it.
func (k *kit) startWith(l *lane, config input, o options, how, rule, expected, mend string) {
	k.send(event{Step: &step{What: "ferrule_start with " + config.name + how, Rule: rule, Expected: expected, Mend: mend}})
	o.cancelAfter = time.Hour
	if r, state := k.enter(l, k.start, 0, config.bytes, o); r.status == abi.StatusOK {
		(&instance{k, l, state}).end()
	}
}

// behaviour is what an instance answers to the same calls, of every function.
func (i *instance) behaviour() map[string][]*outcome {
	all := map[string][]*outcome{}
	for _, f := range i.k.functions {
		all[f.label] = i.sequence(f)
	}
	return all
}

// alike returns the functions that always do the same in a new instance, and what they do there.
func (k *kit) alike(l *lane) (want map[string][]*outcome, ok bool) {
	for range 2 {
		i := k.begin(l, k.Config)
		if i == nil {
			return nil, false
		}
		got := i.behaviour()
		i.end()
		if want == nil {
			want = got
			continue
		}
		for label, all := range want {
			if !slices.EqualFunc(all, got[label], (*outcome).same) || k.slow[label] {
				k.note("%s was not compared: it does not do the same in each new instance", label)
				delete(want, label)
			}
		}
	}
	return want, true
}

// deviates reports the functions that do something else than they should.
func (i *instance) deviates(want map[string][]*outcome, finding Finding) {
	got := i.behaviour()
	for _, f := range i.k.functions {
		for n, o := range want[f.label] {
			if n < len(got[f.label]) && !got[f.label][n].same(o) {
				one := finding
				one.Function, one.Seen = f.label, finding.Seen+f.label+" gives "+differs(o, got[f.label][n])
				i.k.find(one)
				break
			}
		}
	}
}

// lifecycle calls one of ferrule_configure, ferrule_save and ferrule_resume. It reports a result that is none.
func (i *instance) lifecycle(name string, fn uintptr, in input, o options, rule, mend string) *outcome {
	k := i.k
	what := name
	if fn != k.save {
		what += " with " + in.name
	}
	k.send(event{Step: &step{What: what, Rule: rule, Expected: "a status, whatever the bytes are", Mend: mend}})
	o.cancelAfter = time.Hour
	r, _ := k.enter(i.l, fn, i.state, in.bytes, o)
	if r.breach != nil {
		k.find(Finding{Rule: "R8", Severity: Error, Seen: what + ": " + r.breach.seen, Expected: r.breach.expected, Mend: r.breach.mend})
	}
	return r
}

// strange are bytes that a library has not asked for.
func (k *kit) strange(what string) []input {
	return []input{{"nothing", nil}, {"one byte", []byte("x")}, {what + " that is not UTF-8", []byte("caf\xe9")},
		{fmt.Sprintf("%s of 1,000 random bytes (--seed %d)", what, k.Seed), k.bytes(1000)},
		{what + " of 1 MiB", bytes.Repeat([]byte("x"), MaxInput)}}
}

func checkConfigure(k *kit) {
	if !k.lib.HasConfigure {
		k.skip("the library has no ferrule_configure")
		return
	}
	if !k.open() {
		return
	}
	const mend = "Check all of the configuration before changing anything, and return FERRULE_INVALID with a message"
	k.expect("R28", anyInput, mendInput)
	l := k.lane()
	want, ok := k.alike(l)
	if !ok {
		return
	}
	own := input{"the configuration that it was started with", k.Config}
	for n, c := range append(k.strange("a configuration"), own) {
		i := k.begin(l, k.Config)
		if i == nil {
			return
		}
		before := i.saved()
		r := i.lifecycle("ferrule_configure", k.configure, c, options{guardIn: true, readOnly: true}, "R28", mend)
		if r.status != abi.StatusOK && r.status != abi.StatusPanic {
			if after := i.saved(); before != nil && after != nil && !before.same(after) {
				k.find(Finding{Rule: "R28", Severity: Error, Seen: "after ferrule_configure had failed with " + c.name + ", ferrule_save gives " + differs(before, after),
					Expected: "an instance that is as it was", Mend: mend})
			}
			i.deviates(want, Finding{Rule: "R28", Severity: Error, Seen: "after ferrule_configure had failed with " + c.name + ", ",
				Expected: "an instance that is as it was", Mend: mend})
		}
		if n == len(k.strange("")) {
			if r.status != abi.StatusOK {
				k.find(Finding{Rule: "R28", Severity: Error, Seen: "ferrule_configure with " + c.name + " " + r.failure(),
					Expected: "the configuration that ferrule_start takes", Mend: "Let ferrule_configure take what ferrule_start takes"})
			} else {
				i.deviates(want, Finding{Rule: "R28", Severity: Warning, Seen: "after ferrule_configure with " + c.name + ", ",
					Expected: "an instance that does what ferrule_start made it to do with it", Mend: "Let both read the configuration with the same code"})
			}
		} else if r.status == abi.StatusOK {
			// A host gives those that took new settings the old ones back, when another instance does not take them.
			if r := i.lifecycle("ferrule_configure", k.configure, own, options{}, "R28", mend); r.status != abi.StatusOK {
				k.find(Finding{Rule: "R28", Severity: Error, Seen: "ferrule_configure with " + own.name + ", after another one, " + r.failure(),
					Expected: "an instance that takes its old settings back", Mend: "Let ferrule_configure take what ferrule_start takes, whatever came in between"})
			}
		}
		i.end()
	}
}

// saved is what ferrule_save gives; nil where there is none.
func (i *instance) saved() *outcome {
	if i.k.save == 0 {
		return nil
	}
	return i.lifecycle("ferrule_save", i.k.save, input{}, options{}, "R29", "Return the state as bytes, and leave it as it is")
}

func checkHandover(k *kit) {
	if !k.lib.HasSave || !k.lib.HasResume {
		k.skip("the library has no ferrule_save and ferrule_resume")
		return
	}
	if !k.open() {
		return
	}
	const resumes = "Check all of the bytes, and return FERRULE_INVALID for what ferrule_save has not given"
	k.expect("R29", anyInput, mendInput)
	l, m := k.lane(), k.lane()
	i := k.begin(l, k.Config)
	if i == nil {
		return
	}
	i.behaviour() // which may leave something to hand over
	first, second := i.saved(), i.saved()
	if first.breach != nil {
		return
	}
	if first.status != abi.StatusOK {
		k.find(Finding{Rule: "R29", Severity: Warning, Seen: "ferrule_save " + first.failure(),
			Expected: "the state, as bytes", Mend: "Return the state, or do without state= in the manifest"})
		i.end()
		return
	}
	const saves = "Let ferrule_save only read the state"
	if !first.same(second) {
		k.find(Finding{Rule: "R29", Severity: Warning, Seen: "ferrule_save, called again: " + differs(first, second),
			Expected: "the same bytes: the instance stays as it is", Mend: saves})
	}
	for _, o := range []options{{name: "without room", noRoom: true}, {name: "in a room of 1 byte where memory ends", room: 1, guardRoom: true}} {
		if r := i.lifecycle("ferrule_save", k.save, input{}, o, "R29", "Compare with out_cap before writing"); r.breach == nil &&
			!r.same(first) && r.status != abi.StatusNoMemory && first.same(second) {
			k.find(Finding{Rule: "R29", Severity: Error, Seen: "ferrule_save " + o.name + ": " + differs(first, r),
				Expected: "the same bytes, or FERRULE_NO_MEMORY", Mend: "Return memory of your own with release where the room is too little"})
		}
	}
	if j := k.begin(m, k.Config); j != nil {
		r := j.lifecycle("ferrule_resume", k.resume, input{"what ferrule_save gave", first.out}, options{guardIn: true, readOnly: true}, "R29", resumes)
		if r.status != abi.StatusOK {
			k.find(Finding{Rule: "R29", Severity: Error, Seen: "ferrule_resume, with what ferrule_save gave, " + r.failure(),
				Expected: "an instance that goes on where the other one is", Mend: "Let ferrule_resume take what ferrule_save gives"})
		} else if again := j.saved(); first.same(second) && !again.same(first) {
			k.find(Finding{Rule: "R29", Severity: Warning, Seen: "ferrule_save in the successor: " + differs(first, again),
				Expected: "what its predecessor gave", Mend: "Let ferrule_resume take over all that ferrule_save gives"})
		}
		j.end()
	}
	i.end()
	for _, s := range append(k.strange("a state"), input{"the first half of a state", first.out[:len(first.out)/2]},
		input{"a state with one byte more", append(slices.Clone(first.out), 'x')}) {
		if len(s.bytes) > MaxInput {
			continue
		}
		j := k.begin(m, k.Config)
		if j == nil {
			return
		}
		j.lifecycle("ferrule_resume", k.resume, s, options{guardIn: true, readOnly: true}, "R29", resumes)
		j.end()
	}
}

package check

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
)

// rooms are sizes of the room that a host may bring.
var rooms = []options{
	{name: "in a room of 64 KiB"},
	{name: "in a room of 1 byte", room: 1},
	{name: "in a room of 8 bytes", room: 8},
	{name: "without room", noRoom: true},
}

func checkOutput(k *kit) {
	k.expect("R8", "a result within the room, or in memory of its own", "Compare with out_cap before writing")
	k.each(func(i *instance, f function) {
		results, lost := 0, 0 // all, and those that were written and are empty
		for _, o := range rooms {
			i.calls(f, k.samples(f), o, func(in input, r *outcome) {
				if r.breach == nil {
					if r.status == abi.StatusOK {
						results++
					}
					if r.status == abi.StatusOK && (r.wrote || len(r.out) == 0 && o.noRoom) {
						lost++
					}
					return
				}
				k.find(Finding{Rule: r.breach.rule, Severity: Error, Function: f.label,
					Seen:     f.label + " with " + in.name + ", " + o.name + ": " + r.breach.seen,
					Expected: r.breach.expected, Mend: r.breach.mend})
				k.send(event{Broken: f.label})
			})
		}
		if lost > 0 && lost == results {
			wrote := i.call(f, k.samples(f)[0], options{})
			if wrote.wrote {
				k.find(Finding{Rule: "R8", Severity: Warning, Function: f.label,
					Seen:     f.label + " writes into the room, and leaves out_len 0, with every input that was tried",
					Expected: "out_len set to the length of the result", Mend: "Set call->out_len, or use the SDK's ferrule_reply"})
			}
		}
	})
}

const (
	withinRoom = "at most out_cap bytes written"
	mendRoom   = "Compare with out_cap before writing; return memory of your own with release where it is too little"
)

func checkRoomGuard(k *kit) {
	k.expect("R8", withinRoom, mendRoom)
	k.each(func(i *instance, f function) {
		for _, size := range []int{0, 1, 2, 7, 8, 16, 64, 1000} {
			i.calls(f, k.samples(f), options{name: "in a room of " + plural(size, "byte") + " where memory ends", room: size,
				noRoom:    size == 0,
				guardRoom: true}, nil)
		}
	})
}

// sure calls a function twice, and reports whether it does the same both times, as far as that shows: what differs from
// one call to the next cannot be compared.
func (i *instance) sure(f function, in input) (*outcome, bool) {
	if i.k.slow[f.label] {
		return nil, false
	}
	a := i.call(f, in, options{})
	if i.k.slow[f.label] {
		return nil, false
	}
	b := i.call(f, in, options{})
	if a.breach != nil || !a.same(b) {
		i.k.note("%s was not compared: it does not do the same twice", f.label)
		return nil, false
	}
	return a, true
}

// differs describes how an outcome differs from the expected one.
func differs(want, got *outcome) string {
	switch {
	case want.status != got.status:
		return fmt.Sprintf("the status %d instead of %d", int32(got.status), int32(want.status))
	case got.breach != nil:
		return got.breach.seen
	case len(want.out) != len(got.out):
		return fmt.Sprintf("%s instead of %d", plural(len(got.out), "byte"), len(want.out))
	}
	for n := range want.out {
		if want.out[n] != got.out[n] {
			return fmt.Sprintf("another byte at %d of %d", n, len(want.out))
		}
	}
	return "the same"
}

// compare calls a function with something different about the call, and reports a result that differs. The statuses are right answers, too.
func (i *instance) compare(f function, in input, want *outcome, o options, also []abi.Status, finding Finding) bool {
	r := i.call(f, in, o)
	tooLittle := slices.Contains(also, abi.StatusNoMemory)
	if r.same(want) || r.breach != nil && tooLittle || slices.Contains(also, r.status) {
		return true
	}
	if again := i.call(f, in, options{}); !again.same(want) {
		i.k.note("%s was not compared: it does not do the same each time", f.label)
		return true
	}
	finding.Severity, finding.Function = Error, f.label
	finding.Seen = f.label + " with " + in.name + ", " + o.name + ": " + differs(want, r)
	i.k.find(finding)
	return false
}

func checkRoomSizes(k *kit) {
	k.expect("R8", "the same result in every room", "Compare with out_cap before writing")
	k.each(func(i *instance, f function) {
		for _, in := range k.samples(f) {
			want, ok := i.sure(f, in)
			if !ok {
				continue
			}
			n := len(want.out)
			for _, size := range []int{0, 1, n - 1, n, n + 1, 1 << 20} {
				if size < 0 || size > maxRoom {
					continue
				}
				// R8 and the statuses: where the room is too little, a function uses memory of its own, or says NO_MEMORY.
				var also []abi.Status
				if size < n {
					also = []abi.Status{abi.StatusNoMemory}
				}
				if !i.compare(f, in, want, options{name: "in a room of " + plural(size, "byte"), room: size,
					noRoom: size == 0}, also,
					Finding{Rule: "R8", Expected: "the " + plural(n, "byte") + " of the result in a larger room, or FERRULE_NO_MEMORY where it does not fit",
						Mend: "Return memory of your own with release where the room is too little"}) {
					break
				}
			}
		}
	})
}

func checkFrame(k *kit) {
	k.expect("R6", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		i.calls(f, k.samples(f), options{}, func(in input, r *outcome) {
			if r.changed != "" {
				k.find(Finding{Rule: "R6", Severity: Error, Function: f.label,
					Seen:     "the frame's " + r.changed + " was changed, with " + in.name,
					Expected: "out, out_len and release set, and nothing else", Mend: "Keep values of your own in variables of your own"})
			}
		})
	})
}

// comparable compares as compare does; first says that the host is one of version 1.0. A function may say UNSUPPORTED to it
// then, and where it has used what came later, it may do without, and give another result.
func (i *instance) comparable(f function, in input, want *outcome, o options, first bool, finding Finding) {
	switch {
	case first && want.since:
		i.call(f, in, o)
	case first && want.status == abi.StatusPass: // with a message for who reads it as a failure (R22)
		i.compare(f, in, want, o, []abi.Status{abi.StatusUnsupported, abi.StatusPass}, finding)
	case first:
		i.compare(f, in, want, o, []abi.Status{abi.StatusUnsupported}, finding)
	default:
		i.compare(f, in, want, o, nil, finding)
	}
}

func checkFrameSize(k *kit) {
	const expected = "what a frame of exactly this version gets"
	const mend = "Test FERRULE_HAS before a member that the first version did not have, and take any size that is large enough"
	k.expect("R21", expected, mend)
	k.each(func(i *instance, f function) {
		for _, in := range k.samples(f) {
			want, ok := i.sure(f, in)
			if !ok {
				continue
			}
			for _, o := range []options{
				{name: "with noise behind the frame's size", poison: true},
				{name: "with a longer frame", poison: true, tail: 64},
				{name: "with a frame where memory ends", guardFrame: true},
				{name: "with a frame of version 1.0, and noise behind it", first: true, poison: true},
				{name: "with a frame of version 1.0, where memory ends", first: true, guardFrame: true},
			} {
				i.comparable(f, in, want, o, o.first, Finding{Rule: "R21", Expected: expected, Mend: mend})
			}
			for _, first := range []bool{false, true} {
				if i.call(f, in, options{name: "with noise behind the frame's size", poison: true, first: first}).tail {
					k.find(Finding{Rule: "R21", Severity: Error, Function: f.label,
						Seen:     "bytes behind the frame's size were written over",
						Expected: "the frame's own bytes written, and no others", Mend: mend})
				}
			}
		}
	})
}

func checkHostSize(k *kit) {
	const expected = "what a table of exactly this version gets"
	const mend = "Test FERRULE_HAS before a service that the first version did not have, and take any size that is large enough"
	k.expect("R21", expected, mend)
	// Tables of other lengths: a noisy one, a longer one, and one where memory ends.
	type table struct {
		name         string
		first        bool // it is of version 1.0
		longer, ends bool
		addr         uintptr
	}
	tables := []table{{name: "with noise behind the host table's size"}, {name: "with a longer host table", longer: true},
		{name: "with a host table where memory ends", ends: true},
		{name: "with a host table of version 1.0, and noise behind it", first: true},
		{name: "with a host table of version 1.0, where memory ends", first: true, ends: true}}
	for n := range tables {
		b, err := guarded(4096)
		if err != nil {
			panic(err)
		}
		t, h := &tables[n], *at[abi.Host](k.table, 0)
		if t.first {
			h.Size = abi.HostSize10
		}
		off := 0
		if t.ends {
			off = len(b) - int(h.Size)
		} else {
			for i := range 256 {
				b[i] = poisonByte
			}
		}
		if t.longer {
			h.Size += 64
		}
		putHost(b, off, h)
		t.addr = addr(b[off:])
	}
	k.each(func(i *instance, f function) {
		for _, in := range k.samples(f) {
			want, ok := i.sure(f, in)
			if !ok {
				continue
			}
			for _, t := range tables {
				i.comparable(f, in, want, options{name: t.name, table: t.addr}, t.first,
					Finding{Rule: "R21", Expected: expected, Mend: mend})
			}
		}
	})
}

// elsewhere runs do on another thread, which ends with it.
func elsewhere(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is done after this
		do()
	}()
	<-done
}

func checkRelease(k *kit) {
	k.expect("R9", "a release that works on any thread",
		"Let release depend on nothing but the bytes that it releases: no thread's own variables")
	k.each(func(i *instance, f function) {
		for _, in := range k.samples(f) {
			for _, o := range []options{{name: "without room, released on another thread", noRoom: true, keep: true},
				{name: "released on another thread", keep: true}} {
				if k.slow[f.label] {
					continue
				}
				r := i.call(f, in, o)
				if r.release == nil {
					continue
				}
				begun := time.Now()
				elsewhere(r.release)
				if took := time.Since(begun); took > time.Second && k.held.again(f.label) {
					k.find(Finding{Rule: "R9", Severity: Error, Function: f.label,
						Seen:     fmt.Sprintf("release took %v", took.Round(time.Millisecond)),
						Expected: "a release that comes back soon", Mend: "Only free the memory there"})
				}
				k.misuses(f.label, "R9")
			}
		}
	})
}

func checkReleaseLate(k *kit) {
	k.expect("R9", "a release that relies on nothing but the bytes it releases",
		"Let release use neither the state nor what ferrule_stop frees")
	if k.lib.HasStop {
		k.each(func(i *instance, f function) {
			if k.slow[f.label] {
				return
			}
			var late []func()
			i.calls(f, k.samples(f), options{name: "without room, released after ferrule_stop", noRoom: true, keep: true},
				func(_ input, r *outcome) {
					if r.release != nil {
						late = append(late, r.release)
					}
				})
			i.end()
			k.send(event{Step: &step{What: f.label + "'s release, after ferrule_stop", Function: f.label, Rule: k.rule,
				Expected: k.expected, Mend: k.mend}})
			for _, release := range late {
				release()
			}
			if j := k.begin(i.l, k.Config); j != nil { // for what each does afterwards
				i.state = j.state
			}
		})
		return
	}
	k.skip("the library has no ferrule_stop")
}

func checkServices(k *kit) {
	k.expect("R18", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		i.calls(f, append(k.samples(f), notUTF8...), options{},
			func(input, *outcome) {
				k.misuses(f.label, "R5", "R18", "R21", "R24", "R25", "R26", "R27", "R31", "R33")
			})
	})
}

func checkLateFrames(k *kit) {
	k.expect("R14", anyInput, mendInput)
	var p patience
	k.each(func(i *instance, f function) {
		p.begins()
		i.calls(f, k.samples(f), options{}, nil)
		p.settle(20 * time.Millisecond)
		k.misuses(f.label, "R14")
	})
}

// patience is for threads that are to have ended and have not, as they wait for a processor: a second in all, because some never end.
type patience struct {
	before  int // threads
	counted bool
	spent   time.Duration
}

// begins is before what may start threads.
func (p *patience) begins() { p.before, p.counted = threads() }

// settle waits for so long, and then for as long as there are more threads than before.
func (p *patience) settle(pause time.Duration) {
	time.Sleep(pause)
	const most, step = time.Second, 5 * time.Millisecond
	for now, _ := threads(); p.counted && now > p.before && p.spent < most; now, _ = threads() {
		time.Sleep(step)
		p.spent += step
	}
}

// imports runs a case about host functions.
func (k *kit) imports(serve ...func(uint32, []byte) (abi.Status, []byte)) {
	if len(k.lib.Ordinals()) == 0 {
		k.skip("the library imports nothing")
		return
	}
	k.expect("R18", "a status, whatever a host function returns",
		"Look at the status first, then at out_len; for FERRULE_MORE give the same request more room")
	k.each(func(i *instance, f function) {
		for _, s := range serve {
			k.serve = s
			i.calls(f, k.samples(f), options{}, nil)
			i.calls(f, k.samples(f), options{name: "without room", noRoom: true}, nil)
		}
	})
	if k.served.Load() == 0 {
		k.skip("no host function was called; --in gives a function an input with which it calls one")
	}
}

func checkImportFails(k *kit) {
	fails := func(status abi.Status, message string) func(uint32, []byte) (abi.Status, []byte) {
		return func(uint32, []byte) (abi.Status, []byte) { return status, []byte(message) }
	}
	k.imports(fails(abi.StatusFailed, "no connection to the database"), fails(abi.StatusFailed, ""),
		fails(abi.StatusMisuse, ""), fails(abi.StatusCancelled, "cancelled"), fails(abi.StatusOwn+234,
			"a status of the host's own"))
}

func checkImportEmpty(k *kit) {
	k.imports(func(uint32, []byte) (abi.Status, []byte) { return abi.StatusOK, nil })
}

func checkImportLarge(k *kit) {
	large := make([]byte, 1<<20)
	for i := range large {
		large[i] = "0123456789abcdef"[i%16]
	}
	k.imports(func(uint32, []byte) (abi.Status, []byte) { return abi.StatusOK, large },
		func(uint32, []byte) (abi.Status, []byte) { return abi.StatusFailed, large })
}

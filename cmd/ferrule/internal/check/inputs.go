package check

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
)

func checkOpen(k *kit) { k.open() }

func checkStart(k *kit) {
	if !k.open() {
		return
	}
	if i := k.begin(k.lane(), k.Config); i != nil {
		if r := i.end(); r != nil && r.status != 0 {
			k.find(Finding{Rule: "R15", Severity: Warning, Seen: "ferrule_stop " + r.failure(),
				Expected: "a stop that works", Mend: "Return FERRULE_OK: the host can do no more than to log it"})
		}
	}
}

// calls calls the function with each of the inputs, as long as it is not one that runs until it is cancelled.
func (i *instance) calls(f function, inputs []input, o options, do func(input, *outcome)) {
	for _, in := range inputs {
		if i.k.slow[f.label] {
			i.k.note("%s was not called with every input: %s", f.label, untilCancelled)
			return
		}
		r := i.call(f, in, o)
		if do != nil {
			do(in, r)
		}
	}
}

const (
	anyInput  = "a status, whatever the input is"
	mendInput = "Check in_len before reading, and return FERRULE_INVALID for what the function does not take"
)

func checkInputEmpty(k *kit) {
	k.expect("R7", anyInput, mendInput)
	k.each(func(i *instance, f function) { i.calls(f, []input{{"no input", nil}}, options{}, nil) })
}

func checkInputByte(k *kit) {
	k.expect("R7", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		i.calls(f, someBytes(), options{}, nil)
	})
}

func someBytes() (all []input) {
	for _, b := range []byte("a0 {[\"\n\x00") {
		all = append(all, input{fmt.Sprintf("the byte %q", b), []byte{b}})
	}
	return all
}

func checkInputText(k *kit) {
	k.expect("R7", anyInput, mendInput)
	k.each(func(i *instance, f function) { i.calls(f, k.samples(f)[2:], options{}, nil) })
}

// notUTF8 are texts that are not.
var notUTF8 = []input{
	{"a byte of another encoding", []byte("caf\xe9")},
	{"a character cut off", []byte("caf\xc3")},
	{"a surrogate in UTF-8", []byte("\xed\xa0\x80")},
	{"an overlong character", []byte("\xc0\xaf")},
	{"bytes 0xFF", []byte("\xff\xff\xff\xff\xff")},
}

func checkInputNotUTF8(k *kit) {
	k.expect("R7", anyInput, mendInput+"; a text may hold any bytes")
	k.each(func(i *instance, f function) { i.calls(f, notUTF8, options{}, nil) })
}

// bytes returns n random bytes.
func (k *kit) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(k.random.Uint32())
	}
	return b
}

var randomSizes = []int{2, 7, 16, 100, 1000, 4096, 10_000}

func checkInputRandom(k *kit) {
	k.expect("R7", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		for _, n := range randomSizes {
			i.calls(f, []input{{fmt.Sprintf("%d random bytes (--seed %d)", n, k.Seed), k.bytes(n)}}, options{}, nil)
		}
	})
}

func checkInputLarge(k *kit) {
	k.expect("R7", anyInput, mendInput)
	k.each(func(i *instance, f function) { i.calls(f, k.large(), options{}, nil) })
}

func (k *kit) large() []input {
	return []input{
		{"1 MiB of one letter", bytes.Repeat([]byte("a"), MaxInput)},
		{"1 MiB of text", bytes.Repeat([]byte("the quick brown fox jumps over a lazy dog 12345 times, and more\n"),
			MaxInput/64)},
		{fmt.Sprintf("1 MiB of random bytes (--seed %d)", k.Seed), k.bytes(MaxInput)},
	}
}

func checkInputReadOnly(k *kit) {
	k.expect("R7", "an input that is only read", "Copy what is to be changed; the host's input is const")
	k.each(func(i *instance, f function) {
		i.calls(f, append(k.samples(f), notUTF8...), options{name: "on a read-only page", readOnly: true}, nil)
	})
}

func checkInputGuard(k *kit) {
	k.expect("R7", "in_len bytes to be read, and no more", "Mind in_len in every read; no NUL follows the last byte")
	k.each(func(i *instance, f function) {
		all := append(k.samples(f), notUTF8...)
		for _, n := range []int{3, 15, 16, 17, 31, 33, 63, 65, 4096} {
			all = append(all, input{plural(n, "letter"), bytes.Repeat([]byte("a"), n)})
		}
		i.calls(f, all, options{name: "ending where memory ends", guardIn: true}, nil)
	})
}

func checkStatus(k *kit) {
	k.expect("R10", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		statuses, panicked, excused := map[abi.Status]int{}, "", 0
		defer func() {
			if len(statuses) == 0 && excused > 0 {
				k.note("%s has failed with every input that was tried, after it was refused what a host need not have", f.label)
			}
			k.alwaysFails(f, statuses, panicked)
		}()
		i.calls(f, append(k.samples(f), notUTF8...), options{}, func(in input, r *outcome) {
			switch {
			case r.breach != nil:
			case r.status != abi.StatusOK && r.status != abi.StatusPass && r.excused:
				excused++ // no wonder
			default:
				statuses[r.status]++
			}
			if r.status == abi.StatusPanic && panicked == "" {
				panicked = in.name
			}
			if r.status < 0 || r.status.Reserved() {
				k.find(reservedStatus(f, in, r.status))
			}
		})
	})
}

func reservedStatus(f function, in input, status abi.Status) Finding {
	return Finding{Rule: "R10", Severity: Error, Function: f.label,
		Seen:     fmt.Sprintf("the status %d, with %s", int32(status), in.name),
		Expected: "0 for a result, 1 to 9 as the contract has them, or 1000 and more", Mend: "Return one of FERRULE_…, or FERRULE_STATUS_OWN + n"}
}

// alwaysFails reports a function that no input has had a result of, nor the answer that it has nothing to say (R22): what it
// does then was not tried by any case. And one that panics, with the first input that it does so with.
func (k *kit) alwaysFails(f function, statuses map[abi.Status]int, panicked string) {
	all := 0
	for status, n := range statuses {
		if all += n; status < 0 || status.Reserved() {
			return // which is worse, and said
		}
	}
	if all == 0 || statuses[abi.StatusOK]+statuses[abi.StatusPass] > 0 && panicked == "" {
		return
	}
	finding := Finding{Rule: "R10", Severity: Warning, Function: f.label, Expected: "a result, with one input at least",
		Mend: "Give check an input that the function takes: --in " + f.label + "=TEXT or --in " + f.label + "=@FILE"}
	if all := k.lib.Ordinals(); len(all) > 0 {
		finding.Mend += "; and its host functions the answers that it needs: --answer " + all[0].Name + "=TEXT"
	}
	switch n := statuses[abi.StatusPanic]; {
	case n > 0:
		finding.Rule, finding.Seen = "R12", fmt.Sprintf("%s has panicked with %d of %s that were tried, first with %s", f.label, n, plural(all, "input"),
			panicked)
		switch invalid := statuses[abi.StatusInvalid]; all {
		case n:
			finding.Seen = f.label + " has panicked with every input that was tried"
		case n + invalid: // an SDK has not called it at all, such as with bytes that are no text
			finding.Seen = fmt.Sprintf("%s has panicked with every input that was tried, but for %d that it called invalid", f.label, invalid)
		}
		finding.Expected, finding.Mend = "a result, or a status that says what is wrong with the input",
			"See where it panics: ferrule call prints its message"
	case len(statuses) == 1 && statuses[abi.StatusInvalid] > 0:
		k.note("%s has called every input invalid that was tried: give it one that it takes, --in %s=@FILE", f.label, f.label)
		return
	default:
		finding.Seen = f.label + " has failed with every input that was tried"
	}
	k.find(finding)
}

func checkMessage(k *kit) {
	k.expect("R11", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		i.calls(f, append(k.samples(f), notUTF8...), options{}, func(in input, r *outcome) {
			if r.status == 0 || r.breach != nil {
				return
			}
			k.message(f, in, r)
		})
	})
}

// soon is how long a function may take that is cancelled. It is much more than the contract has in mind, for machines
// that have other things to do.
const soon = 300 * time.Millisecond

// cancellable are inputs that may take long.
func (k *kit) cancellable(f function) []input {
	return append(k.samples(f)[1:], input{"1 MiB of text", bytes.Repeat([]byte("the quick brown fox\n"), MaxInput/20)})
}

func (k *kit) cancel(o options) {
	k.expect("R17", "a function that returns soon", "Poll ferrule_cancelled (in Go: the context's Err) in every loop that may run long")
	// Those that run until they are cancelled are what this case is for.
	for name, why := range k.Without {
		if why == untilCancelled {
			delete(k.Without, name)
		}
	}
	k.each(func(i *instance, f function) {
		for _, in := range k.cancellable(f) {
			var r *outcome
			for range 3 { // again, because a machine that is busy with other things is slow, too
				if r = i.call(f, in, o); r.late <= soon {
					break
				}
			}
			if r.late > soon {
				k.find(Finding{Rule: "R17", Severity: Error, Function: f.label,
					Seen: fmt.Sprintf("%s with %s, %s: it ran for another %v", f.label, in.name, o.name,
						r.late.Round(time.Millisecond)),
					Expected: fmt.Sprintf("a function that returns soon, here within %v", soon), Mend: k.mend})
				k.send(event{Broken: f.label})
				return
			}
		}
	})
}

func checkCancelSet(k *kit) { k.cancel(options{name: "cancelled on entry", cancelled: true}) }
func checkCancelMiddle(k *kit) {
	k.cancel(options{name: "cancelled after 10ms", cancelAfter: 10 * time.Millisecond})
}

func checkConfig(k *kit) {
	if !k.open() {
		return
	}
	if k.start == 0 {
		k.skip("the library has no ferrule_start")
		return
	}
	l := k.lane()
	for _, c := range []struct {
		in input
		o  options
	}{
		{input{"the configuration on a read-only page", k.Config}, options{readOnly: true}},
		{input{"the configuration ending where memory ends", k.Config}, options{guardIn: true}},
		{input{"no configuration", nil}, options{guardIn: true}},
		{input{"a configuration of one byte", []byte("x")}, options{guardIn: true}},
		{input{"a configuration that is not UTF-8", []byte("caf\xe9")}, options{guardIn: true}},
		{input{fmt.Sprintf("a configuration of 1,000 random bytes (--seed %d)", k.Seed), k.bytes(1000)},
			options{guardIn: true}},
		{input{"a configuration of 1 MiB", bytes.Repeat([]byte("x"), MaxInput)}, options{guardIn: true}},
		{input{"the configuration, and no room for a message", k.Config}, options{noRoom: true, guardRoom: true}},
	} {
		k.send(event{Step: &step{What: "ferrule_start with " + c.in.name, Rule: "R15",
			Expected: "a status, whatever the configuration is",
			Mend:     "Check the configuration, and return FERRULE_INVALID with a message"}})
		c.o.cancelAfter = time.Hour
		r, state := k.enter(l, k.start, 0, c.in.bytes, c.o)
		if r.breach != nil {
			k.find(Finding{Rule: "R8", Severity: Error, Seen: "ferrule_start with " + c.in.name + ": " + r.breach.seen,
				Expected: r.breach.expected, Mend: r.breach.mend})
		}
		if r.status == 0 {
			(&instance{k, l, state}).end()
		}
	}
}

func checkRandomMany(k *kit) {
	k.expect("R7", anyInput, mendInput)
	k.each(func(i *instance, f function) {
		begun := time.Now()
		for n := range 500 {
			if time.Since(begun) > time.Second {
				k.note("%s takes long: %d random inputs", f.label, n)
				return
			}
			i.calls(f, []input{k.randomInput(n)},
				options{guardIn: true, guardRoom: true, readOnly: true, room: 1 + k.random.IntN(100)}, nil)
		}
	})
}

// randomInput is the nth one.
func (k *kit) randomInput(n int) input {
	size := k.random.IntN(1 << (1 + k.random.IntN(13)))
	b := k.bytes(size)
	if n%2 == 1 { // what looks like a text goes further in than noise
		const letters = "abcxyz019 \n\t\"'{}[]()<>,.:;=+-*/\\_%$&?!"
		for j := range b {
			b[j] = letters[int(b[j])%len(letters)]
		}
	}
	return input{fmt.Sprintf("random input %d of %s (--seed %d)", n, plural(size, "byte"), k.Seed), b}
}

// message reports a message that is not as R11 has it.
func (k *kit) message(f function, in input, r *outcome) {
	finding := Finding{Rule: "R11", Severity: Error, Function: f.label,
		Seen:     fmt.Sprintf("the message %.80q, with %s", r.out, in.name),
		Expected: "a message in UTF-8", Mend: "Turn what the message quotes into UTF-8"}
	switch {
	case !utf8.Valid(r.out):
		if !utf8.Valid(in.bytes) {
			finding.Severity = Warning // it quotes the input; the host replaces what is not UTF-8
		}
		k.find(finding)
	case throughEngine(k.lib) && bytes.ContainsRune(r.out, utf8.RuneError) && !bytes.ContainsRune(in.bytes, utf8.RuneError):
		finding.Seen = fmt.Sprintf("the message %.80q, with %s, in which bytes that were none were replaced", r.out, in.name)
		if !utf8.Valid(in.bytes) {
			finding.Severity = Warning
		}
		k.find(finding)
	case bytes.HasSuffix(r.out, []byte("\n")):
		finding.Severity, finding.Expected, finding.Mend = Warning, "no newline at its end", "Leave the newline out"
		k.find(finding)
	}
}

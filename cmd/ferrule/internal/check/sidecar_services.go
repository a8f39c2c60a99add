package check

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// calls calls functions in sessions of a kind.
func (k *probe) calls(all []function, made func() *peer, how string, inputs func(function) []input) (hosts, infos int, logs []mail) {
	var p *peer
	sum := func() {
		if p != nil {
			hosts, infos, logs = hosts+p.asks, infos+p.infos, append(logs, p.logs...)
		}
	}
	defer func() { sum() }()
	for _, f := range all {
		for _, in := range inputs(f) {
			if k.late() {
				k.note("not every function was tried: the case has no more time (--timeout)")
				return
			}
			if k.without[f.label] != "" || k.slow[f.label] {
				break
			}
			if p.spent() {
				sum()
				if p = made(); p == nil {
					return
				}
			}
			p.call(f, in, calling{how: how, watched: true})
		}
	}
	return
}

// made is a session that was prepared before its start.
func (k *probe) made(prepare func(*peer)) func() *peer {
	return func() *peer {
		p := k.begun(dialing{})
		if p != nil {
			prepare(p)
		}
		return k.started(p)
	}
}

func wraps(f function) bool { return f.wrap }

func (k *probe) checkHostFunctions() {
	all := k.called(false)
	if len(k.about.Ordinals()) == 0 && !slices.ContainsFunc(all, wraps) {
		k.skip("the manifest has no imports, no wants and no hook that wraps others")
		return
	}
	k.expect("W11", "an answer, whatever the host has answered", "Take a status that is not 0 for a failure with a message, and an output for what it is: it may be empty, or long")
	large := bytes.Repeat([]byte("i"), int(min(MaxInput, k.maxBody)))
	asked := 0
	for _, h := range []struct {
		words  string
		status abi.Status
		out    []byte
	}{{"", abi.StatusOK, nil}, {", where host functions fail", abi.StatusFailed, []byte("no")}, {", where host functions fail without a message", abi.StatusFailed, nil},
		{", where host functions have a status of their own", 1234, []byte("Grüße")},
		{", where host functions return nothing", abi.StatusOK, []byte{}}, {", where host functions return much", abi.StatusOK, large}} {
		host := func(_ *ask, name string, in []byte) (abi.Status, []byte) {
			if name == wire.Next {
				asked++
			}
			if h.status == abi.StatusOK && h.out == nil {
				if name == wire.Next {
					return abi.StatusOK, in
				}
				return k.answer(name, in)
			}
			return h.status, h.out
		}
		hosts, _, _ := k.calls(all, func() *peer {
			p := k.session()
			if p != nil {
				p.host = host
			}
			return p
		}, h.words, k.samples)
		asked += hosts
	}
	if asked == 0 {
		k.note("no function has called the host")
	}
}

func (k *probe) checkHostOrder() {
	all := k.called(false)
	if len(k.about.Ordinals()) == 0 && !slices.ContainsFunc(all, wraps) {
		k.skip("the manifest has no imports, no wants and no hook that wraps others")
		return
	}
	const rule, expected, mend = "W11", "each answer for the call whose id it has, in any order", "Keep the calls of the host that run by their ids, and give each DONE to its own"
	k.expect(rule, expected, mend)
	mirror := func(_ *ask, name string, in []byte) (abi.Status, []byte) { return abi.StatusOK, in }
	k.each(all, func(p *peer, f function) {
		p.host = mirror
		inputs, outputs := p.constant(f, k.samples(f))
		if len(inputs) == 0 || p.asks == 0 && !f.wrap {
			return
		}
		p.reversed = true
		var asks []*ask
		of := func(a *ask, n int) bool {
			if !p.await(a) {
				return false
			}
			if got := fmt.Sprintf("%d %s", a.status, a.body); got != outputs[n] {
				p.broke(rule, f.label, expected, mend, "%s: %s instead of %s", a.what, gave(got), gave(outputs[n]))
				return false
			}
			return true
		}
		const how = ", where the host answers in another order"
		for n, in := range inputs {
			a := p.begin(f, in, calling{how: how})
			if k.about.Manifest.Threads == abi.Concurrent {
				asks = append(asks, a)
			} else if !of(a, n) {
				return
			}
		}
		for n, a := range asks {
			if !of(a, n) {
				return
			}
		}
		p.reversed = false
		p.host = nil
	})
}

func (k *probe) checkSidecarWants() {
	if len(k.about.Wants) == 0 {
		k.skip("the manifest has no wants")
		return
	}
	k.expect("W5", "calls that are answered where no want is offered", "Ask ferrule.info for offers.NAME, or take status 3 for the answer that there is none")
	k.calls(k.called(false), k.made(func(p *peer) { p.unwanted = true }), ", where no want is offered", k.samples)
}

func (k *probe) checkSidecarInfo() {
	k.expect("W11", "an answer, whatever ferrule.info has answered", "Do without what the host does not know: it answers with a status that is not 0")
	asked := 0
	for _, h := range []struct {
		words  string
		status abi.Status
		out    []byte
	}{{", where ferrule.info knows nothing", abi.StatusUnsupported, nil}, {", where ferrule.info gives nothing", abi.StatusOK, nil},
		{", where ferrule.info gives what is no number", abi.StatusOK, []byte("Grüße")}, {", where ferrule.info gives much", abi.StatusOK, bytes.Repeat([]byte("i"), 64<<10)}} {
		_, infos, _ := k.calls(k.called(false), k.made(func(p *peer) {
			p.info = func(string) (abi.Status, []byte) { return h.status, h.out }
		}), h.words, func(f function) []input { return k.samples(f)[:2] })
		asked += infos
		if asked == 0 && !k.late() {
			k.skip("nothing has called ferrule.info")
			return
		}
	}
}

func (k *probe) checkSidecarConfig() {
	if !k.about.HasStart {
		k.skip("the manifest has no service start")
		return
	}
	for _, in := range k.configs() {
		if k.late() {
			return
		}
		p := k.begun(dialing{})
		if p == nil {
			return
		}
		a, ok := p.start(in)
		if !ok {
			return
		}
		if a.status == abi.StatusOK {
			p.works("")
		}
		p.finish()
	}
}

func (k *probe) configs() []input {
	all := []input{{"no settings", nil}, {"settings of one byte", []byte("x")}, {"settings that are not UTF-8", []byte("caf\xe9")},
		{fmt.Sprintf("settings of 1,000 random bytes (--seed %d)", k.options.Seed), k.bytes(1000)}}
	if k.maxBody >= MaxInput {
		all = append(all, input{"settings of 1 MiB", bytes.Repeat([]byte("x"), MaxInput)})
	}
	return all
}

func (k *probe) checkSidecarConfigure() {
	if !k.about.HasConfigure {
		k.skip("the manifest has no service configure")
		return
	}
	const mend = "Look at all of the settings first, and change nothing before they are found to be good"
	p := k.session()
	if p == nil {
		return
	}
	// What functions give tells whether something has changed.
	same := map[string][]input{}
	outputs := map[string][]string{}
	for _, f := range k.called(false) {
		if k.late() {
			break
		}
		if p.spent() {
			if p = k.session(); p == nil {
				return
			}
		}
		same[f.label], outputs[f.label] = p.constant(f, k.samples(f))
	}
	if p.spent() {
		if p = k.session(); p == nil {
			return
		}
	}
	for _, f := range k.called(false) { // what other functions change as they are called is left out: a number of calls, for one
		var inputs []input
		var gives []string
		for n, in := range same[f.label] {
			if p.spent() || k.late() {
				return
			}
			if a, ok := p.call(f, in, calling{}); ok && fmt.Sprintf("%d %s", a.status, a.body) == outputs[f.label][n] {
				inputs, gives = append(inputs, in), append(gives, outputs[f.label][n])
			}
		}
		same[f.label], outputs[f.label] = inputs, gives
	}
	changed := func() string {
		for _, f := range k.called(false) {
			for n, in := range same[f.label] {
				if k.late() {
					return ""
				}
				a, ok := p.call(f, in, calling{})
				if !ok || p.spent() {
					return ""
				}
				if got := fmt.Sprintf("%d %s", a.status, a.body); got != outputs[f.label][n] {
					return fmt.Sprintf("%s: %s instead of %s", a.what, gave(got), gave(outputs[f.label][n]))
				}
			}
		}
		return ""
	}
	for _, in := range k.configs() {
		if p.spent() || k.late() {
			return
		}
		a, ok := p.serve(wire.Configure, in)
		if !ok {
			return
		}
		if a.status != abi.StatusOK {
			if what := changed(); what != "" {
				p.broke("W10", "", "everything as it was, after a configuration that was refused", mend, "after ferrule.configure had failed with %s: %s", in.name, what)
				return
			}
			if p.spent() {
				return
			}
		}
		if a, ok = p.serve(wire.Configure, k.config()); !ok {
			return
		}
		if a.status != abi.StatusOK {
			p.broke("W10", "", "that it takes the configuration again that it was started with", mend, "ferrule.configure with the configuration of --config, after %s: status %d, %s", in.name, a.status, brief(a.body))
			return
		}
		if what := changed(); what != "" {
			k.add(Warning, "W10", "", fmt.Sprintf("after ferrule.configure with %s, and then with the configuration of --config: %s", in.name, what),
				"what it gave before with that configuration", "Set all that a configuration can set, also where it does not say so")
			return
		}
	}
}

func (k *probe) checkSidecarHandover() {
	if !k.about.HasSave {
		k.skip("the manifest has no services save and resume")
		return
	}
	none := input{"no input", nil}
	p := k.session()
	if p == nil {
		return
	}
	for _, f := range k.called(false) {
		if !p.spent() && !k.late() {
			p.call(f, k.samples(f)[2], calling{})
		}
	}
	if p.spent() {
		if p = k.session(); p == nil {
			return
		}
	}
	saved, ok := p.serve(wire.Save, none)
	if !ok {
		return
	}
	if saved.status != abi.StatusOK {
		p.broke("W10", "", "a state", "Answer ferrule.save with the state as its output", "ferrule.save: status %d, %s", saved.status, brief(saved.body))
		return
	}
	again, ok := p.serve(wire.Save, none)
	if !ok {
		return
	}
	if !bytes.Equal(again.body, saved.body) {
		k.add(Warning, "W10", "", "ferrule.save, called again: another state", "the same state while nothing has happened", "Save what calls have made, and nothing else")
	}
	if !p.works(", after ferrule.save") {
		return
	}
	p.finish()
	if p = k.session(); p == nil {
		return
	}
	state := input{"what ferrule.save gave", saved.body}
	a, ok := p.serve(wire.Resume, state)
	if !ok {
		return
	}
	if a.status != abi.StatusOK {
		p.broke("W10", "", "that ferrule.resume takes what ferrule.save of the same version gives", "Have the two agree on a form", "ferrule.resume with what ferrule.save gave: status %d, %s", a.status, brief(a.body))
		return
	}
	if again, ok = p.serve(wire.Save, none); !ok {
		return
	}
	if again.status == abi.StatusOK && !bytes.Equal(again.body, saved.body) {
		k.add(Warning, "W10", "", fmt.Sprintf("ferrule.save in the successor: %s instead of %s", brief(again.body), brief(saved.body)), "the state that it was resumed with",
			"Take all of the state over")
	}
	p.finish()
	for _, in := range []input{none, {"one byte", []byte("x")}, {fmt.Sprintf("1,000 random bytes (--seed %d)", k.options.Seed), k.bytes(1000)}} {
		if k.late() {
			return
		}
		if p = k.session(); p == nil {
			return
		}
		if _, ok := p.serve(wire.Resume, in); !ok {
			return
		}
		p.finish()
	}
}

func (k *probe) checkLogs() {
	_, _, logs := k.calls(k.called(false), k.session, "", k.samples)
	if len(logs) == 0 {
		if !k.late() {
			k.skip("no log lines came")
		}
		return
	}
	k.calls(k.called(false), func() *peer {
		p := k.dial(dialing{})
		hello := p.greeting()
		hello.Level, p.level = abi.LogError, abi.LogError
		p.send(hello, nil)
		if !p.greeted() {
			p.kill()
			return nil
		}
		p.knows()
		return k.started(p)
	}, ", by a host that wants errors alone", func(f function) []input { return k.samples(f)[:2] })
}

// checkSidecarProgress has somebody look at how far each call is, and nobody.
func (k *probe) checkSidecarProgress() {
	steps := 0
	for _, watched := range []bool{true, false} {
		k.each(k.called(false), func(p *peer, f function) {
			for _, in := range k.samples(f) {
				if p.spent() || k.late() || k.slow[f.label] {
					return
				}
				a, _ := p.call(f, in, calling{watched: watched})
				steps += a.steps
			}
		})
		if steps == 0 && !k.late() && len(k.result.Findings) == 0 {
			k.skip("no call has said how far it is")
			return
		}
	}
}

// memoryRounds are how often the memory is looked at, each time after many calls.
const memoryRounds = 4

func (k *probe) checkMemory() {
	if runtime.GOOS != "linux" || k.kind != isProgram {
		k.skip("memory is looked at of programs, on Linux")
		return
	}
	least := 0
	if _, err := buildinfo.ReadFile(k.program); err == nil {
		least = collected
	}
	k.each(k.called(false), func(p *peer, f function) {
		inputs := k.samples(f)
		calls := 0
		round := func() bool {
			for n := range many {
				if k.late() || k.slow[f.label] {
					return false
				}
				if _, ok := p.call(f, inputs[n%len(inputs)], calling{}); !ok || p.spent() {
					return false
				}
				p.logs = nil
				calls++
			}
			return true
		}
		if !round() { // what is made once
			k.note("%s was not tried: the case has no more time (--timeout), or it ends the session", f.label)
			return
		}
		calls = 0
		first, ok := residentOf(p.process.Pid())
		if !ok {
			return
		}
		last, all, least := first, 0, least
		if least > 0 {
			least = max(least, first)
		}
		for n := 0; n < memoryRounds || all < least && n < mostBlocks; n++ {
			whole := round()
			now, ok := residentOf(p.process.Pid())
			if !ok || now <= last {
				return // it has what it needs, or a collector has come
			}
			if last, all = now, now-first; !whole {
				break
			}
		}
		if calls >= many && all >= max(calls*sidecarLeak, least) {
			k.add(Warning, "W7", f.label, fmt.Sprintf("%s: %s more after %s, and more after each %d", f.label, plural(all, "byte"), plural(calls, "call"), many),
				"memory as before once calls are answered", "Forget a call, its id and its input with its DONE")
		}
	})
}

// sidecarLeak is how much a program's memory grows with each call, in bytes, before that is a finding.
const sidecarLeak = 256

func (k *probe) checkBye() {
	p := k.session()
	if p == nil {
		return
	}
	for _, f := range k.some() {
		if !p.spent() && !k.late() {
			p.call(f, k.samples(f)[1], calling{})
		}
	}
	if p.spent() {
		if p = k.session(); p == nil {
			return
		}
	}
	p.stopped()
	if p.spent() {
		return
	}
	p.ending = true
	p.send(wire.Message{Verb: wire.Bye}, nil)
	p.ends("BYE", true)
}

// ends expects that the sidecar ends, when the host has ended the session.
func (p *peer) ends(after string, bye bool) {
	k := p.k
	if !p.gone(k.soon(k.patience())) {
		if k.ctx.Err() == nil && !p.faulty {
			k.lingers = true
			p.broke("W6", "", "the end, within 2 seconds", "End the program, or the session of a listener, when BYE comes, or when the stream ends; have no thread keep it", "%s, and %v later it has not ended", after, k.patience())
		}
		p.kill()
		return
	}
	if p.process != nil && bye {
		if s := p.process.State(); s.ExitCode() != 0 && !p.faulty {
			k.add(Warning, "W6", "", fmt.Sprintf("after %s: %s", after, p.end()), "an end with exit code 0, as nothing went wrong", "Return from main when BYE has come")
		}
	}
	p.close(true)
}

func (k *probe) checkEnd() {
	if k.kind == isPipe {
		k.skip("a pipe by name has no end in one direction alone")
		return
	}
	// Idle, with the hello alone, before it, and while a call runs.
	if p := k.session(); p != nil {
		p.hangUp()
		p.ends("the end of the stream", false)
	}
	if p := k.begun(dialing{}); p != nil {
		p.hangUp()
		p.ends("the end of the stream, right after the hello", false)
	}
	if k.kind != isFIFO { // where an end before anything else is of the session before
		p := k.dial(dialing{})
		p.hangUp()
		p.ends("the end of the stream, before the host's hello", false)
	}
	if p := k.session(); p != nil {
		p.raw([]byte("CALL 1 x\nContent-Length: 10\n\nhel"))
		p.hangUp()
		p.ends("the end of the stream, within a message", false)
	}
	for _, f := range k.called(true) {
		if !k.slow[f.label] || k.late() {
			continue
		}
		if p := k.session(); p != nil {
			a := p.begin(f, k.samples(f)[0], calling{})
			p.pump(k.soon(50*time.Millisecond), func() bool { return a.answer })
			p.hangUp()
			p.ends("the end of the stream, while "+f.label+" runs", false)
		}
		break
	}
}

// hangUp ends the stream to the sidecar.
func (p *peer) hangUp() {
	p.ending = true
	for _, o := range p.in {
		o.close()
	}
}

// garbage are bytes that are no message, by the rule that they break, as a host sends them behind its hello.
var garbage = []struct{ rule, words, bytes string }{
	{"W1", "a line that is no message", "hello there\n\n"},
	{"W1", "an unknown verb", "FROBNICATE 1\n\n"},
	{"W1", "CALL without a name", "CALL 1\n\n"},
	{"W1", "CALL with an argument too many", "CALL 1 x y\n\n"},
	{"W1", "two spaces between arguments", "CALL 1  x\n\n"},
	{"W1", "a field without a colon", "CALL 1 x\nno field\n\n"},
	{"W1", "a name with a space", "CALL 1 x\nSome Name: x\n\n"},
	{"W1", "a control character", "CALL 1 x\nX-Some: a\x01b\n\n"},
	{"W1", "Content-Length twice", "CALL 1 x\nContent-Length: 1\nContent-Length: 1\n\na"},
	{"W2", "a Content-Length below 0", "CALL 1 x\nContent-Length: -1\n\n"},
	{"W2", "a Content-Length that is no number", "CALL 1 x\nContent-Length: 0x1\n\na"},
	{"W2", "a Content-Length with a zero before it", "CALL 1 x\nContent-Length: 01\n\na"},
	{"W2", "a body of 1 TiB", "CALL 1 x\nContent-Length: 1099511627776\n\n"},
	{"W2", "CANCEL with a body", "CANCEL 1\nContent-Length: 1\n\na"},
	{"W2", "an id of 2⁶³", "CALL 9223372036854775808 x\n\n"},
	{"W7", "the id 0", "CALL 0 x\n\n"},
	{"W2", "a line of 5 KiB", "CALL 1 x\nX-Long: " + string(bytes.Repeat([]byte("a"), 5<<10)) + "\n\n"},
	{"W2", "a line without an end", "CALL 1 " + string(bytes.Repeat([]byte("a"), 70<<10))},
	{"W2", "a head of 20 KiB", "CALL 1 x\n" + string(bytes.Repeat([]byte("X-Some: field\n"), 20<<10/14)) + "\n"},
	{"W1", "zero bytes", "\x00\x00\x00\x00\n\n"},
	{"W4", "a second HELLO", "HELLO 1\n\n"},
	{"W7", "DONE of a call that never was", "DONE 77 0\n\n"},
}

func (k *probe) checkGarbage() {
	const mend = "Look at each head as a whole before anything is done, and end the session at the first thing that is not as the rules have it"
	for _, g := range garbage {
		if k.late() {
			k.note("not all was tried: the case has no more time (--timeout)")
			return
		}
		if k.kind == isFIFO && len(g.bytes) > 4<<10 {
			continue // what is left of it in the FIFO would be the next session's
		}
		p := k.session()
		if p == nil {
			return
		}
		p.raw([]byte(g.bytes))
		before := len(k.result.Findings)
		p.refuses(fmt.Sprintf("%s from the host (%s)", g.words, brief([]byte(g.bytes))), "W3", "that the sidecar ends the session, as that breaks rule "+g.rule, mend)
		if len(k.result.Findings) > before+3 {
			return
		}
		p.kill()
	}
	// Without a hello there is no session.
	p := k.dial(dialing{})
	p.send(wire.Message{Verb: wire.Call, ID: 1, Name: []byte(nobody.label)}, nil)
	p.refuses("CALL from the host before its hello", "W3", "that the sidecar ends the session, as that breaks rule W4", mend)
}

func (k *probe) checkWays() {
	if k.kind != isProgram {
		k.skip("it is no program that was started here")
		return
	}
	k.expect("W16", "a session by the standard streams, where the environment names no others", "Use the descriptors of FERRULE_SIDECAR where it is set, and the standard input and output where it is not")
	p := k.begun(dialing{standard: true})
	if p = k.started(p); p == nil {
		return
	}
	p.works(", by the standard streams")
	if k.way == 1 {
		k.note("where FERRULE_SIDECAR names descriptors, it uses these")
	}
}

func (k *probe) checkConnections() {
	k.expect("W17", "a session for each connection", "Keep what belongs to a session with its connection, and accept the next one meanwhile")
	switch k.kind {
	case isProgram:
		k.skip("it does not listen")
		return
	case isFIFO:
		for range 3 {
			p := k.session()
			if p == nil || !p.works("") {
				return
			}
			p.finish()
		}
		return
	}
	var all []*peer
	for range 3 {
		p := k.session()
		if p == nil {
			return
		}
		all = append(all, p)
	}
	for _, p := range all {
		if !p.works(", on one of three connections") {
			return
		}
	}
	all[0].raw([]byte("what is this\n\n"))
	all[1].finish()
	if !all[2].works(", after another session has ended, and one was broken off") {
		return
	}
	if p := k.session(); p != nil {
		p.works(", on a connection that came later")
	}
}

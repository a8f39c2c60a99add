package check

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// helloLimit is how long a sidecar has for its hello (rule W4).
const helloLimit = 30 * time.Second

const mendHello = "Send HELLO 1 with the manifest as its body as soon as the program is ready, and flush the stream"

// greeting is the host's hello.
func (p *peer) greeting() wire.Message {
	return wire.Message{Verb: wire.Hello, Version: wire.Version, Token: []byte(p.k.Token)}
}

// greeted waits for the sidecar's hello. It reports whether that came, and what else is a finding.
func (p *peer) greeted() bool {
	k := p.k
	// A program may take long to start, which is no part of the case.
	begun := time.Now()
	defer func() { k.until = k.until.Add(time.Since(begun)) }()
	limit := helloLimit
	if k.options.Start > 0 {
		limit = min(limit, k.options.Start)
	}
	ok := p.pump(begun.Add(limit), func() bool { return p.hello != nil })
	if ok && p.hello.err != nil { // a print: its hello may come by the other way
		print := p.hello
		if !p.pump(begun.Add(k.patience()), func() bool { return p.hello.err == nil }) && !p.over {
			p.choose(0)
			p.ended(print.err)
		}
		ok = p.hello.err == nil
	}
	switch {
	case ok && p.hello.Verb == wire.Hello:
	case p.faulty || k.ctx.Err() != nil:
		return false
	case p.over:
		p.broke("W4", "", "HELLO 1", mendHello, "no hello: %s", p.end())
		return false
	case ok: // another message, which is a finding already
		return false
	case limit < helloLimit:
		p.broke("W4", "", fmt.Sprintf("HELLO 1 within the time of --timeout (a host waits %v, where it says nothing else)", helloLimit), mendHello, "no hello in %v", limit)
		return false
	default:
		p.broke("W4", "", "HELLO 1 within 30 seconds", mendHello, "no hello in %v", helloLimit)
		return false
	}
	if p.hello.Version != wire.Version {
		p.broke("W4", "", "HELLO 1", "Say the version of the wire that it speaks, which is 1", "HELLO %d", p.hello.Version)
		return false
	}
	return true
}

// begun is a session in which both have said hello. It is nil where that is a finding.
func (k *probe) begun(d dialing) *peer {
	p := k.dial(d)
	hello := p.greeting()
	hello.MaxBody = d.maxBody
	p.send(hello, nil)
	if !p.greeted() {
		p.kill()
		return nil
	}
	p.knows()
	return p
}

// knows reads the manifest of a session.
func (p *peer) knows() {
	p.about = p.k.about
	if about, err := wire.ParseManifest(p.hello.body); err == nil {
		p.about = about
	}
}

// service is what the host calls beside functions.
func service(name string) function { return function{label: name} }

// start starts the session's instance, where it has a start.
func (p *peer) start(in input) (*ask, bool) {
	if p.about == nil || !p.about.HasStart {
		return nil, true
	}
	return p.serve(wire.Start, in)
}

// serve calls a service. Nothing but its end is a finding.
func (p *peer) serve(name string, in input) (*ask, bool) {
	k := p.k
	rule, expected, mend, ordinary := k.rule, k.expected, k.mend, k.ordinary
	k.expect("W10", "an answer to "+name, "Answer it as any call")
	defer func() { k.rule, k.expected, k.mend, k.ordinary = rule, expected, mend, ordinary }()
	return p.call(service(name), in, calling{service: true})
}

func (k *probe) config() input { return input{"the configuration of --config", k.options.Config} }

// session is a session that may have calls. It is nil where that is a finding, or the case's time is over.
func (k *probe) session() *peer { return k.started(k.begun(dialing{})) }

func (k *probe) started(p *peer) *peer {
	if p == nil {
		return nil
	}
	a, ok := p.start(k.config())
	if !ok {
		return nil
	}
	if a != nil && a.status != abi.StatusOK {
		k.add(Error, "W10", "", fmt.Sprintf("ferrule.start with the configuration of --config: status %d, %s", a.status, brief(a.body)), "an instance that starts with it",
			"Give it a configuration that it takes (--config), and the host functions that it needs there (--answer)")
		return nil
	}
	p.started = true
	return p
}

// each calls do with functions, one after the other, as long as there is time, each time with a session that takes calls.
func (k *probe) each(all []function, do func(*peer, function)) {
	var p *peer
	for i, f := range all {
		if k.late() {
			k.note("%s not tried: the case has no more time (--timeout)", plural(len(all)-i, "function"))
			return
		}
		if p.spent() {
			if p = k.session(); p == nil {
				return
			}
		}
		do(p, f)
	}
}

// inputs calls a function with each of the inputs, each time in a session that takes calls: where it ends that, the next one goes on.
func (k *probe) inputs(all []function, inputs func(function) []input, o calling) {
	k.each(all, func(p *peer, f function) {
		for _, in := range inputs(f) {
			if k.late() || k.without[f.label] != "" || k.slow[f.label] {
				return
			}
			if p.spent() {
				if p = k.session(); p == nil {
					return
				}
			}
			p.call(f, in, o)
		}
	})
}

func (k *probe) checkHello() {
	p := k.dial(dialing{})
	p.send(p.greeting(), nil)
	if !p.greeted() {
		k.stop = "the sidecar has not said a hello that a host takes"
		p.kill()
		return
	}
	k.way = p.way
	if p.hello.MaxBody != 0 {
		k.maxBody = p.hello.MaxBody
	}
	// What comes right after it would be a message of no use, or a print.
	p.pump(k.soon(50*time.Millisecond), func() bool { return false })
	about, err := wire.ParseManifest(p.hello.body)
	if err == nil {
		p.about, k.about = about, about
	}
	k.manifest = p.hello.body
	if p.over && !p.faulty {
		p.broke("W6", "", "a session that goes on until the host ends it", "Read messages until BYE, or the stream's end", "after its hello: %s", p.end())
		k.stop = "the sidecar ends after its hello"
	}
}

func (k *probe) checkManifest() {
	_, err := wire.ParseManifest(k.manifest)
	var broken *wire.Error
	switch {
	case errors.As(err, &broken):
		mend := "Mend the manifest, which is the body of the hello"
		if cut := strings.Contains(broken.Found, "it ends too early") || strings.Contains(broken.Found, "not UTF-8"); cut && beyondASCII(k.manifest) {
			mend += ". " + mendCounted
		}
		k.add(Error, broken.Rule, "", broken.Found, broken.Expected, mend)
		k.stop = "the manifest breaks the wire"
	case len(k.about.Funcs)+len(k.about.Hooks) == 0:
		k.add(Warning, "W5", "", "a manifest without a function and without a hook", "one at least", "Name in functions, or in hooks, what hosts may call")
	case k.web() && (len(k.about.Imports) > 0 || k.about.HasStart || k.about.HasStop || k.about.HasConfigure || k.about.HasSave):
		k.add(Error, "W18", "", "a manifest with imports, or with services", "neither, as HTTP has none", "Leave them out where the sidecar is an HTTP server")
	}
}

func (k *probe) checkWords() {
	r := &Result{}
	checkWords(&static{lib: &inspect.Library{Description: *k.about}, result: r})
	for _, f := range r.Findings {
		f.Rule, f.Mend = "W5", strings.TrimSuffix(f.Mend, ", without ferrule_fn_")
		f.Expected = strings.ReplaceAll(f.Expected, "the library's", "the sidecar's") + " (R32 of ferrule.h)"
		k.result.add(f)
	}
}

func (k *probe) checkStart() {
	p := k.session()
	if p == nil {
		if len(k.result.Findings) > 0 && k.ctx.Err() == nil {
			k.stop = "no instance starts"
		}
		return
	}
	p.stopped()
}

// stopped calls ferrule.stop where there is one.
func (p *peer) stopped() {
	if !p.about.HasStop || p.spent() {
		return
	}
	p.started = false
	if a, ok := p.serve(wire.Stop, input{"no input", nil}); ok && a.status != abi.StatusOK {
		p.k.add(Warning, "W10", "", fmt.Sprintf("ferrule.stop: status %d, %s", a.status, brief(a.body)), "a stop that works", "Answer with 0: the host can do no more than to log it")
	}
}

func (k *probe) checkCall() {
	k.inputs(k.called(true), k.samples, calling{})
}

func (k *probe) checkInputs() {
	k.inputs(k.called(false), func(function) []input {
		all := append([]input{}, notUTF8...)
		for _, n := range []int{7, 1000, 10_000} {
			all = append(all, input{fmt.Sprintf("%d random bytes (--seed %d)", n, k.options.Seed), k.bytes(n)})
		}
		return all
	}, calling{})
}

const mendUnknown = "Look each name up, and answer with status 3 where there is none"

// unsupported reports that something was not answered as a name is that is not known.
func (p *peer) unsupported(what string, a *ask) {
	if a.status != abi.StatusUnsupported {
		p.broke("W7", "", "status 3 for a name that is not known", mendUnknown, "%s: status %d", what, a.status)
	}
}

func (k *probe) checkUnknown() {
	k.expect("W7", "status 3 for a name that is not known", mendUnknown)
	p := k.session()
	if p == nil {
		return
	}
	unknown := []function{nobody, {label: "hook " + nobody.label}, {label: "ferrule.of_a_later_version"}}
	for _, f := range k.functions() {
		name, hook := strings.CutPrefix(f.label, "hook ")
		has := func(label string) bool {
			for _, g := range k.functions() {
				if g.label == label {
					return true
				}
			}
			return false
		}
		if !hook && !has("hook "+name) {
			unknown = append(unknown, function{label: "hook " + name})
			break
		}
		if hook && !has(name) {
			unknown = append(unknown, function{label: name})
			break
		}
	}
	for _, s := range []struct {
		has  bool
		name string
	}{{k.about.HasConfigure, wire.Configure}, {k.about.HasSave, wire.Save}} {
		if !s.has {
			unknown = append(unknown, service(s.name))
		}
	}
	for _, f := range unknown {
		a, ok := p.call(f, input{"a text", []byte("hello")}, calling{service: true})
		if !ok {
			return
		}
		p.unsupported("a call of "+f.label, a)
	}
}

// works calls a function that nobody has, which shows that the session goes on.
func (p *peer) works(after string) bool {
	a, ok := p.call(nobody, input{"a text", []byte("hello")}, calling{how: after})
	if ok {
		p.unsupported("a call of "+nobody.label+after, a)
	}
	return ok
}

func (k *probe) checkLate() {
	p := k.dial(dialing{})
	// One that sends its own first has done so; another one waits.
	p.pump(k.soon(k.budget()), func() bool { return p.over || p.hello != nil })
	p.pump(k.soon(100*time.Millisecond), func() bool { return p.over })
	if p.over && !p.faulty {
		p.broke("W4", "", "that it waits for the host's hello", "Wait as long as the stream is open", "%s before the host's hello had come", p.end())
		return
	}
	if p.over {
		return
	}
	p.style.single = true
	p.send(p.greeting(), nil)
	if !p.greeted() {
		return
	}
	p.style.single = false
	p.knows()
	if k.started(p) != nil {
		p.works("")
	}
}

func (k *probe) checkFields() {
	k.expect("W1", "that a field which is not known is left out of account, and the case of names, and the spaces around values, do not count", mendHeads)
	p := k.dial(dialing{})
	p.style.odd = true
	hello := p.greeting()
	hello.MaxBody, hello.Level = 1<<20, abi.LogWarn
	p.send(hello, nil)
	if !p.greeted() {
		p.kill()
		return
	}
	p.level = abi.LogWarn
	p.knows()
	if k.started(p) != nil {
		p.works("")
	}
}

func (k *probe) checkVersion() {
	p := k.dial(dialing{})
	hello := p.greeting()
	hello.Version = 2
	p.send(hello, nil)
	p.refuses("HELLO 2", "W4", "the end of the session: its own version is 1", "Compare the version, and end the session where it is another one")
}

// refuses expects that the sidecar ends the session by itself.
func (p *peer) refuses(what, rule, expected, mend string) {
	k := p.k
	p.answered = func(m mail) {
		p.broke(rule, "", expected, mend, "%s, and the answer DONE %d %d", what, m.ID, m.Status)
		p.faulty = true
	}
	if p.gone(k.soon(k.patience())) {
		if p.process != nil && p.process.State().Signal() != nil {
			p.broke(rule, "", expected, mend, "after %s the sidecar has died: %s", what, p.end())
		}
		return
	}
	if k.ctx.Err() == nil && !p.faulty {
		p.broke(rule, "", expected, mend, "%s, and the session goes on", what)
	}
	p.kill()
}

const mendHeads = "Take a line's end as LF or as CR LF, split fields at the first colon, fold the names' case, cut spaces off, and pass over names that are not known"

func (k *probe) checkHeads() {
	k.expect("W1", "heads as the rule has them", mendHeads)
	for _, s := range []struct {
		words string
		style style
	}{{", with heads whose lines end in CR LF", style{crlf: true}}, {", with fields in capitals, spaces around values, and fields that nobody knows", style{odd: true}},
		{", with both", style{crlf: true, odd: true}}, {", with Content-Length: 0", style{zero: true}}} {
		p := k.session()
		if p == nil {
			return
		}
		p.style = s.style
		for _, f := range k.some() {
			for _, in := range k.samples(f)[:3] {
				if p.spent() || k.late() {
					break
				}
				p.call(f, in, calling{how: s.words, timeout: 60_000})
			}
		}
		p.style = style{}
		if !p.spent() {
			p.works(s.words + ", and an ordinary one behind them")
		}
		p.finish()
	}
}

func (k *probe) checkPieces() {
	k.expect("W1", "that a message is one however it is cut in the stream", "Read on until the head's empty line, and until the body has all its bytes: one read may give a part, or more than one message")
	p := k.dial(dialing{})
	p.style.single = true
	p.send(p.greeting(), nil)
	if !p.greeted() {
		p.kill()
		return
	}
	p.knows()
	if k.started(p) == nil {
		return
	}
	for _, f := range k.some() {
		if !p.spent() && !k.late() {
			p.call(f, k.samples(f)[2], calling{how: ", in pieces of one byte"})
		}
	}
	if p.spent() {
		if p = k.session(); p == nil {
			return
		}
	}
	p.style.single = false
	// Several in one piece, and one of them cut in the middle.
	for range 3 {
		p.style.collect = true
		a := p.begin(nobody, input{"a text", []byte("hello\n\nCALL 1 x\n\n")}, calling{how: ", in one piece with what comes before and behind it"})
		p.send(wire.Message{Verb: wire.Cancel, ID: 1 << 40}, nil)
		all := bytes.Join(p.held, nil)
		p.held, p.style.collect = nil, false
		p.raw(all[:len(all)/2])
		time.Sleep(time.Millisecond)
		p.raw(all[len(all)/2:])
		if !p.await(a) {
			return
		}
		p.unsupported("a call of "+nobody.label, a)
	}
}

func (k *probe) checkBodies() {
	k.expect("W1", "that the body is as many bytes as Content-Length says, whatever they are, and there is none without it",
		"Read that many bytes, and no text: an empty line in it is no message's end, and a byte is no character")
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	sizes := []input{{"no body", nil}, {"a body of one byte", []byte{0}}, {"a line feed", []byte("\n")}, {"a body that looks like a message", []byte("\n\nBYE\n\n")}, {"each byte there is", binary},
		{"characters of several bytes", []byte(strings.Repeat("Grüße, 世界 ", 100))},
		{"64 KiB", bytes.Repeat([]byte("0123456789abcde\n"), 4<<10)}, {"8 MiB", bytes.Repeat(binary, 32<<10)}}
	for _, f := range k.some() {
		var p *peer
		for _, in := range sizes {
			if uint64(len(in.bytes)) > k.maxBody || k.late() || k.without[f.label] != "" || k.slow[f.label] {
				continue
			}
			if p.spent() {
				if p = k.session(); p == nil {
					return
				}
			}
			if _, ok := p.call(f, in, calling{}); ok && !p.spent() {
				p.works(", behind " + in.name)
			}
		}
		if p != nil {
			p.finish()
		}
	}
}

func (k *probe) checkIDs() {
	k.expect("W7", "ids of any number from 1 to 2⁶³-1, in any order, and again once a call was answered", "Keep ids as whole numbers of 64 bits, and forget them with the DONE")
	for _, f := range k.some() {
		p := k.session()
		if p == nil {
			return
		}
		for _, id := range []uint64{1<<63 - 1, 1, 1, 1 << 53, 1<<53 + 1, 2, 1<<32 + 1, 1, 1<<63 - 1} {
			if p.spent() || k.late() {
				break
			}
			p.call(f, k.samples(f)[1], calling{id: id, how: fmt.Sprintf(", with the id %d", id)})
		}
		p.finish()
	}
}

// many is how many calls there are one after the other.
const many = 1000

func (k *probe) checkMany() {
	k.expect("W7", "one answer to each call, however many there were", "Forget what belongs to a call with its DONE")
	all := k.some()
	p := k.session()
	for n := range many {
		if p == nil || k.late() {
			k.note("%s of %d: the case has no more time (--timeout)", plural(n, "call"), many)
			return
		}
		f := all[n%len(all)]
		p.call(f, k.samples(f)[1+n%2], calling{how: fmt.Sprintf(", after %s", plural(n, "call"))})
		if p.spent() {
			if k.without[f.label] != "" || len(k.result.Findings) > 0 {
				return
			}
			p = k.session()
		}
	}
}

// gave is an answer in words, of its status and its body with a space between them.
func gave(answer string) string {
	status, body, _ := strings.Cut(answer, " ")
	if status == "0" {
		return brief([]byte(body))
	}
	return "status " + status + ", " + brief([]byte(body))
}

// constant are inputs for a function, with what they give twice in a session. Those that give something else each time are left out.
func (p *peer) constant(f function, inputs []input) (same []input, outputs []string) {
	of := func(a *ask) string { return fmt.Sprintf("%d %s", a.status, a.body) }
	for _, in := range inputs {
		if p.k.slow[f.label] {
			return nil, nil
		}
		first, ok := p.call(f, in, calling{})
		if !ok || p.spent() {
			return nil, nil
		}
		second, ok := p.call(f, in, calling{})
		if !ok || p.spent() {
			return nil, nil
		}
		if of(first) == of(second) {
			same, outputs = append(same, in), append(outputs, of(first))
		}
	}
	return same, outputs
}

func (k *probe) checkConcurrent() {
	if k.about.Manifest.Threads != abi.Concurrent {
		k.skip("the sidecar is %s: a host has one call at a time", k.about.Manifest.Threads)
		return
	}
	k.expect("W9", "answers to all calls that run at once", "Run each call by itself, write each message in one piece, and give each answer the id of its call")
	k.each(k.called(false), func(p *peer, f function) {
		inputs, outputs := p.constant(f, k.samples(f))
		if len(inputs) == 0 {
			return
		}
		var asks []*ask
		for n := range 32 {
			asks = append(asks, p.begin(f, inputs[n%len(inputs)], calling{how: ", at the same time as others"}))
		}
		for n, a := range asks {
			if !p.await(a) {
				return
			}
			if got := fmt.Sprintf("%d %s", a.status, a.body); got != outputs[n%len(outputs)] {
				p.broke("W9", f.label, "what it gives alone", "Keep what belongs to a call with the call, and give its answer its id", "%s: %s instead of %s", a.what, gave(got), gave(outputs[n%len(outputs)]))
				return
			}
		}
	})
	// Names that nobody has are answered as well.
	p := k.session()
	if p == nil {
		return
	}
	var asks []*ask
	for range 64 {
		asks = append(asks, p.begin(nobody, input{"a text", []byte("hello")}, calling{how: ", at the same time as others"}))
	}
	for _, a := range asks {
		if !p.await(a) {
			return
		}
		p.unsupported("a call of "+nobody.label, a)
	}
}

func (k *probe) checkTimeout() {
	for _, ms := range []uint64{60_000, 1, 1<<63 - 1} {
		k.inputs(k.some(), func(f function) []input { return k.samples(f)[:2] }, calling{timeout: ms, how: fmt.Sprintf(", with Timeout: %d", ms)})
	}
}

func (k *probe) checkCancel() {
	k.expect("W12", "an answer to a call that was cancelled, with status 4 or with its result", "Answer it all the same; of an id that has no call CANCEL means nothing")
	k.each(k.some(), func(p *peer, f function) {
		for _, in := range k.samples(f)[:3] {
			if p.spent() {
				return
			}
			a := p.begin(f, in, calling{how: ", cancelled at once"})
			p.cancel(a)
			if !p.await(a) || p.spent() {
				return
			}
			p.send(wire.Message{Verb: wire.Cancel, ID: a.id}, nil)    // crossed with its DONE
			p.send(wire.Message{Verb: wire.Cancel, ID: 1 << 50}, nil) // of no call
			if !p.works(", behind CANCEL of a call that is over, and of one that never was") {
				return
			}
			if _, ok := p.call(f, in, calling{id: a.id, how: ", with the id of a call that was cancelled"}); !ok {
				return
			}
		}
	})
}

func (k *probe) checkCancelRunning() {
	any := false
	for _, f := range k.called(true) {
		if !k.slow[f.label] {
			continue
		}
		any = true
		p := k.session()
		if p == nil || k.late() {
			return
		}
		a := p.begin(f, k.samples(f)[0], calling{how: ", cancelled after 50ms"})
		if p.pump(k.soon(50*time.Millisecond), func() bool { return a.answer }) || p.over {
			continue
		}
		p.cancel(a)
		p.cancel(a)
		if p.await(a) && !p.spent() && a.status == abi.StatusCancelled && k.about.Manifest.Threads == abi.Concurrent {
			p.works(", behind a call that was cancelled")
		}
	}
	if !any {
		k.skip("no function runs until it is cancelled")
	}
}

func (k *probe) checkMaxBody() {
	const most = 500
	k.expect("W2", "bodies of no more bytes than the host's Max-Body", mendLong)
	p := k.started(k.begun(dialing{maxBody: most}))
	if p == nil {
		return
	}
	for _, f := range k.called(false) {
		for _, n := range []int{most, most + 1, 20 * most} {
			if k.late() {
				return
			}
			if p.spent() {
				if p = k.started(k.begun(dialing{maxBody: most})); p == nil {
					return
				}
			}
			if k.without[f.label] != "" {
				break
			}
			p.call(f, input{plural(n, "letter"), bytes.Repeat([]byte("a"), n)}, calling{how: fmt.Sprintf(", by a host with Max-Body: %d", most)})
		}
	}
}

func (k *probe) checkToken() {
	if k.Token == "" {
		k.skip("no token was given (--token)")
		return
	}
	for _, token := range []string{"", k.Token + "x", k.Token[:len(k.Token)-1]} {
		p := k.dial(dialing{})
		hello := p.greeting()
		hello.Token = []byte(token)
		p.send(hello, nil)
		words := "a hello with another token"
		if token == "" {
			words = "a hello without the token"
		}
		const mend = "Compare the token before anything is said, and end the session where it is another one"
		if p.pump(k.soon(k.patience()), func() bool { return p.hello != nil }) {
			p.broke("W4", "", "nothing said to who does not know the token", mend, "%s, answered by %s", words, p.hello.Verb)
			p.kill()
			continue
		}
		p.refuses(words, "W4", "the end of the session", mend)
	}
}

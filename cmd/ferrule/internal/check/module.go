package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/words"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// A module's memory is not this process's, so a WebAssembly module is called through package loader: the engine looks at the frame, the result and the use of
// services in every call, and says which rule is broken. A script is called so, too: its interpreter is the plug-in that the engine looks at.

// throughEngine reports whether a plug-in is called through package loader. lib may be nil.
func throughEngine(lib *inspect.Library) bool { return engines.IsModule(lib) || engines.IsScript(lib) }

// outOfReach is why a case has nothing to try in a module.
var outOfReach = map[string]string{
	"input-read-only": "a module gets a copy of its input", "input-guard": "a module cannot reach what is behind its memory",
	"room-guard": "a module cannot reach what is behind its memory", "room-sizes": "a module's room is the engine's, of one size", "room": "a module's room is the engine's",
	"frame": "the engine keeps the frame, and gives a module a copy", "frame-size": "the frame of a module is the engine's, of one size", "host-size": "the table of a module is its own",
	"quick":     "a quick function of a module is called as any other",
	"instances": "an instance of a module has a memory of its own", "handles": "an instance of a module has a memory of its own",
	"signal-handlers": "a module has none", "signal-mask": "a module has none", "children": "a module starts no processes", "working-directory": "a module has none",
	"locale": "a module's is its own", "floating-point": "a module's is its own", "umask": "a module has none", "limits": "a module has none", "environment": "a module's is its own",
	caseStreams: "a module's are not the host's", "threads": "a module has no threads", "late-frames": "a module has no threads", "between": "nothing happens between the calls of a module",
	"release-late": "the engine releases what a module gives before the call ends", "threads-end": "a module has no threads", "unload": "nothing of a module is left when it is closed",
	"cancel-set": "a module is not entered when its call was cancelled before",
	"start-stop": "an instance of a module leaves nothing when its memory goes",
}

// moduleCases are those that are tried otherwise in a module.
var moduleCases map[string]func(*module)

func init() {
	moduleCases = map[string]func(*module){
		caseOpen:         (*module).checkOpen,
		"start":          (*module).checkStart,
		CaseSandbox:      (*module).checkSandbox,
		"input-empty":    func(m *module) { m.inputs(input{"no input", nil}) },
		"input-byte":     func(m *module) { m.inputs(someBytes()...) },
		"input-text":     func(m *module) { m.each(func(f function) { m.calls(f, m.samples(f)[2:], nil) }) },
		"output":         func(m *module) { m.each(func(f function) { m.calls(f, m.samples(f), nil) }) },
		"release":        func(m *module) { m.each(func(f function) { m.calls(f, m.samples(f), nil) }) },
		"services":       func(m *module) { m.each(func(f function) { m.calls(f, m.samples(f), nil) }) },
		"input-not-utf8": func(m *module) { m.inputs(notUTF8...) },
		"input-random": func(m *module) {
			var all []input
			for _, n := range randomSizes {
				all = append(all, input{fmt.Sprintf("%d random bytes (--seed %d)", n, m.Seed), m.bytes(n)})
			}
			m.inputs(all...)
		},
		"input-large":   func(m *module) { m.inputs(m.large()...) },
		"status":        (*module).checkStatus,
		"message":       (*module).checkMessage,
		"wants":         (*module).checkWants,
		"streams":       (*module).checkStreams,
		"info":          (*module).checkInfo,
		"next":          (*module).checkNext,
		"progress":      (*module).checkProgress,
		"import-fails":  func(m *module) { m.imports(abi.StatusFailed, []byte("no"), nil) },
		"import-empty":  func(m *module) { m.imports(abi.StatusOK, nil) },
		"import-large":  func(m *module) { m.imports(abi.StatusOK, bytes.Repeat([]byte("i"), MaxInput)) },
		"cancel-middle": func(m *module) { m.cancel(10 * time.Millisecond) },
		"batch":         (*module).checkBatch,
		"config":        (*module).checkConfig,
		"configure":     (*module).checkConfigure,
		"handover":      (*module).checkHandover,
		"leaks":         (*module).checkLeaks,
		"random-many":   (*module).checkRandomMany,
	}
}

// module is the worker's side of a case for a module, or a script.
type module struct {
	*kit
	plugin    *loader.Plugin
	sandboxed bool   // it is opened in the sandbox of the task: one in Python
	here      bool   // a script in Python is opened in this process
	again     bool   // a call that had to be ended was tried again
	how       string // what differs from an ordinary call, for findings
}

// options are those that a module is opened with.
func (m *module) options(config []byte) []loader.Option {
	opts := []loader.Option{loader.WithConfig(config), loader.WithLogger(slog.New(slog.DiscardHandler))}
	for ordinal, i := range m.lib.Ordinals() {
		if ordinal >= len(m.lib.Imports) && m.wants != offered {
			break
		}
		opts = append(opts, loader.WithHostFunc(i.Name, func(_ context.Context, in []byte) ([]byte, error) {
			status, out := m.serve(uint32(ordinal), in)
			if status != abi.StatusOK {
				return nil, errors.New(string(out))
			}
			return out, nil
		}))
	}
	return opts
}

// openWith opens the module with these options, and what it may have.
func (m *module) openWith(permits engine.Permits, opts ...loader.Option) (*loader.Plugin, error) {
	module, err := m.engine(permits)
	if err != nil {
		return nil, err
	}
	return loader.Open(m.Path, append(opts, module)...)
}

// engine is what opens the module, or the script.
func (m *module) engine(permits engine.Permits) (loader.Option, error) {
	switch {
	case engines.IsJavaScript(m.lib):
		return engines.JavaScript(permits, wasm.WithGrace(grace))
	case !engines.IsPython(m.lib):
		return engines.Wasm(permits, wasm.WithCache(m.Compiled), wasm.WithGrace(grace))
	case m.here:
		return engines.PythonHere(m.Adapter), nil
	}
	var policy *sandbox.Policy
	if m.sandboxed {
		policy = m.Policy
	}
	return engines.Python(m.Adapter, m.Path, policy, isolate.WithGrace(grace), isolate.WithStopTimeout(stopGrace))
}

// grace is how long a call may go on that is cancelled, before its engine ends it. It is long, for machines that have other things to do; cancel-middle finds what takes
// more than soon.
const grace = 3 * time.Second

// stopGrace is how long a worker may take to stop the plug-in. It is as long as a case has time for, for the same machines.
const stopGrace = 8 * time.Second

// open opens the module. When that fails it reports so, and no other case can run.
func (m *module) open(more ...loader.Option) bool {
	opening := step{What: "opening the module", Rule: "R4", Expected: "a module that opens", Mend: "Compile it anew", Fatal: true}
	if engines.IsScript(m.lib) {
		opening = step{What: "opening the script", Rule: "R15", Expected: "a script whose top level ends soon", Mend: "Do in functions what takes long", Fatal: true}
	}
	m.send(event{Step: &opening})
	p, err := m.openWith(engine.Permits{}, append(m.options(m.Config), more...)...)
	if err != nil {
		m.unopened(err)
		m.send(event{Stop: map[bool]string{false: "the module cannot be opened", true: "the script cannot be opened"}[engines.IsScript(m.lib)]})
		return false
	}
	m.plugin = p
	m.functions = nil
	for _, f := range functions(m.lib, func(string) uintptr { return 0 }) {
		if m.Without[f.label] == "" {
			m.functions = append(m.functions, f)
		}
	}
	return true
}

// unopened reports why the module does not open.
func (m *module) unopened(err error) {
	f := Finding{Rule: "R4", Severity: Error, Seen: words.Error(err).Error(), Expected: "a module that opens", Mend: "See what it says"}
	if engines.IsScript(m.lib) {
		f.Expected = "a script that opens"
	}
	if missing := missingFunction(m.lib, err); missing != "" {
		m.find(Finding{Rule: "R2", Severity: Error, Seen: missing, Expected: "a function for each fn= and hook= of the header", Mend: "Write it, and export it in JavaScript, or take its name out of the header"})
		return
	}
	if errors.Is(err, loader.ErrStart) {
		f.Rule, f.Expected = "R15", "an instance that starts with the configuration of --config"
		f.Mend = "Give it a configuration that it takes (--config), and the host functions that it needs there (--answer)"
	}
	if broken, ok := errors.AsType[*loader.ContractError](err); ok {
		f.Rule, f.Seen, f.Expected, f.Mend = broken.Rule, broken.Func+": "+broken.Found, broken.Expected, "See the rule in ferrule.h"
	}
	m.find(f)
}

// stopping says what takes the time when an instance does not stop.
func (m *module) stopping() {
	m.send(event{Step: &step{What: "ferrule_stop", Rule: "R15", Expected: "a stop that is soon done", Mend: "End what an instance waits for before it stops, such as its threads"}})
}

func (m *module) close() {
	if m.plugin == nil {
		return
	}
	m.stopping()
	if err := m.plugin.Close(); err != nil {
		m.find(Finding{Rule: "R15", Severity: Warning, Seen: "closing it: " + words.Error(err).Error(), Expected: "a stop that works",
			Mend: "Return FERRULE_OK: the host can do no more than to log it"})
	}
	m.plugin = nil
}

// each calls do for each function of the open module, which is opened here where it is not.
func (m *module) each(do func(f function)) {
	if m.plugin == nil {
		if !m.open() {
			return
		}
		defer m.close()
	}
	if len(m.functions) == 0 {
		m.skip("there is no function to call")
		return
	}
	for _, f := range m.functions {
		do(f)
	}
}

func (m *module) inputs(all ...input) { m.each(func(f function) { m.calls(f, all, nil) }) }

// calls calls the function with each of the inputs, as long as it is not one that runs until it is cancelled.
func (m *module) calls(f function, inputs []input, do func(input, *outcome)) {
	for _, in := range inputs {
		if m.slow[f.label] {
			if m.over[f.label] {
				m.note("%s was not called with every input: %s", f.label, untilCancelled)
			}
			return
		}
		r := m.call(context.Background(), f, in)
		if do != nil && r != nil {
			do(in, r)
		}
	}
}

// outcomes are what every function makes of some inputs, by its label; nil where it does not the same twice.
func (m *module) outcomes() map[string][]*outcome {
	all := map[string][]*outcome{}
	for _, f := range m.functions {
		if f.stream != 0 || f.wrap {
			continue
		}
		var tries [2][]*outcome
		for i := range tries {
			m.calls(f, m.samples(f), func(_ input, r *outcome) { tries[i] = append(tries[i], r) })
		}
		if slices.EqualFunc(tries[0], tries[1], (*outcome).same) {
			all[f.label] = tries[0]
		}
	}
	return all
}

// changed reports functions that do something else after settings were refused.
func (m *module) changed(before, after map[string][]*outcome, in input) {
	for label, was := range before {
		if is := after[label]; is != nil && !slices.EqualFunc(was, is, (*outcome).same) {
			m.find(Finding{Rule: "R28", Severity: Error, Function: label, Seen: fmt.Sprintf("%s gives something else after %s were refused", label, in.name),
				Expected: "that settings which are refused change nothing", Mend: "Change nothing before all of the settings were looked at"})
		}
	}
}

// checkKept hands over twice more, with no call between: what a successor saves is what it got.
func (m *module) checkKept(first *loader.State) {
	states := []*loader.State{first}
	for range 2 {
		var state *loader.State
		next, err := m.plugin.Handover(context.Background(), func(s *loader.State) (*loader.Plugin, error) {
			state = s
			return m.openWith(engine.Permits{}, append(m.options(m.Config), loader.WithState(s))...)
		})
		if err != nil {
			m.find(Finding{Rule: "R29", Severity: Error, Seen: "handing over again: " + words.Error(err).Error(), Expected: "that what ferrule_save gives is what ferrule_resume takes",
				Mend: "Have ferrule_resume take what ferrule_save of the same version gives"})
			return
		}
		m.stopping()
		_ = m.plugin.Close()
		m.plugin = next
		states = append(states, state)
	}
	same := func(a, b *loader.State) bool { return slices.EqualFunc(a.Instances(), b.Instances(), bytes.Equal) }
	if !same(states[0], states[1]) && same(states[1], states[2]) { // what differs each time, such as a time of day, says nothing
		m.find(Finding{Rule: "R29", Severity: Error, Seen: fmt.Sprintf("a successor that got the state %.60q saves %.60q, with no call between", states[0].Instances()[0], states[1].Instances()[0]),
			Expected: "that a successor goes on with the state that it got", Mend: "Have ferrule_resume take all that ferrule_save gives"})
	}
}

// get finds the function.
func (m *module) get(p *loader.Plugin, f function) *loader.Func {
	name, hook := strings.CutPrefix(f.label, "hook ")
	get := p.Func
	if hook {
		get = p.Hook
	}
	fn, err := get(name)
	if err != nil {
		panic(err) // the file has it
	}
	return fn
}

// call calls the function, and reports what is wrong with that. There is no outcome where the function has broken a rule, or did not stop.
func (m *module) call(ctx context.Context, f function, in input) *outcome {
	m.send(event{Step: &step{What: f.label + " with " + in.name + m.how, Function: f.label, Rule: "R7", Expected: anyInput, Mend: mendInput}})
	within := budget
	if len(in.bytes) >= 64<<10 {
		within = time.Hour // the case's own limit ends it
	}
	if f.wrap {
		ctx = loader.WithNext(ctx, func(_ context.Context, in []byte) ([]byte, error) {
			if status, out := m.behind(in); status != abi.StatusOK {
				return nil, errors.New(string(out))
			} else {
				return out, nil
			}
		})
	}
	var begun time.Time
	out, err := m.twice(func() ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		begun = time.Now()
		return m.get(m.plugin, f).Stream(ctx, in.bytes, m.reader(f, in), m.writer(f))
	})
	if time.Since(begun) > budget && len(in.bytes) < 64<<10 { // twice, because once may be the machine's doing
		if m.slow[f.label] = m.over[f.label]; m.slow[f.label] {
			m.send(event{Slow: f.label})
		}
		m.over[f.label] = true
	}
	return m.judge(f, in, out, err)
}

// wasEnded reports whether a call was ended by its engine, as it went on when it was cancelled.
func wasEnded(err error) bool {
	if errors.Is(err, loader.ErrCrash) { // of a script's worker
		return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	}
	_, ended := errors.AsType[*loader.DeadlineError](err)
	return ended
}

// twice makes a call that had to be ended once more, one of a case: once may be the machine's doing, and what does not end does not end the next time either. A call
// whose time was over before its function was entered, as while a new worker was started, is made again, too.
func (m *module) twice(call func() ([]byte, error)) ([]byte, error) {
	for tries := 0; ; tries++ {
		out, err := call()
		switch {
		case wasEnded(err) && !m.again:
			m.again = true
		case entered(err) || tries >= 6:
			return out, err
		}
	}
}

// judge makes an outcome of what a call has come to, or a finding.
func (m *module) judge(f function, in input, out []byte, err error) *outcome {
	finding := Finding{Severity: Error, Function: f.label, Mend: mendInput}
	with := fmt.Sprintf("%s with %s%s: ", f.label, in.name, m.how)
	switch e := err.(type) {
	case nil:
		return &outcome{status: abi.StatusOK, out: out}
	case *loader.CallError:
		if !entered(err) {
			m.note("%s with %s%s was not tried: the machine was too busy to begin it in time", f.label, in.name, m.how)
			return nil
		}
		if e.Status != abi.StatusPanic || !strings.HasPrefix(e.Message, "the module trapped: ") && !strings.HasPrefix(e.Message, "the module exited with the code ") { // which are the engine's words
			return &outcome{status: e.Status, out: []byte(e.Message)}
		}
		finding.Rule, finding.Seen = "R12", with+e.Message
		finding.Expected = "the function to return: no trap, no exception, no panic, no exit leaves it"
	case *loader.ContractError:
		finding.Rule, finding.Seen, finding.Expected, finding.Mend = e.Rule, with+e.Found, e.Expected, "See the rule in ferrule.h"
	case *loader.CrashError: // of a script's worker
		finding.Rule, finding.Seen = "R12", with+words.Error(e).Error()
		finding.Expected, finding.Mend = "the function to return: nothing ends its process", "Raise an exception, or Failure, in place of what ends the process"
		if wasEnded(err) {
			finding.Rule, finding.Seen = "R17", with+"its worker was killed, as it did not end when it was cancelled"
			finding.Expected, finding.Mend = "a function that returns soon after that", m.mendCancel()
		}
	case *loader.DeadlineError:
		finding.Rule, finding.Seen = "R17", fmt.Sprintf("%sit was ended %v after it was cancelled", with, e.Grace)
		finding.Expected, finding.Mend = "a function that returns soon after that", m.mendCancel()
	default:
		m.note("%s%v", with, words.Error(err))
		return nil
	}
	m.find(finding)
	m.send(event{Broken: f.label})
	m.slow[f.label] = true
	return nil
}

func (m *module) checkOpen() {
	if m.open() {
		m.stopping()
		_ = m.plugin.Close() // which is case start's
	}
}

func (m *module) checkStart() {
	if !m.open() {
		return
	}
	defer m.close()
	s, err := m.plugin.NewSession(context.Background(), m.Config)
	if err != nil {
		m.unopened(err)
		return
	}
	m.stopping()
	if err := s.Close(); err != nil {
		m.find(Finding{Rule: "R15", Severity: Warning, Seen: "ferrule_stop: " + words.Error(err).Error(), Expected: "a stop that works",
			Mend: "Return FERRULE_OK: the host can do no more than to log it"})
	}
}

// checkSandbox opens the module with what the sandbox's flags give, and compares.
func (m *module) checkSandbox() {
	const mend = "Do without what the sandbox refuses, or say to hosts what the plug-in needs; --allow-read, --allow-write and --memory give more"
	permits := engine.Permits{Read: m.Policy.Read, Write: m.Policy.Write, Connect: m.Policy.Connect, Memory: m.Policy.Memory}
	m.sandboxed = true
	p, err := m.openWith(permits, m.options(m.Config)...)
	m.sandboxed = false
	if err != nil {
		m.find(Finding{Rule: "R20", Severity: Error, Seen: "in the sandbox it does not open: " + words.Error(err).Error(), Expected: "a module that opens in the sandbox, as it does without", Mend: mend})
		return
	}
	defer p.Close()
	m.each(func(f function) {
		m.calls(f, m.samples(f), func(in input, r *outcome) {
			if r.status != abi.StatusOK || f.stream != 0 || f.wrap {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), budget+5*time.Second)
			defer cancel()
			if _, err := m.get(p, f).Call(ctx, in.bytes); err != nil {
				m.find(Finding{Rule: "R20", Severity: Error, Function: f.label, Seen: fmt.Sprintf("%s with %s, in the sandbox: %v", f.label, in.name, words.Error(err)),
					Expected: "what it gives without the sandbox", Mend: mend})
			}
		})
	})
}

func (m *module) checkStatus() {
	m.each(func(f function) {
		statuses, panicked := map[abi.Status]int{}, ""
		m.calls(f, slices.Concat(m.samples(f), m.values(), notUTF8), func(in input, r *outcome) {
			statuses[r.status]++
			if r.status == abi.StatusPanic && panicked == "" {
				panicked = in.name
			}
			if r.status.Reserved() {
				m.find(reservedStatus(f, in, r.status))
			}
			m.uncaught(f, in, r)
		})
		m.alwaysFails(f, statuses, panicked)
	})
}

func (m *module) checkMessage() {
	m.each(func(f function) {
		m.calls(f, append(m.samples(f), notUTF8...), func(in input, r *outcome) {
			if r.status != abi.StatusOK {
				m.message(f, in, r)
			}
		})
	})
}

func (m *module) checkWants() {
	if len(m.lib.Wants) == 0 {
		m.skip("the library wants nothing")
		return
	}
	m.wants, m.how = withheld, ", with no want offered"
	m.each(func(f function) { m.calls(f, m.samples(f), nil) })
}

// checkStreams has streams come in pieces of a byte, break off, and find no taker.
func (m *module) checkStreams() {
	any := false
	for _, f := range functions(m.lib, func(string) uintptr { return 0 }) {
		any = any || f.stream != 0
	}
	if !any {
		m.skip("no function has a stream")
		return
	}
	m.each(func(f function) {
		if f.stream == 0 {
			return
		}
		for _, in := range m.samples(f) {
			for _, c := range []struct {
				how  string
				from func(io.Reader) io.Reader
				to   io.Writer
			}{{", its stream in pieces of a byte", iotest.OneByteReader, io.Discard},
				{", its input stream breaking off", func(r io.Reader) io.Reader { return iotest.TimeoutReader(iotest.OneByteReader(r)) }, io.Discard},
				{", with no taker of its output stream", func(r io.Reader) io.Reader { return r }, refusing{}}} {
				if m.slow[f.label] {
					return
				}
				m.how = c.how
				if f.stream&abi.StreamOut == 0 {
					c.to = nil
				}
				m.send(event{Step: &step{What: f.label + " with " + in.name + m.how, Function: f.label, Rule: "R24", Expected: anyInput, Mend: mendInput}})
				var begun time.Time
				out, err := m.twice(func() ([]byte, error) {
					ctx, cancel := context.WithTimeout(context.Background(), budget)
					defer cancel()
					begun = time.Now()
					from := m.reader(f, in)
					if from != nil {
						from = c.from(from)
					}
					return m.get(m.plugin, f).Stream(ctx, in.bytes, from, c.to)
				})
				if time.Since(begun) > budget {
					m.slow[f.label] = true
				}
				m.judge(f, in, out, err)
			}
		}
	})
}

// refusing takes nothing.
type refusing struct{}

var errRefusing = errors.New("nothing is taken")

func (refusing) Write([]byte) (int, error) { return 0, errRefusing }

func (m *module) checkInfo() {
	m.each(func(f function) {
		for _, value := range []string{"", strings.Repeat("v", 256)} {
			ctx := loader.WithInfo(context.Background(), loader.TraceParent, value)
			m.how = fmt.Sprintf(", where the host knows %s", plural(len(value), "byte"))
			for _, in := range m.samples(f) {
				if !m.slow[f.label] {
					m.call(ctx, f, in)
				}
			}
		}
	})
}

func (m *module) checkNext() {
	any := false
	m.each(func(f function) {
		if !f.wrap {
			return
		}
		any = true
		for _, c := range []struct {
			how    string
			behind func([]byte) (abi.Status, []byte)
		}{{", with what fails behind it", func([]byte) (abi.Status, []byte) { return abi.StatusFailed, []byte("no") }},
			{", with nothing as the result behind it", func([]byte) (abi.Status, []byte) { return abi.StatusOK, nil }},
			{", with 1 MiB behind it", func([]byte) (abi.Status, []byte) { return abi.StatusOK, bytes.Repeat([]byte("n"), MaxInput) }}} {
			m.how, m.behind = c.how, c.behind
			m.calls(f, m.samples(f), nil)
		}
	})
	if !any && m.functions != nil {
		m.skip("no hook stands around others")
	}
}

func (m *module) checkProgress() {
	ctx := loader.WithProgress(context.Background(), func(uint64, uint64) {})
	m.how = ", where somebody looks at the progress"
	m.each(func(f function) {
		for _, in := range m.samples(f) {
			if !m.slow[f.label] {
				m.call(ctx, f, in)
			}
		}
	})
}

// imports calls all functions with host functions that answer each of these.
func (m *module) imports(status abi.Status, answers ...[]byte) {
	if len(m.lib.Ordinals()) == 0 {
		m.skip("the library imports nothing")
		return
	}
	serve := m.serve
	defer func() { m.serve = serve }()
	if !m.open() { // with a ferrule_start that gets what it needs
		return
	}
	defer m.close()
	for _, answer := range answers {
		m.serve = func(uint32, []byte) (abi.Status, []byte) { return status, answer }
		m.how = fmt.Sprintf(", where host functions return %s and %s", strings.ToLower(status.String()), plural(len(answer), "byte"))
		m.each(func(f function) { m.calls(f, m.samples(f), nil) })
	}
}

// settled is after what time a function that was called is surely in its own work.
const settled = 100 * time.Millisecond

// cancel has the calls' time end after so long, or after twice as long each time that the machine did not get to begin the call before. What was cancelled then, as it should, may not have
// been in the function's work yet, but on the way there, in an interpreter or a program: it is cancelled once more when it is settled.
func (m *module) cancel(after time.Duration) {
	for name, why := range m.Without {
		if why == untilCancelled {
			delete(m.Without, name)
		}
	}
	gone := false // what the plug-in ran in was ended: a new one would take the time that the call has
	m.each(func(f function) {
		for _, in := range m.cancellable(f) {
			var t tries
			for after := after; t.again(); {
				m.how = fmt.Sprintf(", cancelled after %v", after)
				if gone {
					m.close()
					m.open()
				}
				if m.plugin == nil { // which was reported
					return
				}
				m.send(event{Step: &step{What: f.label + " with " + in.name + m.how, Function: f.label, Rule: "R17", Expected: "a function that returns soon", Mend: mendInput}})
				late, out, err := m.cancelled(f, in, after)
				ended := wasEnded(err)
				gone = ended || errors.Is(err, loader.ErrCrash)
				if !entered(err) {
					after *= 2
				} else if after < settled && late <= soon && errors.Is(err, loader.ErrCancelled) {
					after = settled
					continue
				}
				if !t.take(late, entered(err), ended, &m.again) {
					continue
				}
				if m.judge(f, in, out, err); m.slow[f.label] {
					return
				}
			}
			switch {
			case t.counted == 0 && t.ended:
				m.note("%s with %s was not judged: it was ended as it did not return in time, and the machine was too busy to begin it a second time before it was cancelled", f.label, in.name)
				return
			case t.counted == 0:
				m.note("%s with %s was not tried: the machine was too busy to begin it before it was cancelled", f.label, in.name)
				return
			case t.late > soon:
				m.find(Finding{Rule: "R17", Severity: Error, Function: f.label, Seen: fmt.Sprintf("%s with %s%s: it ran for another %v", f.label, in.name, m.how, t.late.Round(time.Millisecond)),
					Expected: fmt.Sprintf("a function that returns soon, here within %v", soon), Mend: m.mendCancel()})
				m.send(event{Broken: f.label})
				return
			}
		}
	})
}

// tries are those of a function with one input: several, because a machine that is busy with other things is slow, too.
type tries struct {
	calls   int
	counted int           // those that say something of the function
	late    time.Duration // how long the function went on in the last of these
	ended   bool          // a call was ended that is not among these
}

// again reports whether there is to be another.
func (t *tries) again() bool {
	return t.calls < 6 && t.counted < 3 && (t.counted == 0 || t.late > soon)
}

// take takes in how long a call went on. It reports whether that counts: it does not where the function was not entered, nor where it was ended and none
// was tried again for that before: see twice.
func (t *tries) take(late time.Duration, entered, ended bool, again *bool) bool {
	t.calls++
	switch {
	case !entered:
		return false
	case ended && !*again:
		*again, t.ended = true, true
		return false
	}
	t.counted++
	t.late = late
	return true
}

// entered reports whether a function was entered whose call was cancelled.
func entered(err error) bool {
	e, ok := errors.AsType[*loader.CallError](err)
	return !ok || e.Status != abi.StatusCancelled || !strings.HasPrefix(e.Message, "not called: ") // which are the loader's words
}

// cancelled calls a function, and cancels it when it has run for so long. It returns how long the function went on then, but for what its thread waited for a
// processor where it runs on this one, and not in a worker; and what has come of the call.
func (m *module) cancelled(f function, in input, after time.Duration) (went time.Duration, out []byte, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fn, from, to := m.get(m.plugin, f), m.reader(f, in), m.writer(f)
	late := lateness{begun: time.Now()} // with nothing left to do but the call: what is cancelled before is not run
	if !engines.IsPython(m.lib) || m.here {
		late.thread = thread()
	}
	timer := time.AfterFunc(after, func() {
		late.cancelled()
		cancel()
	})
	defer timer.Stop()
	out, err = fn.Stream(ctx, in.bytes, from, to)
	return late.of(time.Since(late.begun)), out, err
}

func (m *module) reader(f function, in input) io.Reader {
	if f.stream&abi.StreamIn == 0 {
		return nil
	}
	return bytes.NewReader(in.bytes)
}

func (m *module) writer(f function) io.Writer {
	if f.stream&abi.StreamOut == 0 {
		return nil
	}
	return io.Discard
}

func (m *module) checkBatch() {
	m.each(func(f function) {
		if f.stream != 0 || f.wrap || m.slow[f.label] {
			return
		}
		var in [][]byte
		var want []*outcome
		m.calls(f, m.samples(f), func(i input, r *outcome) { in, want = append(in, i.bytes), append(want, r) })
		var again []*outcome
		m.calls(f, m.samples(f), func(_ input, r *outcome) { again = append(again, r) })
		var b loader.Batch
		ctx, cancel := context.WithTimeout(context.Background(), 10*budget)
		defer cancel()
		if err := m.get(m.plugin, f).Batch(ctx, in, &b); err != nil {
			m.judge(f, input{"a batch of " + plural(len(in), "record"), nil}, nil, err)
			return
		}
		for i, w := range want {
			if i >= len(again) || !w.same(again[i]) {
				m.note("%s was not compared: it does not do the same twice", f.label)
				return
			}
			out, err := b.Result(i)
			r := m.judge(f, input{fmt.Sprintf("record %d of a batch", i), nil}, out, err)
			if r != nil && !r.same(w) {
				m.find(Finding{Rule: "R19", Severity: Error, Function: f.label, Seen: fmt.Sprintf("%s: record %d of a batch %s", f.label, i, r.failure()), Expected: "what a single call gives",
					Mend: "Keep nothing between calls that the input does not name"})
			}
		}
	})
}

func (m *module) checkConfig() {
	if !m.lib.HasStart {
		m.skip("the library has no ferrule_start")
		return
	}
	for _, in := range []input{{"no configuration", nil}, {"a configuration of one byte", []byte("x")}, {"a configuration that is not UTF-8", []byte("caf\xe9")},
		{fmt.Sprintf("a configuration of 1,000 random bytes (--seed %d)", m.Seed), m.bytes(1000)}, {"a configuration of 1 MiB", bytes.Repeat([]byte("x"), MaxInput)}} {
		m.send(event{Step: &step{What: "ferrule_start with " + in.name, Rule: "R15", Expected: "a status, whatever the configuration is", Mend: mendConfig}})
		p, err := m.openWith(engine.Permits{}, m.options(in.bytes)...)
		if err == nil {
			_ = p.Close()
			continue
		}
		if refused, ok := errors.AsType[*loader.CallError](err); ok {
			err = refused
		} else if broken, ok := errors.AsType[*loader.ContractError](err); ok {
			err = broken
		} else if !errors.Is(err, loader.ErrStart) {
			continue // such as one that its schema refuses
		}
		m.judge(function{label: abi.SymbolStart}, in, nil, err)
	}
}

const mendConfig = "Check the configuration, and return FERRULE_INVALID with a message"

func (m *module) checkConfigure() {
	if !m.lib.HasConfigure {
		m.skip("the library has no ferrule_configure")
		return
	}
	if !m.open() {
		return
	}
	defer m.close()
	ctx := context.Background()
	for _, in := range []input{{"no settings", nil}, {"settings of one byte", []byte("x")}, {"settings that are not UTF-8", []byte("caf\xe9")},
		{fmt.Sprintf("settings of 1,000 random bytes (--seed %d)", m.Seed), m.bytes(1000)}, {"settings of 1 MiB", bytes.Repeat([]byte("x"), MaxInput)}} {
		m.send(event{Step: &step{What: "ferrule_configure with " + in.name, Rule: "R28", Expected: "a status, whatever the settings are", Mend: mendConfig}})
		before := m.outcomes()
		if err := m.plugin.Configure(ctx, in.bytes); err != nil {
			m.judge(function{label: abi.SymbolConfigure}, in, nil, err)
			m.changed(before, m.outcomes(), in)
		}
		if err := m.plugin.Configure(ctx, m.Config); err != nil {
			m.find(Finding{Rule: "R28", Severity: Error, Seen: fmt.Sprintf("ferrule_configure with the settings of --config, after %s: %v", in.name, words.Error(err)),
				Expected: "that it takes its old settings again", Mend: "Change nothing before all of the settings were looked at"})
			return
		}
	}
}

func (m *module) checkHandover() {
	if !m.lib.HasSave || !m.lib.HasResume {
		m.skip("the library has no ferrule_save and ferrule_resume")
		return
	}
	if !m.open() {
		return
	}
	defer m.close()
	for _, f := range m.functions { // so that there is a state
		m.calls(f, m.samples(f), nil)
	}
	m.send(event{Step: &step{What: "ferrule_save and ferrule_resume", Rule: "R29", Expected: "a state that is taken", Mend: "See what it says"}})
	var state *loader.State
	next, err := m.plugin.Handover(context.Background(), func(s *loader.State) (*loader.Plugin, error) {
		state = s
		return m.openWith(engine.Permits{}, append(m.options(m.Config), loader.WithState(s))...)
	})
	if err != nil {
		m.find(Finding{Rule: "R29", Severity: Error, Seen: "handing over: " + words.Error(err).Error(), Expected: "that what ferrule_save gives is what ferrule_resume takes",
			Mend: "Have ferrule_resume take what ferrule_save of the same version gives"})
		return
	}
	m.stopping()
	_ = m.plugin.Close()
	m.plugin = next
	m.checkKept(state)
	for _, in := range []input{{"no bytes", nil}, {"one byte", []byte("x")}, {fmt.Sprintf("1,000 random bytes (--seed %d)", m.Seed), m.bytes(1000)}} {
		saved := make([][]byte, len(state.Instances()))
		for i := range saved {
			saved[i] = in.bytes
		}
		p, err := m.openWith(engine.Permits{}, append(m.options(m.Config), loader.WithState(loader.NewState(state.Format(), saved)))...)
		if err == nil {
			_ = p.Close()
			continue
		}
		if broken, ok := errors.AsType[*loader.ContractError](err); ok {
			err = broken
		} else if refused, ok := errors.AsType[*loader.CallError](err); ok {
			err = refused
		}
		m.judge(function{label: abi.SymbolResume}, in, nil, err)
	}
}

// moduleLeak is how much the memory of an instance grows, in bytes, before that is a finding: three pages.
const moduleLeak = 3 * 64 << 10

// checkLeaks looks at this process's heap, where a module's memory is, after collections: unlike what is resident it is exact.
func (m *module) checkLeaks() {
	if engines.IsPython(m.lib) {
		m.checkPythonLeaks()
		return
	}
	live := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	m.each(func(f function) {
		inputs := m.samples(f)
		m.calls(f, inputs, nil)
		if m.slow[f.label] {
			return
		}
		fn, calls := m.get(m.plugin, f), 0
		round := func(most int) {
			begun := time.Now()
			for n := 0; n < most && time.Since(begun) < 200*time.Millisecond; n++ {
				in := inputs[n%len(inputs)]
				ctx := context.Background()
				if f.wrap {
					ctx = loader.WithNext(ctx, func(_ context.Context, in []byte) ([]byte, error) { return in, nil })
				}
				_, err := fn.Stream(ctx, in.bytes, m.reader(f, in), m.writer(f))
				if errors.Is(err, loader.ErrPanic) {
					calls = -1 // its instance was started anew
					return
				}
				calls++
			}
		}
		round(1000) // what is made once
		if calls < 0 {
			m.note("%s was not tried: it panics", f.label)
			return
		}
		calls = 0
		sizes := []int64{live()}
		for range 5 {
			round(4000)
			sizes = append(sizes, live())
		}
		grown := 0
		for i := range sizes[1:] {
			if sizes[i+1] > sizes[i] {
				grown++
			}
		}
		if all := sizes[len(sizes)-1] - sizes[0]; calls > 0 && all >= moduleLeak && grown >= 2 {
			m.find(Finding{Rule: "R9", Severity: Error, Function: f.label, Seen: fmt.Sprintf("%s: %s more after %s", f.label, plural(int(all), "byte"), plural(calls, "call")),
				Expected: "memory as before, when every result was released", Mend: "Free what a call makes before it returns, and its result in release"})
		}
	})
}

func (m *module) checkRandomMany() {
	m.each(func(f function) {
		begun := time.Now()
		for n := range 500 {
			if time.Since(begun) > time.Second {
				m.note("%s takes long: %d random inputs", f.label, n)
				return
			}
			m.calls(f, []input{m.randomInput(n)}, nil)
			if m.slow[f.label] {
				return
			}
		}
	})
}

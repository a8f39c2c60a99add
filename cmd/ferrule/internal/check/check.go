// Package check is the conformance kit: it tests a plug-in library against the rules of ferrule.h.
//
// Each Case tries one thing. Static ones read the file; the others run in a worker process of their own, with a time
// limit, so that whatever the library does, it is a Finding and no more. The worker calls the library with frames that
// it builds itself, from package abi: a host is never so unfriendly, but may be so, and the contract says so.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// The severities of findings. A library with errors does not pass; with warnings it does.
const (
	Error   = "error"
	Warning = "warning"
)

// Finding is one thing that a case found.
type Finding struct {
	Case     string `json:"case"`
	Rule     string `json:"rule"` // of ferrule.h
	Severity string `json:"severity"`
	Function string `json:"function,omitempty"` // which function it is about, if one
	Seen     string `json:"seen"`
	Expected string `json:"expected"`
	Mend     string `json:"mend"`

	// Frames are where the process crashed, if it did and that is known: the function, and what had called it, up to the library's
	// own function that the case had called. In words, each with source file and line as far as there is debug information.
	Frames []string `json:"frames,omitempty"`

	once string // what it is about, where one finding of the kind is enough
}

// The outcomes of cases.
const (
	Passed  = "passed"
	Failed  = "failed"  // it found an error
	Warned  = "warned"  // it found nothing worse than a warning
	Skipped = "skipped" // it did not run; Reason says why
)

// Result is what came of one case.
type Result struct {
	Case         string    `json:"case"`
	Level        int       `json:"level"`
	Rules        []string  `json:"rules"`
	Outcome      string    `json:"outcome"`
	Reason       string    `json:"reason,omitempty"` // why it was skipped
	Notes        []string  `json:"notes,omitempty"`  // what it could not try
	Findings     []Finding `json:"findings,omitempty"`
	Milliseconds int64     `json:"milliseconds"`
}

// Verdict is what came of all of them.
type Verdict struct {
	File     string   `json:"file"`
	Name     string   `json:"name,omitempty"`
	Version  string   `json:"version,omitempty"`
	Level    int      `json:"level"`
	Seed     uint64   `json:"seed"`
	Pass     bool     `json:"pass"`
	Strict   bool     `json:"strict,omitempty"` // warnings count, too
	Errors   int      `json:"errors"`
	Warnings int      `json:"warnings"`
	Results  []Result `json:"results"`

	// Without are the functions that later cases left out, and why: an earlier one found them broken, or running until
	// they are cancelled.
	Without map[string]string `json:"without,omitempty"`
}

// Case is one thing that the kit tries.
type Case struct {
	Name  string   `json:"name"`
	Level int      `json:"level"` // 1 to 10: from what every library must do to what only long runs find
	Rules []string `json:"rules"` // those of ferrule.h that it is about
	Does  string   `json:"does"`  // in a sentence

	static  func(*static)
	dynamic func(*kit)
}

// Cases returns the cases up to a level, in the order in which they run.
func Cases(level int) []Case {
	return slices.DeleteFunc(slices.Clone(cases), func(c Case) bool { return c.Level > level })
}

// Options is what Run needs.
type Options struct {
	Worker  []string          // the command that runs a worker: a program, and what comes before its own arguments
	Level   int               // which cases run: those of this level or a lower one
	Only    []string          // if not empty, only these, of any level
	Seed    uint64            // of random inputs
	Timeout time.Duration     // of each case
	Start   time.Duration     // how long a sidecar may take for its hello, which is no part of that; 0 is 30 s
	Config  []byte            // what ferrule_start gets; at most MaxInput bytes
	Inputs  map[string][]byte // one more input for a function, by its name, or "hook " and its name
	Imports map[string]Import // how host functions answer, by their names; those that are missing with some text
	Sandbox *sandbox.Policy   // if not nil, the sandbox that the case sandbox tries
	Strict  bool              // a library with warnings does not pass
	Adapter string            // the library that runs a script in Python (script.WithPython)
	Without []string          // functions that are not called, by their names, or "hook " and theirs
	Jobs    int               // how many cases RunSidecar runs at a time; 0 for as many as suit this machine

	Shell func(line string, in []byte) ([]byte, error) // runs the command of an Import, for RunSidecar; a worker has its own
	Done  func(Result)                                 // called after each case; may be nil
}

// Import is how a host function answers: with what a command line of the system's shell makes of its input, or with bytes.
type Import struct {
	Command string `json:"command,omitempty"`
	Answer  []byte `json:"answer,omitempty"`
}

// UnknownCaseError says that Options.Only names a case that there is not.
type UnknownCaseError struct{ Name string }

// Error says which.
func (e *UnknownCaseError) Error() string {
	return fmt.Sprintf("there is no case %q; --list shows those that there are", e.Name)
}

// UnknownFunctionError says that Options.Inputs has an input for a function that the library does not have.
type UnknownFunctionError struct {
	Name      string
	Functions []string // those that it has
}

// Error says which.
func (e *UnknownFunctionError) Error() string {
	return fmt.Sprintf("the library has no function %q; it has %s", e.Name, list(e.Functions))
}

// fatal are the kinds of errors for which there is nothing to check: the file is no library that could be read.
var fatal = []error{inspect.ErrRead, inspect.ErrNotRegular, inspect.ErrNotLibrary, inspect.ErrTruncated,
	inspect.ErrMalformed}

// Run checks the library at path. The error is an *UnknownCaseError, an
// *UnknownFunctionError, an *inspect.Error when the file is no library at all, the context's, or says that no worker could
// be run. What breaks the contract is no error of Run: the verdict has it. No process and no file of the library's is left,
// also when the context has ended.
func Run(ctx context.Context, path string, o Options) (*Verdict, error) {
	chosen := slices.DeleteFunc(Cases(o.Level), func(c Case) bool { return c.Name == CaseSandbox && o.Sandbox == nil })
	if len(o.Only) > 0 {
		chosen = nil
		for _, name := range o.Only {
			if !slices.ContainsFunc(cases, func(c Case) bool { return c.Name == name }) {
				return nil, &UnknownCaseError{name}
			}
		}
		for _, c := range cases {
			if slices.Contains(o.Only, c.Name) {
				chosen = append(chosen, c)
			}
		}
	}
	lib, err := inspect.File(path)
	for _, kind := range fatal {
		if errors.Is(err, kind) {
			return nil, err
		}
	}
	if lib != nil {
		var names []string
		for _, f := range functions(lib, func(string) uintptr { return 0 }) {
			names = append(names, f.label)
		}
		for _, given := range [][]string{keys(o.Inputs), o.Without} {
			for _, name := range given {
				if !slices.Contains(names, name) {
					return nil, &UnknownFunctionError{name, names}
				}
			}
		}
	}
	v := &Verdict{File: path, Level: o.Level, Seed: o.Seed, Pass: true, Strict: o.Strict}
	if lib != nil {
		v.Name, v.Version = lib.Manifest.Name, lib.Manifest.Version
	}
	p := &parent{path: path, options: o, without: map[string]string{}, reported: map[string]bool{}}
	for _, name := range o.Without {
		p.without[name] = withoutSays
	}
	if err != nil {
		p.stop = "the file breaks the contract before it is loaded"
	} else if found := foreign(lib); found != "" {
		p.stop = "a library for " + found + " does not run here"
	}
	if p.stop == "" && !throughEngine(lib) {
		p.sanitizer = sanitizerOf(path, lib)
	}
	if p.stop == "" && engines.IsModule(lib) {
		if p.compiled, err = makeTemp("ferrule-compiled-"); err != nil {
			return nil, noTemp(err)
		}
		defer removeAll(p.compiled)
	}
	for _, c := range chosen {
		r := Result{Case: c.Name, Level: c.Level, Rules: c.Rules}
		begun := time.Now()
		switch {
		case c.static != nil:
			c.static(&static{path, lib, err, &r})
		case p.stop != "":
			r.Reason = p.stop
		case throughEngine(lib) && moduleCases[c.Name] == nil:
			r.Reason = notTried(lib, c.Name)
		default:
			if err := p.run(ctx, c, &r); err != nil {
				return nil, err
			}
			if c.Name == caseOpen && p.sanitizer.name != "" {
				r.Notes = append(r.Notes, "the library is built with "+p.sanitizer.name+": in every case "+p.sanitizer.runtime+" is preloaded, and memory is not measured")
			}
		}
		r.Milliseconds = time.Since(begun).Milliseconds()
		v.add(r, o.Done)
	}
	// A file that breaks the contract does not pass, also when only cases were chosen that could not run because of that.
	if err != nil && v.Errors == 0 {
		for _, c := range cases {
			if c.static != nil && !slices.ContainsFunc(chosen, func(d Case) bool { return d.Name == c.Name }) {
				r := Result{Case: c.Name, Level: c.Level, Rules: c.Rules}
				if c.static(&static{path, lib, err, &r}); len(r.Findings) > 0 {
					v.add(r, o.Done)
				}
			}
		}
	}
	v.Pass = v.Errors == 0 && (v.Warnings == 0 || !o.Strict)
	v.Without = p.without
	return v, nil
}

// add adds the result of a case, with its outcome.
func (v *Verdict) add(r Result, done func(Result)) {
	r.Outcome = Passed
	if r.Reason != "" {
		r.Outcome = Skipped
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Case = r.Case
		switch {
		case f.Severity == Error:
			v.Errors++
			r.Outcome = Failed
		default:
			v.Warnings++
			if r.Outcome != Failed {
				r.Outcome = Warned
			}
		}
	}
	v.Results = append(v.Results, r)
	if done != nil {
		done(r)
	}
}

// list writes a list for people, cut where it is long.
func list(words []string) string {
	if len(words) > 6 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:6], ", "), len(words)-6)
	}
	return strings.Join(words, ", ")
}

// plural is a number of things.
func plural(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

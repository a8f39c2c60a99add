package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// part is a comparison that is measured by itself, and written between its marks in a file. Each has its own machine
// there, because parts can be measured at different times.
type part struct {
	name     string
	plan     plan
	file     string
	print    func(*results) string // its table, for the standard output
	report   func(*results, *machine) string
	pictures map[string]func(*results, *machine) string // by file
	extra    bool                                       // measured only when it is asked for
}

// parts are all of them, in their order in the files.
var parts = []part{
	{name: "peers", file: "RESULTS.md", plan: plan{contenders: all, cases: cases, target: 30 * time.Millisecond, opens: 3},
		print: (*results).table, report: (*results).peerReport,
		pictures: map[string]func(*results, *machine) string{"results.svg": func(r *results, m *machine) string {
			return r.chart(work{fn: "count_vowels", size: 64}, m)
		}}},
	{name: "sizes", file: "RESULTS.md", plan: plan{contenders: costContenders, cases: sizeCases,
		target: 30 * time.Millisecond, most: 5 * time.Second}, print: (*results).table, report: (*results).sizeReport,
		pictures: map[string]func(*results, *machine) string{"sizes.svg": (*results).sizePicture}},
	{name: "callers", file: "RESULTS.md", plan: plan{contenders: costContenders, cases: callerCases,
		target: 30 * time.Millisecond}, print: (*results).callerTable, report: (*results).callerReport,
		pictures: map[string]func(*results, *machine) string{"callers.svg": (*results).callerPicture}},
	{name: "wasm", file: "RESULTS.md", plan: plan{contenders: wasmContenders, cases: wasmCases, rounds: 500,
		target: time.Millisecond, most: 3 * time.Second, opens: 1},
		print: (*results).wasmTable, report: (*results).wasmReport},
	{name: "sidecar", file: "RESULTS.md", plan: plan{contenders: sidecarContenders, cases: sidecarCases, rounds: 200,
		target: 3 * time.Millisecond, most: 3 * time.Second, opens: 1},
		print: (*results).sidecarTable, report: (*results).sidecarReport},
	{name: "script", file: "RESULTS.md", plan: plan{contenders: scriptContenders, cases: scriptCases, rounds: 200,
		target: 3 * time.Millisecond, most: 3 * time.Second},
		print: (*results).scriptTable, report: (*results).scriptReport},
	{name: "go", file: "RESULTS.md", plan: plan{contenders: goContenders, cases: goCases, rounds: 1000,
		target: 3 * time.Millisecond, most: 5 * time.Second, opens: 1},
		print: (*results).goTable, report: (*results).goReport},
	{name: "streams", file: "STREAMS.md", plan: plan{contenders: streamContenders, cases: streamCases,
		target: 250 * time.Millisecond}, print: (*results).streamTable, report: (*results).streamReport, extra: true},
}

// choose returns the parts with these names, separated by commas; without names those that are not extra.
func choose(names string) (chosen []part, err error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.extra }), nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			var have []string
			for _, p := range parts {
				have = append(have, p.name)
			}
			return nil, fmt.Errorf("-part %s is none, expected some of %s", name, strings.Join(have, ","))
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// quick makes the plan one of few cases and rounds.
func (p *plan) quick() {
	p.rounds, p.target, p.opens = 5, p.target/3, 1
	p.cases = slices.DeleteFunc(slices.Clone(p.cases), func(w work) bool { return !w.quick })
}

// write has the part's file, as it is in from, with what was measured between the part's marks, in to, and the pictures
// beside it. The two may be the same.
func (p part) write(r *results, m *machine, from, to string) error {
	text, err := os.ReadFile(filepath.Join(to, p.file)) // where another part was written before
	if os.IsNotExist(err) {
		text, err = os.ReadFile(filepath.Join(from, p.file))
	}
	if err != nil {
		return err
	}
	whole, err := p.splice(string(text), p.report(r, m))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to, p.file), []byte(whole), 0o644); err != nil {
		return err
	}
	for name, draw := range p.pictures {
		if err := os.WriteFile(filepath.Join(to, name), []byte(draw(r, m)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p part) marks() (begin, end string) {
	return fmt.Sprintf("<!-- %s: written by go run . -part %s -->\n", p.name, p.name), fmt.Sprintf("<!-- /%s -->\n", p.name)
}

// splice returns whole with report between the part's marks.
func (p part) splice(whole, report string) (string, error) {
	begin, end := p.marks()
	before, rest, ok := strings.Cut(whole, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("%s has no lines %q and, behind it, %q: put them where the part is to be", p.file, begin, end)
	}
	return before + begin + report + end + after, nil
}

// between returns what is between the part's marks in whole.
func (p part) between(whole string) string {
	begin, end := p.marks()
	_, rest, _ := strings.Cut(whole, begin)
	report, _, _ := strings.Cut(rest, end)
	return report
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// results are what `go test -json` said. Only tests without subtests count.
type results struct {
	ran, passed int
	isolated    int                 // of those that passed, those of plug-ins in a worker
	skipped     map[string][]string // tests by the reason
	failed      []string            // tests, and packages that failed without one
	output      map[string]string   // of those that failed
}

// event is a line of `go test -json`.
type event struct{ Action, Package, Test, Output string }

// reason finds in a test's output what it said when it was skipped.
var reason = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)

// parse reads the output of `go test -json`. Lines that are no events are a build's, and go to log as they are.
func parse(r io.Reader, log io.Writer) (*results, error) {
	res := &results{skipped: make(map[string][]string), output: make(map[string]string)}
	outcome, said, output := make(map[string]string), make(map[string]string), make(map[string]string)
	var order []string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(log, lines.Text())
			continue
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Fprint(log, e.Output)
		case "output":
			fmt.Fprint(log, e.Output)
			output[name] += e.Output
			if m := reason.FindStringSubmatch(strings.TrimSuffix(e.Output, "\n")); m != nil {
				said[name] = strings.ReplaceAll(m[1], "\r", "")
			}
		case "pass", "fail", "skip":
			outcome[name] = e.Action
			order = append(order, name)
		}
	}
	parents := make(map[string]bool)
	for _, name := range order {
		for i := len(name) - 1; i > 0; i-- {
			if name[i] == '/' && strings.Contains(name[:i], " ") {
				parents[name[:i]] = true
			}
		}
	}
	failing := make(map[string]bool) // packages with a test that failed
	for _, name := range order {
		pkg, test, _ := strings.Cut(name, " ")
		if test == "" || parents[name] && outcome[name] != "fail" {
			continue
		}
		if outcome[name] == "fail" {
			failing[pkg] = true
			res.output[name] = output[name]
		}
		if parents[name] {
			continue
		}
		switch outcome[name] {
		case "pass":
			res.ran++
			res.passed++
			if strings.HasSuffix(pkg, "/loader/isolate") || strings.Contains(test, "/isolated") {
				res.isolated++
			}
		case "fail":
			res.ran++
			res.failed = append(res.failed, name)
		case "skip":
			res.skipped[said[name]] = append(res.skipped[said[name]], short(name))
		}
	}
	for _, name := range order { // crashed, or did not build
		if pkg, test, _ := strings.Cut(name, " "); test == "" && outcome[name] == "fail" && !failing[pkg] {
			res.failed = append(res.failed, pkg)
			res.output[pkg] = output[name]
		}
	}
	return res, lines.Err()
}

// short is a test's name with its package's path in the module.
func short(name string) string {
	return strings.ReplaceAll(strings.TrimPrefix(name, "github.com/ferrule-dev/ferrule/"), " ", ".")
}

// add takes in the results of another run on the same platform.
func (r *results) add(other *results) {
	r.ran += other.ran
	r.passed += other.passed
	r.isolated += other.isolated
	r.failed = append(r.failed, other.failed...)
	for why, tests := range other.skipped {
		if r.skipped == nil {
			r.skipped = make(map[string][]string)
		}
		for _, test := range tests {
			if !slices.Contains(r.skipped[why], test) {
				r.skipped[why] = append(r.skipped[why], test)
			}
		}
	}
}

// left is how many tests were skipped.
func (r *results) left() (n int) {
	for _, tests := range r.skipped {
		n += len(tests)
	}
	return n
}

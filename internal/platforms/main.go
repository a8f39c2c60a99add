// Command platforms runs the tests on every platform that a Debian machine can be made to have, and says for each one what
// was run, what was only built, and what was not had and why. It installs what it needs, as root or with sudo.
//
//	go run ./internal/platforms [-only REGEXP] [-quick] [-update]
//	go run ./internal/platforms -types
//
// The table in docs/platforms.md and what follows it are made from what it found: with -update it writes them, without it
// fails when they say something else. Logs go to build/platforms.
//
// With -quick it builds no more than the library, without vetting it, of what it only builds. With -types it checks the types in all of that, and does nothing else, which takes a minute.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// outcome is what became of a platform.
type outcome struct {
	*platform
	results
	tested, built []run // the runs whose tests ran, and those that were only built
	notHad        error
	quick         bool // what was only built is the library
}

func main() {
	only := flag.String("only", "", "run only the platforms whose names match this regular expression")
	update := flag.Bool("update", false, "write docs/platforms.md")
	quick := flag.Bool("quick", false, "of what is only built, build the library")
	types := flag.Bool("types", false, "check the types in what is built for each platform, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	work := func() error { return do(ctx, *only, *quick, *update) }
	if *types {
		work = func() error { return checkTypes(ctx) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "platforms:", err)
		os.Exit(1)
	}
}

func do(ctx context.Context, only string, quick, update bool) error {
	filter, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	work := filepath.Join(fixture.Root(), "build", "platforms")
	if err := os.MkdirAll(work, 0o777); err != nil {
		return err
	}
	if err := os.Chdir(fixture.Root()); err != nil {
		return err
	}
	m := &machine{ctx: ctx, quick: quick, work: work, done: make(map[string]error)}
	defer m.end()
	var outcomes []*outcome
	failed := 0
	for _, p := range platforms() {
		if !filter.MatchString(p.name) {
			continue
		}
		start := time.Now()
		o, err := m.try(p)
		if err != nil {
			return err
		}
		fmt.Printf("%s (%d s)\n", o.line(), int(time.Since(start).Seconds()))
		for _, test := range o.failed {
			fmt.Printf("    failed: %s\n", test)
			fmt.Print(tail(o.output[test], 40))
		}
		failed += len(o.failed)
		outcomes = append(outcomes, o)
	}
	if failed > 0 {
		return fmt.Errorf("%d tests failed; the logs are in build/platforms", failed)
	}
	if only != "" || quick {
		return nil // a part is no table
	}
	return documents(outcomes, update)
}

// tail is the end of a text: n lines of it.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// try prepares a platform and does its runs. Its error is one of this program.
func (m *machine) try(p *platform) (*outcome, error) {
	name := regexp.MustCompile(`\W+`).ReplaceAllString(p.name, "-")
	log, err := os.Create(filepath.Join(m.work, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	m.log = log
	o := &outcome{platform: p, quick: m.quick, results: results{skipped: make(map[string][]string), output: make(map[string]string)}}
	if p.prepare != nil {
		var broken brokenError
		switch err := p.prepare(m, p); {
		case errors.As(err, &broken):
			o.failed, o.output["fixtures"] = []string{"fixtures"}, err.Error()+"\n"
			return o, m.ctx.Err()
		case err != nil:
			o.notHad = err
			return o, m.ctx.Err()
		}
	}
	for i := range p.runs {
		r := &p.runs[i]
		fmt.Fprintf(log, "\n== %s\n", r)
		var res *results
		switch {
		case r.make != nil:
			res, err = m.make(r)
		case r.programs != nil:
			res, err = m.programs(r)
		case len(r.tests) > 0:
			o.tested = append(o.tested, *r)
			res, err = m.test(r)
		default:
			o.built = append(o.built, *r)
			res, err = m.build(r), nil
		}
		if err != nil {
			return nil, err
		}
		o.add(res)
		for name, text := range res.output {
			o.output[name] = text
		}
	}
	return o, m.ctx.Err()
}

// onlyBuilds reports whether nothing of it runs.
func (r *run) onlyBuilds() bool { return r.make == nil && r.programs == nil && len(r.tests) == 0 }

// environment is that of the go command for a run.
func (r *run) environment() []string {
	env := []string{"CGO_ENABLED=0"}
	if r.cgo {
		env = []string{"CGO_ENABLED=1"}
	}
	if r.goos != "" {
		env = append(env, "GOOS="+r.goos)
	}
	if r.goarch != "" {
		env = append(env, "GOARCH="+r.goarch)
	}
	if r.toolchain != "" {
		env = append(env, "GOTOOLCHAIN="+r.toolchain)
	}
	return append(env, r.env...)
}

func (r *run) String() string {
	return fmt.Sprintf("%s %v %s %v", strings.Join(r.environment(), " "), r.tests, r.crossing(), r.make)
}

func (r *run) tags() string {
	if r.portable && r.os() != "windows" { // which has no other
		return "-tags=ferrule_portable"
	}
	return "-tags="
}

// test runs `go test`.
func (m *machine) test(r *run) (*results, error) {
	args := []string{"test", "-json", "-count=1", "-timeout=15m", r.tags()}
	if r.exec != nil {
		args = append(args, "-exec="+strings.Join(r.exec, " "))
	}
	cmd := exec.CommandContext(m.ctx, "go", append(append(args, r.flags...), r.tests...)...)
	cmd.Env = append(os.Environ(), r.environment()...)
	cmd.Stderr = m.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	res, err := parse(out, m.log)
	if err != nil {
		return nil, err
	}
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) && len(res.failed) == 0 {
		return nil, fmt.Errorf("go test: %w: %s", err, r) // with no test that says why
	}
	return res, nil
}

// build builds and vets.
func (m *machine) build(r *run) *results {
	res := &results{output: make(map[string]string)}
	packages, err := m.packagesOf(r)
	if err != nil {
		res.failed, res.output["go.work"] = []string{"go.work"}, err.Error()+"\n"
		return res
	}
	verbs := []string{"build", "vet"}
	if m.quick {
		verbs = verbs[:1]
		if r.builds == nil {
			packages = whole
		}
	}
	for _, verb := range verbs {
		var log bytes.Buffer
		own := *m
		own.log = io.MultiWriter(m.log, &log)
		if err := own.in("", r.environment(), "go", append([]string{verb, r.tags()}, packages...)...); err != nil {
			name := "go " + verb + " for " + r.os() + "/" + r.goarch + ", " + r.crossing()
			res.failed = append(res.failed, name)
			res.output[name] = log.String()
		}
	}
	return res
}

// packagesOf returns what to build and vet: if a run does not say, every module in go.work but the comparison with peers, which
// nobody runs on other platforms.
func (m *machine) packagesOf(r *run) ([]string, error) {
	if r.builds != nil {
		return r.builds, nil
	}
	out, err := m.output("go", "list", "-m", "-f", "{{.Dir}}")
	var packages []string
	for _, dir := range strings.Fields(out) {
		if dir != filepath.Join(fixture.Root(), "bench") {
			packages = append(packages, filepath.Join(dir, "..."))
		}
	}
	return packages, err
}

// make runs a target of a Makefile whose scripts write "ok: " for each thing that they have tried.
func (m *machine) make(r *run) (*results, error) {
	cmd := exec.CommandContext(m.ctx, "make", r.make...)
	cmd.Env = append(os.Environ(), r.env...)
	out, err := cmd.CombinedOutput()
	if _, errLog := m.log.Write(out); errLog != nil {
		return nil, errLog
	}
	n := bytes.Count(out, []byte("\nok: "))
	res := &results{ran: n, passed: n}
	if err != nil {
		name := "make " + strings.Join(r.make, " ")
		res.ran++
		res.failed, res.output = []string{name}, map[string]string{name: string(out)}
	}
	return res, nil
}

// output runs a program and returns what it wrote, without the end of the line.
func (m *machine) output(program string, args ...string) (string, error) {
	out, err := exec.CommandContext(m.ctx, program, args...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(exit.Stderr))
	}
	return strings.TrimSpace(string(out)), err
}

// line is the outcome in a line.
func (o *outcome) line() string {
	switch {
	case o.notHad != nil:
		return fmt.Sprintf("%s: not had: %v", o.name, o.notHad)
	case o.ran == 0:
		if o.quick {
			return o.name + ": the library is built; not run"
		}
		return fmt.Sprintf("%s: built and vetted, tests included; not run", o.name)
	}
	text := fmt.Sprintf("%s (%s): ran %d, passed %d", o.name, o.how, o.ran, o.passed)
	if n := o.left(); n > 0 {
		text += fmt.Sprintf("; %d left out", n)
	}
	return text
}

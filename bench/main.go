// Command bench compares Ferrule with what a Go programmer would use instead: the same work on the same bytes, in one
// run, in rounds that take turns. See README.md.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
)

func main() {
	var o options
	flag.StringVar(&o.parts, "part", "",
		"`names` of what to measure, with commas between: peers, sizes, callers, wasm, sidecar, script, go, streams (default all but streams)")
	flag.BoolVar(&o.quick, "quick", false, "fewer cases, shorter and fewer rounds; writes no files without -out")
	flag.IntVar(&o.rounds, "rounds", 0, "how many rounds (default 12, of wasm 500, of sidecar and script 200, of go 1000, or 5 with -quick)")
	flag.StringVar(&o.only, "only", "",
		"`regexp`: only contenders that match, or cases where none does; writes no files without -out")
	flag.StringVar(&o.out, "out", "",
		"`folder` for the files of the parts, RESULTS.md, STREAMS.md and pictures (default this module's)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	parts, only, out string
	quick            bool
	rounds           int
}

func (o options) run(ctx context.Context) error {
	chosen, err := o.plans()
	if err != nil {
		return err
	}
	dir, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	var contenders []*contender
	for _, p := range chosen {
		contenders = append(contenders, p.plan.contenders...)
	}
	fmt.Fprintln(os.Stderr, "building")
	at, err := prepare(ctx, dir, contenders)
	if err != nil {
		return err
	}
	for _, p := range chosen {
		fmt.Fprintf(os.Stderr, "measuring %s\n", p.name)
		m, err := thisMachine(ctx, dir, p.plan.contenders)
		if err != nil {
			return err
		}
		r, err := measure(ctx, p.plan, at, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Println(p.print(r))
		switch {
		case o.out != "":
			err = p.write(r, m, dir, o.out)
		case !o.quick && o.only == "":
			err = p.write(r, m, dir, dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// plans returns the parts to measure, each with its plan as the options ask for it.
func (o options) plans() (chosen []part, err error) {
	parts, err := choose(o.parts)
	if err != nil {
		return nil, err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	for _, p := range parts {
		p.plan.rounds = cmp.Or(p.plan.rounds, 12)
		if o.quick {
			p.plan.quick()
		}
		if o.rounds > 0 {
			p.plan.rounds = o.rounds
		}
		if p.plan.restrict(only) {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-only %q matches no contender and no case", o.only)
	}
	return chosen, nil
}

// prepare builds what the contenders need and finds the files that come with a module.
func prepare(ctx context.Context, dir string, contenders []*contender) (at places, err error) {
	if at.build, err = buildAll(ctx, dir, contenders); err != nil {
		return at, err
	}
	at.extismSDK, err = output(ctx, dir, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/extism/go-sdk")
	return at, err
}

// restrict keeps the contenders that match, or the cases where no contender does, and says whether there are any. What
// ratios are of stays.
func (p *plan) restrict(only *regexp.Regexp) bool {
	var contenders []*contender
	found := false
	keep := []string{baseline, subject, byHand}
	matches := func(c *contender) bool { return only.MatchString(c.label) || only.MatchString(c.id()) }
	for _, c := range p.contenders {
		if matches(c) {
			found = true
			keep = append(keep, c.peer)
		}
	}
	for _, c := range p.contenders {
		if matches(c) || slices.Contains(keep, c.id()) {
			contenders = append(contenders, c)
		}
	}
	if found {
		p.contenders = contenders
		return true
	}
	p.cases = slices.DeleteFunc(slices.Clone(p.cases), func(w work) bool { return !only.MatchString(w.String()) })
	return len(p.cases) > 0
}

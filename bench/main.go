// Command bench compares Ferrule with what a Go programmer would use instead: the same work on the same bytes, in one
// run, in rounds that take turns. See README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "fewer cases, shorter and fewer rounds; writes no files without -out")
	rounds := flag.Int("rounds", 0, "how many rounds (default 12, or 5 with -quick)")
	only := flag.String("only", "",
		"`regexp`: only contenders that match, or cases where none does; writes no files without -out")
	out := flag.String("out", "", "`folder` for RESULTS.md and results.svg, or STREAMS.md (default this module's)")
	streams := flag.Bool("streams", false, "measure streams, and write STREAMS.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *quick, *streams, *rounds, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, quick, streams bool, rounds int, only, out string) error {
	p := plan{contenders: all, cases: cases, rounds: 12, target: 30 * time.Millisecond, opens: 3}
	switch {
	case streams:
		p.contenders, p.cases, p.target = streamContenders, streamCases, 250*time.Millisecond
		if quick {
			p.rounds = 5
		}
	case quick:
		p.rounds, p.target, p.opens, p.cases = 5, 10*time.Millisecond, 1, nil
		for _, w := range cases {
			if w.quick {
				p.cases = append(p.cases, w)
			}
		}
	}
	if rounds > 0 {
		p.rounds = rounds
	}
	if err := p.restrict(only); err != nil {
		return err
	}
	dir, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "building")
	at, err := prepare(ctx, dir, p.contenders)
	if err != nil {
		return err
	}
	m, err := thisMachine(ctx, dir, p.contenders)
	if err != nil {
		return err
	}
	r, err := measure(ctx, p, at, os.Stderr)
	if err != nil {
		return err
	}
	if streams {
		fmt.Print(r.streamTable())
	} else {
		fmt.Print(r.table())
	}
	if out == "" && (quick || only != "") {
		return nil
	}
	if out == "" {
		out = dir
	}
	if streams {
		return os.WriteFile(filepath.Join(out, "STREAMS.md"), []byte(r.streamReport(m)), 0o644)
	}
	if err := os.WriteFile(filepath.Join(out, "RESULTS.md"), []byte(r.report(m)), 0o644); err != nil {
		return err
	}
	svg := r.chart(work{fn: "count_vowels", size: 64}, m)
	return os.WriteFile(filepath.Join(out, "results.svg"), []byte(svg), 0o644)
}

// prepare builds what the contenders need and finds the files that come with a module.
func prepare(ctx context.Context, dir string, contenders []*contender) (at places, err error) {
	if at.build, err = buildAll(ctx, dir, contenders); err != nil {
		return at, err
	}
	at.extismSDK, err = output(ctx, dir, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/extism/go-sdk")
	return at, err
}

// restrict keeps the contenders that match, or the cases where no contender does. What ratios are of stays.
func (p *plan) restrict(only string) error {
	re, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	var contenders []*contender
	found := false
	for _, c := range p.contenders {
		match := re.MatchString(c.label) || re.MatchString(c.id())
		found = found || match
		if match || c.id() == baseline || c.id() == subject {
			contenders = append(contenders, c)
		}
	}
	if found {
		p.contenders = contenders
		return nil
	}
	var kept []work
	for _, w := range p.cases {
		if re.MatchString(w.String()) {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		return fmt.Errorf("-only %q matches no contender and no case", only)
	}
	p.cases = kept
	return nil
}

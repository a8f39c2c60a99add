package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

func init() { verbs = append(verbs, checkVerb, checkCaseVerb) }

// defaultCheckLevel leaves out what takes seconds.
const defaultCheckLevel = 8

func checkVerb(a *app) *cobra.Command {
	o := check.Options{}
	var list bool
	var config string
	var inputs []string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Test a plug-in against the rules of the contract",
		Long: `Test a plug-in against the rules of the contract, R1 to R21 of ferrule.h.

Each case tries one thing, in a process of its own with a time limit: whatever the plug-in does there, it is a finding.
A finding says which rule it is about, what was seen, what was expected and how to mend it. An error is a broken rule; a
warning is not, but likely to be meant otherwise. A function that ends the process is left out of the cases after that.

Levels go from 1, what takes no time, to 10, everything. Functions are called with inputs of all kinds; where one needs
an input of a certain form to do its work, give it one with --in. Inputs are never written to, and functions are called
thousands of times: do not check a plug-in whose functions do what is not to be done.

Exit codes: 0 the plug-in passes; 1 it does not; 2 the command line is wrong; 3 the file is no library.`,
		Example: `  # The cases of the usual levels
  ferrule check libgreeter.so

  # Everything, with an input for the function resize and a configuration
  ferrule check --level 10 --in resize=@cat.png --config '{"size": 64}' libresize.so

  # Two cases only, with the random inputs of an earlier run, as JSON
  ferrule check --only input-random,room-sizes --seed 7 --json libgreeter.so

  # What there is to be checked
  ferrule check --list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Level < 1 || o.Level > 10 {
				return &exit{exitUsage, fmt.Errorf("found --level %d, expected 1 to 10", o.Level)}
			}
			if list {
				if !cmd.Flags().Changed("level") {
					o.Level = 10
				}
				return listCases(a, check.Cases(o.Level))
			}
			if o.Timeout <= 0 {
				return &exit{exitUsage, fmt.Errorf("found --timeout %v, expected more than 0", o.Timeout)}
			}
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1e6)
			}
			var err error
			if o.Config, err = checkText(config); err != nil {
				return &exit{exitUsage, fmt.Errorf("--config: %w", err)}
			}
			o.Inputs = map[string][]byte{}
			for _, in := range inputs {
				name, value, ok := strings.Cut(in, "=")
				if !ok {
					return &exit{exitUsage, fmt.Errorf("found --in %s, expected FUNCTION=TEXT or FUNCTION=@FILE", in)}
				}
				text, err := checkText(value)
				if err != nil {
					return &exit{exitUsage, fmt.Errorf("--in %s: %w", name, err)}
				}
				o.Inputs[name] = text
			}
			self, err := os.Executable()
			if err != nil {
				return &exit{exitFailed, err}
			}
			o.Worker = []string{self, checkCase}
			return runCheck(a, args[0], o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Level, "level", defaultCheckLevel, "run the cases up to this level, `1..10`")
	f.StringSliceVar(&o.Only, "only", nil, "run only these `cases`, of any level")
	f.BoolVar(&list, "list", false, "list the cases and run nothing")
	f.Uint64Var(&o.Seed, "seed", 0, "the `seed` of random inputs; it is printed (default a random one)")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "the time limit of each case")
	f.StringVar(&config, "config", "", "the configuration, or @`file`")
	f.StringArrayVar(&inputs, "in", nil, "one more input for a function, `function=text` or function=@file; may be repeated")
	return cmd
}

// checkText returns a text of the command line, or what is in the file that it names after an @.
func checkText(text string) ([]byte, error) {
	b := []byte(text)
	if path, ok := strings.CutPrefix(text, "@"); ok {
		var err error
		if b, err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	if len(b) > check.MaxInput {
		return nil, fmt.Errorf("found %d bytes, expected at most %d", len(b), check.MaxInput)
	}
	return b, nil
}

func listCases(a *app, cases []check.Case) error {
	return a.print(cases, func(w io.Writer) error {
		for _, c := range cases {
			if _, err := fmt.Fprintf(w, "%2d  %-18s %-12s %s\n", c.Level, c.Name, strings.Join(c.Rules, " "),
				c.Does); err != nil {
				return err
			}
		}
		return nil
	})
}

// runCheck checks a file, and prints each case's result when there is one.
func runCheck(a *app, path string, o check.Options) error {
	paint := func(outcome string) string { return fmt.Sprintf("%-7s", outcome) }
	if colours(a.out) {
		codes := map[string]string{check.Passed: "32", check.Failed: "1;31", check.Warned: "33", check.Skipped: "2"}
		paint = func(outcome string) string { return fmt.Sprintf("\x1b[%sm%-7s\x1b[0m", codes[outcome], outcome) }
	}
	if !a.json {
		o.Done = func(r check.Result) { printResult(a.out, r, paint) }
	}
	v, err := check.Run(path, o)
	noCase, noFunction := new(check.UnknownCaseError), new(check.UnknownFunctionError)
	unread := new(inspect.Error)
	switch {
	case errors.As(err, &noCase):
		var names []string
		for _, c := range check.Cases(10) {
			names = append(names, c.Name)
		}
		near := nearest(noCase.Name, names)
		if len(names) > 12 && !strings.HasPrefix(near, "did you mean") {
			near = "see ferrule check --list"
		}
		return &exit{exitUsage, fmt.Errorf("there is no case %q; %s", noCase.Name, near)}
	case errors.As(err, &noFunction):
		return &exit{exitUsage, fmt.Errorf("--in: the library has no function %q; %s", noFunction.Name,
			nearest(noFunction.Name, noFunction.Functions))}
	case errors.As(err, &unread):
		return &exit{exitOpen, err}
	case err != nil:
		return &exit{exitFailed, err}
	}
	err = a.print(v, func(w io.Writer) error {
		for _, name := range slices.Sorted(maps.Keys(v.Without)) {
			fmt.Fprintf(w, "%s was left out of later cases: %s\n", oneLine(name), oneLine(v.Without[name]))
		}
		counts := map[string]int{}
		for _, r := range v.Results {
			counts[r.Outcome]++
		}
		verdict := "passes"
		if !v.Pass {
			verdict = "does not pass"
		}
		_, err := fmt.Fprintf(w, "\n%s %s: %d cases, %d skipped; %s, %s (--level %d --seed %d)\n", oneLine(path), verdict,
			len(v.Results),
			counts[check.Skipped], plural(v.Errors, "error"), plural(v.Warnings, "warning"), v.Level, v.Seed)
		return err
	})
	if err != nil {
		return failure(err)
	}
	if !v.Pass {
		return &exit{exitFailed, nil}
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func printResult(w io.Writer, r check.Result, paint func(string) string) {
	line := ""
	if r.Reason != "" {
		line = oneLine(r.Reason)
	}
	fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s %-18s %s", paint(r.Outcome), r.Case, line), " "))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "        %s %s: %s\n                expected: %s\n                to mend: %s\n", f.Severity, f.Rule,
			oneLine(f.Seen), oneLine(f.Expected), oneLine(f.Mend))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "        note: %s\n", oneLine(n))
	}
}

// checkCase is the hidden verb by which check runs itself as a worker.
const checkCase = "check-case"

func checkCaseVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    checkCase,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			err := check.Work(a.in)
			if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
				return &exit{exitUsage, err}
			}
			return failure(err)
		},
	}
}

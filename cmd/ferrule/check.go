package main

import (
	"context"
	"crypto/tls"
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
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

func init() { verbs = append(verbs, checkVerb, checkCaseVerb) }

// defaultCheckLevel leaves out what takes seconds.
const defaultCheckLevel = 8

func checkVerb(a *app) *cobra.Command {
	o := check.Options{}
	var list, sidecar bool
	var token, ca string
	var byTLS bool
	var host hostFlags
	var inputs []string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Test plug-ins against the rules of the contract",
		Long: `Test plug-ins against the rules of the contract, R1 to R34 of ferrule.h. Of a folder, the libraries, modules and scripts in it are tested.

Each case tries one thing, in a process of its own with a time limit: whatever the plug-in does there, it is a finding.
The limit is --timeout, for the whole case: opening the plug-in and all calls of all functions. A case begins anew, with as
much time, without a function that has ended its process, did not return, or took too long in all, which is a warning.
A finding says which rule it is about, what was seen, what was expected and how to fix it. An error is a broken rule; a
warning is not, but likely to be meant otherwise. A function that ends the process is left out of the cases after that.
A crash is reported with its function, on Linux; with its file and line where the library was built with -g.

Levels go from 1, what takes no time, to 10, everything. Functions are called with inputs of all kinds; where one needs
an input of a certain form to do its work, give it one with --in. Inputs are never written to, and functions are called
thousands of times: do not check a plug-in whose functions have harmful side effects.

Cases run in an empty folder, which is removed: a relative path in the configuration or an input is one in there. What
the plug-in makes in that folder is a finding, and so are processes that it leaves; these are killed. On Linux all of them
are found, also those with a session of their own, and also when this command itself is killed; then only the folder stays.
(But for a plug-in that first kills its keeper, the process that starts it, and for processes that have become another
user's.) On Windows all of them end with this command, and are not reported; on macOS those that stay in their process
group, and not when this command itself is killed.

A WebAssembly module is called as hosts call it, by the engine that keeps its frames and looks at each result: so a broken rule is found by
whichever case calls the function first, and cases about what a module cannot do are left out, with the reason. Address 0 can be
read there; what a library would crash of is not found. The library from the same source is checked for all.

A script in JavaScript or Python (docs/scripts.md) is called in the same way: JavaScript in this command's interpreter, Python in a worker. Beside broken rules it is
found where a function of its header is missing, where in= or out= is no type, and where a function fails with an error such as TypeError or KeyError in place of one that says what is wrong with its
input: a warning, with the input and the line.

Host functions answer what --import or --answer says, or some text; those that are wanted are offered, but for the case
wants. A function with an input stream gets there what its input is, and behind a hook that stands around others is what
gives its input back. With --sandbox one more case, sandbox, opens the plug-in in a worker with that sandbox, and compares.
With --only, too, --sandbox and that case go together.

With --sidecar PROGRAM [-- ARGUMENTS] a sidecar is tested, which is a program in any language, against the rules W1 to W18 of
docs/wire.md. It has cases of its own (--list --sidecar), which send the messages of the wire themselves, also such as no host
does: cut in pieces, in another order, and no messages at all. PROGRAM is a path, a name in PATH, or the URL of a sidecar that
somebody else has started: unix:PATH, tcp:HOST:PORT, fifo:IN,OUT, npipe:NAME, http://HOST:PORT, https://HOST:PORT or http+unix:PATH.
With --tls a tcp: URL is spoken to by TLS; --ca names an authority that the system does not know. A program is started
anew for each case, mostly more than once, with the environment that hosts give it, in an empty folder. Beside the time of a case it has 30 seconds for its
hello, or what --timeout says, where that is given and shorter. An argument that names a file is
given as its whole path. What it answers is not judged, only how. Functions with harmful side effects are left out with --without.
Cases of a program run beside each other, once those of the levels 1 and 2 have shown what its functions do; with --jobs 1 there is
one process of it at a time. What listens is checked case by case.

Exit codes:
  0    all plug-ins pass
  1    one does not
  2    the command line is wrong
  3    a file is no library
  130  interrupted

With --json there is one object for each file, one after the other:
  file, name, version       the path, and what the plug-in's manifest says
  level, seed, strict       the options that were in force; strict is there with --strict
  pass, errors, warnings    whether it passes, and how many findings there are
  results                   each with case, level, rules, outcome (passed, failed, warned, skipped), reason (why it was
                            skipped), notes (what it could not try), findings, milliseconds
    findings                each with case, rule, severity (error, warning), function, seen, expected, mend, and frames where
                            the process crashed: the code, and what had called it
  without                   functions that later cases left out, and why
  error                     in place of all but file: why nothing was checked, as call has it; alone where the command
                            line is wrong whatever the file

With --sidecar the file is PROGRAM, as it was given, and rules are those of docs/wire.md.

With --list --json there is one list of cases, each with name, level, rules and does, what it tries.`,
		Example: `  # The cases of the usual levels
  ferrule check libgreeter.so

  # All libraries of a folder; a warning is enough not to pass
  ferrule check --strict build/

  # Everything, with an input for the function resize and a configuration
  ferrule check --level 10 --in resize=@cat.png --config '{"size": 64}' libresize.so

  # Does it work in the sandbox that the host has in mind?
  ferrule check --sandbox --allow-read /usr/share/fonts --memory 256MiB librender.so

  # A WebAssembly module
  ferrule check greeter.wasm

  # Scripts, with the cases that there are for them
  ferrule check discount.js discount.py

  # A sidecar: a program that is executable, a script with its interpreter, and one that listens
  ferrule check --sidecar ./shout
  ferrule check --sidecar python3 -- shout.py
  ferrule check --sidecar unix:/run/shout.sock
  ferrule check --sidecar --token @token --ca authority.pem https://shout.example:8443

  # Two cases only, with the random inputs of an earlier run, as JSON
  ferrule check --only input-random,room-sizes --seed 7 --json libgreeter.so

  # What there is to be checked
  ferrule check --list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return arguments()(cmd, args)
			}
			if sidecar {
				if n := cmd.ArgsLenAtDash(); n >= 0 {
					args = args[:n]
				}
				return arguments("PROGRAM")(cmd, args)
			}
			return arguments("FILE...")(cmd, args)
		},
		ValidArgsFunction: libraries,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Level < 1 || o.Level > 10 {
				return usage(fmt.Sprintf("--level %d", o.Level), "1 to 10", "")
			}
			if list {
				if f := givenBeside(cmd.Flags(), "list", "level", "json", "sidecar"); f != "" {
					return usage("--list with --"+f, "--list alone, with --level or with --sidecar, as nothing runs", "Leave one of them out")
				}
				if !cmd.Flags().Changed("level") {
					o.Level = 10
				}
				if sidecar {
					return listCases(a, check.SidecarCases(o.Level))
				}
				return listCases(a, check.Cases(o.Level))
			}
			if o.Timeout <= 0 {
				return usage(fmt.Sprintf("--timeout %v", o.Timeout), "more than 0", "")
			}
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1e6)
			}
			var err error
			if o.Config, err = checkText(a, host.config, "--config"); err != nil {
				return err
			}
			o.Inputs = map[string][]byte{}
			for _, in := range inputs {
				name, value, ok := strings.Cut(in, "=")
				if !ok {
					return usage("--in "+in, "FUNCTION=TEXT or FUNCTION=@FILE", "")
				}
				if _, known := o.Inputs[name]; known {
					return usage("--in "+in+", and another for "+name+" before it", "one --in for each function", "")
				}
				if o.Inputs[name], err = checkText(a, value, "--in "+name); err != nil {
					return err
				}
			}
			imports, err := host.imports(a)
			if err != nil {
				return err
			}
			o.Imports = map[string]check.Import{}
			for name, s := range imports {
				o.Imports[name] = check.Import(s)
			}
			if o.Sandbox, err = host.policy(); err != nil {
				return err
			}
			if sidecar {
				if o.Sandbox != nil {
					return usage("--sandbox with --sidecar", "one of them, as the sandbox is that of a worker for a library", "Leave one of them out")
				}
				o.Shell = byShell
				s := check.Sidecar{Target: args[0], Args: args[1:]}
				b, err := checkText(a, token, "--token")
				if err != nil {
					return err
				}
				s.Token = strings.TrimRight(string(b), "\r\n")
				if s.TLS, err = sidecarTLS(s.Target, byTLS, ca); err != nil {
					return err
				}
				if cmd.Flags().Changed("jobs") && o.Jobs < 1 {
					return usage(fmt.Sprintf("--jobs %d", o.Jobs), "1 or more", "Leave it out for as many as suit this machine")
				}
				if cmd.Flags().Changed("timeout") {
					o.Start = o.Timeout
				}
				return runSidecar(a, s, o)
			}
			for _, name := range []string{"token", "tls", "ca", "jobs"} {
				if cmd.Flags().Changed(name) {
					return usage("--"+name+" without --sidecar", "both, as it is about sidecars alone", "Leave it out")
				}
			}
			switch named := slices.Contains(o.Only, check.CaseSandbox); {
			case named && o.Sandbox == nil:
				return usage("--only "+check.CaseSandbox+" without --sandbox", "both, as the case tries that sandbox", "Add --sandbox")
			case len(o.Only) > 0 && !named && o.Sandbox != nil:
				return usage("--sandbox, and --only without the case "+check.CaseSandbox, "both, as no other case is in the sandbox",
					"Add "+check.CaseSandbox+" to --only, or leave out --sandbox")
			}
			self, err := os.Executable()
			if err != nil {
				return failure(err)
			}
			o.Worker = []string{self, checkCase}
			return checkAll(a, libraryFiles(args), &host, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Level, "level", defaultCheckLevel, "run the cases up to this level, `1..10`")
	f.StringSliceVar(&o.Only, "only", nil, "run only these `CASES`, of any level")
	f.BoolVar(&list, "list", false, "list the cases and run nothing")
	f.BoolVar(&o.Strict, "strict", false, "a plug-in with warnings does not pass")
	f.Uint64Var(&o.Seed, "seed", 0, "the `SEED` of random inputs; it is printed (default a random one)")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "the `TIME` that each case may take, all its calls together; more than 0")
	f.StringArrayVar(&inputs, "in", nil, "one more input for a function: `FUNCTION=TEXT` or FUNCTION=@FILE; once for each")
	f.StringArrayVar(&o.Without, "without", nil, "leave a `FUNCTION` out, or a hook as \"hook NAME\"; once for each")
	f.BoolVar(&sidecar, "sidecar", false, "test a program, or what answers at a URL, as a sidecar; its arguments stand behind --")
	f.StringVar(&token, "token", "", "with --sidecar: the `TOKEN` that it asks for, or @FILE")
	f.BoolVar(&byTLS, "tls", false, "with --sidecar: speak to a tcp: URL by TLS")
	f.StringVar(&ca, "ca", "", "with --sidecar: the certificates of authorities that may vouch for it, a `FILE` in PEM (default the system's)")
	f.IntVar(&o.Jobs, "jobs", 0, "with --sidecar: `HOW MANY` cases of a program run at a time (default as many as suit this machine)")
	host.add(f)
	return cmd
}

// sidecarTLS is how a sidecar is spoken to by TLS: nil for in the clear, and where nothing is said of how https: is.
func sidecarTLS(target string, byTLS bool, ca string) (*tls.Config, error) {
	tcp, https := strings.HasPrefix(target, "tcp:"), strings.HasPrefix(target, "https:")
	switch {
	case byTLS && !tcp:
		return nil, usage("--tls with "+target, "it with a tcp: URL", "Leave it out: https: is TLS by itself, and nobody else reads what goes through a socket, or a pipe, of this computer")
	case ca != "" && !https && !byTLS:
		return nil, usage("--ca with "+target, "it with an https: URL, or with --tls", "Leave it out, or add --tls to a tcp: URL")
	case ca == "" && !byTLS:
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return c, nil
	}
	var err error
	c.RootCAs, err = certificates(ca)
	return c, err
}

// byShell runs the command of --import in this process.
func byShell(line string, in []byte) ([]byte, error) {
	return shellCommand(line).run(context.Background(), in, io.Discard)
}

// checkText returns a text of the command line, or what is in the file that it names after an @.
func checkText(a *app, text, flag string) ([]byte, error) {
	b, err := a.read(source{text: text}, flag)
	if err == nil && len(b) > check.MaxInput {
		return nil, usage(flag+" with "+plural(len(b), "byte"), fmt.Sprintf("at most %d", check.MaxInput), "")
	}
	return b, err
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

// checkAll checks files one after the other, and fails as the worst of them does.
func checkAll(a *app, files []string, host *hostFlags, o check.Options) error {
	ctx, stop := interruptible(0)
	defer stop()
	worst, bad := 0, 0
	for i, file := range files {
		if i > 0 && !a.json {
			fmt.Fprintln(a.out)
		}
		err := runCheck(ctx, a, file, host, o)
		if err == nil {
			continue
		}
		var e *exit
		if !errors.As(err, &e) {
			return err
		}
		if a.json && e.err != nil {
			_ = a.print(description{File: file, Error: detailsOf(e.err)}, nil)
		}
		if len(files) == 1 || e.code != exitFailed && e.code != exitOpen {
			return &exit{e.code, e.err, true}
		}
		if e.err != nil { // the others are checked nevertheless
			fmt.Fprintf(a.err, "ferrule: %s\n", escape.Line(e.err.Error()))
		}
		worst = max(worst, e.code)
		bad++
	}
	if bad == 0 {
		return nil
	}
	return &exit{worst, fmt.Errorf("%d of %s did not pass", bad, plural(len(files), "file")), true}
}

// runCheck checks a file, and prints each case's result when there is one.
func runCheck(ctx context.Context, a *app, path string, host *hostFlags, o check.Options) error {
	if lib, err := loader.Inspect(path); err == nil { // another error is a finding
		if err := host.checkConfig(lib); err != nil {
			return err
		}
		if engines.IsPython(lib) {
			if o.Adapter, err = a.adapter(path); err != nil {
				return failure(err)
			}
		}
	}
	return printCheck(ctx, a, path, o, check.Cases(10), func(o check.Options) (*check.Verdict, error) { return check.Run(ctx, path, o) })
}

// runSidecar checks a sidecar, likewise.
func runSidecar(a *app, s check.Sidecar, o check.Options) error {
	ctx, stop := interruptible(0)
	defer stop()
	words := []string{shellWord(s.Target)}
	for _, arg := range s.Args { // what is checked is a script, where the program is what runs it
		words = append(words, shellWord(arg))
	}
	err := printCheck(ctx, a, strings.Join(words, " "), o, check.SidecarCases(10), func(o check.Options) (*check.Verdict, error) { return check.RunSidecar(ctx, s, o) })
	var e *exit
	if a.json && errors.As(err, &e) && e.err != nil {
		_ = a.print(description{File: s.Target, Error: detailsOf(e.err)}, nil)
	}
	if err != nil && errors.As(err, &e) {
		return &exit{e.code, e.err, true}
	}
	return err
}

// printCheck prints what a check finds, one case after the other.
func printCheck(ctx context.Context, a *app, path string, o check.Options, cases []check.Case, run func(check.Options) (*check.Verdict, error)) error {
	paint := func(outcome string) string { return fmt.Sprintf("%-7s", outcome) }
	if colours(a.out) {
		codes := map[string]string{check.Passed: "32", check.Failed: "1;31", check.Warned: "33", check.Skipped: "2"}
		paint = func(outcome string) string { return fmt.Sprintf("\x1b[%sm%-7s\x1b[0m", codes[outcome], outcome) }
	}
	if !a.json {
		o.Done = func(r check.Result) { printResult(a.out, r, paint) }
	}
	v, err := run(o)
	noCase, noFunction := new(check.UnknownCaseError), new(check.UnknownFunctionError)
	unread := new(inspect.Error)
	switch {
	case errors.As(err, &noCase):
		var names []string
		for _, c := range cases {
			names = append(names, c.Name)
		}
		near := nearest(noCase.Name, names)
		if len(names) > 12 && !strings.HasPrefix(near, "did you mean") {
			near = "see ferrule check --list"
		}
		return usage(fmt.Sprintf("--only %s", noCase.Name), "the name of a case", capital(near))
	case errors.As(err, &noFunction):
		return usage(fmt.Sprintf("--in or --without for %q, and the plug-in has no such function", noFunction.Name), "one of its functions",
			capital(nearest(noFunction.Name, noFunction.Functions)))
	case errors.As(err, &unread):
		return failure(err)
	case errors.Is(err, context.Canceled):
		return &exit{code: exitInterrupted, err: &worded{"interrupted; what the plug-in has started was ended", err}}
	case err != nil:
		return failure(err)
	}
	err = a.print(v, func(w io.Writer) error {
		for _, name := range slices.Sorted(maps.Keys(v.Without)) {
			fmt.Fprintf(w, "%s was left out of later cases: %s\n", escape.Line(name), escape.Line(v.Without[name]))
		}
		counts := map[string]int{}
		for _, r := range v.Results {
			counts[r.Outcome]++
		}
		verdict := "passes"
		if !v.Pass {
			verdict = "does not pass"
		}
		_, err := fmt.Fprintf(w, "\n%s %s: %s, %d skipped; %s, %s (--level %d --seed %d)\n", escape.Line(path), verdict,
			plural(len(v.Results), "case"),
			counts[check.Skipped], plural(v.Errors, "error"), plural(v.Warnings, "warning"), v.Level, v.Seed)
		return err
	})
	if err != nil {
		return failure(err)
	}
	if !v.Pass {
		return &exit{code: exitFailed}
	}
	return nil
}

func printResult(w io.Writer, r check.Result, paint func(string) string) {
	line := ""
	if r.Reason != "" {
		line = escape.Line(r.Reason)
	}
	fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s %-18s %s", paint(r.Outcome), r.Case, line), " "))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "        %s %s: %s\n                expected: %s\n                to fix: %s\n", f.Severity, f.Rule,
			escape.Line(f.Seen), escape.Line(f.Expected), escape.Line(f.Mend))
		for i, frame := range f.Frames {
			label := "at:"
			if i > 0 {
				label = "   "
			}
			fmt.Fprintf(w, "                %s %s\n", label, escape.Line(frame))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "        note: %s\n", escape.Line(n))
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
			err := check.Work(a.in, byShell)
			if errors.Is(err, check.ErrTask) {
				return &exit{code: exitUsage, err: err}
			}
			return failure(err)
		},
	}
}

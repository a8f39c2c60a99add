// Command ferrule creates, inspects, calls, checks, measures, signs and verifies plug-ins, and administers those of a config.yaml. Its manual is in docs/ferrule.md, made from
// its own help.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/escape"
	_ "github.com/ferrule-dev/ferrule/loader/isolate" // this program is its own worker
)

// The exit codes, which scripts rely on.
const (
	exitOK      = 0 // a result
	exitFailed  = 1 // the plug-in failed, or does not pass
	exitUsage   = 2 // the command line is wrong
	exitOpen    = 3 // the file cannot be opened as a plug-in
	exitCrashed = 4 // the plug-in crashed, or ran out of time
	exitPass    = 5 // the function has nothing to say to its input

	exitInterrupted = 130 // Ctrl-C, as shells have it
)

// exit is an error with an exit code. Its err may be nil: everything was said already.
type exit struct {
	code     int
	err      error
	reported bool // --json: an object that was printed says so
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// failure gives an error the exit code that its kind has, and this command's words.
func failure(err error) error {
	var known *exit
	var open *loader.OpenError
	var crash *loader.CrashError
	var deadline *loader.DeadlineError
	var usage *loader.UsageError
	var call *loader.CallError
	err = inWords(err)
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case err == context.Canceled: // Go's words, and nothing that says of what
		return &exit{code: exitInterrupted, err: &worded{wasInterrupted, err}}
	case errors.Is(err, context.Canceled):
		return &exit{code: exitInterrupted, err: err}
	case errors.As(err, &crash), errors.As(err, &deadline), errors.Is(err, context.DeadlineExceeded):
		return &exit{code: exitCrashed, err: err}
	case errors.As(err, &open):
		return &exit{code: exitOpen, err: err}
	case errors.As(err, &usage):
		return &exit{code: exitUsage, err: err}
	case errors.As(err, &call) && call.Status == loader.ErrPass:
		return &exit{code: exitPass, err: &worded{passText(call), err}}
	default:
		return &exit{code: exitFailed, err: err}
	}
}

// passText says that a function has declined, which is no failure (R22).
func passText(call *loader.CallError) string {
	text := fmt.Sprintf("plug-in %s: %s has nothing to say to this input (pass)", call.Plugin, call.Func)
	if call.Message != "" {
		text += ": " + call.Message
	}
	return text
}

// app is what the verbs have in common: their streams, and how to print facts.
type app struct {
	in       io.Reader
	out, err io.Writer
	json     bool // --json

	completes bool // a shell asks what may come next: the parser reads each option twice then

	unended atomic.Bool // the last that went to out has no newline at its end
	used    string      // the flag for which the standard input was read, if one

	given  [][]byte // what was read of each source, in their order
	handed *handed  // in a guarded child, what the command has handed it
}

// terminal reports whether the command's standard output is a terminal.
func (a *app) terminal() bool {
	if a.handed != nil {
		return a.handed.Terminal
	}
	return terminal(a.out)
}

// hand writes a result.
func (a *app) hand(result []byte) error {
	if n := len(result); n > 0 {
		a.unended.Store(result[n-1] != '\n')
	}
	_, err := a.out.Write(result)
	return err
}

// endLine has a message begin a line where it goes to the same file as a result that did not end its own. The newline is
// the message's, and goes where that goes.
func (a *app) endLine() {
	if a.unended.Swap(false) && sameFile(a.out, a.err) {
		fmt.Fprintln(a.err)
	}
}

// sameFile reports whether two writers are one file, pipe or terminal.
func sameFile(a, b io.Writer) bool {
	f, ok := a.(*os.File)
	g, also := b.(*os.File)
	if !ok || !also {
		return false
	}
	one, err := f.Stat()
	if err != nil {
		return false
	}
	other, err := g.Stat()
	return err == nil && os.SameFile(one, other)
}

// print prints facts: as JSON where that was asked for, otherwise as text does.
func (a *app) print(facts any, text func(io.Writer) error) error {
	if !a.json {
		return failure(text(a.out))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(facts); err != nil {
		return failure(err)
	}
	_, err := a.out.Write(escape.JSON(b.Bytes())) // a terminal may show it
	return failure(err)
}

// colours reports whether w is a terminal that shows colours.
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(f.Fd()) && escapes(f.Fd())
}

// The colours that text for people is in: a name, what matters less, what is wrong, what is well.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// painter returns a function that puts a colour around a text where w shows colours, and none where it does not.
func painter(w io.Writer) func(colour, text string) string {
	if !colours(w) {
		return func(_, text string) string { return text }
	}
	return func(colour, text string) string { return "\x1b[" + colour + "m" + text + "\x1b[0m" }
}

// terminal reports whether stream, a reader or a writer, is a terminal.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isTerminal(f.Fd())
}

// verbs are the commands, each in a file of its own, which adds to it in an init function.
var verbs []func(*app) *cobra.Command

// command returns the whole command line.
func command(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ferrule",
		Short: "Create, inspect, call, check, measure, sign and administer native plug-ins",
		Long: `Work with native plug-ins for Go programs:
  - make them: new, gen, inspect, call, check, bench
  - sign and publish them: keygen, sign, verify, push, index
  - serve them to programs elsewhere, as sidecars: serve
  - see what those of an application do while it runs: top
  - administer those of an application by its config.yaml, without running any of them: list, info, doctor, enable,
    disable, grant, deny
  - install them from a registry, as ferrule.lock says: search, install, update, rollback, remove, lock, bundle,
    mirror, gc

Facts and results go to the standard output, messages to the standard error. An option that takes one value may be given
once. Exit codes:
  0    a result
  1    the plug-in failed, or does not pass; what was asked for could not be done
  2    the command line is wrong
  3    the file cannot be opened as a plug-in, or config.yaml is not valid
  4    the plug-in crashed or ran out of time
  5    the function passed: it has nothing to say to this input, which is no failure
  6    a server cannot be reached, or is too busy: another try may do
  130  interrupted, such as by Ctrl-C or Ctrl-\`,
		Example: `  ferrule new --lang c greeter                      # a plug-in to start from
  ferrule inspect plugin.so                         # what it is, without running any of it
  ferrule call plugin.so count_vowels --in hello
  ferrule check plugin.so                           # does it keep to the contract?
  ferrule bench plugin.so count_vowels --in hello   # what does a call cost?
  ferrule doctor                                    # what is wrong with config.yaml and its plug-ins?`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetIn(a.in)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpVerb())
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print facts, results and errors as JSON")
	for _, verb := range verbs {
		cmd := verb(a)
		if do := cmd.RunE; do != nil { // what a verb returns is its own: an error without an exit code is the parser's
			cmd.RunE = func(cmd *cobra.Command, args []string) error { return failure(do(cmd, args)) }
		}
		if !a.completes {
			once(cmd.Flags())
		}
		root.AddCommand(cmd)
	}
	return root
}

// run runs one command line and returns its exit code.
func run(args []string, in io.Reader, out, stderr io.Writer) int {
	return (&app{in: in, out: out, err: stderr}).run(args)
}

func (a *app) run(args []string) int {
	a.completes = len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd)
	root := command(a)
	root.SetArgs(args)
	out := &lossless{w: a.out}
	root.SetOut(out)
	completionNeedsShell(root)
	cmd, err := root.ExecuteC()
	if out.err != nil {
		err = failure(out.err)
	}
	if err == nil {
		return exitOK
	}
	if _, _, unknown := root.Find(args); unknown != nil {
		cmd, err = root, unknownVerb(root, args)
	}
	var e *exit
	text := escape.Line
	if !errors.As(err, &e) {
		e = &exit{code: exitUsage, err: err} // cobra's own, of a verb of its own
		text = escape.Lines
	}
	if e.err == nil {
		return e.code
	}
	if (errors.As(e.err, new(*loader.CallError)) || errors.As(e.err, new(*loader.OpenError))) && !a.json && !asksJSON(cmd, args) {
		text = indented // such as a traceback, and what a caret points at
	}
	a.endLine()
	for _, message := range messages(e.err) {
		fmt.Fprintf(a.err, "ferrule: %s\n", text(strings.TrimRight(message, "\n")))
	}
	if e.code == exitUsage {
		fmt.Fprintf(a.err, "See '%s --help'.\n", cmd.CommandPath())
	}
	// The parser may have stopped before it came to --json.
	if a.json = a.json || asksJSON(cmd, args); a.json && !e.reported {
		_ = a.print(struct {
			Error *errorDetails `json:"error"`
		}{detailsOf(e)}, nil)
	}
	return e.code
}

// indented is a text with foreign lines in it, each behind some space: none can be taken for a line of this command's.
func indented(text string) string {
	return strings.ReplaceAll(escape.Lines(text), "\n", "\n  ")
}

// asksJSON reports whether --json is among the arguments, read as the parser does, which may not have read all of them: a value
// of another option is none, nor is what is behind --.
func asksJSON(cmd *cobra.Command, args []string) (asks bool) {
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		word, value, has := strings.Cut(args[i], "=")
		name, long := strings.CutPrefix(word, "--")
		f := cmd.Flag(name)
		if letter, short := strings.CutPrefix(word, "-"); !long && short && len(letter) == 1 {
			f = cmd.Flags().ShorthandLookup(letter)
		} else if !long {
			continue
		}
		switch {
		case f == nil || has && name != "json":
		case name == "json":
			on, err := strconv.ParseBool(value)
			asks = !has || err == nil && on
		case f.NoOptDefVal == "":
			i++ // its value
		}
	}
	return asks
}

// lossless is a writer that keeps its first error. It is for the help, whose errors cobra drops.
type lossless struct {
	w   io.Writer
	err error
}

func (l *lossless) Write(b []byte) (int, error) {
	n, err := l.w.Write(b)
	if l.err == nil {
		l.err = err
	}
	return n, err
}

// version says which command this is.
func version() string {
	v := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return fmt.Sprintf("%s, contract %d, %s %s/%s", v, abi.Major, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// heeded says that a verb itself ends on signals.
var heeded atomic.Bool

// notify relays the signals that interrupt this command. SIGINT and SIGHUP it leaves ignored where it finds
// them so, as under nohup; of the others Go does not say.
func notify(to chan<- os.Signal) {
	heeded.Store(true)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) {
			signal.Notify(to, s)
		}
	}
}

func main() {
	if guarding {
		os.Exit(child(os.Args[1:]))
	}
	restore := keepTerminal()
	quits := make(chan os.Signal, 1)
	signal.Notify(quits, syscall.SIGQUIT) // the runtime would print its own state, and exit with code 2
	go func() {
		<-quits
		if !heeded.Load() {
			restore()
			os.Exit(exitInterrupted)
		}
	}()
	code := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	restore()
	os.Exit(code)
}

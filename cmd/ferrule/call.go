package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

func init() { verbs = append(verbs, callCommand) }

func callCommand(a *app) *cobra.Command {
	c := &caller{app: a}
	var in, config, memory string
	cmd := &cobra.Command{
		Use:   "call FILE FUNCTION",
		Short: "Call a function of a plug-in, and print its result",
		Long: `Call a function of a plug-in. Its result goes to the standard output, byte for byte; messages and the plug-in's log
lines go to the standard error. The input is the standard input, or what --in says.

An import of the plug-in is served by a command: its standard input is what the plug-in passes, its standard output is
the result. When its exit code is not 0 the plug-in gets the status FAILED, with the command's standard error as the
message. The system's shell runs it (sh -c, cmd /C), once for each call of the import.

The plug-in is called in the process that loads it, a child of this command: a crash ends that one, and is exit code 4.
With --isolated it is in a worker process, as hosts have it that do not trust it: its environment is empty, and a
function that does not return in time is killed. With --sandbox the worker may also read no files but itself and the
system's libraries, and use neither the network nor other processes.

Exit codes:
  0    a result
  1    the plug-in failed: the function returned another status, or broke a rule of the contract
  2    the command line is wrong, such as a function that is not there, or an import without a command
  3    the file cannot be opened as a plug-in, or its ferrule_start failed
  4    the plug-in crashed or ran out of time
  130  interrupted`,
		Example: `  ferrule call plugin.so count_vowels --in hello
  ferrule call resize.so thumbnail <photo.jpeg >small.jpeg
  ferrule call --isolated --timeout 2s parser.so parse --in @suspicious.json
  ferrule call checkout.so total --in @cart.json --config '{"currency":"EUR"}' --import 'points=jq .customer.points'`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeCall,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json {
				return usage("call prints the function's result as it is; --json is for facts")
			}
			if c.memory > 0 || cmd.Flags().Changed("memory") {
				var err error
				if c.memory, err = parseSize(memory); err != nil {
					return usage("--memory %s: %w", memory, err)
				}
				if !c.sandbox {
					return usage("--memory is a limit of the sandbox: add --sandbox")
				}
			}
			if c.timeout < 0 {
				return usage("--timeout %v: give a time that is not negative", c.timeout)
			}
			return c.run(args[0], args[1], source{in, !cmd.Flags().Changed("in")}, source{text: config})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in, "in", "", "the input: `TEXT`, @FILE, @- for the standard input, @@… for a text that starts with @")
	f.StringVar(&config, "config", "", "the configuration that ferrule_start gets: `TEXT` or @FILE, as for --in")
	f.BoolVar(&c.hook, "hook", false, "call the hook for the extension point with this name, not a function")
	f.StringArrayVar(&c.imports, "import", nil, "serve an import by a command: `NAME=COMMAND`; once for each import")
	f.BoolVar(&c.isolated, "isolated", false, "load the plug-in into a worker process, where a crash costs nothing")
	f.BoolVar(&c.sandbox, "sandbox", false, "take files, network and processes from the worker, too; implies --isolated")
	f.StringVar(&memory, "memory", "", "with --sandbox: how much memory the plug-in may have, a `SIZE` such as 256MiB")
	f.DurationVar(&c.timeout, "timeout", 0, "how long opening the plug-in and the call may take, such as 500ms or 2s")
	f.StringVar(&c.level, "log-level", "info", "show log lines from this `LEVEL` on: error, warn, info, debug or trace")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(
		[]string{"error", "warn", "info", "debug", "trace"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// completeCall completes a library's name, and then its functions or hooks.
func completeCall(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return libraries(cmd, args, prefix)
	}
	lib, err := loader.Inspect(args[0])
	if err != nil || len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	symbols := lib.Funcs
	if hook, _ := cmd.Flags().GetBool("hook"); hook {
		symbols = lib.Hooks
	}
	var names []string
	for _, s := range symbols {
		doc, _, _ := strings.Cut(s.Doc, "\n")
		names = append(names, oneLine(s.Name)+"\t"+oneLine(doc))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func usage(format string, args ...any) error { return &exit{exitUsage, fmt.Errorf(format, args...)} }

// caller is one run of `ferrule call`.
type caller struct {
	*app
	hook, isolated, sandbox bool
	imports                 []string // NAME=COMMAND
	memory                  int64
	timeout                 time.Duration
	level                   string
}

// grace is how long a function in this process may go on after its context has ended, before this process ends.
const grace = 500 * time.Millisecond

func (c *caller) run(path, name string, in, config source) error {
	c.isolated = c.isolated || c.sandbox
	var level slog.Level
	if c.level == "trace" {
		level = loader.LevelTrace
	} else if err := level.UnmarshalText([]byte(c.level)); err != nil {
		return usage("--log-level %s: it is error, warn, info, debug or trace", c.level)
	}
	commands, err := importCommands(c.imports)
	if err != nil {
		return err
	}
	// What can be said without running anything of the plug-in is said first.
	lib, err := loader.Inspect(path)
	if err != nil {
		return failure(err)
	}
	if err := c.check(lib, name, commands); err != nil {
		return err
	}
	if !c.isolated && !guarding {
		return c.guard(lib.Manifest.Name, name)
	}
	input, err := in.read(c.app, "--in")
	if err != nil {
		return err
	}
	configuration, err := config.read(c.app, "--config")
	if err != nil {
		return err
	}

	ctx, stop := interruptible(c.timeout)
	defer stop()
	progress := startProgress(c.err, name)
	defer progress.stop()
	handler := slog.NewTextHandler(progress, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	opts := []loader.Option{loader.WithConfig(configuration), loader.WithLogger(slog.New(handler))}
	for name, command := range commands {
		opts = append(opts, loader.WithHostFunc(name, command.serve(progress)))
	}
	if c.isolated {
		worker := []isolate.Option{isolate.WithOutput(progress)}
		if c.timeout > 0 {
			worker = append(worker, isolate.WithStartTimeout(c.timeout))
		}
		if c.sandbox {
			worker = append(worker, sandbox.With(sandbox.Policy{Memory: c.memory}))
		}
		opts = append(opts, isolate.InWorker(worker...))
	}

	var p *loader.Plugin
	var result []byte
	err = c.bounded(ctx, lib.Manifest.Name, name, func() (err error) {
		if p, err = loader.Open(path, opts...); err != nil {
			return err
		}
		get := p.Func
		if c.hook {
			get = p.Hook
		}
		fn, err := get(name)
		if err != nil {
			return err
		}
		result, err = fn.Call(ctx, input)
		return err
	})
	progress.stop()
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (--timeout %v)", err, c.timeout)
	}
	if errors.As(err, new(*hang)) {
		return failure(err) // the plug-in is in use: it cannot be closed
	}
	if err == nil {
		err = c.write(result)
	}
	if p != nil {
		err = errors.Join(err, c.bounded(ctx, lib.Manifest.Name, "ferrule_stop", p.Close))
	}
	return failure(err)
}

// check refuses what the file shows to be wrong with the command line.
func (c *caller) check(lib *inspect.Library, name string, commands map[string]shellCommand) error {
	names := func(symbols []inspect.Symbol) (names []string) {
		for _, s := range symbols {
			names = append(names, s.Name)
		}
		return names
	}
	functions, hooks, imports := names(lib.Funcs), names(lib.Hooks), names(lib.Imports)
	kind, there, others, flag := "function", functions, hooks, "it is a hook: add --hook"
	if c.hook {
		kind, there, others, flag = "hook", hooks, functions, "it is a function: leave out --hook"
	}
	if !slices.Contains(there, name) {
		remedy := nearest(name, there)
		if slices.Contains(others, name) {
			remedy = flag
		}
		return usage("plug-in %s has no %s %q; %s", lib.Manifest.Name, kind, name, remedy)
	}
	var missing []string
	for _, name := range imports {
		if _, ok := commands[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	text := fmt.Sprintf("plug-in %s needs host functions: %s; serve each with a command, such as --import '%s=cat'",
		lib.Manifest.Name, strings.Join(missing, ", "), missing[0])
	for given := range commands {
		if !slices.Contains(imports, given) {
			text += fmt.Sprintf("; it does not import %s, %s", given, nearest(given, imports))
		}
	}
	return usage("%s", text)
}

// hang says that a function in this process does not return.
type hang struct {
	plugin, fn string
	cause      error
}

func (h *hang) Error() string {
	return fmt.Sprintf("plug-in %s: %s: %v, and it did not return within %v. Nothing can stop it in this process; "+
		"with --isolated its worker is killed", h.plugin, h.fn, h.cause, grace)
}

func (h *hang) Unwrap() error { return h.cause }

// bounded does what calls into the plug-in. In this process nobody else ends a function that does not return in time.
func (c *caller) bounded(ctx context.Context, plugin, fn string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	if c.isolated {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return &hang{plugin, fn, ctx.Err()}
	}
}

// write writes the result.
func (c *caller) write(result []byte) error {
	if _, err := c.out.Write(result); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	if n := len(result); n > 0 && result[n-1] != '\n' && terminal(c.out) && terminal(c.err) {
		fmt.Fprintln(c.err) // the prompt goes on a line of its own
	}
	return nil
}

// withoutTime leaves out what a person who waits for the line knows.
func withoutTime(_ []string, attr slog.Attr) slog.Attr {
	switch attr.Key {
	case slog.TimeKey:
		return slog.Attr{}
	case slog.LevelKey:
		if level, ok := attr.Value.Any().(slog.Level); ok && level == loader.LevelTrace {
			attr.Value = slog.StringValue("TRACE")
		}
	}
	return attr
}

// source is where bytes come from: a text, or @ and a file's name.
type source struct {
	text  string
	stdin bool // nothing was given: the standard input
}

func (s source) read(a *app, flag string) ([]byte, error) {
	name, isFile := strings.CutPrefix(s.text, "@")
	switch {
	case s.stdin || isFile && name == "-":
		if terminal(a.in) {
			fmt.Fprintln(a.err, "ferrule: reading the input from the terminal, up to Ctrl-D (Windows: Ctrl-Z, Enter)")
		}
		data, err := io.ReadAll(a.in)
		if err != nil {
			return nil, usage("reading the standard input: %w", err)
		}
		return data, nil
	case !isFile:
		return []byte(s.text), nil
	case strings.HasPrefix(name, "@"):
		return []byte(name), nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usage("%s: %w", flag, err)
	}
	return data, nil
}

// interruptible returns a context that ends with the timeout, where it is not 0, and with Ctrl-C. A second Ctrl-C ends
// this process.
func interruptible(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	stop := cancel
	if timeout > 0 {
		ctx, stop = context.WithTimeout(ctx, timeout)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		first := time.Now()
		for range signals {
			if time.Since(first) > 200*time.Millisecond { // not the same one, from the terminal and from guard
				os.Exit(guarded(exitInterrupted))
			}
		}
	}()
	return ctx, func() { stop(); cancel() }
}

// parseSize reads a number of bytes with a unit.
func parseSize(text string) (int64, error) {
	shifts := map[string]uint{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30}
	number := strings.TrimRight(text, "KMGiB")
	shift, ok := shifts[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || n <= 0 || n > 1<<62>>shift {
		return 0, errors.New("give a size such as 256MiB or 1GiB")
	}
	return n << shift, nil
}

// nearest says which candidate was meant, or which there are.
func nearest(name string, candidates []string) string {
	best, distance := "", 1+min(3, (len(name)+1)/2)
	for _, c := range candidates {
		if d := editDistance(name, c); d < distance {
			best, distance = c, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case len(candidates) == 0:
		return "it has none"
	case len(candidates) <= 12:
		return "there is " + strings.Join(candidates, ", ")
	default:
		return fmt.Sprintf("there are %d others: see ferrule inspect", len(candidates))
	}
}

// editDistance is how many bytes to add, drop or change to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

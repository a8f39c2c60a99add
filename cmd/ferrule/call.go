package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

func init() { verbs = append(verbs, callCommand) }

// exitCodesOfCalls are those of the verbs that call a function, for their help.
const exitCodesOfCalls = `Exit codes:
  0    a result
  1    the plug-in failed: the function returned another status, or broke a rule of the contract
  2    the command line is wrong, such as a function that is not there, or an import without a command
  3    the file cannot be opened as a plug-in, or its ferrule_start failed
  4    the plug-in crashed or ran out of time
  5    the function passed: it has nothing to say to this input, which is no failure
  130  interrupted`

func callCommand(a *app) *cobra.Command {
	c := &caller{app: a}
	var in, out string
	cmd := &cobra.Command{
		Use:   "call FILE [FUNCTION]",
		Short: "Call a function of a plug-in, and print its result",
		Long: `Call a function of a plug-in. Its result, and nothing else, goes to the standard output, byte for byte; messages,
the plug-in's log lines and what it prints itself go to the standard error. The input is the standard input, or what
--in says. Without a FUNCTION the plug-in's functions and hooks are listed; options of a call are refused then, and --hook
lists the hooks only.

A function whose meta text says stream=in, out or both works on streams, of any length, as it runs. Its input stream is
the standard input, and its parameters are what --in says, otherwise nothing. With --in @FILE an empty input stream is
an error, since the FILE may be meant for it; to give an empty one, redirect an empty file to the standard input. The
output stream goes to the standard output, or to the file that --out names, as the function writes it; if the
call fails, the file has what was written until then. While the output stream goes to the standard output, the result goes to the
standard error, escaped, and not at all when it is empty.

On a terminal, work of more than a second shows how long it takes, and how far it is: as the plug-in says, otherwise how much of
the file that is its standard input was read.

--timeout begins when the input was read, without that of an input stream. It is for opening the plug-in (its constructors and ferrule_start) and for the
call, together, and ends the commands that serve imports, on Linux with what is in their process group. A function has half
a second more, in which it may see that it is cancelled and return. Its ferrule_stop has what is left of the time and half a second,
with --isolated always 2 seconds.

An import of the plug-in is served by a command: its standard input is what the plug-in passes, its standard output is
the result. When its exit code is not 0 the plug-in gets the status FAILED, with the command's standard error as the
message. The system's shell runs it (sh -c, cmd /C), once for each call of the import, without a terminal. With --answer
the result is always the same. A want is an import that the plug-in can do without: it is served in the same way, or not at all.

The plug-in is called in the process that loads it, a child of this command: a crash ends that one, and is exit code 4.
It has no terminal, and is killed when --timeout is over and it does not answer, with all the processes that it has
started; so are those that it leaves at the end, on Linux also when this command itself is killed. With --isolated it is
in a worker process, as hosts have it that do not trust it: its environment is empty, and a function that does not
return in time is killed. With --sandbox the worker may also read no files but itself and the system's libraries, and
use neither the network nor other processes, but for what --allow-read, --allow-write, --allow-connect and --procs name.

A WebAssembly module (.wasm), Extism's plug-ins among these, is called in the same way. It reaches nothing but its own memory
and its imports, with or without --isolated; it has 256 MiB of memory. With --sandbox, --memory gives it another amount, and by
--allow-read and --allow-write it sees files and folders, under their absolute paths.

A script in JavaScript or Python (.js, .mjs, .py), with the header that makes it a plug-in (docs/scripts.md), is called in the same way. JavaScript runs in an
interpreter that this command has: a WebAssembly module, in memory of its own, without files and network. Python runs in a worker process, with or without
--isolated, by a small library that embeds the system's: the first time this command builds it, which takes a C compiler and python3-config (Debian: apt-get install gcc
python3-dev), into the user's cache folder. PYTHON_CONFIG in the environment names another python3-config. In a sandbox it may read Python's own folders, and that of the script.

With --sidecar PROGRAM [FUNCTION] [-- ARGUMENTS] a sidecar is called, which is a program in any language (docs/sidecars.md), as check takes it: PROGRAM is
a path, a name in PATH, or the URL of one that somebody else has started: unix:PATH, tcp:HOST:PORT, fifo:IN,OUT, npipe:NAME, http://HOST:PORT,
https://HOST:PORT or http+unix:PATH. It is asked what it is, in a session of its own, and then called in another. A program has the rights of this user;
an argument of it that names a file is given as its whole path.

What a plug-in says is escaped where it could steer the terminal. Each line that it prints itself has "plug-in: " before
it, and each that an import's command writes to its standard error "import NAME: "; so no line of theirs can be taken for
one of this command's. A log line has its level first, then the message, then plugin=, then its fields.

With --json there is one object: plugin, version, function, status (0 for a result), result, encoding (how result is
written: "text" when it is UTF-8, otherwise "base64") and duration_ns, of the call alone. Where there is no result,
message is the plug-in's own, and error has kind, plugin, function, symbol, rule (of the contract), found, expected, remedy
and text, those that there are. A function that passed has its status, 9, and no error. With an output stream the object needs --out,
and result is what the function returned beside it. status is left out where the function did not return one: the command line is wrong, the
plug-in did not open, crashed or ran out of time. Then error may have stage (opening, calling, returned, stopping or stopped), signal or exit_code, fault (where),
last_lines (the last that the plug-in wrote) and attempt (which worker it was). Without a FUNCTION the object has plugin,
version, functions (not with --hook), hooks, imports and wants, each of these with what inspect says of it.

` + exitCodesOfCalls,
		Example: `  ferrule call plugin.so
  ferrule call plugin.so count_vowels --in hello
  ferrule call resize.so thumbnail <photo.jpeg >small.jpeg
  ferrule call digest.so sha256 <disk.img
  ferrule call filter.so lines --in @patterns.txt <access.log
  ferrule call --isolated --timeout 2s parser.so parse --in @suspicious.json
  ferrule call greeter.wasm greet --in Ada
  ferrule call discount.js before_checkout --in @cart.json --answer loyalty_points=120
  ferrule call --sandbox discount.py before_checkout --in @cart.json --answer loyalty_points=120
  ferrule call --sidecar ./shout.py shout --in hello
  ferrule call --sidecar python3 shout --in hello -- shout.py
  ferrule call --sidecar --token @token --tls tcp:shout.example:4242 shout --in hello
  ferrule call --sandbox --allow-read /usr/share/fonts --memory 256MiB render.so page --in @page.html >page.png
  ferrule call checkout.so total --in @cart.json --config '{"currency":"EUR"}' --import 'points=jq .customer.points'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if !c.sidecar.given {
				return arguments("FILE", "[FUNCTION]")(cmd, args)
			}
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args = args[:n]
			}
			return arguments("PROGRAM", "[FUNCTION]")(cmd, args)
		},
		ValidArgsFunction: completeCall,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := c.sidecar.take(cmd.Flags(), args, cmd.ArgsLenAtDash())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if f := givenBeside(cmd.Flags(), "hook", "json", "sidecar", "token", "tls", "ca"); f != "" {
					return usage("--"+f+" without a FUNCTION", "both, as it is about a call", "Name a function: ferrule call "+
						c.sidecar.words()+shellWord(args[0])+c.sidecar.behind()+" says which there are")
				}
				return c.list(args[0])
			}
			if c.timeout < 0 {
				return usage(fmt.Sprintf("--timeout %v", c.timeout), "a time that is not negative", "")
			}
			if cmd.Flags().Changed("data") && c.data == "" {
				return usage("--data without a name", "--data FOLDER", "")
			}
			if cmd.Flags().Changed("out") {
				c.outFile = &out
			}
			return c.run(args[0], args[1], source{in, !cmd.Flags().Changed("in")})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in, "in", "", "the input: `TEXT`, @FILE, @- for the standard input, @@… for a text that starts with @")
	f.StringVar(&out, "out", "", "the `FILE` for the output stream of a function that has one; what is in it is replaced")
	f.StringArrayVar(&c.info, "info", nil, "what the plug-in gets when it asks its host: `KEY=VALUE`, of the application's keys, which have a dot and do not begin with offers., or traceparent; once for each")
	f.StringVar(&c.data, "data", "", "grant the plug-in a `FOLDER` of its own, which it gets when it asks its host for data")
	f.BoolVar(&c.hook, "hook", false, "call the hook for the extension point with this name, not a function")
	f.BoolVar(&c.isolated, "isolated", false, "load the plug-in into a worker process, where a crash costs nothing")
	c.sidecar.add(f)
	c.host.add(f)
	f.DurationVar(&c.timeout, "timeout", 0, "the `TIME` that opening the plug-in and the call may take together, such as 500ms or 2s; 0 is no limit (default 0)")
	f.StringVar(&c.level, "log-level", "info", "show log lines from this `LEVEL` on: error, warn, info, debug or trace")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(
		[]string{"error", "warn", "info", "debug", "trace"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// completeCall completes a library's name, and then its functions or hooks.
func completeCall(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if sidecar, _ := cmd.Flags().GetBool("sidecar"); sidecar { // what it has is not known before it runs
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
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
		names = append(names, escape.Line(s.Name)+"\t"+escape.Line(doc))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// caller is one run of `ferrule call`.
type caller struct {
	*app
	hook, isolated bool
	boxed          bool // its engine ends what does not stop, after a grace of its own
	sidecar        sidecarFlags
	host           hostFlags
	outFile        *string // nil where --out is not given
	info           []string
	data           string
	timeout        time.Duration
	level          string
}

// called is what --json says of a call.
type called struct {
	Plugin     string        `json:"plugin"`
	Version    string        `json:"version"`
	Function   string        `json:"function"`
	Status     *int32        `json:"status,omitempty"`
	Message    string        `json:"message,omitempty"`
	Result     *string       `json:"result,omitempty"`
	Encoding   string        `json:"encoding,omitempty"`
	DurationNS int64         `json:"duration_ns,omitempty"`
	Error      *errorDetails `json:"error,omitempty"`
}

// grace is how long a function in this process may go on after its context has ended, before this process ends.
const grace = 500 * time.Millisecond

// never is a time that does not come.
const never = time.Duration(1 << 62)

// list lists what can be called.
func (c *caller) list(path string) error {
	lib, err := c.inspect(path)
	if err != nil {
		return failure(err)
	}
	kinds := []struct {
		what, flag string
		symbols    []abi.Symbol
	}{{"functions", "", lib.Funcs}, {"hooks", "--hook ", lib.Hooks}}
	if c.hook {
		kinds = kinds[1:]
	}
	facts := map[string]any{"plugin": lib.Manifest.Name, "version": lib.Manifest.Version, "imports": symbolsOf(lib.Imports),
		"wants": symbolsOf(lib.Wants)}
	for _, k := range kinds {
		facts[k.what] = symbolsOf(k.symbols)
	}
	return c.print(facts, func(w io.Writer) error {
		plugin := escape.Line(lib.Manifest.Name) + " " + escape.Line(lib.Manifest.Version)
		example := ""
		for _, k := range kinds {
			if len(k.symbols) == 0 {
				continue
			}
			fmt.Fprintf(w, "%s of %s:\n", capital(k.what), plugin)
			for _, s := range symbolsOf(k.symbols) {
				s.write(w, painter(w))
			}
			if example == "" {
				example = exampleCall(path, c.sidecar.words()+k.flag, k.symbols[0], lib.Imports) + c.sidecar.behind()
			}
		}
		if example == "" {
			names := "functions and no hooks"
			if c.hook {
				names = "hooks"
			}
			_, err := fmt.Fprintf(w, "%s has no %s.\n", plugin, names)
			return err
		}
		_, err := fmt.Fprintf(w, "\nCall one with\n\n    %s\n", escape.Line(example))
		return err
	})
}

// inspect finds what the plug-in says of itself. Of a sidecar, that is asked.
func (c *caller) inspect(path string) (*inspect.Library, error) {
	if !c.sidecar.given {
		return loader.Inspect(path)
	}
	path, e, err := c.sidecar.engine(c.app, path)
	if err != nil {
		return nil, err
	}
	ctx, stop := interruptible(c.timeout)
	defer stop()
	lib, err := askSidecar(ctx, path, e)
	if err = inTime(err, c.timeout); err != nil && !errors.As(err, new(*loader.OpenError)) {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return lib, err
}

// exampleCall is a command line for a shell that calls a function, whatever the plug-in imports.
func exampleCall(path, flag string, s abi.Symbol, imports []abi.Symbol) string {
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	text := "TEXT"
	if strings.HasSuffix(s.In, "json") {
		text = "'{}'"
	}
	line := "ferrule call " + flag + shellWord(path) + " " + s.Name
	if s.Stream&abi.StreamIn != 0 {
		line = "echo " + text + " | " + line
	} else {
		line += " --in " + text
	}
	for _, i := range imports {
		line += " --answer " + i.Name + "=TEXT"
	}
	return line
}

func (c *caller) run(path, name string, in source) error {
	var level slog.Level
	if c.level == "trace" {
		level = loader.LevelTrace
	} else if err := level.UnmarshalText([]byte(c.level)); err != nil {
		return usage("--log-level "+c.level, "error, warn, info, debug or trace", "")
	}
	policy, err := c.host.policy()
	if err != nil {
		return err
	}
	c.isolated = c.isolated || policy != nil
	imports, err := c.host.imports(c.app)
	if err != nil {
		return err
	}
	// What can be said without running anything of the plug-in is said first.
	lib, err := c.inspect(path)
	if err != nil {
		return failure(err)
	}
	c.boxed = engines.IsBoxed(lib)
	c.isolated = (c.isolated || c.sidecar.given || engines.IsPython(lib)) && !c.boxed
	symbol, err := findSymbol(lib, name, c.hook)
	if err != nil {
		return err
	}
	if err := checkImports(lib, imports); err != nil {
		return err
	}
	if err := c.host.checkConfig(lib); err != nil {
		return err
	}
	told, err := c.told()
	if err != nil {
		return err
	}
	if err := c.checkOut(symbol); err != nil {
		return err
	}
	if symbol.Stream&abi.StreamIn != 0 {
		in.stdin = false
	}
	input, err := c.read(in, "--in")
	if err != nil {
		return err
	}
	configuration, err := c.read(source{text: c.host.config}, "--config")
	if err != nil {
		return err
	}
	if symbol.Stream&abi.StreamIn != 0 && c.used != "" {
		return usage("@- beside "+name+", whose input stream is the standard input", "a text, or a file's name", "")
	}
	facts := &called{Plugin: lib.Manifest.Name, Version: lib.Manifest.Version, Function: name}
	if !c.isolated && !guarding {
		return c.fail(facts, c.guard(path, lib.Manifest.Name, symbol, c.timeout))
	}
	adapter := ""
	if engines.IsPython(lib) && !c.sidecar.given {
		if adapter, err = c.adapter(path); err != nil {
			return c.fail(facts, err)
		}
	}
	var out *os.File
	if c.outFile != nil {
		if out, err = os.Create(*c.outFile); err != nil {
			return unreadable("--out", err)
		}
		defer out.Close() // a second time where all is well
	}
	if c.timeout > 0 {
		deadline(c.timeout + c.patience() + guardSlack)
	}

	ctx, stop := interruptible(c.timeout)
	defer stop()
	shows := c.showsProgress(symbol)
	progress := startProgress(c.err, name, shows && !guarding)
	defer progress.stop()
	streams := struct {
		in  io.Reader
		out io.Writer
	}{}
	if symbol.Stream&abi.StreamIn != 0 {
		streams.in = c.in
		if shows {
			streams.in = c.watched(progress)
		}
		if _, isFile := in.file(); isFile && !c.isRegular() {
			streams.in = &notEmpty{Reader: streams.in}
		}
		if !guarding {
			c.sayTerminal()
		}
	}
	switch {
	case symbol.Stream&abi.StreamOut == 0:
	case out != nil:
		streams.out = out
	default:
		streams.out = outputStream{c.app}
	}
	foreign := &foreignLines{to: progress, from: "plug-in"}
	defer foreign.end()
	handler := slog.NewTextHandler(escapedLines{progress}, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	opts := append(told, loader.WithConfig(configuration), loader.WithLogger(slog.New(handler)))
	for name, s := range imports {
		opts = append(opts, loader.WithHostFunc(name, s.hostFunc(name, progress)))
	}
	switch {
	case c.sidecar.given:
		var e engine.Engine
		if path, e, err = c.sidecar.engine(c.app, path, sidecar.WithOutput(foreign)); err != nil {
			return failure(err)
		}
		opts = append(opts, loader.WithEngine(e))
	case engines.IsBoxed(lib):
		box, err := inBox(lib, policy)
		if err != nil {
			return failure(err)
		}
		opts = append(opts, box)
	case engines.IsPython(lib):
		worker, err := engines.Python(adapter, path, policy, isolate.WithOutput(foreign), isolate.WithStartTimeout(never))
		if err != nil {
			return c.fail(facts, inTime(err, c.timeout))
		}
		opts = append(opts, worker)
	case c.isolated:
		// Opening is bounded by ctx, which says whose limit it is, and by nothing else.
		opts = append(opts, inWorker(policy, isolate.WithOutput(foreign), isolate.WithStartTimeout(never)))
	}

	var p *loader.Plugin
	var result []byte
	at := fate{path: path, plugin: lib.Manifest.Name, fn: name}
	err = c.bounded(ctx, &at, func(reached func(stage)) (err error) {
		reached(opening)
		if p, err = loader.OpenContext(ctx, path, opts...); err != nil {
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
		reached(calling)
		begun, ctx := time.Now(), ctx
		if shows {
			ctx = loader.WithProgress(ctx, func(done, total uint64) {
				if guarding {
					_ = channel.send(frameProgress, amount{done, total}.bytes())
				} else {
					progress.tell(amount{done, total})
				}
			})
		}
		result, err = fn.Stream(ctx, input, streams.in, streams.out)
		facts.DurationNS = time.Since(begun).Nanoseconds()
		reached(returned)
		return err
	})
	if errors.As(err, new(*fate)) {
		return c.fail(facts, err) // the plug-in is in use: it cannot be closed
	}
	var written error
	if err == nil && out != nil {
		written = out.Close()
	}
	hand := func() {
		switch {
		case err != nil || written != nil || c.json:
		case streams.out == outputStream{c.app}:
			written = c.endStream(result)
		default:
			written = c.write(result)
		}
	}
	if !c.isolated { // also when ferrule_stop does not return; it is handed up, and comes after what was printed
		hand()
	}
	var closing error
	if p != nil {
		closing = c.bounded(ctx, &at, func(reached func(stage)) error {
			reached(stopping)
			err := p.Close()
			reached(stopped)
			return err
		})
	}
	foreign.end()
	progress.stop()
	if c.isolated { // after what the plug-in has printed
		hand()
	}
	err = streamRemedy(err, symbol)
	if file, _ := in.file(); errors.Is(err, errEmpty) {
		err = usage(fmt.Sprintf("--in @%s, and nothing in the standard input, which is the input stream of %s", file, name), "an input stream",
			"Where the file is the input stream, write <"+shellWord(file)+" in place of --in; where it is the parameters, and the input stream is "+
				"to be empty, redirect an empty file to the standard input")
	}
	switch {
	case err != nil:
		if closing != nil {
			fmt.Fprintf(c.err, "ferrule: %s\n", escape.Line(inTime(closing, c.timeout).Error()))
		}
		return c.fail(facts, inTime(err, c.timeout))
	case written != nil:
		return written
	case !c.json:
		return failure(inTime(closing, c.timeout))
	}
	text := string(result)
	facts.Encoding = "text"
	if !utf8.Valid(result) {
		facts.Encoding, text = "base64", base64.StdEncoding.EncodeToString(result)
	}
	facts.Result, facts.Status = &text, new(int32)
	if closing != nil {
		return c.fail(facts, inTime(closing, c.timeout))
	}
	return c.print(facts, nil)
}

// write writes the result.
func (c *caller) write(result []byte) error {
	if n := len(result); n > 0 && result[n-1] != '\n' && c.terminal() {
		result = append(result, '\n') // the prompt goes on a line of its own
	}
	if err := c.hand(result); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// endStream ends an output stream on the standard output, and writes the result behind it, to the standard error.
func (c *caller) endStream(result []byte) error {
	if c.unended.Load() && c.terminal() {
		if _, err := (outputStream{c.app}).Write([]byte("\n")); err != nil {
			return fmt.Errorf("writing the output stream: %w", err)
		}
	}
	if len(result) > 0 {
		c.endLine()
		_, err := fmt.Fprintf(c.err, "result: %s\n", escape.Line(string(result)))
		return err
	}
	return nil
}

// told reads --info and --data.
func (c *caller) told() (opts []loader.Option, err error) {
	keys := map[string]bool{}
	for _, text := range c.info {
		key, value, ok := strings.Cut(text, "=")
		switch {
		case !ok:
			return nil, usage("--info "+text, "KEY=VALUE, such as shop.tenant=7", "")
		case strings.HasPrefix(key, "offers."):
			return nil, usage("--info "+text, "a key that does not begin with offers., which the contract has for what the host offers", "")
		case key == "data":
			return nil, usage("--info "+text, "the plug-in's folder as --data FOLDER", "")
		case !strings.Contains(key, ".") && key != loader.TraceParent:
			return nil, usage("--info "+text+", whose key has no dot", "a key with a dot, such as shop.tenant, or "+loader.TraceParent, "")
		case keys[key]:
			return nil, usage("--info "+text+", and another for "+key+" before it", "one --info for each key", "")
		case len(key) > 256:
			return nil, usage(fmt.Sprintf("--info with a key of %s", plural(len(key), "byte")), "256 at most", "")
		case !utf8.ValidString(text):
			return nil, usage(fmt.Sprintf("--info %q", text), "UTF-8", "")
		}
		keys[key] = true
		opts = append(opts, loader.WithPluginInfo(key, value))
	}
	if c.data != "" {
		folder, err := abspath.Of(c.data)
		if err != nil {
			return nil, unreadable("--data", err)
		}
		found := "" // what there is in place of a folder
		switch info, err := os.Stat(folder); {
		case errors.Is(err, fs.ErrNotExist):
			found = c.data + ", where there is nothing"
		case err != nil:
			return nil, unreadable("--data", err)
		case !info.IsDir():
			found = c.data + ", which is no folder"
		case !utf8.ValidString(folder):
			return nil, usage(fmt.Sprintf("--data %q", folder), "UTF-8, as what a plug-in hears must be", "")
		}
		if found != "" {
			return nil, usage("--data "+found, "a folder that is there", "Make it (mkdir), or name another")
		}
		opts = append(opts, loader.WithDataFolder(folder))
	}
	return opts, nil
}

// checkOut refuses --out for a function without an output stream, and --json for one whose output stream goes where the object does.
func (c *caller) checkOut(symbol abi.Symbol) error {
	switch has := symbol.Stream&abi.StreamOut != 0; {
	case c.outFile != nil && !has:
		return usage("--out for "+symbol.Name+", which gives no output stream", "one that gives it (stream=out or both in its meta text)",
			"Leave out --out: the result goes to the standard output")
	case c.outFile != nil && *c.outFile == "":
		return usage("--out without a name", "--out FILE", "")
	case c.json && has && c.outFile == nil:
		return usage("--json without --out for "+symbol.Name+", which gives an output stream", "both, as the standard output is for one of the two",
			"Add --out FILE")
	}
	return nil
}

// streamRemedy says what to do where a function says nothing but that it is unsupported: that is what a stream is which its meta text
// does not have.
func streamRemedy(err error, symbol abi.Symbol) error {
	call := new(loader.CallError)
	if !errors.As(err, &call) || call.Func != symbol.Name || call.Status != loader.ErrUnsupported || call.Message != "" ||
		symbol.Stream == abi.StreamBoth {
		return err
	}
	has := "no stream="
	if symbol.Stream != 0 {
		has = "stream=" + symbol.Stream.String() + " only"
	}
	return &remedied{err, fmt.Sprintf("Where it reads or writes a stream, its meta text has to say so (rule R24): it has %s", has)}
}

// fail is the end of a call with an error, which --json prints, too. A guarded child has printed it already where err
// has a code only.
func (c *caller) fail(facts *called, err error) error {
	err = failure(err)
	var e *exit
	if !c.json || !errors.As(err, &e) || e.err == nil || e.reported {
		return err
	}
	if call := new(loader.CallError); errors.As(err, &call) && call.Func == facts.Function {
		status := int32(call.Status)
		facts.Status, facts.Message = &status, call.Message
	}
	if e.code != exitPass {
		facts.Error = detailsOf(err)
	}
	if printed := c.print(facts, nil); printed != nil {
		return printed
	}
	return &exit{code: e.code, err: e.err, reported: true}
}

// bounded does what calls into the plug-in, which says in reached how far it has come. In this process nobody else ends a
// function that does not return in time: then the error is a copy of at with what has become of it.
func (c *caller) bounded(ctx context.Context, at *fate, do func(reached func(stage)) error) error {
	var now atomic.Value
	now.Store(at.stage)
	done := make(chan error, 1)
	go func() {
		done <- do(func(s stage) {
			now.Store(s)
			reached(s)
		})
	}()
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
	case <-time.After(c.patience()):
	}
	late := *at
	late.kind, late.cause, late.stage = ofContext(ctx.Err()), ctx.Err(), now.Load().(stage)
	late.text = fmt.Sprintf("it did not return %s, nor in the %v after", after(ctx.Err(), c.timeout), c.patience())
	if !c.boxed {
		late.text += ". Nothing can stop it in this process; with --isolated its worker is killed"
	}
	return &late
}

// patience is how long a function may go on after its context has ended, before this process ends.
func (c *caller) patience() time.Duration {
	if c.boxed {
		return 4 * grace // its engine says what it has ended
	}
	return grace
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

// read reads a source, and keeps what it has for a guarded child, which is handed that.
func (a *app) read(s source, flag string) ([]byte, error) {
	if h := a.handed; h != nil {
		if len(h.Given) == 0 {
			return nil, errors.New("the guarded process reads another source than this command")
		}
		data := h.Given[0]
		h.Given = h.Given[1:]
		return data, nil
	}
	data, err := s.read(a, flag)
	if err == nil {
		a.given = append(a.given, data)
	}
	return data, err
}

// file is the name of the file that the source is, if it is one.
func (s source) file() (name string, ok bool) {
	name, ok = strings.CutPrefix(s.text, "@")
	return name, ok && name != "-" && !strings.HasPrefix(name, "@")
}

func (s source) read(a *app, flag string) ([]byte, error) {
	name, isFile := strings.CutPrefix(s.text, "@")
	switch {
	case s.stdin || isFile && name == "-":
		if a.used != "" { // it is empty by now
			found, remedy := flag+" from the standard input", "Give one of them as a text, or as @FILE"
			if s.stdin {
				found, remedy = "no "+flag+", which is the standard input then", "Give "+flag+", which may be empty: "+flag+" ''"
			}
			return nil, usage(found+", and "+a.used+" from there before it", "one that is read from there", remedy)
		}
		a.used = flag
		a.sayTerminal()
		data, err := io.ReadAll(a.in)
		if err != nil {
			return nil, unreadable("the standard input", err)
		}
		return data, nil
	case !isFile:
		return []byte(s.text), nil
	case strings.HasPrefix(name, "@"):
		return []byte(name), nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, &exit{code: exitUsage, err: &unread{flag, s.text, err}}
	}
	return data, nil
}

// sayTerminal says that the input comes from the terminal, where it does.
func (a *app) sayTerminal() {
	if terminal(a.in) {
		fmt.Fprintln(a.err, "ferrule: reading the input from the terminal, up to Ctrl-D (Windows: Ctrl-Z, Enter)")
	}
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
	notify(signals)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, func() { stop(); cancel() }
}

// nearest says which candidate was meant, or which there are.
func nearest(name string, candidates []string) string {
	last := len(candidates) - 1
	switch best := abi.Nearest(name, candidates); {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case last < 0:
		return "it has none"
	case last == 0:
		return "it has " + candidates[0]
	case last < 12:
		return "it has " + strings.Join(candidates[:last], ", ") + " and " + candidates[last]
	default:
		return "it has " + plural(len(candidates), "other") + ": see ferrule inspect"
	}
}

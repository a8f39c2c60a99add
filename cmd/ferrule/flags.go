package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// wrong says what is wrong with the command line: what was found, what was expected, what to do.
type wrong struct{ found, expected, remedy string }

func (w *wrong) Error() string {
	text := "found " + w.found + ", expected " + w.expected
	if w.remedy == "" {
		return text
	}
	if text += ". " + w.remedy; strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// usage is an error of the command line. found and expected are parts of one sentence, remedy is one of its own without
// its full stop.
func usage(found, expected, remedy string) error {
	return &exit{code: exitUsage, err: &wrong{found, expected, remedy}}
}

// unreadable is an error of what the command line names.
func unreadable(flag string, err error) error {
	return &exit{code: exitUsage, err: &unread{flag: flag, err: err}}
}

// unread is an error of what a flag names.
type unread struct {
	flag  string
	value string // the flag's, where it is no path
	err   error
}

// wrong has what the system says of a flag's file in this command's form. Of any other error, which has its own, it is nil.
func (u *unread) wrong() *wrong {
	if !strings.HasPrefix(u.flag, "--") {
		return nil
	}
	path, cause := "", error(nil)
	if e := (*fs.PathError)(nil); errors.As(u.err, &e) {
		path, cause = e.Path, e.Err
	} else if e := (*net.OpError)(nil); errors.As(u.err, &e) && e.Addr != nil {
		path, cause = e.Addr.String(), e.Err
		if call := (*os.SyscallError)(nil); errors.As(cause, &call) {
			cause = call.Err
		}
	} else {
		return nil
	}
	named := cmp.Or(u.value, path)
	if named == "" {
		named = "with nothing (is a variable not set?)"
	}
	w := &wrong{found: u.flag + " " + named + ": " + cause.Error(), expected: "what it names to be there, and this user's to use"}
	if open := (*loader.OpenError)(nil); errors.As(engine.OpenError(path, 0, u.err, "", ""), &open) {
		w.remedy = open.Remedy
	}
	return w
}

func (u *unread) Error() string {
	if w := u.wrong(); w != nil {
		return w.Error()
	}
	return u.flag + ": " + u.err.Error()
}

func (u *unread) Unwrap() error { return u.err }

// flagError has the parser's errors in the words of this command.
func flagError(cmd *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	var unknown *pflag.NotExistError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.Is(err, errTwice) && errors.As(err, &value):
		name := "--" + value.GetFlag().Name
		return usage(name+" "+value.GetValue()+", and another "+name+" before it", name+" once", "")
	case errors.As(err, &value):
		f := value.GetFlag()
		expected := map[string]string{"duration": "a time such as 500ms or 2s", "int": "a whole number",
			"uint64": "a whole number that is not negative", "bool": "true or false, or no value",
			"stringSlice": "values with commas between them, in double quotes where one has a comma or such a quote"}[f.Value.Type()]
		if expected != "" {
			return usage("--"+f.Name+" "+value.GetValue(), expected, "")
		}
	case errors.As(err, &missing):
		word, _ := pflag.UnquoteUsage(missing.GetFlag())
		return usage("--"+missing.GetFlag().Name+" without a value", "--"+missing.GetFlag().Name+" "+word, "")
	case errors.As(err, &syntax):
		return usage(syntax.GetSpecifiedFlag(), "an option, such as --json", "Put -- before arguments that begin with -")
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	}
	return &exit{code: exitUsage, err: err} // the parser knows no other
}

// errTwice is the error of a flag that has a value already.
var errTwice = errors.New("given twice")

// onceValue is the value of a flag that may be given once.
type onceValue struct {
	pflag.Value
	given bool
}

func (v *onceValue) Set(text string) error {
	if v.given {
		return errTwice
	}
	v.given = true
	return v.Value.Set(text)
}

// once has every flag that takes one value refuse a second one. The parser would take the last. Flags that collect values
// take more, and those that only say yes say the same twice.
func once(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if _, collects := f.Value.(pflag.SliceValue); collects || f.NoOptDefVal != "" {
			return
		}
		if f.DefValue == "0s" {
			f.DefValue = "0" // which help leaves out, whatever the type
		}
		f.Value = &onceValue{Value: f.Value}
	})
}

// givenBeside is the first flag on the command line beside these, or "".
func givenBeside(flags *pflag.FlagSet, names ...string) (other string) {
	flags.Visit(func(f *pflag.Flag) {
		if other == "" && !slices.Contains(names, f.Name) {
			other = f.Name
		}
	})
	return other
}

// unknownFlag is the error for a flag that a verb does not have: with what was meant, or who has it.
func unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	name, verb := err.GetSpecifiedName(), cmd.CommandPath()
	flags := func(c *cobra.Command) (names []string) {
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		return names
	}
	if letters := err.GetSpecifiedShortnames(); letters != "" {
		remedy := ""
		if slices.Contains(flags(cmd), letters) {
			remedy = "Write --" + letters
		}
		return usage("-"+letters, "an option of "+verb, remedy)
	}
	remedy := didYouMean("--"+name, dashed(flags(cmd)))
	var others []string
	for _, c := range cmd.Root().Commands() {
		if slices.Contains(flags(c), name) && !c.Hidden {
			others = append(others, c.CommandPath())
		}
	}
	if len(others) > 0 {
		remedy = "It is one of " + strings.Join(others, ", ")
	}
	return usage("--"+name, "an option of "+verb, remedy)
}

func dashed(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = "--" + name
	}
	return all
}

// unknownVerb is the error for a verb that there is not.
func unknownVerb(root *cobra.Command, args []string) error {
	name := args[max(0, slices.IndexFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "-") }))]
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	remedy := didYouMean(name, names)
	if name == "version" { // which many have for it
		remedy = "Did you mean --version?"
	}
	return usage(name, "one of the commands "+strings.Join(names, ", "), remedy)
}

// completionNeedsShell has the verb completion, which is the parser's own, refuse a command line without a shell: it would
// print its help as if that were a script.
func completionNeedsShell(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		var shells []string
		for _, c := range cmd.Commands() {
			shells = append(shells, c.Name())
		}
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(_ *cobra.Command, args []string) error {
			found := "no shell"
			if len(args) > 0 {
				found = strings.Join(args, " ")
			}
			return usage(found, "one of the shells "+strings.Join(shells, ", "), "")
		}
	}
}

// didYouMean is the remedy for a name that is near to one of the candidates; "" for another.
func didYouMean(name string, candidates []string) string {
	if near := nearest(name, candidates); strings.HasPrefix(near, "did you mean") {
		return capital(near)
	}
	return ""
}

// helpVerb is the verb help.
func helpVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Long:  "Show what a command does, its options and examples, as --help does.",
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 && of != cmd.Root() {
				return usage("the arguments "+strings.Join(args, " "), "one command", "")
			}
			if err != nil || len(rest) > 0 {
				return unknownVerb(cmd.Root(), args)
			}
			of.InitDefaultHelpFlag() // to be shown
			of.InitDefaultVersionFlag()
			return failure(of.Help())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if len(args) == 0 {
				for _, c := range cmd.Root().Commands() {
					if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), prefix) {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// arguments checks how many arguments there are. names are those that there must be, in order; more may follow when the
// last one ends with dots. One in brackets may be left out. None may be empty.
func arguments(names ...string) cobra.PositionalArgs {
	last := ""
	if len(names) > 0 {
		last = names[len(names)-1]
	}
	more := strings.HasSuffix(strings.TrimSuffix(last, "]"), "...")
	return func(cmd *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < len(names) && !strings.HasPrefix(names[n], "["):
			return usage("no "+strings.Trim(names[n], "[].")+" on the command line", cmd.CommandPath()+" "+strings.Join(names, " "), "")
		case n > len(names) && !more && len(names) == 0:
			return usage("the argument "+args[0], "none", "")
		case n > len(names) && !more:
			return usage(plural(n, "argument")+": "+strings.Join(args, " "), strings.Join(names, " "), "")
		}
		if i := slices.Index(args, ""); i >= 0 { // of a variable that is not set, which would name the current folder
			name := strings.Trim(names[min(i, len(names)-1)], "[].")
			return usage("an empty "+name+" (is a variable not set?)", cmd.CommandPath()+" "+strings.Join(names, " "), "")
		}
		return nil
	}
}

// hostFlags are the flags that say which host a plug-in is to have: they mean the same for call, check and bench.
type hostFlags struct {
	config    string
	commands  []string // --import
	answers   []string // --answer
	sandboxed bool
	read      []string
	write     []string
	connect   []string
	memory    string
	procs     int
}

// add adds the flags to a command.
func (h *hostFlags) add(f *pflag.FlagSet) {
	f.StringVar(&h.config, "config", "", "the configuration for a plug-in with a ferrule_start: `TEXT`, @FILE, @@… for a text that starts with @")
	f.StringArrayVar(&h.commands, "import", nil, "serve an import or a want by a command: `NAME=COMMAND`; once for each")
	f.StringArrayVar(&h.answers, "answer", nil, "answer an import or a want with these bytes: `NAME=TEXT` or NAME=@FILE; once for each")
	f.BoolVar(&h.sandboxed, "sandbox", false, "take files, network and processes from the plug-in; what --allow-… names it keeps")
	f.StringArrayVar(&h.read, "allow-read", nil, "with --sandbox: let the plug-in read a `FILE` or a folder with what is in it")
	f.StringArrayVar(&h.write, "allow-write", nil, "with --sandbox: let it read and change a `FILE` or a folder with what is in it")
	f.StringSliceVar(&h.connect, "allow-connect", nil, "with --sandbox: let it connect to a TCP `PORT`, on any host")
	f.StringVar(&h.memory, "memory", "", "with --sandbox: how much memory the plug-in may have, a `SIZE` such as 256MiB")
	f.IntVar(&h.procs, "procs", 0, "with --sandbox: `HOW MANY` processes the plug-in may have beside its own")
}

// policy is the sandbox that the flags ask for, or nil.
func (h *hostFlags) policy() (*sandbox.Policy, error) {
	for _, f := range []struct {
		name  string
		given bool
	}{{"--allow-read", h.read != nil}, {"--allow-write", h.write != nil}, {"--allow-connect", h.connect != nil},
		{"--memory", h.memory != ""}, {"--procs", h.procs != 0}} {
		if f.given && !h.sandboxed {
			return nil, usage(f.name+" without --sandbox", "both, as it is about the sandbox", "Add --sandbox")
		}
	}
	if !h.sandboxed {
		return nil, nil
	}
	p := &sandbox.Policy{Processes: h.procs}
	for _, list := range []struct {
		name string
		from []string
		to   *[]string
	}{{"--allow-read", h.read, &p.Read}, {"--allow-write", h.write, &p.Write}} {
		for _, path := range list.from {
			if path == "" {
				return nil, usage(list.name+" without a path", "a file or a folder that is there", "")
			}
			whole, err := abspath.Of(path)
			if err != nil {
				return nil, unreadable(list.name, err)
			}
			*list.to = append(*list.to, whole)
		}
	}
	for _, text := range h.connect {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return nil, usage("--allow-connect "+text, "a TCP port, 1 to 65535", "")
		}
		p.Connect = append(p.Connect, uint16(port))
	}
	if h.memory != "" {
		n, err := parseSize(h.memory)
		if err != nil {
			return nil, usage("--memory "+h.memory, "a size such as 256MiB or 1GiB", "")
		}
		p.Memory = n
	}
	if h.procs < 0 || h.procs > math.MaxInt32 {
		return nil, usage(fmt.Sprintf("--procs %d", h.procs), "0 or more", "")
	}
	return p, nil
}

// parseSize reads a number of bytes with a unit.
func parseSize(text string) (int64, error) {
	shifts := map[string]uint{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30}
	number := strings.TrimRight(text, "KMGiB")
	shift, ok := shifts[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || n <= 0 || n > 1<<62>>shift {
		return 0, errors.New("not a size")
	}
	return n << shift, nil
}

// served is how an import is served: by a command, or by an answer.
type served struct {
	Command string
	Answer  []byte
}

// imports reads --import and --answer. The answers are read in their order.
func (h *hostFlags) imports(a *app) (map[string]served, error) {
	all := make(map[string]served)
	split := func(flag, text, example string) (name, value string, err error) {
		name, value, ok := strings.Cut(text, "=")
		switch _, known := all[name]; {
		case !ok || flag == "--import" && strings.TrimSpace(value) == "":
			err = usage(flag+" "+text, example, "")
		case !abi.ValidName(name):
			err = usage(fmt.Sprintf("%s %s, where %q is the import's name", flag, text, name), "a C identifier", "")
		case known:
			err = usage(flag+" "+text+", and another for "+name+" before it", "one --import or --answer for each import", "")
		}
		return name, value, err
	}
	for _, text := range h.commands {
		name, line, err := split("--import", text, "NAME=COMMAND, such as --import 'upper=tr a-z A-Z'")
		if err != nil {
			return nil, err
		}
		all[name] = served{Command: line}
	}
	for _, text := range h.answers {
		name, value, err := split("--answer", text, "NAME=TEXT or NAME=@FILE")
		if err != nil {
			return nil, err
		}
		answer, err := a.read(source{text: value}, "--answer "+name)
		if err != nil {
			return nil, err
		}
		all[name] = served{Answer: answer}
	}
	return all, nil
}

// hostFunc is an import as a host function. What a command writes to its standard error goes to messages.
func (s served) hostFunc(name string, messages io.Writer) loader.HostFunc {
	if s.Command != "" {
		return shellCommand(s.Command).serve(&foreignLines{to: messages, from: "import " + name})
	}
	return func(context.Context, []byte) ([]byte, error) { return s.Answer, nil }
}

// checkImports refuses imports that the plug-in has and the command line does not serve, and the other way round. Its wants need
// not be served.
func checkImports(lib *inspect.Library, all map[string]served) error {
	imports, known := namesOf(lib.Imports), namesOf(slices.Concat(lib.Imports, lib.Wants))
	var missing, unknown []string
	for _, name := range imports {
		if _, ok := all[name]; !ok {
			missing = append(missing, name)
		}
	}
	for name := range all {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	switch {
	case len(missing) > 0:
		remedy := fmt.Sprintf("Serve each by a command, such as --import '%s=cat', or with fixed bytes, such as --answer %s=7",
			missing[0], missing[0])
		if len(unknown) > 0 {
			remedy += "; " + unknown[0] + " is none of its imports, " + nearest(unknown[0], known)
		}
		return usage(fmt.Sprintf("plug-in %s, which needs host functions: %s", lib.Manifest.Name, strings.Join(missing, ", ")),
			"each of them to be served", remedy)
	case len(unknown) > 0:
		return usage(fmt.Sprintf("an answer for %s, which plug-in %s does not import", unknown[0], lib.Manifest.Name),
			"the name of an import", capital(nearest(unknown[0], known)))
	}
	return nil
}

// checkConfig refuses a configuration for a plug-in that takes none: without a ferrule_start nothing would read it.
func (h *hostFlags) checkConfig(lib *inspect.Library) error {
	if h.config == "" || lib.HasStart || lib.Extism {
		return nil
	}
	return usage(fmt.Sprintf("--config for plug-in %s, which takes no configuration: it has no ferrule_start", lib.Manifest.Name),
		"one that takes it", "Leave out --config")
}

// findSymbol finds a function or a hook, and refuses one that is not there.
func findSymbol(lib *inspect.Library, name string, hook bool) (abi.Symbol, error) {
	there, others, kind := lib.Funcs, lib.Hooks, "function"
	remedy := "It is a hook: add --hook"
	if hook {
		there, others, kind = others, there, "hook"
		remedy = "It is a function: leave out --hook"
	}
	for _, s := range there {
		if s.Name == name {
			return s, nil
		}
	}
	if !slices.Contains(namesOf(others), name) {
		remedy = capital(nearest(name, namesOf(there)))
	}
	return abi.Symbol{}, usage(fmt.Sprintf("no %s %q in plug-in %s", kind, name, lib.Manifest.Name), "one that it has", remedy)
}

func namesOf(symbols []abi.Symbol) (names []string) {
	for _, s := range symbols {
		names = append(names, s.Name)
	}
	return names
}

// capital is a text as a sentence begins.
func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// plural is a number of things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

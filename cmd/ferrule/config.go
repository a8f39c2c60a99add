package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// configured is what the verbs on a config.yaml have in common.
type configured struct {
	*app
	path  string // --config
	store string // --store
}

// add adds the flag to a command. Those that do not belong to the verb's own are the same for all.
func (c *configured) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&c.path, "config", "config.yaml", "the configuration `FILE` of the application")
	cmd.Flags().StringVar(&c.store, "store", "", "the `FOLDER` of the store, in place of the user's own")
	return cmd
}

// configCodes are the exit codes of the verbs on a config.yaml.
const configCodes = `
Exit codes:
  0    done
  1    it could not be done
  2    the command line is wrong, or names something that is not there
  3    the file is not a valid config.yaml: ferrule doctor says all that is wrong with it
  130  interrupted
`

// survey finds the plug-ins, without running any of them: those in the folders and those that are installed. No registry is asked.
func (c *configured) survey() (*plugins.Overview, error) {
	ctx, stop := interruptible(0)
	defer stop()
	return c.surveyUntil(ctx)
}

// surveyUntil is survey, for as long as ctx lasts.
func (c *configured) surveyUntil(ctx context.Context) (*plugins.Overview, error) {
	if c.path == "" {
		return nil, usage("--config without a file", "--config FILE", "")
	}
	o, err := plugins.Survey(ctx, plugins.Config(c.path), plugins.Download(), plugins.StoreFolder(c.store), enginesOfSystem())
	return o, c.wrong(err)
}

// wrong is an error of the configuration file in the words of this command.
func (c *configured) wrong(err error) error {
	var faulty *config.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &faulty):
		return &exit{code: exitOpen, err: &wrongConfig{faulty}}
	case errors.Is(err, fs.ErrNotExist):
		return usage("no file "+c.path, "the application's config.yaml", "Name it by --config, or make one: an empty file will do")
	}
	return failure(err)
}

// wrongConfig is a configuration file with faults, of which it says the first.
type wrongConfig struct{ err *config.Error }

func (w *wrongConfig) Unwrap() error { return w.err }

func (w *wrongConfig) Error() string {
	text := w.err.Path + ":" + w.err.Faults[0].String()
	if n := len(w.err.Faults) - 1; n > 0 {
		text += " There is more: " + plural(n, "other fault") + " (ferrule doctor)"
	}
	return text
}

// find is what is known of a plug-in; nil of one that is not there.
func find(o *plugins.Overview, name string) *plugins.Plugin {
	i := sort.Search(len(o.Plugins), func(i int) bool { return o.Plugins[i].Name >= name })
	if i == len(o.Plugins) || o.Plugins[i].Name != name {
		return nil
	}
	return &o.Plugins[i]
}

// known is find of a plug-in that the command line names, which has to be there.
func known(o *plugins.Overview, name string) (*plugins.Plugin, error) {
	if p := find(o, name); p != nil {
		return p, nil
	}
	remedy := programNamed(o, name)
	if remedy == "" {
		remedy = cmp.Or(didYouMean(name, pluginNames(o, func(plugins.Plugin) bool { return true })), "See ferrule list")
	}
	return nil, usage("no plug-in "+name, "one that is in "+o.Config.Path+" or in its folders", remedy)
}

// programNamed says that there is a program of a name in a folder, which no entry names; "" where there is none.
func programNamed(o *plugins.Overview, name string) string {
	for _, path := range slices.Sorted(maps.Keys(o.Programs)) {
		if base := filepath.Base(path); base == name || strings.TrimSuffix(base, filepath.Ext(base)) == name {
			return "There is a program " + path + ", which is not run because it lies there. " + programRemedy(config.ProgramEntry(name, path))
		}
	}
	return ""
}

// programRemedy says how a program in a folder becomes a plug-in.
func programRemedy(entry string) string {
	return "Where it is a plug-in, write its entry so: " + entry
}

func pluginNames(o *plugins.Overview, which func(plugins.Plugin) bool) (names []string) {
	for _, p := range o.Plugins {
		if which(p) {
			names = append(names, p.Name)
		}
	}
	return names
}

// complete completes the names of plug-ins: of one, or of several, each once.
func (c *configured) complete(several bool, which func(plugins.Plugin) bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, prefix string) (words []string, d cobra.ShellCompDirective) {
		o, err := c.survey()
		if err != nil || !several && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, p := range o.Plugins {
			if which(p) && !slices.Contains(args, p.Name) {
				words = append(words, completion(p.Name, prefix, p.Description)...)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completion is a word with what it stands for, where it begins with prefix.
func completion(word, prefix, doc string) []string {
	if !strings.HasPrefix(word, prefix) {
		return nil
	}
	doc, _, _ = strings.Cut(strings.TrimSpace(doc), "\n")
	return []string{strings.TrimSuffix(word+"\t"+escape.Line(doc), "\t")}
}

// readPlugin reads the file of a plug-in; nil where it has none that can be read.
func readPlugin(p *plugins.Plugin) *inspect.Library {
	if p.Source == "" {
		return nil
	}
	lib, err := loader.Inspect(p.Source)
	if err != nil {
		return nil
	}
	return lib
}

// groupOf are the files of a plug-in and, behind it, of the others that share its worker, who have to have what it may and the other way round; nil where
// its own cannot be read.
func groupOf(o *plugins.Overview, name string) (libs []*inspect.Library) {
	p := find(o, name)
	if p == nil {
		return nil
	}
	own := readPlugin(p)
	if own == nil {
		return nil
	}
	libs = []*inspect.Library{own}
	for i := range o.Plugins {
		other := &o.Plugins[i]
		if p.Group == "" || other.Group != p.Group || other.Name == name {
			continue
		}
		if lib := readPlugin(other); lib != nil {
			libs = append(libs, lib)
		}
	}
	return libs
}

// asksOfAll are the names of all that plug-ins import or want.
func asksOfAll(libs []*inspect.Library) (names []string) {
	for _, lib := range libs {
		for _, name := range namesOf(slices.Concat(lib.Imports, lib.Wants)) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// fault is why a plug-in failed. Its JSON is documented in the help of the verbs that have it, and grows only.
type fault struct {
	Step     string `json:"step,omitempty"`
	Kind     string `json:"kind,omitempty"`
	Found    string `json:"found,omitempty"`
	Expected string `json:"expected,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
	Text     string `json:"text"`
}

// faultHelp documents it.
const faultHelp = "step, kind, found, expected, remedy, text"

// faultOf takes a plug-in's error apart; nil of none. What its cause says stands for what it does not say itself.
func faultOf(err error) *fault {
	var own *plugins.Error
	var open *loader.OpenError
	var install *registry.Error
	if !errors.As(err, &own) {
		return nil
	}
	e := *own
	e.Err = inWords(plugins.InConfig(e.Err))
	f := &fault{string(e.Step), "", e.Found, e.Expected, e.Remedy, e.Error()}
	if e.Kind != nil {
		f.Kind = e.Kind.Error()
	}
	switch {
	case f.Found != "" && f.Expected == "" && f.Remedy == "" && errors.As(e.Err, &open) && open.Found != "":
		f.Found, f.Expected, f.Remedy = strings.TrimSuffix(f.Found+": "+open.Path, ": ")+": "+open.Found, open.Expected, open.Remedy
	case f.Found != "" || e.Err == nil:
	case errors.As(e.Err, &install):
		f.Found, f.Expected, f.Remedy = cmp.Or(install.Found, e.Err.Error()), install.Expected, cmp.Or(f.Remedy, install.Remedy)
		if install.Kind != nil {
			f.Kind = install.Kind.Error()
		}
	case errors.As(e.Err, &open) && open.Found != "":
		f.Found, f.Expected, f.Remedy = open.Found, open.Expected, open.Remedy
		if open.Kind != nil {
			f.Kind = open.Kind.Error()
		}
	default:
		f.Found = e.Err.Error()
	}
	return f
}

// write writes the fault for people, below what is before it.
func (f *fault) write(w io.Writer, indent string) {
	for _, part := range []struct{ title, text string }{{"found", f.Found}, {"expected", f.Expected}, {"remedy", f.Remedy}} {
		if part.text == "" {
			continue
		}
		fmt.Fprintf(w, "%s%-10s", indent, part.title)
		for i, line := range strings.Split(strings.TrimRight(escape.Lines(part.text), "\n"), "\n") {
			if i > 0 {
				fmt.Fprint(w, indent, strings.Repeat(" ", 10))
			}
			fmt.Fprintln(w, line)
		}
	}
}

// title is the fault's first line, behind who has it.
func (f *fault) title() string {
	return strings.TrimPrefix(f.Step+": "+f.Kind, ": ")
}

// runs says where a plug-in runs.
func runs(p *plugins.Plugin) string {
	switch {
	case p.Group != "":
		return "group"
	case p.Isolated:
		return "isolated"
	case p.Sidecar:
		return "sidecar"
	}
	return "in-process"
}

// enforced reports whether the system holds a plug-in to what it was permitted. lib is its file; nil where that cannot be read.
func enforced(p *plugins.Plugin, entry *config.Plugin, lib *inspect.Library) bool {
	switch {
	case engines.IsBoxed(lib):
		return true
	case entry == nil:
		return false
	case entry.Isolate != nil:
		return entry.Isolate.Sandbox != config.SandboxNone
	}
	return (p.Sidecar || engines.IsPython(lib)) && entry.Permit.Said
}

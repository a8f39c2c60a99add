package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// exitUnavailable is the exit code of what another try may do: a source that cannot be reached.
const exitUnavailable = 6

// registryCodes are the exit codes of the verbs that ask sources.
const registryCodes = `
Exit codes:
  0    done
  1    it could not be done: there is no such release, or something is wrong with it
  2    the command line is wrong, or names something that is not there
  3    config.yaml or ferrule.lock is not valid
  6    a source cannot be reached, or is too busy: another try may do
  130  interrupted: the next run continues the download
`

// fromSource gives an error of distribution its exit code.
func fromSource(err error) error {
	var known *exit
	var about *registry.Error
	switch {
	case err == nil || errors.As(err, &known) || !errors.As(err, &about):
		return failure(err)
	case errors.Is(err, context.Canceled): // of whatever kind a source that was left says to be
		return failure(err)
	case errors.Is(err, registry.ErrLock):
		return &exit{code: exitOpen, err: err}
	case errors.Is(err, registry.ErrUnavailable):
		return &exit{code: exitUnavailable, err: err}
	}
	return failure(err)
}

// openers are who opens the address of a source.
var openers = []install.Opener{files.Open, oci.Registries, release.Pages}

// addressOf is what people write for a place of releases, as an address: a path of a folder or a .zip, too.
func addressOf(where string) (string, error) {
	if strings.Contains(where, "://") {
		return where, nil
	}
	address, err := files.Address(where)
	return address, fromSource(err)
}

// place opens a place that was named on the command line.
func openPlace(flag, where string) (registry.Source, error) {
	if where == "" {
		return nil, usage("no "+flag, flag+" with a folder, a .zip, oci://HOST/PATH or the address of a release page", "")
	}
	address, err := addressOf(where)
	if err != nil {
		return nil, err
	}
	source, err := install.OpenSource(config.Registry{URL: address, Tag: "latest"}, openers...)
	if errors.Is(err, registry.ErrMalformed) || err != nil && source == nil && !errors.Is(err, registry.ErrUnavailable) {
		return nil, &exit{code: exitUsage, err: fmt.Errorf("%s: %w", flag, err)}
	}
	return source, fromSource(err)
}

// openPusher opens a place to publish in.
func openPusher(flag, where string) (registry.Pusher, error) {
	if where == "" {
		return nil, usage("no "+flag, flag+" with a folder, a .zip or oci://HOST/PATH", "")
	}
	source, err := openPlace(flag, where)
	if err != nil {
		return nil, err
	}
	to, ok := source.(registry.Pusher)
	if !ok {
		return nil, usage(flag+" "+where+", which is only read", flag+" with a folder, a .zip or oci://HOST/PATH",
			"Of a release page the files are made in a folder, and then uploaded as its host wants it")
	}
	return to, nil
}

// distributed is what the verbs have in common that install by a config.yaml.
type distributed struct {
	configured
	app string // --app
}

func (d *distributed) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&d.app, "app", "", "`NAME@VERSION` of the application, for what its plug-ins say of it")
	return d.configured.add(cmd)
}

// installer makes the installer for a config.yaml.
func (d *distributed) installer(c *config.Config, more func(*install.Options)) (*install.Installer, error) {
	name, version, ok := strings.Cut(d.app, "@")
	if d.app != "" && (!ok || name == "" || version == "") {
		return nil, usage("--app "+d.app, "--app NAME@VERSION, such as shop@1.4.0", "")
	}
	folder := d.store
	if folder == "" {
		var err error
		if folder, err = store.Default(); err != nil {
			return nil, failure(err)
		}
	}
	kept, err := store.Open(folder)
	if err != nil {
		return nil, fromSource(err)
	}
	o, err := install.Configured(c, openers...)
	if err != nil {
		return nil, fromSource(err)
	}
	o.App, o.Version, o.Store = name, version, kept
	if more != nil {
		more(&o)
	}
	in, err := install.New(o)
	return in, fromSource(err)
}

// here reports which plug-ins are there without being installed: those in the folders of config.yaml.
func (d *distributed) here() (func(name string) bool, error) {
	o, err := d.survey()
	if err != nil {
		return nil, err
	}
	return func(name string) bool {
		p := find(o, name)
		return p != nil && p.Source != "" && slices.Contains(o.Config.Folders, filepath.Dir(p.Source))
	}, nil
}

// wants returns what config.yaml wants to have installed.
func (d *distributed) wants(c *config.Config) ([]install.Want, error) {
	here, err := d.here()
	if err != nil {
		return nil, err
	}
	return install.Wants(c, here), nil
}

// work is one run of a verb with an installer.
type work struct {
	*install.Installer
	config *config.Config
	ctx    context.Context // ends with Ctrl-C
	shown  *transfers
}

// working reads config.yaml, and has do work with an installer for it.
func (d *distributed) working(do func(*work) error) error {
	c, err := config.Load(d.path)
	if err != nil {
		return d.wrong(err)
	}
	w := &work{config: c, shown: d.startTransfers()}
	defer w.shown.stop()
	var stop context.CancelFunc
	w.ctx, stop = interruptible(0)
	defer stop()
	w.Installer, err = d.installer(c, func(o *install.Options) {
		o.Progress = w.shown.tell
		o.Granted, _ = grantedIn(c, o.Lock)
	})
	if err != nil {
		return err
	}
	return do(w)
}

// locked is an error where the lock has no plug-in.
func (w *work) locked() error {
	l, err := lock.Load(w.Lock)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(l.Plugins) == 0 {
		return usage("no plug-in in "+w.Lock, "one that is installed", "ferrule install")
	}
	return fromSource(err)
}

// warnings says what is no error, and is to be seen.
func (a *app) warnings(texts []string) {
	for _, text := range texts {
		fmt.Fprintf(a.err, "ferrule: warning: %s\n", escape.Line(text))
	}
}

// lockedNames completes the names of what is in the lock.
func (d *distributed) lockedNames(several bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, prefix string) (words []string, _ cobra.ShellCompDirective) {
		l, err := lock.Load(install.LockOf(d.path))
		if err != nil || !several && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, name := range slices.Sorted(maps.Keys(l.Plugins)) {
			if !slices.Contains(args, name) {
				words = append(words, completion(name, prefix, l.Plugins[name].Version)...)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// platforms are those that plug-ins are built for, as templates of ferrule new build them.
var platforms = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

// arePlatforms says which of the values of --platform is none.
func arePlatforms(texts []string) error {
	for _, text := range texts {
		system, arch, ok := strings.Cut(text, "/")
		if !ok || system == "" || arch == "" || strings.Contains(arch, "/") {
			return usage("--platform "+text+", which is no platform", "OS/ARCH, such as linux/arm64", didYouMean(text, platforms))
		}
	}
	return nil
}

// completePlatforms has the values of --platform completed: several, with commas between them, or one.
func completePlatforms(cmd *cobra.Command, several bool, more ...string) {
	err := cmd.RegisterFlagCompletionFunc("platform", func(_ *cobra.Command, _ []string, prefix string) (words []string, _ cobra.ShellCompDirective) {
		before := ""
		if i := strings.LastIndexByte(prefix, ','); several && i >= 0 {
			before = prefix[:i+1]
		}
		for _, p := range slices.Concat(platforms, more) {
			if !slices.Contains(strings.Split(before, ","), p) {
				words = append(words, completion(before+p, prefix, "")...)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	if err != nil { // there is no such flag, or it was done already
		panic(err)
	}
}

// configuredNames completes the names of what config.yaml enables, and files.
func (d *distributed) configuredNames(_ *cobra.Command, args []string, prefix string) (words []string, _ cobra.ShellCompDirective) {
	c, err := config.Load(d.path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for _, w := range install.Wants(c, func(name string) bool { return slices.Contains(args, name) }) {
		words = append(words, completion(w.Name, prefix, w.Range)...)
	}
	return words, cobra.ShellCompDirectiveDefault
}

// refusal is why something of a plug-in was not done. Its JSON is documented in the help of the verbs that have it, and grows only.
type refusal struct {
	Plugin   string `json:"plugin,omitempty"`
	Version  string `json:"version,omitempty"`
	Kind     string `json:"kind,omitempty"`
	Found    string `json:"found,omitempty"`
	Expected string `json:"expected,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
	Text     string `json:"text"`
}

// refusalHelp documents it.
const refusalHelp = "plugin, version, kind, found, expected, remedy, text"

// refusalOf takes an error of distribution apart.
func refusalOf(plugin string, err error) refusal {
	r := refusal{Plugin: plugin, Text: err.Error()}
	var own *registry.Error
	if errors.As(err, &own) {
		r.Plugin, r.Version, r.Found, r.Expected, r.Remedy = cmp.Or(own.Plugin, plugin), own.Version, own.Found, own.Expected, own.Remedy
		if own.Kind != nil {
			r.Kind = own.Kind.Error()
		}
	}
	return r
}

// refused ends a verb some of whose work was not done: each failure is a message, and the exit code is that of the worst.
func (a *app) refused(failed map[string]error) error {
	code := exitOK
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		a.endLine()
		for _, text := range messages(failed[name]) {
			fmt.Fprintf(a.err, "ferrule: %s\n", escape.Line(text))
		}
		switch {
		case code == exitInterrupted:
		case errors.Is(failed[name], context.Canceled):
			code = exitInterrupted
		case errors.Is(failed[name], registry.ErrUnavailable):
			code = cmp.Or(code, exitUnavailable)
		default:
			code = exitFailed // what no other try mends comes before
		}
	}
	if code == exitOK {
		return nil
	}
	return &exit{code: code, reported: true}
}

// messages are the texts of an error: those of each, where several were joined.
func messages(err error) (texts []string) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var whole []string
	for _, one := range joined.Unwrap() {
		texts, whole = append(texts, messages(one)...), append(whole, one.Error())
	}
	if strings.Join(whole, "\n") != err.Error() { // it has words of its own
		return []string{err.Error()}
	}
	return texts
}

// refusals are failures in their order, for --json.
func refusals(failed map[string]error) (all []refusal) {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		all = append(all, refusalOf(name, failed[name]))
	}
	return all
}

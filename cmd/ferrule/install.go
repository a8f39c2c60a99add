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
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

func init() { verbs = append(verbs, installVerb) }

func installVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	var from string
	var grants []string
	var downgrade bool
	cmd := &cobra.Command{
		Use:   "install [NAME[@RANGE]|FILE]...",
		Short: "Install plug-ins of a config.yaml, as its lock says",
		Long: `Install the plug-ins of a config.yaml: without arguments all that it names. What is in ferrule.lock, beside the file, is installed
as it is there, byte for byte; where the store has all of it, nothing is asked of any server. What is not in the lock comes from the
registry of config.yaml, in the newest version that fits, with all that it requires; its signature and its manifest are verified, and it is
added to the lock, with the digests for all platforms. Nothing of a plug-in that was fetched is run.

NAME is added to config.yaml, with RANGE as its version. FILE is a library, a WebAssembly module, a script or a program, named by a path (./tax.py), with its signature beside it where it
has one: it takes the place of the version that the lock has, by the rules of an update, and an older one only with --allow-downgrade.
A script or a program, a sidecar, says what it is when it runs: it is started for that, once its signature is verified where keys
count, and ended when it has said so.
What a plug-in needs to be permitted (permit: read, write, connect, listen, memory) has to be in config.yaml first. Whether the application gives a
function to all plug-ins is not known here: one that config.yaml does not grant is a warning.

--from is a place to take from in place of the registry: a folder, a bundle (.zip) or an address. With a bundle nothing else is
needed, no network either.
` + registryCodes + `
With --json there is one object:
  lock                      the path of ferrule.lock
  plugins                   each with name, version, path (of its file), digest, source, key (the id of who signed it) and new (it was not in the lock before)
  failed                    each with ` + refusalHelp + `
  warnings                  texts`,
		Example: `  ferrule install
  ferrule install tax@^1.2 --grant loyalty_points
  ferrule install --from acme.zip
  ferrule install ./build/tax.so
  ferrule install ./tax.py`,
		Args:              arguments("[NAME[@RANGE]|FILE]..."),
		ValidArgsFunction: d.configuredNames,
		RunE: func(_ *cobra.Command, args []string) error {
			return d.install(args, from, grants, downgrade)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the `PLACE` to take from, in place of the registry")
	cmd.Flags().StringSliceVar(&grants, "grant", nil, "functions of the application to grant the plug-ins that are added: `OFFER,...`")
	cmd.Flags().BoolVar(&downgrade, "allow-downgrade", false, "take a FILE that is an older version than that of the lock, too")
	return d.add(cmd)
}

// installation is what install prints. Its JSON is documented in the command's help and grows only.
type installation struct {
	Lock     string      `json:"lock"`
	Plugins  []installed `json:"plugins"`
	Failed   []refusal   `json:"failed,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
}

type installed struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`
	Digest  string `json:"digest"`
	Source  string `json:"source"`
	Key     string `json:"key,omitempty"`
	New     bool   `json:"new"`
}

// installationOf is what came of a call of the installer's.
func installationOf(in *install.Installer, r *install.Result) *installation {
	made := &installation{Lock: in.Lock, Plugins: []installed{}, Failed: refusals(r.Failed)}
	for _, name := range slices.Sorted(maps.Keys(r.Plugins)) {
		p := r.Plugins[name]
		made.Plugins = append(made.Plugins, installed{p.Name, p.Version, p.Path, p.Digest, p.Source, p.Key, p.New})
	}
	for _, n := range r.Notices {
		made.Warnings = append(made.Warnings, n.String())
	}
	return made
}

// added is what one argument of install adds.
type added struct {
	name, version string
	source        registry.Source // of a file; nil otherwise
}

// addedBy reads an argument.
func addedBy(ctx context.Context, c *config.Config, arg string) (added, error) {
	if strings.ContainsAny(arg, `/\`) || filepath.Ext(arg) == libraryExt() {
		r, _, err := install.Describe(arg)
		if errors.Is(err, fs.ErrNotExist) {
			return added{}, usage("no file "+arg, "a library, a script or a program", "")
		}
		if err != nil && arePrograms([]string{arg}) {
			return programBy(ctx, c, arg)
		}
		if err != nil {
			return added{}, failure(err)
		}
		return added{r.Name, "", install.File(arg, "")}, nil
	}
	name, version, _ := strings.Cut(arg, "@")
	if !registry.ValidName(name) {
		return added{}, usage(arg, "a plug-in's name, NAME@RANGE, or the path of a file", "")
	}
	return added{name: name, version: version}, nil
}

// programBy asks the script or the program of an argument what it is.
func programBy(ctx context.Context, c *config.Config, arg string) (added, error) {
	_, contents, err := install.ReleaseOfPrograms(&abi.Description{Manifest: &abi.Manifest{}}, arg)
	if err != nil {
		return added{}, fromSource(err)
	}
	for platform := range contents {
		if platform != registry.AnyPlatform && platform != registry.ThisPlatform() {
			return added{}, usage(arg+", a program for "+platform, "one for "+registry.ThisPlatform()+", which can be asked what it is", "Publish it (ferrule push), and install it on all platforms from there")
		}
	}
	digest, err := verifiedProgram(ctx, c, arg)
	if err != nil {
		return added{}, fromSource(err)
	}
	about, err := install.AskProgram(ctx, arg, digest)
	if err != nil {
		return added{}, fromSource(err)
	}
	return added{about.Manifest.Name, "", install.ProgramFile(about, arg, "")}, nil
}

// verifiedProgram verifies a program's signature, where keys count, before it is started to be asked what it is. That it is what the signature says is compared when it was asked. The
// digest is of what was verified; "" where no key counts.
func verifiedProgram(ctx context.Context, c *config.Config, path string) (digest string, err error) {
	trust, err := sign.TrustOf(c)
	if err != nil {
		return "", err
	}
	signature, err := signatureOf(path)
	if err != nil {
		return "", failure(err)
	}
	if signature == nil {
		if trust.FirstUse("") != "" { // the keys of the registry are those of whatever it is
			return "", nil
		}
		return "", &registry.Error{Path: path, Kind: registry.ErrUnsigned, Found: "no signature beside it", Expected: "one by a key of registry.keys: it is started to say what it is",
			Remedy: "Sign it: ferrule sign --key KEY --name NAME --version VERSION --platform PLATFORM " + shellWord(path)}
	}
	subject, err := sign.SubjectOf(signature)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path+signatureExt, err)
	}
	if trust.FirstUse(subject.Name) != "" {
		return "", nil
	}
	return verifySignature(ctx, trust, subject, registry.Content{Path: path, Signature: signature})
}

func (d *distributed) install(args []string, from string, grants []string, downgrade bool) error {
	if len(grants) > 0 && len(args) == 0 {
		return usage("--grant without a plug-in that is added", "ferrule install NAME --grant OFFER", "Of those that are there: ferrule grant NAME OFFER")
	}
	f, err := config.OpenFile(d.path)
	if err != nil {
		return d.wrong(err)
	}
	text := f.Bytes()
	written, err := f.Config()
	if err != nil {
		return d.wrong(err)
	}
	var adds []added
	var sources []registry.Source
	ctx, stop := interruptible(0)
	defer stop()
	for _, arg := range args {
		add, err := addedBy(ctx, written, arg)
		if err != nil {
			return err
		}
		adds = append(adds, add)
		if add.source != nil {
			sources = append(sources, add.source)
		}
		if err := enter(f, add, grants, d.path); err != nil {
			return err
		}
	}
	c, err := f.Config()
	if err != nil {
		return d.wrong(err)
	}
	if from != "" {
		place, err := openPlace("--from", from)
		if err != nil {
			return err
		}
		sources = append(sources, place)
	}
	shown := d.startTransfers()
	defer shown.stop()
	var unsure map[string][]string
	in, err := d.installer(c, func(o *install.Options) {
		if len(sources) > 0 {
			o.Sources, o.Mirrors = append(sources, o.Sources...), append(slices.Clone(sources), o.Mirrors...)
		}
		if from != "" {
			o.Sources, o.Mirrors, o.Index = sources, sources, nil
		}
		o.Progress = shown.tell
		o.Granted, unsure = grantedIn(c, o.Lock)
		o.HowToGrant = install.HowToGrantWith(written, c) // what is added is there only when all went well
	})
	if err != nil {
		return err
	}
	wants, err := d.wants(c)
	if err != nil {
		return err
	}
	before, err := lockedNow(in.Lock)
	if err != nil {
		return err
	}
	replaced, notices, refused, err := fromFiles(ctx, in, before, wants, adds, downgrade)
	if err != nil {
		shown.stop()
		return fromSource(err)
	}
	r, err := in.Ensure(ctx, wants)
	shown.stop()
	if err != nil {
		return fromSource(err)
	}
	for name, err := range refused {
		r.Failed[name] = err
		delete(r.Plugins, name)
	}
	r.Notices = append(notices, r.Notices...)
	for name := range replaced {
		if p, ok := r.Plugins[name]; ok {
			p.New = true
			r.Plugins[name] = p
		}
	}
	made := installationOf(in, r)
	if now, err := lock.Load(in.Lock); err == nil {
		if names := install.Unwanted(now, namesIn(c)); names != nil {
			made.Warnings = append(made.Warnings, fmt.Sprintf("%s does not name %s, which the lock has: ferrule update drops what nobody needs, and so does ferrule remove %s",
				d.path, strings.Join(names, ", "), strings.Join(names, " ")))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unsure)) {
		if _, ok := r.Plugins[name]; ok {
			made.Warnings = append(made.Warnings, fmt.Sprintf("%s needs %s, which %s does not grant: it starts where the application gives that to all plug-ins, or after ferrule grant %s %s",
				name, strings.Join(unsure[name], ", "), d.path, shellWord(name), strings.Join(unsure[name], " ")))
		}
	}
	made.Warnings = append(made.Warnings, d.programs(r.Failed)...)
	var out []string // what is not added: the file gets the others, as the lock has
	for _, add := range adds {
		if r.Failed[add.name] != nil {
			out = append(out, add.name)
		}
	}
	others := func(f *config.File) error {
		for _, add := range adds {
			if r.Failed[add.name] == nil {
				if err := enter(f, add, grants, d.path); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if out != nil {
		if f, err = config.OpenFile(d.path); err != nil {
			return d.wrong(err)
		}
		text = f.Bytes()
		if err := others(f); err != nil {
			return err
		}
	}
	saved := string(text) != string(f.Bytes())
	if saved {
		if err := d.save(f, others); err != nil {
			return err
		}
	}
	if err := d.print(made, made.write); err != nil {
		return err
	}
	d.warnings(made.Warnings)
	switch {
	case out != nil && saved:
		fmt.Fprintf(d.err, "ferrule: %s has the others, and nothing new of %s\n", escape.Line(d.path), strings.Join(out, ", "))
	case out != nil:
		fmt.Fprintf(d.err, "ferrule: %s is as it was\n", escape.Line(d.path))
	}
	return d.refused(r.Failed)
}

// programs says of what no source has that a program of that name lies in a folder.
func (d *distributed) programs(failed map[string]error) (texts []string) {
	if len(failed) == 0 {
		return nil
	}
	o, err := d.survey()
	if err != nil {
		return nil // the file was read already: what is wrong by now is said the next time
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		none := errors.Is(failed[name], registry.ErrNotFound) || errors.Is(failed[name], registry.ErrUnavailable)
		if text := programNamed(o, name); none && text != "" {
			texts = append(texts, name+": "+text)
		}
	}
	return texts
}

// lockedNow is what a lock has; one that is not there has nothing.
func lockedNow(path string) (*lock.Lock, error) {
	l, err := lock.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &lock.Lock{}, nil
	}
	return l, fromSource(err)
}

// fromFiles has the files that were named take the place of what is locked. What is refused stays as it is.
func fromFiles(ctx context.Context, in *install.Installer, before *lock.Lock, wants []install.Want, adds []added, downgrade bool) (replaced map[string]bool, notices []install.Notice, refused map[string]error, err error) {
	replaced, refused = map[string]bool{}, map[string]error{}
	for _, add := range adds {
		if add.source == nil || before.Plugins[add.name] == nil {
			continue
		}
		made, told, err := in.Update(ctx, wants, install.UpdateOptions{Names: []string{add.name}, From: add.source, AllowDowngrade: downgrade, Unpin: true})
		if err != nil {
			return nil, nil, nil, err
		}
		notices = append(notices, told...)
		for _, ch := range made {
			if replaced[ch.Name] = ch.Err == nil; ch.Err != nil {
				refused[ch.Name] = ch.Err
			}
		}
	}
	return replaced, notices, refused, nil
}

// enter adds a plug-in to a config.yaml, where it is not there.
func enter(f *config.File, add added, grants []string, path string) error {
	c, err := f.Config()
	if err != nil {
		return failure(err)
	}
	switch p := c.Plugin(add.name); {
	case p == nil:
		if err := f.Add(add.name, add.version); err != nil {
			return byHand(err)
		}
	case add.version != "" && add.version != p.Version:
		there := "the version " + quoted(p.Version)
		if p.Version == "" {
			there = "no version"
		}
		return usage(fmt.Sprintf("%s@%s, and %s names it with %s", add.name, add.version, path, there), "the version in that file",
			fmt.Sprintf("Write %s, and then: ferrule update %s", keyOf(p, "version: "+quoted(add.version)), shellWord(add.name)))
	case !p.Enabled:
		return usage(add.name+", which is disabled in "+path, "one that is not", "ferrule enable "+shellWord(add.name))
	}
	if len(grants) == 0 {
		return nil
	}
	if err := f.Grant(add.name, grants...); err != nil {
		return byHand(err)
	}
	return nil
}

// keyOf says how a key is written into an entry, of which one that is a name alone has none.
func keyOf(p *config.Plugin, key string) string {
	if p.Bare() {
		return fmt.Sprintf("its entry, line %d, as {name: %s, %s}", p.Line, config.QuoteText(p.Name), key)
	}
	return fmt.Sprintf("%s in its entry, line %d", key, p.Line)
}

// quoted is a range as it may be written in config.yaml.
func quoted(text string) string { return `"` + text + `"` }

// grantedIn says what config.yaml grants. Functions that an application may give to all are let pass where the plug-in is new, and noted; in an update only those that the version before
// had, too.
func grantedIn(c *config.Config, lockPath string) (granted func(plugin, version string, ask install.Ask) bool, unsure map[string][]string) {
	unsure = map[string][]string{}
	before, err := lock.Load(lockPath)
	if err != nil {
		before = &lock.Lock{}
	}
	return func(plugin, _ string, ask install.Ask) bool {
		if install.Grants(c, plugin, ask) {
			return true
		}
		if ask.What != "function" {
			return false
		}
		if e := before.Plugins[plugin]; e != nil {
			return slices.Contains(e.Grants, ask.String())
		}
		if !slices.Contains(unsure[plugin], ask.Item) {
			unsure[plugin] = append(unsure[plugin], ask.Item)
		}
		return true
	}, unsure
}

func (i *installation) write(w io.Writer) error {
	news := 0
	for _, p := range i.Plugins {
		if !p.New {
			continue
		}
		news++
		by := ", not signed by a key that counts"
		if p.Key != "" {
			by = ", signed by " + p.Key
		}
		if _, err := fmt.Fprintf(w, "%s %s (%s%s)\n", escape.Line(p.Name), escape.Line(p.Version), escape.Line(cmp.Or(p.Source, "from a file")), by); err != nil {
			return err
		}
	}
	if len(i.Failed) > 0 {
		var names []string
		for _, f := range i.Failed {
			names = append(names, f.Plugin)
		}
		if _, err := fmt.Fprintf(w, "not installed: %s\n", escape.Line(strings.Join(names, ", "))); err != nil || len(i.Plugins) == 0 {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s installed, %d of them new in %s\n", plural(len(i.Plugins), "plug-in"), news, escape.Line(i.Lock))
	return err
}

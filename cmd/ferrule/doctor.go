package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

func init() { verbs = append(verbs, doctorVerb) }

func doctorVerb(a *app) *cobra.Command {
	c := &configured{app: a}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say all that is wrong or doubtful with a config.yaml and its plug-ins",
		Long: `Read a config.yaml and the plug-ins in its folders and in the store, and say all that is wrong or doubtful at once. Nothing of a
plug-in is run, and no registry is asked.

Wrong is what keeps a plug-in, or the application, from starting:
  - faults of the file, each with its line. Where it has any, nothing else is looked at
  - plug-ins that fail before they are opened: no file, versions that do not fit, what they require, services and permits
    that were not granted, settings
  - plug-ins that are to come from the registry and are not installed yet, or whose version in ferrule.lock is not in the range; files in the
    store that are damaged or missing; keys that were revoked, or count no more; a lock that is not valid
  - a plug-in that is built for another system or architecture, has a Go runtime inside and is not isolated, or is a library on a file system
    that is mounted noexec
  - a permit to read or write a path that is not there, of a plug-in with a sandbox

Doubtful is what works, and may be meant otherwise:
  - an import that no plug-in provides and config.yaml does not grant: the application may offer it to all
  - an installed plug-in for which no key is set; a registry's index that is older than 30 days, so that nobody knows what was revoked since
  - a secret of the settings that is not there in this environment
  - grants and permits that neither the plug-in asks for nor others of its group, and permits that are declared only, since
    it has no sandbox
  - libraries in the folders that are no plug-ins, or are for another system; folders that are not there
  - programs in the folders that no entry names: they are no plug-ins until one does
  - a script in Python, and what runs those cannot be built here: it is tried, into the user's cache folder, where this command has not built it before
  - several files of one plug-in, of which one counts
  - hooks whose order contradicts itself, an order for a point at which no plug-in has a hook, or none that is
    ready; a log level for a plug-in that is not there

Plug-ins in Go that the application has compiled in are not known here: where config.yaml names such a one, or a plug-in
requires it, ignore that it is not found.

Exit codes:
  0    all is well
  1    something is wrong or doubtful
  2    the command line is wrong, or names something that is not there
  130  interrupted

With --json there is one object:
  config, plugins           the path of the file, and how many plug-ins were looked at
  findings                  each with level (wrong, doubtful), about (the plug-in, file or point), line and column (of
                            config.yaml; not there where it is not about a place in it), and ` + faultHelp,
		Example: `  ferrule doctor
  ferrule doctor --config /etc/shop/config.yaml
  ferrule doctor --json | jq -r '.findings[] | select(.level == "wrong") | .text'`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			d := &diagnosis{Config: c.path, Findings: []finding{}}
			ctx, stop := interruptible(0)
			defer stop()
			o, err := c.surveyUntil(ctx)
			var faulty *config.Error
			switch {
			case errors.As(err, &faulty):
				for _, f := range faulty.Faults {
					d.add(wrongLevel, &f, f.Where, fault{Kind: "the file is not a valid config.yaml", Found: f.Found, Expected: f.Expected, Remedy: f.Remedy})
				}
			case err != nil:
				return err
			default:
				d.examine(ctx, o)
			}
			if ctx.Err() != nil {
				return failure(ctx.Err())
			}
			if err := a.print(d, d.write); err != nil {
				return err
			}
			if len(d.Findings) > 0 {
				return &exit{code: exitFailed, reported: true}
			}
			return nil
		},
	}
	return c.add(cmd)
}

// diagnosis is what doctor prints. Its JSON is documented in the command's help and grows only.
type diagnosis struct {
	Config   string    `json:"config"`
	Plugins  int       `json:"plugins"`
	Findings []finding `json:"findings"`
}

// The levels of a finding.
const (
	wrongLevel    = "wrong"
	doubtfulLevel = "doubtful"
)

type finding struct {
	Level  string `json:"level"`
	About  string `json:"about,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	fault
}

// add adds a finding. at is its place in config.yaml, or nil; a fault without a text gets one of its parts.
func (d *diagnosis) add(level string, at *config.Fault, about string, f fault) {
	found := finding{Level: level, About: about, fault: f}
	if at != nil {
		found.Line, found.Column = at.Line, at.Column
	}
	if found.Text == "" {
		found.Text = "found " + f.Found
		if f.Expected != "" {
			found.Text += ", expected " + f.Expected
		}
		if f.Remedy != "" {
			found.Text += ". " + f.Remedy
		}
		if about != "" {
			found.Text = about + ": " + found.Text
		}
	}
	d.Findings = append(d.Findings, found)
}

// doubt adds what is doubtful.
func (d *diagnosis) doubt(at *config.Fault, about, found, expected, remedy string) {
	d.add(doubtfulLevel, at, about, fault{Found: found, Expected: expected, Remedy: remedy})
}

// examine looks at all that there is, or as far as it comes until ctx ends.
func (d *diagnosis) examine(ctx context.Context, o *plugins.Overview) {
	d.Plugins = len(o.Plugins)
	for i := range o.Plugins {
		if ctx.Err() != nil {
			return
		}
		d.plugin(o, &o.Plugins[i])
	}
	d.installed(o)
	d.folders(ctx, o)
	d.python(ctx, o)
	var points []string
	for _, order := range o.Hooks {
		points = append(points, order.Point)
		for _, err := range order.Faults {
			d.add(doubtfulLevel, nil, order.Point, *faultOf(err))
		}
	}
	for _, point := range slices.Sorted(maps.Keys(o.Config.Hooks)) {
		if slices.Contains(points, point) {
			continue
		}
		if by := attaching(o, point); by != nil {
			d.doubt(nil, point, "an order of hooks for "+point+", and none of the plug-ins with a hook there is ready: "+
				strings.Join(by, ", "), "one that is ready", "Mend or enable them: ferrule list")
			continue
		}
		d.doubt(nil, point, "an order of hooks for "+point+", which no plug-in attaches to", "a point that one attaches to", didYouMean(point, points))
	}
	names := pluginNames(o, func(plugins.Plugin) bool { return true })
	for _, name := range slices.Sorted(maps.Keys(o.Config.Logging.Plugins)) {
		if !slices.Contains(names, name) {
			d.doubt(nil, name, "a log level for "+name+", which is not there", "one for a plug-in", didYouMean(name, names))
		}
	}
}

// attaching are the plug-ins with a hook at a point, each with its state.
func attaching(o *plugins.Overview, point string) (all []string) {
	for i := range o.Plugins {
		p := &o.Plugins[i]
		if lib := readPlugin(p); lib != nil && slices.Contains(namesOf(lib.Hooks), point) {
			all = append(all, p.Name+" ("+string(p.State)+")")
		}
	}
	return all
}

// faultAt is faultOf with the path of the file that it is about: a finding is about a plug-in.
func faultAt(err error) *fault {
	f := faultOf(err)
	if open, ok := errors.AsType[*loader.OpenError](err); ok && f != nil && open.Path != "" && !strings.Contains(f.Found, open.Path) {
		f.Found += ": " + open.Path
	}
	return f
}

// plugin looks at one plug-in.
func (d *diagnosis) plugin(o *plugins.Overview, p *plugins.Plugin) {
	entry := o.Config.Plugin(p.Name)
	var at *config.Fault
	if entry != nil {
		at = &config.Fault{Line: entry.Line, Column: entry.Column}
	}
	switch f := faultAt(p.Err); {
	case f == nil:
	case p.State == plugins.StateFailed:
		d.add(wrongLevel, at, p.Name, *f)
	case p.State == plugins.StateReady:
		d.add(doubtfulLevel, at, p.Name, *f)
	}
	for _, more := range o.More[p.Name] {
		d.add(wrongLevel, at, p.Name, *faultAt(more))
	}
	lib := readPlugin(p)
	if entry != nil && p.Sidecar { // nobody knows what it asks for
		d.permits(at, p, entry, nil)
		return
	}
	if entry == nil || lib == nil {
		return
	}
	if p.Enabled {
		if found := otherPlatform(lib); found != "" {
			d.add(wrongLevel, at, p.Name, fault{Kind: "built for another platform", Found: found, Expected: runtime.GOOS + "/" + runtime.GOARCH,
				Remedy: "Install the file of it that is built for this system"})
		}
		if !engines.IsPortable(lib) && isNoexec(p.Source) {
			d.add(wrongLevel, at, p.Name, fault{Kind: "not a place to run code from", Found: "that the file system of " + p.Source + " is mounted noexec",
				Expected: "one from which programs and libraries may be run", Remedy: "Put the library, or the store that it is in, on another file system, or mount that one without noexec"})
		}
		if lib.GoVersion != "" && !p.Isolated {
			d.add(wrongLevel, at, p.Name, fault{Kind: "a Go runtime inside", Found: "a library with the Go runtime " + lib.GoVersion + ", which runs in the application's process",
				Expected: "one without, or a worker process", Remedy: "Write " + keyOf(entry, "isolate: true")})
		}
	}
	group := groupOf(o, p.Name)
	asked := asksOfAll(group)
	for _, g := range entry.Grant {
		one := &config.Plugin{Grant: []string{g}}
		if !slices.ContainsFunc(asked, func(name string) bool { _, ok := one.Granted(name); return ok }) {
			found := "a grant of " + g + ", which the installed version does not ask for; a newer one may"
			d.doubt(at, p.Name, found, "grants of what it asks for", didYouMean(g, asked))
		}
	}
	for _, s := range lib.Imports {
		if _, ok := entry.Granted(s.Name); !ok && (p.State == plugins.StateReady || p.State == plugins.StateFailed) && provider(o, p.Name, s.Name) == "" {
			d.doubt(at, p.Name, "an import of "+s.Name+", which no plug-in provides and which is not granted", "a grant, unless the application offers it to all",
				"Grant it: ferrule grant "+shellWord(p.Name)+" "+shellWord(s.Name))
		}
	}
	d.permits(at, p, entry, group)
}

// permits looks at what a plug-in is permitted: what it or one that shares its worker asks for. group is empty where nobody knows what that is.
func (d *diagnosis) permits(at *config.Fault, plugin *plugins.Plugin, entry *config.Plugin, group []*inspect.Library) {
	var extra, all []string
	var lib *inspect.Library
	if len(group) > 0 {
		lib = group[0]
	}
	name, held := plugin.Name, enforced(plugin, entry, lib)
	for _, p := range permittedOf(entry.Permit) {
		all = append(all, p.what+" "+p.item)
		if lib != nil && !slices.ContainsFunc(group, func(lib *inspect.Library) bool { return p.asked(lib.Manifest.Keys) }) {
			extra = append(extra, p.what+" "+p.item)
		}
	}
	for _, path := range slices.Concat(entry.Permit.Read, entry.Permit.Write) {
		if !held || !entry.Enabled {
			break
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			d.add(wrongLevel, at, name, fault{Kind: "a permit for a path that is not there", Found: path, Expected: "a file or a folder: a sandbox is made of what is there",
				Remedy: "Make it, or take it out of permit"})
		}
	}
	if len(all) > 0 && !held {
		d.doubt(at, name, "permits that are declared only: "+strings.Join(all, ", "), "a worker process with a sandbox, which holds it to them", "Write isolate: true in its entry")
	}
	if len(extra) > 0 {
		d.doubt(at, name, "permits that it does not ask for: "+strings.Join(extra, ", "), "those that its manifest, or one of its group, asks for", "Take them out of its entry, unless you know what they are for")
	}
}

// installed looks at the lock, and at what is installed. What keeps a plug-in from starting is in its own error.
func (d *diagnosis) installed(o *plugins.Overview) {
	path := install.LockOf(o.Config.Path)
	l, err := lock.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		if slices.ContainsFunc(o.Plugins, func(p plugins.Plugin) bool { return errors.Is(p.Err, registry.ErrLock) }) {
			return // a plug-in's error says so
		}
		r := refusalOf("", err)
		d.add(wrongLevel, nil, path, fault{Kind: r.Kind, Found: cmp.Or(r.Found, r.Text), Expected: r.Expected, Remedy: r.Remedy, Text: r.Text})
		return
	}
	trust, err := sign.TrustOf(o.Config)
	for _, name := range slices.Sorted(maps.Keys(o.Installed)) {
		if err == nil && trust.FirstUse(name) != "" {
			d.doubt(nil, name, "an installed plug-in for which no key is set: what came first was trusted, and now its digest in the lock is", "the public key of its author",
				"Ask its author for it, and write it to registry.keys or plugins[].keys of config.yaml")
		}
	}
	for _, source := range slices.Sorted(maps.Keys(l.Indexes)) {
		if seen := l.Indexes[source].Date; time.Since(seen) > index.DefaultMaxAge {
			d.doubt(nil, source, "an index of "+seen.UTC().Format(time.DateOnly)+", which is the last one that was seen", "one of the last 30 days, since it says what was revoked", "Look for a newer one: ferrule update")
		}
	}
}

// python says whether what runs scripts in Python can be had here, where an enabled plug-in is one: it is built where it is not there yet.
func (d *diagnosis) python(ctx context.Context, o *plugins.Overview) {
	for i := range o.Plugins {
		p := &o.Plugins[i]
		if !p.Enabled || !engines.IsPython(readPlugin(p)) {
			continue
		}
		_, err := engines.Adapter(ctx, p.Source, func(string) {})
		if open, ok := errors.AsType[*loader.OpenError](err); ok { // the application may have one of its own
			d.doubt(nil, p.Name, open.Found, open.Expected, open.Remedy)
			return
		}
	}
}

// otherPlatform says what a library is built for, where that is not this system.
func otherPlatform(lib *inspect.Library) string {
	if engines.IsPortable(lib) || lib.OS == runtime.GOOS && slices.Contains(lib.Archs, runtime.GOARCH) {
		return ""
	}
	return "a library for " + cmp.Or(lib.OS, "another system") + "/" + strings.Join(lib.Archs, ",")
}

// folders looks at the files in the folders.
func (d *diagnosis) folders(ctx context.Context, o *plugins.Overview) {
	ours := map[string][]string{"windows": {".dll"}, "darwin": {".dylib", ".so"}}[runtime.GOOS]
	if ours == nil {
		ours = []string{".so"}
	}
	ours = append(ours, ".wasm")
	for _, ext := range engines.ScriptExtensions {
		ours = append(ours, "."+ext)
	}
	files := map[string][]string{} // by the plug-in's name
	for i, folder := range o.Config.Folders {
		if slices.Contains(o.Config.Folders[:i], folder) {
			continue
		}
		paths, err := librariesIn(folder)
		switch {
		case errors.Is(err, fs.ErrPermission):
			d.doubt(nil, folder, "the folder "+folder+", which this user may not read", "the folders of config.yaml", "Run this as the user of the application")
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			d.doubt(nil, folder, "no folder that can be read: "+err.Error(), "the folders of config.yaml", "Correct it, or take it out of folders")
		case err != nil:
			d.doubt(nil, folder, "no folder "+folder, "the folders of config.yaml", "Make it, or take it out of folders")
		}
		for _, path := range paths {
			if ctx.Err() != nil {
				return
			}
			if strings.HasPrefix(filepath.Base(path), ".") {
				continue // it is being written
			}
			lib, err := loader.Inspect(path)
			var open *loader.OpenError
			switch {
			case errors.Is(err, fs.ErrNotExist):
				if to, err := os.Readlink(path); err == nil && !isSource(o, path) { // else the plug-in has failed
					d.doubt(nil, path, "a symbolic link to "+to+", which is not there", "a library", "Correct or remove the link")
				}
			case errors.As(err, &open):
				f := faultOf(&plugins.Error{Plugin: path, Step: plugins.StepDiscover, Err: err})
				if !isSource(o, path) { // else the plug-in has failed
					d.add(doubtfulLevel, nil, path, *f)
				}
			case err != nil:
				d.add(doubtfulLevel, nil, path, fault{Found: err.Error()})
			case !slices.Contains(ours, strings.ToLower(filepath.Ext(path))):
				d.doubt(nil, path, otherPlatform(lib)+", which is not looked at here", "libraries for "+runtime.GOOS+"/"+runtime.GOARCH, "Put it where it is used")
			default:
				files[lib.Manifest.Name] = append(files[lib.Manifest.Name], path)
				if found := otherPlatform(lib); found != "" && o.Config.Plugin(lib.Manifest.Name) == nil {
					d.doubt(nil, path, found, "libraries for "+runtime.GOOS+"/"+runtime.GOARCH, "Put it where it is used")
				}
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(o.Programs)) {
		if ctx.Err() != nil {
			return
		}
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		if p := find(o, name); p != nil && errors.Is(p.Err, plugins.ErrNotFound) {
			continue // its error says so
		}
		d.doubt(nil, path, "a program in a folder of plug-ins, which is not run because it lies there", "an entry that names it, where it is a plug-in", programRemedy(o.Programs[path]))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all := files[name]
		if len(all) < 2 {
			continue
		}
		p := find(o, name)
		if p == nil || p.Source == "" || errors.Is(p.Err, plugins.ErrDouble) {
			continue
		}
		which := ", of which the first counts: "
		switch {
		case p.Source != all[0] || o.Config.Dev[name] != "":
			which = ", and what counts is " + p.Source + ": "
		case filepath.Dir(all[0]) == filepath.Dir(all[1]):
			which = ", the first two of which are in one folder, which is an error once it is enabled: "
		}
		d.doubt(nil, name, plural(len(all), "file")+" of "+name+which+strings.Join(all, ", "), "one", "Take the others away")
	}
}

// isSource reports whether a file is that of a plug-in which failed.
func isSource(o *plugins.Overview, path string) bool {
	return slices.ContainsFunc(o.Plugins, func(p plugins.Plugin) bool { return p.Source == path && p.State == plugins.StateFailed })
}

// write writes the findings for people.
func (d *diagnosis) write(w io.Writer) error {
	paint := painter(w)
	counts := map[string]int{}
	for _, f := range d.Findings {
		counts[f.Level]++
		at := ""
		if f.Line > 0 {
			at = fmt.Sprintf("%s:%d:%d: ", d.Config, f.Line, f.Column)
		}
		title := strings.TrimSuffix(cmp.Or(f.About, d.Config)+": "+f.title(), ": ")
		fmt.Fprintf(w, "%s: %s\n", paint(red, f.Level), escape.Line(at+title))
		f.fault.write(w, "  ")
		fmt.Fprintln(w)
	}
	text := fmt.Sprintf("%d wrong, %d doubtful.", counts[wrongLevel], counts[doubtfulLevel])
	if len(d.Findings) == 0 {
		text = fmt.Sprintf("All is well with %s: %s.", escape.Line(d.Config), plural(d.Plugins, "plug-in"))
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

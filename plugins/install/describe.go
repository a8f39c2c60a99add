package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins/internal/grants"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Describe returns what the library, the WebAssembly module, or the script at path says of itself, as a source describes a release, and the platform that it is for, which is registry.AnyPlatform
// of a module and of a script. Nothing of it runs. Its Files are left for whoever publishes it. The error is an inspect.Error, or a *registry.Error of a
// script that imports files, which no release has.
func Describe(path string) (r *registry.Release, platform string, err error) {
	lib, err := inspect.File(path)
	if err != nil {
		return nil, "", err
	}
	r = describedFile(lib)
	if anywhere(lib) {
		return r, registry.AnyPlatform, alone(r, path)
	}
	return r, lib.OS + "/" + lib.Arch, nil // of a library for several, the one that this system would take
}

// describedFile is Described with the file's kind.
func describedFile(lib *inspect.Library) *registry.Release {
	r := Described(&lib.Description)
	if kind, ok := kindsAnywhere[lib.Format]; ok {
		r.Kind = kind
	}
	return r
}

// kindsAnywhere are those of files that run on all platforms.
var kindsAnywhere = map[inspect.Format]registry.Kind{inspect.Wasm: registry.Wasm, inspect.JavaScript: registry.JavaScript, inspect.Python: registry.Python}

func anywhere(lib *inspect.Library) bool {
	_, ok := kindsAnywhere[lib.Format]
	return ok
}

// alone returns an error where a script imports files: a release of it has one file, and its digest and its signature say nothing of others.
func alone(r *registry.Release, path string) error {
	var names []string
	remedy := "Make one file of them, as esbuild does with --bundle --format=esm --external:ferrule, and see that the header stands at its top"
	switch r.Kind {
	case registry.JavaScript, registry.Python:
		all, err := inspect.Imported(path)
		if err != nil {
			return err
		}
		names = all
		if r.Kind == registry.Python { // what is not there is a module of Python's, or of a virtual environment
			names = slices.DeleteFunc(all, func(name string) bool {
				_, err := os.Stat(filepath.Join(filepath.Dir(path), filepath.FromSlash(name)))
				return err != nil
			})
			remedy = "Write what it needs of them into the script, or have them in a package of the virtual environment"
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &registry.Error{Plugin: r.Name, Version: r.Version, Path: path, Kind: registry.ErrMalformed, Found: "a script that imports " + shown(names), Expected: "one that imports no files: its digest says nothing of others", Remedy: remedy}
}

// Platforms are the keys under which a release has a file: registry.AnyPlatform for a WebAssembly module, which runs on all, whatever it was compiled for, and for a script; else the system with each of
// the library's architectures.
func Platforms(lib *inspect.Library) (all []string) {
	if anywhere(lib) {
		return []string{registry.AnyPlatform}
	}
	for _, arch := range lib.Archs {
		all = append(all, lib.OS+"/"+arch)
	}
	return all
}

// Described is a plug-in's description as a source has it, of the kind library and without files. Its manifest is there.
func Described(d *abi.Description) *registry.Release {
	m := d.Manifest
	r := &registry.Release{Name: m.Name, Version: m.Version, Kind: registry.Library, License: m.Keys.Get("license"),
		Requires: lines(m.Keys.Get("requires")), Conflicts: lines(m.Keys.Get("conflicts")), Provides: lines(m.Keys.Get("provides"))}
	r.Summary, _, _ = strings.Cut(m.Description, "\n")
	for _, kv := range m.Keys {
		if app, ok := strings.CutPrefix(kv.Key, "host."); ok {
			if r.Host == nil {
				r.Host = map[string]string{}
			}
			r.Host[app] = kv.Value
		}
		if what, ok := strings.CutPrefix(kv.Key, "permit."); ok {
			if r.Permits == nil {
				r.Permits = map[string][]string{}
			}
			r.Permits[what] = lines(kv.Value)
		}
	}
	for _, s := range d.Imports {
		r.Imports = append(r.Imports, s.Name)
	}
	return r
}

// lines are the items of a list of the manifest: one a line.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// Ask is one thing that a plug-in asks for and does not get by itself.
type Ask struct {
	What string // "function" of the application, "service" of another plug-in, or a permit: "read", "write", "connect", "listen", "memory"
	Item string // the function's name, a path, a port, a number of bytes
}

// String is an ask as the lock writes it: connect 443.
func (a Ask) String() string { return a.What + " " + a.Item }

// asks is what a release asks for, sorted.
func asks(r *registry.Release) []Ask {
	var all []Ask
	for _, name := range r.Imports {
		all = append(all, Ask{"function", name})
	}
	for _, what := range grants.Kinds {
		items := r.Permits[what]
		if what == "memory" && items != nil { // which is no list
			items = []string{strings.Join(items, "\n")}
		}
		for _, item := range items {
			all = append(all, Ask{what, item})
		}
	}
	slices.SortFunc(all, func(a, b Ask) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all)
}

// senseless is the error of a release that asks for what no grant covers, as is says of each ask; nil where there is none.
func senseless(r *registry.Release, is func(grants.Ask) bool) *registry.Error {
	var said []string
	for _, ask := range asks(r) {
		if a := grants.Ask(ask); is(a) {
			said = append(said, a.Said())
		}
	}
	if said == nil {
		return nil
	}
	return &registry.Error{Plugin: r.Name, Version: r.Version, Kind: registry.ErrMalformed, Found: "a manifest that says " + strings.Join(said, ", "), Expected: grants.Expected}
}

// texts are asks as the lock has them.
func texts(all []Ask) []string {
	var s []string
	for _, a := range all {
		s = append(s, a.String())
	}
	return s
}

// compare returns what the library that came says against its description. said is the description, has what the library says, on is the key of its file,
// which is for platform.
func compare(said, has *registry.Release, source, on, platform string) error {
	differs := func(kind error, found, expected, remedy string) error {
		return &registry.Error{Plugin: said.Name, Version: said.Version, Source: source, Kind: kind, Found: found, Expected: expected, Remedy: remedy}
	}
	switch {
	case has.Name != said.Name:
		return differs(registry.ErrName, "the plug-in "+has.Name+" in the library", said.Name, "Ask whoever publishes it, and install nothing from there until it is clear")
	case has.Version != said.Version:
		return differs(registry.ErrVersion, "version "+has.Version+" in the library", said.Version, "Ask whoever publishes it to publish the library that belongs to the version")
	case said.Kind != "" && has.Kind != said.Kind:
		return differs(registry.ErrKind, "a file of the kind "+string(has.Kind), string(said.Kind)+", as its description says", "Ask whoever publishes it to push it again as another version")
	case on != registry.AnyPlatform && on != platform:
		return differs(registry.ErrPlatform, "a library for "+platform, "one for "+on, "Ask whoever publishes it to publish the library that belongs to the platform")
	}
	for _, l := range []struct {
		what      string
		said, has []string
	}{{"requires", said.Requires, has.Requires}, {"conflicts", said.Conflicts, has.Conflicts}, {"host", pairs(said.Host), pairs(has.Host)}, {"imports", said.Imports, has.Imports},
		{"permit", texts(asks(&registry.Release{Permits: said.Permits})), texts(asks(&registry.Release{Permits: has.Permits}))}} {
		if !sameSet(l.said, l.has) {
			return differs(registry.ErrMalformed, fmt.Sprintf("%s %s in the library", l.what, shown(l.has)), shown(l.said)+", as its description says",
				"Ask whoever publishes it to push it again as another version")
		}
	}
	return nil
}

func pairs(m map[string]string) []string {
	var all []string
	for k, v := range m {
		all = append(all, k+" "+v)
	}
	return all
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func shown(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(slices.Values(list)), ", ")
}

// unreadable says that what came is no library.
func unreadable(name, version, source string, err error) error {
	kind, remedy := registry.ErrMalformed, "Ask whoever publishes it"
	if errors.Is(err, inspect.ErrRead) {
		kind, remedy = registry.ErrStore, "See who may read the store's files"
	}
	if errors.Is(err, inspect.ErrMajor) {
		kind, remedy = registry.ErrHost, "Install a version of the plug-in that is for this version of the contract"
	}
	return &registry.Error{Plugin: name, Version: version, Source: source, Kind: kind, Found: "a file that is none", Expected: "a library that is a plug-in", Err: err, Remedy: remedy}
}

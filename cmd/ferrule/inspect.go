package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

func init() { verbs = append(verbs, inspectCommand) }

// libraries completes the names of library files.
func libraries(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return append([]string{"so", "dylib", "dll", "wasm"}, engines.ScriptExtensions...), cobra.ShellCompDirectiveFilterFileExt
}

func inspectCommand(a *app) *cobra.Command {
	diff := false
	cmd := &cobra.Command{
		Use:   "inspect FILE...",
		Short: "Say what plug-ins are, without running any of them",
		Long: `Say what plug-ins are: name, version, functions, hooks, imports, platform, linked libraries, what they need of the
system, hardening and digest. Nothing of a file is run. It reads ELF (.so), Mach-O (.dylib, also fat ones), PE (.dll)
and WebAssembly modules (.wasm), Extism's plug-ins among these, on any system. Of a fat file all slices are named, and the one for this machine is described, or else the first.
Of a script in JavaScript or Python (.js, .mjs, .py) it reads the header (docs/scripts.md), and nothing else.

Exit codes:
  0    all files are plug-ins; with --diff: no change could break a host
  1    with --diff: a change could break a host
  2    the command line is wrong
  3    a file is no plug-in, or cannot be read
  130  interrupted

A library that is no plug-in is described, too, as far as it goes. Of several files, and of a folder's libraries and scripts with a header, each is
described; files that are not plug-ins are reported on standard error.

With --diff there are two files, and what the second adds, removes and changes is listed. These changes could break a
host that uses the first:
  - another plug-in name; a function or a hook that is gone
  - a media type or a schema that is another one or no longer declared; one that is declared for the first time breaks
    nothing
  - a new import, which the host may not offer
  - threads=concurrent that became serial or pinned in a plug-in with imports: a host function that calls the plug-in
    back is refused then. Without imports calls only wait for each other; other changes of threads break nothing
  - another schema of the configuration
  - an operating system or an architecture that is no longer served
  - another C library, a newer glibc or a newer system that it needs, thread-local memory that a process may lack (staticTLS)
  - a newly linked library that is not the system's own; a WebAssembly module that it newly imports from, other than those
    of Ferrule, Extism and WASI; a Go runtime inside, which hosts refuse to load
Version, documentation, other keys, own name, search path and hardening break nothing.

With --json there is one object for each file, one after the other. Its fields keep their names:
  file, error               the path; where it is no plug-in, why: kind, symbol, found, expected, remedy, text. Then the
                            fields of a plug-in, down to reserved, are not there, and of what is no library none
  name, version, abi,       of the manifest; abi is the contract's major version
    threads, description
  keys                      the whole manifest
  functions, hooks,         each with name, doc, in, out, schema, stream (in, out or both), and keys, which has all of
    imports, wants          its meta text
  start, stop, batch,       whether ferrule_start, ferrule_stop and so on are exported
    configure, save, resume
  configSchema              the schema of the configuration
  reserved                  exported ferrule_ names that mean nothing to the contract; with extism, functions that cannot
                            be called because their names are no C identifiers
  extism                    true for a plug-in of Extism's, which is named after its file; else not there
  format, os, arch,         what it is built for; slices has the architectures of a fat file, else the one there is; a script has
    machine, slices         a format, JavaScript or Python, and is for any system
  cLibrary, minGlibc        glibc, musl or bionic, and the newest version of glibc that it needs (ELF); not there
                            where the file does not say, as minOS
  minOS                     the oldest macOS (Mach-O) or Windows (PE; 6.1 is Windows 7) that it says it runs on
  needed, soname, runpath   linked libraries (of WebAssembly: modules that it imports functions from), its own name,
                            where the system looks for linked ones first
  exports                   the number of names that it exports
  staticTLS                 whether it may fail to load in a process that runs, for lack of thread-local memory (ELF)
  goVersion                 of an embedded Go runtime
  hardening                 execStack, writeExec, aslr; relro (none, partial, full), bindNow, textRel (ELF);
                            highEntropy, guardCF (PE); signed (Mach-O, PE; it is not verified); not there for WebAssembly and scripts
  size, sha256              of the file

With --json --diff there is one object:
  old, new                  each with file, name, version, sha256
  breaking                  whether any change could break a host
  changes                   each with what, name, change (added, removed, changed), field, old, new, breaking, why`,
		Example: `  ferrule inspect plugin.so
  ferrule inspect discount.js discount.py
  ferrule inspect --json plugins/*.so | jq -r 'select(.name) | .name + " " + .version'
  ferrule inspect --diff released/plugin.so build/plugin.so || echo "raise the major version"`,
		Args:              arguments("FILE..."),
		ValidArgsFunction: libraries,
		RunE: func(_ *cobra.Command, args []string) error {
			if !diff {
				return a.inspect(libraryFiles(args))
			}
			if len(args) != 2 {
				return usage(plural(len(args), "file")+" with --diff", "two, the old one and the new one", "")
			}
			return a.diff(args[0], args[1])
		},
	}
	cmd.Flags().BoolVar(&diff, "diff", false,
		"say what the second file changes against the first; exit code 1 when that could break a host")
	return cmd
}

// description is what is known of a library's file. Its JSON is documented in the command's help and grows only.
type description struct {
	File  string        `json:"file"`
	Error *errorDetails `json:"error,omitempty"`
	*pluginFacts
	*libraryFacts
}

// pluginFacts are what only a plug-in has.
type pluginFacts struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	ABI         int               `json:"abi"`
	Threads     string            `json:"threads"`
	Description string            `json:"description,omitempty"`
	Keys        map[string]string `json:"keys"`
	Functions   []symbol          `json:"functions"`
	Hooks       []symbol          `json:"hooks"`
	Imports     []symbol          `json:"imports"`
	Wants       []symbol          `json:"wants"`
	Start       bool              `json:"start"`
	Stop        bool              `json:"stop"`
	Batch       bool              `json:"batch"`
	Configure   bool              `json:"configure"`
	Save        bool              `json:"save"`
	Resume      bool              `json:"resume"`
	Schema      string            `json:"configSchema,omitempty"`
	Reserved    []string          `json:"reserved"`
	Extism      bool              `json:"extism,omitempty"`
	manifest    abi.Text          // in its author's order
}

// libraryFacts are what every library has.
type libraryFacts struct {
	Format    string     `json:"format"`
	OS        string     `json:"os"`
	Arch      string     `json:"arch"`
	Machine   string     `json:"machine"`
	Slices    []string   `json:"slices"`
	CLibrary  string     `json:"cLibrary,omitempty"`
	MinGlibc  string     `json:"minGlibc,omitempty"`
	MinOS     string     `json:"minOS,omitempty"`
	Needed    []string   `json:"needed"`
	SOName    string     `json:"soname,omitempty"`
	RunPath   []string   `json:"runpath"`
	Exports   int        `json:"exports"`
	StaticTLS *bool      `json:"staticTLS,omitempty"`
	GoVersion string     `json:"goVersion,omitempty"`
	Hardening *hardening `json:"hardening,omitempty"`
	Size      int64      `json:"size"`
	SHA256    string     `json:"sha256"`
}

type symbol struct {
	Name   string            `json:"name"`
	Doc    string            `json:"doc,omitempty"`
	In     string            `json:"in,omitempty"`
	Out    string            `json:"out,omitempty"`
	Schema string            `json:"schema,omitempty"`
	Stream string            `json:"stream,omitempty"`
	Keys   map[string]string `json:"keys,omitempty"`
}

type hardening struct {
	RELRO       string `json:"relro,omitempty"`
	BindNow     *bool  `json:"bindNow,omitempty"`
	TextRel     *bool  `json:"textRel,omitempty"`
	ExecStack   bool   `json:"execStack"`
	WriteExec   bool   `json:"writeExec"`
	ASLR        bool   `json:"aslr"`
	HighEntropy *bool  `json:"highEntropy,omitempty"`
	GuardCF     *bool  `json:"guardCF,omitempty"`
	Signed      *bool  `json:"signed,omitempty"`
}

// inspect describes each file, and then fails when some could not be described.
func (a *app) inspect(paths []string) error {
	bad, shown := 0, 0
	for _, path := range paths {
		d, err := describe(path)
		if a.json || d.libraryFacts != nil {
			if err := a.print(d, func(w io.Writer) error {
				if shown > 0 {
					fmt.Fprintln(w)
				}
				return d.write(w)
			}); err != nil {
				return err
			}
			shown++
		}
		if err != nil {
			if len(paths) == 1 && !a.json {
				return failure(err)
			}
			bad++
			fmt.Fprintf(a.err, "ferrule: %s\n", escape.Line(err.Error()))
		}
	}
	switch {
	case bad == 0:
		return nil
	case len(paths) == 1:
		return &exit{code: exitOpen}
	default:
		return &exit{exitOpen, fmt.Errorf("not plug-ins: %d of %s", bad, plural(len(paths), "file")), true}
	}
}

// describe reads the library at path. With an error the description has that, and what is known of the library all the
// same.
func describe(path string) (*description, error) {
	d := &description{File: path}
	lib, sum, err := read(path)
	if err == nil {
		d.libraryFacts = libraryFactsOf(lib)
		if lib.NotPlugin != nil {
			err = lib.NotPlugin
		} else {
			d.pluginFacts = pluginFactsOf(lib)
		}
		d.SHA256 = sum
	}
	if err = inWords(err); err != nil {
		d.Error = detailsOf(err)
	}
	return d, err
}

// read describes the library at path, with its SHA-256 digest. Both are of one file, which is opened once: whatever is at
// its path later.
func read(path string) (*inspect.Library, string, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, "", unopened(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = regular.ErrKind
	}
	if err != nil {
		return nil, "", unopened(path, err)
	}
	lib, err := inspect.DescribeReader(f, info.Size())
	if failed := (*loader.OpenError)(nil); errors.As(err, &failed) {
		failed.SetPath(path)
	}
	if err != nil {
		return nil, "", err
	}
	lib.SetPath(path)
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(f, 0, math.MaxInt64))
	now, failed := f.Stat()
	if err = cmp.Or(err, failed); err == nil && (now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime())) {
		err = errors.New("somebody wrote to it while it was read")
	}
	if err != nil {
		return nil, "", &loader.OpenError{Path: path, Kind: loader.ErrRead, Err: err}
	}
	return lib, hex.EncodeToString(h.Sum(nil)), nil
}

// unopened is why a file cannot be opened, in the words that package inspect has for it.
func unopened(path string, err error) error {
	if _, same := inspect.Describe(path); same != nil {
		if _, other := loader.Inspect(path); errors.Is(same, fs.ErrNotExist) && other != nil { // it may be a URL
			return other
		}
		return same
	}
	return &loader.OpenError{Path: path, Kind: loader.ErrRead, Err: err}
}

func pluginFactsOf(lib *inspect.Library) *pluginFacts {
	m := lib.Manifest
	return &pluginFacts{
		Name: m.Name, Version: m.Version, ABI: abi.Major, Threads: m.Threads.String(), Description: m.Description,
		Keys: keysOf(m.Keys), Functions: symbolsOf(lib.Funcs), Hooks: symbolsOf(lib.Hooks),
		Imports: symbolsOf(lib.Imports), Wants: symbolsOf(lib.Wants), Start: lib.HasStart, Stop: lib.HasStop,
		Batch: lib.HasBatch, Configure: lib.HasConfigure, Save: lib.HasSave, Resume: lib.HasResume, Schema: lib.ConfigSchema,
		Reserved: orEmpty(lib.Reserved), Extism: lib.Extism, manifest: m.Keys,
	}
}

func libraryFactsOf(lib *inspect.Library) *libraryFacts {
	h := lib.Hardening
	f := &libraryFacts{
		Format: string(lib.Format), OS: lib.OS, Arch: lib.Arch, Machine: lib.Machine, Slices: orEmpty(lib.Archs),
		CLibrary: string(lib.CLibrary), MinGlibc: lib.MinGlibc, MinOS: lib.MinOS, Needed: orEmpty(lib.Needed),
		SOName: lib.SOName, RunPath: orEmpty(lib.RunPath), Exports: len(lib.Exports), GoVersion: lib.GoVersion,
		Size:      lib.Size,
		Hardening: &hardening{RELRO: string(h.RELRO), ExecStack: h.ExecStack, WriteExec: h.WriteExec, ASLR: h.ASLR},
	}
	switch lib.Format {
	case inspect.Wasm, inspect.JavaScript, inspect.Python: // what they can reach is up to their host
		f.Hardening = nil
		if f.script() {
			f.Slices = []string{}
		}
	case inspect.ELF:
		f.Hardening.BindNow, f.Hardening.TextRel, f.StaticTLS = &h.BindNow, &h.TextRel, &lib.StaticTLS
	case inspect.MachO:
		f.Hardening.Signed = &h.Signed
	case inspect.PE:
		f.Hardening.HighEntropy, f.Hardening.GuardCF, f.Hardening.Signed = &h.HighEntropy, &h.GuardCF, &h.Signed
	}
	return f
}

// orEmpty is list, and in JSON an array in any case.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func keysOf(text abi.Text) map[string]string {
	keys := make(map[string]string, len(text))
	for _, e := range text {
		keys[e.Key] = e.Value
	}
	return keys
}

func symbolsOf(list []abi.Symbol) []symbol {
	symbols := make([]symbol, len(list))
	for i, s := range list {
		symbols[i] = symbol{s.Name, s.Doc, s.In, s.Out, s.Schema, s.Stream.String(), keysOf(s.Keys)}
	}
	return symbols
}

// write writes the description for people.
func (d *description) write(w io.Writer) error {
	f, l, paint := d.pluginFacts, d.libraryFacts, painter(w)
	title := ""
	if f != nil {
		title = f.Name + " " + f.Version
	} else {
		f, title = &pluginFacts{}, filepath.Base(d.File)+", "+d.Error.Kind
	}
	fmt.Fprintf(w, "%s  %s\n", paint(bold, escape.Line(title)), escape.Line(d.File))
	if f.Description != "" {
		writeText(w, "  ", f.Description)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "  %s\t%s\n", escape.Line(name), escape.Line(fmt.Sprintf(format, args...)))
	}
	if d.pluginFacts != nil {
		row("contract", "%s", f.contract())
		row("threads", "%s", f.Threads)
		var exports []string
		for _, e := range []struct {
			there bool
			name  string
		}{{f.Start, "start"}, {f.Stop, "stop"}, {f.Batch, "batch"}, {f.Configure, "configure"}, {f.Save, "save"},
			{f.Resume, "resume"}} {
			if e.there {
				exports = append(exports, e.name)
			}
		}
		row("also has", "%s", cmp.Or(strings.Join(exports, ", "), "none of start, stop, batch"))
	}
	l.write(row)
	for _, e := range f.manifest {
		switch e.Key {
		case "ferrule", "name", "version", "threads", "description":
		default:
			row(e.Key, "%s", e.Value)
		}
	}
	for _, name := range f.Reserved {
		why := "means nothing to the contract"
		if f.Extism {
			why = "cannot be called: it is no C identifier"
		}
		row("reserved", "%s, which %s", name, why)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, part := range []struct {
		title   string
		symbols []symbol
	}{{"functions", f.Functions}, {"hooks", f.Hooks}, {"imports", f.Imports}, {"wants", f.Wants}} {
		if len(part.symbols) == 0 {
			continue
		}
		fmt.Fprintf(w, "  %s\n", part.title)
		for _, s := range part.symbols {
			s.write(w, paint)
		}
	}
	return nil
}

// write writes what every library has, as rows.
func (l *libraryFacts) write(row func(name, format string, args ...any)) {
	wasm, none := l.Format == string(inspect.Wasm), "no library"
	if l.script() {
		row("platform", "any, %s", l.Format)
		row("size", "%s", plural(int(l.Size), "byte"))
		row("sha256", "%s", l.SHA256)
		return
	}
	if wasm {
		none = "no module"
		row("platform", "%s, %s", strings.TrimPrefix(l.OS+"/"+l.Arch, "/"), l.Machine)
	} else {
		row("platform", "%s/%s, %s, %s", cmp.Or(l.OS, "unknown"), cmp.Or(l.Arch, "unknown"), l.Format, l.Machine)
	}
	if len(l.Slices) > 1 {
		row("slices", "%s (%s is described here)", strings.Join(l.Slices, ", "), cmp.Or(l.Arch, l.Machine))
	}
	l.writeSystem(row)
	if l.GoVersion != "" {
		row("Go runtime", "%s; hosts refuse to load it into their process", l.GoVersion)
	}
	row("needs", "%s", cmp.Or(strings.Join(l.Needed, ", "), none))
	row("exports", "%s", plural(l.Exports, "name"))
	if l.StaticTLS != nil && *l.StaticTLS {
		row("static TLS", "yes; loading it may fail in a process that runs")
	}
	if l.SOName != "" {
		row("own name", "%s", l.SOName)
	}
	if len(l.RunPath) > 0 {
		row("search path", "%s", strings.Join(l.RunPath, ":"))
	}
	if l.Hardening != nil {
		row("hardening", "%s", strings.Join(l.Hardening.words(), ", "))
	}
	row("size", "%s", plural(int(l.Size), "byte"))
	row("sha256", "%s", l.SHA256)
}

// script reports whether it is no library, but a script.
func (l *libraryFacts) script() bool {
	return l.Format == string(inspect.JavaScript) || l.Format == string(inspect.Python)
}

// writeSystem writes what the library needs of the system that it runs on.
func (l *libraryFacts) writeSystem(row func(name, format string, args ...any)) {
	switch {
	case l.MinGlibc != "":
		row("C library", "%s, version %s or newer", l.CLibrary, l.MinGlibc)
	case l.CLibrary != "":
		row("C library", "%s", l.CLibrary)
	}
	switch {
	case l.MinOS == "":
	case l.Format == string(inspect.PE):
		row("system", "Windows %s or newer", l.MinOS)
	case l.OS == "darwin":
		row("system", "macOS %s or newer", l.MinOS)
	default:
		row("system", "version %s or newer", l.MinOS)
	}
}

// write writes a symbol with what its meta text says.
func (s *symbol) write(w io.Writer, paint func(colour, text string) string) {
	types := ""
	if s.In != "" || s.Out != "" {
		types = fmt.Sprintf("  %s -> %s", cmp.Or(s.In, "?"), cmp.Or(s.Out, "?"))
	}
	fmt.Fprintf(w, "    %s%s\n", paint(bold, escape.Line(s.Name)), escape.Line(types))
	if s.Doc != "" {
		writeText(w, "      ", s.Doc)
	}
	if s.Schema != "" {
		fmt.Fprintf(w, "      schema %s\n", escape.Line(s.Schema))
	}
	for _, key := range sortedKeys(s.Keys) {
		switch key {
		case "doc", "in", "out", "schema":
		default:
			fmt.Fprintf(w, "      %s %s\n", escape.Line(key), escape.Line(s.Keys[key]))
		}
	}
}

// writeText writes a text of some lines, each behind indent.
func writeText(w io.Writer, indent, text string) {
	for line := range strings.Lines(strings.TrimSpace(escape.Lines(text))) {
		fmt.Fprintln(w, strings.TrimRight(indent+line, " \t\n"))
	}
}

// words says for people what the library is hardened with, and then what it lacks. nil has neither.
func (h *hardening) words() []string {
	if h == nil {
		return nil
	}
	var words []string
	say := func(there bool, yes, no string) {
		if there {
			words = append(words, yes)
		} else if no != "" {
			words = append(words, no)
		}
	}
	if h.RELRO != "" {
		say(h.RELRO != string(inspect.RELRONone), h.RELRO+" RELRO", "no RELRO")
	}
	if h.BindNow != nil {
		say(*h.BindNow, "bound at load", "bound lazily")
	}
	say(h.ExecStack, "EXECUTABLE STACK", "NX stack")
	say(h.WriteExec, "WRITABLE CODE", "")
	if h.TextRel != nil {
		say(*h.TextRel, "TEXT RELOCATIONS", "")
	}
	say(h.ASLR, "any address", "FIXED ADDRESS")
	if h.HighEntropy != nil {
		say(*h.HighEntropy, "64-bit addresses", "")
	}
	if h.GuardCF != nil {
		say(*h.GuardCF, "control flow guard", "no control flow guard")
	}
	if h.Signed != nil {
		say(*h.Signed, "signed (not verified)", "not signed")
	}
	return words
}

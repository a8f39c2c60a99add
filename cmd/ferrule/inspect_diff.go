package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// comparison is what a new version of a plug-in changes. Its JSON is documented in the command's help and grows only.
type comparison struct {
	Old      identity `json:"old"`
	New      identity `json:"new"`
	Breaking bool     `json:"breaking"` // whether any change is
	Changes  []change `json:"changes"`
}

type identity struct {
	File    string `json:"file"`
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

type change struct {
	What     string `json:"what"`           // function, hook, import, or the name of a fact
	Name     string `json:"name,omitempty"` // of the function, the library and so on
	Change   string `json:"change"`         // added, removed, changed
	Field    string `json:"field,omitempty"`
	Old      string `json:"old,omitempty"`
	New      string `json:"new,omitempty"`
	Breaking bool   `json:"breaking"`
	Why      string `json:"why,omitempty"` // what it means for a host
}

// diff compares two libraries, and fails when a host that uses the first could break.
func (a *app) diff(old, new string) error {
	before, err := describe(old)
	if err != nil {
		return failure(err)
	}
	after, err := describe(new)
	if err != nil {
		return failure(err)
	}
	c := compare(before, after)
	if err := a.print(c, c.write); err != nil {
		return err
	}
	if c.Breaking {
		return &exit{code: exitFailed}
	}
	return nil
}

func compare(old, new *description) *comparison {
	c := &comparison{Old: identity{old.File, old.Name, old.Version, old.SHA256},
		New: identity{new.File, new.Name, new.Version, new.SHA256}, Changes: []change{}}
	if !old.Extism || !new.Extism { // those are named after their files
		c.fact("name", old.Name, new.Name, true, "hosts take it for another plug-in")
	}
	c.fact("contract", old.contract(), new.contract(), false, "")
	c.fact("version", old.Version, new.Version, false, "")
	c.threads(old.pluginFacts, new.pluginFacts)
	c.symbols("function", old.Functions, new.Functions)
	c.symbols("hook", old.Hooks, new.Hooks)
	c.symbols("import", old.Imports, new.Imports)
	c.symbols("want", old.Wants, new.Wants)
	for _, e := range []struct {
		name     string
		old, new bool
	}{{"start", old.Start, new.Start}, {"stop", old.Stop, new.Stop}, {"batch", old.Batch, new.Batch},
		{"configure", old.Configure, new.Configure}, {"save", old.Save, new.Save}, {"resume", old.Resume, new.Resume}} {
		c.set("export", listIf(e.old, "ferrule_"+e.name), listIf(e.new, "ferrule_"+e.name), nil, nil)
	}
	c.keys("manifest", "", old.Keys, new.Keys, "ferrule", "name", "version", "threads")
	c.fact("configSchema", old.Schema, new.Schema, old.Schema != "", "it may refuse the configuration that a host gives it")
	c.set("reserved", old.Reserved, new.Reserved, nil, nil)
	c.fact("os", old.OS, new.OS, true, "it cannot be loaded where the old one was")
	c.fact("cLibrary", old.CLibrary, new.CLibrary, new.CLibrary != "", "it cannot be loaded where another C library is")
	c.fact("minGlibc", old.MinGlibc, new.MinGlibc, newer(old.MinGlibc, new.MinGlibc), "it cannot be loaded where glibc is older")
	c.fact("minOS", old.MinOS, new.MinOS, newer(old.MinOS, new.MinOS), "it may not load where the system is older")
	c.fact("format", old.Format, new.Format, false, "")
	c.set("architecture", old.Slices, new.Slices, nil,
		func(string) string { return "it cannot be loaded there any more" })
	c.set("needed", old.Needed, new.Needed, func(name string) string {
		if systemLibrary(new.Format, name) {
			return ""
		}
		if new.Format == string(inspect.Wasm) {
			return "a host that does not offer the module cannot open the plug-in"
		}
		return "it must be installed where the plug-in is loaded"
	}, nil)
	c.fact("staticTLS", yesNo(old.StaticTLS), yesNo(new.StaticTLS), yesNo(new.StaticTLS) == "yes", "loading it may fail in a process that runs")
	c.fact("soname", old.SOName, new.SOName, false, "")
	c.fact("runpath", strings.Join(old.RunPath, ":"), strings.Join(new.RunPath, ":"), false, "")
	c.fact("goVersion", old.GoVersion, new.GoVersion, old.GoVersion == "", "hosts refuse to load a second Go runtime")
	c.fact("hardening", strings.Join(old.Hardening.words(), ", "), strings.Join(new.Hardening.words(), ", "), false, "")
	for _, change := range c.Changes {
		c.Breaking = c.Breaking || change.Breaking
	}
	return c
}

// contract says whose contract the plug-in keeps.
func (f *pluginFacts) contract() string {
	if f.Extism {
		return "Extism's"
	}
	return strconv.Itoa(f.ABI)
}

// add appends a change; only one that breaks hosts says why.
func (c *comparison) add(ch change, why string) {
	if ch.Breaking = why != ""; ch.Breaking {
		ch.Why = why
	}
	c.Changes = append(c.Changes, ch)
}

// fact compares one value.
func (c *comparison) fact(what, old, new string, breaking bool, why string) {
	if old == new {
		return
	}
	kind := "changed"
	switch "" {
	case old:
		kind = "added"
	case new:
		kind = "removed"
	}
	if !breaking {
		why = ""
	}
	c.add(change{What: what, Change: kind, Old: old, New: new}, why)
}

// threads compares what may run at the same time.
func (c *comparison) threads(old, new *pluginFacts) {
	if old.Threads == new.Threads {
		return
	}
	ch := change{What: "threads", Change: "changed", Old: old.Threads, New: new.Threads}
	if old.Threads != abi.Concurrent.String() {
		c.add(ch, "")
		return
	}
	if len(new.Imports) > 0 {
		c.add(ch, "a host function that calls the plug-in back is refused")
		return
	}
	ch.Why = "calls wait for each other"
	c.add(ch, "")
}

// set compares two lists of names. added and removed say what that breaks, if anything; nil breaks nothing.
func (c *comparison) set(what string, old, new []string, added, removed func(string) string) {
	why := func(f func(string) string, name string) string {
		if f == nil {
			return ""
		}
		return f(name)
	}
	for _, name := range old {
		if !slices.Contains(new, name) {
			c.add(change{What: what, Name: name, Change: "removed"}, why(removed, name))
		}
	}
	for _, name := range new {
		if !slices.Contains(old, name) {
			c.add(change{What: what, Name: name, Change: "added"}, why(added, name))
		}
	}
}

// symbols compares functions, hooks, imports or wants.
func (c *comparison) symbols(what string, old, new []symbol) {
	names := func(list []symbol) (names []string) {
		for _, s := range list {
			names = append(names, s.Name)
		}
		return names
	}
	switch what {
	case "import":
		unoffered := func(string) string { return "a host that does not offer it cannot open the plug-in" }
		c.set(what, names(old), names(new), unoffered, nil)
	case "want":
		c.set(what, names(old), names(new), nil, nil)
	default:
		c.set(what, names(old), names(new), nil, func(string) string { return "a host that calls it fails" })
	}
	for _, s := range old {
		i := slices.IndexFunc(new, func(n symbol) bool { return n.Name == s.Name })
		if i < 0 {
			continue
		}
		c.keys(what, s.Name, s.Keys, new[i].Keys)
	}
}

// keys compares the keys of a manifest or of a meta text.
func (c *comparison) keys(what, name string, old, new map[string]string, but ...string) {
	for _, key := range sortedKeys(old, new) {
		before, had := old[key]
		after, has := new[key]
		if slices.Contains(but, key) || had == has && before == after {
			continue
		}
		ch := change{What: what, Name: name, Field: key, Change: "changed", Old: before, New: after}
		why := ""
		if had && what != "manifest" && (key == "in" || key == "out" || key == "schema" || key == "stream") {
			why = "what goes in or comes out may be something else"
		}
		switch {
		case !had:
			ch.Change = "added"
		case !has:
			ch.Change = "removed"
		}
		c.add(ch, why)
	}
}

func sortedKeys(texts ...map[string]string) []string {
	all := map[string]string{}
	for _, text := range texts {
		maps.Copy(all, text)
	}
	return slices.Sorted(maps.Keys(all))
}

func listIf(there bool, name string) []string {
	if there {
		return []string{name}
	}
	return nil
}

// newer reports whether a version is newer than the old one, number by number. Any is newer than none.
func newer(old, new string) bool {
	numbers := func(version string) (all []int) {
		for part := range strings.SplitSeq(version, ".") {
			n, _ := strconv.Atoi(part) // package inspect has no others
			all = append(all, n)
		}
		return all
	}
	return new != "" && (old == "" || slices.Compare(numbers(new), numbers(old)) > 0)
}

// yesNo is what a fact says that not every format has.
func yesNo(fact *bool) string {
	switch {
	case fact == nil:
		return ""
	case *fact:
		return "yes"
	}
	return "no"
}

// systemLibraries are there on every system of their kind: what the system and its C library bring along, by the format of
// the library that is linked to them. A Mach-O file names them by their paths, a PE file in any case. Of WebAssembly they are the
// modules that engines offer.
var systemLibraries = map[string]*regexp.Regexp{
	string(inspect.ELF): regexp.MustCompile(`^(lib(c|m|dl|rt|pthread|gcc_s)\.so(\.[0-9]+)*|ld(64)?(-linux[-a-z0-9_]*)?\.so\.[0-9]+|` +
		`ld-musl-[a-z0-9_]+\.so\.1|libc\.musl-[a-z0-9_]+\.so\.1)$`),
	string(inspect.Wasm):  regexp.MustCompile(`^(ferrule|wasi_snapshot_preview1|extism:host/(env|user))$`),
	string(inspect.MachO): regexp.MustCompile(`^(/usr/lib|/System/Library)/`),
	string(inspect.PE): regexp.MustCompile(`(?i)^((api|ext)-ms-win-[-a-z0-9]+|advapi32|bcrypt|bcryptprimitives|cfgmgr32|combase|comctl32|comdlg32|` +
		`crypt32|dbghelp|dnsapi|gdi32|imm32|iphlpapi|kernel32|kernelbase|mswsock|msvcrt|ncrypt|netapi32|ntdll|ole32|oleaut32|powrprof|` +
		`propsys|psapi|rpcrt4|secur32|setupapi|shell32|shlwapi|ucrtbase|user32|userenv|version|winhttp|wininet|winmm|wintrust|ws2_32)\.dll$`),
}

func systemLibrary(format, name string) bool {
	known := systemLibraries[format]
	return known != nil && known.MatchString(name)
}

// write writes the comparison for people.
func (c *comparison) write(w io.Writer) error {
	paint := painter(w)
	title := func(id identity) string { return escape.Line(id.Name + " " + id.Version) }
	fmt.Fprintf(w, "%s -> %s\n", paint(bold, title(c.Old)), paint(bold, title(c.New)))
	if len(c.Changes) == 0 {
		_, err := fmt.Fprintln(w, "Nothing has changed for hosts.")
		return err
	}
	var lines strings.Builder
	table := tabwriter.NewWriter(&lines, 0, 0, 2, ' ', 0)
	breaking := 0
	for _, ch := range c.Changes {
		mark := "ok"
		if ch.Breaking {
			mark = "BREAKING"
			breaking++
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", mark, escape.Line(strings.TrimSpace(ch.What+" "+ch.Name)), escape.Line(ch.text()))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(lines.String()) { // coloured after it was aligned: colours have no width
		if rest, ok := strings.CutPrefix(line, "  BREAKING"); ok {
			line = "  " + paint(red, "BREAKING") + rest
		} else if rest, ok := strings.CutPrefix(line, "  ok"); ok {
			line = "  " + paint(green, "ok") + rest
		}
		fmt.Fprint(w, line)
	}
	verdict := "nothing that breaks a host"
	if breaking > 0 {
		verdict = fmt.Sprintf("%d that could break a host", breaking)
	}
	changes := "changes"
	if len(c.Changes) == 1 {
		changes = "change"
	}
	_, err := fmt.Fprintf(w, "%d %s, %s.\n", len(c.Changes), changes, verdict)
	return err
}

// text says what has changed.
func (ch *change) text() string {
	text := ch.Change
	if ch.Field != "" {
		text = ch.Field + " " + text
	}
	const most = 60 // letters of a value: schemas are long
	short := func(value string) string {
		if runes := []rune(value); len(runes) > most {
			return string(runes[:most]) + "…"
		}
		return value
	}
	switch {
	case ch.Old != "" && ch.New != "":
		text += fmt.Sprintf(": %s -> %s", short(ch.Old), short(ch.New))
	case ch.Old != "" || ch.New != "":
		text += ": " + short(ch.Old+ch.New)
	}
	if ch.Why != "" {
		text += " (" + ch.Why + ")"
	}
	return text
}

package check

import (
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// static is what a static case has: the file as inspect read it, or its error.
type static struct {
	path   string
	lib    *inspect.Library // nil with an error
	err    error
	result *Result
}

func (s *static) find(f Finding) { s.result.Findings = append(s.result.Findings, f) }

// ruleNumber is where an error of inspect's says which rule it is about.
var ruleNumber = regexp.MustCompile(`\(rule (R\d+)\)`)

// refused reports inspect's error, if it is of one of these kinds.
func (s *static) refused(rule, mend string, kinds ...error) {
	e, ok := errors.AsType[*inspect.Error](s.err)
	if !ok || !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(e, kind) }) {
		return
	}
	f := Finding{Rule: rule, Severity: Error, Seen: e.Found, Expected: e.Expected, Mend: mend}
	if e.Remedy != "" {
		f.Mend = e.Remedy
	}
	if cause, ok := errors.AsType[*abi.TextError](e.Err); ok {
		f.Rule, f.Seen, f.Expected = cause.Rule, cause.Found, cause.Expected
		if cause.Key != "" && !strings.HasPrefix(cause.Found, "the key ") {
			f.Seen = "the key " + cause.Key + ": " + f.Seen
		}
	} else if cause, ok := errors.AsType[*abi.MajorError](e.Err); ok {
		f.Seen, f.Expected = "ferrule="+cause.Found, fmt.Sprintf("ferrule=%d", abi.Major)
	}
	if m := ruleNumber.FindStringSubmatch(e.Expected); m != nil {
		f.Rule = m[1]
	}
	if f.Seen == "" {
		f.Seen = e.Kind.Error()
	}
	if f.Expected == "" {
		f.Expected = "a library that follows the rule"
	}
	if e.Symbol != "" {
		f.Seen = e.Symbol + ": " + f.Seen
	}
	s.find(f)
}

func checkManifest(s *static) {
	s.refused("R1", "Write the manifest with FERRULE_PLUGIN", inspect.ErrNoContract, inspect.ErrManifest, inspect.ErrMajor)
}

func checkNames(s *static) {
	s.refused("R2", "Give each function, hook and import a C identifier of its own, and export code for functions, data for the rest",
		inspect.ErrName, inspect.ErrDuplicate, inspect.ErrSymbol)
	if s.lib != nil && len(s.lib.Reserved) > 0 {
		s.find(Finding{Rule: "R2", Severity: Warning, Seen: "the exported names " + list(s.lib.Reserved),
			Expected: "no ferrule_ names but the contract's, and no text about a symbol that is not there",
			Mend:     "Rename them; names that start with ferrule_ belong to later versions of the contract"})
	}
}

// maxItems and maxItem bound a list of R32: its items, and the bytes of each.
const maxItems, maxItem = 64, 256

// one returns what is wrong with the value of a key that can only have some.
func one(key, value string) (expected string) {
	switch key {
	case "wrap", "optional", "idempotent", "quick":
		if value != "yes" {
			return "yes"
		}
	case "order":
		if value != "first" && value != "last" {
			return "first or last"
		}
	case "priority":
		if _, err := strconv.Atoi(value); err != nil {
			return "an integer"
		}
	case "permit.memory":
		if _, err := strconv.ParseUint(value, 10, 63); err != nil {
			return "a number of bytes"
		}
	case "before", "after", "provides", "requires", "conflicts", "permit.read", "permit.write", "permit.connect", "permit.listen":
		items := strings.Split(value, "\n")
		if len(items) > maxItems || slices.ContainsFunc(items, func(s string) bool { return s == "" || len(s) > maxItem }) {
			return fmt.Sprintf("a list: one item a line, %d items at most, each of 1 to %d bytes", maxItems, maxItem)
		}
		for _, item := range items {
			if expected := oneItem(key, item); expected != "" {
				return expected
			}
		}
	case "version":
		if !isVersion(value) {
			return "a semantic version, such as 1.2.0: any other is in no range that a host or a plug-in asks for"
		}
	default:
		if strings.HasPrefix(key, "host.") && !isRange(value) {
			return "a range of versions, such as ^1.2"
		}
	}
	return ""
}

// oneItem is one for an item of a list, where package plugins refuses others.
func oneItem(key, item string) (expected string) {
	switch key {
	case "permit.read", "permit.write":
		if !absoluteSomewhere.MatchString(item) {
			return "absolute paths"
		}
	case "permit.connect", "permit.listen":
		switch port, err := strconv.ParseUint(item, 10, 16); {
		case key == "permit.listen" && err != nil:
			return "ports from 0 to 65535"
		case key == "permit.connect" && (err != nil || port == 0):
			return "ports from 1 to 65535"
		}
	case "requires", "conflicts":
		if m := nameAndRange.FindStringSubmatch(item); m == nil || !isRange(m[1]) {
			return "the name of a plug-in, and a range of versions, such as auth ^1.2"
		}
	}
	return ""
}

var (
	absoluteSomewhere = regexp.MustCompile(`^(?:[/\\]|[A-Za-z]:[/\\])`) // the library may be another system's
	nameAndRange      = regexp.MustCompile(`^\s*[A-Za-z0-9_.-]+((?s).*)$`)
)

// isVersion and isRange read as package plugins does.
func isVersion(version string) bool {
	bare, read := strings.TrimPrefix(version, "v"), semver.NewVersion
	if strings.ContainsAny(bare, "-+") {
		read = semver.StrictNewVersion // 2024-01 is a date
	}
	_, err := read(bare)
	return err == nil
}

func isRange(text string) bool {
	text = strings.TrimSpace(text)
	_, err := semver.NewConstraint(text)
	return text == "" || err == nil
}

func checkWords(s *static) {
	if s.lib == nil {
		s.result.Reason = "the file cannot be read as a plug-in"
		return
	}
	const manifest = "the manifest"
	look := func(where string, text abi.Text, keys ...string) {
		for _, kv := range text {
			if kv.Value == "" || !slices.Contains(keys, kv.Key) && (where != manifest || !strings.HasPrefix(kv.Key, "host.")) { // an empty value is as good as no key (R3)
				continue
			}
			if expected := one(kv.Key, kv.Value); expected != "" {
				mend := "Give the key a value that hosts know, or use a key of your own, x-" + kv.Key
				if kv.Key == "version" {
					mend = "Write three numbers with dots between them"
				}
				s.find(Finding{Rule: "R32", Severity: Warning, Seen: fmt.Sprintf("%s: %s=%.60q", where, kv.Key, kv.Value), Expected: expected, Mend: mend})
			}
		}
	}
	m := s.lib.Manifest
	look(manifest, m.Keys, "version", "provides", "requires", "conflicts", "permit.read", "permit.write", "permit.connect", "permit.listen", "permit.memory")
	if name := m.Keys.Get("health"); name != "" && !slices.ContainsFunc(s.lib.Funcs, func(f abi.Symbol) bool { return f.Name == name }) {
		s.find(Finding{Rule: "R32", Severity: Warning, Seen: fmt.Sprintf("the manifest: health=%.60q, and no such function", name),
			Expected: "the name of a function of the library's", Mend: "Name one, without ferrule_fn_"})
	}
	if text := m.Keys.Get("provides"); text != "" {
		for _, name := range strings.Split(text, "\n") {
			if name != "" && !slices.ContainsFunc(s.lib.Funcs, func(f abi.Symbol) bool { return f.Name == name }) {
				s.find(Finding{Rule: "R32", Severity: Warning, Seen: fmt.Sprintf("the manifest: provides=%.60q, and no such function", name),
					Expected: "the names of functions of the library's", Mend: "Name them, without ferrule_fn_"})
			}
		}
	}
	for _, f := range s.lib.Funcs {
		look(f.Name, f.Keys, "idempotent", "quick")
	}
	if engines.IsScript(s.lib) {
		checkScriptWords(s)
	}
	for _, h := range s.lib.Hooks {
		look("hook "+h.Name, h.Keys, "idempotent", "quick", "order", "before", "after", "priority", "wrap", "optional")
	}
}

// foreign returns what the library is built for, when that is not this system.
func foreign(lib *inspect.Library) string {
	if engines.IsPortable(lib) || lib.OS == runtime.GOOS && slices.Contains(lib.Archs, runtime.GOARCH) {
		return ""
	}
	arch := lib.Machine
	if lib.Arch != "" {
		arch = strings.Join(lib.Archs, ", ")
	}
	if lib.OS == "" {
		return arch
	}
	return lib.OS + "/" + arch
}

func checkArchitecture(s *static) {
	if s.lib == nil {
		s.result.Reason = "the file cannot be read as a plug-in"
		return
	}
	if found := foreign(s.lib); found != "" {
		s.find(Finding{Rule: "R4", Severity: Error, Seen: "a library for " + found,
			Expected: runtime.GOOS + "/" + runtime.GOARCH + ", where it is to be checked",
			Mend:     "Build it for this system, or check it on the system that it is for"})
	}
}

func checkStack(s *static) {
	switch {
	case s.lib == nil:
		s.result.Reason = "the file cannot be read as a plug-in"
	case s.lib.Format == inspect.ELF && s.lib.Hardening.ExecStack: // other systems make no stack executable for a library
		s.find(Finding{Rule: "R20", Severity: Error, Seen: "a library that has the stacks of the whole process made executable",
			Expected: "stacks that are data; loader.Open refuses others, unless the host allows them (WithExecutableStack)",
			Mend:     "Link with -Wl,-z,noexecstack, and give assembly files .section .note.GNU-stack,\"\",%progbits"})
	}
}

// byLinkers are names that linkers and compilers export on their own.
var byLinkers = []string{"_init", "_fini", "_start", "_end", "end", "_edata", "edata", "_etext", "etext",
	"__bss_start", "__bss_start__",
	"__bss_end__", "_bss_end__", "__end__", "_dyld_private", "__mh_dylib_header", "rust_eh_personality"}

func checkSymbols(s *static) {
	if s.lib == nil {
		s.result.Reason = "the file cannot be read as a plug-in"
		return
	}
	if engines.IsScript(s.lib) {
		checkScriptSymbols(s)
		return
	}
	if len(s.lib.Funcs) == 0 && len(s.lib.Hooks) == 0 {
		s.find(Finding{Rule: "R2", Severity: Warning, Seen: "no exported ferrule_fn_ and no ferrule_hook_",
			Expected: "a function or a hook, for the host to call",
			Mend:     "Write one with FERRULE_FN or #[ferrule::export], and see that the linker does not hide it"})
	}
	names, reason := exported(s.path, s.lib)
	if reason != "" {
		s.result.Notes = append(s.result.Notes, reason)
	}
	var other []string
	for _, name := range names {
		if strings.HasPrefix(name, "_ZTI") || strings.HasPrefix(name, "_ZTS") {
			continue // types of C++, which are visible so that exceptions find them
		}
		if strings.HasPrefix(name, "__odr_asan.") {
			continue // AddressSanitizer's
		}
		if s.lib.GoVersion != "" && slices.ContainsFunc(byGo, func(lead string) bool { return strings.HasPrefix(name, lead) }) {
			continue
		}
		if kind, _ := abi.ParseSymbol(name); kind == abi.KindOther && !slices.Contains(byLinkers, name) {
			other = append(other, name)
		}
	}
	if len(other) > 0 {
		slices.Sort(other)
		s.find(Finding{Rule: "R2", Severity: Warning,
			Seen:     fmt.Sprintf("%s: %s", plural(len(other), "more exported name"), list(other)),
			Expected: "only what starts with ferrule_",
			Mend: "Compile with -fvisibility=hidden, or, where names of the C++ library are left, link with a version script, { global: ferrule_*; local: *; };: " +
				"where the host exports a name as well (-rdynamic), the library calls the host's"})
	}
}

// byGo is how the names begin that Go's linker exports of each library with cgo, and nobody can hide.
var byGo = []string{"_cgo", "x_cgo_", "crosscall", "x_crosscall", "fatalf"}

// exported returns the names that the library exports, or why it cannot say.
func exported(path string, lib *inspect.Library) (names []string, reason string) {
	switch lib.Format {
	case inspect.ELF:
		f, err := elf.Open(path)
		if err != nil {
			return nil, "other exported names were not looked at: " + err.Error()
		}
		defer f.Close()
		symbols, err := f.DynamicSymbols()
		if err != nil {
			return nil, "other exported names were not looked at: " + err.Error()
		}
		for _, s := range symbols {
			bind, visible := elf.ST_BIND(s.Info), elf.ST_VISIBILITY(s.Other)
			if s.Section != elf.SHN_UNDEF && s.Section != elf.SHN_ABS && s.Name != "" &&
				(bind == elf.STB_GLOBAL || bind == elf.STB_WEAK) && (visible == elf.STV_DEFAULT || visible == elf.STV_PROTECTED) {
				names = append(names, s.Name)
			}
		}
		return slices.Compact(names), ""
	case inspect.MachO:
		f, err := macho.Open(path)
		if err != nil {
			return nil, "other exported names were not looked at: " + err.Error()
		}
		defer f.Close()
		if f.Symtab == nil {
			return nil, "other exported names were not looked at: the file has no symbol table"
		}
		for _, s := range f.Symtab.Syms {
			const external, private, stab, kind = 0x01, 0x10, 0xe0, 0x0e
			if s.Type&external != 0 && s.Type&(private|stab) == 0 && s.Type&kind != 0 {
				names = append(names, strings.TrimPrefix(s.Name, "_"))
			}
		}
		return names, ""
	}
	return nil, fmt.Sprintf("other exported names were not looked at: not done for %s files", lib.Format)
}

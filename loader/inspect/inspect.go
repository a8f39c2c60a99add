// Package inspect reads a plug-in's file without executing any of it, on any operating system, for ELF, Mach-O
// (thin and fat), PE, WebAssembly modules and scripts: its name and version, its functions with their documentation, what it needs from the host, and
// what it is built for.
//
// It lists what the dynamic linker will see, so it reads what the dynamic linker reads: program headers and the dynamic
// section of ELF, the export trie of Mach-O, the export directory of PE. Section headers and debug symbols may be
// stripped. It also refuses what would take the process along that loads it: a truncated file, a function that is not
// code, an import slot that cannot be written.
//
// # Caveats
//
//   - A file that passes is well formed, not harmless: its code runs when it is loaded.
//   - The file may change between [File] and the time it is loaded. To rule that out, [Read] bytes that nobody else
//     can write, and load those.
//   - Of a fat Mach-O file one slice is described: the one for runtime.GOARCH, or else the first.
//   - Mach-O and PE do not say how long a symbol's text is. A text without an end is found there only when what follows
//     it is not its end by chance; ELF says the length.
//   - Relocations of the manifest are found in ELF (not in Android's packed form) and in PE. In Mach-O such a manifest
//     is refused because its bytes in the file are not one.
//   - GoVersion shows that a library embeds the Go runtime, for honest files: whoever wants to hide it can.
//   - Of a WebAssembly module the bodies of functions are not read: whether they are valid is found when it is compiled. The memory is
//     as its data segments with constant addresses make it, before anything runs.
//   - Of a script the header is read, the comments at its top, and nothing else: whether it has the functions that its header names is found when it is
//     opened.
//   - A name exported through a PE forwarder or a Mach-O re-export is refused: the code is in another library.
package inspect

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// Format is a file format of libraries, or the language of a script.
type Format string

// The formats, and the languages.
const (
	ELF   Format = "ELF"
	MachO Format = "Mach-O"
	PE    Format = "PE"
	Wasm  Format = "WebAssembly"

	JavaScript Format = "JavaScript"
	Python     Format = "Python"
)

// Library is what a plug-in library's file says of itself.
type Library struct {
	Path   string // as it was given to File; "" from Read
	Size   int64  // of the whole file, in bytes
	Format Format // ELF, MachO, PE, Wasm, JavaScript or Python

	OS      string   // a GOOS word, such as linux, darwin, windows; "" when Go has no word for it
	Arch    string   // a GOARCH word; "" when Go has no word for it
	Machine string   // the machine in words, for error messages, such as "AArch64 (EM 183)"; a script's language
	Archs   []string // of each slice of a fat Mach-O file, else of the one there is: Arch, or Machine where that is ""

	// Description is what it says as a plug-in. A script has a start, its top level, and the services that its header lists. Manifest is nil only from Describe, of a library that is no plug-in: then
	// what belongs to the contract, down to Reserved, is empty.
	abi.Description
	// NotPlugin says why a library that Describe read is no plug-in, or a faulty one: the error that File returns. nil of
	// a plug-in.
	NotPlugin *Error

	// Extism says that it is a plug-in of Extism's: a WebAssembly module that exports nothing of the contract and imports functions of Extism's
	// kernel, extism:host/env. It says nothing of itself: its name is its file's, without .wasm ("extism" from Read, until SetPath), its
	// version 0; it is serial. Its functions are those that a host of Extism's may call, and its imports the host functions of
	// extism:host/user. Functions that such a host may call under names that are no C identifiers are in Reserved.
	Extism bool

	// Reserved are the exported ferrule_ names that the contract does not know (rule R2), and texts about symbols that
	// are not there, sorted.
	Reserved []string

	Needed  []string // the libraries that it is linked to, as it names them; of a WebAssembly module the modules that it imports functions from
	SOName  string   // its own name in the file: DT_SONAME, LC_ID_DYLIB, the export directory's name; may be empty
	RunPath []string // where the dynamic linker looks for Needed first: DT_RUNPATH or DT_RPATH, LC_RPATH
	RPath   bool     // RunPath is DT_RPATH, which also counts for what the libraries in Needed are linked to

	// GoVersion is not empty when the library embeds a Go runtime (-buildmode=c-shared), also when it is stripped: the
	// version, such as "go1.26.0", or "unknown".
	GoVersion string

	Hardening Hardening // what makes its faults harder to abuse

	// CLibrary is the C library that it is linked to, with ELF: "" when it is linked to none, or to that of a system
	// that has only one.
	CLibrary CLibrary
	// MinGlibc is the newest version of glibc that it needs a symbol of, such as "2.34": it loads on no older one.
	// "" when it needs none.
	MinGlibc string
	// MinOS is the oldest version of the system that it says it runs on: of macOS (iOS …), such as "11.0", or of
	// Windows (the subsystem version: "6.1" is Windows 7). "" where the file does not say, as ELF never does.
	MinOS string
	// StaticTLS (ELF: DF_STATIC_TLS) says that its thread-local variables need room that a process has little of once
	// it runs: loading it may fail there.
	StaticTLS bool

	// Exports are all names that a look-up finds in the library, sorted, the contract's and others, as C writes them.
	// Only Describe lists them; nil otherwise.
	Exports []string
}

// Hardening is what the file asks of the system that loads it, to make the library's faults harder to abuse. What a
// format does not have is false or empty.
type Hardening struct {
	// ASLR says that the library may be loaded at any address, as position-independent code may: each ELF and Mach-O
	// library, and a PE one that asks for it (DYNAMIC_BASE) and kept its relocations.
	ASLR bool
	// HighEntropy (PE) says that it may also be above the first 4 GiB.
	HighEntropy bool

	// ExecStack says that the process's stacks may become executable: with PT_GNU_STACK executable, or without one on
	// machines where that means the same; in Mach-O by MH_ALLOW_STACK_EXECUTION, in PE without NX_COMPAT.
	ExecStack bool
	// WriteExec says that a part of the library is writable and executable at the same time.
	WriteExec bool
	// TextRel (ELF) says that the dynamic linker has to write to code.
	TextRel bool

	// RELRO (ELF) says how much of what the dynamic linker fills in is made read-only afterwards.
	RELRO RELRO
	// BindNow (ELF) says that every imported symbol is looked up when the library is loaded, not when it is first used.
	BindNow bool

	// GuardCF (PE) says that indirect calls are checked: Control Flow Guard.
	GuardCF bool

	// Signed says that a signature is in the file: LC_CODE_SIGNATURE in Mach-O, Authenticode in PE. It is not verified.
	Signed bool
}

// RELRO is a level of protection of what the dynamic linker fills in.
type RELRO string

// The levels, from the least to the most. Only ELF has them.
const (
	RELRONone    RELRO = "none"    // no PT_GNU_RELRO
	RELROPartial RELRO = "partial" // all but the table of functions that are looked up when they are first used
	RELROFull    RELRO = "full"    // that, too: PT_GNU_RELRO with BindNow
)

// File reads the library at path. It never blocks on a fifo and opens nothing but regular files.
//
// # Errors
//
// Every error is an *Error whose Kind is one of this package's Err variables. A missing file also matches
// fs.ErrNotExist.
func File(path string) (*Library, error) { return file(path, Read) }

// Describe reads the library at path as File does, and also one that is no plug-in, or whose contract is faulty: then
// Manifest is nil, and NotPlugin is the error that File returns. It lists all exported names, too, so it takes longer.
//
// Its errors are those of File about files that are no library at all, or a damaged one.
func Describe(path string) (*Library, error) { return file(path, DescribeReader) }

func file(path string, read func(io.ReaderAt, int64) (*Library, error)) (*Library, error) {
	lib, err := readFile(path, read)
	if e, ok := err.(*Error); ok {
		e.SetPath(path)
	}
	if lib != nil {
		lib.SetPath(path)
	}
	return lib, err
}

func readFile(path string, read func(io.ReaderAt, int64) (*Library, error)) (*Library, error) {
	if path == "" {
		return nil, &Error{Kind: ErrNotRegular, Found: "an empty path", Expected: wantLibrary, Remedy: "Give the path of a library"}
	}
	f, kind, err := libfile.Open(path)
	if err == libfile.ErrNotRegular {
		return nil, &Error{Kind: ErrNotRegular, Found: libfile.Kind(kind), Expected: wantLibrary, Remedy: "Give the path of the library itself"}
	}
	if err != nil {
		return nil, &Error{Kind: ErrRead, Err: err, Remedy: libfile.Remedy(err)}
	}
	defer f.Close()
	return read(f, f.Size)
}

// Recognises reports whether a file that begins with head is native code, in a format that this package reads: the first 4 KiB are enough.
// It may be broken, and it may be a program rather than a library. IsWasm is for WebAssembly.
func Recognises(head []byte) bool {
	return hasPrefix(head, "\x7fELF") || isMachO(head) || isFat(head) || hasPrefix(head, "MZ")
}

// Read reads the library whose size bytes are in r. Its errors are those of File, without a Path.
func Read(r io.ReaderAt, size int64) (*Library, error) { return read(r, size, false) }

// DescribeReader is Describe of the library whose size bytes are in r.
func DescribeReader(r io.ReaderAt, size int64) (*Library, error) { return read(r, size, true) }

func read(r io.ReaderAt, size int64, all bool) (*Library, error) {
	if size <= 0 {
		return nil, notLibrary(anEmptyFile)
	}
	lib := &Library{Size: size}
	m := newImage(r, uint64(size))
	defer m.done()
	x := &exports{all: all, list: m.buffers.exports[:0]}
	if err := lib.read(m, x); err != nil {
		return nil, err
	}
	if all {
		slices.Sort(x.names)
		lib.Exports = slices.Compact(x.names)
	}
	return lib, nil
}

// read fills lib from the file in m.
func (lib *Library) read(m *image, x *exports) error {
	head, err := m.view("the start of the file", 0, min(m.size, 4096))
	if err != nil {
		return err
	}
	switch {
	case hasPrefix(head, "\x7fELF"):
		return lib.readELF(m, x)
	case isMachO(head):
		return lib.readMachO(m, x)
	case isFat(head):
		return lib.readFat(m, x)
	case hasPrefix(head, "MZ"):
		return lib.readPE(m, x)
	case IsWasm(head):
		return lib.readWasm(m, x)
	}
	if language := ScriptOf(head); language != "" {
		return lib.readScript(m, language, x.all)
	}
	e := notLibrary(describe(head))
	e.runs = RunsOther(head)
	return e
}

// export is an exported symbol that belongs to the contract, as the file's export table has it.
type export struct {
	name       string
	addr, size uint64 // size is 0 where the file does not say
	hidden     bool   // an ELF symbol version that is not the default: a look-up by name does not find it
	elsewhere  string // not "" when it has no address in this library: what it is instead
}

// usualExports is how many of them the memory at first is for, which nobody keeps.
const usualExports = 32

// exports collects the exported symbols of the contract, and the names of all others where all is set.
type exports struct {
	list  []export
	all   bool
	names []string
	bytes uint64 // of the names

	// strings returns a table where a name may stand that is only almost the contract's; for the error of a file that
	// exports no manifest.
	strings func() (names, error)
}

// name takes the name at off in a string table, of any exported symbol.
func (x *exports) name(table names, off uint32) error {
	return x.addName(table.at(off, len(table.bytes)))
}

// addName takes the name of any exported symbol.
func (x *exports) addName(name string) error {
	if x.bytes += uint64(len(name)); x.bytes > maxTable {
		return tooLong(x.bytes, "bytes of exported names")
	}
	x.names = append(x.names, name)
	return nil
}

// add takes a symbol under its raw name: what the format puts before names of C, ferrule_, and so on.
func (x *exports) add(raw, lead string, e export) error {
	name := raw[len(lead):]
	if len(raw) >= maxSymbol {
		return &Error{Symbol: name[:40] + "…", Kind: ErrName, Found: fmt.Sprintf("%d bytes or more", maxSymbol),
			Expected: fmt.Sprintf("a C identifier of 1 to %d bytes (rule R2)", abi.MaxName), Remedy: "Rename it"}
	}
	if len(x.list) == maxExports {
		return malformed("more than %d exported ferrule_ symbols", maxExports)
	}
	e.name = name
	x.list = append(x.list, e)
	return nil
}

// readContract fills lib from what the file exports. Where all libraries are described, a fault in the contract is a fact.
func (lib *Library) readContract(m *image, x *exports) error {
	err := lib.readPlugin(m, x)
	fault, ok := err.(*Error)
	if !ok || !x.all || fault.Kind == ErrRead || fault.Kind == ErrTruncated || fault.Kind == ErrMalformed {
		return err
	}
	lib.Description, lib.Reserved, lib.NotPlugin = abi.Description{}, nil, fault
	return nil
}

// readPlugin fills lib from what the file exports of the contract.
func (lib *Library) readPlugin(m *image, x *exports) error {
	list, err := x.visible()
	if err != nil {
		return err
	}
	// The manifest comes first: in another major version the other symbols may mean something else.
	i, ok := slices.BinarySearchFunc(list, abi.SymbolManifest, func(e export, name string) int {
		return strings.Compare(e.name, name)
	})
	if !ok {
		return x.noContract()
	}
	t := &texts{image: m}
	if lib.Manifest, err = t.manifest(&list[i]); err != nil {
		return err
	}
	metas := map[string]abi.Text{} // by the name of the symbol that they are about
	// Sorted by their names, the functions come first, then the hooks, the imports and the wants.
	symbols := make([]abi.Symbol, 0, len(list))
	for i := range list {
		e := &list[i]
		kind, name := abi.ParseSymbol(e.name)
		switch kind {
		case abi.KindFunc, abi.KindHook, abi.KindImport, abi.KindWant, abi.KindFuncMeta, abi.KindHookMeta, abi.KindImportMeta, abi.KindWantMeta:
			if !abi.ValidName(name) {
				return &Error{Symbol: e.name, Kind: ErrName, Found: fmt.Sprintf("%.140q (%s)", name, count.Of(len(name), "byte")),
					Expected: fmt.Sprintf("a C identifier of 1 to %d bytes (rule R2)", abi.MaxName),
					Remedy:   "Rename it"}
			}
		}
		switch kind {
		case abi.KindFunc:
			symbols = append(symbols, abi.Symbol{Name: name})
			lib.Funcs = symbols
		case abi.KindHook:
			symbols = append(symbols, abi.Symbol{Name: name})
			lib.Hooks = symbols[len(lib.Funcs):]
		case abi.KindImport:
			symbols = append(symbols, abi.Symbol{Name: name})
			lib.Imports = symbols[len(lib.Funcs)+len(lib.Hooks):]
			if err := m.checkSlot(e); err != nil {
				return err
			}
		case abi.KindWant:
			symbols = append(symbols, abi.Symbol{Name: name})
			lib.Wants = symbols[len(lib.Funcs)+len(lib.Hooks)+len(lib.Imports):]
			if err := m.checkSlot(e); err != nil {
				return err
			}
		case abi.KindConfigure:
			lib.HasConfigure = true
		case abi.KindSave:
			lib.HasSave = true
		case abi.KindResume:
			lib.HasResume = true
		case abi.KindConfigMeta:
			if lib.ConfigSchema, err = t.schema(e); err != nil {
				return err
			}
		case abi.KindStart:
			lib.HasStart = true
		case abi.KindStop:
			lib.HasStop = true
		case abi.KindBatch:
			lib.HasBatch = true
		case abi.KindReserved:
			lib.Reserved = append(lib.Reserved, e.name)
		case abi.KindFuncMeta, abi.KindHookMeta, abi.KindImportMeta, abi.KindWantMeta:
			if metas[e.name], err = t.meta(e); err != nil {
				return err
			}
		}
		switch kind {
		case abi.KindFunc, abi.KindHook, abi.KindStart, abi.KindStop, abi.KindBatch, abi.KindConfigure, abi.KindSave, abi.KindResume:
			if err := m.checkCode(e); err != nil {
				return err
			}
		}
	}
	lib.Funcs, lib.Hooks, lib.Imports, lib.Wants = slices.Clip(lib.Funcs), slices.Clip(lib.Hooks), slices.Clip(lib.Imports), slices.Clip(lib.Wants)
	if err := t.checkRelocated(); err != nil {
		return err
	}
	for _, group := range []struct {
		prefix  string
		symbols []abi.Symbol
	}{{abi.PrefixFuncMeta, lib.Funcs}, {abi.PrefixHookMeta, lib.Hooks}, {abi.PrefixImportMeta, lib.Imports}, {abi.PrefixWantMeta, lib.Wants}} {
		if err := t.describe(group.symbols, group.prefix, metas); err != nil {
			return err
		}
	}
	if err := consistent(lib); err != nil {
		return err
	}
	for name := range metas { // those that describe nothing
		lib.Reserved = append(lib.Reserved, name)
	}
	slices.Sort(lib.Reserved)
	return nil
}

// describe moves the meta texts to the symbols that they are about.
func (t *texts) describe(symbols []abi.Symbol, prefix string, metas map[string]abi.Text) error {
	for i := range symbols {
		s := &symbols[i]
		text, ok := metas[prefix+s.Name]
		if !ok {
			continue
		}
		if err := s.Describe(text); err != nil {
			return t.failed(&export{name: prefix + s.Name}, err)
		}
		delete(metas, prefix+s.Name)
	}
	return nil
}

// consistent refuses a library whose parts contradict each other.
func consistent(lib *Library) error {
	for _, want := range lib.Wants {
		if _, both := slices.BinarySearchFunc(lib.Imports, want.Name, func(s abi.Symbol, name string) int { return strings.Compare(s.Name, name) }); both {
			return &Error{Symbol: abi.PrefixWant + want.Name, Kind: ErrDuplicate, Found: "the name as an import, too", Expected: "one of the two (rule R23)",
				Remedy: "Want what the plug-in can do without, and import what it cannot"}
		}
	}
	wrong := func(symbol, found string) error {
		return &Error{Symbol: symbol, Kind: ErrManifest, Found: found, Expected: "ferrule_save, ferrule_resume and the key state= together (rule R29)",
			Remedy: "Add what is missing (FERRULE_SAVE, FERRULE_RESUME, FERRULE_STATE_FORMAT), or leave out the rest"}
	}
	switch state := lib.Manifest.State != ""; {
	case state && !(lib.HasSave && lib.HasResume):
		return wrong(abi.SymbolManifest, fmt.Sprintf("state=%.140s without both functions", lib.Manifest.State))
	case lib.HasSave && !(lib.HasResume && state):
		return wrong(abi.SymbolSave, "it without the others")
	case lib.HasResume && !(lib.HasSave && state):
		return wrong(abi.SymbolResume, "it without the others")
	}
	return nil
}

// visible returns the symbols that a look-up by name finds, sorted, and refuses a name that stands twice.
func (x *exports) visible() ([]export, error) {
	slices.SortFunc(x.list, func(a, b export) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(x.list); i++ {
		if a, b := &x.list[i-1], &x.list[i]; a.name == b.name {
			found := fmt.Sprintf("it at the addresses %#x and %#x", a.addr, b.addr)
			if a.hidden || b.hidden {
				found = "it in more than one symbol version"
			}
			return nil, &Error{Symbol: a.name, Kind: ErrDuplicate, Found: found, Expected: "each name once (rule R2)",
				Remedy: "Export it once, without symbol versions"}
		}
	}
	x.list = slices.DeleteFunc(x.list, func(e export) bool { return e.hidden })
	return x.list, nil
}

const noSymbols = "a shared library that exports no ferrule_ symbol"

// noContract says what there is in place of a manifest.
func (x *exports) noContract() error {
	e := &Error{Symbol: abi.SymbolManifest, Kind: ErrNoContract,
		Found:    noSymbols,
		Expected: "the symbol " + abi.SymbolManifest + " (rule R1)",
		Remedy: "Add FERRULE_PLUGIN(…) of ferrule.h (C, C++) or ferrule::plugin!(…) (Rust), and see that no " +
			"version script or export list hides it"}
	if len(x.list) > 0 {
		e.Found = fmt.Sprintf("%.140s and no %s", x.list[0].name, abi.SymbolManifest)
	}
	strs, err := x.strings()
	if err != nil { // it would only have helped to explain
		return e
	}
	if major := strs.otherMajor(); major != "" {
		return otherMajor(major, &abi.MajorError{Found: strings.TrimSuffix(strings.TrimPrefix(major, "ferrule"), "_manifest")})
	}
	words := []string{abi.SymbolManifest, abi.PrefixFunc, abi.PrefixHook}
	if len(x.list) > 0 {
		words = words[:1]
	}
	for _, word := range words {
		switch name := strs.containing(word); name {
		case "":
			continue
		case word, machoLead + word:
			e.Found = fmt.Sprintf("the name %s, imported, hidden or in a version that is not the default", word)
		default:
			e.Found = fmt.Sprintf("the name %.200q, which only contains a name of the contract", name)
			e.Remedy = `Declare it extern "C" (C++) or #[no_mangle] (Rust), or use the macros of ferrule.h`
		}
		return e
	}
	return e
}

// otherMajor says that the manifest at symbol is of another major version of the contract.
func otherMajor(symbol string, major *abi.MajorError) error {
	return &Error{Symbol: symbol, Kind: ErrMajor, Found: "ferrule=" + major.Found, Expected: fmt.Sprintf("ferrule=%d (rule R1)", abi.Major),
		Err: major, Remedy: "Build the plug-in with this host's ferrule.h, or use a host that speaks its version"}
}

const useMacros = "Write it with the macros of ferrule.h or of the crate ferrule, which export a constant array of " +
	"texts, not a pointer to it"

// texts reads the texts of a library: its manifest and its meta texts.
type texts struct {
	*image
	read  []export // those that were read, with the length in the file as their size
	bytes int      // of all of them
}

// get returns the bytes of the text at e, up to its end, or longest bytes of it.
func (t *texts) get(e *export, end string, longest uint64) ([]byte, error) {
	if e.elsewhere != "" {
		return nil, t.elsewhere(e, "a text in this library")
	}
	data, err := t.text(e.addr, e.size, longest, end)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, &Error{Symbol: e.name, Kind: ErrManifest, Found: t.place(e.addr) + ", without bytes in the file",
			Expected: "a text that stands in the file (rule R1)", Remedy: useMacros}
	}
	if t.bytes += len(data); t.bytes > maxTexts {
		return nil, malformed("more than %d bytes of texts", maxTexts)
	}
	t.read = append(t.read, export{name: e.name, addr: e.addr, size: uint64(len(data))})
	return data, nil
}

func (t *texts) manifest(e *export) (*abi.Manifest, error) {
	data, err := t.get(e, "\x00\x00", abi.MaxText)
	if err != nil {
		return nil, err
	}
	manifest, err := abi.ParseManifest(data)
	if major, ok := err.(*abi.MajorError); ok {
		return nil, otherMajor(e.name, major)
	}
	if err != nil {
		return nil, t.failed(e, err)
	}
	return manifest, nil
}

// schema returns the text at e, which a NUL closes.
func (t *texts) schema(e *export) (string, error) {
	data, err := t.get(e, "\x00", maxSchema)
	if err != nil {
		return "", err
	}
	text, _, closed := bytes.Cut(data, []byte{0})
	if !closed || !utf8.Valid(text) {
		found := count.Of(len(data), "byte") + " without a NUL"
		if closed {
			found = "bytes that are not UTF-8"
		}
		return "", &Error{Symbol: e.name, Kind: ErrManifest, Found: found, Expected: fmt.Sprintf("UTF-8 closed by a NUL, %d bytes at most (rule R32)", maxSchema),
			Remedy: "Use FERRULE_CONFIG_SCHEMA of ferrule.h"}
	}
	return string(text), nil
}

func (t *texts) meta(e *export) (abi.Text, error) {
	data, err := t.get(e, "\x00\x00", abi.MaxText)
	if err != nil {
		return nil, err
	}
	text, err := abi.ParseText(data)
	if err != nil {
		return nil, t.failed(e, err)
	}
	return text, nil
}

// failed says what is wrong with the text at e. Where it has relocations, that is what is wrong.
func (t *texts) failed(e *export, err error) error {
	if err := t.checkRelocated(); err != nil {
		return err
	}
	failed := &Error{Symbol: e.name, Kind: ErrManifest, Err: err, Remedy: useMacros}
	if text, ok := err.(*abi.TextError); ok {
		failed.Found, failed.Expected = text.Found, fmt.Sprintf("%s (rule %s)", text.Expected, text.Rule)
		if text.Key != "" && !strings.HasPrefix(text.Found, "the key ") {
			failed.Found = fmt.Sprintf("for the key %q %s", text.Key, text.Found)
		}
		failed.Remedy = cmp.Or(text.Remedy, useMacros)
	}
	return failed
}

// checkRelocated refuses texts that the dynamic linker would change.
func (t *texts) checkRelocated() error {
	if t.relocated == nil {
		return nil
	}
	spans := make([]span, len(t.read))
	for i, e := range t.read {
		spans[i] = span{e.addr, e.addr + e.size}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	addr, found, err := t.relocated(spans)
	if err != nil || !found {
		return err
	}
	failed := &Error{Kind: ErrManifest, Found: fmt.Sprintf("a relocation at address %#x, such as a pointer has", addr),
		Expected: "a text that stands in the file as it is (rule R1)", Remedy: useMacros}
	for _, e := range t.read {
		if addr+8 > e.addr && addr < e.addr+e.size { // the longest relocation writes 8 bytes
			failed.Symbol = e.name
		}
	}
	return failed
}

// isCode reports whether addr may be called.
func (m *image) isCode(addr uint64) bool {
	s := m.find(addr)
	return s != nil && (s.exec || m.opd)
}

// checkCode refuses a function that would end the process when it is called.
func (m *image) checkCode(e *export) error {
	if e.elsewhere != "" {
		return m.elsewhere(e, "a function in this library")
	}
	if !m.isCode(e.addr) {
		return &Error{Symbol: e.name, Kind: ErrSymbol, Found: m.place(e.addr), Expected: "code (rule R2)",
			Remedy: "Export a function under this name (FERRULE_FN, FERRULE_HOOK), not data"}
	}
	if m.wrongType != nil {
		return m.wrongType(e)
	}
	return nil
}

// checkSlot refuses an import slot that would end the process when the loader writes it.
func (m *image) checkSlot(e *export) error {
	const slot = 4     // bytes of a uint32_t
	const redZone = 32 // Clang's address sanitizer counts its red zone as part of what it guards, in multiples of this
	if e.elsewhere != "" {
		return m.elsewhere(e, "a slot in this library")
	}
	s := m.find(e.addr)
	found := m.place(e.addr)
	switch {
	case s == nil || !s.write || s.size-(e.addr-s.addr) < slot:
	case saturate(e.addr, slot) > m.relro.addr && e.addr < saturate(m.relro.addr, m.relro.size):
		found = m.place(e.addr) + " that is made read-only after relocation"
	case e.size != 0 && e.size != slot && e.size%redZone != 0:
		found = count.Of(e.size, "byte")
	default:
		return nil
	}
	return &Error{Symbol: e.name, Kind: ErrSymbol, Found: found, Expected: "a writable uint32_t (rule R5)",
		Remedy: "Declare it with FERRULE_IMPORT or #[ferrule::import]"}
}

// elsewhere refuses what has no address in this library.
func (m *image) elsewhere(e *export, want string) error {
	return &Error{Symbol: e.name, Kind: ErrSymbol, Found: e.elsewhere, Expected: want,
		Remedy: cmp.Or(m.notHere, "Define it in the library that exports it")}
}

// place says in words what is at addr.
func (m *image) place(addr uint64) string {
	s := m.find(addr)
	if s == nil {
		return fmt.Sprintf("the address %#x, which is not in the library", addr)
	}
	what := "read-only data"
	switch {
	case s.exec:
		what = "code"
	case addr-s.addr >= s.inFile:
		what = "zero-filled memory (.bss)"
	case s.write:
		what = "writable data"
	}
	return fmt.Sprintf("%s at address %#x", what, addr)
}

// archs is Library.Archs of a file with one machine.
func (lib *Library) archs() []string {
	if lib.Arch == "" {
		return []string{lib.Machine}
	}
	return []string{lib.Arch}
}

// describe says what a file is that is no library, from its first bytes.
func describe(head []byte) string {
	for _, known := range [...]struct{ magic, what string }{
		{"!<arch>\n", "an archive of object files (a static or import library)"},
		{"!<thin>\n", "an archive of object files (a static library)"},
		{"#!", aScript},
		{"BC\xc0\xde", "an object file (LLVM bitcode)"},
		{"\xde\xc0\x17\x0b", "an object file (LLVM bitcode)"},
		{"\xca\xfe\xba\xbe", "a Java class"},
		{"PK\x03\x04", "a zip archive"},
		{"\x1f\x8b", "a gzip file"},
		{"--- !tapi-tbd", "a text stub of a library (.tbd)"},
	} {
		if hasPrefix(head, known.magic) {
			return known.what
		}
	}
	if isCOFFObject(head) {
		return "an object file (COFF)"
	}
	if len(head) < 4 {
		return aFileOf + count.Of(len(head), "byte")
	}
	for _, c := range head {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' || c == 0x7f {
			return fmt.Sprintf("a file that starts with the bytes % x", head[:4])
		}
	}
	if text := string(head); strings.Contains(text, "GNU ld script") || strings.HasPrefix(text, "INPUT(") {
		return "a linker script, text that names other libraries"
	}
	return aText
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

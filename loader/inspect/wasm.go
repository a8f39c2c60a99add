package inspect

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// IsWasm reports whether a file that begins with head is WebAssembly: the first 8 bytes are enough. It may be broken.
func IsWasm(head []byte) bool { return hasPrefix(head, "\x00asm") }

// The modules that plug-ins import from.
const (
	wasiModule       = "wasi_snapshot_preview1"
	extismModule     = "extism:host/env"
	extismUserModule = "extism:host/user"
)

// The kinds of what a module imports and exports.
const (
	wasmFunction = 0
	wasmTable    = 1
	wasmMemory   = 2
	wasmGlobal   = 3
	wasmTag      = 4
)

const (
	wasmPage      = 64 << 10 // bytes of a page of a module's memory
	maxWasmPages  = 1 << 16  // of a memory whose addresses have 32 bits
	maxWasmItems  = 1000000  // items of one section: what browsers take, of types, functions, imports, exports, globals
	maxWasmData   = 100000   // data segments: what browsers take
	maxWasmParams = 1000     // parameters, or results, of one function: what browsers take
)

// wasmFile is a module as far as it is read: what it imports and exports, and what its memory begins with.
type wasmFile struct {
	*wasmReader
	types     []wasmType
	functions []uint32 // the types of the functions, the imported ones first
	globals   []wasmValue
	memories  int
	memory    uint64     // bytes that the first one has at first
	data      []wasmData // sorted by address, none overlaps another, once all has been read
	code      uint32     // bodies of functions
	imports   []wasmImport
	exports   []wasmExport
	named     []byte // the texts that stand in names, as the memory behind the first one
}

// wasmType is the type of a function, as far as the contracts have any.
type wasmType struct {
	params, results uint32
	i32             bool // all of them
}

func (t wasmType) String() string {
	text := fmt.Sprintf("a function of %s and %s", count.Of(t.params, "parameter"), count.Of(t.results, "result"))
	if !t.i32 {
		text += ", not all of them i32"
	}
	return text
}

// wasmValue is a global: what it is at first, where that is an i32 that never changes.
type wasmValue struct {
	constant bool
	found    string // else what it is
	value    uint32
}

// wasmData is an active segment of the first memory.
type wasmData struct {
	addr uint32
	off  uint64 // in the file
	size uint64
}

type wasmImport struct{ module, name string } // of a function

type wasmExport struct {
	name  string
	kind  byte
	index uint32
}

// readWasm reads a WebAssembly module.
func (lib *Library) readWasm(m *image, x *exports) error {
	lib.Format, lib.Arch, lib.Machine, lib.Archs = Wasm, "wasm", "WebAssembly (32 bit)", []string{"wasm"}
	version, err := m.view("the version", 4, 4)
	switch {
	case err != nil:
		return err
	case m.u16(version[2:]) == 1:
		return &Error{Kind: ErrNotLibrary, Found: "a WebAssembly component", Expected: "a module",
			Remedy: "Compile it as a module: for wasm32-wasip1 or wasm32-unknown-unknown, without the component model's tools"}
	case m.u32(version) != 1:
		return &Error{Kind: ErrNotLibrary, Found: fmt.Sprintf("WebAssembly version %d", m.u32(version)), Expected: "version 1", Remedy: "Compile it with a current compiler"}
	}
	f := &wasmFile{}
	if err := f.read(m); err != nil {
		return err
	}
	for _, i := range f.imports {
		if !slices.Contains(lib.Needed, i.module) {
			if len(lib.Needed) == maxNeeded {
				return malformed("more than %d modules that it imports from", maxNeeded)
			}
			lib.Needed = append(lib.Needed, i.module)
		}
		if i.module == wasiModule {
			lib.OS = "wasip1"
		}
	}
	fault, err := f.collect(x)
	if err == nil && fault != nil && !x.all {
		err = fault
	}
	if err != nil || fault != nil {
		lib.NotPlugin = fault
		return err
	}
	// What is left to read are the texts, in the memory, and in names: these are the file from now on, with the functions behind them.
	inNames := uint64(len(f.named))
	m.r, m.size, m.head, m.window = &wasmMemoryReader{m.r, f.data, f.memory, f.named}, f.memory+inNames, nil, nil
	if err := m.addSegment(segment{name: "the memory", size: f.memory, inFile: f.memory, write: true, read: true}); err != nil {
		return err
	}
	if err := m.addSegment(segment{name: "the names", addr: wasmNames, size: inNames, off: f.memory, inFile: inNames, write: true, read: true}); err != nil {
		return err
	}
	if err := m.addSegment(segment{name: "the functions", addr: wasmFunctions, size: uint64(len(f.functions)), exec: true}); err != nil {
		return err
	}
	if err := m.seal(); err != nil {
		return err
	}
	m.wrongType, m.notHere = f.wrongType, "Export an immutable i32 global with a constant, as compilers do for an object, or a function that the module defines"
	x.strings = func() (names, error) { return f.names(), nil }
	err = lib.readContract(m, x)
	if !errors.As(err, &fault) {
		fault = lib.NotPlugin
	}
	if fault == nil {
		return lib.checkWasmOwn(f, x.all, err)
	}
	if fault.Kind == ErrNoContract && len(x.list) == 0 {
		if slices.Contains(lib.Needed, extismModule) {
			lib.NotPlugin = nil
			return lib.describeExtism(f)
		}
		if fault.Found == noSymbols {
			fault.Found = "a WebAssembly module that exports no ferrule_ symbol"
			fault.Remedy = "Add FERRULE_PLUGIN(…) of ferrule.h (C, C++) or ferrule::plugin!(…) (Rust), and link with -Wl,--export-dynamic"
		}
		fault.Expected += ", or imports of " + extismModule + ", as Extism's plug-ins have them"
	}
	return err
}

// wasmFunctions is where the functions are, by their number, behind all of the memory; wasmNames where the texts of names are.
const (
	wasmFunctions = 1 << 32
	wasmNames     = 1 << 33
)

// collect takes in what the module exports. fault is what is wrong with the texts in names.
func (f *wasmFile) collect(x *exports) (fault *Error, err error) {
	for _, e := range f.exports {
		symbol, text, object := strings.Cut(e.name, "=")
		if object = object && strings.HasPrefix(symbol, abi.SymbolPrefix); !object {
			symbol = e.name
		}
		if x.all {
			if err := x.addName(symbol); err != nil {
				return nil, err
			}
		}
		if !strings.HasPrefix(symbol, abi.SymbolPrefix) || isWasmOwn(symbol) {
			continue
		}
		export := export{}
		switch {
		case object && (e.kind != wasmFunction || f.types[f.functions[e.index]] != wasmType{0, 0, true}):
			fault = cmp.Or(fault, &Error{Symbol: symbol, Kind: ErrSymbol, Found: "text in the name of " + f.what(e), Expected: "text in the name of a function without parameters and results (ferrule.h, WEBASSEMBLY)",
				Remedy: useGen})
		case object:
			at := len(f.named)
			fault = cmp.Or(fault, f.addNamed(symbol, text))
			export.addr, export.size = wasmNames+uint64(at), uint64(len(f.named)-at)
		case e.kind == wasmFunction:
			export.addr = wasmFunctions + uint64(e.index)
		case e.kind == wasmGlobal && f.globals[e.index].constant:
			export.addr = uint64(f.globals[e.index].value)
		default:
			export.elsewhere = f.what(e)
		}
		if err := x.add(symbol, "", export); err != nil {
			return nil, err
		}
	}
	return fault, nil
}

const useGen = "Write the module's exports by ferrule gen"

// addNamed takes in what an object has whose text stands behind its name: each % and two digits is a byte, and a NUL closes it. Without a text it is a slot.
func (f *wasmFile) addNamed(symbol, text string) *Error {
	wrong := func(found, expected string) *Error {
		return &Error{Symbol: symbol, Kind: ErrSymbol, Found: found, Expected: expected + " (ferrule.h, WEBASSEMBLY)", Remedy: useGen}
	}
	switch kind, _ := abi.ParseSymbol(symbol); kind {
	case abi.KindImport, abi.KindWant:
		if text != "" {
			return wrong(fmt.Sprintf("%.40q in the name of a slot", text), "nothing behind its equals sign")
		}
	case abi.KindManifest, abi.KindFuncMeta, abi.KindHookMeta, abi.KindImportMeta, abi.KindWantMeta, abi.KindConfigMeta:
		if text == "" {
			return wrong("nothing behind the equals sign of its name", "its text there")
		}
	case abi.KindFunc, abi.KindHook, abi.KindStart, abi.KindStop, abi.KindBatch, abi.KindConfigure, abi.KindSave, abi.KindResume:
		return wrong("an equals sign in the name of a function", "none: it is no object")
	}
	if text == "" {
		f.named = append(f.named, 0xff, 0xff, 0xff, 0xff)
		return nil
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' {
			n, err := hex.DecodeString(text[min(i+1, len(text)):min(i+3, len(text))])
			if err != nil || len(n) != 1 {
				return &Error{Symbol: symbol, Kind: ErrManifest, Found: fmt.Sprintf("%.40q in the text in its name", text[i:]), Expected: "two hexadecimal digits behind each % (ferrule.h, WEBASSEMBLY)",
					Remedy: useGen}
			}
			c, i = n[0], i+2
		}
		f.named = append(f.named, c)
	}
	f.named = append(f.named, 0)
	return nil
}

// names is a table of all exported names.
func (f *wasmFile) names() names {
	var table []byte
	for _, e := range f.exports {
		table = append(append(table, e.name...), 0)
	}
	return names{bytes: table}
}

// what says in words what is exported.
func (f *wasmFile) what(e wasmExport) string {
	switch e.kind {
	case wasmFunction:
		return f.types[f.functions[e.index]].String()
	case wasmGlobal:
		return f.globals[e.index].found
	}
	return [...]string{wasmTable: "a table", wasmMemory: "a memory", wasmTag: "a tag"}[e.kind]
}

// wrongType refuses a function of the contract's that has another type.
func (f *wasmFile) wrongType(e *export) error {
	if t := f.types[f.functions[e.addr-wasmFunctions]]; t != (wasmType{1, 1, true}) {
		return &Error{Symbol: e.name, Kind: ErrSymbol, Found: t.String(), Expected: "one of an i32 that returns an i32: int32_t (ferrule_call *)",
			Remedy: "Define it with the macros of ferrule.h or of the crate ferrule"}
	}
	return nil
}

// checkWasmOwn refuses a module that lacks what the host works with, or has something else under its name. Where all libraries are described, that is a fact.
func (lib *Library) checkWasmOwn(f *wasmFile, all bool, err error) error {
	if err != nil || lib.Manifest == nil {
		return err
	}
	fault := f.checkOwn()
	if fault == nil {
		return nil
	}
	if !all {
		return fault
	}
	lib.Description, lib.Reserved, lib.NotPlugin = abi.Description{}, nil, fault
	return nil
}

func (f *wasmFile) checkOwn() *Error {
	const table = "the address of a ferrule_host in the memory"
	for _, own := range []struct {
		name, expected string
		optional       bool
		fits           func(e wasmExport) bool
	}{
		{"memory", "the memory", false, func(e wasmExport) bool { return e.kind == wasmMemory && e.index == 0 }},
		{symbolServices, table, f.named != nil, func(e wasmExport) bool { return f.isObject(e, 4) }},
		{symbolAlloc, "a function of an i32 that returns an i32: void *(size_t)", false, func(e wasmExport) bool { return f.isFunction(e, wasmType{1, 1, true}) }},
		{symbolFree, "a function of an i32 that returns nothing: void (void *)", false, func(e wasmExport) bool { return f.isFunction(e, wasmType{1, 0, true}) }},
		{symbolPanic, "the address of two uint32_t in the memory", true, func(e wasmExport) bool { return f.isObject(e, 8) }},
	} {
		i := slices.IndexFunc(f.exports, func(e wasmExport) bool { return e.name == own.name })
		if i < 0 && own.optional || i >= 0 && own.fits(f.exports[i]) {
			continue
		}
		found := "no such export"
		if i >= 0 {
			found = f.what(f.exports[i])
		}
		return &Error{Symbol: own.name, Kind: ErrSymbol, Found: found, Expected: own.expected + " (ferrule.h, WEBASSEMBLY)",
			Remedy: "Use FERRULE_PLUGIN(…) of ferrule.h or ferrule::plugin!(…), and link with -Wl,--export-dynamic"}
	}
	return nil
}

// isObject reports whether e is the address of so many bytes of the memory.
func (f *wasmFile) isObject(e wasmExport, size uint64) bool {
	return e.kind == wasmGlobal && f.globals[e.index].constant && uint64(f.globals[e.index].value)+size <= f.memory
}

func (f *wasmFile) isFunction(e wasmExport, t wasmType) bool {
	return e.kind == wasmFunction && f.types[f.functions[e.index]] == t
}

// What a module exports beside the symbols that a library has: see ferrule.h, WEBASSEMBLY.
const (
	symbolServices = "ferrule_services"
	symbolAlloc    = "ferrule_alloc"
	symbolFree     = "ferrule_free"
	symbolPanic    = "ferrule_panic"
)

// isWasmOwn reports whether a name of the contract is one that only modules have.
func isWasmOwn(name string) bool {
	return name == symbolServices || name == symbolAlloc || name == symbolFree || name == symbolPanic
}

// describeExtism describes a plug-in of Extism's: what a host of that one could call, and what it needs.
func (lib *Library) describeExtism(f *wasmFile) error {
	text := fmt.Sprintf("ferrule=%d\x00name=extism\x00version=0\x00description=%s\x00\x00", abi.Major, "A plug-in of Extism's, which says nothing of itself")
	manifest, err := abi.ParseManifest([]byte(text))
	if err != nil {
		return err
	}
	lib.Extism, lib.Description = true, abi.Description{Manifest: manifest}
	named := func(list []abi.Symbol, name string) []abi.Symbol {
		i, twice := slices.BinarySearchFunc(list, name, func(s abi.Symbol, name string) int { return strings.Compare(s.Name, name) })
		if twice {
			return list
		}
		return slices.Insert(list, i, abi.Symbol{Name: name})
	}
	for _, e := range f.exports {
		if e.kind != wasmFunction || extismOwn[e.name] {
			continue
		}
		if t := f.types[f.functions[e.index]]; t.params != 0 || t.results > 1 || !t.i32 {
			continue // not for a host
		}
		if !abi.ValidName(e.name) {
			lib.Reserved = append(lib.Reserved, e.name)
			continue
		}
		lib.Funcs = named(lib.Funcs, e.name)
	}
	for _, i := range f.imports {
		if i.module != extismUserModule {
			continue
		}
		if !abi.ValidName(i.name) {
			return &Error{Symbol: i.name, Kind: ErrName, Found: fmt.Sprintf("%.140q, a host function of %s", i.name, extismUserModule),
				Expected: fmt.Sprintf("a C identifier of 1 to %d bytes (rule R2)", abi.MaxName), Remedy: "Rename it"}
		}
		lib.Imports = named(lib.Imports, i.name)
	}
	slices.Sort(lib.Reserved)
	return nil
}

// extismOwn are the functions that an Extism plug-in exports for its language's sake.
var extismOwn = map[string]bool{
	"_start": true, "_initialize": true, "__wasm_call_ctors": true, "__wasm_call_dtors": true,
	"hs_init": true, "hs_exit": true, // Haskell
	"asyncify_get_state": true, "asyncify_stop_unwind": true, "asyncify_stop_rewind": true, // TinyGo
}

// nameOf makes the name of a plug-in that has none of its own from its file's.
func nameOf(path string) string {
	base := path[strings.LastIndexAny(path, `/\`)+1:]
	base = strings.TrimSuffix(base, ".wasm")
	base = strings.Map(func(c rune) rune {
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' {
			return c
		}
		return '-'
	}, base)
	return base[:min(len(base), abi.MaxName)]
}

// SetPath says where the library is, as File does: for one from Read or DescribeReader. A plug-in of Extism's gets its name.
func (lib *Library) SetPath(path string) {
	lib.Path = path
	if lib.NotPlugin != nil {
		lib.NotPlugin.Path = path
	}
	if name := nameOf(path); lib.Extism && name != "" {
		m := *lib.Manifest
		m.Name, m.Keys = name, slices.Clone(m.Keys)
		for i := range m.Keys {
			if m.Keys[i].Key == "name" {
				m.Keys[i].Value = name
			}
		}
		lib.Manifest = &m
	}
}

// wasmMemoryReader reads the memory of a module as it is at first: its data segments, and zeroes.
// Behind it are the texts of names.
type wasmMemoryReader struct {
	file  io.ReaderAt
	data  []wasmData // sorted
	size  uint64     // of the memory
	named []byte
}

func (r *wasmMemoryReader) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	lo, hi := uint64(off), uint64(off)+uint64(len(b))
	if hi > r.size {
		from := max(lo, r.size)
		copy(b[from-lo:], r.named[min(from-r.size, uint64(len(r.named))):])
	}
	i, _ := slices.BinarySearchFunc(r.data, lo, func(d wasmData, addr uint64) int {
		if uint64(d.addr)+d.size <= addr {
			return -1
		}
		return 1
	})
	for ; i < len(r.data) && uint64(r.data[i].addr) < hi; i++ {
		d := r.data[i]
		from, to := max(lo, uint64(d.addr)), min(hi, uint64(d.addr)+d.size)
		if n, err := r.file.ReadAt(b[from-lo:to-lo], int64(d.off+from-uint64(d.addr))); n < int(to-from) {
			return 0, err
		}
	}
	return len(b), nil
}

// layered returns what is left of the segments, which are written one over the other: sorted, none overlaps another.
func layered(data []wasmData) []wasmData {
	edges := make([]uint64, 0, 2*len(data))
	for _, d := range data {
		edges = append(edges, uint64(d.addr), uint64(d.addr)+d.size)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	owner := make([]int, len(edges)) // of what lies between an edge and the next one: 1 and up, 0 is none
	next := make([]int, len(edges)+1)
	for i := range next {
		next[i] = i
	}
	free := func(i int) int { // the first one from i on that has no owner
		for next[i] != i {
			next[i] = next[next[i]]
			i = next[i]
		}
		return i
	}
	for i, d := range slices.Backward(data) { // the last one that is written stays
		from, _ := slices.BinarySearch(edges, uint64(d.addr))
		to, _ := slices.BinarySearch(edges, uint64(d.addr)+d.size)
		for k := free(from); k < to; k = free(k) {
			owner[k], next[k] = i+1, k+1
		}
	}
	left := make([]wasmData, 0, len(data))
	for k, i := range owner {
		if i > 0 {
			d := data[i-1]
			left = append(left, wasmData{uint32(edges[k]), d.off + edges[k] - uint64(d.addr), edges[k+1] - edges[k]})
		}
	}
	return left
}

// read reads the sections, in the order in which they are.
func (f *wasmFile) read(m *image) error {
	order := [...]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 13: 6, 6: 7, 7: 8, 8: 9, 9: 10, 12: 11, 10: 12, 11: 13}
	last := 0
	for at := uint64(8); at < m.size; {
		head, err := m.view("the head of a section", at, min(6, m.size-at))
		if err != nil {
			return err
		}
		r := &wasmReader{b: head[1:], at: at + 1}
		id, size := head[0], uint64(r.u32())
		if r.err != nil {
			return r.err
		}
		begin := at + 1 + uint64(r.i)
		if size > m.size-begin {
			return truncated(fmt.Sprintf("section %d", id), saturate(begin, size), m.size)
		}
		at = begin + size
		switch {
		case int(id) >= len(order):
			return malformed("a section with the number %d", id)
		case id == 0:
			continue
		case order[id] <= last:
			return malformed("the section %d is out of its order", id)
		}
		last = order[id]
		if id == 10 { // of the code, how many functions there are
			head, err := m.view("the number of functions", begin, min(5, size))
			if err != nil {
				return err
			}
			r := &wasmReader{b: head, at: begin}
			if f.code = r.u32(); r.err != nil {
				return r.err
			}
		}
		if id == 13 {
			return wasmLacks("exceptions") // which have tags
		}
		if id == 4 || id == 8 || id == 9 || id == 10 || id == 12 { // nothing that a host looks for
			continue
		}
		if size > maxTable {
			return tooLong(size, "bytes of a section")
		}
		body, err := m.view("a section", begin, size)
		if err != nil {
			return err
		}
		f.wasmReader = &wasmReader{b: body, at: begin}
		f.section(id)
		if f.err == nil && f.i != len(f.b) {
			f.fail("%s behind the section %d", count.Of(len(f.b)-f.i, "byte"), id)
		}
		if f.err != nil {
			return f.err
		}
	}
	if own := len(f.functions) - len(f.imports); uint64(f.code) != uint64(own) {
		return malformed("%s with %d bodies", count.Of(own, "function"), f.code)
	}
	for _, d := range f.data {
		if uint64(d.addr)+d.size > f.memory {
			return malformed("a data segment at %#x of %s, in a memory of %d", d.addr, count.Of(d.size, "byte"), f.memory)
		}
	}
	f.data = layered(f.data)
	return nil
}

// section reads one.
func (f *wasmFile) section(id byte) {
	n, most := f.u32(), uint32(maxWasmItems)
	if id == 11 {
		most = maxWasmData
	}
	switch {
	case f.err != nil:
	case uint64(n) > uint64(len(f.b)): // an item has a byte at least
		f.fail("%s in a section of %s", count.Of(n, "item"), count.Of(len(f.b), "byte"))
	case n > most:
		f.err = tooLong(uint64(n), fmt.Sprintf("items of the section %d", id))
	}
	for ; n > 0 && f.err == nil; n-- {
		switch id {
		case 1:
			f.types = append(f.types, f.funcType())
		case 2:
			f.readImport()
		case 3:
			f.function(f.u32())
		case 5:
			f.addMemory()
		case 6:
			f.globals = append(f.globals, f.global(true))
		case 7:
			f.readExport()
		case 11:
			f.readData()
		}
	}
}

func (f *wasmFile) funcType() (t wasmType) {
	if form := f.u8(); form != 0x60 {
		f.lacks(wasmFeature(form), "a type of the form %#x", form)
	}
	t.i32 = true
	for _, n := range []*uint32{&t.params, &t.results} {
		if *n = f.u32(); *n > maxWasmParams {
			f.fail("a function of %d parameters or results", *n)
		}
		for i := uint32(0); i < *n && f.err == nil; i++ {
			if f.valueType() != wasmI32 {
				t.i32 = false
			}
		}
	}
	return t
}

// wasmI32 is the type i32.
const wasmI32 = 0x7f

// valueType reads the type of a value.
func (f *wasmFile) valueType() byte {
	t := f.u8()
	switch t {
	case wasmI32, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f: // i64, f32, f64, v128, funcref, externref
	default:
		f.lacks(wasmFeature(t), "the type %#x", t)
	}
	return t
}

// wasmFeature names what a type, or a form of types, belongs to that is not in WebAssembly 2.0.
func wasmFeature(t byte) string {
	switch {
	case t == 0x63, t == 0x64: // references to a type
		return "typed function references"
	case t == 0x69, t == 0x74: // exnref, noexn
		return "exceptions"
	case t == 0x4e, t == 0x4f, t == 0x50, t == 0x5e, t == 0x5f, t >= 0x6a && t <= 0x6e, t >= 0x71 && t <= 0x73, t == 0x77, t == 0x78:
		return "garbage collection"
	}
	return ""
}

// lacks says that the module uses what WebAssembly 2.0 has not: a feature by its name, or what was found where it is none that is known.
func (f *wasmFile) lacks(feature, format string, args ...any) {
	if feature == "" {
		f.fail(format, args...)
	} else if f.err == nil {
		f.err = wasmLacks(feature)
	}
	f.i = len(f.b)
}

func wasmLacks(feature string) *Error {
	return &Error{Kind: ErrNotLibrary, Found: "a WebAssembly module that uses " + feature, Expected: "one of WebAssembly 2.0",
		Remedy: "Compile it without that"}
}

// addMemory reads the type of a memory.
func (f *wasmFile) addMemory() {
	pages := f.limits()
	if pages > maxWasmPages {
		f.fail("a memory of %d pages", pages)
		return
	}
	if f.memories++; f.memories > 1 {
		f.lacks("more than one memory", "")
		return
	}
	f.memory = uint64(pages) * wasmPage
}

// function takes in a function of a type.
func (f *wasmFile) function(typ uint32) {
	if uint64(typ) >= uint64(len(f.types)) {
		f.fail("a function of the type %d, of %d", typ, len(f.types))
		return
	}
	f.functions = append(f.functions, typ)
}

func (f *wasmFile) readImport() {
	module, name := f.name(), f.name()
	switch kind := f.u8(); kind {
	case wasmFunction:
		f.function(f.u32())
		f.imports = append(f.imports, wasmImport{module, name})
	case wasmTable:
		f.valueType()
		f.limits()
	case wasmMemory:
		f.addMemory()
	case wasmGlobal:
		f.globals = append(f.globals, f.global(false))
	case wasmTag:
		f.lacks("exceptions", "")
	default:
		f.fail("an import of the kind %d", kind)
	}
}

func (f *wasmFile) limits() uint32 {
	flags := f.u8() // 1: there is a maximum
	switch {
	case flags&2 != 0:
		f.lacks("threads", "") // which share memory
	case flags&4 != 0:
		f.lacks("memories of 64 bits", "")
	case flags&8 != 0:
		f.lacks("pages of other sizes", "")
	case flags > 1:
		f.fail("limits with the flags %#x", flags)
	}
	least := f.u32()
	if flags&1 != 0 {
		f.u32()
	}
	return least
}

// global reads one: its type, and, of one that is not imported, its value.
func (f *wasmFile) global(own bool) (v wasmValue) {
	typ, mutable := f.valueType(), f.u8()
	if mutable > 1 {
		f.fail("a global with the flags %#x", mutable)
	}
	v.found = "a global that is imported"
	if !own {
		return v
	}
	value, constant := f.constant()
	v.value, v.constant = value, constant && typ == wasmI32 && mutable == 0
	switch {
	case typ != wasmI32:
		v.found = "a global that is no i32"
	case mutable != 0:
		v.found = "a global that is mutable"
	default:
		v.found = "a global whose value is not a constant"
	}
	return v
}

// constant reads an expression, and returns its value where it is i32.const.
func (f *wasmFile) constant() (value uint32, ok bool) {
	for first := true; f.err == nil; first = false {
		switch op := f.u8(); op {
		case 0x0b:
			return value, ok && !first
		case 0x41:
			value, ok = uint32(f.signed(5)), first
		case 0x42:
			f.signed(10)
			ok = false
		case 0x43:
			f.skip(4)
			ok = false
		case 0x44:
			f.skip(8)
			ok = false
		case 0x23, 0xd2:
			f.u32()
			ok = false
		case 0xd0:
			f.u8()
			ok = false
		case 0xfd:
			f.u32()
			f.skip(16)
			ok = false
		case 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e:
			ok = false
		default:
			f.fail("the opcode %#x in a constant", op)
		}
	}
	return 0, false
}

func (f *wasmFile) readExport() {
	e := wasmExport{name: f.name(), kind: f.u8(), index: f.u32()}
	if f.err != nil {
		return
	}
	switch {
	case e.kind > wasmTag:
		f.fail("an export of the kind %d", e.kind)
	case e.kind == wasmFunction && uint64(e.index) >= uint64(len(f.functions)):
		f.fail("the export %.100q of the function %d, of %d", e.name, e.index, len(f.functions))
	case e.kind == wasmGlobal && uint64(e.index) >= uint64(len(f.globals)):
		f.fail("the export %.100q of the global %d, of %d", e.name, e.index, len(f.globals))
	default:
		f.exports = append(f.exports, e)
	}
}

func (f *wasmFile) readData() {
	var addr uint32
	constant := true
	flags := f.u32()
	switch flags {
	case 0, 2:
		if flags == 2 && f.u32() != 0 {
			f.fail("a data segment of another memory than the first")
		}
		addr, constant = f.constant()
	case 1:
	default:
		f.fail("a data segment with the flags %d", flags)
	}
	size := uint64(f.u32())
	off := f.at + uint64(f.i)
	f.skip(size)
	if f.err == nil && flags != 1 && constant && size > 0 {
		f.data = append(f.data, wasmData{addr, off, size})
	}
}

// wasmReader reads what a section is made of. Once it has an error, it reads zeroes.
type wasmReader struct {
	b   []byte
	i   int
	at  uint64 // of b, in the file
	err error
}

func (r *wasmReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed("%s, at offset %#x", fmt.Sprintf(format, args...), r.at+uint64(r.i))
	}
	r.i = len(r.b)
}

func (r *wasmReader) u8() byte {
	if r.i >= len(r.b) {
		r.fail("the section ends too soon")
		return 0
	}
	r.i++
	return r.b[r.i-1]
}

func (r *wasmReader) skip(n uint64) {
	if n > uint64(len(r.b)-r.i) {
		r.fail("the section ends too soon")
		return
	}
	r.i += int(n)
}

// u32 reads an unsigned number: LEB128 of 5 bytes at most.
func (r *wasmReader) u32() (v uint32) {
	for shift := 0; ; shift += 7 {
		c := r.u8()
		if shift == 28 && c > 0x0f {
			r.fail("a number of more than 32 bits")
			return 0
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

// signed reads a signed number of so many bytes at most.
func (r *wasmReader) signed(most int) (v int64) {
	for i := range most {
		c := r.u8()
		if i == most-1 { // all of its bits that have no room repeat the sign
			if used := 32*(most/5) - 7*i - 1; c>>used != 0 && c>>used != 0x7f>>used {
				break
			}
		}
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if shift := 7 * (i + 1); shift < 64 && c&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	r.fail("a number of more than %d bits", 32*(most/5))
	return 0
}

func (r *wasmReader) name() string {
	n := uint64(r.u32())
	from := r.i
	r.skip(n)
	if r.err != nil {
		return ""
	}
	return string(r.b[from:r.i])
}

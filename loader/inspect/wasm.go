package inspect

import (
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

// wasmPage is how long a page of a module's memory is, in bytes.
const wasmPage = 64 << 10

// wasmFile is a module as far as it is read: what it imports and exports, and what its memory begins with.
type wasmFile struct {
	*wasmReader
	types     []wasmType
	functions []uint32 // the types of the functions, the imported ones first
	globals   []wasmValue
	memories  int
	memory    uint64 // bytes that the first one has at first
	data      []wasmData
	imports   []wasmImport
	exports   []wasmExport
}

// wasmType is the type of a function, as far as the contracts have any.
type wasmType struct {
	params, results int
	i32             bool // all of them
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
	extism := slices.Contains(lib.Needed, extismModule)
	// What is left to read are the texts, in the memory: that is the file from now on, with the functions behind it.
	memory := &wasmMemoryReader{m.r, f.data}
	m.r, m.size, m.head, m.window = memory, f.memory, nil, nil
	if err := m.addSegment(segment{name: "the memory", size: f.memory, inFile: f.memory, write: true, read: true}); err != nil {
		return err
	}
	code := segment{name: "the functions", addr: 1 << 32, size: uint64(len(f.functions)), exec: true}
	if err := m.addSegment(code); err != nil {
		return err
	}
	if err := m.seal(); err != nil {
		return err
	}
	for _, e := range f.exports {
		if x.all {
			if err := x.addName(e.name); err != nil {
				return err
			}
		}
		if !strings.HasPrefix(e.name, abi.SymbolPrefix) {
			continue
		}
		if isWasmOwn(e.name) {
			continue
		}
		export := export{}
		switch {
		case e.kind == wasmFunction:
			if err := f.checkFunction(e); err != nil {
				return err
			}
			export.addr = code.addr + uint64(e.index)
		case e.kind == wasmGlobal && f.globals[e.index].constant:
			export.addr = uint64(f.globals[e.index].value)
		case e.kind == wasmGlobal:
			export.elsewhere = f.globals[e.index].found
		default:
			export.elsewhere = [...]string{wasmTable: "a table", wasmMemory: "a memory", wasmTag: "a tag"}[e.kind]
		}
		if err := x.add(e.name, "", export); err != nil {
			return err
		}
	}
	x.strings = func() (names, error) { return names{}, nil }
	err = lib.readContract(m, x)
	var fault *Error
	if extism && errors.As(err, &fault) && fault.Kind == ErrNoContract && len(x.list) == 0 {
		return lib.describeExtism(f)
	}
	if extism && lib.NotPlugin != nil && lib.NotPlugin.Kind == ErrNoContract && len(x.list) == 0 {
		lib.NotPlugin = nil
		return lib.describeExtism(f)
	}
	for _, e := range []*Error{fault, lib.NotPlugin} {
		if e != nil && e.Kind == ErrNoContract {
			e.Expected += ", or imports of " + extismModule + ", as Extism's plug-ins have them"
			if len(x.list) == 0 {
				e.Found = "a WebAssembly module that exports no ferrule_ symbol"
				e.Remedy = "Add FERRULE_PLUGIN(…) of ferrule.h (C, C++) or ferrule::plugin!(…) (Rust), and link with -Wl,--export-dynamic"
			}
		}
	}
	return err
}

// isWasmOwn reports whether a name of the contract is one that only modules have: see ferrule.h, WEBASSEMBLY.
func isWasmOwn(name string) bool {
	switch name {
	case "ferrule_services", "ferrule_alloc", "ferrule_free", "ferrule_panic":
		return true
	}
	return false
}

// checkFunction refuses a function of the contract's that has another type.
func (f *wasmFile) checkFunction(e wasmExport) error {
	kind, _ := abi.ParseSymbol(e.name)
	switch kind {
	case abi.KindFunc, abi.KindHook, abi.KindStart, abi.KindStop, abi.KindBatch, abi.KindConfigure, abi.KindSave, abi.KindResume:
	default:
		return nil
	}
	if t := f.types[f.functions[e.index]]; t != (wasmType{1, 1, true}) {
		return &Error{Symbol: e.name, Kind: ErrSymbol, Found: fmt.Sprintf("a function of %s and %s", count.Of(t.params, "parameter"), count.Of(t.results, "result")),
			Expected: "int32_t (ferrule_call *): an i32, and an i32 back", Remedy: "Define it with FERRULE_FN, FERRULE_HOOK or #[ferrule::function]"}
	}
	return nil
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
var extismOwn = map[string]bool{"_start": true, "_initialize": true, "__wasm_call_ctors": true, "hs_init": true, "hs_exit": true, "__wasm_call_dtors": true}

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

// wasmMemoryReader reads the memory of a module as it is at first: its segments, one over the other, and zeroes.
type wasmMemoryReader struct {
	file io.ReaderAt
	data []wasmData
}

func (r *wasmMemoryReader) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	lo, hi := uint64(off), uint64(off)+uint64(len(b))
	for _, d := range r.data {
		from, to := max(lo, uint64(d.addr)), min(hi, uint64(d.addr)+d.size)
		if from >= to {
			continue
		}
		if n, err := r.file.ReadAt(b[from-lo:to-lo], int64(d.off+from-uint64(d.addr))); n < int(to-from) {
			return 0, err
		}
	}
	return len(b), nil
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
		if id == 8 || id == 9 || id == 10 || id == 12 || id == 13 || id == 4 { // nothing that a host looks for
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
			f.fail("%d bytes behind the section %d", len(f.b)-f.i, id)
		}
		if f.err != nil {
			return f.err
		}
	}
	if f.memory == 0 && len(f.data) > 0 {
		return malformed("data without a memory")
	}
	for _, d := range f.data {
		if uint64(d.addr)+d.size > f.memory {
			return malformed("a data segment at %#x of %d bytes, in a memory of %d", d.addr, d.size, f.memory)
		}
	}
	return nil
}

// section reads one.
func (f *wasmFile) section(id byte) {
	n := f.u32()
	if uint64(n) > uint64(len(f.b)) { // an item has a byte at least
		f.fail("%d items in a section of %d bytes", n, len(f.b))
		return
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
			pages := f.limits()
			if f.memories++; f.memories == 1 {
				f.memory = uint64(pages) * wasmPage
			}
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
		f.fail("a type of the form %#x", form)
	}
	t.i32 = true
	for _, n := range []*int{&t.params, &t.results} {
		*n = int(f.u32())
		for range *n {
			if f.u8() != 0x7f {
				t.i32 = false
			}
			if f.err != nil {
				break
			}
		}
	}
	return t
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
		f.u8()
		f.limits()
	case wasmMemory:
		pages := f.limits()
		if f.memories++; f.memories == 1 {
			f.memory = uint64(pages) * wasmPage
		}
	case wasmGlobal:
		f.globals = append(f.globals, f.global(false))
	default:
		f.fail("an import of the kind %d", kind)
	}
}

func (f *wasmFile) limits() uint32 {
	flags := f.u8()
	least := f.u32()
	if flags&1 != 0 {
		f.u32()
	}
	if flags > 1 {
		f.fail("limits with the flags %#x", flags)
	}
	return least
}

// global reads one: its type, and, of one that is not imported, its value.
func (f *wasmFile) global(own bool) (v wasmValue) {
	typ, mutable := f.u8(), f.u8()
	v.found = "a global that is imported"
	if !own {
		return v
	}
	value, constant := f.constant()
	v.value, v.constant = value, constant && typ == 0x7f && mutable == 0
	switch {
	case typ != 0x7f:
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
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if shift := 7 * (i + 1); shift < 64 && c&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	r.fail("a number of more than %d bytes", most)
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

package inspect

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// module is a WebAssembly module that is assembled here: the contents of its sections, by their numbers.
type module map[byte][]byte

func leb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func wasmName(s string) []byte { return append(leb(uint64(len(s))), s...) }

// vector is a list with its length before it.
func vector(items ...[]byte) []byte {
	return append(leb(uint64(len(items))), bytes.Join(items, nil)...)
}

// The sections, in their order.
var wasmOrder = []byte{1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11}

func (m module) bytes() []byte {
	file := []byte("\x00asm\x01\x00\x00\x00")
	for _, id := range wasmOrder {
		if body, ok := m[id]; ok {
			file = append(append(append(file, id), leb(uint64(len(body)))...), body...)
		}
	}
	return file
}

// Types of functions: their numbers in the modules that are made here.
const (
	typeCall = iota // (i32) -> i32
	typeFree        // (i32) -> ()
	typeRun         // () -> i32
	typeVoid        // () -> ()
	typeLong        // (i64) -> i64
)

var wasmTypes = vector([]byte{0x60, 1, 0x7f, 1, 0x7f}, []byte{0x60, 1, 0x7f, 0}, []byte{0x60, 0, 1, 0x7f}, []byte{0x60, 0, 0},
	[]byte{0x60, 1, 0x7e, 1, 0x7e})

// functions is a function of each type, which does nothing, with the code section.
func (m module) functions(types ...byte) {
	bodies := make([][]byte, len(types))
	list := make([][]byte, len(types))
	for i, t := range types {
		list[i], bodies[i] = []byte{t}, []byte{3, 0, 0x00, 0x0b} // unreachable
	}
	m[3], m[10] = vector(list...), vector(bodies...)
}

func exported(name string, kind byte, index uint64) []byte {
	return append(append(wasmName(name), kind), leb(index)...)
}

func imported(from, name string, typ byte) []byte {
	return append(append(wasmName(from), wasmName(name)...), 0, typ)
}

// i32 is i32.const, as an expression.
func i32(n int64) []byte {
	b := []byte{0x41}
	for {
		c := byte(n & 0x7f)
		if n >>= 7; n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c, 0x0b)
		}
		b = append(b, c|0x80)
	}
}

func constant(addr int64) []byte { return append([]byte{0x7f, 0}, i32(addr)...) }

func dataAt(addr int64, text string) []byte {
	return append(append([]byte{0}, i32(addr)...), wasmName(text)...)
}

// object is a global whose value is the address of the text there.
type object struct {
	name string
	addr int64
	text string
}

// probeModule has the contract of probe.c.
func probeModule() module {
	text := func(keys abi.Text) string {
		var b strings.Builder
		for _, e := range keys {
			b.WriteString(e.Key + "=" + e.Value + "\x00")
		}
		return b.String() + "\x00"
	}
	objects := []object{
		{"ferrule_manifest", 1024, text(probe.Manifest.Keys)},
		{"ferrule_meta_fn_count", 2048, text(probe.Funcs[1].Keys)},
		{"ferrule_meta_hook_before_checkout", 3072, text(probe.Hooks[0].Keys)},
		{"ferrule_meta_import_points", 4096, text(probe.Imports[1].Keys)},
		{"ferrule_meta_fn_nothing", 5120, text(abi.Text{{Key: "doc", Value: "x"}})},
		{"ferrule_import_Zone", 60000, ""}, {"ferrule_import_points", 65532, ""},
		{"ferrule_services", 6144, ""}, {"ferrule_future", 7168, ""},
	}
	m := module{1: wasmTypes, 5: vector([]byte{0, 1})}
	m.functions(typeCall, typeFree)
	var globals, exports, data [][]byte
	for i, o := range objects {
		globals = append(globals, constant(o.addr))
		exports = append(exports, exported(o.name, wasmGlobal, uint64(i)))
		if o.text != "" {
			data = append(data, dataAt(o.addr, o.text))
		}
	}
	for _, name := range []string{"fn_add", "fn_count", "hook_before_checkout", "start", "stop", "batch", "alloc"} {
		exports = append(exports, exported("ferrule_"+name, wasmFunction, 0))
	}
	exports = append(exports, exported("ferrule_free", wasmFunction, 1), exported("memory", wasmMemory, 0))
	m[6], m[7], m[11] = vector(globals...), vector(exports...), vector(data...)
	return m
}

// with is the module with another part in place of one that it has once.
func (m module) with(t testing.TB, id byte, old, new []byte) module {
	t.Helper()
	require.Equal(t, 1, bytes.Count(m[id], old), "% x in section %d", old, id)
	m[id] = bytes.Replace(m[id], old, new, 1)
	return m
}

func TestWasm(t *testing.T) {
	file := probeModule().bytes()
	lib, err := readBytes(file)
	require.NoError(t, err)
	requireProbe(t, lib)
	assert.Equal(t, Library{Size: int64(len(file)), Format: Wasm, Arch: "wasm", Machine: "WebAssembly (32 bit)", Archs: []string{"wasm"},
		Description: lib.Description, Reserved: lib.Reserved}, *lib)

	lib, err = DescribeReader(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	requireProbe(t, lib)
	assert.Len(t, lib.Exports, 18)
	assert.Subset(t, lib.Exports, []string{"memory", "ferrule_alloc", "ferrule_fn_add"})

	m := probeModule() // what it imports counts as a function and a global, before its own
	m[2] = vector(imported(wasiModule, "clock", typeLong), imported("ferrule", "log", typeCall), imported(wasiModule, "random", typeLong))
	for from, to := range map[string]string{"ferrule_free\x00\x01": "ferrule_free\x00\x04", "ferrule_alloc\x00\x00": "ferrule_alloc\x00\x03",
		"fn_add\x00\x00": "fn_add\x00\x03", "fn_count\x00\x00": "fn_count\x00\x03", "checkout\x00\x00": "checkout\x00\x03", "start\x00\x00": "start\x00\x03",
		"stop\x00\x00": "stop\x00\x03", "batch\x00\x00": "batch\x00\x03"} {
		m.with(t, 7, []byte(from), []byte(to))
	}
	lib, err = readBytes(m.bytes())
	require.NoError(t, err)
	requireProbe(t, lib)
	assert.Equal(t, []string{wasiModule, "ferrule"}, lib.Needed)
	assert.Equal(t, "wasip1", lib.OS)
}

// namedModule is probeModule of a compiler that exports functions alone: what objects have stands in names.
func namedModule() module {
	text := func(keys abi.Text) string {
		var b strings.Builder
		for _, e := range keys {
			b.WriteString(e.Key + "=" + e.Value + "\x00")
		}
		return strings.NewReplacer("%", "%25", "\x00", "%00", " ", "%20", "\n", "%0a").Replace(b.String())
	}
	m := module{1: wasmTypes, 5: vector([]byte{0, 1})}
	m.functions(typeCall, typeFree, typeVoid)
	var exports [][]byte
	for _, name := range []string{"manifest=" + text(probe.Manifest.Keys), "meta_fn_count=" + text(probe.Funcs[1].Keys),
		"meta_hook_before_checkout=" + text(probe.Hooks[0].Keys), "meta_import_points=" + text(probe.Imports[1].Keys), "meta_fn_nothing=doc=x%00",
		"import_Zone=", "import_points=", "future="} {
		exports = append(exports, exported("ferrule_"+name, wasmFunction, 2))
	}
	for _, name := range []string{"fn_add", "fn_count", "hook_before_checkout", "start", "stop", "batch", "alloc"} {
		exports = append(exports, exported("ferrule_"+name, wasmFunction, 0))
	}
	m[7] = vector(append(exports, exported("ferrule_free", wasmFunction, 1), exported("memory", wasmMemory, 0))...)
	return m
}

// TestWasmNames: a module whose objects stand in names says the same as one that has them.
func TestWasmNames(t *testing.T) {
	file := namedModule().bytes()
	lib, err := readBytes(file)
	require.NoError(t, err)
	requireProbe(t, lib)
	lib, err = DescribeReader(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	requireProbe(t, lib)
	assert.Subset(t, lib.Exports, []string{"ferrule_manifest", "ferrule_import_Zone", "ferrule_fn_add"})

	for _, c := range []struct {
		name, old, new string
		kind           error
		parts          []string
	}{
		{"a byte of one digit", "ferrule_meta_fn_nothing=doc=x%00", "ferrule_meta_fn_nothing=doc=x%0g", ErrManifest,
			[]string{"ferrule_meta_fn_nothing: ", `found "%0g" in the text in its name`, "two hexadecimal digits"}},
		{"a byte that is cut off", "nothing=doc=x%00", "nothing=docs=x%0", ErrManifest, []string{`found "%0"`}},
		{"a sign for a digit", "nothing=doc=x%00", "nothing=doc=x%+0", ErrManifest, []string{`found "%+0"`}},
		{"a text without its end", "nothing=doc=x%00", "nothing=doc=xxyz", ErrManifest, []string{"ferrule_meta_fn_nothing: "}},
		{"a text in a function that takes something", "doc=x%00\x00\x02", "doc=x%00\x00\x00", ErrSymbol,
			[]string{"ferrule_meta_fn_nothing: ", "found text in the name of a function of 1 parameter and 1 result, expected text in the name of a function without parameters and results"}},
		{"a text in a memory's name", "doc=x%00\x00\x02", "doc=x%00\x02\x00", ErrSymbol, []string{"text in the name of a memory"}},
		{"another major version", "ferrule=1%00", "ferrule=7%00", ErrMajor, []string{"ferrule=7"}},
		{"an object twice", "ferrule_import_Zone=", "ferrule_manifest=x%0", ErrManifest, []string{`found "%0"`}},
		{"a function as an object", "ferrule_import_points=", "ferrule_fn_count=x%00x", ErrSymbol, []string{"ferrule_fn_count: ", "an equals sign in the name of a function"}},
		{"a slot with a text", "ferrule_import_points=", "ferrule_import_p=oints", ErrSymbol, []string{"ferrule_import_p: ", `found "oints" in the name of a slot, expected nothing`}},
		{"a meta text without a text", "ferrule_meta_fn_nothing=doc=x%00", "ferrule_meta_fn_nothingdocxx%00=", ErrSymbol, []string{"nothing behind the equals sign"}},
		{"a slot of a name that is none", "ferrule_import_Zone=", "ferrule_import_9one=", ErrName, []string{"ferrule_import_"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := namedModule().with(t, 7, []byte(c.old), []byte(c.new)).bytes()
			lib, err := readBytes(file)
			require.Nil(t, lib)
			e := requireError(t, err, c.kind, c.parts...)
			require.NotEmpty(t, e.Remedy)
			lib, err = DescribeReader(bytes.NewReader(file), int64(len(file)))
			require.NoError(t, err, "what is no plug-in is described all the same")
			require.Equal(t, e, lib.NotPlugin)
			require.Contains(t, lib.Exports, "memory")
		})
	}
}

// TestWasmMemory: texts are read as the memory is once all data segments were written to it, in their order.
func TestWasmMemory(t *testing.T) {
	segments := func(list ...[]byte) []byte {
		m := probeModule()
		meta := bytes.Index(m[11], dataAt(2048, "doc=")[:4])
		return module{1: m[1], 3: m[3], 5: m[5], 6: m[6], 10: m[10], 7: m[7],
			11: append(leb(uint64(len(list)+4)), append(bytes.Join(list, nil), m[11][meta:]...)...)}.bytes()
	}
	name := func(file []byte) string {
		t.Helper()
		lib, err := readBytes(file)
		require.NoError(t, err)
		return lib.Manifest.Name
	}
	const text = "ferrule=1\x00name=abcdef\x00version=1\x00\x00"
	assert.Equal(t, "abcdef", name(segments(dataAt(1024, text))))
	assert.Equal(t, "abcdef", name(segments(dataAt(1024, text[:len(text)-2]))), "zeroes that no segment has to hold")
	assert.Equal(t, "abcdef", name(segments(dataAt(1034, text[10:]), dataAt(1024, text[:10]))), "two segments, in any order")
	assert.Equal(t, "abcdef", name(segments(dataAt(1024, text[:9]), dataAt(1034, text[10:]))), "a zero between two segments")
	assert.Equal(t, "abXYef", name(segments(dataAt(1024, text), dataAt(1024+17, "XY"))), "a later one over an earlier one")
	assert.Equal(t, "abcdef", name(segments(dataAt(1024+17, "XY"), dataAt(1024, text))), "and not the other way")
	assert.Equal(t, "abcdZZ", name(segments(dataAt(1024, text), dataAt(1024+17, "XYXX"), dataAt(1024+16, "bcd"), dataAt(1024+19, "ZZ"))), "three over it")
	second := append([]byte{2, 0}, dataAt(1024, text)[1:]...)
	assert.Equal(t, "abcdef", name(segments(second)), "with the number of the memory")
	passive := append([]byte{1}, wasmName(text)...)
	_, err := readBytes(segments(passive))
	requireError(t, err, ErrManifest, "ferrule_manifest")
}

// TestWasmDefects: each of these modules has one.
func TestWasmDefects(t *testing.T) {
	global := func(i int) []byte { return constant([]int64{1024, 2048, 3072, 4096, 5120, 60000, 65532, 6144}[i]) }
	for _, c := range []struct {
		name     string
		id       byte
		old, new []byte
		kind     error
		parts    []string
	}{
		{"a mutable manifest", 6, global(0), append([]byte{0x7f, 1}, i32(1024)...), ErrSymbol, []string{"ferrule_manifest", "a global that is mutable", "immutable i32 global"}},
		{"a manifest of 64 bits", 6, global(0), append([]byte{0x7e, 0, 0x42}, i32(1024)[1:]...), ErrSymbol, []string{"a global that is no i32"}},
		{"a computed manifest", 6, global(0), []byte{0x7f, 0, 0x41, 0x20, 0x41, 0x20, 0x6a, 0x0b}, ErrSymbol, []string{"a global whose value is not a constant"}},
		{"a manifest that is a function", 7, []byte("ferrule_manifest\x03\x00"), []byte("ferrule_manifest\x00\x00"), ErrManifest, []string{"code at address"}},
		{"a manifest that is a memory", 7, []byte("ferrule_manifest\x03\x00"), []byte("ferrule_manifest\x02\x00"), ErrSymbol, []string{"found a memory, expected a text"}},
		{"a manifest of zeroes", 6, global(0), constant(50000), ErrManifest, []string{"ferrule_manifest"}},
		{"a manifest outside of the memory", 6, global(0), constant(65536), ErrManifest, []string{"not in the library"}},
		{"a negative manifest", 6, global(0), constant(-1), ErrManifest, []string{"not in the library"}},
		{"another major version", 11, []byte("ferrule=1"), []byte("ferrule=7"), ErrMajor, []string{"ferrule=7"}},
		{"a slot at the end of the memory", 6, global(6), constant(65533), ErrSymbol, []string{"ferrule_import_points", "a writable uint32_t"}},
		{"a slot outside of the memory", 6, global(6), constant(-4), ErrSymbol, []string{"ferrule_import_points", "not in the library"}},
		{"a slot that is a function", 7, []byte("points\x03\x06"), []byte("points\x00\x00"), ErrSymbol, []string{"ferrule_import_points: "}},
		{"a function that is data", 7, []byte("fn_add\x00\x00"), []byte("fn_add\x03\x00"), ErrSymbol, []string{"ferrule_fn_add: ", "expected code"}},
		{"a function without a result", 7, []byte("fn_add\x00\x00"), []byte("fn_add\x00\x01"), ErrSymbol,
			[]string{"ferrule_fn_add: ", "found a function of 1 parameter and 0 results, expected one of an i32 that returns an i32"}},
		{"a start without a result", 7, []byte("start\x00\x00"), []byte("start\x00\x01"), ErrSymbol, []string{"ferrule_start: ", "0 results"}},
		{"a function of i64", 3, vector([]byte{typeCall}, []byte{typeFree}), vector([]byte{typeLong}, []byte{typeFree}), ErrSymbol, []string{"not all of them i32"}},
		{"a name that is none", 7, []byte("fn_add"), []byte("fn_a-d"), ErrName, []string{"ferrule_fn_a-d"}},
		{"a name twice", 7, []byte("\x0eferrule_fn_add"), []byte("\x10ferrule_fn_count"), ErrDuplicate, []string{"ferrule_fn_count"}},
		{"no memory for the host", 7, []byte("memory"), []byte("Memory"), ErrSymbol, []string{"memory: ", "found no such export"}},
		{"no table", 7, []byte("services"), []byte("sErvices"), ErrSymbol, []string{"ferrule_services: ", "found no such export"}},
		{"a table outside of the memory", 6, global(7), constant(65536), ErrSymbol, []string{"ferrule_services: "}},
		{"an allocator of another type", 7, []byte("alloc\x00\x00"), []byte("alloc\x00\x01"), ErrSymbol, []string{"ferrule_alloc: ", "0 results"}},
		{"a free of another type", 7, []byte("free\x00\x01"), []byte("free\x00\x00"), ErrSymbol, []string{"ferrule_free: ", "1 result"}},
		{"a name that almost is the manifest's", 7, []byte("\x10ferrule_manifest"), []byte("\x11Xferrule_manifest"), ErrNoContract, []string{`the name "Xferrule_manifest", which only contains`}},
		{"a manifest of another major version", 7, []byte("\x10ferrule_manifest"), []byte("\x11ferrule2_manifest"), ErrMajor, []string{"ferrule2_manifest"}},

		{"an export of no function", 7, []byte("fn_add\x00\x00"), []byte("fn_add\x00\x02"), ErrMalformed, []string{"the function 2, of 2"}},
		{"an export of no global", 7, []byte("Zone\x03\x05"), []byte("Zone\x03\x09"), ErrMalformed, []string{"the global 9, of 9"}},
		{"an export of no kind", 7, []byte("Zone\x03\x05"), []byte("Zone\x05\x05"), ErrMalformed, []string{"an export of the kind 5"}},
		{"a structure", 1, []byte{0x60, 0, 0}, []byte{0x5f, 0, 0}, ErrNotLibrary, []string{"uses garbage collection"}},
		{"a reference to a function of a type", 1, []byte{0x60, 1, 0x7e, 1, 0x7e}, []byte{0x60, 1, 0x64, 0, 1, 0x7e}, ErrNotLibrary, []string{"uses typed function references"}},
		{"a reference to an exception", 1, []byte{0x60, 1, 0x7e, 1, 0x7e}, []byte{0x60, 1, 0x69, 1, 0x7e}, ErrNotLibrary, []string{"uses exceptions"}},
		{"a type that is none", 1, []byte{0x60, 0, 0}, []byte{0x40, 0, 0}, ErrMalformed, []string{"a type of the form 0x40"}},
		{"a value of no type", 1, []byte{0x60, 1, 0x7e, 1, 0x7e}, []byte{0x60, 1, 0x01, 1, 0x7e}, ErrMalformed, []string{"the type 0x1"}},
		{"a function of no type", 3, vector([]byte{typeCall}, []byte{typeFree}), vector([]byte{typeCall}, []byte{5}), ErrMalformed, []string{"a function of the type 5, of 5"}},
		{"a body too many", 10, vector([]byte{3, 0, 0, 0x0b}, []byte{3, 0, 0, 0x0b}), vector([]byte{3, 0, 0, 0x0b}, []byte{3, 0, 0, 0x0b}, []byte{3, 0, 0, 0x0b}), ErrMalformed,
			[]string{"2 functions with 3 bodies"}},
		{"a memory of 64 bits", 5, []byte{0, 1}, []byte{4, 1}, ErrNotLibrary, []string{"a WebAssembly module that uses memories of 64 bits", "expected one of WebAssembly 2.0"}},
		{"a shared memory", 5, []byte{0, 1}, []byte{3, 1, 1}, ErrNotLibrary, []string{"uses threads"}},
		{"pages of one byte", 5, []byte{0, 1}, []byte{8, 1, 0}, ErrNotLibrary, []string{"uses pages of other sizes"}},
		{"a memory with other flags", 5, []byte{0, 1}, []byte{16, 1}, ErrMalformed, []string{"limits with the flags 0x10"}},
		{"a memory that is too large", 5, []byte{0, 1}, append([]byte{0}, leb(65537)...), ErrMalformed, []string{"a memory of 65537 pages"}},
		{"a memory too small for its data", 5, []byte{0, 1}, []byte{0, 0}, ErrMalformed, []string{"a data segment at 0x400", "in a memory of 0"}},
		{"a number that is too long", 5, []byte{0, 1}, []byte{0, 0x81, 0x80, 0x80, 0x80, 0x80, 0}, ErrMalformed, []string{"more than 32 bits"}},
		{"a number that is too large", 5, []byte{0, 1}, []byte{0, 0x81, 0x80, 0x80, 0x80, 0x10}, ErrMalformed, []string{"more than 32 bits"}},
		{"an address that is too large", 6, global(0), []byte{0x7f, 0, 0x41, 0x80, 0x80, 0x80, 0x80, 0x08, 0x0b}, ErrMalformed, []string{"more than 32 bits"}},
		{"a global with other flags", 6, global(0), append([]byte{0x7f, 2}, i32(1024)...), ErrMalformed, []string{"a global with the flags 0x2"}},
		{"an expression that is none", 6, global(0), []byte{0x7f, 0, 0x00, 0x0b}, ErrMalformed, []string{"the opcode 0x0"}},
		{"a segment longer than its section", 11, wasmName("doc=x\x00\x00"), append([]byte{100}, "doc=x\x00\x00"...), ErrMalformed, []string{"the section ends too soon"}},
		{"data with other flags", 11, dataAt(5120, "doc=x\x00\x00"), append([]byte{3}, dataAt(5120, "doc=x\x00\x00")[1:]...), ErrMalformed, []string{"flags 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := probeModule().with(t, c.id, c.old, c.new)
			file := m.bytes()
			lib, err := readBytes(file)
			require.Nil(t, lib)
			e := requireError(t, err, c.kind, c.parts...)
			require.NotEmpty(t, e.Remedy)
			lib, err = DescribeReader(bytes.NewReader(file), int64(len(file)))
			if c.kind == ErrMalformed || c.kind == ErrNotLibrary {
				require.Error(t, err)
				return
			}
			require.NoError(t, err, "what is no plug-in is described all the same")
			require.Equal(t, e, lib.NotPlugin)
			require.Nil(t, lib.Manifest)
			require.Empty(t, lib.Funcs)
			require.NotEmpty(t, lib.Exports)
		})
	}
}

// TestWasmSections: each once, in their order; custom ones anywhere.
func TestWasmSections(t *testing.T) {
	file := probeModule().bytes()
	custom := append([]byte{0, 3}, "\x02hi"...)
	lib, err := readBytes(append(append([]byte("\x00asm\x01\x00\x00\x00"), custom...), append(file[8:], custom...)...))
	require.NoError(t, err)
	requireProbe(t, lib)

	file = probeModule().bytes()
	types := file[8 : 8+2+len(wasmTypes)]
	for _, c := range []struct {
		file []byte
		kind error
		part string
	}{
		{slices.Concat(file[:8], types, file[8:]), ErrMalformed, "section 1 is out of its order"},
		{slices.Concat(file, types), ErrMalformed, "section 1 is out of its order"},
		{slices.Concat(file, []byte{14, 0}), ErrMalformed, "a section with the number 14"},
		{slices.Concat(file, []byte{0, 5, 0}), ErrTruncated, "section 0"},
		{slices.Concat(file, []byte{0}), ErrMalformed, "ends too soon"},
		{slices.Concat(file[:8], []byte{1, byte(len(wasmTypes) + 1)}, wasmTypes, []byte{0}, file[8+2+len(wasmTypes):]), ErrMalformed, "1 byte behind the section 1"},
		{file[:6], ErrTruncated, "the version"},
	} {
		_, err := readBytes(c.file)
		requireError(t, err, c.kind, c.part)
	}
	for n := range file { // a cut module is never a plug-in: it has lost its data, or more
		if lib, err := readBytes(file[:n]); lib != nil || err == nil {
			t.Fatalf("%d of %d bytes: %v", n, len(file), lib)
		}
	}
	corruptEach(t, file, 0, len(file))
}

// TestWasmHuge: what a sparse file says of itself makes the reader neither slow nor large, and many segments, texts between them, neither.
func TestWasmHuge(t *testing.T) {
	start := time.Now()
	for id, part := range map[byte]string{1: "more than this reader takes", 7: "more than this reader takes", 11: "more than this reader takes"} {
		head := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), []byte{id}, leb(maxTable), leb(maxTable-8))
		_, err := Read(huge{head}, 1<<40)
		requireError(t, err, ErrMalformed, part)
	}
	m := probeModule()
	data := make([][]byte, maxWasmData-5)
	for i := range data {
		data[i] = dataAt(int64(8192+i%20000), "x")
	}
	m[11] = slices.Concat(leb(maxWasmData), m[11][1:], bytes.Join(data, nil))
	lib, err := readBytes(m.bytes())
	require.NoError(t, err)
	requireProbe(t, lib)
	require.Less(t, time.Since(start), 10*time.Second)
}

// extismFile is a plug-in of Extism's.
func extismFile(exports ...[]byte) module {
	m := module{1: wasmTypes, 2: vector(imported(extismModule, "input_length", typeRun), imported(extismUserModule, "print", typeLong),
		imported(extismUserModule, "ask", typeLong), imported(extismUserModule, "ask", typeLong), imported(wasiModule, "clock", typeLong)), 5: vector([]byte{0, 1})}
	m.functions(typeRun, typeVoid, typeCall, typeLong)
	m[7] = vector(append(exports, exported("memory", wasmMemory, 0), exported("run", wasmFunction, 5), exported("quiet", wasmFunction, 6),
		exported("helper", wasmFunction, 7), exported("_initialize", wasmFunction, 6), exported("asyncify_get_state", wasmFunction, 5),
		exported("count-vowels", wasmFunction, 5))...)
	return m
}

func TestExtism(t *testing.T) {
	file := extismFile().bytes()
	lib, err := readBytes(file)
	require.NoError(t, err)
	assert.True(t, lib.Extism)
	assert.Equal(t, "extism", lib.Manifest.Name)
	assert.Equal(t, "0", lib.Manifest.Version)
	assert.Equal(t, abi.Serial, lib.Manifest.Threads)
	assert.Equal(t, []abi.Symbol{{Name: "quiet"}, {Name: "run"}}, lib.Funcs)
	assert.Equal(t, []abi.Symbol{{Name: "ask"}, {Name: "print"}}, lib.Imports)
	assert.Equal(t, []string{"count-vowels"}, lib.Reserved)
	assert.Equal(t, []string{extismModule, extismUserModule, wasiModule}, lib.Needed)
	assert.Equal(t, "wasip1", lib.OS)

	dir := t.TempDir()
	for base, name := range map[string]string{"count_vowels.wasm": "count_vowels", "ein wörtchen.v2.wasm": "ein-w-rtchen.v2", ".wasm": "extism"} {
		path := filepath.Join(dir, base)
		require.NoError(t, os.WriteFile(path, file, 0o600))
		for _, read := range []func(string) (*Library, error){File, Describe} {
			lib, err := read(path)
			require.NoError(t, err)
			assert.Equal(t, name, lib.Manifest.Name)
			assert.Equal(t, path, lib.Path)
			assert.Contains(t, lib.Manifest.Keys, abi.KeyValue{Key: "name", Value: name})
			assert.Nil(t, lib.NotPlugin)
		}
	}

	m := extismFile()
	_, err = readBytes(m.with(t, 2, []byte("print"), []byte("pr-nt")).bytes())
	requireError(t, err, ErrName, "pr-nt", "host function")
	// One that exports a name of Ferrule's contract is none of Extism's.
	_, err = readBytes(extismFile(exported("ferrule_fn_x", wasmFunction, 7)).bytes())
	requireError(t, err, ErrNoContract, "ferrule_fn_x and no ferrule_manifest")
	// Neither contract: the error names both.
	_, err = readBytes(module{1: wasmTypes, 2: vector(imported("env", "f", typeRun))}.bytes())
	requireError(t, err, ErrNoContract, "ferrule_manifest", extismModule, "--export-dynamic")
}

// TestBuiltWasm: probe.c, as clang makes a module of it.
func TestBuiltWasm(t *testing.T) {
	fixture.Tool(t, "clang", "apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32")
	for _, flags := range [][]string{{"-O0"}, {"-O2"}, {"-Os", "-Wl,--strip-all"}, {"-O2", "-Wl,--initial-memory=1048576", "-Wl,--stack-first"}} {
		path := filepath.Join(t.TempDir(), "probe.wasm")
		run(t, "clang", append([]string{"--target=wasm32-wasi", "-mexec-model=reactor", "-fvisibility=hidden", "-Wl,--export-dynamic", "-I../../include",
			"-o", path, "testdata/probe.c"}, flags...)...)
		lib, err := Describe(path)
		require.NoError(t, err, flags)
		require.Nil(t, lib.NotPlugin, flags)
		requireProbe(t, lib)
		assert.Equal(t, Wasm, lib.Format)
		assert.Equal(t, []string{"ferrule"}, lib.Needed)
		assert.Subset(t, lib.Exports, []string{"_initialize", "memory", "other"})
	}
}

// FuzzWasm is FuzzRead with modules as seeds.
func FuzzWasm(f *testing.F) {
	f.Add(probeModule().bytes())
	f.Add(namedModule().bytes())
	f.Add(extismFile().bytes())
	f.Fuzz(fuzzRead)
}

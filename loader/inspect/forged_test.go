package inspect

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/macho"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/stretchr/testify/require"
)

// Files that no tool makes, or none that is at hand: changed ones, and Mach-O for machines of the past.

func le32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

func TestFIFO(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no fifos in its file system")
	}
	fixture.Tool(t, "mkfifo", "apt-get install coreutils")
	path := filepath.Join(t.TempDir(), "fifo.so")
	run(t, "mkfifo", path)
	_, err := File(path) // opening it would wait for a writer
	requireError(t, err, ErrNotRegular, "a fifo")
}

func TestDevice(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("no /dev/zero on this system")
	}
	_, err := File("/dev/zero")
	requireError(t, err, ErrNotRegular, "a device")
}

// huge is a file of any size: its first bytes, and then zeros.
type huge struct{ head []byte }

func (h huge) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(h.head)) {
		copy(b, h.head[off:])
	}
	return len(b), nil
}

// TestHugeFiles: lengths that fit the file, as they do in a sparse one, still do not make the reader take memory.
func TestHugeFiles(t *testing.T) {
	data := testdata(t, "elf-amd64-clang.so")
	f, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	set := func(data []byte, tag elf.DynTag, value uint64) {
		at := bytes.Index(data[f.Section(".dynamic").Offset:], binary.LittleEndian.AppendUint64(nil, uint64(tag)))
		binary.LittleEndian.PutUint64(data[int(f.Section(".dynamic").Offset)+at+8:], value)
	}
	const size = 1 << 50
	for i := range 3 { // the first segment covers it all
		data := bytes.Clone(data)
		binary.LittleEndian.PutUint64(data[64+56+32:], size) // p_filesz, behind PT_PHDR
		binary.LittleEndian.PutUint64(data[64+56+40:], size)
		binary.LittleEndian.PutUint32(data[64+56+4:], pfRead|pfWrite)
		for j := range int(le32(data, 56) & 0xffff) { // and the only one, with the dynamic section
			if p := data[64+56*j:]; le32(p, 0) == ptLoad && j > 1 {
				binary.LittleEndian.PutUint32(p, 0)
			} else if le32(p, 0) == ptDynamic {
				copy(p[16:24], p[8:16]) // its address is now its offset
			}
		}
		switch i {
		case 0:
			set(data, elf.DT_STRSZ, size/2)
		case 1:
			set(data, elf.DT_GNU_HASH, size/2) // zeros: a chain without end
		case 2:
			at := int(f.Section(".gnu.hash").Offset)
			binary.LittleEndian.PutUint32(data[at:], 1<<31) // buckets
		}
		start := time.Now()
		_, err := Read(huge{data}, size)
		requireError(t, err, ErrMalformed)
		if i != 1 {
			require.ErrorContains(t, err, "more than this reader takes")
		}
		require.Less(t, time.Since(start), 10*time.Second)
	}
}

func TestForgedELF(t *testing.T) {
	phdr := func(data []byte, kind elf.ProgType, n int) []byte {
		for at := 64; ; at += 56 {
			if elf.ProgType(le32(data, at)) == kind {
				if n--; n < 0 {
					return data[at : at+56]
				}
			}
		}
	}
	section := func(t *testing.T, data []byte, name string) []byte {
		f, err := elf.NewFile(bytes.NewReader(data))
		require.NoError(t, err)
		return data[f.Section(name).Offset:]
	}
	put64 := binary.LittleEndian.PutUint64
	for _, c := range []struct {
		name  string
		forge func(t *testing.T, data []byte)
		kind  error
		found string
	}{
		{"class", func(t *testing.T, d []byte) { d[4] = 3 }, ErrMalformed, "class 3"},
		{"no program headers", func(t *testing.T, d []byte) { d[56] = 0 }, ErrMalformed, "0 program headers"},
		{"no segments", func(t *testing.T, d []byte) {
			for at := 64; at < 64+56*int(d[56]); at += 56 {
				if le32(d, at) == ptLoad {
					d[at] = 0
				}
			}
		}, ErrMalformed, "no segment to load"},
		{"program headers beyond the end", func(t *testing.T, d []byte) { put64(d[32:], 1<<60) }, ErrTruncated,
			"program headers"},
		{"section headers beyond the end", func(t *testing.T, d []byte) { put64(d[40:], 1<<60) }, ErrTruncated,
			"section headers"},
		{"segment beyond the end", func(t *testing.T, d []byte) { put64(phdr(d, elf.PT_LOAD, 0)[32:], 1<<40) },
			ErrTruncated, "segment 1"},
		{"segment that ends before it starts", func(t *testing.T, d []byte) {
			put64(phdr(d, elf.PT_LOAD, 0)[40:], 1<<64-1)
			put64(phdr(d, elf.PT_LOAD, 0)[16:], 0x1000)
		}, ErrMalformed, "segment 1"},
		{"segment smaller than its file", func(t *testing.T, d []byte) { put64(phdr(d, elf.PT_LOAD, 0)[40:], 8) },
			ErrMalformed, "segment 1"},
		{"segments that overlap", func(t *testing.T, d []byte) { put64(phdr(d, elf.PT_LOAD, 0)[40:], 1<<30) },
			ErrMalformed, "at the same address"},
		{"segment alignment", func(t *testing.T, d []byte) { put64(phdr(d, elf.PT_LOAD, 0)[48:], 3) }, ErrMalformed,
			"alignment 0x3"},
		{"no dynamic section", func(t *testing.T, d []byte) { phdr(d, elf.PT_DYNAMIC, 0)[0] = 0 }, ErrMalformed,
			"0 dynamic sections"},
		{"dynamic section nowhere", func(t *testing.T, d []byte) { put64(phdr(d, elf.PT_DYNAMIC, 0)[16:], 1<<40) },
			ErrNotLibrary, "separate debug"},
		{"dynamic section without end", func(t *testing.T, d []byte) { put64(phdr(d, elf.PT_DYNAMIC, 0)[40:], 32) },
			ErrMalformed, "without end"},
		{"string table nowhere", func(t *testing.T, d []byte) { put64(section(t, d, ".dynamic")[8:], 1<<40) }, nil, ""},
		{"hash chain without end", func(t *testing.T, d []byte) {
			b := section(t, d, ".gnu.hash")
			for i := 16 + 8*int(le32(b, 8)) + 4*int(le32(b, 0)); i < len(d)-cap(b)+len(b)-4 && i < 0x200; i += 4 {
				b[i] &^= 1
			}
		}, nil, ""},
		{"hash buckets", func(t *testing.T, d []byte) { section(t, d, ".gnu.hash")[3] = 0xff }, ErrMalformed,
			"buckets"},
		{"hash bloom words", func(t *testing.T, d []byte) { section(t, d, ".gnu.hash")[11] = 0xff }, ErrMalformed,
			"expected a power of two"},
		{"hash words beyond the end", func(t *testing.T, d []byte) { section(t, d, ".gnu.hash")[11], section(t, d, ".gnu.hash")[8] = 0x80, 0 },
			ErrMalformed, "buckets behind"},
		{"hash bucket beyond the chain", func(t *testing.T, d []byte) {
			b := section(t, d, ".gnu.hash")
			b[16+8*int(le32(b, 8))+3] = 0x7f
		}, ErrMalformed, "without end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := testdata(t, "elf-amd64-clang.so")
			c.forge(t, data)
			lib, err := readBytes(data)
			checkAnswer(t, lib, err)
			if c.kind != nil {
				requireError(t, err, c.kind, c.found)
			}
		})
	}
}

// TestMIPSHash: where the only hash table is MIPS's own, another tag has the number of symbols.
func TestMIPSHash(t *testing.T) {
	data := testdata(t, "elf-mips-clang.so")
	f, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	for b := data[f.Section(".dynamic").Offset:]; binary.BigEndian.Uint32(b) != 0; b = b[8:] {
		require.NotEqualValues(t, dtGNUHash, binary.BigEndian.Uint32(b))
		if binary.BigEndian.Uint32(b) == dtHash {
			binary.BigEndian.PutUint32(b, 0x70000036) // DT_MIPS_XHASH
		}
	}
	lib, err := readBytes(data)
	require.NoError(t, err)
	requireProbe(t, lib)
}

// exportsOf returns a DLL's export directory, and the file from an address in the same section on.
func exportsOf(t *testing.T, data []byte) (dir []byte, at func(addr uint32) []byte) {
	t.Helper()
	m := newImage(bytes.NewReader(data), uint64(len(data)))
	f := &peFile{image: m}
	pe := uint64(le32(data, 60))
	optional := uint64(binary.LittleEndian.Uint16(data[pe+20:]))
	require.NoError(t, f.readOptional(pe+24, optional))
	require.NoError(t, f.readSections(pe+24+optional, uint64(binary.LittleEndian.Uint16(data[pe+6:]))))
	at = func(addr uint32) []byte {
		off, rest := m.inFile(uint64(addr))
		return data[off:][:rest]
	}
	return at(uint32(f.dirs[dirExport].addr)), at
}

func TestForgedPE(t *testing.T) {
	put32 := binary.LittleEndian.PutUint32
	for _, c := range []struct {
		name  string
		forge func(data, dir []byte, at func(uint32) []byte)
		kind  error
		found string
	}{
		{"forwarder", func(_, dir []byte, at func(uint32) []byte) {
			put32(at(le32(dir, 28)), le32(dir, 12)) // the first function is at the DLL's name
		}, ErrSymbol, "a forwarder to pe-amd64-mingw.dll"},
		{"duplicate", func(_, dir []byte, at func(uint32) []byte) {
			names := at(le32(dir, 32))
			copy(names[4:8], names[:4])
		}, ErrDuplicate, "found it at the addresses"},
		{"ordinal", func(_, dir []byte, at func(uint32) []byte) {
			copy(at(le32(dir, 36)), []byte{0xff, 0xff})
		}, ErrMalformed, "with ordinal 65535 of"},
		{"name nowhere", func(_, dir []byte, at func(uint32) []byte) {
			put32(at(le32(dir, 32)), 1<<30)
		}, ErrMalformed, "an exported name at address 0x40000000"},
		{"number of names", func(_, dir []byte, _ func(uint32) []byte) { put32(dir[24:], 1<<20) }, ErrMalformed,
			"1048576 exported names"},
		{"names nowhere", func(_, dir []byte, _ func(uint32) []byte) { put32(dir[32:], 1<<30) }, ErrMalformed,
			"not in the file"},
		{"function nowhere", func(_, dir []byte, at func(uint32) []byte) {
			put32(at(le32(dir, 28)), 1<<30)
		}, ErrSymbol, "which is not in the library"},
		{"optional header", func(data, _ []byte, _ func(uint32) []byte) { data[le32(data, 60)+24] = 7 }, ErrMalformed,
			"no optional header"},
		{"certificates beyond the end", func(data, _ []byte, _ func(uint32) []byte) {
			put32(data[le32(data, 60)+24+112+8*dirCertificate:], 1<<20)
		}, ErrTruncated, "its certificates"},
		{"COFF symbols beyond the end", func(data, _ []byte, _ func(uint32) []byte) {
			put32(data[le32(data, 60)+12:], 1<<20)
		}, ErrTruncated, "its COFF symbols"},
		{"no exports", func(data, _ []byte, _ func(uint32) []byte) {
			clear(data[le32(data, 60)+24+112:][:8])
		}, ErrNoContract, "exports no ferrule_ symbol"},
		{".NET assembly", func(data, _ []byte, _ func(uint32) []byte) {
			clear(data[le32(data, 60)+24+112:][:8])
			put32(data[le32(data, 60)+24+112+8*dirCLR:], 0x1000)
		}, ErrNotLibrary, "a .NET assembly"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := testdata(t, "pe-amd64-mingw.dll")
			dir, at := exportsOf(t, data)
			c.forge(data, dir, at)
			_, err := readBytes(data)
			requireError(t, err, c.kind, c.found)
		})
	}
}

// command returns the load command of that kind.
func command(t *testing.T, data []byte, kind uint32) []byte {
	t.Helper()
	for b := data[32:]; len(b) > 8; b = b[le32(b, 4):] {
		if le32(b, 0) == kind {
			return b[:le32(b, 4)]
		}
	}
	t.Fatalf("no load command %#x", kind)
	return nil
}

func TestForgedMachO(t *testing.T) {
	put32 := binary.LittleEndian.PutUint32
	noTrie := func(t *testing.T, data []byte) { clear(command(t, data, lcDyldInfoOnly)[40:48]) }
	// external returns the entry of the nth external symbol.
	external := func(t *testing.T, data []byte, n int) []byte {
		c := command(t, data, lcSymTab)
		for b := data[le32(c, 8):]; ; b = b[16:] {
			if b[4]&nExternal != 0 && b[4]&nType == nSection {
				if n--; n < 0 {
					return b[:16]
				}
			}
		}
	}
	for _, c := range []struct {
		name  string
		forge func(t *testing.T, data []byte)
		kind  error // nil: nothing changes
		found string
	}{
		{"no export trie", noTrie, nil, ""},
		{"no symbol table", func(t *testing.T, d []byte) { clear(command(t, d, lcSymTab)[8:]) }, nil, ""},
		{"a bundle", func(_ *testing.T, d []byte) { d[12] = mhBundle }, nil, ""},
		{"neither", func(t *testing.T, d []byte) {
			noTrie(t, d)
			clear(command(t, d, lcSymTab)[8:])
		}, ErrNoContract, "exports no ferrule_ symbol"},
		{"duplicate", func(t *testing.T, d []byte) {
			noTrie(t, d)
			copy(external(t, d, 1)[:4], external(t, d, 0)[:4])
		}, ErrDuplicate, "found it at the addresses"},
		{"alias", func(t *testing.T, d []byte) {
			noTrie(t, d)
			external(t, d, 0)[4] = nIndirect | nExternal
		}, ErrSymbol, "an alias of another symbol"},
		{"private external", func(t *testing.T, d []byte) {
			noTrie(t, d)
			c := command(t, d, lcSymTab)
			for i := range le32(c, 12) {
				d[le32(c, 8)+16*i+4] |= nPrivate
			}
		}, ErrNoContract, "found the name ferrule_manifest, imported, hidden or"},
		{"symbol table beyond the end", func(t *testing.T, d []byte) {
			noTrie(t, d)
			put32(command(t, d, lcSymTab)[12:], 1<<30)
		}, ErrTruncated, "its symbol table"},
		{"string table beyond the end", func(t *testing.T, d []byte) {
			noTrie(t, d)
			put32(command(t, d, lcSymTab)[20:], 1<<30)
		}, ErrTruncated, "its string table"},
		{"export trie beyond the end", func(t *testing.T, d []byte) {
			put32(command(t, d, lcDyldInfoOnly)[44:], 1<<30)
		}, ErrTruncated, "its export trie"},
		{"segment beyond the end", func(t *testing.T, d []byte) {
			command(t, d, lcSegment64)[52] = 1
		}, ErrTruncated, "the segment __TEXT"},
		{"load command without length", func(_ *testing.T, d []byte) { clear(d[36:40]) }, ErrMalformed, "with 0 bytes"},
		{"load command that is too short", func(t *testing.T, d []byte) {
			put32(command(t, d, lcIDDylib), lcSegment64)
		}, ErrMalformed, "the load command 0x19"},
		{"library's name outside", func(t *testing.T, d []byte) { put32(command(t, d, lcIDDylib)[8:], 1<<20) },
			ErrMalformed, "a library's name"},
		{"number of load commands", func(_ *testing.T, d []byte) { put32(d[16:], 1<<20) }, ErrMalformed,
			"load commands in"},
		{"file type", func(_ *testing.T, d []byte) { d[12] = 77 }, ErrMalformed, "file type 77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := testdata(t, "macho-amd64-clang.dylib")
			c.forge(t, data)
			lib, err := readBytes(data)
			if c.kind == nil {
				require.NoError(t, err)
				requireProbe(t, lib)
				return
			}
			requireError(t, err, c.kind, c.found)
		})
	}

	t.Run("systems", func(t *testing.T) {
		for platform, want := range map[uint32]string{1: "darwin", 2: "ios", 7: "ios", 3: ""} {
			data := testdata(t, "macho-arm64-clang.dylib")
			put32(command(t, data, lcBuildVersion)[8:], platform)
			lib, err := readBytes(data)
			require.NoError(t, err)
			require.Equal(t, want, lib.OS)
		}
	})
}

// oldMachO makes a library with a symbol table and no export trie, in any byte order and width.
func oldMachO(order binary.AppendByteOrder, wide bool, cpu uint32) []byte {
	const text = "ferrule=1\x00name=old\x00version=1\x00\x00"
	names, strs := []string{"_other", "_ferrule_manifest", "_ferrule_fn_f", "ferrule_fn_asm"}, []byte{0}
	var symbols []byte
	word := func(b []byte, v uint32) []byte {
		if wide {
			return order.AppendUint64(b, uint64(v))
		}
		return order.AppendUint32(b, v)
	}
	const at, addr = 0x400, 0x1000
	for i, name := range names {
		symbols = order.AppendUint32(symbols, uint32(len(strs)))
		symbols = append(symbols, nSection|nExternal, 1, 0, 0)
		symbols = word(symbols, addr+at+uint32(len(text)*min(i, 2)))
		strs = append(append(strs, name...), 0)
	}
	// text stands at the addresses of other and, again, of the manifest; the functions' code behind it
	body := append([]byte(text+text+"code"), append(symbols, strs...)...)
	symOff := uint32(at + 2*len(text) + 4)

	segment := func(name string) []byte {
		b := append([]byte(name), make([]byte, 16-len(name))...)
		for _, v := range []uint32{addr, uint32(at + len(body)), 0, uint32(at + len(body))} {
			b = word(b, v)
		}
		for _, v := range []uint32{5, 5, 0, 0} { // protections, sections, flags
			b = order.AppendUint32(b, v)
		}
		return b
	}("__TEXT")
	magic, kind := uint32(0xfeedface), uint32(lcSegment)
	if wide {
		magic, kind = 0xfeedfacf, lcSegment64
	}
	var commands []byte
	for _, v := range []uint32{kind, uint32(8 + len(segment))} {
		commands = order.AppendUint32(commands, v)
	}
	commands = append(commands, segment...)
	for _, v := range []uint32{lcSymTab, 24, symOff, uint32(len(names)), symOff + uint32(len(symbols)),
		uint32(len(strs))} {
		commands = order.AppendUint32(commands, v)
	}
	var out []byte
	for _, v := range []uint32{magic, cpu, 0, mhDylib, 2, uint32(len(commands)), 0} {
		out = order.AppendUint32(out, v)
	}
	if wide {
		out = order.AppendUint32(out, 0)
	}
	out = append(out, commands...)
	return append(append(out, make([]byte, at-len(out))...), body...)
}

func TestOldMachO(t *testing.T) {
	for _, c := range []struct {
		order   binary.AppendByteOrder
		wide    bool
		cpu     uint32
		arch    string
		machine string
	}{
		{binary.LittleEndian, false, cpu386, "386", "x86 (CPU type 0x7)"},
		{binary.LittleEndian, true, cpuAMD64, "amd64", "x86-64 (CPU type 0x1000007)"},
		{binary.LittleEndian, false, cpuARM, "arm", "ARM (CPU type 0xc)"},
		{binary.BigEndian, false, 18, "", "PowerPC (CPU type 0x12)"},
		{binary.BigEndian, true, 0x1000012, "", "PowerPC 64 (CPU type 0x1000012)"},
	} {
		data := oldMachO(c.order, c.wide, c.cpu)
		f, err := macho.NewFile(bytes.NewReader(data))
		require.NoError(t, err, c.machine)
		require.Equal(t, "_ferrule_manifest", f.Symtab.Syms[1].Name)

		lib, err := readBytes(data)
		require.NoError(t, err, c.machine)
		require.Equal(t, "old", lib.Manifest.Name)
		require.Equal(t, []abi.Symbol{{Name: "f"}}, lib.Funcs, "a name without an underscore is not C's")
		require.Equal(t, c.arch, lib.Arch)
		require.Equal(t, c.machine, lib.Machine)
	}
}

// trieNode is a node of an export trie: what its name stands for, and its edges.
type trieNode struct {
	info  []byte
	edges []trieEdge
}

type trieEdge struct {
	text string
	node int
}

// encodeTrie lays the nodes out; the offsets in it are all of three bytes, so that they are known beforehand.
func encodeTrie(nodes []trieNode) []byte {
	offsets, size := make([]int, len(nodes)+1), 0
	for i, n := range nodes {
		offsets[i] = size
		for size += 1 + len(n.info) + 1; len(n.edges) > 0; n.edges = n.edges[1:] {
			size += len(n.edges[0].text) + 1 + 3
		}
	}
	offsets[len(nodes)] = size // beyond the end
	var out []byte
	for _, n := range nodes {
		out = append(append(out, byte(len(n.info))), n.info...)
		out = append(out, byte(len(n.edges)))
		for _, e := range n.edges {
			at := offsets[e.node]
			out = append(append(out, e.text...), 0, byte(at)|0x80, byte(at>>7)|0x80, byte(at>>14))
		}
	}
	return out
}

func TestExportTrie(t *testing.T) {
	walk := func(trie []byte) (*exports, error) {
		f := &machoFile{image: newImage(bytes.NewReader(trie), uint64(len(trie))), trieLen: uint64(len(trie)),
			base: 0x1000}
		x := &exports{}
		return x, f.readTrie(x)
	}
	here := []byte{0, 0x10}
	leaf := trieNode{info: here}
	t.Run("kinds of exports", func(t *testing.T) {
		x, err := walk(encodeTrie([]trieNode{
			{edges: []trieEdge{{"_ferrule_", 1}, {"_g", 6}}},
			{edges: []trieEdge{{"fn_regular", 2}, {"fn_local", 3}, {"fn_absolute", 4}, {"fn_reexported", 5}}},
			leaf, {info: []byte{1, 0x10}}, {info: []byte{2, 0x10}}, {info: []byte("\x08\x01_g\x00")}, leaf,
		}))
		require.NoError(t, err)
		require.ElementsMatch(t, []export{
			{name: "ferrule_fn_regular", addr: 0x1010},
			{name: "ferrule_fn_local", addr: 0x1010, elsewhere: "a thread-local variable"},
			{name: "ferrule_fn_absolute", addr: 0x10},
			{name: "ferrule_fn_reexported", elsewhere: "a re-export of another library's symbol"},
		}, x.list)
	})
	t.Run("a name on the way to another", func(t *testing.T) {
		x, err := walk(encodeTrie([]trieNode{
			{edges: []trieEdge{{"_", 1}}},
			{edges: []trieEdge{{"_Z12ferrule_fn_fP12ferrule_call", 5}, {"ferr", 2}}},
			{edges: []trieEdge{{"ule_fn_a", 3}}},
			{info: here, edges: []trieEdge{{"b", 4}}},
			leaf, leaf,
		}))
		require.NoError(t, err)
		require.ElementsMatch(t, []export{{name: "ferrule_fn_a", addr: 0x1010}, {name: "ferrule_fn_ab",
			addr: 0x1010}}, x.list)
	})
	t.Run("a name on the way to another, as Apple's classic linker has it", func(t *testing.T) {
		x, err := walk(encodeTrie([]trieNode{
			{edges: []trieEdge{{"_ferrule_fn_a", 1}}},
			{edges: []trieEdge{{"b", 2}, {"", 3}}}, leaf, leaf,
		}))
		require.NoError(t, err)
		require.ElementsMatch(t, []export{{name: "ferrule_fn_a", addr: 0x1010}, {name: "ferrule_fn_ab",
			addr: 0x1010}}, x.list)
	})
	t.Run("long names", func(t *testing.T) {
		long := strings.Repeat("x", 5000)
		x, err := walk(encodeTrie([]trieNode{{edges: []trieEdge{{"_" + long, 1}, {"_ferrule_manifest", 2}}}, leaf,
			leaf}))
		require.NoError(t, err, "another's long name is nothing to complain of")
		require.Len(t, x.list, 1)
		_, err = walk(encodeTrie([]trieNode{{edges: []trieEdge{{"_ferrule_fn_" + long, 1}}}, leaf}))
		requireError(t, err, ErrName, "1024 bytes or more")
	})
	for name, nodes := range map[string][]trieNode{
		"loop":         {{edges: []trieEdge{{"_ferrule_", 1}}}, {edges: []trieEdge{{"a", 1}}}},
		"loop to root": {{edges: []trieEdge{{"_", 0}}}},
		"empty edges":  {{edges: []trieEdge{{"", 0}}}},
		"beyond":       {{edges: []trieEdge{{"_ferrule_", 1}}}},
		"shared nodes": {{edges: []trieEdge{{"_ferrule_", 1}}}, {edges: []trieEdge{{"a", 2}, {"b", 2}}},
			{edges: []trieEdge{{"a", 3}, {"b", 3}}}, leaf},
		"half a record": {{edges: []trieEdge{{"_ferrule_", 1}}}, {info: []byte{0}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := walk(encodeTrie(nodes))
			requireError(t, err, ErrMalformed, "an export trie with")
		})
	}
}

// goBlob is what the Go linker leaves for the version.
func goBlob(version string) []byte {
	b := append([]byte(goMagic), 8, goInline)
	b = append(append(b, make([]byte, goHeader-len(b))...), byte(len(version)))
	return append(b, version...)
}

func TestGoRuntimeForged(t *testing.T) {
	t.Run("Mach-O", func(t *testing.T) {
		data := testdata(t, "macho-arm64-clang.dylib")
		section := command(t, data, lcSegment64)[72:]
		clear(section[:16])
		copy(section, "__go_buildinfo")
		off := le32(section, 48)
		lib, err := readBytes(data)
		require.NoError(t, err)
		require.Equal(t, goUnknown, lib.GoVersion)
		copy(data[off:], goBlob("go1.26.8"))
		lib, err = readBytes(data)
		require.NoError(t, err)
		require.Equal(t, "go1.26.8", lib.GoVersion)
	})
	t.Run("the version of before 1.18", func(t *testing.T) {
		blob := goBlob("go1.17")
		blob[15] = 0
		m := newImage(bytes.NewReader(blob), uint64(len(blob)))
		version, err := m.goVersion(0)
		require.NoError(t, err)
		require.Equal(t, goUnknown, version)
	})
	t.Run("scan", func(t *testing.T) {
		for _, at := range []int{0, 16, windowSize - 16, windowSize, 3*windowSize + 160, goScanSize - 64} {
			data := make([]byte, goScanSize+1000)
			copy(data[8:], goMagic) // not where the linker would put it
			copy(data[max(at, 32):], goBlob("go1.26.8"))
			m := newImage(bytes.NewReader(data), uint64(len(data)))
			version, err := m.scanGoVersion(&segment{addr: 0x5000, size: m.size, inFile: m.size})
			require.NoError(t, err)
			require.Equal(t, "go1.26.8", version, "at %d", at)
		}
	})
}

// TestGoRuntime builds Go libraries as their authors do, and strips them.
func TestGoRuntime(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Go libraries, which takes seconds; run without -short")
	}
	dir := t.TempDir()
	source := "package main\n\n" +
		"// #include \"ferrule.h\"\n" +
		"// static const char unused = 0;\n" +
		"import \"C\"\n\n" +
		"//export ferrule_fn_go\nfunc ferrule_fn_go(call *C.ferrule_call) int32 { return 0 }\n\nfunc main() {}\n"
	manifest := "#include \"ferrule.h\"\n" + plugin
	for name, text := range map[string]string{"go.mod": "module p\n\ngo 1.26\n", "main.go": source,
		"manifest.c": manifest} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	include, err := filepath.Abs("../../include")
	require.NoError(t, err)
	goBuild := func(t *testing.T, output string, env ...string) string {
		path := filepath.Join(dir, output)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared",
			"-o", path, ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-mod=mod", "CGO_CFLAGS=-I"+include)
		cmd.Env = append(cmd.Env, env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return path
	}
	check := func(t *testing.T, data []byte, want string) {
		t.Helper()
		lib, err := readBytes(data)
		require.NoError(t, err)
		require.Equal(t, []abi.Symbol{{Name: "go"}}, lib.Funcs)
		require.Equal(t, want, lib.GoVersion)
	}
	read := func(t *testing.T, path string) []byte {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return data
	}
	t.Run("ELF", func(t *testing.T) {
		needCC(t)
		fixture.Tool(t, "strip", "apt-get install binutils")
		path := goBuild(t, "go.so")
		check(t, read(t, path), runtime.Version())
		run(t, "strip", "-s", path)
		check(t, read(t, path), runtime.Version())
		check(t, wipeSections(t, path), runtime.Version())
		data := bytes.ReplaceAll(wipeSections(t, path), []byte(goMagic), []byte("no build info "))
		check(t, data, goUnknown) // by its note
	})
	t.Run("PE", func(t *testing.T) {
		const cc = "x86_64-w64-mingw32-"
		fixture.Tool(t, cc+"gcc", "apt-get install mingw-w64")
		path := goBuild(t, "go.dll", "GOOS=windows", "GOARCH=amd64", "CC="+cc+"gcc")
		check(t, read(t, path), runtime.Version())
		run(t, cc+"strip", "-s", path)
		check(t, read(t, path), runtime.Version())
	})
}

// TestReadsLittle: the reader fetches tables, not code and data.
func TestReadsLittle(t *testing.T) {
	for _, c := range committed {
		data := testdata(t, c.file)
		r := &counting{r: bytes.NewReader(data)}
		_, err := Read(r, int64(len(data)))
		require.NoError(t, err)
		require.LessOrEqual(t, r.reads, 8, c.file)
	}
}

// bigSource is a library of 10 MB: 20,000 exported functions beside those of a plug-in, and data.
func bigSource() string {
	var b strings.Builder
	b.WriteString(plugin)
	for i := range 20000 {
		fmt.Fprintf(&b, "int library_function_number_%05d(int x) { return x + %d; }\n", i, i)
	}
	for i := range 50 {
		fmt.Fprintf(&b,
			"FERRULE_FN(f%02d) { return 0; } FERRULE_FN_META(f%02d, FERRULE_DOC(\"The function %d.\"));\n", i, i, i)
	}
	b.WriteString("const char padding[8 << 20] = {1}; char writable[1 << 20] = {1};\n")
	return b.String()
}

// BenchmarkFile10MB reports, beside the time, how much of the file is read.
func BenchmarkFile10MB(b *testing.B) {
	benchmarkFile(b, buildELF(b, bigSource(), "-O0", "-s"))
}

// BenchmarkFile10MBNoSections is the same without section headers, which tell soonest that it is not a Go library.
func BenchmarkFile10MBNoSections(b *testing.B) {
	path := buildELF(b, bigSource(), "-O0", "-s")
	require.NoError(b, os.WriteFile(path, wipeSections(b, path), 0o600))
	benchmarkFile(b, path)
}

// BenchmarkDLL10MB is the same library in PE.
func BenchmarkDLL10MB(b *testing.B) {
	const cc = "x86_64-w64-mingw32-gcc"
	fixture.Tool(b, cc, "apt-get install mingw-w64")
	benchmarkFile(b, build(b, cc, "big.dll", "#include \"ferrule.h\"\n"+bigSource(), "-O0", "-s",
		"-Wl,--export-all-symbols"))
}

func benchmarkFile(b *testing.B, path string) {
	f, err := os.Open(path)
	require.NoError(b, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(b, err)
	r := &counting{r: f}
	lib, err := Read(r, info.Size())
	require.NoError(b, err)
	require.Len(b, lib.Funcs, 50)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := File(path); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(r.bytes), "read-bytes")
	b.ReportMetric(float64(r.reads), "reads")
	b.ReportMetric(float64(info.Size()), "file-bytes")
}

// BenchmarkFileSmall is the usual plug-in.
func BenchmarkFileSmall(b *testing.B) {
	path := filepath.Join("testdata", "elf-amd64-gcc.so")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := File(path); err != nil {
			b.Fatal(err)
		}
	}
}

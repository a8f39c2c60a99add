package inspect

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
)

// committed are the libraries in testdata, all from probe.c or probe.rs.
var committed = []struct {
	file    string
	format  Format
	os      string
	arch    string
	machine string
	soName  string
	needed  []string
	runPath []string
	libc    CLibrary
	minOS   string
}{
	{file: "elf-386-gcc.so", format: ELF, os: "linux", arch: "386", machine: "x86 (EM 3)"},
	{file: "elf-amd64-clang.so", format: ELF, os: "linux", arch: "amd64", machine: "x86-64 (EM 62)"},
	{file: "elf-amd64-freebsd.so", format: ELF, os: "freebsd", arch: "amd64", machine: "x86-64 (EM 62)"},
	{file: "elf-amd64-gcc.so", format: ELF, os: "linux", arch: "amd64", machine: "x86-64 (EM 62)",
		soName: "libprobe.so", needed: []string{"libc.so.6"}, runPath: []string{"/opt/probe", "$ORIGIN"}, libc: Glibc},
	{file: "elf-amd64-rust.so", format: ELF, os: "linux", arch: "amd64", machine: "x86-64 (EM 62)"},
	{file: "elf-arm-clang.so", format: ELF, os: "linux", arch: "arm", machine: "ARM (EM 40)"},
	{file: "elf-arm64-gcc.so", format: ELF, os: "linux", arch: "arm64", machine: "AArch64 (EM 183)"},
	{file: "elf-mips-clang.so", format: ELF, os: "linux", arch: "mips", machine: "MIPS (EM 8)"},
	{file: "elf-ppc64-clang.so", format: ELF, os: "linux", arch: "ppc64", machine: "PowerPC 64 (EM 21)"},
	{file: "elf-ppc64le-clang.so", format: ELF, os: "linux", arch: "ppc64le", machine: "PowerPC 64 (EM 21)"},
	{file: "elf-riscv64-clang.so", format: ELF, os: "linux", arch: "riscv64", machine: "RISC-V (EM 243)"},
	{file: "elf-s390x-sysv.so", format: ELF, os: "linux", arch: "s390x", machine: "S/390 (EM 22)"},
	{file: "macho-amd64-clang.dylib", format: MachO, os: "darwin", arch: "amd64",
		machine: "x86-64 (CPU type 0x1000007)", soName: "@rpath/libprobe.dylib", runPath: []string{"@loader_path"},
		minOS: "11.0"},
	{file: "macho-arm64-clang.dylib", format: MachO, os: "darwin", arch: "arm64",
		machine: "ARM64 (CPU type 0x100000c)", soName: "@rpath/libprobe.dylib", runPath: []string{"@loader_path"},
		minOS: "11.0"},
	{file: "pe-386-mingw.dll", format: PE, os: "windows", arch: "386", machine: "x86 (machine 0x14c)",
		soName: "pe-386-mingw.dll", minOS: "4.0"},
	{file: "pe-amd64-mingw.dll", format: PE, os: "windows", arch: "amd64", machine: "x86-64 (machine 0x8664)",
		soName: "pe-amd64-mingw.dll", minOS: "5.2"},
	{file: "pe-arm64-lld.dll", format: PE, os: "windows", arch: "arm64", machine: "ARM64 (machine 0xaa64)",
		soName: "pe-arm64-lld.dll", needed: []string{"now.dll", "later.dll"}, minOS: "6.0"},
}

const fatFile = "macho-fat-lipo.dylib"

// probe is what every committed library says of itself.
var probe = Library{Description: abi.Description{
	Manifest: &abi.Manifest{Name: "probe", Version: "1.2.3", Threads: abi.Concurrent, Description: "One of everything.",
		Keys: abi.Text{{Key: "ferrule", Value: "1"}, {Key: "name", Value: "probe"}, {Key: "version", Value: "1.2.3"},
			{Key: "threads", Value: "concurrent"}, {Key: "description", Value: "One of everything."},
			{Key: "x-color", Value: "blue"}}},
	Funcs: []abi.Symbol{{Name: "add"}, {Name: "count", Doc: "Counts things.", In: "text/plain", Out: "application/json",
		Schema: `{"type":"integer"}`, Keys: abi.Text{{Key: "doc", Value: "Counts things."},
			{Key: "in", Value: "text/plain"}, {Key: "out", Value: "application/json"},
			{Key: "schema", Value: `{"type":"integer"}`}, {Key: "x-cost", Value: "low"}}}},
	Hooks: []abi.Symbol{{Name: "before_checkout", Doc: "Runs before a cart is paid.",
		Keys: abi.Text{{Key: "doc", Value: "Runs before a cart is paid."}}}},
	Imports: []abi.Symbol{{Name: "Zone"}, {Name: "points", Doc: "The customer's points.",
		Keys: abi.Text{{Key: "doc", Value: "The customer's points."}}}},
	HasStart: true, HasStop: true, HasBatch: true},
	Reserved: []string{"ferrule_future", "ferrule_meta_fn_nothing"},
}

// requireProbe asserts that lib has the contract of probe.c.
func requireProbe(t testing.TB, lib *Library) {
	t.Helper()
	got := contractOf(lib)
	require.Equal(t, probe, got)
}

func testdata(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	return data
}

func readBytes(data []byte) (*Library, error) { return Read(bytes.NewReader(data), int64(len(data))) }

// requireError asserts that err is an *Error of the kind, and that its text has each of the parts.
func requireError(t testing.TB, err error, kind error, parts ...string) *Error {
	t.Helper()
	require.ErrorIs(t, err, kind)
	var e *Error
	require.ErrorAs(t, err, &e)
	for _, part := range parts {
		require.Contains(t, err.Error(), part)
	}
	return e
}

func TestCommittedLibraries(t *testing.T) {
	seen := []string{fatFile}
	for _, c := range committed {
		seen = append(seen, c.file)
		t.Run(c.file, func(t *testing.T) {
			path := filepath.Join("testdata", c.file)
			lib, err := File(path)
			require.NoError(t, err)
			requireProbe(t, lib)
			info, err := os.Stat(path)
			require.NoError(t, err)
			want := Library{Path: path, Size: info.Size(), Format: c.format, OS: c.os, Arch: c.arch, Machine: c.machine,
				Archs: []string{c.arch}, SOName: c.soName, Needed: c.needed, RunPath: c.runPath,
				Description: lib.Description, Reserved: lib.Reserved,
				Hardening: committedHardening(c.file, c.format), CLibrary: c.libc, MinOS: c.minOS}
			require.Equal(t, want, *lib)
		})
	}
	files, err := filepath.Glob("testdata/*-*-*.*")
	require.NoError(t, err)
	for i, f := range files {
		files[i] = filepath.Base(f)
	}
	assert.ElementsMatch(t, seen, files, "each library in testdata stands in the table")
}

func TestFatFile(t *testing.T) {
	lib, err := File(filepath.Join("testdata", fatFile))
	require.NoError(t, err)
	requireProbe(t, lib)
	require.Equal(t, []string{"amd64", "arm64"}, lib.Archs)
	want := "amd64" // the first slice
	if runtime.GOARCH == "arm64" {
		want = "arm64"
	}
	require.Equal(t, want, lib.Arch)
	require.EqualValues(t, len(testdata(t, fatFile)), lib.Size)
}

// fat makes a fat file of slices, with 64-bit offsets or 32-bit ones.
func fat(wide bool, slices ...[]byte) []byte {
	const align = 0x4000
	out := []byte{0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, byte(len(slices))}
	if wide {
		out[3] = 0xbf
	}
	var body []byte
	for _, slice := range slices {
		body = append(body, make([]byte, -len(body)&(align-1))...)
		cpu := [8]byte{}
		if len(slice) >= 12 {
			for i := range 8 {
				cpu[i] = slice[4+i&^3+3-i&3] // to big-endian
			}
		}
		out = append(out, cpu[:]...)
		if wide {
			out = binary.BigEndian.AppendUint64(out, uint64(align+len(body)))
			out = binary.BigEndian.AppendUint64(out, uint64(len(slice)))
			out = binary.BigEndian.AppendUint64(out, 14<<32)
		} else {
			out = binary.BigEndian.AppendUint32(out, uint32(align+len(body)))
			out = binary.BigEndian.AppendUint32(out, uint32(len(slice)))
			out = binary.BigEndian.AppendUint32(out, 14)
		}
		body = append(body, slice...)
	}
	return append(append(out, make([]byte, align-len(out))...), body...)
}

func TestFatVariants(t *testing.T) {
	amd64, arm64 := testdata(t, "macho-amd64-clang.dylib"), testdata(t, "macho-arm64-clang.dylib")
	t.Run("offsets of 64 bits", func(t *testing.T) {
		lib, err := readBytes(fat(true, arm64, amd64))
		require.NoError(t, err)
		requireProbe(t, lib)
		require.Equal(t, []string{"arm64", "amd64"}, lib.Archs)
	})
	t.Run("no slice for this machine", func(t *testing.T) {
		other := bytes.Clone(arm64)
		binary.LittleEndian.PutUint32(other[8:], 2) // ARM64E
		lib, err := readBytes(fat(false, other))
		require.NoError(t, err)
		require.Empty(t, lib.Arch)
		require.Equal(t, []string{"ARM64E (CPU type 0x100000c)"}, lib.Archs)
	})
	t.Run("a slice beyond the end", func(t *testing.T) {
		data := fat(false, amd64, arm64)
		_, err := readBytes(data[:len(data)-1])
		requireError(t, err, ErrTruncated, "the slice for ARM64")
	})
	t.Run("a static library", func(t *testing.T) {
		_, err := readBytes(fat(false, []byte("!<arch>\nand so on")))
		requireError(t, err, ErrNotLibrary, "a fat file of which a slice is an archive")
	})
	t.Run("a fat slice in a fat file", func(t *testing.T) {
		_, err := readBytes(fat(false, fat(false, amd64)))
		requireError(t, err, ErrNotLibrary)
	})
	t.Run("no slices", func(t *testing.T) {
		_, err := readBytes(fat(false))
		requireError(t, err, ErrMalformed)
	})
}

// TestOracles compares with what Go's own readers say. They read section headers and symbol tables, so they see the
// same only in libraries that are neither stripped of those nor forged.
func TestOracles(t *testing.T) {
	for _, c := range committed {
		t.Run(c.file, func(t *testing.T) {
			lib, err := File(filepath.Join("testdata", c.file))
			require.NoError(t, err)
			var names, needed []string
			r := bytes.NewReader(testdata(t, c.file))
			switch c.format {
			case ELF:
				f, err := elf.NewFile(r)
				require.NoError(t, err)
				symbols, err := f.DynamicSymbols()
				require.NoError(t, err)
				for _, s := range symbols {
					if s.Section != elf.SHN_UNDEF && elf.ST_BIND(s.Info) != elf.STB_LOCAL {
						names = append(names, s.Name)
					}
				}
				needed, err = f.ImportedLibraries()
				require.NoError(t, err)
			case MachO:
				f, err := macho.NewFile(r)
				require.NoError(t, err)
				for _, s := range f.Symtab.Syms {
					if s.Type&nExternal != 0 && s.Sect != 0 {
						names = append(names, strings.TrimPrefix(s.Name, "_"))
					}
				}
				needed, err = f.ImportedLibraries()
				require.NoError(t, err)
			case PE: // debug/pe reads no exports, and no delayed imports
				f, err := pe.NewFile(r)
				require.NoError(t, err)
				symbols, err := f.ImportedSymbols()
				require.NoError(t, err)
				for _, s := range symbols {
					_, dll, _ := strings.Cut(s, ":")
					needed = append(needed, dll)
				}
				require.Subset(t, append(lib.Needed, ""), append(needed, ""))
				return
			}
			require.ElementsMatch(t, needed, lib.Needed)
			var want []string
			for _, name := range names {
				if strings.HasPrefix(name, abi.SymbolPrefix) {
					want = append(want, name)
				}
			}
			got := slices.Concat([]string{abi.SymbolManifest, abi.SymbolStart, abi.SymbolStop, abi.SymbolBatch},
				lib.Reserved)
			for _, list := range []struct {
				symbols      []abi.Symbol
				prefix, meta string
			}{{lib.Funcs, abi.PrefixFunc, abi.PrefixFuncMeta}, {lib.Hooks, abi.PrefixHook, abi.PrefixHookMeta},
				{lib.Imports, abi.PrefixImport, abi.PrefixImportMeta}} {
				for _, s := range list.symbols {
					if got = append(got, list.prefix+s.Name); s.Keys != nil {
						got = append(got, list.meta+s.Name)
					}
				}
			}
			require.ElementsMatch(t, want, got)
		})
	}
}

// TestSystemLibraries reads what is installed: none of it is a plug-in, and none of it may look damaged.
func TestSystemLibraries(t *testing.T) {
	var files []string
	for _, pattern := range []string{"/lib/*/lib[a-m]*.so.*", "/lib64/*.so.*", "/usr/lib/lib*.dylib",
		"/usr/*-w64-mingw32/lib/*.dll", `C:\Windows\System32\[a-d]*.dll`} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	for _, file := range files {
		_, err := File(file)
		if errors.Is(err, ErrNoContract) {
			continue
		}
		requireError(t, err, ErrNotLibrary, "text") // such as GDB's scripts
	}
	t.Logf("%d files", len(files))
}

func TestOtherFiles(t *testing.T) {
	object := bytes.Clone(testdata(t, "elf-amd64-gcc.so"))
	object[16] = etRel
	core := bytes.Clone(object)
	core[16] = etCore
	program := bytes.Clone(object)
	program[16] = etExec
	unknown := bytes.Clone(object)
	unknown[16] = 77
	exe := bytes.Clone(testdata(t, "pe-amd64-mingw.dll"))
	exe[binary.LittleEndian.Uint32(exe[60:])+23] &^= peDLL >> 8
	dos := bytes.Clone(testdata(t, "pe-amd64-mingw.dll"))
	copy(dos[binary.LittleEndian.Uint32(dos[60:]):], "NE")
	tool := bytes.Clone(testdata(t, "macho-arm64-clang.dylib"))
	tool[12] = 2
	for _, c := range []struct {
		name  string
		data  []byte
		kind  error
		found string
	}{
		{"nothing", nil, ErrNotLibrary, "an empty file"},
		{"two bytes", []byte("\x7fE"), ErrNotLibrary, "a file of 2 bytes"},
		{"text", []byte("int main() {}\n"), ErrNotLibrary, "a text file"},
		{"UTF-8 text", []byte("été, это текст\n"), ErrNotLibrary, "a text file"},
		{"script", []byte("#!/bin/sh\n"), ErrNotLibrary, "a script"},
		{"linker script", []byte("/* GNU ld script */\nGROUP ( libc.so.6 )\n"), ErrNotLibrary, "a linker script"},
		{"archive", []byte("!<arch>\nprobe.o/"), ErrNotLibrary, "an archive of object files"},
		{"bitcode", []byte("BC\xc0\xde...."), ErrNotLibrary, "LLVM bitcode"},
		{"WebAssembly", []byte("\x00asm\x01\x00\x00\x00"), ErrNoContract, "a WebAssembly module that exports no ferrule_ symbol"},
		{"WebAssembly component", []byte("\x00asm\x0d\x00\x01\x00"), ErrNotLibrary, "a WebAssembly component, expected a module"},
		{"WebAssembly of another version", []byte("\x00asm\x02\x00\x00\x00"), ErrNotLibrary, "WebAssembly version 2"},
		{"Java class", []byte("\xca\xfe\xba\xbe\x00\x00\x00\x34\x00\x10"), ErrNotLibrary, "a Java class"},
		{"noise", []byte("\x00\x01\x02\x03\x04"), ErrNotLibrary, "00 01 02 03"},
		{"ELF object file", object, ErrNotLibrary, "an object file (ELF)"},
		{"ELF core dump", core, ErrNotLibrary, "a core dump"},
		{"ELF program", program, ErrNotLibrary, "an executable program (ELF)"},
		{"ELF of an unknown type", unknown, ErrMalformed, "ELF type 77"},
		{"COFF object file", append([]byte{0x64, 0x86, 2, 0}, make([]byte, 60)...), ErrNotLibrary,
			"an object file (COFF)"},
		{"exe", exe, ErrNotLibrary, "an executable program (.exe)"},
		{"DOS program", dos, ErrNotLibrary, "a DOS or 16-bit"},
		{"Mach-O program", tool, ErrNotLibrary, "an executable program (Mach-O)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lib, err := readBytes(c.data)
			require.Nil(t, lib)
			e := requireError(t, err, c.kind, c.found)
			require.NotEmpty(t, e.Remedy)
		})
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.so")
	_, err := File(path)
	e := requireError(t, err, ErrRead, path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, path, e.Path)
	require.Equal(t, 1, strings.Count(err.Error(), path), "the path stands once in %q", err)
}

func TestDirectory(t *testing.T) {
	_, err := File(t.TempDir())
	requireError(t, err, ErrNotRegular, "a directory")
}

// failing is a file that cannot be read.
type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, fs.ErrPermission }

func TestReadErrors(t *testing.T) {
	_, err := Read(failing{}, 100)
	requireError(t, err, ErrRead)
	require.ErrorIs(t, err, fs.ErrPermission)

	data := testdata(t, "elf-amd64-gcc.so")
	_, err = Read(bytes.NewReader(data[:len(data)-100]), int64(len(data))) // it shrank after it was opened
	requireError(t, err, ErrTruncated)
}

// TestEveryTruncation cuts libraries at every length. Each cut is an error: what is gone may be what the process would
// die of missing.
func TestEveryTruncation(t *testing.T) {
	for _, file := range []string{"elf-amd64-clang.so", "elf-mips-clang.so", "elf-s390x-sysv.so", "pe-386-mingw.dll",
		"pe-arm64-lld.dll", "macho-amd64-clang.dylib", fatFile} {
		t.Run(file, func(t *testing.T) {
			data := testdata(t, file)
			for n := range data {
				lib, err := readBytes(data[:n])
				if lib != nil || !errors.Is(err, ErrTruncated) && (n >= 4 || !errors.Is(err, ErrNotLibrary)) {
					t.Fatalf("%d of %d bytes: %v", n, len(data), err)
				}
			}
		})
	}
}

// checkAnswer asserts what holds for every answer about any file.
func checkAnswer(t testing.TB, lib *Library, err error) {
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Kind == nil || e.Error() == "" || lib != nil {
			t.Fatalf("%v and %#v", lib, err)
		}
		return
	}
	if lib.Manifest == nil || lib.Manifest.Name == "" || lib.Machine == "" || len(lib.Archs) == 0 || lib.Format == "" {
		t.Fatalf("%#v", lib)
	}
	for _, list := range [][]abi.Symbol{lib.Funcs, lib.Hooks, lib.Imports} {
		for i, s := range list {
			if !abi.ValidName(s.Name) || i > 0 && list[i-1].Name >= s.Name {
				t.Fatalf("%#v", list)
			}
		}
	}
}

// TestEveryCorruption changes each of the first 4 KiB, which hold the headers, the symbols and the texts.
func TestEveryCorruption(t *testing.T) {
	for _, file := range []string{"elf-amd64-clang.so", "elf-mips-clang.so", "elf-s390x-sysv.so", "pe-386-mingw.dll",
		"pe-arm64-lld.dll", "macho-amd64-clang.dylib", "macho-arm64-clang.dylib", fatFile} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data := testdata(t, file)
			if strings.HasPrefix(file, "macho") { // what the headers lead to stands at the end
				corruptEach(t, data, len(data)-4096, len(data))
			}
			corruptEach(t, data, 0, min(4096, len(data)))
		})
	}
}

func corruptEach(t *testing.T, data []byte, from, to int) {
	for i := from; i < to; i++ {
		old := data[i]
		values := []byte{0, 0xff, old + 1, old - 1, old ^ 0x80, old ^ 0x40, old ^ 0x10}
		if testing.Short() {
			values = values[:2]
		}
		for _, b := range values {
			data[i] = b
			lib, err := readBytes(data)
			checkAnswer(t, lib, err)
		}
		data[i] = old
	}
}

// counting counts what is read.
type counting struct {
	r            io.ReaderAt
	reads, bytes int
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	c.reads++
	c.bytes += len(b)
	return c.r.ReadAt(b, off)
}

// FuzzRead: whatever the file, the answer is a typed error or a sound description, and no more is read than a file of
// that size is worth.
func FuzzRead(f *testing.F) {
	for _, c := range committed {
		f.Add(testdata(f, c.file))
	}
	f.Add(testdata(f, fatFile))
	f.Fuzz(fuzzRead)
}

// FuzzELF, FuzzMachO and FuzzPE are FuzzRead with the seeds of one format.
func FuzzELF(f *testing.F)   { fuzzFormat(f, ELF) }
func FuzzMachO(f *testing.F) { fuzzFormat(f, MachO) }
func FuzzPE(f *testing.F)    { fuzzFormat(f, PE) }

func fuzzFormat(f *testing.F, format Format) {
	for _, c := range committed {
		if c.format == format && c.file != "macho-arm64-clang.dylib" { // its pages of 16 KiB say nothing more
			f.Add(testdata(f, c.file))
		}
	}
	if format == MachO {
		f.Add(fat(true, testdata(f, "macho-amd64-clang.dylib"))[:0x5000])
	}
	f.Fuzz(fuzzRead)
}

func fuzzRead(t *testing.T, data []byte) {
	r := &counting{r: bytes.NewReader(data)}
	lib, err := Read(r, int64(len(data)))
	checkAnswer(t, lib, err)
	// A symbol of 8 bytes or more in a table costs a few windows at most, be they all scattered.
	if limit := 64*windowSize + len(data)*windowSize; r.bytes > limit {
		t.Fatalf("%d bytes read of a file of %d", r.bytes, len(data))
	}
}

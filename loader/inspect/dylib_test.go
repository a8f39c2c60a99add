package inspect

import (
	"bytes"
	"debug/macho"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const lcDyldChainedFixups = 0x80000034

// sdkDylibs are the fat libraries in testdata/macho, with what each slice of them is linked with.
var sdkDylibs = []struct {
	file, source, std string
	soName            string
	needed, runPath   []string
	exports           uint32 // the load command with the exports
	fixups            uint32 // the load command with what dyld writes to
	minOS             string
}{
	{"stock-c.dylib", "stock.c", "-std=c99", "@rpath/libstock.dylib", []string{"/usr/lib/libSystem.B.dylib"},
		[]string{"@loader_path/../lib"}, lcDyldInfoOnly, lcDyldInfoOnly, "11.0"},
	{"words-cpp.dylib", "words.cpp", "-std=c++17", "@rpath/libwords.dylib",
		[]string{"/usr/lib/libSystem.B.dylib", "/usr/lib/libc++.1.dylib"},
		[]string{"@executable_path/../Frameworks", "@loader_path"}, lcDyldExportsTrie, lcDyldChainedFixups, "13.0"},
}

// contractOf returns the part of lib that does not depend on what it is built for.
func contractOf(lib *Library) Library {
	return Library{Description: lib.Description, Reserved: lib.Reserved}
}

// slicesOf returns the slices of a fat file by GOARCH, as debug/macho finds them.
func slicesOf(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	f, err := macho.NewFatFile(bytes.NewReader(data))
	require.NoError(t, err)
	found := make(map[string][]byte)
	for _, arch := range f.Arches {
		goarch := map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}[arch.Cpu]
		found[goarch] = data[arch.Offset:][:arch.Size]
	}
	require.Len(t, found, 2)
	require.Contains(t, found, "amd64")
	require.Contains(t, found, "arm64")
	return found
}

// TestSDKDylibs: plug-ins on the SDKs say the same of themselves in Mach-O, thin and fat, as the same source says in ELF
// and PE.
func TestSDKDylibs(t *testing.T) {
	var files []string
	for _, c := range sdkDylibs {
		path := filepath.Join("testdata", "macho", c.file)
		files = append(files, path)
		t.Run(c.file, func(t *testing.T) {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			fatLib, err := File(path)
			require.NoError(t, err)
			thin := slicesOf(t, data)
			for arch, slice := range thin {
				for _, kind := range []uint32{c.exports, c.fixups, lcBuildVersion, lcIDDylib, lcRPath, lcLoadDylib} {
					command(t, slice, kind) // fails when it is not there
				}
				lib, err := readBytes(slice)
				require.NoError(t, err, arch)
				require.Equal(t, contractOf(fatLib), contractOf(lib), arch)
				machine := "x86-64 (CPU type 0x1000007)"
				if arch == "arm64" {
					machine = "ARM64 (CPU type 0x100000c)"
				}
				want := contractOf(lib)
				want.Size, want.Format, want.OS, want.Arch, want.Machine = int64(len(slice)), MachO, "darwin", arch, machine
				want.Archs, want.Needed, want.SOName, want.RunPath = []string{arch}, c.needed, c.soName, c.runPath
				want.Hardening = Hardening{ASLR: true, Signed: arch == "arm64"} // which loads nothing else
				want.MinOS = c.minOS
				require.Equal(t, want, *lib)

				want.Archs, want.Size = []string{"amd64", "arm64"}, int64(len(data))
				if want.Path = path; arch == fatLib.Arch {
					require.Equal(t, want, *fatLib)
				}
			}
			here := "amd64" // the first slice
			if runtime.GOARCH == "arm64" {
				here = "arm64"
			}
			require.Equal(t, here, fatLib.Arch)
			for _, wide := range []bool{false, true} {
				lib, err := readBytes(fat(wide, thin["arm64"], thin["amd64"]))
				require.NoError(t, err)
				require.Equal(t, []string{"arm64", "amd64"}, lib.Archs)
				require.Equal(t, contractOf(fatLib), contractOf(lib))
			}

			for _, b := range []struct {
				name, cc, cxx, install, output string
				flags                          []string
				skip                           bool
			}{
				{"ELF", "cc", "c++", "apt-get install g++", "plugin.so", []string{"-fPIC"}, runtime.GOOS != "linux"},
				{"PE", "x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-g++", "apt-get install mingw-w64", "plugin.dll", nil, false},
			} {
				t.Run(b.name, func(t *testing.T) {
					compiler := b.cc
					if strings.HasSuffix(c.source, ".cpp") {
						compiler = b.cxx
					}
					if b.skip {
						t.Skip(compiler + " makes other files on this system")
					}
					fixture.Tool(t, compiler, b.install)
					out := filepath.Join(t.TempDir(), b.output)
					run(t, compiler, append(b.flags, c.std, "-shared", "-O1", "-I../../include", "-I../../sdk-c/include",
						"-o", out, filepath.Join("testdata", "macho", c.source))...)
					lib, err := File(out)
					require.NoError(t, err)
					require.EqualValues(t, b.name, lib.Format)
					require.Equal(t, contractOf(lib), contractOf(fatLib))
				})
			}
		})
	}
	found, err := filepath.Glob("testdata/macho/*.dylib")
	require.NoError(t, err)
	assert.ElementsMatch(t, files, found, "each library in testdata/macho stands in the table")
}

// TestSDKDylibsSayMuch guards the comparison above against libraries that say nothing.
func TestSDKDylibsSayMuch(t *testing.T) {
	lib, err := File("testdata/macho/stock-c.dylib")
	require.NoError(t, err)
	assert.Equal(t, "Counts what is in stock: Grüße.", lib.Manifest.Description)
	require.Len(t, lib.Funcs, 2)
	assert.Equal(t, "Adds to the stock.\nNegative numbers take away.", lib.Funcs[0].Doc)
	assert.Equal(t, `{"type":"integer"}`, lib.Funcs[0].Schema)
	assert.Equal(t, "text/plain", lib.Hooks[0].Out)
	require.Len(t, lib.Imports, 2)
	assert.Equal(t, "Audit", lib.Imports[0].Name, "ordinals are by byte values")
	assert.Equal(t, "price", lib.Imports[1].Name)
	assert.True(t, lib.HasStart && lib.HasStop && lib.HasBatch)

	lib, err = File("testdata/macho/words-cpp.dylib")
	require.NoError(t, err)
	require.Len(t, lib.Funcs, 3)
	assert.Equal(t, "text/plain; charset=utf-8", lib.Funcs[2].In)
	assert.Equal(t, "A word in another language.", lib.Imports[0].Doc)
}

var appleTargets = map[string]string{"amd64": "x86_64-apple-macos11", "arm64": "arm64-apple-macos11"}

// buildDylib compiles source, C after ferrule.h, without the system's headers and libraries, and returns the path.
func buildDylib(t *testing.T, target, source string, flags ...string) string {
	t.Helper()
	fixture.Tool(t, "clang", "apt-get install clang")
	fixture.Tool(t, "ld.lld", "apt-get install lld") // which brings ld64.lld, next to LLVM's own clang
	dir := t.TempDir()
	from, path := filepath.Join(dir, "plugin.c"), filepath.Join(dir, "plugin.dylib")
	require.NoError(t, os.WriteFile(from, []byte("#include \"ferrule.h\"\n"+source), 0o600))
	args := []string{"-target", target, "-I../../include", "-ffreestanding", "-O1", "-w", "-o", path, from}
	if !slices.Contains(flags, "-c") {
		args = append(args, "-fuse-ld=lld", "-nostdlib", "-Wl,-undefined,dynamic_lookup")
	}
	run(t, "clang", append(args, flags...)...)
	return path
}

// TestDylibVariants builds probe.c in the ways that authors do: the contract survives all of them.
func TestDylibVariants(t *testing.T) {
	for _, c := range []struct {
		flags string
		want  func(*Library) // what differs from the usual
	}{
		{"-dynamiclib", nil},
		{"-dynamiclib -g", nil},
		{"-dynamiclib -O0", nil},
		{"-dynamiclib -O3 -flto", nil},
		{"-dynamiclib -fvisibility=hidden", nil},
		{"-dynamiclib -Wl,-dead_strip", nil},
		{"-dynamiclib -Wl,-x", nil},
		{"-dynamiclib -Wl,-S", nil},
		{"-bundle", func(lib *Library) { lib.SOName = "" }},
		{"-dynamiclib -Wl,-install_name,/opt/lib/libp.1.dylib -Wl,-rpath,/a -Wl,-rpath,@loader_path/b",
			func(lib *Library) {
				lib.SOName, lib.RunPath = "/opt/lib/libp.1.dylib", []string{"/a", "@loader_path/b"}
			}},
		{"-dynamiclib -Wl,-no_adhoc_codesign", func(lib *Library) { lib.Hardening.Signed = false }},
		{"-dynamiclib -Wl,-adhoc_codesign", func(lib *Library) { lib.Hardening.Signed = true }},
	} {
		for arch, target := range appleTargets {
			t.Run(arch+" "+c.flags, func(t *testing.T) {
				path := buildDylib(t, target, probeSource(t), strings.Fields(c.flags)...)
				lib, err := File(path)
				require.NoError(t, err)
				requireProbe(t, lib)
				want := contractOf(lib)
				want.Path, want.Size, want.Format = path, lib.Size, MachO
				want.OS, want.Arch, want.Archs = "darwin", arch, []string{arch}
				want.Machine, want.SOName = lib.Machine, path // where it is not named, after its file
				want.Hardening, want.MinOS = Hardening{ASLR: true, Signed: arch == "arm64"}, "11.0"
				if c.want != nil {
					c.want(&want)
				}
				require.Equal(t, want, *lib)
			})
		}
	}
	t.Run("for an old system", func(t *testing.T) { // which is named by another load command
		lib, err := File(buildDylib(t, "x86_64-apple-macos10.9", probeSource(t), "-dynamiclib"))
		require.NoError(t, err)
		requireProbe(t, lib)
		require.Equal(t, "darwin", lib.OS)
	})
	t.Run("for another system", func(t *testing.T) {
		lib, err := File(buildDylib(t, "arm64-apple-ios14", probeSource(t), "-dynamiclib"))
		require.NoError(t, err)
		requireProbe(t, lib)
		require.Equal(t, "ios", lib.OS)
	})
	t.Run("a slice for ARM64E beside others", func(t *testing.T) {
		read := func(arch string) []byte {
			data, err := os.ReadFile(buildDylib(t, appleTargets[arch], probeSource(t), "-dynamiclib"))
			require.NoError(t, err)
			return data
		}
		special := read("arm64")
		binary.LittleEndian.PutUint32(special[8:], 0x80000000|cpuARM64E) // with pointer authentication's version
		lib, err := readBytes(fat(false, special, read("amd64"), read("arm64")))
		require.NoError(t, err)
		require.Equal(t, []string{"ARM64E (CPU type 0x100000c)", "amd64", "arm64"}, lib.Archs)
		if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
			require.Equal(t, runtime.GOARCH, lib.Arch, "the slice for this machine, wherever it stands")
		}
	})
}

// TestDylibDefects builds what a linker takes and a host must not.
func TestDylibDefects(t *testing.T) {
	for _, c := range []struct {
		defect, source, flags string
		symbol                string
		kind                  error
		found                 string
	}{
		{"no contract", "int f(void) { return 1; }", "-dynamiclib", "ferrule_manifest", ErrNoContract,
			"exports no ferrule_ symbol"},
		{"manifest is hidden", `__attribute__((visibility("hidden"))) const char ferrule_manifest[] = "ferrule=1\0";
			FERRULE_FN(f) { return ferrule_manifest[0]; }`, "-dynamiclib", "ferrule_manifest", ErrNoContract,
			"imported, hidden or"},
		{"manifest is not in the list of exports", plugin + "FERRULE_FN(f) { return 0; }",
			"-dynamiclib -Wl,-exported_symbol,_ferrule_fn_f", "ferrule_manifest", ErrNoContract, "hidden"},
		{"C++ names", `int f(void) __asm__("__Z12ferrule_fn_fP12ferrule_call"); int f(void) { return 0; }`, "-dynamiclib",
			"ferrule_manifest", ErrNoContract, "only contains a name of the contract"},
		{"manifest is a pointer", `const char *const ferrule_manifest = "ferrule=1\0name=p\0version=1\0";`, "-dynamiclib",
			"ferrule_manifest", ErrManifest, ""},
		{"manifest in bss", "char ferrule_manifest[64];", "-dynamiclib -fno-common", "ferrule_manifest", ErrManifest,
			"without bytes in the file"},
		{"manifest of another major", `const char ferrule_manifest[] = "ferrule=2\0";`, "-dynamiclib",
			"ferrule_manifest", ErrMajor, "found ferrule=2"},
		{"function is data", plugin + "int ferrule_fn_f = 1;", "-dynamiclib", "ferrule_fn_f", ErrSymbol, "found writable data"},
		{"import slot is constant", plugin + "const uint32_t ferrule_import_x = FERRULE_UNBOUND;", "-dynamiclib",
			"ferrule_import_x", ErrSymbol, ""},
		{"import slot is a function", plugin + "int ferrule_import_x(void) { return 0; }", "-dynamiclib",
			"ferrule_import_x", ErrSymbol, "found code"},
		{"a program", plugin + "FERRULE_FN(f) { return 0; } int main(void) { return 0; }", "-Wl,-export_dynamic", "",
			ErrNotLibrary, "an executable program (Mach-O)"},
		{"an object file", plugin, "-c", "", ErrNotLibrary, "an object file (Mach-O)"},
	} {
		for arch, target := range appleTargets {
			t.Run(arch+" "+c.defect, func(t *testing.T) {
				path := buildDylib(t, target, c.source, strings.Fields(c.flags)...)
				_, err := File(path)
				e := requireError(t, err, c.kind, c.found, path)
				require.Equal(t, c.symbol, e.Symbol)
				require.NotEmpty(t, e.Remedy)

				data, err := os.ReadFile(path)
				require.NoError(t, err)
				_, err = readBytes(fat(false, data))
				requireError(t, err, c.kind, c.found)
			})
		}
	}
	t.Run("import slot is read-only after relocation", func(t *testing.T) {
		data, err := os.ReadFile(buildDylib(t, appleTargets["arm64"],
			plugin+`__attribute__((section("__DATA_CONST,__const"))) uint32_t ferrule_import_x = 1;`, "-dynamiclib"))
		require.NoError(t, err)
		// What newer linkers say of that segment, this one may not.
		at := bytes.Index(data, binary.LittleEndian.AppendUint32(nil, lcSegment64))
		for at >= 0 && cstr(data[at+8:at+24], 16) != "__DATA_CONST" {
			at += int(le32(data, at+4))
			require.Less(t, at, 4096, "no segment __DATA_CONST")
		}
		data[at+68] |= segReadOnly
		_, err = readBytes(data)
		require.Equal(t, "ferrule_import_x", requireError(t, err, ErrSymbol, "found read-only data").Symbol)
	})
	t.Run("a stub", func(t *testing.T) {
		_, err := readBytes([]byte("--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n" +
			"install-name: '/usr/lib/libp.dylib'\n...\n"))
		requireError(t, err, ErrNotLibrary, "a text stub of a library (.tbd)")
	})
	t.Run("a slice that is cut off", func(t *testing.T) {
		data, err := os.ReadFile("testdata/macho/stock-c.dylib")
		require.NoError(t, err)
		for arch, slice := range slicesOf(t, data) {
			_, err := readBytes(slice[:len(slice)/2])
			requireError(t, err, ErrTruncated)
			require.Contains(t, err.Error(), "the segment __", arch)
		}
	})
}

package inspect

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/stretchr/testify/require"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// needCC skips tests that make ELF files where the system's compiler makes others.
func needCC(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("makes ELF files with the system's C compiler, which makes other files here")
	}
	fixture.Tool(t, "cc", "apt-get install gcc")
}

// buildELF compiles source, C after ferrule.h, and returns the library's path.
func buildELF(t testing.TB, source string, flags ...string) string {
	t.Helper()
	needCC(t)
	return build(t, "cc", "plugin.so", "#include \"ferrule.h\"\n"+source, append([]string{"-fPIC"}, flags...)...)
}

func build(t testing.TB, cc, output, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	path, from := filepath.Join(dir, output), filepath.Join(dir, "plugin.c")
	require.NoError(t, os.WriteFile(from, []byte(source), 0o600))
	args := append([]string{"-I../../include", "-shared", "-O1", "-w", "-o", path, from}, flags...)
	run(t, cc, args...)
	return path
}

// probeSource is probe.c for buildELF.
func probeSource(t testing.TB) string {
	return strings.Replace(string(testdata(t, "probe.c")), `#include "ferrule.h"`, "", 1)
}

// wipeSections removes what only tools read: the section headers and what is not loaded.
func wipeSections(t testing.TB, path string) []byte {
	t.Helper()
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	end := uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			end = max(end, p.Off+p.Filesz)
		}
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data = data[:end]
	shoff, shsize := data[40:48], data[58:64] // e_shoff; e_shentsize, e_shnum and e_shstrndx
	if f.Class == elf.ELFCLASS32 {
		shoff, shsize = data[32:36], data[46:52]
	}
	clear(shoff)
	clear(shsize)
	return data
}

// TestBuildVariants builds probe.c in the ways that authors and distributions do: the contract survives all of them.
func TestBuildVariants(t *testing.T) {
	for _, flags := range []string{
		"-g",
		"-O0",
		"-O3 -flto",
		"-fvisibility=hidden",
		"-ffunction-sections -fdata-sections -Wl,--gc-sections",
		"-s",
		"-Wl,--hash-style=sysv",
		"-Wl,--hash-style=gnu",
		"-Wl,--hash-style=both -Wl,-z,relro,-z,now",
		"-Wl,-z,norelro",
		"-Wl,-z,noseparate-code",
		"-Wl,-z,max-page-size=65536",
		"-Wl,-z,pack-relative-relocs",
		"-Wl,-Bsymbolic -Wl,-z,nodelete",
		"-static-libgcc -Wl,-z,execstack",
		"-Wl,-N -nostdlib", // one segment, writable and executable
	} {
		t.Run(flags, func(t *testing.T) {
			path := buildELF(t, probeSource(t), strings.Fields(flags)...)
			lib, err := File(path)
			require.NoError(t, err)
			requireProbe(t, lib)
			require.Empty(t, lib.GoVersion)

			lib, err = readBytes(wipeSections(t, path))
			require.NoError(t, err, "without section headers")
			requireProbe(t, lib)
		})
	}
}

func TestRunPath(t *testing.T) {
	for _, flag := range []string{"-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"} {
		lib, err := File(buildELF(t, probeSource(t), flag, "-Wl,-rpath,/a:/b", "-Wl,-soname,p.so.1", "-lm",
			"-Wl,--no-as-needed"))
		require.NoError(t, err)
		require.Equal(t, []string{"/a", "/b"}, lib.RunPath)
		require.Equal(t, flag == "-Wl,--disable-new-dtags", lib.RPath)
		require.Equal(t, "p.so.1", lib.SOName)
		require.Contains(t, lib.Needed, "libc.so.6")
	}
}

const plugin = `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));` + "\n"

// TestDefects builds one library for each thing that an author can get wrong.
func TestDefects(t *testing.T) {
	name129 := strings.Repeat("n", 129)
	for _, c := range []struct {
		defect string
		source string
		flags  string
		symbol string
		kind   error
		found  string // in the error's text
	}{
		{"no contract", "int f(void) { return 1; }", "",
			"ferrule_manifest", ErrNoContract, "exports no ferrule_ symbol"},
		{"no exports at all", "static int f(void) { return 1; }", "-nostdlib",
			"ferrule_manifest", ErrNoContract, "exports no ferrule_ symbol"},
		{"function without manifest", "FERRULE_FN(f) { return 0; }", "",
			"ferrule_manifest", ErrNoContract, "found ferrule_fn_f and no ferrule_manifest"},
		{"manifest is only imported",
			"extern const char ferrule_manifest[]; const char *f(void) { return ferrule_manifest; }",
			"", "ferrule_manifest", ErrNoContract, "found the name ferrule_manifest, imported, hidden or"},
		{"manifest is hidden", `__attribute__((visibility("hidden"))) const char ferrule_manifest[] = "ferrule=1\0";`,
			"",
			"ferrule_manifest", ErrNoContract, "exports no ferrule_ symbol"},
		{"C++ names", `int f(void) __asm__("_Z12ferrule_fn_fP12ferrule_call"); int f(void) { return 0; }`, "",
			"ferrule_manifest", ErrNoContract, `_Z12ferrule_fn_fP12ferrule_call`},
		{"C++ manifest", `const char m[] __asm__("_ZN3foo16ferrule_manifestE") = "ferrule=1\0";
			int f(void) __asm__("_Z12ferrule_fn_fP12ferrule_call"); int f(void) { return 0; }`, "",
			"ferrule_manifest", ErrNoContract, `_ZN3foo16ferrule_manifestE`},
		{"manifest in a version that is not the default", `const char m[] = "ferrule=1\0";
			__asm__(".symver m, ferrule_manifest@V1");`, "-Wl,--version-script=testdata/versions.map",
			"ferrule_manifest", ErrNoContract, "found the name ferrule_manifest, imported, hidden or"},
		{"manifest of another major version", `const char ferrule2_manifest[] = "another syntax";`, "",
			"ferrule2_manifest", ErrMajor, "found ferrule=2, expected ferrule=1"},
		{"major version with a zero before it", `const char ferrule_manifest[] = "ferrule=01\0name=p\0version=1\0";`, "",
			"ferrule_manifest", ErrManifest, "without zeros before it (rule R1). Write it with the macros"},
		{"name as import and as want", plugin + "FERRULE_IMPORT(points); FERRULE_WANT(points);", "",
			"ferrule_want_points", ErrDuplicate, "the name as an import, too"},
		{"want that is no slot", plugin + "const unsigned ferrule_want_points = 1;", "",
			"ferrule_want_points", ErrSymbol, "expected a writable uint32_t"},
		{"stream that is no word", plugin + `FERRULE_FN_META(f, FERRULE_STREAM("in,out"));FERRULE_FN(f) { return 0; }`, "",
			"ferrule_meta_fn_f", ErrManifest, `for the key "stream" "in,out", expected in, out or both (rule R24). Correct the value.`},
		{"state without functions", `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1") FERRULE_STATE_FORMAT("s-1"));`, "",
			"ferrule_manifest", ErrManifest, "state=s-1 without both functions"},
		{"save without resume", `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1")); FERRULE_SAVE { return 0; }`, "",
			"ferrule_save", ErrManifest, "it without the others"},
		{"resume without a format", `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1")); FERRULE_SAVE { return 0; } FERRULE_RESUME { return 0; }`, "",
			"ferrule_save", ErrManifest, "it without the others"},
		{"state that is no word", `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1") FERRULE_STATE_FORMAT("a b")); FERRULE_SAVE { return 0; } FERRULE_RESUME { return 0; }`, "",
			"ferrule_manifest", ErrManifest, `for the key "state" "a b", expected 1 to 128 letters, digits, _, - or . (rule R29). Correct the value.`},
		{"schema that is no UTF-8", plugin + `FERRULE_CONFIG_SCHEMA = "\xff";`, "",
			"ferrule_meta_config", ErrManifest, "bytes that are not UTF-8"},
		{"schema without an end", plugin + `FERRULE_CONFIG_SCHEMA = {'{', '}'};`, "",
			"ferrule_meta_config", ErrManifest, "2 bytes without a NUL"},
		{"schema that is too long", plugin + `__asm__(".section .rodata\n.globl ferrule_meta_config\nferrule_meta_config: .fill 1048576, 1, 32\n.byte 0\n.previous");`, "",
			"ferrule_meta_config", ErrManifest, "1048576 bytes without a NUL"},
		{"configure that is data", plugin + "int ferrule_configure = 1;", "",
			"ferrule_configure", ErrSymbol, "expected code"},
		{"manifest in bss", "char ferrule_manifest[64];", "",
			"ferrule_manifest", ErrManifest, "zero-filled memory (.bss)"},
		{"manifest is a pointer", `const char *const ferrule_manifest = "ferrule=1\0name=p\0version=1\0";`, "",
			"ferrule_manifest", ErrManifest, "a relocation"},
		{"manifest is a pointer and relocations are packed", `const char *const ferrule_manifest = "ferrule=1\0";`,
			"-Wl,-z,pack-relative-relocs", "ferrule_manifest", ErrManifest, "a relocation"},
		{"manifest is a pointer in 32 bits", `const char *const ferrule_manifest = "ferrule=1\0";`,
			"-m32 -nostdlib -ffreestanding", "ferrule_manifest", ErrManifest, "a relocation"},
		{"manifest has text relocations",
			`__asm__(".section .rodata\n.globl ferrule_manifest\n"
				"ferrule_manifest: .quad ferrule_manifest\n.previous");`,
			"-Wl,-z,notext", "ferrule_manifest", ErrManifest, "a relocation"},
		{"manifest without end", `const char ferrule_manifest[26] = "ferrule=1\0name=p\0version=1";`, "",
			"ferrule_manifest", ErrManifest, "no empty text that ends it"},
		{"manifest without its last NUL", `const char ferrule_manifest[27] = "ferrule=1\0name=p\0version=1";`, "",
			"ferrule_manifest", ErrManifest, "no empty text that ends it"},
		{"manifest without name", `const char ferrule_manifest[] = "ferrule=1\0version=1\0";`, "",
			"ferrule_manifest", ErrManifest, `for the key "name" no name, expected one (rule R1). Add FERRULE_NAME.`},
		{"manifest key twice", `FERRULE_PLUGIN(FERRULE_NAME("a") FERRULE_NAME("b") FERRULE_VERSION("1"));`, "",
			"ferrule_manifest", ErrManifest, `found the key "name" twice, expected each key once (rule R3). Leave one of them out.`},
		{"manifest of another major", `const char ferrule_manifest[] = "ferrule=2\0other";
			int ferrule_fn_7(void) { return 0; } int ferrule_start;`, "",
			"ferrule_manifest", ErrMajor, "found ferrule=2, expected ferrule=1"},
		{"manifest is thread-local", `__thread char ferrule_manifest[] = "ferrule=1\0name=p\0version=1\0";`, "",
			"ferrule_manifest", ErrSymbol, "a thread-local variable"},
		{"meta text with a bad key",
			plugin + `FERRULE_FN(f) { return 0; } FERRULE_FN_META(f, FERRULE_KEY("Doc", "x"));`, "",
			"ferrule_meta_fn_f", ErrManifest, `found the key "Doc", expected 1 to 64 bytes of a-z, 0-9, _, - and . (rule R3). Correct the key.`},
		{"meta text without a key", plugin + `FERRULE_FN(f) { return 0; } FERRULE_FN_META(f, "hello");`, "",
			"ferrule_meta_fn_f", ErrManifest, `found "hello", expected key=value (rule R3)`},
		{"meta text is a pointer", plugin + `FERRULE_FN(f) { return 0; } const char *ferrule_meta_fn_f = "doc=x\0";`,
			"",
			"ferrule_meta_fn_f", ErrManifest, "a relocation"},
		{"name of 129 bytes", plugin + "FERRULE_FN(" + name129 + ") { return 0; }", "",
			"ferrule_fn_" + name129, ErrName, "129 bytes"},
		{"name of 2000 bytes", plugin + "FERRULE_FN(" + strings.Repeat("n", 2000) + ") { return 0; }", "",
			"ferrule_fn_" + name129[:29] + "…", ErrName, "1024 bytes or more"},
		{"name that starts with a digit", plugin + "FERRULE_FN(7) { return 0; }", "",
			"ferrule_fn_7", ErrName, "a C identifier"},
		{"name that is empty", plugin + "int ferrule_hook_(void) { return 0; }", "",
			"ferrule_hook_", ErrName, "0 bytes"},
		{"name for a terminal", plugin + `int f(void) __asm__("\"ferrule_fn_\x1b[31m\""); int f(void) { return 0; }`,
			"",
			"ferrule_fn_\x1b[31m", ErrName, `"ferrule_fn_\x1b[31m"`},
		{"name that is no identifier", plugin + `int f(void) __asm__("ferrule_fn_a.b"); int f(void) { return 0; }`, "",
			"ferrule_fn_a.b", ErrName, "a.b"},
		{"function in two symbol versions", plugin + `int f1(void) { return 1; } int f2(void) { return 2; }
			__asm__(".symver f1, ferrule_fn_f@V1\n.symver f2, ferrule_fn_f@@V2");`,
			"-Wl,--version-script=testdata/versions.map", "ferrule_fn_f", ErrDuplicate, "more than one symbol version"},
		{"function is data", plugin + "const int ferrule_fn_f = 1;", "",
			"ferrule_fn_f", ErrSymbol, "found read-only data"},
		{"start is a pointer to a function",
			plugin + "static int f(void) { return 0; } int (*ferrule_start)(void) = f;", "",
			"ferrule_start", ErrSymbol, "found writable data"},
		{"import slot is constant", plugin + "const uint32_t ferrule_import_x = FERRULE_UNBOUND;", "",
			"ferrule_import_x", ErrSymbol, "found read-only data"},
		{"import slot is read-only after relocation", plugin + `__attribute__((section(".data.rel.ro")))
			uint32_t ferrule_import_x = 1;`, "",
			"ferrule_import_x", ErrSymbol, "read-only after relocation"},
		{"import slot is a function", plugin + "int ferrule_import_x(void) { return 0; }", "",
			"ferrule_import_x", ErrSymbol, "found code"},
		{"import slot is too small", plugin + "uint8_t ferrule_import_x = 255;", "",
			"ferrule_import_x", ErrSymbol, "found 1 byte,"},
		{"import slot is an absolute number",
			plugin + `__asm__(".globl ferrule_import_x\nferrule_import_x = 0x7fffffff");`, "",
			"ferrule_import_x", ErrSymbol, "which is not in the library"},
	} {
		t.Run(c.defect, func(t *testing.T) {
			path := buildELF(t, c.source, strings.Fields(c.flags)...)
			_, err := File(path)
			e := requireError(t, err, c.kind, c.found, path)
			require.Equal(t, c.symbol, e.Symbol)
			require.NotEmpty(t, e.Expected)
			require.NotEmpty(t, e.Remedy)

			_, err = readBytes(wipeSections(t, path))
			requireError(t, err, c.kind, c.found)
		})
	}
}

// TestUnusual builds what is odd and allowed.
func TestUnusual(t *testing.T) {
	t.Run("manifest in writable memory", func(t *testing.T) {
		lib, err := File(buildELF(t, `char ferrule_manifest[] = "ferrule=1\0name=p\0version=1\0"; void *q = &q;`))
		require.NoError(t, err)
		require.Equal(t, "p", lib.Manifest.Name)
	})
	t.Run("what came with version 1.1", func(t *testing.T) {
		lib, err := File(buildELF(t, `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1") FERRULE_STATE_FORMAT("s-1"));
			FERRULE_WANT(b); FERRULE_WANT(a); FERRULE_IMPORT(c); FERRULE_WANT_META(b, FERRULE_DOC("wanted"));
			FERRULE_SAVE { return 0; } FERRULE_RESUME { return 0; } FERRULE_CONFIGURE { return 0; }
			FERRULE_CONFIG_SCHEMA = "{}";
			FERRULE_FN_META(f, FERRULE_STREAM("both")); FERRULE_FN(f) { return 0; }
			FERRULE_HOOK(f) { return 0; }`))
		require.NoError(t, err)
		require.Equal(t, []abi.Symbol{{Name: "a"}, {Name: "b", Doc: "wanted", Keys: abi.Text{{Key: "doc", Value: "wanted"}}}}, lib.Wants)
		require.Equal(t, []string{"c", "a", "b"}, []string{lib.Ordinals()[0].Name, lib.Ordinals()[1].Name, lib.Ordinals()[2].Name})
		require.Equal(t, abi.StreamBoth, lib.Funcs[0].Stream)
		require.True(t, lib.HasSave && lib.HasResume && lib.HasConfigure)
		require.Equal(t, []string{"{}", "s-1"}, []string{lib.ConfigSchema, lib.Manifest.State})
		require.Empty(t, lib.Reserved)
	})
	t.Run("symbols of no type and size", func(t *testing.T) {
		lib, err := File(buildELF(t, `__asm__(".section .rodata\n.globl ferrule_manifest\nferrule_manifest:"
			".asciz \"ferrule=1\"\n.asciz \"name=p\"\n.asciz \"version=1\"\n.byte 0\n.previous\n"
			".globl ferrule_fn_f\nferrule_fn_f: ret\n");`))
		require.NoError(t, err)
		require.Len(t, lib.Funcs, 1)
	})
	t.Run("weak and protected symbols", func(t *testing.T) {
		lib, err := File(buildELF(t, plugin+`__attribute__((weak)) FERRULE_FN(a) { return 0; }
			__attribute__((visibility("protected"))) int ferrule_fn_b(ferrule_call *call) { return 0; }`))
		require.NoError(t, err)
		require.Len(t, lib.Funcs, 2)
	})
	t.Run("a version that is not the default", func(t *testing.T) { // a look-up by name does not find it
		lib, err := File(buildELF(t, plugin+`int f(void) { return 1; } __asm__(".symver f, ferrule_fn_f@V1");`,
			"-Wl,--version-script=testdata/versions.map"))
		require.NoError(t, err)
		require.Empty(t, lib.Funcs)
	})
	t.Run("a default version", func(t *testing.T) {
		lib, err := File(buildELF(t, plugin+`int f(void) { return 1; } __asm__(".symver f, ferrule_fn_f@@V1");`,
			"-Wl,--version-script=testdata/versions.map"))
		require.NoError(t, err)
		require.Len(t, lib.Funcs, 1)
	})
	t.Run("an import slot without a value", func(t *testing.T) {
		lib, err := File(buildELF(t, plugin+`uint32_t ferrule_import_x;`))
		require.NoError(t, err)
		require.Len(t, lib.Imports, 1)
	})
	t.Run("the longest name", func(t *testing.T) {
		name := strings.Repeat("n", 128)
		lib, err := File(buildELF(t, plugin+"FERRULE_FN("+name+") { return 0; }"))
		require.NoError(t, err)
		require.Equal(t, []abi.Symbol{{Name: name}}, lib.Funcs)
	})
	t.Run("the longest text", func(t *testing.T) {
		value := strings.Repeat("x", 64<<10-len("doc=")-2)
		lib, err := File(buildELF(t,
			plugin+`FERRULE_FN(f) { return 0; } FERRULE_FN_META(f, FERRULE_DOC("`+value+`"));`))
		require.NoError(t, err)
		require.Equal(t, value, lib.Funcs[0].Doc)
	})
}

func TestProgramsAreNoLibraries(t *testing.T) {
	needCC(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "main.c")
	require.NoError(t, os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o600))
	for _, c := range []struct{ flags, found string }{
		{"-no-pie", "an executable program (ELF)"},
		{"-pie -fPIE", "position-independent"},
		{"-static-pie -fPIE", "position-independent"},
		{"-c", "an object file (ELF)"},
	} {
		path := filepath.Join(dir, "out")
		run(t, "cc", append(strings.Fields(c.flags), source, "-o", path)...)
		_, err := File(path)
		requireError(t, err, ErrNotLibrary, c.found)
	}

	t.Run("without the flag", func(t *testing.T) { // as linkers before 2015 made them
		path := filepath.Join(dir, "out")
		run(t, "cc", "-pie", "-fPIE", source, "-o", path)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		at := bytes.Index(data, binary.LittleEndian.AppendUint64(nil, dtFlags1))
		require.Positive(t, at)
		clear(data[at+8 : at+16])
		_, err = readBytes(data)
		requireError(t, err, ErrNotLibrary, "position-independent")
	})
	t.Run("debug information", func(t *testing.T) {
		fixture.Tool(t, "objcopy", "apt-get install binutils")
		path := filepath.Join(dir, "debug.so")
		run(t, "objcopy", "--only-keep-debug", buildELF(t, probeSource(t), "-g"), path)
		_, err := File(path)
		requireError(t, err, ErrNotLibrary, "separate debug information")
	})
}

// TestMinGW builds DLLs with the C library, and defects that are PE's own.
func TestMinGW(t *testing.T) {
	const cc = "x86_64-w64-mingw32-gcc"
	fixture.Tool(t, cc, "apt-get install mingw-w64")
	build := func(t *testing.T, source string, flags ...string) (*Library, error) {
		return File(build(t, cc, "plugin.dll", "#include \"ferrule.h\"\n"+source, flags...))
	}
	for _, flags := range []string{"-g", "-s", "-flto", "-fvisibility=hidden",
		"-ffunction-sections -Wl,--gc-sections"} {
		lib, err := build(t, probeSource(t), strings.Fields(flags)...)
		require.NoError(t, err, flags)
		requireProbe(t, lib)
		require.Equal(t, "plugin.dll", lib.SOName)
		require.Contains(t, lib.Needed, "KERNEL32.dll")
		require.Empty(t, lib.GoVersion)
	}
	export := "__declspec(dllexport) "
	for _, c := range []struct {
		defect, source, symbol string
		kind                   error
		found                  string
	}{
		{"no contract", export + "int f(void) { return 0; }", "ferrule_manifest", ErrNoContract,
			"exports no ferrule_ symbol"},
		{"manifest is a pointer", export + `const char *const ferrule_manifest = "ferrule=1\0name=p\0version=1\0";`,
			"ferrule_manifest", ErrManifest, "a relocation"},
		{"manifest in bss", export + "char ferrule_manifest[64];", "ferrule_manifest", ErrManifest, ".bss"},
		{"function is data", plugin + export + "int ferrule_fn_f = 1;", "ferrule_fn_f", ErrSymbol, "writable data"},
		{"import slot is constant", plugin + export + "const uint32_t ferrule_import_x = 1;",
			"ferrule_import_x", ErrSymbol, "read-only data"},
	} {
		t.Run(c.defect, func(t *testing.T) {
			_, err := build(t, c.source)
			require.Equal(t, c.symbol, requireError(t, err, c.kind, c.found).Symbol)
		})
	}
}

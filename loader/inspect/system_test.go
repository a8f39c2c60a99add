package inspect

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// stub builds a library that is only linked to: its own name, and a version of its one symbol where one is given.
func stub(t testing.TB, soname, version string) string {
	t.Helper()
	var flags []string
	if soname != "" {
		flags = append(flags, "-Wl,-soname,"+soname)
	}
	if version != "" {
		script := filepath.Join(t.TempDir(), "versions.map")
		require.NoError(t, os.WriteFile(script, []byte(version+" { global: *; };\n"), 0o666))
		flags = append(flags, "-Wl,--version-script="+script)
	}
	// Each has a symbol of its own, so that the linker keeps each.
	name := "stub_" + strings.Map(func(r rune) rune {
		if r == '.' || r == '-' {
			return '_'
		}
		return r
	}, soname)
	needCC(t)
	out := filepath.Join(t.TempDir(), "libstub.so")
	source := filepath.Join(t.TempDir(), "stub.c")
	require.NoError(t, os.WriteFile(source, []byte("int "+name+"(void) { return 1; }\n"), 0o666))
	run(t, "cc", append(flags, "-shared", "-fPIC", "-nostdlib", "-o", out, source)...)
	return out
}

// linkedTo builds a plug-in that calls one symbol of each library, given as soname or soname=version.
func linkedTo(t testing.TB, source string, libraries ...string) string {
	t.Helper()
	flags := []string{"-nostdlib", "-Wl,--no-as-needed"}
	for _, library := range libraries {
		soname, version, _ := strings.Cut(library, "=")
		name := "stub_" + strings.NewReplacer(".", "_", "-", "_").Replace(soname)
		source += "extern int " + name + "(void); int call_" + name + "(void) { return " + name + "(); }\n"
		flags = append(flags, stub(t, soname, version))
	}
	return buildELF(t, source, flags...)
}

// TestELFSystems: what a library is linked to says which system and C library it is for, where nothing else does.
func TestELFSystems(t *testing.T) {
	for _, c := range []struct {
		name      string
		libraries []string
		os        string
		libc      CLibrary
		glibc     string
	}{
		{"nothing", nil, "linux", "", ""},
		{"glibc", []string{"libc.so.6"}, "linux", Glibc, ""},
		{"glibc's versions", []string{"libc.so.6=GLIBC_2.34", "libm.so.6=GLIBC_2.4"}, "linux", Glibc, "2.34"},
		{"older versions of glibc first", []string{"libm.so.6=GLIBC_2.9", "libc.so.6=GLIBC_2.17"}, "linux", Glibc, "2.17"},
		{"a version of three numbers", []string{"libc.so.6=GLIBC_2.2.5"}, "linux", Glibc, "2.2.5"},
		{"a version that is no number", []string{"libc.so.6=GLIBC_PRIVATE"}, "linux", Glibc, ""},
		{"DT_RELR", []string{"libc.so.6=GLIBC_ABI_DT_RELR"}, "linux", Glibc, "2.36"},
		{"musl as Alpine names it", []string{"libc.musl-x86_64.so.1"}, "linux", Musl, ""},
		{"musl as others name it", []string{"libc.so"}, "linux", Musl, ""},
		{"musl with gcc's library", []string{"libgcc_s.so.1=GCC_3.0", "libc.so"}, "linux", Musl, ""},
		{"Android by the version", []string{"libc.so=LIBC"}, "android", Bionic, ""},
		{"Android by the libraries beside libc", []string{"libm.so", "libdl.so", "libc.so"}, "android", Bionic, ""},
		{"FreeBSD by the number", []string{"libc.so.7"}, "freebsd", "", ""},
		{"FreeBSD by the version", []string{"libthr.so.3=FBSD_1.0"}, "freebsd", "", ""},
		{"NetBSD", []string{"libc.so.12"}, "netbsd", "", ""},
		{"OpenBSD", []string{"libc.so.97.1"}, "openbsd", "", ""},
		{"DragonFly", []string{"libc.so.8"}, "dragonfly", "", ""},
		{"Solaris", []string{"libc.so.1=SUNW_1.1"}, "solaris", "", ""},
		{"illumos", []string{"libc.so.1=ILLUMOS_0.1"}, "illumos", "", ""},
		{"another libc", []string{"libcurl.so.4"}, "linux", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := linkedTo(t, probeSource(t), c.libraries...)
			check := func(lib *Library, err error) {
				require.NoError(t, err)
				assert.Equal(t, c.os, lib.OS)
				assert.Equal(t, c.libc, lib.CLibrary)
				assert.Equal(t, c.glibc, lib.MinGlibc)
			}
			check(File(path))
			check(readBytes(wipeSections(t, path)))
		})
	}
}

// TestELFSystemWitnesses: notes are believed more than what a library is linked to, and that more than EI_OSABI where that
// is Linux's.
func TestELFSystemWitnesses(t *testing.T) {
	note := func(owner string, desc uint32) string {
		return `__attribute__((section(".note.abi"), used)) static const struct { unsigned n, d, k; char o[(sizeof "` + owner + `" + 3) / 4 * 4]; unsigned v; }
			note = { sizeof "` + owner + `", 4, 1, "` + owner + `", ` + string(rune('0'+desc)) + ` };`
	}
	for _, c := range []struct {
		name, more, linked string
		osabi              byte
		want               string
	}{
		{"GNU extensions in FreeBSD", "", "libc.so.7", 3, "freebsd"},
		{"FreeBSD's own number", "", "", 9, "freebsd"},
		{"a number without a word in Go", "", "", 13, ""},
		{"a note of Linux", note("GNU", 0), "", 0, "linux"},
		{"a note of Hurd", note("GNU", 1), "", 0, "hurd"},
		{"a note of Android", note("Android", 9), "libc.so", 0, "android"},
		{"a note of NetBSD", note("NetBSD", 9), "libc.so.12", 0, "netbsd"},
		{"a note against a library", note("OpenBSD", 0), "libc.so.6", 0, "openbsd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var linked []string
			if c.linked != "" {
				linked = []string{c.linked}
			}
			data, err := os.ReadFile(linkedTo(t, probeSource(t)+c.more, linked...))
			require.NoError(t, err)
			data[7] = c.osabi
			lib, err := readBytes(data)
			require.NoError(t, err)
			assert.Equal(t, c.want, lib.OS)
		})
	}
}

func TestStaticTLS(t *testing.T) {
	for model, want := range map[string]bool{"initial-exec": true, "global-dynamic": false} {
		source := "extern __thread int counter; __thread int counter; int next(void) { return ++counter; }\n"
		path := buildELF(t, probeSource(t)+source, "-ftls-model="+model, "-nostdlib")
		lib, err := File(path)
		require.NoError(t, err)
		assert.Equal(t, want, lib.StaticTLS, model)
	}
}

// TestMinOS: both load commands that say it, and what Windows calls the version of the subsystem.
func TestMinOS(t *testing.T) {
	data := testdata(t, "macho-amd64-clang.dylib")
	c := command(t, data, lcBuildVersion)
	binary.LittleEndian.PutUint32(c[12:], 0x000d0401)
	lib, err := readBytes(data)
	require.NoError(t, err)
	assert.Equal(t, []string{"darwin", "13.4.1"}, []string{lib.OS, lib.MinOS})
	for kind, os := range map[uint32]string{lcVersionMinMacOS: "darwin", lcVersionMinIOS: "ios", lcVersionMinTV: ""} {
		binary.LittleEndian.PutUint32(c, kind)
		binary.LittleEndian.PutUint32(c[8:], 0x000a0900)
		lib, err := readBytes(data)
		require.NoError(t, err)
		assert.Equal(t, []string{os, "10.9"}, []string{lib.OS, lib.MinOS})
	}
	data = testdata(t, "pe-amd64-mingw.dll")
	optional := data[le32(data, 60)+24:]
	binary.LittleEndian.PutUint32(optional[48:], 0x0003_0006)
	lib, err = readBytes(data)
	require.NoError(t, err)
	assert.Equal(t, "6.3", lib.MinOS)
}

// TestDescribe: a library that is no plug-in is described as well, with why it is none.
func TestDescribe(t *testing.T) {
	plain := "int answer(void) { return 42; } int number = 1; static int hidden(void) { return 1; }\n" +
		"int use(void) { return hidden(); }\n"
	check := func(t *testing.T, path string, want []string) {
		lib, err := Describe(path)
		require.NoError(t, err)
		assert.Nil(t, lib.Manifest)
		assert.Equal(t, path, lib.Path)
		assert.Subset(t, lib.Exports, want)
		assert.NotContains(t, lib.Exports, "hidden")
		assert.True(t, slices.IsSorted(lib.Exports))
		require.NotNil(t, lib.NotPlugin)
		requireError(t, lib.NotPlugin, ErrNoContract, path)
		_, err = File(path)
		assert.Equal(t, err, error(lib.NotPlugin))
	}
	t.Run("ELF", func(t *testing.T) {
		check(t, buildELF(t, plain, "-nostdlib"), []string{"answer", "number", "use"})
	})
	t.Run("PE", func(t *testing.T) {
		fixture.Tool(t, "x86_64-w64-mingw32-gcc", "apt-get install mingw-w64")
		check(t, build(t, "x86_64-w64-mingw32-gcc", "plain.dll", plain, "-shared", "-nostdlib", "-Wl,--entry=0"),
			[]string{"answer", "number", "use"})
	})
	t.Run("Mach-O", func(t *testing.T) {
		check(t, buildDylib(t, appleTargets["arm64"], plain, "-dynamiclib"), []string{"answer", "number", "use"})
	})
	t.Run("a plug-in", func(t *testing.T) {
		for _, c := range committed {
			lib, err := Describe(filepath.Join("testdata", c.file))
			require.NoError(t, err, c.file)
			requireProbe(t, lib)
			assert.Nil(t, lib.NotPlugin, c.file)
			assert.Subset(t, lib.Exports, []string{"ferrule_manifest", "ferrule_fn_add", "ferrule_import_Zone"}, c.file)
		}
	})
	t.Run("a faulty plug-in", func(t *testing.T) {
		path := buildELF(t, `#include "ferrule.h"
			FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1")); int ferrule_fn_data = 1;`, "-nostdlib")
		lib, err := Describe(path)
		require.NoError(t, err)
		requireError(t, lib.NotPlugin, ErrSymbol, "ferrule_fn_data")
		assert.Nil(t, lib.Manifest)
		assert.Empty(t, lib.Funcs)
		assert.Contains(t, lib.Exports, "ferrule_fn_data")
	})
	t.Run("no library", func(t *testing.T) {
		_, err := Describe("system_test.go")
		requireError(t, err, ErrNotLibrary, "a text file")
	})
	t.Run("a symbol version that is not the default", func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "versions.map")
		require.NoError(t, os.WriteFile(script, []byte("V1 { global: *; }; V2 { } V1;\n"), 0o666))
		path := buildELF(t, `__asm__(".symver old, name@V1"); __asm__(".symver new, name@@V2"); int old(void) { return 1; }
			int new(void) { return 2; } __asm__(".symver gone, away@V1"); int gone(void) { return 3; }`,
			"-nostdlib", "-Wl,--version-script="+script)
		lib, err := Describe(path)
		require.NoError(t, err)
		assert.Contains(t, lib.Exports, "name")
		assert.NotContains(t, lib.Exports, "away")
	})
}

package native

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// What cannot be made to happen here is recognized by its words: those of other C libraries and other systems, of SELinux,
// of processors.
func TestReasonByWords(t *testing.T) {
	for _, c := range []struct{ words, symbol, found, remedy string }{
		{"/p.so: cannot restore segment prot after reloc: Permission denied", "", "relocations in its code", "-fPIC"},
		{"/p.so: cannot make segment writable for relocation: Permission denied", "", "relocations in its code", "-fPIC"},
		{"/lib/libx.so.1: cannot enable executable stack as shared object requires: Invalid argument", "", "asks for one", "noexecstack"},
		{"/p.so: symbol dep, version DEP_2 not defined in file libdep.so.1 with link time reference", "dep", "libdep.so.1 without the version DEP_2", "too old"},
		{"/lib/liba.so: version `DEP_2' not found (required by /lib/libb.so)", "", "DEP_2", "liba.so is too old"},
		{"/p.so: undefined symbol: foo, version V_1", "foo", "nothing defines", "Link the library that defines foo"},
		{"/p.so: CPU ISA level is lower than required", "", "newer processor", "-march"},
		{"libdep.so: cannot open shared object file: Too many open files in system", "", "no file descriptor", "fs.file-max"},
		{"libdep.so: cannot open shared object file: Permission denied", "", "may not read", "Policy.Read"},
		{"/p.so: cannot open shared object file: No such file or directory", "", "not there any more", "Open it again"},
		{"/p.so: cannot create shared object descriptor: Cannot allocate memory", "", "not enough memory", "Free memory"},
		{"/p.so: failed to map segment from shared object: Permission denied", "", "failed to map segment", "SELinux"},
		{"/p.so: undefined symbol: __asan_init", "__asan_init", "-fsanitize=address", "LD_PRELOAD=$(clang -print-file-name=libclang_rt.asan-"},
		{"/p.so: undefined symbol: __ubsan_handle_pointer_overflow", "__ubsan_handle_pointer_overflow", "-fsanitize=undefined", "libclang_rt.ubsan_standalone-"},
		{"/p.so: undefined symbol: __msan_retval_tls", "__msan_retval_tls", "-fsanitize=memory", "Run the plug-in's own tests"},
		{"/p.so: undefined symbol: __tsan_init", "__tsan_init", "-fsanitize=thread", "gcc's can be loaded"},
		{"libclang_rt.asan-x86_64.so: cannot open shared object file: No such file or directory", "", "-fsanitize=address", "libclang_rt.asan-"},
		{"/lib/x86_64-linux-gnu/libtsan.so.2: cannot allocate memory in static TLS block", "", "-fsanitize=thread", "LD_PRELOAD=$(gcc -print-file-name=libtsan.so)"},
		{"/lib/x86_64-linux-gnu/liblsan.so.0: cannot allocate memory in static TLS block", "", "-fsanitize=leak", "LD_PRELOAD=$(gcc -print-file-name=liblsan.so)"},
		// musl
		{"Error relocating /p.so: dep_new: symbol not found", "dep_new", "nothing defines", "Link the library that defines dep_new"},
		{"Error loading shared library libdep.so.1: No such file or directory (needed by /p.so)", "", "libdep.so.1", "Install libdep.so.1"},
		{"Error loading shared library libdep.so.1: No file descriptors available (needed by /p.so)", "", "no file descriptor", "ulimit -n"},
		{"Error relocating /p.so: x: initial-exec TLS resolves to dynamic definition in /p.so", "", "initial-exec", "-ftls-model=global-dynamic"},
		{"Dynamic loading not supported", "", "linked statically", "without -static"},
		// macOS
		{"dlopen(/p.so, 0x0006): Library not loaded: @rpath/libdep.dylib\n  Referenced from: /p.so\n  Reason: tried: …", "", "@rpath/libdep.dylib", "Install libdep.dylib"},
		{"dlopen(/p.so, 0x0006): symbol not found in flat namespace '_dep_new'", "dep_new", "nothing defines", "dep_new"},
		{"dlopen(/p.so, 0x0006): Symbol not found: _dep_new", "dep_new", "nothing defines", "dep_new"},
		// Windows
		{"The specified module could not be found", "", "is missing", "liba.so, libb.so"},
		{"The specified procedure could not be found", "", "lacks a function", "liba.so, libb.so"},
		{"something that nobody has seen", "", "something that nobody has seen", "liba.so, libb.so"},
	} {
		lib := &inspect.Library{Path: "/p.so", Format: inspect.ELF, OS: runtime.GOOS, Needed: []string{"liba.so", "libb.so"}}
		words := errors.New(c.words)
		err := reason(lib, "/p.so", nil, words)
		var e *inspect.Error
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, words)
		assert.Equal(t, c.symbol, e.Symbol, c.words)
		assert.Contains(t, e.Found, c.found, c.words)
		assert.Contains(t, e.Remedy, c.remedy, c.words)
		assert.NotEmpty(t, e.Expected)
	}
}

// Where the file can be mapped, by what it was loaded from, it is memory that lacks: a sandbox need not let the library's path be read.
func TestReasonOfAFailedMapping(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("glibc's words")
	}
	lib := &inspect.Library{Path: "/not/there/p.so", Format: inspect.ELF, OS: runtime.GOOS}
	err := reason(lib, "/proc/self/exe", nil, errors.New("/not/there/p.so: failed to map segment from shared object"))
	var e *inspect.Error
	require.ErrorAs(t, err, &e)
	assert.Contains(t, e.Found, "not enough memory")
	assert.Contains(t, e.Remedy, "Policy.Memory")
}

// A library that lies beside the plug-in and is not found from a copy of it is told from one that is nowhere.
func TestReasonNamesTheFile(t *testing.T) {
	lib := &inspect.Library{Path: "/opt/p.so", Format: inspect.ELF, OS: "linux", Needed: []string{"liba.so"}, RunPath: []string{"$ORIGIN"}}
	err := reason(lib, "/proc/self/fd/9", nil, errors.New("/proc/self/fd/9: undefined symbol: f"))
	assert.NotContains(t, err.Error(), "/proc/self/fd", "the path of a copy is nobody's to know")
}

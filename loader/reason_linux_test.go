package loader_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// linker builds libraries in a folder of its own.
type linker struct {
	t   *testing.T
	dir string
}

func newLinker(t *testing.T) linker {
	t.Helper()
	fixture.Loadable(t)
	fixture.Tool(t, "cc", "apt-get install gcc")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return linker{t, dir}
}

// path replaces @ by the folder.
func (l linker) path(text string) string { return strings.ReplaceAll(text, "@", l.dir) }

func (l linker) write(name, text string) string {
	path := l.path(name)
	require.NoError(l.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(l.t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// cc compiles source to the library at a path, which it returns. In all of them @ is the folder.
func (l linker) cc(to, source string, args ...string) string {
	l.t.Helper()
	to = l.path(to)
	from := l.write("@/"+filepath.Base(to)+".c", source)
	require.NoError(l.t, os.MkdirAll(filepath.Dir(to), 0o755))
	all := []string{"-shared", "-fPIC", "-w", "-I", filepath.Join(fixture.Root(), "include"), "-o", to, from}
	for _, arg := range args {
		all = append(all, l.path(arg))
	}
	text, err := exec.Command("cc", all...).CombinedOutput()
	require.NoError(l.t, err, "%s", text)
	return to
}

// plugin compiles a plug-in that begins with source.
func (l linker) plugin(source string, args ...string) string {
	l.t.Helper()
	return l.cc("@/p.so", source+`
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1.0.0"));
FERRULE_FN(f) { (void)call; return FERRULE_OK; }
`, args...)
}

const usesDep = "extern int dep(void); int uses(void) { return dep(); }"

// Each cause of a library's not being loaded, made for real, has its own words and its own remedy, the same ones whether the
// file is loaded or a copy of it, and in which process.
func TestReasons(t *testing.T) {
	fixture.NotMusl(t, "the dynamic linker has other words")
	for name, c := range map[string]struct {
		build         func(t *testing.T, l linker) string
		symbol        string   // of the error
		found, remedy []string // what they say
		not           string   // what the text does not say
	}{
		"undefined symbol": {func(t *testing.T, l linker) string { return l.plugin(usesDep, "-Wl,-z,now") },
			"dep", nil, []string{"Link the library that defines dep", "-Wl,--no-undefined"}, "nstall"},
		"missing library": {func(t *testing.T, l linker) string {
			l.cc("@/stub/libferrulemissing.so", "int dep(void) { return 1; }")
			return l.plugin(usesDep, "-L@/stub", "-lferrulemissing", "-lm")
		}, "", []string{"linked to libferrulemissing.so, which is not found"}, []string{"Install libferrulemissing.so", "$ORIGIN"}, "libc.so.6"},
		"library of a library missing": {func(t *testing.T, l linker) string {
			l.cc("@/stub/libferrulemissing.so", "int dep(void) { return 1; }")
			l.cc("@/libmiddle.so", usesDep, "-L@/stub", "-lferrulemissing")
			return l.plugin("extern int uses(void); int more(void) { return uses(); }", "@/libmiddle.so", "-Wl,--allow-shlib-undefined")
		}, "", []string{"libferrulemissing.so"}, []string{"Install libferrulemissing.so"}, ""},
		"a version that the installed one lacks": {func(t *testing.T, l linker) string {
			one, two := l.write("@/1.map", "DEP_1 { global: dep; };"), l.write("@/2.map", "DEP_1 { global: other; }; DEP_2 { global: dep; } DEP_1;")
			l.cc("@/new/libdep.so.1", "int dep(void) { return 1; } int other;", "-Wl,-soname,libdep.so.1,--version-script="+two)
			l.cc("@/old/libdep.so.1", "int dep(void) { return 1; } int other;", "-Wl,-soname,libdep.so.1,--version-script="+one)
			return l.plugin(usesDep, "@/new/libdep.so.1", "-Wl,-rpath,@/old")
		}, "", []string{"libdep.so.1 without the version DEP_2"}, []string{"libdep.so.1 is too old", "DEP_2"}, "$ORIGIN"},
		"a newer glibc": {func(t *testing.T, l linker) string {
			script := l.write("@/c.map", "GLIBC_9.87 { global: dep; };")
			l.cc("@/libc.so.6", "int dep(void) { return 1; }", "-Wl,-soname,libc.so.6,--version-script="+script)
			return l.plugin(usesDep, "-nostdlib", "@/libc.so.6")
		}, "", []string{"GLIBC_9.87"}, []string{"oldest glibc", "9.87"}, "nstall"},
		"a newer libstdc++": {func(t *testing.T, l linker) string {
			script := l.write("@/c.map", "GLIBCXX_9.8.7 { global: dep; };")
			l.cc("@/new/libstdc++.so.6", "int dep(void) { return 1; }", "-Wl,-soname,libstdc++.so.6,--version-script="+script)
			l.cc("@/old/libstdc++.so.6", "int dep(void) { return 1; }", "-Wl,-soname,libstdc++.so.6,--version-script="+l.write("@/d.map", "GLIBCXX_3 { global: dep; };"))
			return l.plugin(usesDep, "@/new/libstdc++.so.6", "-Wl,-rpath,@/old")
		}, "", []string{"GLIBCXX_9.8.7"}, []string{"-static-libstdc++"}, "too old"},
		"static TLS": {func(t *testing.T, l linker) string {
			return l.plugin(`__thread char block[65536] __attribute__((tls_model("initial-exec"))); char *at(void) { return block; }`)
		}, "", []string{"initial-exec"}, []string{"-ftls-model=global-dynamic", "isolate.InWorker"}, "nstall"},
		"musl": {func(t *testing.T, l linker) string {
			l.cc("@/libc.so", "int dep(void) { return 1; }", "-nostdlib", "-Wl,-soname,libc.so")
			return l.plugin(usesDep, "-nostdlib", "@/libc.so")
		}, "", []string{"built for musl"}, []string{"system with glibc"}, "nstall"},
		"musl of a distribution": {func(t *testing.T, l linker) string {
			l.cc("@/libc.so", "int dep(void) { return 1; }", "-nostdlib", "-Wl,-soname,libc.musl-x86_64.so.1")
			return l.plugin(usesDep, "-nostdlib", "@/libc.so")
		}, "", []string{"built for musl"}, []string{"system with glibc"}, "nstall"},
		"a library of another word size": {func(t *testing.T, l linker) string {
			path := l.cc("@/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so")
			p := l.plugin(usesDep, path, "-Wl,-rpath,$ORIGIN")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			data[4] = 1 // ELFCLASS32
			require.NoError(t, os.WriteFile(path, data, 0o644))
			return p
		}, "", []string{"/libdep.so of another word size"}, []string{"Install libdep.so for"}, ""},
		"a text in place of a library": {func(t *testing.T, l linker) string {
			p := l.plugin(usesDep, l.cc("@/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so"), "-Wl,-rpath,$ORIGIN")
			l.write("@/libdep.so", strings.Repeat("INPUT(-lother)\n", 10))
			return p
		}, "", []string{"libdep.so: invalid ELF header"}, []string{"libdep.so"}, ""},
		"a library that is cut": {func(t *testing.T, l linker) string {
			p := l.plugin(usesDep, l.cc("@/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so"), "-Wl,-rpath,$ORIGIN")
			require.NoError(t, os.Truncate(l.path("@/libdep.so"), 20))
			return p
		}, "", []string{"libdep.so: file too short"}, []string{"Install libdep.so anew"}, ""},
		"a library for another processor": {func(t *testing.T, l linker) string {
			path := l.cc("@/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so")
			p := l.plugin(usesDep, path, "-Wl,-rpath,$ORIGIN")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			data[18], data[19] = 2, 0 // EM_SPARC
			require.NoError(t, os.WriteFile(path, data, 0o644))
			return p
		}, "", []string{"/libdep.so made for another platform"}, []string{"Install libdep.so for"}, "static"},
		"a folder in place of a library": {func(t *testing.T, l linker) string {
			p := l.plugin(usesDep, l.cc("@/stub/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so"), "-Wl,-rpath,$ORIGIN")
			require.NoError(t, os.Mkdir(l.path("@/libdep.so"), 0o755))
			return p
		}, "", []string{"/libdep.so: "}, []string{"Install libdep.so anew"}, ""},
		"a library of a library that is cut": {func(t *testing.T, l linker) string {
			l.cc("@/deep/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so")
			l.cc("@/libmiddle.so", usesDep, "-L@/deep", "-ldep", "-Wl,-rpath,$ORIGIN/deep,-soname,libmiddle.so")
			p := l.plugin("extern int uses(void); int more(void) { return uses(); }", "-L@", "-lmiddle", "-Wl,-rpath,$ORIGIN,-rpath-link,@/deep")
			require.NoError(t, os.Truncate(l.path("@/deep/libdep.so"), 20))
			return p
		}, "", []string{"/deep/libdep.so: file too short"}, []string{"Install libdep.so anew"}, ""},
		"a library whose end is missing": {func(t *testing.T, l linker) string {
			path := l.cc("@/libdep.so", "char block[100000] = {1}; int dep(void) { return 1; }", "-Wl,-soname,libdep.so")
			p := l.plugin(usesDep, path, "-Wl,-rpath,$ORIGIN")
			require.NoError(t, os.Truncate(path, 9000))
			return p
		}, "", []string{"/libdep.so: "}, []string{"Install libdep.so anew"}, ""},
		"a library of a library that lacks a symbol": {func(t *testing.T, l linker) string {
			l.cc("@/libmiddle.so", usesDep, "-Wl,-z,now,-soname,libmiddle.so")
			return l.plugin("extern int uses(void); int more(void) { return uses(); }", "-L@", "-lmiddle", "-Wl,-rpath,$ORIGIN,--allow-shlib-undefined")
		}, "dep", nil, []string{"Link the library that defines dep"}, "nstall"},
		"more memory than there is": {func(t *testing.T, l linker) string {
			return l.plugin("char block[1ull << 46]; char *at(void) { return block; }")
		}, "", []string{"not enough memory"}, []string{"Free memory"}, "nstall"},
		"noexec": {func(t *testing.T, l linker) string {
			p := l.plugin("")
			mount := filepath.Join(l.dir, "mount")
			require.NoError(t, os.Mkdir(mount, 0o755))
			if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_NOEXEC, "size=4m"); err != nil {
				t.Skipf("a file system is mounted: %v", err)
			}
			t.Cleanup(func() { assert.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
			return copyTo(t, p, filepath.Join(mount, "p.so"))
		}, "", []string{"mounted noexec"}, []string{"another file system"}, "nstall"},
		"a library on noexec": {func(t *testing.T, l linker) string {
			mount := filepath.Join(l.dir, "mount")
			require.NoError(t, os.Mkdir(mount, 0o755))
			if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_NOEXEC, "size=4m"); err != nil {
				t.Skipf("a file system is mounted: %v", err)
			}
			t.Cleanup(func() { assert.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
			return l.plugin(usesDep, l.cc("@/mount/libdep.so", "int dep(void) { return 1; }", "-Wl,-soname,libdep.so"), "-Wl,-rpath,$ORIGIN/mount")
		}, "", []string{"/mount/libdep.so is mounted noexec"}, []string{"another file system"}, "nstall"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.build(t, newLinker(t))
			var first *loader.OpenError // in-process, from the file itself
			everyWay(t, path, func(t *testing.T, w way, opts ...loader.Option) {
				_, err := w.try(path, opts...)
				var e *loader.OpenError
				require.ErrorAs(t, err, &e)
				t.Log(err)
				assert.ErrorIs(t, err, loader.ErrLoad)
				assert.Equal(t, path, e.Path)
				assert.Equal(t, c.symbol, e.Symbol)
				for _, text := range c.found {
					assert.Contains(t, e.Found, text)
				}
				for _, text := range c.remedy {
					assert.Contains(t, e.Remedy, text)
				}
				assert.NotEmpty(t, e.Expected)
				assertSentence(t, e)
				assert.NotContains(t, err.Error(), `["`, "no syntax of Go")
				if c.not != "" {
					assert.NotContains(t, err.Error(), c.not)
				}
				assert.Error(t, e.Err, "the loader's own words")
				if first == nil {
					first = e
				}
				// A process that has a libstdc++ already, from another test, takes that one, in whatever folder it is.
				assert.Equal(t, libstdcxx.ReplaceAllString(first.Found, "libstdc++"), libstdcxx.ReplaceAllString(e.Found, "libstdc++"))
				assert.Equal(t, first.Remedy, e.Remedy)
			})
		})
	}
}

var libstdcxx = regexp.MustCompile(`\S*/libstdc\+\+`)

// everyWay runs a test of the library at path in both ways, in a sandbox, and in this process with the options that load a
// copy.
func everyWay(t *testing.T, path string, test func(t *testing.T, w way, opts ...loader.Option)) {
	t.Helper()
	bothWays(t, func(t *testing.T, w way) { test(t, w) })
	t.Run("private copy", func(t *testing.T) { test(t, inProcess, loader.WithPrivateCopy()) })
	t.Run("sandbox", func(t *testing.T) {
		test(t, inProcess, isolate.InWorker(isolate.WithEnv(workerEnv...), sandbox.With(sandbox.Policy{BestEffort: true})))
	})
	t.Run("digest", func(t *testing.T) { test(t, inProcess, loader.WithSHA256(digestOf(t, path))) })
}

const descriptorsVariable = "FERRULE_TEST_DESCRIPTORS" // the library, for a process that runs this test only

// A process without a free descriptor is told so, whether it is reading or loading that finds it out.
func TestNoDescriptors(t *testing.T) {
	path := os.Getenv(descriptorsVariable)
	if path == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoDescriptors$", "-test.v")
		cmd.Env = append(os.Environ(), descriptorsVariable+"="+fixture.C(t, "start_once"))
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
		require.Contains(t, string(text), "--- PASS: TestNoDescriptors")
		return
	}
	open(t, fixture.C(t, "echo")) // what Open needs once is there
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}))
	var files []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)
			break
		}
		files = append(files, fd)
	}
	_ = unix.Close(files[0]) // for the file, and not for its copy
	_, err := loader.Open(path, loader.WithPrivateCopy())
	var copying *loader.OpenError
	require.ErrorAs(t, err, &copying)
	assert.ErrorContains(t, err, "memfd_create")
	assert.Contains(t, copying.Remedy, "ulimit -n", "%v", err)
	_, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	for free := range 3 { // so many are free
		_, err := loader.Open(path)
		if err == nil {
			require.NotZero(t, free)
			break
		}
		t.Log(err)
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.Contains(t, e.Remedy, "ulimit -n", "%d free: %v", free, err)
		_ = unix.Close(files[free])
	}
	for _, fd := range files[3:] {
		_ = unix.Close(fd)
	}
}

const stackVariable = "FERRULE_TEST_STACK" // the library, for a process that runs this test only, whose stacks become executable

// A library that asks for an executable stack makes the stacks of the whole process executable. It is refused, and so is
// one that brings such a library along, unless an option allows it.
func TestExecutableStack(t *testing.T) {
	if path := os.Getenv(stackVariable); path != "" {
		for _, opts := range [][]loader.Option{nil, {loader.WithPrivateCopy()}} {
			p, err := loader.Open(path, append(opts, loader.WithExecutableStack())...)
			if err != nil { // glibc as of 2.41
				require.ErrorIs(t, err, loader.ErrExecStack)
				continue
			}
			defer func() { require.NoError(t, p.Close()) }()
			_, err = loader.Open(path, opts...)
			assert.ErrorIs(t, err, loader.ErrExecStack)
		}
		return
	}
	fixture.NotMusl(t, "a library that is found by $ORIGIN is not found in a copy")
	l := newLinker(t)
	l.cc("@/libdep.so", "int dep(void) { return 1; }", "-Wl,-z,execstack", "-Wl,-soname,libdep.so")
	linked := l.plugin(usesDep, "@/libdep.so", "-Wl,-rpath,$ORIGIN")
	require.NoError(t, os.Rename(linked, l.path("@/linked.so")))
	stacks := `#include <stdio.h>
#include <string.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1.0.0"));
FERRULE_FN(f) {
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof line, maps))
		if (strstr(line, "[stack]")) call->out_len = (size_t)snprintf((char *)call->out, call->out_cap, "%.4s", strchr(line, ' ') + 1);
	if (maps) fclose(maps);
	return FERRULE_OK;
}`
	asks, plain := l.cc("@/asks.so", stacks, "-Wl,-z,execstack"), l.cc("@/plain.so", stacks)
	// What is refused does not depend on what was opened before.
	again := l.plugin("int again(void) { return 1; }", "-Wl,-z,execstack")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestExecutableStack$", "-test.v")
	cmd.Env = append(os.Environ(), stackVariable+"="+again)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	require.Contains(t, string(text), "--- PASS: TestExecutableStack")

	isolatedOnly := isolated // the test's own process keeps its stacks
	for path, who := range map[string]string{asks: "the library", l.path("@/linked.so"): l.path("@/libdep.so")} {
		bothWays(t, func(t *testing.T, w way) {
			_, err := w.try(path)
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, loader.ErrExecStack)
			assert.Contains(t, e.Found, who)
			assert.Contains(t, e.Remedy, "-Wl,-z,noexecstack")
			assert.Contains(t, e.Remedy, "loader.WithExecutableStack")
			t.Log(err)
		})
		p, err := isolatedOnly.try(path, loader.WithExecutableStack())
		if err != nil { // glibc as of 2.41 refuses it
			assert.ErrorIs(t, err, loader.ErrExecStack)
			continue
		}
		assert.NoError(t, p.Close())
	}
	assert.Equal(t, "rw-p", call(t, isolatedOnly.open(t, plain), "f", ""))
}

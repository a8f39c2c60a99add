package check_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A library that is built with AddressSanitizer runs with its runtime preloaded, which is said, and what a sanitizer reports is the
// finding, in its own words.
func TestSanitizers(t *testing.T) {
	fixture.NotMusl(t, "it has no sanitizers")
	const source = `#include <stdlib.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
FERRULE_FN(well) { (void)call; return FERRULE_OK; }
static __attribute__((noinline)) int32_t reads(volatile char *p) { return *p ? FERRULE_OK : FERRULE_FAILED; }
FERRULE_FN(freed) {
    volatile char *p = malloc(8);
    call->out_len = 0;
    if (!p) return FERRULE_NO_MEMORY;
    *p = 1;
    free((void *)p);
    return reads(p);
}
FERRULE_FN(overflows) {
    volatile int n = 2147483647;
    n += (int)call->in_len + 1;
    return FERRULE_OK;
}
`
	for _, compiler := range []string{"gcc", "clang"} {
		t.Run(compiler, func(t *testing.T) {
			t.Parallel()
			cc := fixture.Tool(t, compiler, "apt-get install "+compiler)
			if compiler == "clang" {
				out, err := exec.Command(cc, "-print-file-name=libclang_rt.asan-x86_64.so").Output()
				if path := strings.TrimSpace(string(out)); err != nil || !filepath.IsAbs(path) {
					fixture.Tool(t, "libclang_rt.asan-x86_64.so", "apt-get install libclang-rt-14-dev")
				}
			}
			dir := t.TempDir()
			from, library := filepath.Join(dir, "p.c"), filepath.Join(dir, "p.so")
			require.NoError(t, os.WriteFile(from, []byte(source), 0o600))
			flags := "-fsanitize=address,undefined"
			if compiler == "clang" {
				flags = "-fsanitize=address" // a library has no runtime for the other with it
			}
			text, err := exec.Command(cc, "-shared", "-fPIC", "-g", flags, "-I", filepath.Join(fixture.Root(), "include"), "-o", library, from).CombinedOutput()
			require.NoError(t, err, "%s", text)
			o := options(t)
			o.Level = 10
			worker := filepath.Join(dir, "ferrule") // which is a part of the functions' names as well
			require.NoError(t, os.Symlink(o.Worker[0], worker))
			o.Worker[0] = worker
			require.NoError(t, os.Symlink(library, filepath.Join(dir, "link.so")))
			v, err := check.Run(t.Context(), filepath.Join(dir, "link.so"), o)
			require.NoError(t, err)
			result := func(name string) check.Result {
				i := slices.IndexFunc(v.Results, func(r check.Result) bool { return r.Case == name })
				require.GreaterOrEqual(t, i, 0)
				return v.Results[i]
			}
			require.Len(t, result("open").Notes, 1)
			assert.Contains(t, result("open").Notes[0], "built with AddressSanitizer: in every case ")
			assert.Contains(t, result("leaks").Reason, "AddressSanitizer keeps")
			found := result("input-empty").Findings
			i := slices.IndexFunc(found, func(f check.Finding) bool { return f.Function == "freed" })
			require.GreaterOrEqual(t, i, 0, "%+v", v.Results)
			assert.Contains(t, found[i].Seen, "freed with no input: AddressSanitizer: heap-use-after-free ")
			assert.Contains(t, found[i].Seen, "p.c:5")
			require.Len(t, found[i].Frames, 2)
			assert.Regexp(t, `^reads .*p\.c:5`, found[i].Frames[0])
			assert.Regexp(t, `^ferrule_fn_freed .*p\.c:12(:\d+)?$`, found[i].Frames[1])
			want := 1
			if compiler == "gcc" {
				want = 2
				assert.True(t, slices.ContainsFunc(found, func(f check.Finding) bool {
					return strings.Contains(f.Seen, "p.c:16:7: runtime error: signed integer overflow")
				}), "%+v", found)
			}
			assert.Equal(t, want, v.Errors, "each once, and nothing of what is well: %+v", v.Results)
			assert.Zero(t, v.Warnings, "%+v", v.Results)
		})
	}
}

// A report ends the process, names its frames in full and is read from its beginning, whatever the user's own options are and however long it is.
func TestSanitizerOptions(t *testing.T) {
	fixture.NotMusl(t, "it has no sanitizers")
	dir := t.TempDir()
	from, library := filepath.Join(dir, "p.c"), filepath.Join(dir, "p.so")
	require.NoError(t, os.WriteFile(from, []byte(`#include <stdlib.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
static __attribute__((noinline)) int32_t deep(volatile char *p, int n) {
    if (!n) return *p ? FERRULE_OK : FERRULE_FAILED;
    return deep(p, n - 1) + (n < 0);
}
FERRULE_FN(freed) {
    volatile char *p = malloc(8);
    call->out_len = 0;
    if (!p) return FERRULE_NO_MEMORY;
    *p = 1;
    free((void *)p);
    return deep(p, 300);
}
`), 0o600))
	text, err := exec.Command(fixture.Tool(t, "gcc", "apt-get install gcc"), "-shared", "-fPIC", "-g", "-fsanitize=address", "-fsanitize-recover=address",
		"-I", filepath.Join(fixture.Root(), "include"), "-o", library, from).CombinedOutput()
	require.NoError(t, err, "%s", text)
	t.Setenv("ASAN_OPTIONS", "halt_on_error=0:strip_path_prefix="+filepath.Dir(dir)+"/")
	o := options(t)
	o.Only = []string{"input-empty"}
	v, err := check.Run(t.Context(), library, o)
	require.NoError(t, err)
	require.Len(t, v.Results[0].Findings, 1)
	f := v.Results[0].Findings[0]
	assert.Contains(t, f.Seen, "freed with no input: AddressSanitizer: heap-use-after-free ")
	require.Len(t, f.Frames, 2, "the line that reads, and the one that calls itself once: %q", f.Frames)
	assert.Regexp(t, `^deep `+dir+`/p\.c:5`, f.Frames[0])
	assert.Regexp(t, `^deep .*p\.c:6`, f.Frames[1])
}

// The runtimes of the other sanitizers are preloaded as well: of gcc's for threads, whose reports do not end the process, and of clang's
// for undefined behaviour, to which no library is linked.
func TestOtherSanitizers(t *testing.T) {
	fixture.NotMusl(t, "it has no sanitizers")
	const source = `#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
static int counter, other, atomic;
FERRULE_FN(races) { counter++; call->out_len = 0; return FERRULE_OK; }
FERRULE_FN(races_too) { other++; call->out_len = 0; return FERRULE_OK; }
FERRULE_FN(well) { __atomic_add_fetch(&atomic, 1, __ATOMIC_RELAXED); call->out_len = 0; return FERRULE_OK; }
FERRULE_FN(overflows) {
    volatile int n = 2147483647;
    n += (int)call->in_len + 1;
    call->out_len = 0;
    return FERRULE_OK;
}
`
	for _, c := range []struct{ compiler, flag, name, only, rule, seen string }{
		{"gcc", "thread", "ThreadSanitizer", "threads", "R13", "^ThreadSanitizer: data race .*p\\.c:[45] in ferrule_fn_races(_too)?$"},
		{"clang", "undefined", "UndefinedBehaviorSanitizer", "input-empty", "R7", "p\\.c:9:7: runtime error: signed integer overflow"},
	} {
		t.Run(c.compiler, func(t *testing.T) {
			t.Parallel()
			cc := fixture.Tool(t, c.compiler, "apt-get install "+c.compiler)
			dir := filepath.Join(t.TempDir(), "a folder")
			require.NoError(t, os.Mkdir(dir, 0o700))
			from, library := filepath.Join(dir, "p.c"), filepath.Join(dir, "p.so")
			require.NoError(t, os.WriteFile(from, []byte(source), 0o600))
			text, err := exec.Command(cc, "-shared", "-fPIC", "-g", "-fsanitize="+c.flag, "-I", filepath.Join(fixture.Root(), "include"), "-o", library, from).CombinedOutput()
			require.NoError(t, err, "%s", text)
			o := options(t)
			o.Only = []string{"open", c.only, "standard-streams"}
			v, err := check.Run(t.Context(), library, o)
			require.NoError(t, err)
			var found []check.Finding
			for _, r := range v.Results {
				found = append(found, r.Findings...)
				if r.Case == "open" {
					require.Len(t, r.Notes, 1)
					assert.Contains(t, r.Notes[0], "built with "+c.name+": in every case ")
				}
			}
			require.Len(t, found, map[string]int{"thread": 2, "undefined": 1}[c.flag], "%+v", found)
			for _, f := range found {
				assert.Regexp(t, c.seen, f.Seen)
				assert.Equal(t, []string{check.Error, c.rule}, []string{f.Severity, f.Rule})
			}
		})
	}
}

// A report is found whichever library of the process has the sanitizer: one that is found by a search path, or loaded by the plug-in itself. What a plug-in writes that looks like one is none,
// also where a sanitizer is in the process.
func TestReportsOfOtherLibraries(t *testing.T) {
	fixture.NotMusl(t, "it has no sanitizers")
	gcc := fixture.Tool(t, "gcc", "apt-get install gcc")
	for how, call := range map[string]string{
		"linked": `adds(call->in_len);`,
		"loaded": `void *core = dlopen(CORE, RTLD_NOW); void (*adds)(size_t) = (void (*)(size_t))dlsym(core, "adds"); adds(call->in_len);`,
	} {
		t.Run(how, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "it's a folder: of one, or")
			for _, folder := range []string{"plugin", "lib"} {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, folder), 0o700))
			}
			t.Chdir(dir)
			build := func(name, source string, args ...string) {
				require.NoError(t, os.WriteFile(name+".c", []byte(source), 0o600))
				text, err := exec.Command(gcc, append([]string{"-shared", "-fPIC", "-g", "-I", filepath.Join(fixture.Root(), "include"), "-o", name + ".so", name + ".c"}, args...)...).CombinedOutput()
				require.NoError(t, err, "%s", text)
			}
			build("lib/libcore", "#include <stddef.h>\nvoid adds(size_t);\nvoid adds(size_t n) { volatile int m = 2147483647; m += (int)n + 1; }\n", "-fsanitize=undefined")
			args := []string{"-DCORE=\"" + filepath.Join(dir, "lib/libcore.so") + "\""}
			if how == "linked" {
				args = append(args, "-Llib", "-lcore", "-Wl,-rpath,$ORIGIN/../lib")
			}
			build("plugin/p", `#include <dlfcn.h>
#include <stdio.h>
#include "ferrule.h"
void adds(size_t);
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
FERRULE_FN(overflows) { fprintf(stderr, "rules.lua:4:2: runtime error: no such rule\n"); `+call+` call->out_len = 0; return FERRULE_OK; }
`, args...)
			o := options(t)
			o.Only = []string{"input-empty", "standard-streams"}
			v, err := check.Run(t.Context(), filepath.Join(dir, "plugin/p.so"), o)
			require.NoError(t, err)
			require.Len(t, v.Results[0].Findings, 1)
			f := v.Results[0].Findings[0]
			assert.Equal(t, check.Error, f.Severity)
			assert.Regexp(t, `^lib/libcore\.c:3:\d+: runtime error: signed integer overflow: `, f.Seen)
			require.Len(t, v.Results[1].Findings, 1)
			assert.Contains(t, v.Results[1].Findings[0].Seen, "on the standard error: \"rules.lua:4:2: runtime error: no such rule")
		})
	}
}

// A report that should have ended its process is found where that was another one, such as a child. Lines that look like reports are none, and do not hide how the process ended where they are not read.
func TestReportsAndLives(t *testing.T) {
	fixture.NotMusl(t, "it has no sanitizers")
	gcc := fixture.Tool(t, "gcc", "apt-get install gcc")
	for _, c := range []struct {
		name, does, flag string
		want             []string
	}{
		{"child", `int status; pid_t child = fork(); if (!child) { volatile char *p = malloc(8); free((void *)p); _exit(*p); } waitpid(child, &status, 0);`, "-fsanitize=address",
			[]string{"error R7 AddressSanitizer: heap-use-after-free ", "warning R20 on the standard error: "}},
		{"summary", `fprintf(stderr, "SUMMARY: AddressSanitizer: x\nSUMMARY: ThreadSanitizer: x in y\nSUMMARY: UndefinedBehaviorSanitizer: x\n");`, "-g",
			[]string{`warning R20 on the standard error: "SUMMARY: AddressSanitizer: x\nSUMMARY: ThreadSanitizer: x in y\nSUMMARY: UndefinedBehaviorSanitizer: x\n`}},
		{"exit", `for (int i = 0; i < 1 << 20; i++) fputc('x', stderr); fprintf(stderr, "\na.c:1:1: runtime error: x\nSUMMARY: UndefinedBehaviorSanitizer: x a.c:1:1 in \n"); exit(1);`, "-g",
			[]string{"error R12 does with no input: the process ended with exit code 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			from, library := filepath.Join(dir, "p.c"), filepath.Join(dir, "p.so")
			require.NoError(t, os.WriteFile(from, []byte(`#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
FERRULE_FN(does) { `+c.does+` call->out_len = 0; return FERRULE_OK; }
`), 0o600))
			text, err := exec.Command(gcc, "-shared", "-fPIC", "-g", c.flag, "-w", "-I", filepath.Join(fixture.Root(), "include"), "-o", library, from).CombinedOutput()
			require.NoError(t, err, "%s", text)
			o := options(t)
			o.Only = []string{"input-empty", "standard-streams"}
			v, err := check.Run(t.Context(), library, o)
			require.NoError(t, err)
			var found []string
			for _, r := range v.Results {
				for _, f := range r.Findings {
					found = append(found, f.Severity+" "+f.Rule+" "+f.Seen)
				}
			}
			require.Len(t, found, len(c.want), "%q", found)
			for i, want := range c.want {
				assert.Contains(t, found[i], want)
			}
		})
	}
}

// A C++ library that throws and catches does so with gcc's AddressSanitizer, too, which has to find the C++ library when it starts.
func TestExceptionsUnderASanitizer(t *testing.T) {
	fixture.NotMusl(t, "it has no sanitizers")
	dir := t.TempDir()
	from := filepath.Join(dir, "p.cpp")
	require.NoError(t, os.WriteFile(from, []byte(`#include <stdexcept>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
FERRULE_FN(catches) {
    try {
        throw std::runtime_error("no");
    } catch (const std::exception &e) {
        call->out_len = 0;
        return FERRULE_OK;
    }
}
`), 0o600))
	for _, how := range []string{"-shared-libgcc", "-static-libstdc++"} {
		library := filepath.Join(dir, "p"+how+".so")
		text, err := exec.Command(fixture.Tool(t, "g++", "apt-get install g++"), "-shared", "-fPIC", "-g", how, "-fsanitize=address", "-I", filepath.Join(fixture.Root(), "include"),
			"-o", library, from).CombinedOutput()
		require.NoError(t, err, "%s", text)
		o := options(t)
		o.Only = []string{"input-empty", "standard-streams"}
		v, err := check.Run(t.Context(), library, o)
		require.NoError(t, err)
		for _, r := range v.Results {
			assert.Empty(t, r.Findings, how)
		}
	}
}

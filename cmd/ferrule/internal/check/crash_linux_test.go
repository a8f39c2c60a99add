package check_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A crash says where it was, down to the line, and who had called that; and what it is blamed on follows from the address.
func TestCrash(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("on this architecture nothing but the signal is recorded: see crash.Record")
	}
	const input = "Check in_len before reading"
	for _, c := range []struct {
		fixture, only string
		rule          string
		seen          string
		frames        []string // a part of each
		mend          string
	}{
		{"check_input_empty", "input-empty", "R7", `take with no input: the process died of SIGSEGV at the address 0x8, in ferrule_fn_take \(check_input_empty\.c:9, check_input_empty\.so\+0x[0-9a-f]+\)$`,
			[]string{"ferrule_fn_take (check_input_empty.c:9, "}, input},
		{"check_input_guard", "input-guard", "R7", `SIGSEGV at the address 0x[0-9a-f]+, in .*ferrule_fn_measure \(check_input_guard\.c:11, `, nil, "Mind in_len in every read"},
		{"check_state_on_stack", "input-empty", "R7", `SIGSEGV at the address 0x8, in ferrule_fn_answer`, []string{"ferrule_fn_answer"}, "call->state points to must outlive"},
		{"check_dangling", "input-empty", "R7", `SIGSEGV at the address 0x[0-9a-f]+, in ferrule_fn_answer`, []string{"ferrule_fn_answer (check_dangling.c:20, "}, "in neither the input nor the room"},
		{"check_room_beyond", "input-empty", "R8", `SIGSEGV at the address 0x[0-9a-f]+, in .*\(check_room_beyond\.c:9, `, nil, "Compare with out_cap"},
		{"check_call_null", "input-empty", "R7", `SIGSEGV at the address 0x0, in no code \(0x0\), called from ferrule_fn_answer \(check_call_null\.c:10, `,
			[]string{"no code (0x0)", "ferrule_fn_answer (check_call_null.c:10, "}, input},
		{"check_abort", "input-empty", "R12", `SIGABRT, in .*libc.*, called from give_up \(check_abort\.c:9, `, nil, "Catch what may be thrown"},
		{"check_assert", "input-empty", "R12", `SIGABRT, in .*, called from ferrule_fn_answer \(check_assert\.c:9, .*; it said "check_assert\.c:9: ferrule_fn_answer: Assertion .call->in_len > 0' failed\."$`,
			nil, "return FERRULE_INVALID"},
		{"check_divides", "input-empty", "R7", `answer with no input: the process died of SIGFPE, in ferrule_fn_answer \(check_divides\.c:8, `,
			[]string{"ferrule_fn_answer (check_divides.c:8, "}, "divided by zero"},
		{"check_trap", "input-empty", "R7", `the process died of SIG(ILL|TRAP), in ferrule_fn_answer \(check_trap\.c:7, `,
			[]string{"ferrule_fn_answer (check_trap.c:7, "}, "a function without its return"},
		{"check_freed_twice", "input-empty", "R7", `SIGABRT, in .*, called from ferrule_fn_answer \(check_freed_twice\.c:13, .*; it said "(double free or corruption|free\(\): ).*"$`,
			nil, "-g -fsanitize=address"},
		{"check_smashes", "input-empty", "R7", `SIGABRT, in .*, called from fill \(check_smashes\.c:\d+, .*; it said "stack smashing detected \*\*\*: terminated"$`,
			nil, "An array is too small"},
		{"check_null", "input-byte", "R7", `SIGSEGV at the address 0x0, in ferrule_fn_answer \(check_null\.c:10, `,
			[]string{"ferrule_fn_answer (check_null.c:10, "}, "It is a NULL pointer, and not the input"},
		{"check_stack_overflow", "input-empty", "R7", `answer with no input: the process died of a stack overflow, in deeper \(check_stack_overflow\.c:\d+, `,
			[]string{"deeper (check_stack_overflow.c:"}, "Bound the recursion"},
		{"check_stack_alloca", "input-empty", "R7", `answer with no input: the process died of a stack overflow, in ferrule_fn_answer \(check_stack_alloca\.c:\d+, `,
			[]string{"ferrule_fn_answer (check_stack_alloca.c:"}, "keep large arrays in memory of your own (malloc)"},
		{"check_stack_array", "input-empty", "R7", `answer with no input: the process died of a stack overflow, in ferrule_fn_answer \(check_stack_array\.c:\d+, `,
			[]string{"ferrule_fn_answer (check_stack_array.c:"}, "keep large arrays in memory of your own (malloc)"},
		{"check_beyond_stack", "input-empty", "R7", `answer with no input: the process died of SIGSEGV at the address 0x[0-9a-f]+, in `, nil, "behind the end of an array"},
		{"check_thread_crashes", "input-empty", "R7", `SIGSEGV at the address 0x10, in work \(check_thread_crashes\.c:11, `, []string{"work (check_thread_crashes.c:11, "}, input},
		{"check_constructor", "open", "R4", `opening the library: the process died of SIGSEGV at the address 0x8, in \w+ \(check_constructor\.c:\d+, `,
			[]string{"(check_constructor.c:"}, "Do nothing in constructors"},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			t.Parallel()
			if slices.Contains([]string{"check_assert", "check_freed_twice", "check_smashes", "check_beyond_stack"}, c.fixture) {
				fixture.NotMusl(t, "the last words are others, or there are none")
			}
			o := options(t)
			o.Only = []string{c.only}
			library := fixture.C(t, c.fixture)
			if c.fixture == "check_call_null" { // as a library is often found, by a name without its version
				link := filepath.Join(t.TempDir(), "link.so")
				require.NoError(t, os.Symlink(library, link))
				library = link
			}
			v, err := check.Run(t.Context(), library, o)
			require.NoError(t, err)
			require.Len(t, v.Results, 1)
			require.Len(t, v.Results[0].Findings, 1)
			f := v.Results[0].Findings[0]
			assert.Equal(t, []string{check.Error, c.rule}, []string{f.Severity, f.Rule})
			assert.Regexp(t, c.seen, f.Seen)
			assert.Contains(t, f.Mend, c.mend)
			if c.mend != input && c.fixture != "check_state_on_stack" { // which either may be
				assert.NotContains(t, f.Mend, input+", and return", "it is not the input")
			}
			require.NotEmpty(t, f.Frames)
			if c.frames != nil {
				require.Len(t, f.Frames, len(c.frames), "%q", f.Frames)
			}
			for i, part := range c.frames {
				assert.Contains(t, f.Frames[i], part)
			}
			assert.NotContains(t, strings.Join(f.Frames, "\n"), "check.test", "the kit's own code is none of it")
		})
	}
}

// A library is found again by what the system says of its path, whatever that has in it.
func TestCrashInOddFolders(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("on this architecture nothing but the signal is recorded: see crash.Record")
	}
	data, err := os.ReadFile(fixture.C(t, "check_input_empty"))
	require.NoError(t, err)
	for _, folder := range []string{"two\nlines", `a\012backslash`, "blanks and ä"} {
		library := filepath.Join(t.TempDir(), folder, "p.so")
		require.NoError(t, os.Mkdir(filepath.Dir(library), 0o700))
		require.NoError(t, os.WriteFile(library, data, 0o700))
		o := options(t)
		o.Only = []string{"input-empty"}
		v, err := check.Run(t.Context(), library, o)
		require.NoError(t, err)
		require.Len(t, v.Results[0].Findings, 1)
		require.Len(t, v.Results[0].Findings[0].Frames, 1, "%q", folder)
		assert.Contains(t, v.Results[0].Findings[0].Frames[0], "ferrule_fn_take (check_input_empty.c:9, ")
	}
}

// What lies right below a stack, as memory of a call may, is not the stack: the stack pointer tells.
func TestCrashBelowStack(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("on this architecture nothing but the signal is recorded: see crash.Record")
	}
	dir := t.TempDir()
	source, library := filepath.Join(dir, "below.c"), filepath.Join(dir, "below.so")
	require.NoError(t, os.WriteFile(source, []byte(`#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("below") FERRULE_VERSION("1.0.0"));
FERRULE_FN(answer) {
    pthread_attr_t attr;
    void *bottom;
    size_t size;
    (void)call;
    if (pthread_getattr_np(pthread_self(), &attr) || pthread_attr_getstack(&attr, &bottom, &size)) return FERRULE_FAILED;
    for (uintptr_t at = ((uintptr_t)bottom & ~(uintptr_t)0xffff) - 0x10000; at > (uintptr_t)bottom - 0xf0000; at -= 0x10000) {
        volatile char *p = mmap((void *)at, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == (void *)at) return *p ? FERRULE_OK : FERRULE_FAILED;
    }
    return FERRULE_FAILED;
}
`), 0o600))
	out, err := exec.Command(fixture.Tool(t, "gcc", "apt-get install gcc"), "-g", "-fPIC", "-shared", "-pthread",
		"-I"+filepath.Join(fixture.Root(), "include"), "-o", library, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	o := options(t)
	o.Only = []string{"input-empty"}
	var v *check.Verdict
	for range 20 { // where something else is right below the stack, there is no place for it
		v, err = check.Run(t.Context(), library, o)
		require.NoError(t, err)
		require.Len(t, v.Results, 1)
		if len(v.Results[0].Findings) > 0 {
			break
		}
	}
	require.Len(t, v.Results[0].Findings, 1)
	assert.Regexp(t, `answer with no input: the process died of SIGSEGV at the address 0x[0-9a-f]+, in ferrule_fn_answer \(below\.c:`, v.Results[0].Findings[0].Seen)
}

// What ended a process is what the system says of it, whatever signal the plug-in has written about before, and whatever looks like a sanitizer's report where there is none.
func TestKilled(t *testing.T) {
	source, library := filepath.Join(t.TempDir(), "killed.c"), filepath.Join(t.TempDir(), "killed.so")
	require.NoError(t, os.WriteFile(source, []byte(`#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("killed") FERRULE_VERSION("1.0.0"));
static const char said[] = "SIGHUP: reloading as asked, addr=0x10\n==7==ERROR: AddressSanitizer: none\nrules.lua:4:2: runtime error: no such rule\n";
FERRULE_FN(kills) {
    (void)call;
    if (write(2, said, sizeof said - 1) > 0) raise(SIGKILL);
    return FERRULE_FAILED;
}
FERRULE_FN(exits) {
    (void)call;
    if (write(2, said, sizeof said - 1) > 0) _exit(2);
    return FERRULE_FAILED;
}
FERRULE_FN(quits) { /* which Go's runtime reports */
    (void)call;
    if (write(2, said, sizeof said - 1) > 0) raise(SIGQUIT);
    return FERRULE_FAILED;
}
`), 0o600))
	out, err := exec.Command(fixture.Tool(t, "gcc", "apt-get install gcc"), "-fPIC", "-shared", "-I"+filepath.Join(fixture.Root(), "include"), "-o", library, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	o := options(t)
	o.Only = []string{"input-empty"}
	v, err := check.Run(t.Context(), library, o)
	require.NoError(t, err)
	seen := map[string]string{}
	for _, f := range v.Results[0].Findings {
		seen[f.Function] += f.Seen
	}
	assert.Equal(t, map[string]string{"kills": "kills with no input: the process died of SIGKILL", "exits": "exits with no input: the process ended with exit code 2",
		"quits": "quits with no input: the process died of SIGQUIT"}, seen)
}

// An exception that nobody catches is named, with what it says.
func TestException(t *testing.T) {
	source, library := filepath.Join(t.TempDir(), "throws.cpp"), filepath.Join(t.TempDir(), "throws.so")
	require.NoError(t, os.WriteFile(source, []byte(`
#include <stdexcept>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("throws") FERRULE_VERSION("1.0.0"));
FERRULE_FN(answer) {
    if (!call->in_len) throw std::runtime_error("nothing to answer");
    return FERRULE_OK;
}
`), 0o600))
	out, err := exec.Command(fixture.Tool(t, "g++", "apt-get install g++"), "-std=c++17", "-g", "-fPIC", "-shared", "-static-libstdc++", "-static-libgcc",
		"-I"+filepath.Join(fixture.Root(), "include"), "-o", library, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	o := options(t)
	o.Only = []string{"input-empty"}
	v, err := check.Run(t.Context(), library, o)
	require.NoError(t, err)
	require.Len(t, v.Results[0].Findings, 1)
	f := v.Results[0].Findings[0]
	assert.Equal(t, "R12", f.Rule)
	assert.Contains(t, f.Seen, `it said "terminate called after throwing an instance of 'std::runtime_error' what(): nothing to answer"`)
	assert.Contains(t, f.Mend, "Catch what may be thrown")
}

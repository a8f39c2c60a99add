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
FERRULE_FN(freed) {
    volatile char *p = malloc(8);
    call->out_len = 0;
    if (!p) return FERRULE_NO_MEMORY;
    *p = 1;
    free((void *)p);
    return *p ? FERRULE_OK : FERRULE_FAILED;
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
			v, err := check.Run(t.Context(), library, o)
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
			assert.Contains(t, found[i].Seen, "p.c:11")
			require.Len(t, found[i].Frames, 1)
			assert.Contains(t, found[i].Frames[0], "ferrule_fn_freed")
			want := 1
			if compiler == "gcc" {
				want = 2
				assert.True(t, slices.ContainsFunc(found, func(f check.Finding) bool {
					return strings.Contains(f.Seen, "p.c:15:7: runtime error: signed integer overflow")
				}), "%+v", found)
			}
			assert.Equal(t, want, v.Errors, "each once, and nothing of what is well: %+v", v.Results)
			assert.Zero(t, v.Warnings, "%+v", v.Results)
		})
	}
}

package check_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// checkModule checks a fixture's WebAssembly module, with all cases or those.
func checkModule(t *testing.T, path, only, config string) *check.Verdict {
	t.Helper()
	o := options(t)
	o.Config = []byte(config)
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	v, err := check.Run(context.Background(), path, o)
	require.NoError(t, err)
	return v
}

// TestModuleFindings: the defect of a fixture is found in its WebAssembly module, too, and nothing else, where it is one there. What a module cannot do wrong is in
// check's reasons for leaving a case out. What does no harm there is that address 0 can be read and written, and that memory does not end behind a room.
func TestModuleFindings(t *testing.T) {
	for _, c := range []struct {
		fixture, want, seen, only string
	}{
		{"manifest_not_utf8", "manifest error R1", "", ""},
		{"check_reserved_name", "names warning R2", "ferrule_pause", ""},
		{"check_no_function", "symbols warning R2", "no exported ferrule_fn_", ""},
		{"check_words_health", "words warning R32", "health=", ""},
		{"start_fails", "open error R15", "could not be started", ""},
		{"check_abort", "input-empty error R12", "the module trapped: unreachable, in abort", ""},
		{"check_exit", "input-empty error R12", "the module exited with the code 3", ""},
		{"check_call_null", "input-empty error R12", "invalid table access", ""},
		{"check_divides", "input-empty error R12", "integer divide by zero", ""},
		{"check_stack_overflow", "input-empty error R12", "called by deeper", ""},
		{"check_room_beyond", "input-empty error R12", "out of bounds memory access", ""},
		{"check_hang", "input-empty error R17", "it was ended 3s after it was cancelled", "input-empty,input-byte"},
		{"out_len_beyond_out_cap", "input-empty error R8", "out_len 8121 in a room of 8120 bytes", ""},
		{"null_out_with_length", "input-empty error R8", "out_len 5 with out NULL", ""},
		{"foreign_out_without_release", "input-empty error R8", "another pointer in out", ""},
		{"negative_status", "input-empty error R10", "the status -7", ""},
		{"check_status_reserved", "status error R10", "the status 10", "status"},
		{"check_always_panics", "status warning R12", "has panicked with every input", "status"},
		{"check_message_not_utf8", "message error R11", "", "message"},
		{"check_message_newline", "message warning R11", `"no way\n"`, "message"},
		{"check_import_large", "import-large error R17", "where host functions return ok and 1048576 bytes", "import-large"},
		{"check_cancel_busy", "cancel-middle error R17", "cancelled after 10ms", "cancel-middle"},
		{"check_configure_once", "configure error R28", "after no settings", "configure"},
		{"check_resume_refuses", "handover error R29", "handing over", "handover"},
		{"check_call_leaks", "leaks error R9", "more after", "leaks"},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			t.Parallel()
			v := checkModule(t, fixture.WasmC(t, c.fixture), c.only, "")
			assert.Equal(t, strings.Split(c.want, ","), findings(v))
			for _, r := range v.Results {
				if len(r.Findings) > 0 {
					assert.Contains(t, r.Findings[0].Seen, c.seen)
					assert.NotEmpty(t, r.Findings[0].Expected)
					assert.NotEmpty(t, r.Findings[0].Mend)
				}
			}
		})
	}
}

// TestModulesPass: sound modules in C, C++ and Rust pass, and each case that is left out says why.
func TestModulesPass(t *testing.T) {
	for name, path := range map[string]string{"C": fixture.WasmC(t, "state"), "C, with hosts": fixture.WasmC(t, "host"), "C++": fixture.WasmSDK(t, "noexceptions.cpp"),
		"Rust": fixture.WasmRust(t, "fixture-streams"), "Rust, with state": fixture.WasmRust(t, "fixture-handover")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := checkModule(t, path, "", map[string]string{"Rust, with state": "1"}[name])
			assert.True(t, v.Pass)
			ran := 0
			for _, r := range v.Results {
				assert.Empty(t, errorsOf(r), r.Case)
				if r.Outcome == check.Skipped {
					assert.NotEmpty(t, r.Reason, r.Case)
				} else {
					ran++
				}
			}
			assert.Greater(t, ran, 20)
		})
	}
}

// errorsOf are a case's errors.
func errorsOf(r check.Result) (all []check.Finding) {
	for _, f := range r.Findings {
		if f.Severity == check.Error {
			all = append(all, f)
		}
	}
	return all
}

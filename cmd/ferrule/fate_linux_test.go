package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A crash in the process that the plug-in was loaded into says where it was, and a signal that somebody has sent says nothing of the kind.
func TestCallSaysWhere(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("on this architecture nothing but the signal is recorded: see crash.Record")
	}
	sent := compiled(t, `#include <signal.h>
		#include <sys/wait.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("sent") FERRULE_VERSION("1"));
		FERRULE_FN(by_itself) { (void)call; kill(getpid(), SIGSEGV); for (;;) pause(); }
		FERRULE_FN(by_a_child) {
			(void)call;
			pid_t child = fork();
			if (child == 0) *(volatile int *)8 = 1;
			int status;
			waitpid(child, &status, 0);
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) return FERRULE_FAILED;
			kill(getpid(), SIGBUS);
			for (;;) pause();
		}`)
	for _, c := range []struct{ library, function, signal, fault string }{
		{fixture.C(t, "check_input_empty"), "take", "segmentation fault", `^at the address 0x8, in ferrule_fn_take \(check_input_empty\.c:9, check_input_empty\.so\+0x[0-9a-f]+\)$`},
		{fixture.C(t, "check_call_null"), "answer", "segmentation fault", `^at the address 0x0, in no code \(0x0\), called from ferrule_fn_answer \(check_call_null\.c:10, `},
		{fixture.C(t, "check_start_crashes"), "answer", "segmentation fault", `^at the address 0x[0-9a-f]+, in ferrule_start \(check_start_crashes\.c:\d+, `},
		{fixture.C(t, "check_stack_overflow"), "answer", "segmentation fault", `^stack overflow, in deeper \(check_stack_overflow\.c:\d+, `},
		{fixture.C(t, "check_thread_crashes"), "answer", "segmentation fault", `^at the address 0x10, in work \(check_thread_crashes\.c:11, `},
		{fixture.C(t, "check_abort"), "answer", "aborted", `^in .*, called from give_up \(check_abort\.c:9, `},
		{fixture.C(t, "check_divides"), "answer", "floating point exception", `^in ferrule_fn_answer \(check_divides\.c:8, `},
		{sent, "by_itself", "segmentation fault", "^$"},
		{sent, "by_a_child", "bus error", "^$"},
	} {
		_, stderr, code := ferrule(t, "", "call", c.library, c.function)
		assert.Equal(t, exitCrashed, code)
		stdout, _, code := ferrule(t, "", "call", "--json", c.library, c.function)
		assert.Equal(t, exitCrashed, code)
		var told struct {
			Error struct{ Text, Signal, Fault string }
		}
		require.NoError(t, json.Unmarshal([]byte(stdout), &told), stdout)
		assert.Equal(t, c.signal, told.Error.Signal, c.function)
		assert.Regexp(t, c.fault, told.Error.Fault)
		assert.Contains(t, stderr, told.Error.Text)
		if told.Error.Fault != "" {
			assert.True(t, strings.Contains(told.Error.Text, " ("+told.Error.Fault+")"), told.Error.Text)
		}
	}
}

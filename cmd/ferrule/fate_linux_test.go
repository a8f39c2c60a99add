package main

import (
	"encoding/json"
	"os"
	"path/filepath"
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
	precious := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
	odd := compiled(t, `#include <fcntl.h>
		#include <pthread.h>
		#include <signal.h>
		#include <stdio.h>
		#include <string.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("odd") FERRULE_VERSION("1"));
		static struct sigaction before;
		static void handler(int signal, siginfo_t *info, void *context) {
			if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(signal, info, context);
			else sigaction(signal, &before, NULL);
		}
		FERRULE_FN(handles) {
			struct sigaction own;
			memset(&own, 0, sizeof own);
			own.sa_sigaction = handler;
			own.sa_flags = SA_SIGINFO | SA_ONSTACK;
			sigaction(SIGSEGV, &own, &before);
			return *(volatile uint8_t *)(8 + call->in_len);
		}
		static pthread_barrier_t barrier;
		static void *crash(void *p) {
			pthread_barrier_wait(&barrier);
			return (void *)(intptr_t)(*(volatile char *)8 + (p != NULL));
		}
		FERRULE_FN(at_once) {
			pthread_t t[4];
			(void)call;
			pthread_barrier_init(&barrier, NULL, 4);
			for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, crash, NULL);
			for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
			return FERRULE_OK;
		}
		FERRULE_FN(closes) {
			char path[4096] = {0}, link[64], target[64];
			int found = 0;
			memcpy(path, call->in, call->in_len);
			for (int i = 3; i < 64; i++) {
				snprintf(link, sizeof link, "/proc/self/fd/%d", i);
				memset(target, 0, sizeof target);
				if (readlink(link, target, sizeof target - 1) < 0 || !strstr(target, "memfd:crash")) continue;
				if (dup2(open(path, O_RDWR), i) != i) return FERRULE_FAILED;
				found++;
			}
			return found ? *(volatile uint8_t *)8 : FERRULE_FAILED;
		}`)
	for _, c := range []struct{ library, function, signal, fault string }{
		{fixture.C(t, "check_input_empty"), "take", "segmentation fault", `^at the address 0x8, in ferrule_fn_take \(check_input_empty\.c:9, check_input_empty\.so\+0x[0-9a-f]+\)$`},
		{fixture.C(t, "check_call_null"), "answer", "segmentation fault", `^at the address 0x0, in no code \(0x0\), called from ferrule_fn_answer \(check_call_null\.c:10, `},
		{fixture.C(t, "check_start_crashes"), "answer", "segmentation fault", `^at the address 0x[0-9a-f]+, in ferrule_start \(check_start_crashes\.c:\d+, `},
		{fixture.C(t, "check_stack_overflow"), "answer", "segmentation fault", `^stack overflow, in deeper \(check_stack_overflow\.c:\d+, `},
		{fixture.C(t, "check_thread_crashes"), "answer", "segmentation fault", `^at the address 0x10, in work \(check_thread_crashes\.c:11, `},
		{fixture.C(t, "check_abort"), "answer", "aborted", `^in .*, called from give_up \(check_abort\.c:9, `},
		{fixture.C(t, "check_divides"), "answer", "floating point exception", `^in ferrule_fn_answer \(check_divides\.c:8, `},
		{odd, "handles", "segmentation fault", `^at the address 0x8, in ferrule_fn_handles `},
		{odd, "at_once", "segmentation fault", `^at the address 0x8, in crash `},
		{odd, "closes", "segmentation fault", "^$"},
		{sent, "by_itself", "segmentation fault", "^$"},
		{sent, "by_a_child", "bus error", "^$"},
	} {
		in := ""
		if c.function == "closes" {
			in = precious
		}
		stdout, stderr, code := ferrule(t, "", "call", "--json", "--timeout", "1m", "--in", in, c.library, c.function)
		assert.Equal(t, exitCrashed, code)
		var told struct {
			Error struct{ Text, Signal, Fault string }
		}
		require.NoError(t, json.Unmarshal([]byte(stdout), &told), stdout)
		assert.Equal(t, c.signal, told.Error.Signal, c.function)
		assert.Regexp(t, c.fault, told.Error.Fault)
		assert.Contains(t, stderr, told.Error.Text)
		if told.Error.Fault != "" {
			assert.Contains(t, told.Error.Text, " ("+told.Error.Fault+")")
		}
	}
	text, err := os.ReadFile(precious)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(text), "what has the number of the record by then is no record")
}

// What a plug-in writes of memory, or of a sanitizer, is not why a fault ends its process.
func TestFaultBehindWords(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"cache: std::bad_alloc caught, going on without it", "terminate called after throwing an instance of 'std::bad_alloc'",
		"fatal error: out of memory", "memory allocation of 1073741824 bytes failed", "==1==ASan runtime does not come first"} {
		library := compiled(t, `#include <stdio.h>
			FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
			FERRULE_FN(nothing) { (void)call; return FERRULE_OK; }
			__attribute__((constructor)) static void begins(void) { fputs("`+words+`\n", stderr); *(volatile int *)8 = 1; }`)
		for _, how := range [][]string{{"--isolated=false"}, {"--isolated"}, {"--sandbox", "--memory", "1GiB"}} {
			_, stderr, code := ferrule(t, "", append(append([]string{"call"}, how...), library, "nothing")...)
			if strings.Contains(stderr, "no Landlock") {
				continue
			}
			assert.Equal(t, exitCrashed, code, how)
			assert.Contains(t, stderr, "segmentation fault", how)
			assert.Contains(t, stderr, ". Look for a fault in ", "%s: %s", how, words)
		}
	}
}

// Whose worker gets no memory while it opens the plug-in is told of that, and not of a fault in the plug-in.
func TestTooLittleMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ library, fn, memory string }{{fixture.C(t, "echo"), "echo", "64KiB"}, {fixture.Go(t), "answer", "1MiB"}} { // a Go runtime lacks a thread first
		says := 0
		for tries := 0; tries < 12 || says == 0 && tries < 200; tries++ { // now and then it is enough for what there is to do
			_, stderr, code := ferrule(t, "", "call", "--sandbox", "--memory", c.memory, "--in", "x", c.library, c.fn)
			if strings.Contains(stderr, "no Landlock") {
				t.Skipf("the kernel has no Landlock: %s", stderr)
			}
			assert.NotContains(t, stderr, "Look for a fault")
			assert.NotContains(t, stderr, "SELinux")
			if code != 0 {
				assert.Regexp(t, "Free memory, or raise the limit", stderr)
				says++
			}
		}
		assert.NotZero(t, says, c.library)
	}
}

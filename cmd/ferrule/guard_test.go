//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// hostile is a plug-in that does to its process what a function's name says. Processes that it starts write their number
// to the file that the input names.
const hostile = `#define _GNU_SOURCE 1
	#include <fcntl.h>
	#include <signal.h>
	#include <stdio.h>
	#include <stdlib.h>
	#include <string.h>
	#include <sys/wait.h>
	#include <termios.h>
	#include <unistd.h>
	FERRULE_PLUGIN(FERRULE_NAME("hostile") FERRULE_VERSION("1"));
	static int stop_in_stop;
	static void tell(ferrule_call *call, pid_t pid) {
		char path[512] = {0}, text[16];
		if (call->in_len >= sizeof path) return;
		memcpy(path, call->in, call->in_len);
		int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
		int n = snprintf(text, sizeof text, "%d\n", (int)pid);
		if (write(fd, text, n) != n) abort();
		close(fd);
	}
	static void forked(ferrule_call *call, int daemon) {
		int told[2];
		char byte;
		if (pipe(told)) abort();
		pid_t pid = fork();
		if (pid == 0) {
			if (daemon) {
				setsid();
				if (fork() != 0) _exit(0);
			}
			tell(call, getpid());
			if (write(told[1], "x", 1) != 1) abort();
			for (;;) pause();
		}
		if (read(told[0], &byte, 1) != 1) abort();
		if (daemon) waitpid(pid, NULL, 0);
	}
	static int32_t reply(ferrule_call *call, const char *text) {
		memcpy(call->out, text, call->out_len = strlen(text));
		return FERRULE_OK;
	}
	FERRULE_FN(stop_self) { tell(call, getpid()); kill(getpid(), SIGSTOP); for (;;) pause(); }
	FERRULE_FN(replaced) { tell(call, getpid()); execl("/bin/sleep", "sleep", "1000", (char *)NULL); return FERRULE_FAILED; }
	FERRULE_FN(forks) { forked(call, 0); return reply(call, "RESULT"); }
	FERRULE_FN(forks_daemon) { forked(call, 1); return reply(call, "RESULT"); }
	FERRULE_FN(forks_and_stops) { forked(call, 0); forked(call, 1); kill(getpid(), SIGSTOP); for (;;) pause(); }
	FERRULE_FN(returns_twice) { if (fork() == 0) tell(call, getpid()); return reply(call, "RESULT"); }
	FERRULE_FN(stops_later) { stop_in_stop = 1; return reply(call, "RESULT"); }
	FERRULE_FN(message) {
		const char *text = "\033[31mred\033[0m\r\nferrule: forged line";
		memcpy(call->out, text, call->out_len = strlen(text));
		return FERRULE_FAILED;
	}
	FERRULE_FN(prints) {
		fprintf(stderr, "\033]0;owned\007\033[2Jdying\nferrule: forged line\n");
		return reply(call, "RESULT");
	}
	FERRULE_FN(aborts) { fprintf(stderr, "\033[2Jlast words"); abort(); }
	FERRULE_FN(logs) {
		const char *text = "a\nferrule: forged \033[2J\xe3\x85\xa4";
		call->host->log(call, FERRULE_LOG_INFO, text, strlen(text));
		return FERRULE_OK;
	}
	FERRULE_FN(flushed) { printf("DEBUG LINE\n"); fflush(stdout); return reply(call, "RESULT"); }
	FERRULE_FN(buffered) { printf("DEBUG LINE\n"); return reply(call, "RESULT"); }
	FERRULE_FN(reads_stdin) { return getchar() == EOF ? FERRULE_OK : FERRULE_FAILED; }
	FERRULE_FN(has_terminal) { return open("/dev/tty", O_RDWR) >= 0 ? FERRULE_FAILED : FERRULE_OK; }
	FERRULE_FN(breaks_terminal) {
		char path[512] = {0};
		struct termios t;
		if (call->in_len >= sizeof path) return FERRULE_INVALID;
		memcpy(path, call->in, call->in_len);
		int fd = open(path, O_RDWR | O_NOCTTY);
		if (fd < 0 || tcgetattr(fd, &t)) return FERRULE_FAILED;
		t.c_lflag &= ~(ECHO | ICANON | ISIG);
		return tcsetattr(fd, TCSANOW, &t) ? FERRULE_FAILED : FERRULE_OK;
	}
	FERRULE_FN(bytes) { memcpy(call->out, "\xff\n\x00", call->out_len = 3); return FERRULE_OK; }
	FERRULE_STOP { (void)call; if (stop_in_stop) for (kill(getpid(), SIGSTOP);;) pause(); return FERRULE_OK; }`

func hostilePlugin(t *testing.T) string {
	t.Helper()
	return compiled(t, hostile)
}

// numbers are the processes that a plug-in has written to a file.
func numbers(t *testing.T, file string) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.NotEmpty(t, pids)
	return pids
}

func assertGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		assert.Equal(t, syscall.ESRCH, syscall.Kill(pid, 0), "the process %d lives: %s", pid, stat)
	}
}

// TestGuardTime: whatever the plug-in does to its process, the command ends in time, and nothing of it is left.
func TestGuardTime(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	for _, c := range []struct {
		function string
		args     []string
		stdout   string
		want     string
	}{
		// Five seconds are for what comes before the function, on a busy machine.
		{"stop_self", []string{"call", "--timeout", "5s"}, "", "hostile: stop_self: out of time after 5s (--timeout)"},
		{"replaced", []string{"call", "--timeout", "30s"}, "", "hostile: replaced: it replaced the process"},
		{"replaced", []string{"call"}, "", "it replaced the process"},
		{"forks_and_stops", []string{"call", "--timeout", "5s"}, "", "out of time after 5s (--timeout)"},
		{"stop_self", []string{"bench", "--timeout", "5s"}, "", "hostile: stop_self: "},
		{"replaced", []string{"bench", "--timeout", "5s"}, "", "hostile: replaced: "},
		{"forks_and_stops", []string{"bench", "--timeout", "5s"}, "", "hostile: forks_and_stops: "},
	} {
		t.Run(strings.Join(append(c.args, c.function), " "), func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS != "linux" && c.function == "forks_and_stops" {
				t.Skip("what leaves the session is found on Linux only")
			}
			file := filepath.Join(t.TempDir(), "pids")
			begun := time.Now()
			stdout, stderr, code := ferrule(t, "", append(c.args, library, c.function, "--in", file)...)
			assert.Equal(t, exitCrashed, code, stderr)
			assert.Equal(t, c.stdout, stdout)
			assert.Contains(t, stderr, c.want)
			assert.Less(t, time.Since(begun), 30*time.Second)
			assertGone(t, numbers(t, file))
		})
	}
}

// TestGuardLeft: what a plug-in starts ends with the command, which does not wait for it.
func TestGuardLeft(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	for _, function := range []string{"forks", "forks_daemon", "returns_twice"} {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS != "linux" && function == "forks_daemon" {
				t.Skip("what leaves the session is found on Linux only")
			}
			file := filepath.Join(t.TempDir(), "pids")
			stdout, stderr, code := ferrule(t, "", "call", library, function, "--in", file)
			assert.Zero(t, code, stderr)
			assert.Equal(t, "RESULT", stdout, "once")
			assert.Empty(t, stderr)
			if function != "returns_twice" { // whose copy may end before it comes to that
				assertGone(t, numbers(t, file))
			}
		})
	}
}

// TestGuardChain: processes each of which starts the next one, in a session of its own, and ends are ended with the command, too,
// however short each of them lives. All of them have a FIFO open, so that its end is theirs.
func TestGuardChain(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what leaves the session is found on Linux only")
	}
	library := compiled(t, `#define _GNU_SOURCE 1
		#include <fcntl.h>
		#include <signal.h>
		#include <string.h>
		#include <time.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("chain") FERRULE_VERSION("1"));
		static void chains(ferrule_call *call, int many, int life) {
			static int begun;
			char path[512] = {0};
			if (call->in_len >= sizeof path || begun++) return; /* bench calls it many times */
			memcpy(path, call->in, call->in_len);
			int fd = open(path, O_WRONLY);
			time_t end = time(NULL) + 20;
			for (int i = 0; i < many; i++) {
				if (fork() != 0) continue;
				setsid();
				if (write(fd, "x", 1) != 1) _exit(1);
				while (time(NULL) < end) {
					int next = fork();
					if (next == 0) setsid();
					if (life > 0) usleep(life);
					if (next > 0) _exit(0);
				}
				_exit(0);
			}
			close(fd);
		}
		FERRULE_FN(slow) { chains(call, 20, 1000); return FERRULE_OK; }
		FERRULE_FN(fast) { chains(call, 20, 0); return FERRULE_OK; }
		FERRULE_FN(late) { chains(call, 20, 1000); for (;;) pause(); }
		FERRULE_FN(alone) { chains(call, 5, 5000); kill(getppid(), SIGKILL); for (;;) pause(); }`)
	for _, c := range []struct {
		function string
		args     []string
		code     int
	}{
		{"slow", []string{"call"}, exitOK},
		{"fast", []string{"call"}, exitOK},
		{"slow", []string{"bench", "--duration", "1ms"}, exitOK},
		{"late", []string{"call", "--timeout", "2s"}, exitCrashed},
		{"alone", []string{"call"}, exitCrashed},
	} {
		t.Run(c.args[0]+" "+c.function, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo")
			require.NoError(t, syscall.Mkfifo(fifo, 0o600))
			alive, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			require.NoError(t, err)
			defer alive.Close()
			_, stderr, code := ferrule(t, "", append(c.args, library, c.function, "--in", fifo)...)
			assert.Equal(t, c.code, code, stderr)
			require.NoError(t, alive.SetReadDeadline(time.Now().Add(2*time.Second)))
			begun, err := io.ReadAll(alive)
			assert.NoError(t, err, "some of them live\n%s", stderr)
			assert.NotEmpty(t, begun)
		})
	}
}

// asked is a function of a plug-in that calls an import without input, and has its result in the call's room.
const asked = `static int32_t asked(ferrule_call *call, ferrule_request *request, uint32_t ordinal) {
	*request = (ferrule_request){.size = sizeof *request, .ordinal = ordinal, .out = call->out, .out_cap = call->out_cap};
	return call->host->call(call, request);
}`

// TestMessagesLost: where the standard error cannot be written, a plug-in that says much is not held up: what it says is dropped,
// and its result is printed.
func TestMessagesLost(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no file that is always full: ", err)
	}
	t.Cleanup(func() { full.Close() })
	library := compiled(t, `#include <stdio.h>
		#include <string.h>
		FERRULE_PLUGIN(FERRULE_NAME("talker") FERRULE_VERSION("1"));
		FERRULE_IMPORT(loud);
		`+asked+`
		static int32_t done(ferrule_call *call) { memcpy(call->out, "RESULT", call->out_len = 6); return FERRULE_OK; }
		FERRULE_FN(prints) {
			for (int i = 0; i < 5000; i++) printf("line %d, and more so that no pipe holds them all\n", i);
			fflush(stdout);
			return done(call);
		}
		FERRULE_FN(logs) {
			const char *text = "a line, and more so that no pipe holds them all";
			for (int i = 0; i < 5000; i++) call->host->log(call, FERRULE_LOG_INFO, text, strlen(text));
			return done(call);
		}
		FERRULE_FN(imports) {
			ferrule_request request;
			int32_t status = asked(call, &request, FERRULE_ORDINAL(loud));
			return status ? status : done(call);
		}`)
	loud := "loud=i=0; while [ $i -lt 5000 ]; do echo line $i, and more so that no pipe holds them all >&2; i=$((i + 1)); done"
	for _, c := range []struct {
		args   []string
		stdout string
	}{
		{[]string{"call", "--in", "", library, "prints"}, "^RESULT$"},
		{[]string{"call", "--in", "", library, "logs"}, "^RESULT$"},
		{[]string{"call", "--in", "", library, "imports"}, "^RESULT$"},
		{[]string{"call", "--isolated", "--in", "", library, "prints"}, "^RESULT$"},
		{[]string{"call", "--isolated", "--in", "", library, "logs"}, "^RESULT$"},
		{[]string{"call", "--isolated", "--in", "", library, "imports"}, "^RESULT$"},
		{[]string{"bench", "--duration", "10ms", "--in", "", library, "prints"}, "calls/s"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, append(c.args, "--import", loud)...)
			cmd.Stderr = full
			out, err := cmd.Output()
			require.NoError(t, ctx.Err(), "it hangs")
			require.NoError(t, err)
			assert.Regexp(t, c.stdout, string(out))
		})
	}
}

// TestGuardStop: a plug-in that stops its process in ferrule_stop does so after it has given its result.
func TestGuardStop(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := ferrule(t, "", "call", "--timeout", "2s", hostilePlugin(t), "stops_later", "--in", "")
	assert.Equal(t, exitCrashed, code)
	assert.Equal(t, "RESULT", stdout)
	assert.Contains(t, stderr, "out of time after 2s (--timeout)")
}

// TestGuardInterrupted: a signal ends the command, also when the plug-in's process does not answer any more.
func TestGuardInterrupted(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	for _, s := range signals { // the command leaves ignored what it finds ignored, as under nohup: it does not find it so
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, s)
		t.Cleanup(func() { signal.Stop(heard) })
	}
	for _, verb := range []string{"call", "bench"} {
		for _, s := range signals {
			t.Run(verb+" "+s.String(), func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "pids")
				cmd := exec.Command(binary, verb, library, "stop_self", "--in", file)
				if verb == "bench" {
					cmd.Args = append(cmd.Args, "--timeout", "1h")
				}
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				require.NoError(t, cmd.Start())
				defer func() { _ = cmd.Process.Kill() }()
				require.Eventually(t, func() bool {
					text, err := os.ReadFile(file)
					return err == nil && bytes.HasSuffix(text, []byte("\n"))
				}, time.Minute, 5*time.Millisecond)
				require.NoError(t, cmd.Process.Signal(s))
				assert.Error(t, cmd.Wait())
				assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), stderr.String())
				assert.Contains(t, stderr.String(), "hostile: stop_self: interrupted")
				assertGone(t, numbers(t, file))
			})
		}
	}
}

// TestQuit: Ctrl-\ interrupts a verb that only reads, too, and the Go runtime says nothing.
func TestQuit(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe() // an input without end
	require.NoError(t, err)
	defer write.Close()
	defer read.Close()
	cmd := exec.Command(binary, "call", hostilePlugin(t), "logs", "--log-level", "error")
	cmd.Stdin = read
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	for written := 0; written < 1<<20; { // it reads: it has begun
		n, err := write.Write(make([]byte, 1<<16))
		require.NoError(t, err)
		written += n
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGQUIT))
	assert.Error(t, cmd.Wait())
	assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
	assert.Empty(t, stderr.String())
}

// TestSourceInterrupted: who ends a verb while a source lets it wait is not told that the source cannot be reached.
func TestSourceInterrupted(t *testing.T) {
	t.Parallel()
	library := filepath.Join(t.TempDir(), "lib"+fixture.Ext())
	fixture.Variant(t, "system", library)
	for name, line := range map[string]string{
		"search":  "search --registry oci://HOST/acme tax",
		"push":    "push --to oci://HOST/acme " + library,
		"index":   "index --key KEY --name acme oci://HOST/acme",
		"install": "install --config CONFIG",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{}, 100)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-r.Context().Done()
			}))
			defer server.Close()
			defer server.CloseClientConnections()
			dir := t.TempDir()
			key, file := filepath.Join(dir, "shop.key"), filepath.Join(dir, "config.yaml")
			_, stderr, code := ferrule(t, "", "keygen", "--no-password", key)
			require.Zero(t, code, stderr)
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "registry: {url: '%s/{plugin}'}\nplugins: [plugin_aaaa]\n", server.URL), 0o600))
			line := strings.NewReplacer("HOST", strings.TrimPrefix(server.URL, "http://"), "KEY", key, "CONFIG", file).Replace(line)
			cmd := exec.Command(binary, strings.Fields(line)...)
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir)
			var text bytes.Buffer
			cmd.Stderr = &text
			require.NoError(t, cmd.Start())
			defer func() { _ = cmd.Process.Kill() }()
			select {
			case <-asked:
			case <-time.After(time.Minute):
				t.Fatal("nothing was asked")
			}
			require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
			assert.Error(t, cmd.Wait())
			assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), text.String())
		})
	}
}

// TestCheckInterruptedJSON: the object of an interrupted check says which file it was, and of which kind the error is.
func TestCheckInterruptedJSON(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not end what leaves the session")
	}
	file := filepath.Join(t.TempDir(), "pids")
	library := compiled(t, stays)
	cmd := exec.Command(binary, "check", "--json", "--timeout", "1h", "--only", "input-empty", library)
	cmd.Env = append(os.Environ(), "STAYS="+file)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	require.Eventually(t, func() bool {
		_, err := os.Stat(file)
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGQUIT))
	assert.Error(t, cmd.Wait())
	assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), stderr.String())
	var got struct {
		File  string
		Error errorDetails
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &got), "%s", &stdout)
	assert.Equal(t, library, got.File)
	assert.Equal(t, "interrupted", got.Error.Kind)
	assert.Contains(t, got.Error.Text, "interrupted; what the plug-in has started was ended")
}

// stays is a plug-in that starts processes, one of them in a session of its own, whose numbers are then in the file that the
// input or the environment names, and that does not return.
const stays = `#include <stdio.h>
	#include <stdlib.h>
	#include <string.h>
	#include <unistd.h>
	FERRULE_PLUGIN(FERRULE_NAME("stays") FERRULE_VERSION("1"));
	FERRULE_FN(f) {
		char path[512] = {0};
		const char *name = getenv("STAYS");
		if (call->in_len > 0 && call->in_len < sizeof path) name = memcpy(path, call->in, call->in_len);
		if (!name) return FERRULE_INVALID;
		int numbers[2];
		if (pipe(numbers)) return FERRULE_FAILED;
		for (int own = 0; own < 3; own++) {
			if (fork() != 0) continue;
			if (own) setsid();
			if (own == 2 && fork() != 0) _exit(0);
			pid_t pid = getpid();
			if (write(numbers[1], &pid, sizeof pid) != sizeof pid) abort();
			for (;;) pause();
		}
		pid_t pids[4] = {getpid()};
		for (int n = 1; n < 4; n++) if (read(numbers[0], &pids[n], sizeof pids[n]) != sizeof pids[n]) return FERRULE_FAILED;
		FILE *file = fopen(name, "w");
		for (int n = 0; n < 4; n++) fprintf(file, "%d\n", (int)pids[n]);
		fprintf(file, "0\n");
		fclose(file);
		for (;;) pause();
	}`

// TestKilled: when the command itself is killed, which nothing can catch, nothing of the plug-in is left, not even what is in a
// session of its own.
func TestKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not end what leaves the session")
	}
	library := compiled(t, stays)
	for name, args := range map[string][]string{
		"call":          {"call", library, "f"},
		"call isolated": {"call", "--isolated", library, "f"},
		"bench":         {"bench", "--timeout", "1h", library, "f"},
		"check":         {"check", "--only", "input-empty", "--timeout", "1h", library},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pids")
			if name != "check" {
				args = append(args, "--in", file)
			}
			cmd := exec.Command(binary, args...)
			cmd.Env = append(os.Environ(), "STAYS="+file, "TMPDIR="+t.TempDir())
			require.NoError(t, cmd.Start())
			defer func() { _ = cmd.Process.Kill() }()
			require.Eventually(t, func() bool {
				text, err := os.ReadFile(file)
				return err == nil && bytes.HasSuffix(text, []byte("\n0\n"))
			}, time.Minute, 5*time.Millisecond)
			require.NoError(t, cmd.Process.Kill())
			assert.Error(t, cmd.Wait())
			pids := numbers(t, file)
			pids = pids[:len(pids)-1]
			require.Len(t, pids, 4)
			assert.Eventually(t, func() bool {
				for _, pid := range pids {
					if syscall.Kill(pid, 0) != syscall.ESRCH {
						return false
					}
				}
				return true
			}, time.Minute, 5*time.Millisecond, "%v", pids)
		})
	}
}

// TestGuardOutput: the result is alone on the standard output, and nothing that the plug-in says looks like a line of this
// command's or reaches a terminal as it is.
func TestGuardOutput(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for _, c := range []struct{ function, stdout, stderr string }{
			{"flushed", "RESULT", "plug-in: DEBUG LINE\n"},
			{"buffered", "RESULT", "plug-in: DEBUG LINE\n"},
			{"prints", "RESULT", `plug-in: \x1b]0;owned\x07\x1b[2Jdying` + "\nplug-in: ferrule: forged line\n"},
			{"message", "", "ferrule: plug-in hostile: message: failed: " + `\x1b[31mred\x1b[0m\x0d` + "\n  ferrule: forged line\n"},
			{"logs", "", "level=INFO msg=\"a\\nferrule: forged \\x1b[2J\\u{3164}\" plugin=hostile\n"},
			{"reads_stdin", "", ""},
			{"bytes", "\xff\n\x00", ""},
		} {
			stdout, stderr, _ := ferrule(t, "the command's input", call(library, c.function, "--in", "")...)
			assert.Equal(t, c.stdout, stdout, c.function)
			assert.Equal(t, c.stderr, stderr, c.function)
		}
		stdout, stderr, code := ferrule(t, "", call(library, "aborts", "--in", "")...)
		assert.Equal(t, exitCrashed, code)
		assert.Empty(t, stdout)
		assert.True(t, strings.HasPrefix(stderr, `plug-in: \x1b[2Jlast words`+"\nferrule: plug-in hostile: aborts: "), stderr)
		assert.NotContains(t, stderr, "\x1b")
	})
}

// TestPolicy: --sandbox with what it leaves, tried for real.
func TestPolicy(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the layers are those of Linux")
	}
	library := compiled(t, `#include <stdio.h>
		#include <stdlib.h>
		#include <string.h>
		#include <sys/socket.h>
		#include <sys/wait.h>
		#include <netinet/in.h>
		#include <arpa/inet.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("tries") FERRULE_VERSION("1"));
		static char *text(ferrule_call *call) {
			static char t[512];
			memset(t, 0, sizeof t);
			if (call->in_len < sizeof t) memcpy(t, call->in, call->in_len);
			return t;
		}
		static int32_t opened(ferrule_call *call, const char *mode) {
			FILE *f = fopen(text(call), mode);
			if (!f) return FERRULE_FAILED;
			fclose(f);
			return FERRULE_OK;
		}
		FERRULE_FN(reads) { return opened(call, "r"); }
		FERRULE_FN(writes) { return opened(call, "w"); }
		FERRULE_FN(connects) {
			struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(text(call)))};
			inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
			int s = socket(AF_INET, SOCK_STREAM, 0);
			return s >= 0 && !connect(s, (struct sockaddr *)&a, sizeof a) ? FERRULE_OK : FERRULE_FAILED;
		}
		FERRULE_FN(forks) {
			pid_t pid = fork();
			if (pid == 0) _exit(0);
			return pid > 0 && waitpid(pid, NULL, 0) == pid ? FERRULE_OK : FERRULE_FAILED;
		}
		FERRULE_FN(fills) {
			char *p = malloc(300 << 20);
			if (!p) return FERRULE_NO_MEMORY;
			memset(p, 1, 300 << 20);
			free(p);
			return FERRULE_OK;
		}`)
	_, stderr, code := ferrule(t, "", "call", "--sandbox", library, "reads", "--in", library)
	if code == exitOpen && strings.Contains(stderr, "sandbox") {
		t.Skipf("the kernel lacks layers: %s", stderr)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	port := listen(t)
	for _, c := range []struct {
		function, in string
		without      int      // the exit code in a sandbox with nothing
		allow        []string // and with this it works
	}{
		{"reads", file, 1, []string{"--allow-read", dir}},
		{"reads", file, 1, []string{"--allow-write", file}},
		{"writes", file, 1, []string{"--allow-write", dir}},
		{"connects", port, 1, []string{"--allow-connect", "1,2", "--allow-connect", port}},
		{"forks", "", 1, []string{"--procs", "1000"}},
	} {
		if c.function == "forks" && os.Geteuid() == 0 {
			continue // for root the system does not count processes, which the sandbox refuses to call a limit
		}
		args := []string{"call", "--sandbox", library, c.function, "--in", c.in}
		_, stderr, code := ferrule(t, "", args...)
		assert.Equal(t, c.without, code, "%v: %s", args, stderr)
		_, stderr, code = ferrule(t, "", append(args, c.allow...)...)
		assert.Zero(t, code, "%v %v: %s", args, c.allow, stderr)
	}
	_, _, code = ferrule(t, "", "call", "--sandbox", library, "fills", "--in", "")
	assert.Zero(t, code)
	_, _, code = ferrule(t, "", "call", "--sandbox", "--memory", "128MiB", library, "fills", "--in", "")
	assert.NotZero(t, code, "and not what it costs the worker: its end, or the status NO_MEMORY")

	// The others take the same flags.
	stdout, stderr, code := ferrule(t, "", "bench", library, "reads", "--in", file, "--sandbox", "--allow-read", dir,
		"--duration", "100ms", "--json")
	assert.Zero(t, code, stderr)
	assert.NotContains(t, stdout, "in_process", "which no sandbox bounds")
	assert.Contains(t, stdout, `"isolated"`)
	stdout, _, _ = ferrule(t, "", "bench", library, "reads", "--in", file, "--sandbox", "--allow-read", dir, "--duration", "100ms")
	assert.Contains(t, stdout, "in a sandbox")
	_, _, code = ferrule(t, "", "bench", library, "reads", "--in", file, "--sandbox", "--duration", "100ms")
	assert.Equal(t, exitFailed, code)
	check := []string{"check", "--timeout", "1m", "--only", "sandbox", "--in", "reads=" + file, library, "--sandbox"}
	stdout, _, code = ferrule(t, "", check...)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, "error R20: reads with the input of --in, in the sandbox: ")
	stdout, _, code = ferrule(t, "", append(check, "--allow-read", dir)...)
	assert.Equal(t, exitFailed, code, "others write files and start processes")
	assert.NotContains(t, stdout, ": reads ")
	assert.Contains(t, stdout, "note: the sandbox has the layers: ")
}

// listen has a TCP port accept connections, and returns its number.
func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// stages is a plug-in that does at one stage what the compiler's flags say.
const stages = `#include <stdlib.h>
	#include <string.h>
	#include <unistd.h>
	FERRULE_PLUGIN(FERRULE_NAME("stages") FERRULE_VERSION("1"));
	#ifndef AT_LOAD
	#define AT_LOAD
	#endif
	#ifndef AT_START
	#define AT_START
	#endif
	#ifndef AT_CALL
	#define AT_CALL
	#endif
	#ifndef AT_STOP
	#define AT_STOP
	#endif
	__attribute__((constructor)) static void loaded(void) { AT_LOAD; }
	FERRULE_START { (void)call; AT_START; return FERRULE_OK; }
	FERRULE_STOP { (void)call; AT_STOP; return FERRULE_OK; }
	FERRULE_FN(f) { AT_CALL; memcpy(call->out, "RESULT", call->out_len = 6); return FERRULE_OK; }`

// TestStages: an error says at which stage what has happened, and blames the function for nothing that came before or
// after it.
func TestStages(t *testing.T) {
	t.Parallel()
	const abort, leave, sleep = "abort()", "_exit(3)", "for (;;) sleep(1000)"
	for _, c := range []struct {
		at, does string
		stage    stage
		want     string // with the library's path for PATH
	}{
		{"LOAD", abort, opening, "PATH: could not be started: plug-in stages: "},
		{"LOAD", leave, opening, "PATH: could not be started: plug-in stages: "},
		{"LOAD", sleep, opening, "PATH: could not be started: out of time after 3s (--timeout)"},
		{"START", abort, opening, "PATH: could not be started: plug-in stages: "},
		{"START", leave, opening, "PATH: could not be started: plug-in stages: "},
		{"START", sleep, opening, "PATH: could not be started: out of time after 3s (--timeout)"},
		{"CALL", abort, calling, "plug-in stages: f: "},
		{"CALL", leave, calling, "plug-in stages: f: "},
		{"CALL", sleep, calling, "plug-in stages: f: it did not return after 3s (--timeout), nor in the 500ms after"},
		{"STOP", abort, stopping, "plug-in stages: ferrule_stop: "},
		{"STOP", leave, stopping, "plug-in stages: ferrule_stop: "},
		{"STOP", sleep, stopping, "plug-in stages: ferrule_stop: "},
	} {
		t.Run(c.at+" "+c.does, func(t *testing.T) {
			t.Parallel()
			library := compiled(t, stages, "-DAT_"+c.at+"="+c.does)
			want := strings.ReplaceAll(c.want, "PATH", library)
			args := []string{library, "f", "--in", ""}
			if c.does == sleep {
				args = append(args, "--timeout", "3s")
			}
			inEachWay(t, func(t *testing.T, isolated bool, call func(args ...string) []string) {
				stdout, stderr, code := ferrule(t, "", call(args...)...)
				assert.Equal(t, exitCrashed, code)
				assert.True(t, strings.HasPrefix(stderr, "ferrule: "+want), stderr)
				assert.Equal(t, c.stage == stopping, stdout == "RESULT", "what was there is not lost")
				if c.stage == opening {
					assert.Regexp(t, "(Look|look) for .*constructors,? or its ferrule_start", stderr)
				}
				stdout, _, code = ferrule(t, "", call(append(args, "--json")...)...)
				assert.Equal(t, exitCrashed, code)
				var got called
				require.NoError(t, json.Unmarshal([]byte(stdout), &got))
				assert.Equal(t, c.stage, got.Error.Stage, stdout)
				if c.does == sleep && c.stage == opening {
					assert.Equal(t, lateKind, got.Error.Kind, stdout)
					return
				}
				assert.Equal(t, "stages", got.Error.Plugin, stdout)
				assert.Equal(t, map[stage]string{calling: "f", stopping: "ferrule_stop"}[c.stage], got.Error.Function, stdout)
				switch {
				case c.does == abort:
					assert.Equal(t, syscall.SIGABRT.String(), got.Error.Signal)
					assert.Nil(t, got.Error.ExitCode)
				case c.does == leave:
					assert.Empty(t, got.Error.Signal)
					require.NotNil(t, got.Error.ExitCode)
					assert.Equal(t, 3, *got.Error.ExitCode)
				}
				if isolated && c.does != sleep {
					assert.Equal(t, 1, got.Error.Attempt)
				}
			})
			if c.does == leave && c.stage != opening { // that happens in the worker, which bench tries first
				_, stderr, code := ferrule(t, "", "bench", "--duration", "50ms", library, "f")
				assert.Equal(t, exitCrashed, code, stderr)
				assert.Contains(t, stderr, "ferrule: "+want)
			}
		})
	}
}

// TestLastLines: what a plug-in wrote last is in --json, as it wrote it.
func TestLastLines(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	inEachWay(t, func(t *testing.T, isolated bool, call func(args ...string) []string) {
		stdout, _, code := ferrule(t, "", call(library, "aborts", "--in", "", "--json")...)
		assert.Equal(t, exitCrashed, code)
		var got called
		require.NoError(t, json.Unmarshal([]byte(stdout), &got))
		require.Len(t, got.Error.LastLines, 1)
		assert.Contains(t, got.Error.LastLines[0], "last words")
	})
}

// TestOrder: what a plug-in prints comes before its result, and a message begins a line, where all go to one place.
func TestOrder(t *testing.T) {
	t.Parallel()
	const printing = `write(2, "printed\n", 8)`
	for _, c := range []struct {
		stop, want string
	}{
		{"", "plug-in: printed\nRESULT"},
		{"abort()", "plug-in: printed\nRESULT\nferrule: plug-in stages: ferrule_stop: "},
		{"for (;;) sleep(1000)", "plug-in: printed\nRESULT\nferrule: plug-in stages: ferrule_stop: "},
	} {
		library := compiled(t, stages, "-DAT_CALL="+printing, "-DAT_STOP="+c.stop, "-Wno-unused-result")
		inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
			args := call(library, "f", "--in", "")
			if c.stop == "for (;;) sleep(1000)" { // whose end is then told
				args = append(args, "--timeout", "10s")
			}
			out, _ := exec.Command(binary, args...).CombinedOutput()
			assert.True(t, strings.HasPrefix(string(out), c.want), "%s: %s", c.stop, out)
			if c.stop == "" {
				assert.Equal(t, c.want, string(out), "and nothing else")
			}
		})
	}
}

// A plug-in that logs without end after its result does not fill the command's memory, and the command says what it left out.
func TestMessagesBehindAResultAreBounded(t *testing.T) {
	var up, before bytes.Buffer
	f := &frames{w: &up}
	message := append(bytes.Repeat([]byte("m"), laterMessages-3), '\n')
	require.NoError(t, f.send(frameErr, []byte("first\n")))
	require.NoError(t, f.send(frameOut, []byte("RESULT")))
	for _, m := range [][]byte{message, []byte("xy\n"), []byte("z\n"), []byte("w\n")} {
		require.NoError(t, f.send(frameErr, m))
	}
	require.NoError(t, f.send(frameExit, []byte{exitOK}))
	u := &upward{app: &app{}, messages: &before, pid: uint32(os.Getpid()), over: make(chan struct{}), code: -1}
	u.read(io.NopCloser(&up))
	code, out, later, failed := u.result()
	require.NoError(t, failed)
	assert.Equal(t, exitOK, code)
	assert.Equal(t, "RESULT", string(out))
	assert.Equal(t, "first\n", before.String())
	assert.Equal(t, string(message)+"z\n"+"ferrule: 2 more messages that came after the result were left out\n", string(later))
}

// TestCallImportEnds: the commands that serve imports end with the time, and with an interruption, with all that they have
// started: the plug-in, which waits for them, is not to blame.
func TestCallImportEnds(t *testing.T) {
	t.Parallel()
	library := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("asks") FERRULE_VERSION("1"));
		FERRULE_IMPORT(back);
		`+asked+`
		FERRULE_FN(ask) {
			ferrule_request request;
			int32_t status = asked(call, &request, FERRULE_ORDINAL(back));
			call->out_len = request.out_len;
			return status;
		}`)
	for how, c := range map[string]struct {
		command, timeout string
		code             int
		said             string
	}{
		"timeout": {"sleep 1000 & echo $! >$F.new; mv $F.new $F; wait", "4s", exitCrashed,
			"cancelled: out of time after 4s (--timeout)"},
		"interrupt": {"echo $$ >$F.new; mv $F.new $F; sleep 1000; true", "2m", exitInterrupted,
			"cancelled: interrupted"},
	} {
		inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
			file := filepath.Join(t.TempDir(), "pids")
			cmd := exec.Command(binary, call("--in", "", "--timeout", c.timeout, "--import", "back=F="+file+"; "+c.command,
				library, "ask")...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			if how == "interrupt" {
				require.Eventually(t, func() bool {
					_, err := os.Stat(file)
					return err == nil
				}, time.Minute, 10*time.Millisecond)
				require.NoError(t, cmd.Process.Signal(os.Interrupt))
			}
			assert.Error(t, cmd.Wait())
			assert.Equal(t, c.code, cmd.ProcessState.ExitCode())
			// A worker that a busy machine gives no time is ended, too, and the command with it.
			said := regexp.MustCompile(`it did not return after .*, nor in the 500ms after; its worker was killed`).ReplaceAllString(stderr.String(), c.said)
			assert.Equal(t, "ferrule: plug-in asks: ask: "+c.said+"\n", said)
			for _, pid := range numbers(t, file) {
				assert.Eventually(t, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }, time.Minute, 10*time.Millisecond,
					"the process %d lives", pid)
			}
		})
	}
}

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// calls are the two ways to call a plug-in, which should not make a difference to what a user sees.
var calls = map[string][]string{"in process": {"call"}, "isolated": {"call", "--isolated"}}

// inEachWay runs test in each of the ways.
func inEachWay(t *testing.T, test func(t *testing.T, isolated bool, call func(args ...string) []string)) {
	for name, way := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, len(way) > 1, func(args ...string) []string { return append(way[:len(way):len(way)], args...) })
		})
	}
}

// TestCallInput: the input comes from where it is said to, and the result is byte for byte what the plug-in returned.
func TestCallInput(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	binary := "\x00\xff\r\n\x1b[31m" + strings.Repeat("x", 1<<20) + "\n\n"
	file := filepath.Join(t.TempDir(), "input")
	require.NoError(t, os.WriteFile(file, []byte(binary), 0o600))
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for _, c := range []struct {
			name, stdin string
			args        []string
			want        string
		}{
			{"the standard input", binary, nil, binary},
			{"an empty standard input", "", nil, ""},
			{"the standard input by its name", "text", []string{"--in", "@-"}, "text"},
			{"a text", "not this", []string{"--in", "hello"}, "hello"},
			{"an empty text", "not this", []string{"--in", ""}, ""},
			{"a file", "not this", []string{"--in", "@" + file}, binary},
			{"a text that starts with an at sign", "not this", []string{"--in", "@@me"}, "@me"},
		} {
			stdout, stderr, code := ferrule(t, c.stdin, call(append(c.args, echo, "echo")...)...)
			assert.Zero(t, code, c.name)
			assert.True(t, c.want == stdout, "%s: %d bytes for %d", c.name, len(stdout), len(c.want))
			assert.Empty(t, stderr, c.name)
		}
		stdout, _, code := ferrule(t, "", call(echo, "before_echo", "--hook")...)
		assert.Zero(t, code)
		assert.Equal(t, "hooked", stdout)
	})
}

func TestCallConfig(t *testing.T) {
	t.Parallel()
	state := fixture.C(t, "state")
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("99"), 0o600))
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for config, want := range map[string]string{"41": "42", "@" + file: "100", "": "1"} {
			stdout, stderr, code := ferrule(t, "", call("--config", config, state, "next")...)
			assert.Zero(t, code, stderr)
			assert.Equal(t, want, stdout)
		}
		_, stderr, code := ferrule(t, "", call("--config", strings.Repeat("9", 40), state, "next")...)
		assert.Equal(t, 3, code)
		assert.Contains(t, stderr, "the configuration is long")
	})
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for _, c := range []struct{ library, function, in, want string }{
			{echo, "fail", "no such customer", "ferrule: plug-in echo: fail: failed: no such customer\n"},
			{echo, "fail", "a\x1b[2Jb", `failed: a\x1b[2Jb`},
			{echo, "fail_own", "bad", "ferrule: plug-in echo: fail_own: invalid input: bad\n"},
			{echo, "status", "1234", "ferrule: plug-in echo: status: status 1234\n"},
			{fixture.C(t, "out_len_beyond_out_cap"), "answer", "", "answer broke rule R8 of ferrule.h"},
		} {
			stdout, stderr, code := ferrule(t, "", call("--in", c.in, c.library, c.function)...)
			assert.Equal(t, 1, code, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, c.want)
		}
	})
}

// TestCallUsage: what is wrong with the command line is said before anything of the plug-in runs.
func TestCallUsage(t *testing.T) {
	t.Parallel()
	echo, host := fixture.C(t, "echo"), fixture.C(t, "host")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "found no FILE on the command line, expected ferrule call FILE [FUNCTION]"},
		{[]string{echo, "echo", "x"}, "found 3 arguments: " + echo + " echo x, expected FILE [FUNCTION]"},
		{[]string{echo, "ecko"}, `found no function "ecko" in plug-in echo, expected one that it has. Did you mean "echo"?`},
		{[]string{echo, "zzzzzzzz"}, "It has echo, echo_own, fail, fail_own, held, nothing, pointers and status"},
		{[]string{echo, "before_echo"}, "It is a hook: add --hook."},
		{[]string{"--hook", echo, "echo"}, "It is a function: leave out --hook."},
		{[]string{"--hook", echo, "before_ecko"}, `no hook "before_ecko" in plug-in echo, expected one that it has. Did you mean "before_echo"?`},
		{[]string{"--hook", host, "f"}, "It has none."},
		{[]string{"--in", "x", echo}, "found --in without a FUNCTION, expected both, as it is about a call. Name a function: ferrule call " + echo},
		{[]string{"--hook", "--answer", "x=y", echo}, "found --answer without a FUNCTION"},
		{[]string{"--isolated", echo}, "found --isolated without a FUNCTION"},
		{[]string{"--config", "{}", echo, "echo"}, "found --config for plug-in echo, which takes no configuration: it has no ferrule_start, " +
			"expected one that takes it. Leave out --config."},
		{[]string{"--isolated", "--config", "@" + missing, echo, "echo"}, "it has no ferrule_start"},
		{[]string{"--in", "@" + missing, echo, "echo"}, missing},
		{[]string{"--config", "@" + missing, fixture.C(t, "state"), "next"}, missing},
		{[]string{"--timeout", "soon", echo, "echo"}, "found --timeout soon, expected a time such as 500ms or 2s"},
		{[]string{"--timeout", "-1s", echo, "echo"}, "not negative"},
		{[]string{echo, "echo", "--in"}, "found --in without a value, expected --in TEXT"},
		{[]string{"--no-such-flag", echo, "echo"}, "found --no-such-flag, expected an option of ferrule call\n"},
		{[]string{"--log-level", "loud", echo, "echo"}, "error, warn, info, debug or trace"},
		{[]string{"--memory", "1GiB", echo, "echo"}, "Add --sandbox."},
		{[]string{"--allow-write", "/", echo, "echo"}, "Add --sandbox."},
		{[]string{"--procs", "1", echo, "echo"}, "Add --sandbox."},
		{[]string{"--sandbox", "--memory", "much", echo, "echo"}, "256MiB"},
		{[]string{"--sandbox", "--allow-connect", "http", echo, "echo"}, "expected a TCP port, 1 to 65535"},
		{[]string{"--sandbox", "--allow-read", "", echo, "echo"}, "found --allow-read without a path"},
		{[]string{"--sandbox", "--procs", "-1", echo, "echo"}, "found --procs -1, expected 0 or more"},
		{[]string{"--import", "upper", host, "upper"}, "expected NAME=COMMAND"},
		{[]string{"--import", "upper=", host, "upper"}, "expected NAME=COMMAND"},
		{[]string{"--answer", "upper", host, "upper"}, "expected NAME=TEXT or NAME=@FILE"},
		{[]string{"--import", "a.b=cat", host, "upper"}, "C identifier"},
		{[]string{"--import", "upper=cat", "--import", "upper=tr a b", host, "upper"}, "another for upper before it"},
		{[]string{"--import", "upper=cat", "--answer", "upper=x", host, "upper"}, "another for upper before it"},
		{[]string{host, "upper"}, "found plug-in host, which needs host functions: again, upper, expected each of them to be " +
			"served. Serve each by a command, such as --import 'again=cat'"},
		{[]string{"--import", "again=cat", "--import", "uper=cat", host, "upper"},
			"needs host functions: upper, expected each of them to be served. Serve each by a command, such as --import " +
				`'upper=cat', or with fixed bytes, such as --answer upper=7; uper is none of its imports, did you mean "upper"?`},
		{[]string{"--import", "x=cat", echo, "echo"}, "an answer for x, which plug-in echo does not import"},
	} {
		stdout, stderr, code := ferrule(t, "", append([]string{"call"}, c.args...)...)
		assert.Equal(t, 2, code, "%v: %s", c.args, stderr)
		assert.Empty(t, stdout, "%v", c.args)
		assert.Contains(t, stderr, c.want)
		assert.Contains(t, stderr, "See 'ferrule call --help'.")
	}
}

func TestCallBadFiles(t *testing.T) {
	t.Parallel()
	bad := badFiles(t)
	for foreign, platform := range map[string]string{"elf-s390x-sysv.so": "linux/s390x",
		"elf-arm64-gcc.so": "linux/arm64", "pe-amd64-mingw.dll": "windows/amd64", "macho-amd64-clang.dylib": "darwin/amd64"} {
		if platform != runtime.GOOS+"/"+runtime.GOARCH {
			bad[committed(foreign)] = platform
		}
	}
	bad[fixture.C(t, "start_fails")] = "could not be started"
	if runtime.GOOS == "linux" {
		bad[fixture.C(t, "undefined_symbol")] = "ferrules_nobody_defines"
	}
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for path, want := range bad {
			function, imports := "answer", []string{}
			if strings.Contains(path, "testdata") {
				function, imports = "add", []string{"--import", "Zone=cat", "--import", "points=cat"}
			}
			stdout, stderr, code := ferrule(t, "", call(append(imports, path, function)...)...)
			assert.Equal(t, 3, code, stderr)
			assert.Empty(t, stdout, path)
			assert.Contains(t, stderr, path)
			assert.Contains(t, stderr, want)
		}
	})
}

func TestCallImports(t *testing.T) {
	t.Parallel()
	fixture.Tool(t, "tr", "it is one of coreutils")
	host := fixture.C(t, "host")
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for _, c := range []struct {
			function, in, command string
			stdout, stderr        string
			code                  int
		}{
			{"upper", "hello", "tr a-z A-Z", "HELLO", "", 0},
			{"upper_fetched", strings.Repeat("long", 1000), "tr a-z A-Z", strings.Repeat("LONG", 1000), "", 0},
			{"upper", "", "cat", "", "", 0},
			{"upper", "x", "true", "", "", 0},
			{"upper", "x", "echo note >&2; cat", "x", "import upper: note\n", 0},
			{"upper", "x", "echo no such customer >&2; exit 3", "",
				"ferrule: plug-in host: upper: failed: no such customer\n", 1},
			{"upper", "x", "exit 3", "", "exit status 3", 1},
			{"upper", "x", "no-such-command-at-all", "", "no-such-command-at-all", 1},
			{"upper", "x", "echo 'ferrule: forged' >&2", "", "import upper: ferrule: forged\n", 0},
		} {
			stdout, stderr, code := ferrule(t, "", call("--in", c.in, "--import", "upper="+c.command,
				"--import", "again=cat", host, c.function)...)
			assert.Equal(t, c.code, code, "%s: %s", c.command, stderr)
			assert.Equal(t, c.stdout, stdout, c.command)
			if c.stderr == "" {
				assert.Empty(t, stderr, c.command)
			}
			assert.Contains(t, stderr, c.stderr)
		}
		stdout, stderr, code := ferrule(t, "", call("--in", "x", "--answer", "upper==7", "--import", "again=cat", host, "upper")...)
		assert.Zero(t, code, stderr)
		assert.Equal(t, "=7", stdout)
	})
}

// TestCallLogs: log lines go to the standard error, the important ones unless others are asked for.
func TestCallLogs(t *testing.T) {
	t.Parallel()
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for level, want := range map[string]string{
			"": "level=ERROR msg=\"an error\" plugin=host\n" +
				"level=WARN msg=\"a warning\" plugin=host\nlevel=INFO msg=\"a line\" plugin=host\n",
			"trace": "level=DEBUG msg=\"a detail\" plugin=host\nlevel=TRACE msg=\"a trace\" plugin=host\n",
			"error": "level=ERROR msg=\"an error\" plugin=host\n",
		} {
			args := call("--in", "", "--import", "upper=cat", "--import", "again=cat", fixture.C(t, "host"), "log")
			if level != "" {
				args = append(args, "--log-level", level)
			}
			stdout, stderr, code := ferrule(t, "", args...)
			assert.Zero(t, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, want)
			if level != "trace" {
				assert.NotContains(t, stderr, "DEBUG")
			}
			if level == "error" {
				assert.Equal(t, want, stderr)
			}
		}
	})
}

// TestCallCrashes: whatever a plug-in does to its process, the exit code is 4, also when it chose another one.
func TestCallCrashes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the words are those of Linux")
	}
	for fault, words := range map[string][2]string{ // in process, isolated
		"fault_sigsegv": {"it ended the process that it was loaded into: signal: segmentation fault",
			`ended by the signal "segmentation fault"`},
		"fault_abort":     {"signal: aborted", "last words"},
		"fault_exit_zero": {"exit status 0", "exit code 0"},
		"fault_exit_code": {"exit status 7", "exit code 7"},
		"fault_sigkill":   {"signal: killed", `ended by the signal "killed"`},
	} {
		inEachWay(t, func(t *testing.T, isolated bool, call func(args ...string) []string) {
			want := words[0]
			if isolated {
				want = words[1]
			}
			stdout, stderr, code := ferrule(t, "", call("--in", "", fixture.C(t, fault), "fault")...)
			assert.Equal(t, 4, code, "%s: %s", fault, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, want)
			assert.Contains(t, stderr, "plug-in "+fault+": fault: ")
			assert.NotContains(t, stderr, "goroutine ", "the state of the Go runtime says nothing about the plug-in")
		})
	}
}

func TestCallTimeout(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"fault_polite_loop", "fault_infinite_loop"} {
		inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
			start := time.Now()
			stdout, stderr, code := ferrule(t, "",
				call("--timeout", "2s", "--in", "", fixture.C(t, fault), "fault")...)
			assert.Equal(t, 4, code, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, "after 2s (--timeout)")
			assert.Less(t, time.Since(start), 20*time.Second)
		})
	}
	hang := fixture.C(t, "fault_constructor_hang") // before there is a function to call
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		_, stderr, code := ferrule(t, "", call("--timeout", "2s", "--in", "", hang, "echo")...)
		assert.Equal(t, 4, code, stderr)
	})
	stdout, _, code := ferrule(t, "", "call", "--timeout", "1m", "--in", "x", fixture.C(t, "echo"), "echo")
	assert.Zero(t, code)
	assert.Equal(t, "x", stdout)
}

func TestCallInterrupted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no process can send another one a Ctrl-C")
	}
	library := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("loop") FERRULE_VERSION("1"));
		static int32_t loop(ferrule_call *call, int polite) {
			call->host->log(call, FERRULE_LOG_INFO, (const char *)call->in, call->in_len);
			while (!polite || !ferrule_cancelled(call)) {
			}
			return FERRULE_CANCELLED;
		}
		FERRULE_FN(polite) { return loop(call, 1); }
		FERRULE_FN(deaf) { return loop(call, 0); }`)
	for _, function := range []string{"polite", "deaf"} {
		inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
			cmd := exec.Command(binary, call("--in", "it runs", library, function)...)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewReader(stderr)
			first, err := lines.ReadString('\n')
			require.NoError(t, err)
			assert.Contains(t, first, "it runs")
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			assert.Error(t, cmd.Wait())
			assert.Equal(t, 130, cmd.ProcessState.ExitCode(), "%s", rest)
			assert.Contains(t, string(rest), "plug-in loop: "+function+": ")
		})
	}
}

func TestCallSandbox(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the layers are those of Linux")
	}
	stdout, stderr, code := ferrule(t, "", "call", "--sandbox", "--memory", "256MiB", "--in", "x", fixture.C(t, "echo"),
		"echo")
	if strings.Contains(stderr, "sandbox") {
		t.Skipf("the kernel has no Landlock: %s", stderr)
	}
	assert.Zero(t, code, stderr)
	assert.Equal(t, "x", stdout)

	// The file is there for everybody, but not for a plug-in in a sandbox.
	const reads = `#include <stdio.h>
		FERRULE_PLUGIN(FERRULE_NAME("reads") FERRULE_VERSION("1"));
		FERRULE_FN(passwd) { return fopen("/etc/passwd", "r") ? FERRULE_OK : FERRULE_FAILED; }`
	for _, flags := range [][]string{nil, {"-Wl,-rpath,/"}, {"-Wl,--disable-new-dtags,-rpath,$ORIGIN/../../../../..:/etc"}} {
		library := compiled(t, reads, flags...)
		for want, args := range map[int][]string{0: {"--isolated"}, 1: {"--sandbox"}} {
			_, stderr, code := ferrule(t, "", append([]string{"call", "--in", "", library, "passwd"}, args...)...)
			assert.Equal(t, want, code, "linked with %q: %s", flags, stderr)
		}
	}
}

// TestCallEnvironment: nothing of how the command runs a plug-in is in the plug-in's environment.
func TestCallEnvironment(t *testing.T) {
	library := compiled(t, `#include <stdlib.h>
		#include <string.h>
		FERRULE_PLUGIN(FERRULE_NAME("env") FERRULE_VERSION("1"));
		FERRULE_FN(get) {
			char name[64] = {0};
			const char *value;
			if (call->in_len >= sizeof name) return FERRULE_INVALID;
			memcpy(name, call->in, call->in_len);
			if (!(value = getenv(name))) return FERRULE_UNSUPPORTED;
			if (strlen(value) > call->out_cap) return FERRULE_NO_MEMORY;
			memcpy(call->out, value, call->out_len = strlen(value));
			return FERRULE_OK;
		}`)
	t.Setenv("FERRULE_TEST_VALUE", "seen")
	stdout, _, code := ferrule(t, "", "call", "--in", "FERRULE_TEST_VALUE", library, "get")
	assert.Zero(t, code)
	assert.Equal(t, "seen", stdout)
	_, _, code = ferrule(t, "", "call", "--in", guardEnv, library, "get")
	assert.Equal(t, 1, code)
	_, _, code = ferrule(t, "", "call", "--isolated", "--in", "FERRULE_TEST_VALUE", library, "get")
	assert.Equal(t, 1, code)
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "7B": 7, "64K": 64 << 10, "64KiB": 64 << 10, "256M": 256 << 20,
		"256MiB": 256 << 20, "2G": 2 << 30, "2GiB": 2 << 30} {
		n, err := parseSize(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "0", "-1", "MiB", "1MB", "1iB", "1.5G", "9999999999G", "1 MiB", "1GiBGiB"} {
		_, err := parseSize(text)
		assert.Error(t, err, text)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"count_vowels", "count_words", "x"}
	for name, want := range map[string]string{
		"count_vowel": `did you mean "count_vowels"?`, "count_wrods": `did you mean "count_words"?`,
		"y": "did you mean \"x\"?", "something_else": "it has count_vowels, count_words and x",
	} {
		assert.Equal(t, want, nearest(name, names), name)
	}
	assert.Equal(t, "it has none", nearest("a", nil))
	assert.Equal(t, "it has 13 others: see ferrule inspect",
		nearest("something", strings.Split("abcdefghijklm", "")))
}

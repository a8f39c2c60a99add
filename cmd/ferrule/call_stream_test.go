package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// servicesCalls runs test in each of the ways, for functions of the fixture services.
func servicesCalls(t *testing.T, test func(t *testing.T, isolated bool, call func(function string, args ...string) []string)) {
	library := fixture.C(t, "services")
	inEachWay(t, func(t *testing.T, isolated bool, call func(args ...string) []string) {
		test(t, isolated, func(function string, args ...string) []string {
			return append(call("--answer", "needed=", library, function), args...)
		})
	})
}

// TestCallStreams: the standard input is the input stream, the standard output or a file the output stream, and the result comes beside.
func TestCallStreams(t *testing.T) {
	t.Parallel()
	servicesCalls(t, func(t *testing.T, _ bool, call func(function string, args ...string) []string) {
		long := strings.Repeat("Long and longer. ", 1<<17) // some MiB
		stdout, stderr, code := ferrule(t, strings.Repeat("\x01", 3<<20), call("sum")...)
		assert.Zero(t, code, stderr)
		assert.Equal(t, "3145728 3145728", stdout)
		assert.Empty(t, stderr)
		stdout, _, code = ferrule(t, "", call("sum")...)
		assert.Zero(t, code)
		assert.Equal(t, "0 0", stdout)

		stdout, stderr, code = ferrule(t, long, call("pipe")...)
		assert.Zero(t, code, stderr)
		assert.True(t, long == stdout, "%d bytes for %d", len(stdout), len(long))
		assert.Empty(t, stderr, "no result, no line")
		stdout, _, code = ferrule(t, long, call("first")...)
		assert.Zero(t, code, "a function need not read to the end")
		assert.True(t, stdout != "" && strings.HasPrefix(long, stdout))

		stdout, stderr, code = ferrule(t, "not this", call("count", "--in", "3")...)
		assert.Zero(t, code, stderr)
		assert.Equal(t, "0\n1\n2\n", stdout)
		assert.Equal(t, "result: counted\n", stderr)
		stdout, _, code = ferrule(t, "4", call("count")...)
		assert.Zero(t, code)
		assert.Equal(t, "0\n1\n2\n3\n", stdout, "without an input stream the standard input is the input")

		file := filepath.Join(t.TempDir(), "out")
		require.NoError(t, os.WriteFile(file, []byte("what was there before, which is longer"), 0o600))
		stdout, stderr, code = ferrule(t, "", call("count", "--in", "3", "--out", file)...)
		assert.Zero(t, code, stderr)
		assert.Equal(t, "counted", stdout)
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "0\n1\n2\n", string(got))
		stdout, stderr, code = ferrule(t, "", call("count", "--in", "1", "--out", file, "--json")...)
		assert.Zero(t, code, stderr)
		var facts called
		require.NoError(t, json.Unmarshal([]byte(stdout), &facts))
		assert.Equal(t, "counted", *facts.Result)

		for _, c := range []struct {
			args []string
			want string
		}{
			{call("sum", "--in", "@-"), "found @- beside sum, whose input stream is the standard input, expected a text, or a file's name."},
			{call("count", "--json"), "found --json without --out for count, which gives an output stream"},
			{call("sum", "--out", file), "found --out for sum, which gives no output stream"},
			{call("count", "--out", ""), "found --out without a name"},
			{call("count", "--out", filepath.Join(file, "in no folder")), "found --out " + filepath.Join(file, "in no folder") + ": "},
		} {
			stdout, stderr, code := ferrule(t, "", c.args...)
			assert.Equal(t, exitUsage, code, stderr)
			assert.Contains(t, stderr, strings.TrimSuffix(c.want, "."))
			if !strings.Contains(c.want, "--json") {
				assert.Empty(t, stdout)
			}
		}
	})
}

// TestCallStreamsEmpty: who gives a file by --in, and nothing as the standard input, may mean it for the input stream.
func TestCallStreamsEmpty(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	data, empty := filepath.Join(folder, "the data"), filepath.Join(folder, "empty")
	require.NoError(t, os.WriteFile(data, []byte("\x01\x01"), 0o600))
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	servicesCalls(t, func(t *testing.T, _ bool, call func(function string, args ...string) []string) {
		for _, function := range []string{"sum", "pipe", "ignores"} {
			stdout, stderr, code := ferrule(t, "", call(function, "--in", "@"+data)...)
			assert.Equal(t, exitUsage, code, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, "found --in @"+data+", and nothing in the standard input, which is the input stream of "+function+
				", expected an input stream. Where the file is the input stream, write <")
		}
		stdout, _, code := ferrule(t, "", call("sum", "--in", "@"+data, "--json")...)
		assert.Equal(t, exitUsage, code)
		var facts called
		require.NoError(t, json.Unmarshal([]byte(stdout), &facts))
		assert.Equal(t, "the command line is wrong", facts.Error.Kind)
		assert.Nil(t, facts.Status)

		for in, want := range map[string]string{"": "0 0", "text": "0 0", "@@text": "0 0"} {
			stdout, stderr, code := ferrule(t, "", call("sum", "--in", in)...)
			assert.Zero(t, code, stderr)
			assert.Equal(t, want, stdout, "parameters, which no file is: %q", in)
		}
		stdout, stderr, code := ferrule(t, "\x01", call("sum", "--in", "@"+data)...)
		assert.Zero(t, code, stderr)
		assert.Equal(t, "1 1", stdout, "there is a stream")
		stdout, stderr, code = ferrule(t, "", call("count", "--in", "@"+empty)...)
		assert.Zero(t, code, stderr)
		assert.Empty(t, stdout, "there is to be none")

		for path, want := range map[string]string{data: "2 2", empty: "0 0"} {
			file, err := os.Open(path)
			require.NoError(t, err)
			defer file.Close()
			cmd := exec.Command(binary, call("sum", "--in", "@"+data)...)
			cmd.Stdin = file
			out, err := cmd.Output()
			require.NoError(t, err, path)
			assert.Equal(t, want, string(out), path)
		}
		cmd := exec.Command(binary, call("sum", "--in", "@"+data)...) // with the null device
		assert.ErrorContains(t, cmd.Run(), "exit status 2")
	})
}

// TestCallStreamsFail: what becomes of a call whose streams break off, or which does.
func TestCallStreamsFail(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a folder is no standard input there")
	}
	servicesCalls(t, func(t *testing.T, _ bool, call func(function string, args ...string) []string) {
		run := func(stdin, stdout *os.File, args []string) (string, int) {
			t.Helper()
			cmd := exec.Command(binary, args...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if stdin != nil { // a nil *os.File is no nil io.Reader
				cmd.Stdin = stdin
			}
			if stdout != nil {
				cmd.Stdout = stdout
			}
			_ = cmd.Run()
			return stderr.String(), cmd.ProcessState.ExitCode()
		}
		folder, err := os.Open(t.TempDir())
		require.NoError(t, err)
		defer folder.Close()
		stderr, code := run(folder, nil, call("sum"))
		assert.Equal(t, exitFailed, code, stderr)
		assert.Contains(t, stderr, "ferrule: plug-in services: sum: failed: the input broke off: the input stream broke off: ")
		assert.Contains(t, stderr, "is a directory")

		if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
			stderr, code = run(nil, full, call("for_ever", "--in", ""))
			full.Close()
			assert.Equal(t, exitFailed, code, stderr)
			assert.Contains(t, stderr, "the output stream")
			assert.Contains(t, stderr, "no space left on device")
			stderr, code = run(nil, nil, call("for_ever", "--in", "", "--out", "/dev/full"))
			assert.Equal(t, exitFailed, code, stderr)
			assert.Contains(t, stderr, "no space left on device")
		}
		r, w, err := os.Pipe()
		require.NoError(t, err)
		r.Close()
		_, code = run(nil, w, call("for_ever", "--in", "")) // nobody reads it: it ends
		w.Close()
		assert.NotZero(t, code)

		never, keeps, err := os.Pipe()
		require.NoError(t, err)
		defer keeps.Close()
		stderr, code = run(never, nil, call("sum", "--timeout", "2s"))
		never.Close()
		assert.Equal(t, exitCrashed, code, stderr)
		assert.Contains(t, stderr, "out of time after 2s (--timeout)")

		stdout, text, code := ferrule(t, "half", call("panics")...)
		assert.Equal(t, exitFailed, code, text)
		assert.Equal(t, "half", stdout, "what was written before")
		assert.Contains(t, text, "ferrule: plug-in services: panics: panic: half way")
	})
}

// TestCallPass: a function that has nothing to say has not failed.
func TestCallPass(t *testing.T) {
	t.Parallel()
	servicesCalls(t, func(t *testing.T, _ bool, call func(function string, args ...string) []string) {
		stdout, stderr, code := ferrule(t, "", call("pass", "--in", "x")...)
		assert.Equal(t, exitPass, code)
		assert.Empty(t, stdout)
		assert.Equal(t, "ferrule: plug-in services: pass has nothing to say to this input (pass): not today\n", stderr)
		_, stderr, code = ferrule(t, "", call("pass", "--hook", "--in", "")...)
		assert.Equal(t, exitPass, code)
		assert.Equal(t, "ferrule: plug-in services: pass has nothing to say to this input (pass)\n", stderr)
		stdout, _, code = ferrule(t, "", call("pass", "--in", "x", "--json")...)
		assert.Equal(t, exitPass, code)
		var facts called
		require.NoError(t, json.Unmarshal([]byte(stdout), &facts))
		assert.Equal(t, int32(9), *facts.Status)
		assert.Equal(t, "not today", facts.Message)
		assert.Nil(t, facts.Error)
	})
}

// TestCallWants: a want is served as an import is, and may be missing.
func TestCallWants(t *testing.T) {
	t.Parallel()
	servicesCalls(t, func(t *testing.T, _ bool, call func(function string, args ...string) []string) {
		stdout, stderr, code := ferrule(t, "", call("upper", "--in", "x", "--answer", "upper=X")...)
		assert.Zero(t, code, stderr)
		assert.Equal(t, "X", stdout)
		_, stderr, code = ferrule(t, "", call("upper", "--in", "x")...)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "plug-in services: upper: unsupported")
		_, stderr, code = ferrule(t, "", call("upper", "--in", "x", "--answer", "uper=X")...)
		assert.Equal(t, exitUsage, code)
		assert.Contains(t, stderr, `Did you mean "upper"?`)
	})
	stdout, _, code := ferrule(t, "", "call", "--json", fixture.C(t, "services"))
	assert.Zero(t, code)
	var got struct {
		Imports, Wants []symbol
		Functions      []symbol
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	assert.Equal(t, []string{"needed", "again", "upper"}, []string{got.Imports[0].Name, got.Wants[0].Name, got.Wants[1].Name})
}

// TestCallInfo: what the plug-in hears when it asks.
func TestCallInfo(t *testing.T) {
	t.Parallel()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	file := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	servicesCalls(t, func(t *testing.T, _ bool, call func(function string, args ...string) []string) {
		for key, want := range map[string]string{"shop.tenant": "a=7", "traceparent": "00-1", "data": folder, "offers.upper": "no",
			"offers.needed": "yes"} {
			stdout, stderr, code := ferrule(t, "", call("info", "--in", key, "--info", "shop.tenant=a=7", "--info", "traceparent=00-1",
				"--data", folder)...)
			assert.Zero(t, code, stderr)
			assert.Equal(t, want, stdout, key)
		}
		for want, args := range map[string][]string{
			"found --info tenant=7, whose key has no dot, expected a key with a dot, such as shop.tenant, or traceparent": {"--info", "tenant=7"},
			"found --info =7, whose key has no dot":                               {"--info", "=7"},
			"found --info a.b, expected KEY=VALUE, such as shop.tenant=7":         {"--info", "a.b"},
			"found --info offers.x=1, expected a key that does not begin with of": {"--info", "offers.x=1"},
			"found --info data=/x, expected the plug-in's folder as --data":       {"--info", "data=/x"},
			"another for a.b before it, expected one --info":                      {"--info", "a.b=1", "--info", "a.b=2"},
			"--info with a key of 257 bytes, expected 256 at most":                {"--info", strings.Repeat("k", 256) + ".=v"},
			"found --data " + filepath.Join(folder, "missing") + ", where there is nothing, expected a folder that is there. Make it (mkdir)": {
				"--data", filepath.Join(folder, "missing")},
			"found --data " + file + ", which is no folder, expected a folder": {"--data", file},
			"found --data without a name, expected --data FOLDER":              {"--data", ""},
		} {
			_, stderr, code := ferrule(t, "", call("info", append(args, "--in", "x")...)...)
			assert.Equal(t, exitUsage, code, stderr)
			assert.Contains(t, stderr, want)
		}
	})
}

// TestCallMissingStream: a function that uses a stream which its meta text does not have is told what to do; one that says what is
// unsupported is left alone.
func TestCallMissingStream(t *testing.T) {
	t.Parallel()
	library := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
		static int32_t reads(ferrule_call *call) {
			const uint8_t *piece;
			size_t len;
			return call->host->read(call, &piece, &len);
		}
		FERRULE_FN(undeclared) { return reads(call); }
		FERRULE_FN_META(half, FERRULE_STREAM("out"));
		FERRULE_FN(half) { return reads(call); }
		FERRULE_FN(other) {
			call->out[0] = 'x';
			call->out_len = 1;
			return FERRULE_UNSUPPORTED;
		}`)
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for function, has := range map[string]string{"undeclared": "no stream=", "half": "stream=out only"} {
			_, stderr, code := ferrule(t, "", call("--in", "", library, function)...)
			assert.Equal(t, exitFailed, code, stderr)
			assert.Contains(t, stderr, "p: "+function+": unsupported. Where it reads or writes a stream, its meta text has to say so (rule R24): it has "+has+".\n")
		}
		stdout, _, _ := ferrule(t, "", call("--in", "", "--json", library, "undeclared")...)
		var facts called
		require.NoError(t, json.Unmarshal([]byte(stdout), &facts))
		assert.Contains(t, facts.Error.Remedy, "its meta text has to say so")
		assert.Equal(t, "unsupported", facts.Error.Kind)
		_, stderr, _ := ferrule(t, "", call("--in", "", library, "other")...)
		assert.Equal(t, "ferrule: plug-in p: other: unsupported: x\n", stderr)
	})
	_, stderr, code := ferrule(t, "", "bench", "--in", "", library, "half")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "found half of plug-in p, which works on streams (stream=out), expected a function without")
}

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/gen"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// TestCallJSON: one object, whatever comes of the call, and the exit code that there is without --json.
func TestCallJSON(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		var got called
		decode := func(code int, args ...string) {
			t.Helper()
			stdout, stderr, exit := ferrule(t, "", call(append(args, "--json")...)...)
			require.Equal(t, code, exit, stderr)
			assert.Equal(t, code == 0, stderr == "", "people are told, too: %s", stderr)
			got = called{}
			d := json.NewDecoder(strings.NewReader(stdout))
			d.DisallowUnknownFields()
			require.NoError(t, d.Decode(&got), stdout)
			assert.False(t, d.More(), "one object")
		}
		decode(0, echo, "echo", "--in", "hello\n")
		assert.Equal(t, "hello\n", *got.Result)
		assert.Equal(t, "text", got.Encoding)
		assert.Zero(t, *got.Status)
		assert.Equal(t, []string{"echo", "1.2.3", "echo"}, []string{got.Plugin, got.Version, got.Function})
		assert.Positive(t, got.DurationNS)
		assert.Nil(t, got.Error)

		file := filepath.Join(t.TempDir(), "bytes")
		require.NoError(t, os.WriteFile(file, []byte("\xff\x00"), 0o600))
		decode(0, echo, "echo", "--in", "@"+file)
		assert.Equal(t, "base64", got.Encoding)
		assert.Equal(t, base64.StdEncoding.EncodeToString([]byte("\xff\x00")), *got.Result)

		decode(1, echo, "status", "--in", "1234")
		assert.Equal(t, int32(1234), *got.Status)
		assert.Nil(t, got.Result)
		decode(1, echo, "fail", "--in", "no such customer")
		assert.Equal(t, "no such customer", got.Message)
		assert.Equal(t, "failed", got.Error.Kind)

		decode(1, fixture.C(t, "out_len_beyond_out_cap"), "answer", "--in", "")
		assert.Equal(t, "R8", got.Error.Rule)
		assert.NotEmpty(t, got.Error.Found)
		assert.NotEmpty(t, got.Error.Expected)
		decode(3, fixture.C(t, "start_fails"), "answer", "--in", "")
		assert.NotEmpty(t, got.Error.Remedy)
		decode(4, fixture.C(t, "fault_abort"), "fault", "--in", "")
		assert.Nil(t, got.Status)
		assert.Contains(t, got.Error.Text, "plug-in fault_abort: fault: ")
		assert.Equal(t, []string{"the plug-in crashed", "fault_abort", "fault"},
			[]string{got.Error.Kind, got.Error.Plugin, got.Error.Function})
		for _, loop := range []string{"fault_infinite_loop", "fault_polite_loop"} { // the second sees the end of its time, and returns
			decode(4, fixture.C(t, loop), "fault", "--in", "", "--timeout", "2s")
			assert.Contains(t, got.Error.Text, "after 2s (--timeout)")
			assert.Equal(t, "out of time", got.Error.Kind, loop)
		}
	})
}

// TestInterruptedJSON: a call that is interrupted is of that kind, also where it does not come back for it.
func TestInterruptedJSON(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("nothing interrupts one program there")
	}
	library := compiled(t, `#include <stdio.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("deaf") FERRULE_VERSION("1"));
		static void begun(struct ferrule_call *call) {
			char path[4096];
			snprintf(path, sizeof path, "%.*s", (int)call->in_len, (const char *)call->in);
			fclose(fopen(path, "w"));
		}
		FERRULE_FN(stays) { begun(call); for (;;) sleep(1); }
		FERRULE_FN(returns) { begun(call); while (!ferrule_cancelled(call)) usleep(1000); return FERRULE_CANCELLED; }`)
	inEachWay(t, func(t *testing.T, _ bool, call func(args ...string) []string) {
		for _, function := range []string{"stays", "returns"} {
			file := filepath.Join(t.TempDir(), "begun")
			cmd := exec.Command(binary, call("--json", "--timeout", "5m", "--in", file, library, function)...)
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			require.NoError(t, cmd.Start())
			assert.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, time.Minute, 5*time.Millisecond)
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			_ = cmd.Wait()
			assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), function)
			var got called
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &got), "%s", &stdout)
			assert.Equal(t, "interrupted", got.Error.Kind, "%s: %s", function, got.Error.Text)
		}
	})
}

// TestErrorsJSON: --json has every verb's errors as an object, with the exit code that there is without it.
func TestErrorsJSON(t *testing.T) {
	t.Parallel()
	echo, text := fixture.C(t, "echo"), filepath.Join(t.TempDir(), "text.so")
	require.NoError(t, os.WriteFile(text, []byte("no library\n"), 0o600))
	missing := text + ".missing"
	tried := map[string]bool{}
	for _, args := range [][]string{
		{"call", echo, "ecko"}, {"call", text, "echo"}, {"call", echo, "echo", "--timeout", "soon"}, {"call"}, {"call", echo, "echo", "--in", "@" + missing}, {"call", echo, "echo", "--data", missing},
		{"check", echo, "--level", "11"}, {"check", text}, {"check", "--only", "room-size", echo},
		{"bench", echo, "ecko"}, {"bench", text, "echo"}, {"bench", echo, "fail"}, {"bench", echo, "echo", "--parallel", "0"},
		{"bench", fixture.C(t, "fault_abort"), "fault"},
		{"inspect", text}, {"inspect"}, {"inspect", "--diff", echo},
		{"new", "--lang", "ada", "x"}, {"new"}, {"inspct"}, {"call", "--no-such-flag"},
		{"list", "--config", text}, {"list", "--config", ""}, {"list", "x"}, {"info"}, {"info", "x", "--config", text}, {"doctor", "--config", text + ".yaml"},
		{"keygen"}, {"keygen", text}, {"sign", text}, {"sign", "--key", text, text}, {"sign", "--key", missing, text}, {"verify", text}, {"verify", "--key", text, text}, {"verify", "--key", aKey, echo},
		{"enable", "x", "--config", text}, {"grant", "x"}, {"deny", "x", "y", "--config", text}, {"disable", "x", "--config", text},
		{"install", "--config", text}, {"update", "--config", text}, {"rollback", "x", "--config", text},
		{"remove", "x", "--config", text},
		{"lock", "--platform", "linux/arm64", "--config", text}, {"search", "x", "--config", text}, {"gc", text}, {"bundle", text},
		{"mirror"}, {"gen", text}, {"gen", filepath.Dir(text)}, {"push", text}, {"index", text}, {"completion", "tcsh"}, {"help", "inspct"}, {"man"},
		{"top"}, {"top", "--once", text}, {"top", "--once", text + ".sock"}, {"top", text, "--interval", "1ns"}, {"top", text, "--sort", "x"},
		{"serve"}, {"serve", echo}, {"serve", text, "--unix", text + ".sock"}, {"serve", echo, "--tcp", "0.0.0.0:0"},
	} {
		tried[args[0]] = true
		_, plain, code := ferrule(t, "", args...)
		stdout, stderr, withJSON := ferrule(t, "", append(args, "--json")...)
		assert.NotZero(t, code, "%v", args)
		assert.Equal(t, code, withJSON, "%v", args)
		assert.Equal(t, plain, stderr, "%v", args)
		var got struct {
			Error errorDetails `json:"error"`
		}
		d := json.NewDecoder(strings.NewReader(stdout))
		require.NoError(t, d.Decode(&got), "%v: %s", args, stdout)
		assert.False(t, d.More(), "%v: one object", args)
		assert.NotEmpty(t, got.Error.Text, "%v", args)
		assert.NotEmpty(t, got.Error.Kind, "%v", args)
		if slices.Contains(args, missing) || slices.Contains(args, "@"+missing) {
			assert.Contains(t, got.Error.Found, missing, "%v", args)
			assert.NotEmpty(t, got.Error.Expected, "%v", args)
		}
		assert.Contains(t, stderr, escape.Line(strings.SplitN(got.Error.Text, "\n", 2)[0]), "%v", args)
		if strings.Contains(got.Error.Text, "expected ") {
			assert.NotEmpty(t, got.Error.Expected, "%v", args)
		}
	}
	for _, verb := range command(&app{}).Commands() {
		assert.True(t, verb.Hidden || tried[verb.Name()], "%s: no error of it was tried", verb.Name())
	}
}

// TestJSONAsked: --json is what the parser takes for it, also where something else of the command line is wrong.
func TestJSONAsked(t *testing.T) {
	t.Parallel()
	for line, asked := range map[string]bool{
		"call nofile.so echo --in --json":   false, // the input
		"new x -l --json":                   false, // a language
		"call nofile.so echo --in=--json":   false,
		"call --nope -- --json":             false, // an argument
		"call --nope --json=false":          false,
		"call --nope --json=true":           true,
		"call --nope --json":                true,
		"call --timeout soon --in x --json": true,
		"--json inspct":                     true,
	} {
		stdout, _, code := ferrule(t, "", strings.Fields(line)...)
		assert.NotZero(t, code, line)
		assert.Equal(t, asked, stdout != "", "%s: %s", line, stdout)
	}
}

// jsonFacts are what the JSON of each verb consists of.
var jsonFacts = map[string][]any{
	"call":     {called{}, errorDetails{}},
	"check":    {check.Verdict{}, check.Result{}, check.Finding{}, check.Case{}},
	"bench":    {benchResult{}, costs{}},
	"inspect":  {description{}, pluginFacts{}, libraryFacts{}, symbol{}, hardening{}, comparison{}, identity{}, change{}},
	"new":      {plugin{}},
	"gen":      {gen.Result{}, gen.File{}},
	"list":     {listing{}, listed{}, hooksPoint{}, hookPlace{}, fault{}, outdated{}, refusal{}},
	"info":     {info{}, listed{}, fault{}, symbol{}, ask{}, permit{}},
	"enable":   {edited{}, edit{}},
	"disable":  {edited{}, edit{}},
	"grant":    {edited{}, edit{}},
	"deny":     {edited{}, edit{}},
	"keygen":   {madeKeys{}},
	"sign":     {signedFile{}},
	"verify":   {signedFile{}, installation{}, installed{}, refusal{}},
	"push":     {pushed{}, pushedFile{}},
	"install":  {installation{}, installed{}, refusal{}},
	"update":   {changes{}, moved{}, refusal{}},
	"rollback": {changes{}, moved{}, refusal{}},
	"remove":   {changes{}, moved{}, refusal{}},
	"lock":     {changes{}, moved{}, refusal{}},
	"gc":       {collected{}},
	"mirror":   {copiedTo{}},
	"bundle":   {copiedTo{}},
	"search":   {hits{}, hit{}, index.Hit{}},
	"index":    {madeIndex{}, index.Revocation{}, index.RevokedKey{}, refusal{}},
	"doctor":   {diagnosis{}, finding{}, fault{}},
	"serve":    {ready{}},
	"top":      {monitor.Snapshot{}, monitor.Refused{}, monitor.Plugin{}, monitor.Calls{}, monitor.Counted{}},
}

// TestJSONIsDocumented: the help of a verb, and so its page, names every field of its JSON.
func TestJSONIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for verb, facts := range jsonFacts {
		documented[verb] = true
		cmd, _, err := command(&app{}).Find([]string{verb})
		require.NoError(t, err)
		words := map[string]bool{}
		for _, word := range regexp.MustCompile(`\w+`).FindAllString(cmd.Long, -1) {
			words[word] = true
		}
		for _, f := range facts {
			of := reflect.TypeOf(f)
			for i := range of.NumField() {
				name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
				assert.True(t, name == "" || name == "-" || words[name], "ferrule %s: %s of %v", verb, name, of)
			}
		}
	}
	for _, verb := range manual(command(&app{})) {
		assert.True(t, documented[verb.Name()], "ferrule %s: its JSON is in no row of this test", verb.Name())
	}
}

// TestCallLists: without a function there is a list.
func TestCallLists(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	stdout, stderr, code := ferrule(t, "", "call", echo)
	assert.Zero(t, code)
	assert.Empty(t, stderr)
	assert.Contains(t, stdout, "Functions of echo 1.2.3:\n")
	assert.Contains(t, stdout, "\n    echo")
	assert.Contains(t, stdout, "Returns its input.")
	assert.Contains(t, stdout, "Hooks of echo 1.2.3:\n    before_echo")
	stdout, _, _ = ferrule(t, "", "call", "--hook", echo)
	assert.Contains(t, stdout, "Hooks of echo 1.2.3:\n    before_echo")
	assert.NotContains(t, stdout, "Functions")
	stdout, _, _ = ferrule(t, "", "call", "--hook", fixture.C(t, "host"))
	assert.Contains(t, stdout, "has no hooks.")
	stdout, _, code = ferrule(t, "", "call", "--json", echo)
	assert.Zero(t, code)
	var got struct {
		Plugin, Version  string
		Functions, Hooks []symbol
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	assert.Equal(t, "echo", got.Functions[0].Name)
	assert.Equal(t, "before_echo", got.Hooks[0].Name)
	stdout, _, code = ferrule(t, "", "call", "--json", fixture.C(t, "import_not_offered"))
	assert.Zero(t, code)
	assert.Contains(t, stdout, `"name": "loyalty_pionts"`, "the import that a call needs")
	_, _, code = ferrule(t, "", "call", filepath.Join(t.TempDir(), "missing.so"))
	assert.Equal(t, exitOpen, code)
}

// TestCallListCopied: the last line of the list is a command that works.
func TestCallListCopied(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("it is for a Unix shell")
	}
	dir := t.TempDir()
	put := func(name, source string) string {
		data, err := os.ReadFile(compiled(t, source))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		return name
	}
	const head = "FERRULE_PLUGIN(FERRULE_NAME(\"p\") FERRULE_VERSION(\"1\"));\n"
	for _, c := range []struct{ path, want string }{
		{put("plain.so", head+`FERRULE_FN(f) { for (; call->out_len < call->in_len; call->out_len++) call->out[call->out_len] = call->in[call->out_len]; return FERRULE_OK; }`), "TEXT"},
		{put("-it's here;.so", head+`FERRULE_FN(f) { (void)call; return FERRULE_OK; }`), ""},
		{put("hook.so", head+`FERRULE_HOOK(before) { (void)call; return FERRULE_OK; }`), ""},
		{put("json.so", head+`FERRULE_FN_META(f, FERRULE_IN("application/json"));
			FERRULE_FN(f) { return call->in_len == 2 && call->in[0] == '{' ? FERRULE_OK : FERRULE_INVALID; }`), ""},
		{put("imports.so", head+`FERRULE_IMPORT(one); FERRULE_IMPORT(two); FERRULE_FN(f) { (void)call; return FERRULE_OK; }`), ""},
	} {
		list := exec.Command(binary, "call", "--", c.path)
		list.Dir = dir
		out, err := list.Output()
		require.NoError(t, err, c.path)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		copied := exec.Command("sh", "-c", lines[len(lines)-1])
		copied.Dir = dir
		copied.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
		got, err := copied.CombinedOutput()
		assert.NoError(t, err, "%s: %s", lines[len(lines)-1], got)
		assert.Equal(t, c.want, string(got))
	}
	stdout, _, code := ferrule(t, "", "call", compiled(t, head))
	assert.Zero(t, code)
	assert.Equal(t, "p 1 has no functions and no hooks.\n", stdout)
}

// TestFolders: a folder in place of a library is said to be one, with what to do.
func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	require.NoError(t, os.MkdirAll(filepath.Join(empty, "target"), 0o700))
	require.NoError(t, os.MkdirAll(full, 0o700))
	library := filepath.Join(full, "text.so")
	require.NoError(t, os.WriteFile(library, []byte("text"), 0o600))
	const none, some = "found a folder with no library in it, expected a file whose name ends with .so, .dylib, .dll or .wasm, or a script with a header. Build the library",
		"not a regular file: found a folder, expected ELF (.so), Mach-O (.dylib), PE (.dll) or WebAssembly (.wasm). Give the path of a library in it, such as "
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"inspect", empty}, none},
		{[]string{"inspect", library, empty}, none},
		{[]string{"check", empty}, none},
		{[]string{"check", library, empty}, none},
		{[]string{"call", empty}, none},
		{[]string{"call", empty, "f"}, none},
		{[]string{"bench", empty, "f"}, none},
		{[]string{"inspect", "--diff", empty, full}, none},
		{[]string{"call", full}, some + shellWord(library)},
		{[]string{"call", "--isolated", full, "f"}, some + shellWord(library)},
		{[]string{"bench", full, "f"}, some + shellWord(library)},
		{[]string{"inspect", "--diff", full, empty}, some + shellWord(library)},
		{[]string{"inspect", full}, library + ": not a shared library"},
		{[]string{"check", full}, library + ": not a shared library"},
	} {
		_, stderr, code := ferrule(t, "", c.args...)
		assert.Equal(t, exitOpen, code, "%v", c.args)
		assert.Contains(t, stderr, c.want, "%v", c.args)
	}
}

// TestJSONShows: a terminal shows JSON, and is not steered by it, whoever the text in it is from.
func TestJSONShows(t *testing.T) {
	t.Parallel()
	const foreign = "\u009b31mred\u009d0;title\u009c \u202egnp.\U000e0041"
	echo := fixture.C(t, "echo")
	for _, args := range [][]string{
		{"call", echo, "echo", "--in", foreign},
		{"call", "--isolated", echo, "echo", "--in", foreign},
		{"call", echo, "fail", "--in", foreign},
		{"call", echo, foreign},
		{"inspect", foreign},
		{"check", foreign},
		{"bench", foreign, "f"},
		{"new", "--lang", foreign, "x"},
	} {
		stdout, _, _ := ferrule(t, "", append(args, "--json")...)
		assert.Equal(t, escape.Lines(stdout), stdout, args)
		assert.True(t, json.Valid([]byte(stdout)), args)
		assert.Regexp(t, `\\u009b31mred\\+u009d0;title\\+u009c \\+u202egnp\.`, stdout, args) // quoted, as Go does it, or as JSON does
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

func TestCheckPasses(t *testing.T) {
	stdout, stderr, code := ferrule(t, "", "check", "--seed", "1", fixture.C(t, "rounds"))
	assert.Equal(t, exitOK, code, stdout)
	assert.Empty(t, stderr)
	assert.Contains(t, stdout, "passed  room-sizes\n")
	assert.Contains(t, stdout, " passes: ")
	assert.Contains(t, stdout, "; 0 errors, 1 warning (--level 8 --seed 1)\n")
	assert.Contains(t, stdout, "rounds has failed with every input that was tried", "it wants 64 bytes of its host")
	assert.Contains(t, stdout, "--answer host=TEXT\n")
	assert.NotContains(t, stdout, "\x1b", "no colours where no terminal is")
	assert.NotContains(t, stdout, "leaks", "a case of level 9")
}

func TestCheckDoesNotPass(t *testing.T) {
	stdout, stderr, code := ferrule(t, "", "check", "--level", "3", fixture.C(t, "check_input_guard"))
	assert.Equal(t, exitFailed, code)
	assert.Empty(t, stderr, "the finding is a fact")
	assert.Contains(t, stdout, "failed  input-guard\n        error R7: measure with ")
	assert.Contains(t, stdout, "ending where memory ends: the process died of SIG") // BUS on macOS
	assert.Contains(t, stdout, "\n                expected: in_len bytes to be read, and no more\n                to fix: ")
	assert.Contains(t, stdout, "measure was left out of later cases: it ended the process in case input-guard\n")
	assert.Contains(t, stdout, " does not pass: ")
	assert.Contains(t, stdout, "; 1 error, 0 warnings (--level 3 --seed ")
}

func TestCheckWarnings(t *testing.T) {
	stdout, _, code := ferrule(t, "", "check", "--level", "1", fixture.C(t, "check_foreign_export"))
	assert.Equal(t, exitOK, code, "a warning is no failure")
	assert.Contains(t, stdout, "warned  symbols\n        warning R2: 1 more exported name: compress\n")
}

// The verdict for machines has what the one for people has.
func TestCheckJSON(t *testing.T) {
	stdout, stderr, code := ferrule(t, "", "check", "--json", "--only", "batch,room-sizes,config", "--seed", "7",
		fixture.C(t, "check_room_sizes"))
	assert.Equal(t, exitFailed, code)
	assert.Empty(t, stderr)
	var v check.Verdict
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&v), stdout)
	assert.Equal(t, "check_room_sizes", v.Name)
	assert.Equal(t, uint64(7), v.Seed)
	assert.False(t, v.Pass)
	assert.Equal(t, 1, v.Errors)
	require.Len(t, v.Results, 3)
	assert.Equal(t, []string{"room-sizes", "batch", "config"},
		[]string{v.Results[0].Case, v.Results[1].Case, v.Results[2].Case})
	assert.Equal(t, check.Skipped, v.Results[2].Outcome)
	assert.Equal(t, "the library has no ferrule_start", v.Results[2].Reason)
	require.Len(t, v.Results[0].Findings, 1)
	f := v.Results[0].Findings[0]
	assert.Equal(t, check.Finding{Case: "room-sizes", Rule: "R8", Severity: "error", Function: "answer", Seen: f.Seen,
		Expected: f.Expected, Mend: f.Mend}, f)
	assert.Equal(t, "answer with no input, in a room of 0 bytes: 0 bytes instead of 10", f.Seen)
}

// TestCheckLongMessage: a finding is reported, and is the one that there is, however much a function has to say.
func TestCheckLongMessage(t *testing.T) {
	const source = `
		FERRULE_PLUGIN(FERRULE_NAME("talks") FERRULE_VERSION("1"));
		static uint8_t text[2 << 20];
		static void nothing(ferrule_call *call) { (void)call; }
		FERRULE_FN(f) { (void)call; return FERRULE_OK; }
		WHERE {
			for (unsigned i = 0; i < sizeof text; i++) text[i] = 'a';
			call->out = text;
			call->out_len = sizeof text;
			call->release = nothing;
			return FERRULE_FAILED;
		}`
	for where, c := range map[string]struct {
		code int
		want string
	}{
		"FERRULE_START": {exitFailed, "error R15: ferrule_start failed with "},
		"FERRULE_STOP":  {exitOK, "warning R15: ferrule_stop failed with "},
	} {
		stdout, stderr, code := ferrule(t, "", "check", "--only", "start", compiled(t, strings.Replace(source, "WHERE", where, 1)))
		assert.Equal(t, c.code, code, stderr)
		assert.Contains(t, stdout, c.want)
		assert.NotContains(t, stdout, "the process ended")
		assert.Less(t, len(stdout), 4<<10)
	}
}

func TestCheckList(t *testing.T) {
	stdout, _, code := ferrule(t, "", "check", "--list")
	assert.Equal(t, exitOK, code)
	assert.Equal(t, len(check.Cases(10)), strings.Count(stdout, "\n"))
	assert.Contains(t, stdout, " 4  room-guard         R8 ")
	stdout, _, _ = ferrule(t, "", "check", "--list", "--level", "1", "--json")
	var cases []check.Case
	require.NoError(t, json.Unmarshal([]byte(stdout), &cases))
	assert.Len(t, cases, len(check.Cases(1)))
	assert.NotEmpty(t, cases[0].Rules)
}

// What is given to functions and to start comes from the command line or from files.
func TestCheckInputs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "status")
	require.NoError(t, os.WriteFile(file, []byte("-3"), 0o600))
	for _, in := range []string{"status=-3", "status=@" + file} {
		stdout, _, code := ferrule(t, "", "check", "--only", "status", "--in", in, fixture.C(t, "echo"))
		assert.Equal(t, exitFailed, code, in)
		assert.Contains(t, stdout, "error R10: the status -3, with the input of --in\n", in)
	}
	_, _, code := ferrule(t, "", "check", "--only", "start", "--config", "7", fixture.C(t, "state"))
	assert.Equal(t, exitOK, code)
	stdout, _, code := ferrule(t, "", "check", "--only", "start", "--config", strings.Repeat("7", 40),
		fixture.C(t, "state"))
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, "the configuration is long")
}

func TestCheckUsage(t *testing.T) {
	echo := fixture.C(t, "echo")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{}, "found no FILE on the command line, expected ferrule check FILE..."},
		{[]string{"--list", echo}, "found the argument " + echo + ", expected none"},
		{[]string{"--memory", "1GiB", echo}, "found --memory without --sandbox"},
		{[]string{"--sandbox", "--allow-connect", "0", echo}, "found --allow-connect 0, expected a TCP port, 1 to 65535"},
		{[]string{"--only", "symbols,sandbox", echo}, "found --only sandbox without --sandbox, expected both"},
		{[]string{"--only", "symbols", "--sandbox", echo}, "found --sandbox, and --only without the case sandbox, expected both"},
		{[]string{"--list", "--only", "symbols"}, "found --list with --only, expected --list alone, with --level or with --sidecar"},
		{[]string{"--config", "x", echo}, "found --config for plug-in echo, which takes no configuration"},
		{[]string{"--level", "11", echo}, "found --level 11, expected 1 to 10"},
		{[]string{"--timeout", "0s", echo}, "found --timeout 0s"},
		{[]string{"--only", "room-size", echo}, `found --only room-size, expected the name of a case. Did you mean "room-sizes"?`},
		{[]string{"--only", "everything", echo}, "See ferrule check --list."},
		{[]string{"--in", "echo", echo}, "found --in echo, expected FUNCTION=TEXT"},
		{[]string{"--in", "ehco=x", echo}, `found --in or --without for "ehco", and the plug-in has no such function, expected one of its functions. Did you mean "echo"?`},
		{[]string{"--config", "@/nowhere/at/all", echo}, "found --config @/nowhere/at/all: "},
		{[]string{"--in", "echo=" + strings.Repeat("x", 100), "--in", "echo=@/dev/null", "--seed", "x", echo},
			"found --seed x, expected a whole number that is not negative"},
	} {
		stdout, stderr, code := ferrule(t, "", append([]string{"check"}, c.args...)...)
		assert.Equal(t, exitUsage, code, "%v", c.args)
		assert.Empty(t, stdout, "%v", c.args)
		assert.Contains(t, stderr, c.want, "%v", c.args)
	}
}

// Several files and folders are checked one after the other, and the worst of them is the exit code.
func TestCheckSeveral(t *testing.T) {
	dir, empty := t.TempDir(), t.TempDir()
	put := func(name, from string) string {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	good := put("a"+fixture.Ext(), fixture.C(t, "rounds"))
	warns := put("b"+fixture.Ext(), fixture.C(t, "check_foreign_export"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("no library"), 0o600))
	only := []string{"check", "--only", "symbols"}
	for _, c := range []struct {
		args []string
		code int
		in   []string // in this order
	}{
		{[]string{good, warns}, 0, []string{good + " passes", warns + " passes"}},
		{[]string{warns, good}, 0, []string{warns + " passes", good + " passes"}},
		{[]string{dir}, 0, []string{good + " passes", warns + " passes"}},
		{[]string{"--strict", dir}, 1, []string{good + " passes", warns + " does not pass"}},
	} {
		stdout, stderr, code := ferrule(t, "", append(only, c.args...)...)
		assert.Equal(t, c.code, code, "%v: %s", c.args, stdout)
		assert.Equal(t, c.code != 0, strings.Contains(stderr, "ferrule: 1 of 2 files did not pass\n"), stderr)
		at := 0
		for _, want := range c.in {
			i := strings.Index(stdout[at:], want)
			require.GreaterOrEqual(t, i, 0, "%v: %q in %s", c.args, want, stdout)
			at += i
		}
	}
	text := filepath.Join(empty, "text.so")
	require.NoError(t, os.WriteFile(text, []byte("no library\n"), 0o600))
	stdout, stderr, code := ferrule(t, "", append(only, text, good, "--json")...)
	assert.Equal(t, exitOpen, code)
	assert.Contains(t, stderr, "ferrule: 1 of 2 files did not pass\n")
	d := json.NewDecoder(strings.NewReader(stdout))
	var bad description
	require.NoError(t, d.Decode(&bad))
	assert.Equal(t, text, bad.File)
	assert.Equal(t, "not a shared library", bad.Error.Kind)
	var v check.Verdict
	require.NoError(t, d.Decode(&v))
	assert.True(t, v.Pass)
	assert.False(t, d.More())
}

// Whatever a plug-in leaves, check leaves nothing of it, not where it runs either, and says so.
func TestCheckLeaves(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"check_file_left":      `warning R20: in the working folder: "left.txt"`,
		"check_process_left":   "error R15: left after every instance had stopped: 1 process, ",
		"check_process_daemon": "error R15: left after every instance had stopped: 1 process, ",
		"check_child_taken":    "error R20: answer has taken the exit status of a child process of the host's",
	} {
		if runtime.GOOS != "linux" && name != "check_file_left" {
			continue // what there is to be found, is killed elsewhere, and not seen
		}
		cmd := exec.Command(binary, "check", "--level", "7", "--only", "input-empty,input-text,children", fixture.C(t, name))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TMPDIR="+dir, "TMP="+dir)
		out, err := cmd.Output()
		assert.Equal(t, strings.HasPrefix(want, "error"), err != nil)
		assert.Equal(t, 1, strings.Count(string(out), want), "once: %s", out)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left, name)
	}
}

// Files that are no libraries cannot be opened; a library that breaks the contract does not pass.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	whole, err := os.ReadFile(fixture.C(t, "echo"))
	require.NoError(t, err)
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.so"):                   "no such file",
		write("text.so", []byte("no library\n")):           "not a shared library",
		write("empty.so", nil):                             "not a shared library",
		write("truncated.so", whole[:len(whole)/2]):        "truncated",
		write("zeros.so", bytes.Repeat([]byte{0}, 64<<10)): "not a shared library",
	} {
		stdout, stderr, code := ferrule(t, "", "check", path)
		assert.Equal(t, exitOpen, code, path)
		assert.Empty(t, stdout, path)
		assert.Contains(t, stderr, "ferrule: "+path, path)
		assert.Contains(t, stderr, want, path)
	}
	stdout, _, code := ferrule(t, "", "check", fixture.C(t, "no_manifest"))
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, "failed  manifest\n        error R1: ")
	other := filepath.Join(fixture.Root(), "loader", "inspect", "testdata", "elf-riscv64-clang.so")
	stdout, _, code = ferrule(t, "", "check", other)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, "failed  architecture\n        error R4: a library for linux/riscv64\n")
	assert.Contains(t, stdout, "a library for linux/riscv64 does not run here")
}

func TestCheckHelp(t *testing.T) {
	stdout, _, code := ferrule(t, "", "check", "--help")
	assert.Equal(t, exitOK, code)
	assert.GreaterOrEqual(t, strings.Count(stdout, "\n  ferrule check "), 2, "examples")
	stdout, _, _ = ferrule(t, "", "--help")
	assert.NotContains(t, stdout, checkCase, "the worker's verb is hidden")
}

// TestCheckPathNotUTF8: paths need not be UTF-8 where the system has none, that of the file, of temporary files and of a sandbox.
func TestCheckPathNotUTF8(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "d\xff")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Skipf("names are UTF-8 here: %v", err)
	}
	t.Setenv("TMPDIR", folder)
	path := filepath.Join(folder, "ok\xfe.so")
	library, err := os.ReadFile(fixture.C(t, "rounds"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, library, 0o700))
	stdout, stderr, code := ferrule(t, "", "check", "--level", "2", path)
	assert.Zero(t, code, stdout, stderr)
	assert.Contains(t, stdout, `/d\xff/ok\xfe.so passes: `)
	if runtime.GOOS == "linux" {
		stdout, stderr, code = ferrule(t, "", "check", "--only", "sandbox", "--sandbox", "--allow-read", folder, path)
		assert.Zero(t, code, stdout, stderr)
	}
}

// TestCheckTemporary: a folder for temporary files that is not there is named, with the variable that names it.
func TestCheckTemporary(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	t.Setenv("TMPDIR", missing)
	t.Setenv("TMP", missing)
	_, stderr, code := ferrule(t, "", "check", "--level", "2", fixture.C(t, "rounds"))
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "no folder for a case can be made in "+missing+", the folder for temporary files: ")
	assert.Regexp(t, `\. Have TMP(DIR)? name a folder that this user may write to\n$`, stderr)
}

// sidecarScript is a script of internal/fixture/sidecar, with what runs it.
func sidecarScript(t *testing.T, name string) []string {
	t.Helper()
	return []string{fixture.Python(t), "--", "-B", filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", name)}
}

func TestCheckSidecar(t *testing.T) {
	script := sidecarScript(t, "check_none.py")
	stdout, stderr, code := ferrule(t, "", append([]string{"check", "--sidecar", "--seed", "1", "--timeout", "60s", "--only", "start,unknown,words", "--without", "hook around"}, script...)...)
	assert.Equal(t, exitOK, code, stdout)
	assert.Empty(t, stderr)
	assert.Contains(t, stdout, "passed  words\npassed  start\npassed  unknown\n", "in their order")
	assert.Contains(t, stdout, script[0]+" -B "+shellWord(script[3])+" passes: 3 cases, 0 skipped; 0 errors, 0 warnings (--level 8 --seed 1)\n")

	stdout, stderr, code = ferrule(t, "", append([]string{"check", "--sidecar", "--json", "--only", "manifest"}, sidecarScript(t, "check_manifest_key.py")...)...)
	assert.Equal(t, exitFailed, code, stdout)
	assert.Empty(t, stderr)
	var v check.Verdict
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&v), stdout)
	require.Len(t, v.Results, 1)
	require.Len(t, v.Results[0].Findings, 1)
	f := v.Results[0].Findings[0]
	assert.Equal(t, check.Finding{Case: "manifest", Rule: "W5", Severity: check.Error, Seen: f.Seen, Expected: f.Expected,
		Mend: "Mend the manifest, which is the body of the hello"}, f)
	assert.Contains(t, f.Seen, "autor")

	stdout, _, code = ferrule(t, "", "check", "--sidecar", "--list")
	assert.Equal(t, exitOK, code)
	assert.Equal(t, len(check.SidecarCases(10)), strings.Count(stdout, "\n"))
	assert.Contains(t, stdout, "garbage")
}

// --ca has an https: URL spoken to; without it the certificate is not trusted.
func TestCheckSidecarByTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	stdout, stderr, code := ferrule(t, "", "check", "--sidecar", "--only", "hello", "--ca", ca, server.URL)
	assert.Equal(t, exitFailed, code, stderr)
	assert.Contains(t, stdout, "error W18: GET /ferrule/manifest: 404")
	_, stderr, code = ferrule(t, "", "check", "--sidecar", "--only", "hello", server.URL)
	assert.Equal(t, exitOpen, code)
	assert.Contains(t, stderr, "Give the authority's certificate with --ca")
	_, stderr, code = ferrule(t, "", "check", "--sidecar", "--only", "hello", "--tls", "tcp:"+server.Listener.Addr().String())
	assert.Equal(t, exitOpen, code)
	assert.Contains(t, stderr, "Give the authority's certificate with --ca")
}

func TestCheckSidecarCommandLine(t *testing.T) {
	script := sidecarScript(t, "check_none.py")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"check", "--sidecar"}, exitUsage, "no PROGRAM on the command line"},
		{[]string{"check", "--sidecar", "a", "b"}, exitUsage, "found 2 arguments: a b"},
		{[]string{"check", "--sidecar", "no-such-program"}, exitOpen, "no program of this name"},
		{[]string{"check", "--sidecar", "tcp:127.0.0.1:1"}, exitOpen, "no sidecar that answers"},
		{[]string{"check", "--sidecar", "tcp:127.0.0.1"}, exitOpen, "found no port, expected tcp:HOST:PORT"},
		{[]string{"check", "--sidecar", "unix:"}, exitOpen, "found nothing behind unix:, expected unix:PATH"},
		{[]string{"check", "--sidecar", "https://"}, exitOpen, "found nothing behind https:"},
		{append([]string{"check", "--sidecar", "--only", "leaks"}, script...), exitUsage, "--only leaks"},
		{append([]string{"check", "--sidecar", "--without", "ecko"}, script...), exitUsage, `Did you mean "echo"?`},
		{append([]string{"check", "--sidecar", "--sandbox"}, script...), exitUsage, "--sandbox with --sidecar"},
		{[]string{"check", "--token", "t", "a.so"}, exitUsage, "--token without --sidecar"},
		{[]string{"check", "--jobs", "2", "a.so"}, exitUsage, "--jobs without --sidecar"},
		{[]string{"check", "--tls", "a.so"}, exitUsage, "--tls without --sidecar"},
		{append([]string{"check", "--sidecar", "--jobs", "0"}, script...), exitUsage, "--jobs 0"},
		{[]string{"check", "--sidecar", "--tls", "https://127.0.0.1:1"}, exitUsage, "--tls with https://127.0.0.1:1"},
		{[]string{"check", "--sidecar", "--tls", "unix:s"}, exitUsage, "--tls with unix:s"},
		{[]string{"check", "--sidecar", "--ca", "ca.pem", "tcp:127.0.0.1:1"}, exitUsage, "--ca with tcp:127.0.0.1:1"},
		{[]string{"check", "--sidecar", "--ca", "no-such-file.pem", "https://127.0.0.1:1"}, exitUsage, "no-such-file.pem"},
		{[]string{"check", "--sidecar", "--ca", "check_test.go", "https://127.0.0.1:1"}, exitUsage, "in which is no certificate"},
		{[]string{"check", "--sidecar", "--tls", "tcp:127.0.0.1:1"}, exitOpen, "no sidecar that answers"},
	} {
		_, stderr, code := ferrule(t, "", c.args...)
		assert.Equal(t, c.code, code, "%q", c.args)
		assert.Contains(t, stderr, c.want, "%q", c.args)
	}
}

// A function that --without names is not called, of a library as well.
func TestCheckWithout(t *testing.T) {
	stdout, _, code := ferrule(t, "", "check", "--only", "input-empty", "--without", "take", fixture.C(t, "check_input_empty"))
	assert.Equal(t, exitOK, code, stdout)
	_, _, code = ferrule(t, "", "check", "--only", "input-empty", fixture.C(t, "check_input_empty"))
	assert.Equal(t, exitFailed, code)
}

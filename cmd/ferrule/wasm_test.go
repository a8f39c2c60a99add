package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// moduleTaken is one word of what a library's and a module's output differ by.
var moduleTaken = regexp.MustCompile(`"duration_ns": \d+|"size": \d+`)

// TestCallModules: of a WebAssembly module the command says what it says of the library from the same source, however it is called.
func TestCallModules(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	for name, c := range map[string]struct {
		fixture string
		stdin   string
		args    []string // FILE is the plug-in
		want    string   // what is in it all
	}{
		"a list":                  {"echo", "", []string{"FILE"}, "before_echo"},
		"a list, as JSON":         {"host", "", []string{"--json", "FILE"}, `"name": "upper"`},
		"a result":                {"echo", "", []string{"FILE", "echo", "--in", "héllo"}, "héllo"},
		"standard input":          {"echo", "from a pipe", []string{"FILE", "echo"}, "from a pipe"},
		"a result, as JSON":       {"echo", "", []string{"--json", "FILE", "echo", "--in", "x"}, `"result": "x"`},
		"bytes, as JSON":          {"echo", "\xff\x00", []string{"--json", "FILE", "echo"}, `"encoding": "base64"`},
		"a hook":                  {"echo", "", []string{"--hook", "FILE", "before_echo", "--in", "x"}, "hooked"},
		"a failure":               {"echo", "", []string{"FILE", "fail", "--in", "because"}, "because"},
		"a failure, as JSON":      {"echo", "", []string{"--json", "FILE", "fail", "--in", "because"}, `"status": 1`},
		"isolated":                {"echo", "", []string{"--isolated", "FILE", "echo", "--in", "x"}, "x"},
		"in a sandbox":            {"echo", "", []string{"--sandbox", "--memory", "64MiB", "FILE", "echo", "--in", "x"}, "x"},
		"an import, by an answer": {"host", "", []string{"--answer", "upper=ANSWER", "--answer", "again=", "FILE", "upper", "--in", "x"}, "ANSWER"},
		"an import, by a command": {"host", "", []string{"--import", "upper=tr a-z A-Z", "--answer", "again=", "FILE", "upper", "--in", "word"}, "WORD"},
		"an import that fails":    {"host", "", []string{"--import", "upper=echo no >&2; exit 3", "--answer", "again=", "FILE", "upper", "--in", "x"}, "no"},
		"no import":               {"host", "", []string{"FILE", "upper", "--in", "x"}, "--answer again=7"},
		"no function":             {"echo", "", []string{"FILE", "ecko", "--in", "x"}, "ecko"},
		"a stream out":            {"services", "", []string{"FILE", "count", "--in", "3"}, ""},
		"a stream both ways":      {"services", "to and fro", []string{"FILE", "pipe"}, "to and fro"},
		"a stream to a file":      {"services", "kept", []string{"--out", out, "--json", "FILE", "pipe"}, `"status": 0`},
		"a configuration":         {"services", "", []string{"--config", "hello", "FILE", "config", "--in", ""}, "hello"},
		"a passing function":      {"services", "", []string{"FILE", "pass", "--in", ""}, ""},
		"a start that fails":      {"start_fails", "", []string{"FILE", "answer", "--in", ""}, "could not be started"},
		"a rule that is broken":   {"negative_status", "", []string{"FILE", "answer", "--in", ""}, "rule R10"},
	} {
		t.Run(name, func(t *testing.T) {
			library, module := fixture.C(t, c.fixture), fixture.WasmC(t, c.fixture)
			run := func(file string) (said [3]string) {
				args := []string{"call"}
				for _, a := range c.args {
					if a == "FILE" {
						a = file
					}
					args = append(args, a)
				}
				stdout, stderr, code := ferrule(t, c.stdin, args...)
				for i, text := range []string{stdout, stderr} {
					said[i] = moduleTaken.ReplaceAllString(strings.ReplaceAll(text, file, "FILE"), "N")
				}
				said[2] = string(rune('0' + code))
				return said
			}
			if c.fixture == "services" {
				c.args = append([]string{"--answer", "needed="}, c.args...)
			}
			want, got := run(library), run(module)
			assert.Equal(t, want, got)
			assert.Contains(t, strings.Join(want[:], ""), c.want)
		})
	}
}

// TestModulesLimits: what a module does wrong is an error of this command, in time, and without a worker; what it may have, the flags say.
func TestModulesLimits(t *testing.T) {
	t.Parallel()
	faults, files := fixture.WasmC(t, "wasm_faults"), fixture.WasmC(t, "wasm_files")
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "note"), []byte("a note"), 0o600))
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a trap":             {[]string{"--answer", "upper=", faults, "reads_beyond", "--in", ""}, 1, "the module trapped: out of bounds memory access, in ferrule_fn_reads_beyond"},
		"without an end":     {[]string{"--answer", "upper=", "--timeout", "2s", faults, "spins", "--in", ""}, 4, "--timeout"},
		"little memory":      {[]string{"--sandbox", "--memory", "64KiB", "--answer", "upper=", faults, "fine", "--in", ""}, 3, "give it more memory (--memory)"},
		"processes":          {[]string{"--sandbox", "--procs", "2", files, "reads", "--in", "x"}, 2, "--procs 2 for a WebAssembly module"},
		"network":            {[]string{"--sandbox", "--allow-connect", "80", files, "reads", "--in", "x"}, 2, "a module has no network"},
		"a file":             {[]string{"--sandbox", "--allow-read", folder, files, "reads", "--in", filepath.Join(folder, "note")}, 0, "a note"},
		"no file":            {[]string{"--sandbox", files, "reads", "--in", filepath.Join(folder, "note")}, 1, ""},
		"a path that is not": {[]string{"--sandbox", "--allow-read", filepath.Join(folder, "none"), files, "reads", "--in", "x"}, 3, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := ferrule(t, "", append([]string{"call"}, c.args...)...)
			assert.Equal(t, c.code, code, stderr)
			assert.Contains(t, stdout+stderr, c.want)
			assert.NotContains(t, stderr, "wasm.")
		})
	}
}

// TestBenchModule: a module is measured in its own sandbox, beside the bare crossing.
func TestBenchModule(t *testing.T) {
	t.Parallel()
	module := fixture.WasmC(t, "echo")
	stdout, stderr, code := ferrule(t, "", "bench", module, "echo", "--in", "hello", "--duration", "200ms")
	require.Zero(t, code, stderr)
	assert.Regexp(t, `(?m)^WebAssembly +[0-9.]+ `, stdout)
	assert.NotContains(t, stdout, "isolated")
	stdout, stderr, code = ferrule(t, "", "bench", module, "echo", "--in", "hello", "--duration", "200ms", "--parallel", "2", "--sandbox", "--json")
	require.Zero(t, code, stderr)
	o := object(t, stdout)
	assert.NotContains(t, o, "isolated")
	assert.NotContains(t, o, "in_process")
	assert.Greater(t, o["module"].(map[string]any)["ratio"], 0.0) // by how much is the machine's matter
	assert.EqualValues(t, 5, o["output_bytes"])
	_, stderr, code = ferrule(t, "", "bench", module, "fail", "--in", "why", "--duration", "200ms")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "why")
}

// TestModulesOfASystem: from the compiler to the application, a module is signed, published, installed, verified and shown as a library is, for any platform; what config.yaml says of
// it and no module can have, doctor says.
func TestModulesOfASystem(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "")
	module := m.path("wasm_files.wasm")
	data, err := os.ReadFile(fixture.WasmC(t, "wasm_files"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(module, data, 0o600))
	run := func(want int, args ...string) string {
		t.Helper()
		stdout, stderr, code := ferrule(t, "", args...)
		require.Equal(t, want, code, "%v\n%s%s", args, stdout, stderr)
		return stdout + stderr
	}
	run(0, "sign", "--key", m.path("shop.key"), module)
	signature, err := os.ReadFile(module + ".minisig")
	require.NoError(t, err)
	assert.Contains(t, string(signature), "trusted comment: ferrule wasm_files 1.0.0 any\n")
	run(0, "verify", "--key", m.path("shop.key.pub"), module)
	assert.Contains(t, run(2, "sign", "--key", m.path("shop.key"), "--platform", "linux/amd64", module), "expected any, as")
	run(0, "push", "--to", m.path("releases"), module)
	assert.FileExists(t, m.path("releases", "v1.0.0", "wasm_files-any.wasm"))

	m.configure("registry: {url: 'REGISTRY', keys: [KEY]}\nplugins: [wasm_files]\n")
	at := []string{"--config", m.path("config.yaml"), "--store", m.path("store")}
	with := func(args ...string) []string { return append(args, at...) }
	assert.Contains(t, run(0, with("install")...), "wasm_files")
	run(0, with("verify")...)
	assert.Regexp(t, `wasm_files +1\.0\.0 +ready +in-process`, run(0, with("list")...))
	assert.Regexp(t, `platform +any`, run(0, with("info", "wasm_files")...))
	run(0, with("doctor")...)

	m.configure("folders: [plugins]\nplugins: [{name: wasm_files, isolate: true}]\n")
	require.NoError(t, os.Rename(module, m.path("plugins", "x.wasm")))
	assert.Contains(t, run(1, with("doctor")...), "isolate for a WebAssembly module")
	m.configure("folders: [plugins]\nplugins: [{name: wasm_files, permit: {connect: [443]}}]\n")
	diagnosis := run(1, with("doctor")...)
	assert.Contains(t, diagnosis, "a WebAssembly module has no network")
	assert.NotContains(t, diagnosis, "declared only")
	m.configure("folders: [plugins]\nplugins: [{name: wasm_files, permit: {read: [plugins]}}]\n")
	assert.NotContains(t, run(0, with("info", "wasm_files")...), "declared only")
}

package main

import (
	"bytes"
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

// scripts are one plug-in in both languages: what the command says of one, it says of the other.
var scripts = map[string]string{
	"shop.js": `// ferrule: name=shop version=1.2.0 description="Prices" services=configure
// ferrule: fn=before_checkout in=json out=json doc="Takes something off." import=loyalty_points
// ferrule: fn=shout doc="In capitals" fn=fails fn=throws fn=passes fn=spins fn=settles out=json fn=bytes in=bytes fn=says
// ferrule: fn=pipe stream=both hook=cart
import { host, input, output, progress, settings, log, Failure, pass } from "ferrule";

export const before_checkout = (cart) => ({ percent: Number(host.loyalty_points(cart.customer)) > 100 ? 10 : 5 });
export const shout = (text) => text.toUpperCase();
export function fails(why) { throw new Failure(1234, why); }
export function throws() { return null.name; }
export const passes = () => pass;
export function spins() { for (;;); }
export const settles = () => settings.json;
export const bytes = () => new Uint8Array([255, 0]);
export function says() { log.warn("a line", { key: "v" }); console.log("printed"); return "said"; }
export function pipe() {
	let n = 0;
	for (const piece of input) { output.write(piece); progress(n += piece.length); }
	return "end";
}
export const cart = () => "hooked";
export function configure() {}
`,
	"shop.py": `# ferrule: name=shop version=1.2.0 description="Prices" services=configure
# ferrule: fn=before_checkout in=json out=json doc="Takes something off." import=loyalty_points
# ferrule: fn=shout doc="In capitals" fn=fails fn=throws fn=passes fn=spins fn=settles out=json fn=bytes in=bytes fn=says
# ferrule: fn=pipe stream=both hook=cart
from ferrule import PASSED, Failure, host, input, log, output, progress, settings

def before_checkout(cart):
    return {"percent": 10 if int(host.loyalty_points(cart["customer"])) > 100 else 5}
def shout(text): return text.upper()
def fails(why): raise Failure(1234, why)
def throws(): return None.name
def passes(): return PASSED
def spins():
    while True: pass
def settles(): return settings.json
def bytes(_): return b"\xff\x00"
def says():
    log.warn("a line", key="v")
    print("printed")
    return "said"
def pipe():
    n = 0
    for piece in input:
        output.write(piece)
        progress(n := n + len(piece))
    return "end"
def cart(): return "hooked"
def configure(): pass
`,
}

// scriptFile writes one of these, or a text, into a folder of its own, and returns its path. Where Python cannot run, the test of it is skipped.
func scriptFile(t *testing.T, name string, text ...string) string {
	t.Helper()
	if filepath.Ext(name) == ".py" {
		needPython(t)
	}
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(append(text, scripts[name])[:1], "")), 0o600))
	return path
}

// needPython skips a test where the command cannot build what runs Python.
func needPython(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("what runs Python is built by a shell")
	}
	fixture.Tool(t, "cc", "apt-get install gcc")
	fixture.Tool(t, "python3-config", "apt-get install python3-dev")
}

// TestInspectScripts: what a script's header says is what the command says of it, and nothing of a library.
func TestInspectScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"shop.js": scripts["shop.js"], "shop.py": scripts["shop.py"], "plain.js": "export const f = 1;\n", "plain.py": "print(1)\n", "UPPER.MJS": "// ferrule: name=upper version=1 fn=f\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for name, format := range map[string]string{"shop.js": "JavaScript", "shop.py": "Python"} {
		path := filepath.Join(dir, name)
		stdout, stderr, code := ferrule(t, "", "inspect", path)
		require.Zero(t, code, stderr)
		assert.Contains(t, stdout, "shop 1.2.0  "+path+"\n  Prices\n")
		assert.Contains(t, stdout, "\n  also has  start, configure\n  platform  any, "+format+"\n  size ")
		assert.Contains(t, stdout, "    before_checkout  application/json -> application/json\n      Takes something off.\n")
		assert.Contains(t, stdout, "\n  hooks\n    cart\n  imports\n    loyalty_points\n")
		assert.NotRegexp(t, "hardening|exports|needs", stdout)

		stdout, stderr, code = ferrule(t, "", "inspect", "--json", path)
		require.Zero(t, code, stderr)
		o := object(t, stdout)
		for field, want := range map[string]any{"name": "shop", "format": format, "os": "", "arch": "", "slices": []any{}, "needed": []any{}, "threads": "serial", "configure": true, "stop": false} {
			assert.Equal(t, want, o[field], field)
		}
		assert.NotContains(t, o, "hardening")
	}

	stdout, stderr, code := ferrule(t, "", "inspect", dir)
	require.Zero(t, code, stderr)
	assert.Equal(t, 3, strings.Count(stdout, "platform"), "those with a header")

	stdout, stderr, code = ferrule(t, "", "inspect", "--diff", filepath.Join(dir, "shop.js"), filepath.Join(dir, "shop.py"))
	require.Zero(t, code, stderr)
	assert.Regexp(t, `ok +format +changed: JavaScript -> Python\n1 change, nothing that breaks a host`, stdout)
	older := filepath.Join(dir, "older.py")
	require.NoError(t, os.WriteFile(older, []byte(strings.Replace(scripts["shop.py"], "fn=shout ", "fn=whisper ", 1)), 0o600))
	stdout, _, code = ferrule(t, "", "inspect", "--diff", older, filepath.Join(dir, "shop.py"))
	assert.Equal(t, 1, code)
	assert.Regexp(t, `BREAKING +function whisper`, stdout)
}

// TestScriptWithoutHeader: whatever is to be done with a script that has no header, what is missing is said, and what to write.
func TestScriptWithoutHeader(t *testing.T) {
	t.Parallel()
	for name, comment := range map[string]string{"plain.js": "//", "plain.mjs": "//", "plain.py": "#"} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte("f = 1\n"), 0o600))
		for _, verb := range []string{"inspect", "call", "bench", "check", "serve --stdio"} {
			args := append(strings.Fields(verb), path)
			if verb == "call" || verb == "bench" {
				args = append(args, "f")
			}
			_, stderr, code := ferrule(t, "", args...)
			assert.Equal(t, 3, code, verb)
			assert.Contains(t, stderr, "a script without a header, expected a comment such as "+comment+" ferrule: name=a version=1.0.0 fn=f, before the first statement. Write one", verb)
		}
	}
	other := filepath.Join(t.TempDir(), "other.py")
	require.NoError(t, os.WriteFile(other, []byte("#!/usr/bin/env -S pipx run\n# ferrule: name=a version=1 fn=f\ndef f(x): return x\n"), 0o600))
	for _, verb := range []string{"inspect", "check"} {
		_, stderr, code := ferrule(t, "", verb, other)
		assert.Equal(t, 3, code, verb)
		assert.NotContains(t, stderr, "without a header")
		assert.Contains(t, stderr, `a script whose first line names no Python that is known, "#!/usr/bin/env -S pipx run", expected a first line that names Python`, verb)
	}
	path := filepath.Join(t.TempDir(), "faulty.js")
	require.NoError(t, os.WriteFile(path, []byte("// ferrule: name=a version=1 fn=a-b\n"), 0o600))
	_, stderr, code := ferrule(t, "", "call", path)
	assert.Equal(t, 3, code)
	assert.Contains(t, stderr, `line 1: fn="a-b"`)
}

// TestCallScriptThatDoesNotReturn: its engine ends it, and says so; nothing is recommended that would change nothing.
func TestCallScriptThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "endless.js")
	require.NoError(t, os.WriteFile(path, []byte("// ferrule: name=endless version=1.0.0 fn=join\nexport function join() { return new Array(2**29).join(\"abc\").length }\n"), 0o666))
	_, stderr, code := ferrule(t, "", "call", "--timeout", "1s", "--in", "", path, "join")
	assert.Equal(t, exitCrashed, code)
	assert.Contains(t, stderr, "it was ended")
	assert.NotContains(t, stderr, "--isolated")
}

// TestCallScripts: a script is called as a library is, in both languages with the same results.
func TestCallScripts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stdin string
		args  []string // FILE is the plug-in
		code  int
		want  string // what is in the standard output, all of it where it begins with =
		says  string // and what is in the standard error
	}{
		"a list":              {"", []string{"FILE"}, 0, "ferrule call FILE before_checkout --in '{}' --answer loyalty_points=TEXT", ""},
		"JSON":                {"", []string{"--answer", "loyalty_points=120", "FILE", "before_checkout", "--in", `{"customer":"ada"}`}, 0, `={"percent":10}`, ""},
		"an import's command": {"", []string{"--import", "loyalty_points=wc -c", "FILE", "before_checkout", "--in", `{"customer":"ada"}`}, 0, `={"percent":5}`, ""},
		"an import's failure": {"", []string{"--import", "loyalty_points=echo broken >&2; exit 1", "FILE", "before_checkout", "--in", `{"customer":"ada"}`}, 1, "", "broken"},
		"no import":           {"", []string{"FILE", "before_checkout", "--in", "{}"}, 2, "", "--answer loyalty_points="},
		"no JSON":             {"", []string{"FILE", "before_checkout", "--in", "{"}, 1, "", "before_checkout: invalid input: "},
		"a text":              {"", []string{"FILE", "shout", "--in", "héllo"}, 0, "=HÉLLO", ""},
		"standard input":      {"from a pipe", []string{"FILE", "shout"}, 0, "=FROM A PIPE", ""},
		"bytes, as JSON":      {"", []string{"--json", "FILE", "bytes", "--in", ""}, 0, `"result": "/wA="`, ""},
		"a hook":              {"", []string{"--hook", "FILE", "cart", "--in", ""}, 0, "=hooked", ""},
		"a failure":           {"", []string{"--json", "FILE", "fails", "--in", "because"}, 1, `"status": 1234`, ""},
		"an error":            {"", []string{"FILE", "throws", "--in", ""}, 1, "", "shop."},
		"a pass":              {"", []string{"FILE", "passes", "--in", ""}, 5, "", "has nothing to say"},
		"without an end":      {"", []string{"--timeout", "3s", "FILE", "spins", "--in", ""}, 4, "", "out of time after 3s (--timeout)"},
		"settings":            {"", []string{"--config", `{"a":[1]}`, "FILE", "settles", "--in", ""}, 0, `={"a":[1]}`, ""},
		"lines":               {"", []string{"FILE", "says", "--in", ""}, 0, "=said", "level=WARN msg=\"a line\" plugin=shop key=v\nlevel=INFO msg=printed"},
		"a stream":            {strings.Repeat("to and fro ", 1000), []string{"FILE", "pipe"}, 0, "=" + strings.Repeat("to and fro ", 1000), "result: end"},
		"isolated":            {"", []string{"--isolated", "FILE", "shout", "--in", "x"}, 0, "=X", ""},
		"no function":         {"", []string{"FILE", "shuot", "--in", "x"}, 2, "", `Did you mean "shout"?`},
	} {
		for _, file := range []string{"shop.js", "shop.py"} {
			t.Run(name+", "+file, func(t *testing.T) {
				t.Parallel()
				path := scriptFile(t, file)
				args := []string{"call"}
				if !strings.Contains(strings.Join(c.args, " "), "loyalty_points") && name != "no import" && len(c.args) > 1 {
					args = append(args, "--answer", "loyalty_points=0")
				}
				for _, a := range c.args {
					args = append(args, strings.ReplaceAll(a, "FILE", path))
				}
				stdout, stderr, code := ferrule(t, c.stdin, args...)
				require.Equal(t, c.code, code, stdout+stderr)
				if want, all := strings.CutPrefix(c.want, "="); all {
					assert.Equal(t, want, stdout)
				} else {
					assert.Contains(t, strings.ReplaceAll(stdout, path, "FILE"), want)
				}
				assert.Contains(t, stderr, c.says)
			})
		}
	}
}

// TestScriptErrors: what a script's interpreter says in several lines is printed so, indented, for people; in one line beside JSON.
func TestScriptErrors(t *testing.T) {
	t.Parallel()
	js := scriptFile(t, "bad.js", "// ferrule: name=bad version=1.0.0 fn=f\nexport const f = (x => x;\n")
	_, stderr, code := ferrule(t, "", "call", js, "f", "--in", "x")
	assert.Equal(t, exitOpen, code)
	assert.Contains(t, stderr, "SyntaxError: Unexpected token ';'\n      at bad.js:2:")
	_, stderr, _ = ferrule(t, "", "call", "--json", js, "f", "--in", "x")
	assert.Contains(t, stderr, `SyntaxError: Unexpected token ';'\n    at bad.js:2:`)
	py := scriptFile(t, "bad.py", "# ferrule: name=bad version=1.0.0 fn=f\ndef f(x): return (x\n")
	_, stderr, code = ferrule(t, "", "call", py, "f", "--in", "x")
	assert.Equal(t, exitOpen, code)
	assert.Contains(t, stderr, "line 2\n      def f(x): return (x\n                       ^\n  SyntaxError: ")
}

// TestScriptsInASandbox: a sandbox holds scripts, too; what one cannot have is said.
func TestScriptsInASandbox(t *testing.T) {
	t.Parallel()
	js := scriptFile(t, "shop.js")
	call := func(file string, args ...string) (string, string, int) {
		return ferrule(t, "", append(append([]string{"call", "--sandbox", "--answer", "loyalty_points=0"}, args...), file, "shout", "--in", "x")...)
	}
	stdout, stderr, code := call(js, "--memory", "64MiB")
	require.Zero(t, code, stderr)
	assert.Equal(t, "X", stdout)
	for _, args := range [][]string{{"--procs", "1"}, {"--allow-connect", "80"}, {"--allow-read", filepath.Dir(js)}, {"--allow-write", filepath.Dir(js)}} {
		_, stderr, code = call(js, args...)
		assert.Equal(t, 2, code, args)
		assert.Contains(t, stderr, args[0])
		assert.Contains(t, stderr, "a script in JavaScript")
	}
	if runtime.GOOS != "linux" {
		return // there is no sandbox for workers
	}
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "beside.py"), []byte("word = 'beside'\n"), 0o600))
	py := scriptFile(t, "reads.py", "# ferrule: name=reads version=1 fn=reads fn=word\nimport beside, decimal\ndef reads(path): return open(path).read()\ndef word(): return beside.word\n")
	require.NoError(t, os.Rename(py, filepath.Join(dir, "reads.py")))
	py = filepath.Join(dir, "reads.py")
	stdout, stderr, code = ferrule(t, "", "call", "--sandbox", py, "word", "--in", "")
	require.Zero(t, code, stderr)
	assert.Equal(t, "beside", stdout)
	_, stderr, code = ferrule(t, "", "call", "--sandbox", py, "reads", "--in", secret)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "PermissionError")
	stdout, stderr, code = ferrule(t, "", "call", "--sandbox", "--allow-read", secret, py, "reads", "--in", secret)
	require.Zero(t, code, stderr)
	assert.Equal(t, "secret", stdout)
}

// TestPythonIsBuiltOnce: the command builds what runs Python when it is first needed, and says so; where it cannot, it says what to install.
func TestPythonIsBuiltOnce(t *testing.T) {
	t.Parallel()
	py, cache := scriptFile(t, "shop.py"), t.TempDir()
	run := func(env ...string) (string, string, int) {
		cmd := exec.CommandContext(t.Context(), binary, "call", "--answer", "loyalty_points=0", py, "shout", "--in", "x")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Env = append(append(os.Environ(), "XDG_CACHE_HOME="+cache, "HOME="+cache), env...)
		_ = cmd.Run()
		return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	}
	tools := os.Getenv("PATH")
	if config, err := exec.LookPath("python3-config"); err == nil { // one that asks HOME who it is finds nothing there
		if out, err := exec.Command(config, "--exec-prefix").Output(); err == nil {
			tools = filepath.Join(strings.TrimSpace(string(out)), "bin") + string(os.PathListSeparator) + tools
		}
	}
	stdout, stderr, code := run("PATH=" + tools)
	require.Zero(t, code, stderr)
	assert.Equal(t, "X", stdout)
	assert.Contains(t, stderr, "ferrule: building what runs scripts in Python, for the first time, into "+cache)
	stdout, stderr, code = run("PATH=" + tools)
	require.Zero(t, code, stderr)
	assert.Equal(t, "X", stdout)
	assert.Empty(t, stderr)

	_, stderr, code = run("PYTHON_CONFIG=no-such-config")
	assert.Equal(t, 3, code)
	assert.Contains(t, stderr, "no-such-config")
	assert.Contains(t, stderr, "apt-get install gcc python3-dev")
	_, stderr, code = run("HOME=", "XDG_CACHE_HOME=")
	assert.Equal(t, 3, code)
	assert.Contains(t, stderr, "HOME is not set")
}

// TestJavaScriptIsCompiledOnce: what the interpreter is compiled to stays in the user's cache folder; it runs where there is none, too.
func TestJavaScriptIsCompiledOnce(t *testing.T) {
	t.Parallel()
	js, cache := scriptFile(t, "shop.js"), t.TempDir()
	var first []string
	for range 2 {
		cmd := exec.CommandContext(t.Context(), binary, "call", "--answer", "loyalty_points=0", js, "shout", "--in", "x")
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, "HOME="+cache, "LocalAppData="+cache)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Equal(t, "X", string(out))
		var found []string
		require.NoError(t, filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && strings.Contains(path, "compiled") {
				found = append(found, path)
			}
			return err
		}))
		if first == nil {
			first = found
		}
		require.NotEmpty(t, found)
		assert.Equal(t, first, found)
	}
	cmd := exec.CommandContext(t.Context(), binary, "call", "--answer", "loyalty_points=0", js, "shout", "--in", "x")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME=", "HOME=", "LocalAppData=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "X", string(out))
}

// TestBenchScripts: JavaScript is measured as a WebAssembly module is, Python as a library.
func TestBenchScripts(t *testing.T) {
	t.Parallel()
	for file, rows := range map[string][]string{"shop.js": {"module"}, "shop.py": {"in_process", "isolated"}} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			path := scriptFile(t, file)
			bench := func(args ...string) (string, string, int) {
				return ferrule(t, "", append([]string{"bench", path, "shout", "--in", "hello", "--answer", "loyalty_points=0", "--duration", "200ms"}, args...)...)
			}
			stdout, stderr, code := bench("--json")
			require.Zero(t, code, stderr)
			o := object(t, stdout)
			for _, row := range []string{"module", "in_process", "isolated"} {
				if !assert.Equal(t, strings.Contains(strings.Join(rows, " "), row), o[row] != nil, row) || o[row] == nil {
					continue
				}
				assert.Greater(t, o[row].(map[string]any)["ratio"], 0.0)
				assert.Greater(t, o[row].(map[string]any)["mean_ns"], 0.0)
			}
			assert.EqualValues(t, 5, o["output_bytes"])
			stdout, stderr, code = bench("--sandbox", "--parallel", "2")
			if runtime.GOOS == "linux" || file == "shop.js" {
				require.Zero(t, code, stderr)
				assert.NotContains(t, stdout, "in-process")
			}
			_, stderr, code = ferrule(t, "", "bench", path, "fails", "--in", "why", "--answer", "loyalty_points=0", "--duration", "200ms")
			assert.Equal(t, 1, code)
			assert.Contains(t, stderr, "why")
		})
	}
}

// TestScriptsOfASystem: scripts with a header in a folder of config.yaml are listed, described and found well, for any platform; others there are no plug-ins.
func TestScriptsOfASystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Mkdir(at("plugins"), 0o700))
	for name, text := range map[string]string{"plugins/a.js": "// ferrule: name=paws version=1.0.0 fn=f\nexport const f = (x) => x;\n", "plugins/b.py": "# ferrule: name=snake version=2.0.0 fn=f\ndef f(x): return x\n",
		"plugins/plain.js": "export const f = 1;\n", "plugins/plain.py": "f = 1\n", "config.yaml": "folders: [plugins]\nplugins: [paws, snake]\n"} {
		require.NoError(t, os.WriteFile(at(name), []byte(text), 0o600))
	}
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := ferrule(t, "", append(args, "--config", at("config.yaml"), "--store", at("store"))...)
		require.Zero(t, code, stdout+stderr)
		return stdout + stderr
	}
	list := run("list")
	assert.Regexp(t, `paws +1\.0\.0 +ready .*a\.js`, list)
	assert.Regexp(t, `snake +2\.0\.0 +ready .*b\.py`, list)
	assert.NotContains(t, list, "plain")
	assert.NotContains(t, list, "no engine")
	for _, name := range []string{"paws", "snake"} {
		assert.Regexp(t, `platform +any`, run("info", name))
	}
	if runtime.GOOS == "windows" {
		return
	}
	cmd := exec.CommandContext(t.Context(), binary, "doctor", "--config", at("config.yaml"), "--store", at("store"))
	cmd.Env = append(os.Environ(), "PYTHON_CONFIG=no-such-config")
	out, err := cmd.CombinedOutput()
	assert.Error(t, err, "what is doubtful is an exit code")
	assert.Contains(t, string(out), "doubtful: snake")
	assert.Contains(t, string(out), "apt-get install gcc python3-dev")
	needPython(t)
	assert.Contains(t, run("doctor"), "All is well with ")
}

// TestPermitsOfPython: what an entry permits or isolates keeps no script in Python from being ready, though what runs it is not known here; and it is held to it.
func TestPermitsOfPython(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	at := func(name string) string { return filepath.ToSlash(filepath.Join(dir, name)) }
	require.NoError(t, os.Mkdir(at("plugins"), 0o700))
	require.NoError(t, os.WriteFile(at("plugins/a.py"), []byte("# ferrule: name=plain version=1.0.0 fn=f\ndef f(x): return x\n"), 0o600))
	require.NoError(t, os.WriteFile(at("plugins/b.py"), []byte("# ferrule: name=reads version=1.0.0 permit.read="+dir+" fn=f\ndef f(x): return x\n"), 0o600))
	for _, entry := range []string{"name: plain", "name: plain, permit: {}", "name: plain, isolate: true", "name: plain, isolate: {memory: 64MiB}",
		"name: plain, isolate: {sandbox: none}", "name: reads, permit: {read: ['" + dir + "']}"} {
		require.NoError(t, os.WriteFile(at("config.yaml"), []byte("folders: [plugins]\nplugins: [{"+entry+"}]\n"), 0o600))
		name, _, _ := strings.Cut(strings.TrimPrefix(entry, "name: "), ",")
		for _, verb := range []string{"list", "info " + name} {
			stdout, stderr, code := ferrule(t, "", append(strings.Fields(verb), "--config", at("config.yaml"), "--store", at("store"))...)
			assert.Zero(t, code, entry+stdout+stderr)
			assert.Regexp(t, name+` .*ready|state +ready`, stdout, entry)
			assert.Contains(t, stdout, "isolated", entry)
			assert.NotContains(t, stdout, "declared only", entry)
		}
		stdout, _, _ := ferrule(t, "", "doctor", "--config", at("config.yaml"), "--store", at("store"))
		assert.NotContains(t, stdout, "wrong: ", entry)
		assert.NotContains(t, stdout, "declared only", entry)
	}
}

// TestServeScripts: a script is served as a library is: by the wire it is what it is here, imports and streams among it.
func TestServeScripts(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"shop.js", "shop.py"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			path := scriptFile(t, file)
			stdout, stderr, code := ferrule(t, "", "call", "--sidecar", "--answer", "loyalty_points=120", binary, "before_checkout", "--in", `{"customer":"ada"}`, "--", "serve", "--stdio", path)
			require.Zero(t, code, stderr)
			assert.Equal(t, `{"percent":10}`, stdout)
			stdout, stderr, code = ferrule(t, "to and fro", "call", "--sidecar", "--answer", "loyalty_points=0", binary, "pipe", "--", "serve", "--stdio", path)
			require.Zero(t, code, stderr)
			assert.Equal(t, "to and fro", stdout)
		})
	}
}

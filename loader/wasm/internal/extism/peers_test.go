package extism_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/extism"
)

// call is one call of a function.
type call struct{ Fn, In string }

// outcome is what a call came to. Fatal says that it was ended, and not by the plug-in's own error.
type outcome struct {
	Out     string
	Code    int32
	Message string
	Fatal   bool
}

// plugin is one that runs on all hosts.
type plugin struct {
	path   string
	config map[string]string
	hosts  []string // to which requests may go
	folder string   // which the plug-in has as /mnt
	vars   int64    // as Offer.Vars; -1 refuses all
}

// offered are the host functions of the tests, by their ordinals.
var offered = []string{"shout", "tell", "hostGreenMessage", "hostPurpleMessage"}

// answer is what the host function with this name says.
func answer(name, in string) string {
	switch name {
	case "shout":
		return strings.ToUpper(in)
	case "hostGreenMessage":
		return "\U0001f7e2" + in
	case "hostPurpleMessage":
		return "\U0001f7e3" + in
	}
	return in
}

// ears is the host of an instance: it keeps what it is told.
type ears struct{ heard []string }

func (e *ears) Call(_ context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	if offered[ordinal] == "tell" {
		e.heard = append(e.heard, "tell "+string(in))
	}
	return []byte(answer(offered[ordinal], string(in))), abi.StatusOK
}

func (e *ears) Log(_ context.Context, level abi.Level, text []byte) {
	e.heard = append(e.heard, fmt.Sprint(level)+" "+string(text))
}

func (e *ears) Context() context.Context { return context.Background() }

// opened opens a plug-in on this repository's host.
func opened(t testing.TB, p plugin, level abi.Level) (*extism.Instance, *ears, error) {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = rt.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	module, err := os.ReadFile(p.path)
	require.NoError(t, err)
	offer := &extism.Offer{Config: p.config, Level: level, Vars: p.vars}
	if p.hosts != nil {
		offer.HTTP = &extism.HTTP{Hosts: p.hosts, Headers: true}
	}
	code, err := extism.Compile(ctx, rt, rt.CompileModule, module, offered, offer)
	if err != nil {
		return nil, nil, err
	}
	e := &ears{}
	in, err := code.Instantiate(ctx, moduleConfig(p), e, func(api.Module) error { return nil },
		func(f api.Function, stack []uint64) error { return f.CallWithStack(ctx, stack) })
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { in.Close(ctx) })
	return in, e, nil
}

func moduleConfig(p plugin) wazero.ModuleConfig {
	config := wazero.NewModuleConfig()
	if p.folder != "" {
		config = config.WithFSConfig(wazero.NewFSConfig().WithDirMount(p.folder, "/mnt"))
	}
	return config
}

// ours runs calls, one after the other in one instance.
func ours(t testing.TB, p plugin, calls []call) (all []outcome, heard []string) {
	t.Helper()
	in, e, err := opened(t, p, abi.LogTrace)
	require.NoError(t, err)
	for _, c := range calls {
		f := in.Function(c.Fn)
		require.NotNil(t, f, c.Fn)
		out, err := in.Append(f, nil, []byte(c.In))
		o := outcome{Out: string(out)}
		if failed, ok := errors.AsType[*extism.Failed](err); ok {
			o.Code, o.Message = failed.Code, failed.Message
		} else if exited, ok := errors.AsType[*extism.Exited](err); ok {
			o.Code, o.Fatal = int32(exited.Code), true
		} else if err != nil {
			o.Fatal = true
		}
		all = append(all, o)
	}
	return all, e.heard
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "extism")
	if err != nil {
		panic(err)
	}
	builds = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// theirs runs calls on Extism's Go SDK, by the program in peers.
func theirs(t testing.TB, p plugin, calls []call) (all []outcome, heard []string) {
	t.Helper()
	answer := ask(t, job{Path: p.path, Config: p.config, Hosts: p.hosts, Folder: p.folder, Vars: p.vars, Calls: calls})
	return answer.All, answer.Heard
}

// job is what the program in peers is asked for.
type job struct {
	Path   string
	Config map[string]string
	Hosts  []string
	Folder string
	Vars   int64
	Calls  []call
	Rounds int // how often the calls are made, for their time
}

// said is what it answers.
type said struct {
	All   []outcome
	Heard []string
	Nanos int64 // of all rounds
}

// builds is where the program is while the tests run.
var builds string

// program builds it, once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(builds, "peers.exe") // a name for all systems
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "peers"
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func ask(t testing.TB, j job) (answer said) {
	t.Helper()
	path, err := program()
	require.NoError(t, err)
	text, err := json.Marshal(j)
	require.NoError(t, err)
	run := exec.Command(path)
	run.Stdin = bytes.NewReader(text)
	var words bytes.Buffer
	run.Stderr = &words
	out, err := run.Output()
	require.NoError(t, err, "%s", words.String())
	require.NoError(t, json.Unmarshal(out, &answer))
	return answer
}

// refused are the files that this host does not open, with what it says about each, and why that is so.
var refused = map[string]struct{ module, name, why string }{
	"host.wasm":           {"extism:host/user", "mult", "takes two numbers: a host function of Ferrule's carries bytes"},
	"host_memory.wasm":    {"host", "to_upper", "imports from a namespace of the application's own"},
	"main.wasm":           {"lib", "capitalize", "is one of two linked modules: a plug-in is one file"},
	"nested.c.instr.wasm": {"dylibso_observe", "instrument_enter", "is instrumented for a tracer, which has to be there"},
}

// TestExtismFiles has every file that Extism tests its Go SDK with do the same here, or be refused for the reason in the table.
func TestExtismFiles(t *testing.T) {
	pythonOf(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Test", "yes")
		w.Header()["Date"] = nil
		_, _ = fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
	}))
	defer server.Close()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "test.txt"), []byte("from a file"), 0o600))
	const run = "run_test"
	cases := map[string]struct {
		plugin
		calls []call
	}{
		"alloc.wasm":            {calls: []call{{run, ""}}},
		"config.wasm":           {plugin: plugin{config: map[string]string{"thing": "hello"}}, calls: []call{{run, ""}, {run, ""}}},
		"count_vowels.wasm":     {calls: []call{{"count_vowels", "hello world"}, {"count_vowels", ""}, {"count_vowels", strings.Repeat("ae b", 70_000)}}},
		"count_vowels_std.wasm": {calls: []call{{"_start", "hello"}}},
		"exit.wasm":             {plugin: plugin{config: map[string]string{"code": "2"}}, calls: []call{{"_start", ""}, {"_start", ""}}},
		"fail.wasm":             {calls: []call{{run, ""}, {run, ""}}},
		"fs.wasm":               {plugin: plugin{folder: folder}, calls: []call{{run, ""}, {run, ""}}},
		"fs_std.wasm":           {plugin: plugin{folder: folder}, calls: []call{{run, ""}}},
		"hello.wasm":            {calls: []call{{run, ""}, {run, "more"}}},
		"hello_haskell.wasm":    {plugin: plugin{config: map[string]string{"greeting": "Howdy"}}, calls: []call{{"testing", "John"}, {"testing", "Ann"}}},
		"host_multiple.wasm":    {calls: []call{{"say_green", "John"}, {"say_purple", "John"}}},
		"http.wasm":             {calls: []call{{run, ""}}}, // to the internet: refused
		"http_headers.wasm": {plugin: plugin{hosts: []string{"127.*"}}, calls: []call{
			{"http_get", `{"url":"` + server.URL + `/a","method":"get"}`}, {"http_get", `{"url":"http://localhost:1/","method":"get"}`}}},
		"input_offset.wasm": {calls: []call{{"input_offset_length", "hello world"}, {"input_offset_length", ""}}},
		"lib.wasm":          {calls: []call{{"_start", ""}}},
		"log.wasm":          {calls: []call{{run, ""}}},
		"noop.wasm":         {calls: []call{{run, ""}, {run, "x"}}},
		"println.wasm":      {calls: []call{{run, "aloud"}}},
		"read_write.wasm":   {calls: []call{{"try_read", ""}, {"try_write", "hello"}}},
		"replace.wasm":      {calls: []call{{run, "Frodo"}, {run, "not"}}},
		"sleep.wasm":        {plugin: plugin{config: map[string]string{"duration": "0"}}, calls: []call{{run, ""}}},
		"std_command.wasm":  {calls: []call{{"_start", "ben"}, {"_start", "ben"}}},
		"var.wasm":          {calls: []call{{run, ""}, {run, ""}, {run, ""}}},
	}
	all, err := filepath.Glob(filepath.Join(fixture.Extism(t), "*.wasm"))
	require.NoError(t, err)
	require.Len(t, all, len(cases)+len(refused), "the files and those that the test knows")
	for _, path := range all {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			if no, ok := refused[name]; ok {
				_, _, err := opened(t, plugin{path: path}, 0)
				missing, ok := errors.AsType[*extism.ImportError](err)
				require.True(t, ok, "%v, of a file that %s", err, no.why)
				assert.Equal(t, [2]string{no.module, no.name}, [2]string{missing.Module, missing.Name})
				return
			}
			c, ok := cases[name]
			require.True(t, ok, "no case")
			c.path = path
			same(t, c.plugin, c.calls)
		})
	}
}

// TestKernel has the kernel be the one that Extism's Go SDK has.
func TestKernel(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(fixture.Extism(t), "..", "extism-runtime.wasm"))
	require.NoError(t, err)
	got, err := os.ReadFile("kernel.wasm")
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// same runs calls on both hosts.
func same(t *testing.T, p plugin, calls []call) []outcome {
	t.Helper()
	want, wantHeard := theirs(t, p, calls)
	got, heard := ours(t, p, calls)
	assert.Equal(t, want, got)
	assert.Equal(t, wantHeard, heard, "what the host was told")
	return got
}

// pdk builds the plug-in that uses what Extism's Rust PDK has, and returns its path.
func pdk(t testing.TB) string {
	t.Helper()
	target, err := filepath.Abs("peers/testdata/pdk/target")
	require.NoError(t, err)
	build := exec.Command("cargo", "build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip1")
	build.Dir = "peers/testdata/pdk"
	build.Env = append(os.Environ(), "CARGO_TARGET_DIR="+target)
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return filepath.Join(target, "wasm32-wasip1", "release", "pdk.wasm")
}

// pdkCalls are some for each function of that plug-in.
var pdkCalls = []call{{"echo", ""}, {"echo", "hello\x00there"}, {"greet", "Ann"}, {"count", ""}, {"count", ""}, {"keep", "some"}, {"forget", ""},
	{"say", "it"}, {"refuse", "that"}, {"ask", "what"}, {"add", `{"items":["milk"],"total":2}`}, {"add", "no JSON"},
	{"count_vowels", "Hello there"}, {"echo", "still there"}}

// TestExtismRust has a plug-in of the crate extism-pdk do the same on both hosts, each of its functions.
func TestExtismRust(t *testing.T) {
	pythonOf(t)
	p := plugin{path: pdk(t), config: map[string]string{"greeting": "Good day"}}
	got := same(t, p, pdkCalls)
	assert.Equal(t, "Good day, Ann", got[2].Out)
	assert.Equal(t, outcome{Code: 7, Message: "no: that"}, got[8])
	assert.Equal(t, "WHAT", got[9].Out)
	same(t, p, []call{{"trap", ""}})
	same(t, p, []call{{"keep", strings.Repeat("v", 1<<20)}})
	p.vars = 200
	for _, n := range []int{155, 156, 157} { // about a limit of 200, of which 40 and the name are the variable's own
		same(t, p, []call{{"keep", strings.Repeat("v", n-1)}})
	}
	same(t, p, []call{{"keep", strings.Repeat("v", 70)}, {"keep", strings.Repeat("v", 70)}, {"keep", strings.Repeat("v", 100)}})
	p.vars = -1
	same(t, p, []call{{"count", ""}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("served")) }))
	defer server.Close()
	p.vars, p.hosts = 0, []string{"127.0.0.1"}
	assert.Equal(t, "served", same(t, p, []call{{"fetch", server.URL}})[0].Out)
	p.hosts = nil
	assert.True(t, same(t, p, []call{{"fetch", server.URL}})[0].Fatal)
}

// script runs calls on Extism's Python SDK.
const script = `
import sys, json, extism
@extism.host_fn(name="shout")
def shout(text: str) -> str: return text.upper()
@extism.host_fn(name="tell")
def tell(text: str): pass
job = json.load(sys.stdin)
p = extism.Plugin({"wasm": [{"path": job["path"]}], "config": job["config"]}, wasi=True, functions=[shout, tell])
out = []
for c in job["calls"]:
    try: out.append({"Out": bytes(p.call(c["Fn"], c["In"].encode())).decode(), "Failed": False})
    except extism.Error as e: out.append({"Out": "", "Failed": True})
json.dump(out, sys.stdout)
`

// pythonOf returns what is to be a Python with the package extism 1.1.1, and skips the test where none is named: what takes long because it fetches Extism's own
// hosts is run by make wasm, which names one.
func pythonOf(t *testing.T) string {
	t.Helper()
	python := os.Getenv("FERRULE_EXTISM")
	if python == "" {
		t.Skip("it takes long, and fetches Extism's own hosts: make wasm")
	}
	return python
}

// TestExtismPython compares with Extism's own runtime, through the Python package extism 1.1.1, where FERRULE_EXTISM names a Python that has it.
func TestExtismPython(t *testing.T) {
	python := pythonOf(t)
	if out, err := exec.Command(python, "-c", "import extism").CombinedOutput(); err != nil {
		t.Skipf("the Python package extism 1.1.1 is not to be had: %v: %s", err, out)
	}
	wasm := fixture.Extism(t)
	for _, c := range []struct {
		path   string
		config map[string]string
		calls  []call
	}{
		{pdk(t), map[string]string{"greeting": "Good day"}, pdkCalls},
		{filepath.Join(wasm, "count_vowels.wasm"), nil, []call{{"count_vowels", "hello"}, {"count_vowels", ""}}},
		{filepath.Join(wasm, "config.wasm"), map[string]string{"thing": "hello"}, []call{{"run_test", ""}}},
		{filepath.Join(wasm, "var.wasm"), nil, []call{{"run_test", ""}, {"run_test", ""}}},
		{filepath.Join(wasm, "hello_haskell.wasm"), map[string]string{"greeting": "Howdy"}, []call{{"testing", "John"}}},
		{filepath.Join(wasm, "fail.wasm"), nil, []call{{"run_test", ""}}},
		{filepath.Join(wasm, "replace.wasm"), nil, []call{{"run_test", "Frodo"}}},
		{filepath.Join(wasm, "input_offset.wasm"), nil, []call{{"input_offset_length", "hello"}}},
	} {
		t.Run(filepath.Base(c.path), func(t *testing.T) {
			config := c.config
			if config == nil {
				config = map[string]string{}
			}
			text, err := json.Marshal(map[string]any{"path": c.path, "config": config, "calls": c.calls})
			require.NoError(t, err)
			run := exec.Command(python, "-c", script)
			run.Stdin = bytes.NewReader(text)
			run.Stderr = os.Stderr
			text, err = run.Output()
			require.NoError(t, err)
			type result struct {
				Out    string
				Failed bool
			}
			var want, got []result
			require.NoError(t, json.Unmarshal(text, &want))
			outcomes, _ := ours(t, plugin{path: c.path, config: c.config}, c.calls)
			for _, o := range outcomes {
				s := result{Out: o.Out, Failed: o.Fatal || o.Code != 0 || o.Message != ""}
				if s.Failed {
					s.Out = ""
				}
				got = append(got, s)
			}
			assert.Equal(t, want, got)
		})
	}
}

// Benchmark runs calls on both hosts: go test -bench . -run '^$'
func Benchmark(b *testing.B) {
	wasm, rust := fixture.Extism(b), pdk(b)
	for _, c := range []struct {
		name, path, fn string
		size           int
	}{
		{"noop", filepath.Join(wasm, "noop.wasm"), "run_test", 0},
		{"count_vowels/64B", filepath.Join(wasm, "count_vowels.wasm"), "count_vowels", 64},
		{"echo/64B", rust, "echo", 64},
		{"ask/64B", rust, "ask", 64},
		{"echo/64KiB", rust, "echo", 64 << 10},
		{"echo/1MiB", rust, "echo", 1 << 20},
	} {
		input := slices.Repeat([]byte("a"), c.size)
		b.Run(c.name+"/ferrule", func(b *testing.B) {
			in, _, err := opened(b, plugin{path: c.path}, 0)
			require.NoError(b, err)
			f := in.Function(c.fn)
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				if out, err = in.Append(f, out[:0], input); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/go-sdk", func(b *testing.B) {
			rounds := min(1000, 20<<20/(len(input)+1)) // by itself: a program's start is not to be measured
			answer := ask(b, job{Path: c.path, Calls: []call{{c.fn, string(input)}}, Rounds: rounds})
			b.ReportMetric(float64(answer.Nanos)/float64(rounds), "ns/op")
		})
	}
}

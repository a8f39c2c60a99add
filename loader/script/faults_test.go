package script_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// write makes a script of this text, with what it is called, in a folder of its own.
func write(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	require.NoError(tb, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// opened opens a script of this text.
func opened(tb testing.TB, e engine.Engine, name, text string, opts ...loader.Option) *loader.Plugin {
	tb.Helper()
	p, err := loader.Open(write(tb, name, text), append([]loader.Option{loader.WithEngine(e)}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, p.Close()) })
	return p
}

// well checks that a plug-in works, by its function well.
func well(tb testing.TB, p *loader.Plugin, why ...any) {
	tb.Helper()
	out, err := p.Call(tb.Context(), "well", []byte("7"))
	if assert.NoError(tb, err, why...) {
		assert.Equal(tb, "7!", string(out), why...)
	}
}

func compiled() wasm.Option {
	return wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))
}

// javascripts are the ways to run JavaScript, with 64 MiB of memory.
func javascripts(tb testing.TB) map[string]engine.Engine {
	tb.Helper()
	library := fixture.JavaScriptAdapter(tb)
	return map[string]engine.Engine{
		"wasm":    script.Engine(script.WithWasm(compiled(), wasm.WithMemory(64<<20))),
		"library": script.Engine(script.WithMemory(64<<20), script.WithAdapter(library, loader.Native())),
		"worker":  script.Engine(script.WithMemory(64<<20), script.WithAdapter(library, isolate.Engine())),
	}
}

// bomb is a function that does harm.
type bomb struct {
	name, body string // in JavaScript
	is         error  // what its call fails with; nil is ErrFailed, or ErrNoMemory
	says       string
}

// errEndless is that of those that only their context ends.
var errEndless = errors.New("endless")

var bombs = []bomb{
	// Memory, in many shapes.
	{name: "texts", body: `let s = "x"; for (;;) s += s;`},
	{name: "ropes", body: `let s = "é", all = []; for (;;) { s = s + "é" + s.slice(0, 1000); all.push(s); }`},
	{name: "lists", body: `const a = []; for (;;) a.push([a]);`},
	{name: "filled", body: `return new Array(2 ** 28).fill(0).length;`},
	{name: "spread", body: `const a = new Array(2 ** 24).fill(1); return Math.max(...a, ...a);`},
	{name: "arrays", body: `const all = []; for (;;) all.push(new Float64Array(1 << 16).fill(1));`},
	{name: "huge", body: `return new Uint8Array(2 ** 32);`},
	{name: "repeats", body: `return "ab".repeat(2 ** 29);`},
	{name: "maps", body: `const m = new Map(); for (let i = 0; ; i++) m.set({ i }, String(i));`},
	{name: "closures", body: `let f = () => 1; for (;;) { const g = f; f = () => g; f.x = new Uint8Array(1000); }`},
	{name: "symbols", body: `const a = []; for (let i = 0; ; i++) a.push(Symbol(String(i)));`},
	{name: "expressions", body: `const a = []; for (let i = 0; ; i++) a.push(new RegExp("(a" + i + "){1,100}"));`},
	{name: "classes", body: `const a = []; for (;;) a.push(class { x = 1; m() {} });`},
	{name: "result", body: `return "x".repeat(100 << 20);`},
	{name: "resultJSON", body: `const s = "\u0001".repeat(16 << 20); return [s];`},
	{name: "evaluated", body: `return eval("1" + "+1".repeat(4 << 20));`},
	{name: "promises", body: `const all = []; for (;;) all.push(Promise.resolve().then(() => all));`},
	// Depth.
	{name: "deep", body: `const f = () => f() + 1; return f();`, says: "RangeError"},
	{name: "parsed", body: `return JSON.parse("[".repeat(1 << 20)).length;`},
	{name: "stringified", body: `let a = []; for (let i = 0; i < 1 << 16; i++) a = [a]; return a;`},
	{name: "getters", body: `const o = { get x() { return this.x; } }; return o.x;`, says: "RangeError"},
	{name: "proxies", body: `const p = new Proxy({}, { get: (t, k) => p[k] }); return p.x;`, says: "RangeError"},
	{name: "proxiesOfProxies", body: `let p = {}; for (let i = 0; i < 1 << 15; i++) p = new Proxy(p, {}); return String(p.x);`},
	{name: "sources", body: `return eval("(".repeat(1 << 15) + "1" + ")".repeat(1 << 15));`},
	{name: "nestedGroups", body: `return new RegExp("(".repeat(1 << 15) + ")".repeat(1 << 15)).test("");`},
	{name: "bound", body: `let f = () => 1; for (let i = 0; i < 1 << 15; i++) f = f.bind(null); return f();`},
	{name: "flattened", body: `let a = []; for (let i = 0; i < 1 << 15; i++) a = [a]; return a.flat(Infinity);`},
	{name: "async", body: `const f = async () => f(); return f();`, says: "RangeError"},
	{name: "asyncThatWaits", body: `const f = async () => { const a = f(); await a; return a; }; return f();`, says: "RangeError"},
	{name: "asyncGenerators", body: `async function* f() { yield* f(); } return f().next();`, says: "RangeError"},
	{name: "asyncMemory", body: `const all = [], f = async () => { all.push(new Uint8Array(1000)); await null; return f(); }; return Promise.all([f(), f()]);`},
	// Time.
	{name: "loops", body: `for (;;);`, is: errEndless},
	{name: "backtracks", body: `return /^(a+)+$/.test("a".repeat(64) + "b");`, is: errEndless},
	{name: "chains", body: `const f = () => { Promise.resolve().then(f); }; f(); return new Promise(() => {});`, is: errEndless},
	{name: "awaits", body: `return (async () => { for (;;) await null; })();`, is: errEndless},
	{name: "catches", body: `for (;;) try { for (;;); } catch {} finally { continue; }`, is: errEndless},
	{name: "generates", body: `return [...(function* () { for (;;); })()];`, is: errEndless},
	{name: "sorts", body: `return [3, 2, 1].sort(() => { for (;;); });`, is: errEndless},
	{name: "loopsInToJSON", body: `return { toJSON() { for (;;); } };`, is: errEndless},
	{name: "loopsInToString", body: `throw { toJSON() { for (;;); } };`, is: errEndless},
	{name: "loopsInStack", body: `throw Object.defineProperty(new Error("x"), "stack", { get() { for (;;); } });`, is: errEndless},
	{name: "loopsInThen", body: `return { then() { for (;;); } }.then();`, is: errEndless},
	{name: "loopsInProxy", body: `throw new Proxy(new Error("x"), { getPrototypeOf() { for (;;); } });`, is: errEndless},
	// Results that are none.
	{name: "symbol", body: `return Symbol("x");`, says: "a function or a symbol is no result"},
	{name: "function", body: `return () => 1;`, says: "a function or a symbol is no result"},
	{name: "integer", body: `return 10n;`, says: "TypeError"},
	{name: "cycle", body: `const a = {}; a.a = a; return a;`, says: "TypeError"},
	{name: "toJSON", body: `return { toJSON() { throw new Error("in toJSON"); } };`, says: "in toJSON"},
	{name: "getter", body: `return { get x() { throw new Error("in a getter"); } };`, says: "in a getter"},
	{name: "proxy", body: `return new Proxy({}, { ownKeys() { throw new Error("in ownKeys"); } });`, says: "in ownKeys"},
	{name: "proxyOfFunction", body: `return new Proxy(() => 1, {});`, says: "a function or a symbol is no result"},
	{name: "revoked", body: `const r = Proxy.revocable({}, {}); r.revoke(); return r.proxy;`, says: "TypeError"},
	{name: "detached", body: `const a = new Uint8Array(8); a.buffer.transfer(); return a;`},
	{name: "detachedView", body: `const b = new ArrayBuffer(8), v = new DataView(b); b.transfer(); return v;`},
	// What is thrown.
	{name: "throwsUndefined", body: `throw undefined;`, says: "found undefined thrown, which is no Error"},
	{name: "throwsNull", body: `throw null;`, says: "found null thrown"},
	{name: "throwsNumber", body: `throw 17;`, says: "found 17 thrown"},
	{name: "throwsSymbol", body: `throw Symbol("s");`, says: "found Symbol(s) thrown"},
	{name: "throwsFunction", body: `throw function named() {};`, says: "found [function named] thrown"},
	{name: "throwsObject", body: `throw { a: 1 };`, says: `found {"a":1} thrown`},
	{name: "throwsCycle", body: `const o = {}; o.o = o; throw o;`, says: "found [object Object] thrown"},
	{name: "throwsBare", body: `throw Object.create(null);`, says: "found {} thrown"},
	{name: "throwsToString", body: `throw { toJSON() { throw 1; }, get [Symbol.toStringTag]() { throw 2; }, toString() { throw 3; } };`, says: "its error cannot be shown"},
	{name: "throwsProxy", body: `throw new Proxy(new Error("behind"), { get() { throw new Error("no"); } });`, says: "failed"},
	{name: "throwsNames", body: `throw Object.defineProperty(new Error("x"), "name", { get() { throw new Error("no"); } });`, says: "failed"},
	{name: "throwsStack", body: `throw Object.defineProperty(new Error("has no stack"), "stack", { get() { return { not: "a text" }; } });`, says: "Error: has no stack"},
	{name: "throwsCauses", body: `const a = new Error("one"), b = new Error("two", { cause: a }); a.cause = b; throw a;`, says: "caused by Error: two"},
	{name: "throwsMany", body: `const a = new AggregateError([1], "many"); a.errors.push(a); throw a;`, says: "many"},
	{name: "throwsItsOwn", body: `class E extends Error { get message() { return this.message2 ?? "own"; } } throw new E();`, says: "own"},
	{name: "rejects", body: `return Promise.reject();`, says: "found undefined thrown"},
	{name: "rejectsThenable", body: `return Promise.resolve({ then() { throw new Error("in then"); } });`, says: "in then"},
	{name: "failureStatus", body: `const f = new Failure(1001, "changed"); f.status = { valueOf() { throw 1; } }; throw f;`, says: "changed"},
	{name: "failurePass", body: `throw new Failure(9, "no pass");`, says: "no pass"},
	{name: "failureMore", body: `throw new Failure(8, "no more");`, says: "no more"},
	{name: "failureZero", body: `const f = new Failure(1001, "none"); f.status = 0; throw f;`, says: "none"},
	{name: "failureLarge", body: `throw new Failure(2 ** 32, "large");`, says: "found the status 4294967296"},
	{name: "failureAndLost", body: `Promise.reject(new Error("the other")); throw new Error("the one");`, says: "the one"},
}

// bombScript has one, which does what a bomb does by its name, and well.
func bombScript() string {
	var b strings.Builder
	b.WriteString("// ferrule: name=bombs version=1.0.0 fn=well fn=one import=double\n")
	b.WriteString("import { Failure, host, log, pass, settings } from \"ferrule\";\nexport const well = (x) => host.double(x)[0] + \"!\";\nconst bombs = {\n")
	for _, c := range bombs {
		fmt.Fprintf(&b, "%s: () => { %s },\n", c.name, c.body)
	}
	b.WriteString("};\nexport const one = (name) => bombs[name]();\n")
	return b.String()
}

// Whatever a script does, it is an error of its call; the instance works after it, and so do those beside it.
func TestBombs(t *testing.T) {
	for name, e := range javascripts(t) {
		t.Run(name, func(t *testing.T) {
			p := opened(t, e, "bombs.js", bombScript(), loader.WithHostFunc("double", double))
			beside := opened(t, e, "beside.js", "// ferrule: name=beside version=1 fn=well\nlet n = 0;\nexport const well = (x) => (n++, x + \"!\");\n")
			for _, c := range bombs {
				t.Run(c.name, func(t *testing.T) {
					ctx := t.Context()
					if c.is == errEndless {
						short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
						defer cancel()
						ctx = short
					}
					out, err := p.Call(ctx, "one", []byte(c.name))
					switch {
					case c.is == errEndless:
						assert.ErrorIs(t, err, context.DeadlineExceeded)
					case !errors.Is(err, loader.ErrFailed) && !errors.Is(err, loader.ErrNoMemory):
						assert.Fail(t, "it did not fail as it is to", "%.100q, %v", out, err)
					default:
						assert.ErrorContains(t, err, c.says)
						var crash *loader.CrashError
						assert.NotErrorAs(t, err, &crash)
					}
					well(t, p)
					well(t, beside)
				})
			}
		})
	}
}

// Fuel ends a call without a context's end, and nothing else of a script in WebAssembly.
func TestFuel(t *testing.T) {
	e := script.Engine(script.WithWasm(compiled(), wasm.WithFuel(5_000_000)))
	p := opened(t, e, "bombs.js", bombScript(), loader.WithHostFunc("double", double))
	for _, c := range bombs {
		if c.is != errEndless {
			continue
		}
		_, err := p.Call(t.Context(), "one", []byte(c.name))
		assert.ErrorContains(t, err, "used its fuel", c.name)
		well(t, p, c.name)
	}
}

// A script in WebAssembly has what JavaScript has and the module ferrule, and nothing of the system's.
func TestNothingElse(t *testing.T) {
	t.Setenv("FERRULE_TEST_SECRET", "secret")
	for name, e := range javascripts(t) {
		t.Run(name, func(t *testing.T) {
			p := opened(t, e, "reach.js", `// ferrule: name=reach version=1 fn=names out=json fn=tries
import * as ferrule from "ferrule";
export const names = () => [...Object.getOwnPropertyNames(globalThis).filter((n) => !/^[A-Z]|Error$/.test(n)), ...Object.keys(ferrule)].sort();
export async function tries(name) {
	return Object.keys(await import(name)).join();
}
`)
			out, err := p.Call(t.Context(), "names", nil)
			require.NoError(t, err)
			assert.NotContains(t, string(out), "secret")
			for _, absent := range []string{"process", "require", "fetch", "std", "os", "print", "scriptArgs", "setTimeout", "Deno"} {
				assert.NotContains(t, string(out), `"`+absent+`"`)
			}
			for _, c := range [][2]string{
				{"std", "found neither"}, {"os", "found neither"}, {"fs", "found neither"}, {"node:fs", "found neither"}, {"/etc/passwd", "found neither"}, {"file:///etc/passwd", "found neither"},
				{"http://127.0.0.1/x.js", "found neither"}, {"../../etc/passwd", "not beneath"}, {"./../x.js", "not beneath"}, {"./a/../../x.js", "not beneath"}, {"./", "cannot be read"},
				{"", "found neither"}, {"./" + strings.Repeat("x", 1<<16), "imports xxx"}, {"./" + strings.Repeat("x/", 1<<12), "imports x/x/"}, {"./none.js\x00.json", "imports none.js"},
				{"ferrule:primitives", "found neither"}, {"./ferrule:primitives", "imports ferrule:primitives"}, {"./ferrule", "imports ferrule"}, {"./ferrule/primitives", "imports ferrule/primitives"},
				{"/ferrule/primitives", "found neither"}, {".//ferrule/primitives", "imports ferrule/primitives"},
			} {
				out, err := p.Call(t.Context(), "tries", []byte(c[0]))
				assert.ErrorContains(t, err, c[1], "%.40q: %.100q", c[0], out)
			}
		})
	}
}

// A script that replaces what the module ferrule stands on harms itself alone.
func TestReplacedBuiltins(t *testing.T) {
	for name, e := range javascripts(t) {
		t.Run(name, func(t *testing.T) {
			text := `// ferrule: name=replaced version=1 fn=well fn=replaces fn=logs fn=throws import=double
import { host, log } from "ferrule";
export const well = (x) => host.double(x)[0] + "!";
export function replaces(name) {
	const evil = () => { throw new Error("replaced"); };
	const [owner, key] = name.split(" ");
	const at = owner.split(".").reduce((o, k) => o[k], globalThis);
	Object.defineProperty(at, key === "iterator" ? Symbol.iterator : key === "hasInstance" ? Symbol.hasInstance : key, { value: evil, writable: true, configurable: true });
}
export const logs = () => log.info("x", { a: { b: 1 } });
export const throws = () => { throw new Error("thrown"); };
`
			p := opened(t, e, "replaced.js", text, loader.WithHostFunc("double", double))
			for _, what := range []string{"Array.prototype map", "Array.prototype join", "Array.prototype iterator", "JSON stringify", "JSON parse", "Object entries", "Object.prototype toString", "Object.prototype then",
				"Object.prototype toJSON", "Object.prototype get", "Function.prototype call", "Promise.prototype then", "Promise resolve", "Error.prototype toString", "Error.prototype name",
				"Error prepareStackTrace", "String.prototype trimEnd", "Symbol iterator", "globalThis Error", "globalThis Uint8Array", "globalThis String", "Map.prototype get", "Number isInteger"} {
				s, err := p.NewSession(t.Context(), nil)
				require.NoError(t, err)
				_, err = s.Call(t.Context(), "replaces", []byte(what))
				assert.NoError(t, err, what)
				for _, fn := range []string{"well", "logs", "throws"} {
					_, err := s.Call(t.Context(), fn, []byte("7"))
					if err != nil || fn == "throws" {
						assert.ErrorIs(t, err, loader.ErrFailed, "%s, then %s", what, fn)
					}
				}
				require.NoError(t, s.Close(), what)
			}
			well(t, p)
		})
	}
}

// A worker that ends in a call is a *loader.CrashError of that call; the next one has a new worker.
func TestWorkerOfAScriptCrashes(t *testing.T) {
	var p *loader.Plugin
	p = opened(t, javascripts(t)["worker"], "bombs.js", bombScript(), loader.WithHostFunc("double", func(ctx context.Context, in []byte) ([]byte, error) {
		if string(in) == "kill" {
			where, _ := p.Isolation()
			worker, err := os.FindProcess(where.PID)
			if err == nil {
				err = worker.Kill()
			}
			return in, err
		}
		return double(ctx, in)
	}))
	_, err := p.Call(t.Context(), "well", []byte("kill"))
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, syscall.SIGKILL, crash.Signal)
	well(t, p)
}

// Files that are no scripts, or strange ones.
func TestStrangeScripts(t *testing.T) {
	for name, e := range javascripts(t) {
		t.Run(name, func(t *testing.T) {
			const header = "// ferrule: name=a version=1 fn=well\n"
			const fn = "export const well = (x) => x + \"!\";\n"
			for name, c := range map[string]struct {
				text string
				is   error // nil: it works
			}{
				"empty":             {"", loader.ErrManifest},
				"a header alone":    {"// ferrule: name=a version=1\n", nil},
				"no UTF-8":          {header + fn + "const s = \"\xff\xfe\";\n", loader.ErrStart},
				"no UTF-8 in words": {header + fn + "const \xff = 1;\n", loader.ErrStart},
				"a NUL":             {header + fn + "const s = \"a\x00b\"; // \x00\n", nil},
				"a NUL in words":    {header + fn + "const a\x00b = 1;\n", loader.ErrStart},
				"a BOM":             {"\ufeff" + header + fn, nil},
				"CRLF":              {strings.ReplaceAll(header+fn, "\n", "\r\n"), nil},
				"1 byte too much":   {header + fn + strings.Repeat("\n", 16<<20+1-len(header+fn)), loader.ErrMalformed},
				"just not too much": {header + fn + strings.Repeat("\n", 16<<20-len(header+fn)), nil},
				"deep":              {header + fn + strings.Repeat("[", 1<<20), loader.ErrStart},
				"endless text":      {header + fn + "const s = `" + strings.Repeat("x", 1<<20), loader.ErrStart},
				"many functions":    {header + fn + strings.Repeat("(() => {})();\n", 1<<15), nil},
				"a bomb":            {header + fn + "const a = []; for (;;) a.push(new Uint8Array(1 << 16));\n", loader.ErrStart},
			} {
				p, err := loader.Open(write(t, "a.js", c.text), loader.WithEngine(e))
				if c.is != nil {
					assert.ErrorIs(t, err, c.is, name)
				} else {
					assert.NoError(t, err, name)
				}
				if err == nil {
					if strings.Contains(c.text, fn) || strings.Contains(c.text, "\r") {
						well(t, p, name)
					}
					assert.NoError(t, p.Close(), name)
				}
			}
		})
	}
}

// Modules in cycles, in a long chain, and a thousand of them.
func TestManyModules(t *testing.T) {
	for name, e := range javascripts(t) {
		t.Run(name, func(t *testing.T) {
			path := write(t, "many.js", `// ferrule: name=many version=1 fn=well fn=all fn=chain
export const well = (x) => x + "!";
import { a } from "./cycle_a.js";
export async function all() {
	let n = a();
	for (let i = 0; i < 1000; i++) n += (await import("./m" + i + ".js")).default;
	return String(n);
}
export const chain = async () => String((await import("./chain0.js")).default);
`)
			dir := filepath.Dir(path)
			module := func(name, text string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
			}
			module("cycle_a.js", "import { b } from \"./cycle_b.js\";\nexport const a = () => b() + 1, one = 1;\n")
			module("cycle_b.js", "import { one } from \"./cycle_a.js\";\nimport * as self from \"./cycle_b.js\";\nexport const b = () => one + (self.b === b ? 10 : 0);\n")
			for i := range 1000 {
				module(fmt.Sprintf("m%d.js", i), fmt.Sprintf("export default %d;\n", i))
				module(fmt.Sprintf("chain%d.js", i), fmt.Sprintf("import x from \"./chain%d.js\";\nexport default x + 1;\n", i+1))
			}
			module("chain1000.js", "export default 0;\n")
			p, err := loader.Open(path, loader.WithEngine(e))
			require.NoError(t, err)
			defer p.Close()
			out, err := p.Call(t.Context(), "all", nil)
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprint(12+999*1000/2), string(out))
			out, err = p.Call(t.Context(), "chain", nil)
			if err != nil { // as deep as there is stack
				assert.ErrorContains(t, err, "RangeError")
			} else {
				assert.Equal(t, "1000", string(out))
			}
			well(t, p)
		})
	}
}

// Calls that come back through host functions, on their thread's stack, end at the depth that the loader allows, or in a RangeError.
func TestNestedCalls(t *testing.T) {
	for name, e := range javascripts(t) {
		t.Run(name, func(t *testing.T) {
			var p *loader.Plugin
			p = opened(t, e, "nested.js", `// ferrule: name=nested version=1 fn=well fn=down fn=downDeep import=again
import { host } from "ferrule";
export const well = (x) => x + "!";
export const down = (n) => (n === "0" ? "bottom" : host.again(String(n - 1)));
export function downDeep(n) {
	const deep = (i) => (i ? deep(i - 1) : host.again("-" + n));
	return deep(200);
}
`, loader.WithHostFunc("again", func(ctx context.Context, in []byte) ([]byte, error) {
				if strings.HasPrefix(string(in), "-") {
					return p.Call(ctx, "downDeep", in[1:])
				}
				return p.Call(ctx, "down", in)
			}), loader.WithInstances(32))
			out, err := p.Call(t.Context(), "down", []byte("20"))
			require.NoError(t, err)
			assert.Equal(t, "bottom", string(out))
			for _, fn := range []string{"down", "downDeep"} {
				_, err = p.Call(t.Context(), fn, []byte("100000"))
				assert.ErrorIs(t, err, loader.ErrFailed, fn)
				well(t, p)
			}
		})
	}
}

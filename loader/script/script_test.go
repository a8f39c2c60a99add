package script_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// each runs a test with the interpreter in each of its forms.
func each(t *testing.T, test func(t *testing.T, e form)) {
	for name, e := range forms(t) {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

func double(_ context.Context, in []byte) ([]byte, error) { return bytes.Repeat(in, 2), nil }

// everything opens testdata/everything.js.
func everything(t *testing.T, e form, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open("testdata/everything"+e.ext, append([]loader.Option{loader.WithEngine(e.engine), loader.WithHostFunc("double", double)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

func TestResults(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p := everything(t, e, loader.WithConfig([]byte(`{"x":1}`)))
		assert.Equal(t, "everything", p.Name())
		assert.Equal(t, "1.2.0", p.Version())
		for _, c := range [][3]string{{"upper", "abc é", "ABC É"}, {"echo", "\xff\x00", "\xff\x00"}, {"sum", `{"a":1,"b":2}`, `{"sum":3}`}, {"twice", "ab", "abababab"},
			{"graph", "101", `{"tier":"tier gold","table":{"rows":[1,2]}}`}, {"graph", "1", `{"tier":"tier none","table":{"rows":[1,2]}}`},
			{"knows", "instance", "0"}, {"knows", "offers.absent", "no"}, {"knows", "offers.double", "yes"}, {"knows", "nothing.known", "nothing"}, {"upper", "", ""}} {
			out, err := p.Call(t.Context(), c[0], []byte(c[1]))
			require.NoError(t, err, c[0])
			assert.Equal(t, c[2], string(out), c[0])
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		out, err := p.Call(t.Context(), "echo", big)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(big, out))
	})
}

func TestFailures(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p := everything(t, e)
		type failure struct {
			fn, in string
			is     error
			says   []string
		}
		failures := []failure{{"fails", "", loader.Status(1234), []string{"as it is"}}, {"passes", "", loader.ErrPass, nil}}
		if e.ext == ".js" {
			failures = append(failures, []failure{
				{"throws", "", loader.ErrFailed, []string{"ReferenceError: missing is not defined", "at throws (everything.js:23:9)"}},
				{"deep", "", loader.ErrFailed, []string{"RangeError: Maximum call stack size exceeded", "everything.js:26:9"}},
				{"never", "", loader.ErrFailed, []string{"never settles"}},
				{"loses", "", loader.ErrFailed, []string{"Error: nobody waits", "everything.js:33:21"}},
				{"grows", "", loader.ErrFailed, []string{"out of memory"}},
				{"sum", "{", loader.ErrInvalid, []string{"SyntaxError"}},
				{"sum", "", loader.ErrInvalid, []string{"SyntaxError"}},
			}...)
		} else {
			failures = append(failures, []failure{
				{"throws", "", loader.ErrFailed, []string{"NameError: name 'missing' is not defined", `everything.py", line 53, in throws`}},
				{"deep", "", loader.ErrFailed, []string{"RecursionError: maximum recursion depth exceeded", "line 57, in deep"}},
				{"never", "", loader.ErrCancelled, nil},
				{"grows", "", loader.ErrNoMemory, []string{"MemoryError"}},
				{"exits", "", loader.ErrFailed, []string{"SystemExit: 3", "in exits"}},
				{"sum", "{", loader.ErrInvalid, []string{"JSONDecodeError"}},
				{"sum", `{"c":1}`, loader.ErrInvalid, []string{"found c, expected for Pair: a, b"}},
			}...)
		}
		for _, c := range failures {
			_, err := p.Call(t.Context(), c.fn, []byte(c.in))
			assert.ErrorIs(t, err, c.is, c.fn)
			for _, says := range c.says {
				assert.ErrorContains(t, err, says, c.fn)
			}
		}
		out, err := p.Call(t.Context(), "upper", []byte("well"))
		require.NoError(t, err, "none of these has harmed the instance")
		assert.Equal(t, "WELL", string(out))
	})
}

// A loop without an end ends soon after its context; and what the instance held is still there where it ended by itself.
func TestEndless(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p := everything(t, e)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := p.Call(ctx, "spin", nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = p.Call(t.Context(), "upper", []byte("x"))
		assert.NoError(t, err)
	})
}

func TestLines(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		var mu sync.Mutex
		var lines bytes.Buffer
		logger := slog.New(slog.NewTextHandler(locked{&mu, &lines}, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
		p := everything(t, e, loader.WithLogger(logger))
		_, err := p.Call(t.Context(), "logs", nil)
		require.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		if e.ext == ".py" {
			for _, says := range []string{`level=WARN msg="a line" plugin=everything`, "key=value n=1", `level=INFO msg="text [2] None"`, `level=WARN msg=shown`} {
				assert.Contains(t, lines.String(), says)
			}
			return
		}
		for _, says := range []string{`level=WARN msg="a line" plugin=everything`, "key=value n=1", `level=INFO msg="text {\"a\":1} [2] undefined null"`, `level=ERROR msg="TypeError: shown\n    at logs (everything.js:`} {
			assert.Contains(t, lines.String(), says)
		}
	})
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p := everything(t, e, loader.WithConfig([]byte(`{"x":1}`)))
		settings := func() string {
			out, err := p.Call(t.Context(), "about", nil)
			require.NoError(t, err)
			return string(out)
		}
		assert.Equal(t, `{"settings":{"x":1},"remaining":null}`, settings())
		require.NoError(t, p.Configure(t.Context(), []byte(`{"x":2}`)))
		assert.Contains(t, settings(), `{"x":2}`)
		err := p.Configure(t.Context(), []byte(`{"bad":true}`))
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, "bad settings")
		assert.Contains(t, settings(), `{"x":2}`, "as it was")
		s, err := p.NewSession(t.Context(), []byte(`{"x":3}`))
		require.NoError(t, err)
		out, err := s.Call(t.Context(), "about", nil)
		require.NoError(t, err)
		assert.Contains(t, string(out), `{"x":3}`)
		require.NoError(t, s.Close())
		s, err = p.NewSession(t.Context(), nil)
		require.NoError(t, err)
		out, err = s.Call(t.Context(), "about", nil)
		require.NoError(t, err)
		assert.Contains(t, string(out), `{"x":2}`)
		require.NoError(t, s.Close())
	})
}

func TestHandover(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p := everything(t, e)
		for want := range 3 {
			out, err := p.Call(t.Context(), "counts", nil)
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprint(want+1), string(out))
		}
		next, err := p.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) {
			return loader.Open("testdata/everything"+e.ext, loader.WithEngine(e.engine), loader.WithHostFunc("double", double), loader.WithState(state))
		})
		require.NoError(t, err)
		defer next.Close()
		out, err := next.Call(t.Context(), "counts", nil)
		require.NoError(t, err)
		assert.Equal(t, "4", string(out))
	})
}

func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p := everything(t, e)
		f, err := p.Func("pieces")
		require.NoError(t, err)
		in := strings.Repeat("abcd", 100_000)
		var out bytes.Buffer
		result, err := f.Stream(t.Context(), nil, strings.NewReader(in), &out)
		require.NoError(t, err)
		assert.Equal(t, "end", string(result))
		assert.True(t, strings.Repeat("`cbe", 100_000) == out.String())
	})
}

// What is wrong with a script is said with its line, before anything of it runs, or with what it did.
func TestScriptsThatDoNotOpen(t *testing.T) {
	e := script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))))
	for name, c := range map[string]struct {
		text, says string
		is         error
	}{
		"no header":       {"export const f = 1;\n", "found no header, expected a comment such as // ferrule: name=a version=1.0.0 fn=f, before the first statement and in the first 4096 bytes. Write one.", loader.ErrManifest},
		"header behind":   {"export const f = 1;\n// ferrule: name=a version=1 fn=f\n", "found its header in line 2, behind a statement, expected", loader.ErrManifest},
		"header far down": {strings.Repeat("// …\n", 1000) + "// ferrule: name=a version=1 fn=f\n", "found its header in line 1001, behind other comments, expected", loader.ErrManifest},
		"native code":     {"\x7fELF", "found native code, expected a comment", loader.ErrManifest},
		"a module":        {"\x00asm\x01\x00\x00\x00", "found a WebAssembly module, expected a comment", loader.ErrManifest},
		"no name":         {"// ferrule: version=1\n", "no name", loader.ErrManifest},
		"a bad word":      {"// ferrule: name=a version=1\n// ferrule: fn\n", `line 2: "fn", expected key=value`, loader.ErrManifest},
		"a function's":    {"// ferrule: name=a version=1 fn=1x\n", "line 1: fn=\"1x\"", loader.ErrManifest},
		"twice":           {"// ferrule: name=a version=1 fn=x fn=x\nexport const x = () => 1;\n", "fn=x, which is in line 1, too", loader.ErrManifest},
		"not exported":    {"// ferrule: name=a version=1 fn=x\nconst x = () => 1;\n", "its header names x, expected that it exports such a function", loader.ErrStart},
		"syntax":          {"// ferrule: name=a version=1 fn=x\nexport const x = (;\n", "a.js:2:", loader.ErrStart},
		"throws":          {"// ferrule: name=a version=1 fn=x\nexport const x = () => 1;\nnull.x;\n", "a.js:3:", loader.ErrStart},
		"waits":           {"// ferrule: name=a version=1 fn=x\nexport const x = () => 1;\nawait new Promise(() => {});\n", "never settles", loader.ErrStart},
		"imports outside": {"// ferrule: name=a version=1 fn=x\nimport \"../b.js\";\nexport const x = () => 1;\n", "is not beneath the script's folder", loader.ErrStart},
		"imports a link":  {"// ferrule: name=a version=1 fn=x\nimport \"./link.js\";\nexport const x = () => 1;\n", "cannot be read", loader.ErrStart},
		"imports nothing": {"// ferrule: name=a version=1 fn=x\nimport \"./none.js\";\nexport const x = () => 1;\n", "imports none.js: found no such file in", loader.ErrStart},
		"imports bare":    {"// ferrule: name=a version=1 fn=x\nimport \"fs\";\nexport const x = () => 1;\n", `imports "fs": found neither "ferrule" nor a path`, loader.ErrStart},
		"no host":         {"// ferrule: name=a version=1 fn=x import=missing\nexport const x = () => 1;\n", "missing", loader.ErrMissingImport},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.js")
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "b.js"), []byte("export {};"), 0o600))
			require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(dir), "b.js"), filepath.Join(dir, "link.js")))
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			p, err := loader.Open(path, loader.WithEngine(e))
			if err == nil {
				p.Close()
			}
			require.ErrorIs(t, err, c.is)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

// A script whose first line names another program has a header, which does not count.
func TestFirstLineOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.py")
	for _, more := range []int{0, 5000} {
		require.NoError(t, os.WriteFile(path, []byte("#!/usr/bin/env -S pipx run"+strings.Repeat(" ", more)+"\n# ferrule: name=a version=1 fn=f\n"), 0o600))
		_, err := loader.Open(path, loader.WithEngine(script.Engine()))
		require.ErrorIs(t, err, loader.ErrManifest)
		assert.ErrorContains(t, err, `found a first line that names no Python that is known, "#!/usr/bin/env -S pipx run", expected one that names Python`)
	}
}

// A script may name its functions and host functions as it likes, also as its interpreter's adapter names its own, and knows those that it has named and no other.
func TestNamesOfTheAdapter(t *testing.T) {
	scripts := map[string]string{
		".js": "// ferrule: name=names version=1 fn=f00 fn=f63 import=x want=w01 want=w63\nimport { host, info } from 'ferrule';\nexport const f00 = (k) => info(k) ?? 'none', f63 = (x) => host.x(x);\n",
		".py": "# ferrule: name=names version=1 fn=f00 fn=f63 import=x want=w01 want=w63\nfrom ferrule import host, info\ndef f00(k): return info(k) or 'none'\ndef f63(x): return host.x(x)\n",
	}
	each(t, func(t *testing.T, e form) {
		path := filepath.Join(t.TempDir(), "names"+e.ext)
		require.NoError(t, os.WriteFile(path, []byte(scripts[e.ext]), 0o600))
		p, err := loader.Open(path, loader.WithEngine(e.engine), loader.WithHostFunc("x", double), loader.WithHostFunc("w63", double))
		require.NoError(t, err)
		defer func() { assert.NoError(t, p.Close()) }()
		for key, want := range map[string]string{"offers.x": "yes", "offers.w01": "no", "offers.w63": "yes", "offers.w00": "none", "offers.f00": "none"} {
			out, err := p.Call(t.Context(), "f00", []byte(key))
			require.NoError(t, err)
			assert.Equal(t, want, string(out), key)
		}
		out, err := p.Call(t.Context(), "f63", []byte("a"))
		require.NoError(t, err)
		assert.Equal(t, "aa", string(out))
	})
}

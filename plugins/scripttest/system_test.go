// Package scripttest tests the core system with scripts among its plug-ins. It is a module of its own, so that whoever has package plugins gets no interpreter.
package scripttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// javaScript is an engine for JavaScript alone, which runs as WebAssembly.
func javaScript() engine.Engine {
	return script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))))
}

// both is an engine for both languages, Python in workers.
func both(t testing.TB) engine.Engine {
	return script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))), script.WithPython(fixture.PythonAdapter(t), nil))
}

// site is a folder with plug-ins and a config.yaml.
type site struct {
	t      testing.TB
	folder string // of plug-ins
	config string // the path of config.yaml
}

func newSite(t testing.TB) *site {
	t.Helper()
	return &site{t, t.TempDir(), filepath.Join(t.TempDir(), "config.yaml")}
}

// put writes a file into the folder, in one step.
func (s *site) put(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.folder, filepath.FromSlash(name))
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	require.NoError(s.t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(tmp, []byte(text), 0o644), os.Rename(tmp, path)))
	return path
}

// configure writes config.yaml: its folders, and text.
func (s *site) configure(text string) {
	s.t.Helper()
	text = "folders: ['" + s.folder + "']\n" + text
	require.NoError(s.t, errors.Join(os.WriteFile(s.config+".new", []byte(text), 0o644), os.Rename(s.config+".new", s.config)))
}

// new makes a system with engines, which the test closes.
func (s *site) new(e engine.Engine, opts ...plugins.Option) *plugins.System {
	s.t.Helper()
	sys := plugins.New("app", "1.0.0", append([]plugins.Option{plugins.Logger(quiet()), plugins.Config(s.config), plugins.Engines(e)}, opts...)...)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(s.t, sys.Shutdown(ctx))
	})
	return sys
}

func (s *site) start(e engine.Engine, opts ...plugins.Option) *plugins.System {
	s.t.Helper()
	sys := s.new(e, opts...)
	require.NoError(s.t, sys.Start(s.t.Context()))
	return sys
}

// call calls a function of a plug-in; a failure is its text with ! before it.
func call(t testing.TB, sys *plugins.System, plugin, function, in string) string {
	t.Helper()
	f, err := sys.Func(plugin, function)
	require.NoError(t, err)
	out, err := f.Call(t.Context(), []byte(in))
	if err != nil {
		return "!" + err.Error()
	}
	return string(out)
}

// why is the error of a plug-in.
func why(t testing.TB, sys *plugins.System, name string, kind error) *plugins.Error {
	t.Helper()
	p, ok := sys.Plugin(name)
	require.True(t, ok)
	var e *plugins.Error
	require.ErrorAs(t, p.Err, &e, "%v", p.State)
	require.ErrorIs(t, e, kind)
	return e
}

// raw has bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// names are of all that was found.
func names(sys *plugins.System) (all []string) {
	for _, p := range sys.List() {
		all = append(all, p.Name)
	}
	return all
}

// What has a header is a plug-in, in all three kinds of files and by the name in it; what has none is not, and no error. The module that one imports is not, either.
func TestDiscovery(t *testing.T) {
	s := newSite(t)
	s.put("one.js", "// ferrule: name=discount version=1.2.0\n// ferrule: fn=answer\nimport { x } from './parts/x.mjs';\nexport const answer = () => x;\n")
	s.put("two.mjs", "#!/usr/bin/env node\n// A comment.\n// ferrule: name=tax version=2.0.0 requires=\"discount ^1.2\" provides=rate fn=rate\nexport const rate = () => 19;\n")
	s.put("three.py", "# ferrule: name=points version=0.1.0 requires=\"tax ^2\" conflicts=loyalty fn=answer\nimport helper\ndef answer(text):\n    return helper.made(text)\n")
	s.put("helper.py", "def made(text):\n    return text + '!'\n")
	s.put("parts/x.mjs", "// ferrule: name=no version=1.0.0\nexport const x = 'from parts';\n")
	s.put("module.js", "export const y = 1;\n")
	s.put(".hidden.js", "// ferrule: name=hidden version=1.0.0\n")
	s.configure("plugins: [discount, {name: tax, version: ^2}, points]")
	sys := s.start(both(t))
	assert.Equal(t, []string{"discount", "points", "tax"}, names(sys))
	assert.Equal(t, "from parts", call(t, sys, "discount", "answer", ""))
	assert.Equal(t, "19", call(t, sys, "tax", "rate", ""))
	assert.Equal(t, "well!", call(t, sys, "points", "answer", "well"))
	for _, p := range sys.List() {
		require.NoError(t, p.Err)
		assert.Equal(t, plugins.StateStarted, p.State)
		assert.Equal(t, p.Name == "points", p.Isolated)
		assert.Equal(t, p.Isolated, p.Worker != 0)
		assert.Equal(t, map[string]string{"discount": "1.2.0", "tax": "2.0.0", "points": "0.1.0"}[p.Name], p.Version)
	}

	s.configure("plugins: [discount, {name: tax, version: ^3}, points]")
	sys = s.start(both(t))
	assert.ErrorContains(t, why(t, sys, "tax", plugins.ErrRange), "2.0.0")
	why(t, sys, "points", plugins.ErrDependency)
	s.put("four.js", "// ferrule: name=loyalty version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.configure("plugins: [discount, tax, points, loyalty]")
	why(t, s.start(both(t)), "points", plugins.ErrConflict)
	s.put("five.py", "# ferrule: name=discount version=1.3.0 fn=f\ndef f(x): return x\n")
	s.configure("plugins: [discount]")
	e := why(t, s.start(both(t)), "discount", plugins.ErrDouble)
	assert.ErrorContains(t, e, "one.js")
	assert.ErrorContains(t, e, "five.py")
}

// Without the engine that a script needs it has failed, with what to give; what nobody lists is only discovered, and a header that is wrong is said with its line.
func TestNoEngine(t *testing.T) {
	s := newSite(t)
	s.put("a.js", "// ferrule: name=a version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.put("b.py", "# ferrule: name=b version=1.0.0 fn=f\ndef f(x): return x\n")
	s.put("c.mjs", "// ferrule: name=c version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.put("wrong.js", "// A script.\n// ferrule: name=wrong version=1.0.0 fn\n")
	s.configure("plugins: [a, b, wrong]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(s.config))
	require.NoError(t, sys.Start(t.Context()))
	defer sys.Close()
	e := why(t, sys, "a", plugins.ErrEngine)
	assert.ErrorIs(t, e, loader.ErrNoEngine)
	assert.ErrorContains(t, e, "a script in JavaScript")
	assert.ErrorContains(t, e, "plugins.Engines(script.Engine())")
	e = why(t, sys, "b", plugins.ErrEngine)
	assert.ErrorContains(t, e, "script.WithPython(path, nil)")
	p, _ := sys.Plugin("c")
	assert.Equal(t, plugins.StateDiscovered, p.State)
	assert.NoError(t, p.Err)
	assert.ErrorContains(t, why(t, sys, "wrong", plugins.ErrUnreadable), "line 2")

	sys = s.start(javaScript())
	assert.Equal(t, "1", call(t, sys, "a", "f", ""))
	assert.ErrorContains(t, why(t, sys, "b", plugins.ErrEngine), "script.WithPython(path, nil)")

	over, err := plugins.Survey(t.Context(), plugins.Config(s.config))
	require.NoError(t, err)
	assert.Equal(t, plugins.StateReady, over.Plugins[0].State, "the application may have an engine")
	assert.ErrorIs(t, over.Plugins[0].Err, plugins.ErrEngine)
}

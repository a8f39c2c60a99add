// Package scripttest tests the core system with scripts among its plug-ins. It is in a module of its own, so that whoever has package plugins gets no interpreter.
package scripttest

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
)

// javaScript is an engine for JavaScript alone, which runs as WebAssembly.
func javaScript() engine.Engine {
	return script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))))
}

// both is an engine for both languages, Python in workers.
func both(t testing.TB) engine.Engine {
	return script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))), script.WithPython(fixture.PythonAdapter(t), nil))
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
	s := site.New(t)
	s.Put("one.js", "// ferrule: name=discount version=1.2.0\n// ferrule: fn=answer\nimport { x } from './parts/x.mjs';\nexport const answer = () => x;\n")
	s.Put("two.mjs", "#!/usr/bin/env node\n// A comment.\n// ferrule: name=tax version=2.0.0 requires=\"discount ^1.2\" provides=rate fn=rate\nexport const rate = () => 19;\n")
	s.Put("three.py", "# ferrule: name=points version=0.1.0 requires=\"tax ^2\" conflicts=loyalty fn=answer\nimport helper\ndef answer(text):\n    return helper.made(text)\n")
	s.Put("helper.py", "def made(text):\n    return text + '!'\n")
	s.Put("parts/x.mjs", "// ferrule: name=no version=1.0.0\nexport const x = 'from parts';\n")
	s.Put("module.js", "export const y = 1;\n")
	s.Put(".hidden.js", "// ferrule: name=hidden version=1.0.0\n")
	s.Configure("plugins: [discount, {name: tax, version: ^2}, points]")
	sys := s.Start(both(t))
	assert.Equal(t, []string{"discount", "points", "tax"}, names(sys))
	assert.Equal(t, "from parts", site.Call(t, sys, "discount", "answer", ""))
	assert.Equal(t, "19", site.Call(t, sys, "tax", "rate", ""))
	assert.Equal(t, "well!", site.Call(t, sys, "points", "answer", "well"))
	for _, p := range sys.List() {
		require.NoError(t, p.Err)
		assert.Equal(t, plugins.StateStarted, p.State)
		assert.Equal(t, p.Name == "points", p.Isolated)
		assert.Equal(t, p.Isolated, p.Worker != 0)
		assert.Equal(t, map[string]string{"discount": "1.2.0", "tax": "2.0.0", "points": "0.1.0"}[p.Name], p.Version)
	}

	s.Configure("plugins: [discount, {name: tax, version: ^3}, points]")
	sys = s.Start(both(t))
	assert.ErrorContains(t, site.Why(t, sys, "tax", plugins.ErrRange), "2.0.0")
	site.Why(t, sys, "points", plugins.ErrDependency)
	s.Put("four.js", "// ferrule: name=loyalty version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.Configure("plugins: [discount, tax, points, loyalty]")
	site.Why(t, s.Start(both(t)), "points", plugins.ErrConflict)
	s.Put("five.py", "# ferrule: name=discount version=1.3.0 fn=f\ndef f(x): return x\n")
	s.Configure("plugins: [discount]")
	e := site.Why(t, s.Start(both(t)), "discount", plugins.ErrDouble)
	assert.ErrorContains(t, e, "one.js")
	assert.ErrorContains(t, e, "five.py")
}

// Without the engine that a script needs it has failed, with what to give; what nobody lists is only discovered, and a header that is wrong is said with its line.
func TestNoEngine(t *testing.T) {
	s := site.New(t)
	s.Put("a.js", "// ferrule: name=a version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.Put("b.py", "# ferrule: name=b version=1.0.0 fn=f\ndef f(x): return x\n")
	s.Put("c.mjs", "// ferrule: name=c version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.Put("wrong.js", "// A script.\n// ferrule: name=wrong version=1.0.0 fn\n")
	s.Configure("plugins: [a, b, wrong]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(site.Quiet()), plugins.Config(s.Config))
	require.NoError(t, sys.Start(t.Context()))
	defer sys.Close()
	e := site.Why(t, sys, "a", plugins.ErrEngine)
	assert.ErrorIs(t, e, loader.ErrNoEngine)
	assert.ErrorContains(t, e, "a script in JavaScript")
	assert.ErrorContains(t, e, "plugins.Engines(script.Engine())")
	e = site.Why(t, sys, "b", plugins.ErrEngine)
	assert.ErrorContains(t, e, "script.WithPython(path, nil)")
	p, _ := sys.Plugin("c")
	assert.Equal(t, plugins.StateDiscovered, p.State)
	assert.NoError(t, p.Err)
	assert.ErrorContains(t, site.Why(t, sys, "wrong", plugins.ErrUnreadable), "line 2")

	sys = s.Start(javaScript())
	assert.Equal(t, "1", site.Call(t, sys, "a", "f", ""))
	assert.ErrorContains(t, site.Why(t, sys, "b", plugins.ErrEngine), "script.WithPython(path, nil)")

	over, err := plugins.Survey(t.Context(), plugins.Config(s.Config))
	require.NoError(t, err)
	assert.Equal(t, plugins.StateReady, over.Plugins[0].State, "the application may have an engine")
	assert.ErrorIs(t, over.Plugins[0].Err, plugins.ErrEngine)
}

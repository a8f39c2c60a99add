// Package wasmtest tests the core system with WebAssembly modules among its plug-ins. It is in a module of its own, so that whoever has package plugins gets no wazero.
package wasmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
)

// module writes a fixture's module to a path, in one step, with some of its bytes changed to as many others.
func module(t testing.TB, name, to string, pairs ...string) {
	t.Helper()
	data, err := os.ReadFile(fixture.WasmC(t, name))
	require.NoError(t, err)
	for i := 0; i < len(pairs); i += 2 {
		require.Len(t, pairs[i+1], len(pairs[i]))
		require.True(t, bytes.Contains(data, []byte(pairs[i])), pairs[i])
		data = bytes.ReplaceAll(data, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	tmp := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".new")
	require.NoError(t, errors.Join(os.WriteFile(tmp, data, 0o644), os.Rename(tmp, to)))
}

// The plug-ins of one config.yaml are modules, libraries in this process and in a worker, and Go functions; their hooks run in one order, each with its settings.
func TestBeside(t *testing.T) {
	s := site.New(t)
	fixture.Variant(t, "system", filepath.Join(s.Folder, "a"+fixture.Ext()), "aaaa", "nati")
	fixture.Variant(t, "system", filepath.Join(s.Folder, "b"+fixture.Ext()), "aaaa", "work")
	module(t, "system", filepath.Join(s.Folder, "c.wasm"), "aaaa", "wasm")
	module(t, "system", filepath.Join(s.Folder, "d.wasm"), "aaaa", "more")
	s.Configure(`
plugins:
  - {name: plugin_nati, config: {is: native}}
  - {name: plugin_work, isolate: {sandbox: none}, config: {is: isolated}}
  - {name: plugin_wasm, config: {is: module}}
  - {name: plugin_more, limit: 1s}
hooks:
  piped: [plugin_wasm, plugin_nati, plugin_gogo, plugin_more, plugin_work]
  wrapped: [plugin_nati, plugin_wasm, plugin_work, plugin_more]
`)
	double := &builtin.Plugin{Name: "plugin_gogo", Version: "1.0.0", Hooks: []builtin.Function{{Name: "piped",
		Call: func(_ context.Context, in []byte) ([]byte, error) { return append(bytes.Clone(in), "+gogo"...), nil }}}}
	sys := s.System(wasm.Engine(), plugins.Builtin(double))
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Codec(site.Raw{}))
	wrapped := plugins.Wrap[[]byte, []byte](sys, "wrapped", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }, plugins.Codec(site.Raw{}))
	require.NoError(t, sys.Start(t.Context()))
	out, err := piped.Call(t.Context(), []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "x+wasm+nati+gogo+more+work", string(out))
	out, err = wrapped.Call(t.Context(), []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "nati(wasm(work(more(x))))", string(out))
	for plugin, is := range map[string]string{"plugin_nati": `{"is":"native"}`, "plugin_work": `{"is":"isolated"}`, "plugin_wasm": `{"is":"module"}`, "plugin_more": ""} {
		assert.Equal(t, is, site.Call(t, sys, plugin, "config", ""))
		p, _ := sys.Plugin(plugin)
		assert.Equal(t, plugins.StateStarted, p.State)
		assert.Equal(t, plugin == "plugin_work", p.Isolated)
	}
}

// A module and a library of one name, in one folder, are an error that names both; in two folders the first one counts.
func TestBothKinds(t *testing.T) {
	s := site.New(t)
	library, wasmFile := filepath.Join(s.Folder, "x"+fixture.Ext()), filepath.Join(s.Folder, "x.wasm")
	fixture.Variant(t, "system", library)
	module(t, "system", wasmFile)
	s.Configure("plugins: [plugin_aaaa]")
	e := site.Why(t, s.Start(wasm.Engine()), "plugin_aaaa", plugins.ErrDouble)
	assert.ErrorContains(t, e, library)
	assert.ErrorContains(t, e, wasmFile)

	other := filepath.Join(t.TempDir(), "x.wasm")
	require.NoError(t, os.Rename(wasmFile, other))
	sys := s.Start(wasm.Engine(), plugins.Folder(filepath.Dir(other)))
	assert.Equal(t, "aaaa", site.Call(t, sys, "plugin_aaaa", "answer", ""))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, other, p.Source)

	s.Configure("plugins: [plugin_aaaa]\ndev: {plugin_aaaa: '" + other + "'}")
	sys = s.Start(wasm.Engine())
	assert.Equal(t, "aaaa", site.Call(t, sys, "plugin_aaaa", "answer", ""))
	p, _ = sys.Plugin("plugin_aaaa")
	assert.Equal(t, other, p.Source, "dev puts a module in a library's place")
}

// Without an engine a module has failed, with what to add; what nobody lists is only discovered.
func TestNoEngine(t *testing.T) {
	s := site.New(t)
	module(t, "system", filepath.Join(s.Folder, "x.wasm"))
	module(t, "system", filepath.Join(s.Folder, "y.wasm"), "aaaa", "bbbb")
	s.Configure("plugins: [plugin_aaaa]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(site.Quiet()), plugins.Config(s.Config))
	require.NoError(t, sys.Start(t.Context()))
	defer sys.Close()
	e := site.Why(t, sys, "plugin_aaaa", plugins.ErrEngine)
	assert.ErrorIs(t, e, loader.ErrNoEngine)
	assert.ErrorContains(t, e, "plugins.Engines(wasm.Engine())")
	p, _ := sys.Plugin("plugin_bbbb")
	assert.Equal(t, plugins.StateDiscovered, p.State)
	assert.NoError(t, p.Err)

	over, err := plugins.Survey(t.Context(), plugins.Config(s.Config))
	require.NoError(t, err)
	assert.Equal(t, plugins.StateReady, over.Plugins[0].State, "the application may have an engine")
	assert.ErrorIs(t, over.Plugins[0].Err, plugins.ErrEngine)
	over, err = plugins.Survey(t.Context(), plugins.Config(s.Config), plugins.Engines(wasm.Engine()))
	require.NoError(t, err)
	assert.NoError(t, over.Plugins[0].Err)
}

// What is no engine for files, or one that the system has, is an error of Start's.
func TestEngines(t *testing.T) {
	for _, c := range []struct {
		opt  plugins.Option
		says string
	}{
		{plugins.Engines(nil), "found nil"},
		{plugins.Engines(wasm.Engine(), wasm.Engine()), "wasm.Engine beside another one for WebAssembly"},
		{plugins.Engines(wasm.Engine(wasm.WithMemory(1))), "wasm.WithMemory with 1"},
		{plugins.Engines(loader.Native()), "which opens native code"},
		{plugins.Engines(builtin.Engine(&builtin.Plugin{Name: "x", Version: "1.0.0"})), "plugins.Builtin"},
	} {
		err := plugins.New("app", "1.0.0", plugins.Logger(site.Quiet()), c.opt).Start(t.Context())
		require.ErrorIs(t, err, plugins.ErrOption)
		assert.ErrorContains(t, err, c.says)
	}
}

// A module imports what it was granted, as a library does, and is not opened without.
func TestGrants(t *testing.T) {
	s := site.New(t)
	module(t, "wasm_faults", filepath.Join(s.Folder, "x.wasm"))
	offer := func(sys *plugins.System) *plugins.System {
		plugins.Offer(sys, "upper", func(ctx context.Context, in []byte) ([]byte, error) {
			by, _ := plugins.Caller(ctx)
			return []byte(strings.ToUpper(string(in)) + " for " + by), nil
		})
		require.NoError(t, sys.Start(t.Context()))
		return sys
	}
	s.Configure("plugins: [wasm_faults]")
	e := site.Why(t, offer(s.System(wasm.Engine())), "wasm_faults", plugins.ErrGrant)
	assert.Contains(t, e.Remedy, "grant: [upper]")
	s.Configure("plugins: [{name: wasm_faults, grant: [upper]}]")
	sys := offer(s.System(wasm.Engine()))
	assert.Equal(t, "1", site.Call(t, sys, "wasm_faults", "fine", ""))
	p, _ := sys.Plugin("wasm_faults")
	assert.Equal(t, []string{"upper"}, p.Grants)
}

// What permit says is what a module sees: files and folders, to read or to write, and memory; what is not permitted is not there. A change of it holds from then on.
func TestPermits(t *testing.T) {
	s := site.New(t)
	top, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, name := range []string{"read", "write", "other"} {
		require.NoError(t, os.Mkdir(filepath.Join(top, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(top, name, "file"), []byte("text of "+name), 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(top, "single"), []byte("alone"), 0o644))
	require.NoError(t, os.Symlink(filepath.Join(top, "other", "file"), filepath.Join(top, "read", "out")))
	at := filepath.ToSlash(top)
	module(t, "wasm_files", filepath.Join(s.Folder, "x.wasm"))
	s.Configure(fmt.Sprintf("plugins: [{name: wasm_files, permit: {read: ['%[1]s/read', '%[1]s/single'], write: ['%[1]s/write'], memory: 4MiB}, data: '%[1]s/data'}]", at))
	sys := s.Start(wasm.Engine())
	do := func(function, in string) string {
		return site.Call(t, sys, "wasm_files", function, strings.ReplaceAll(in, "%", at))
	}
	assert.Equal(t, "text of read", do("reads", "%/read/file"))
	assert.Equal(t, "alone", do("reads", "%/single"))
	assert.Contains(t, do("writes", "%/read/file x"), "Read-only file system")
	assert.Contains(t, do("writes", "%/single x"), "Read-only file system")
	assert.Empty(t, do("writes", "%/write/new kept"))
	assert.Equal(t, "kept", do("reads", "%/write/new"))
	assert.Empty(t, do("writes", "%/data/own kept"), "its data folder")
	for _, path := range []string{"%/other/file", "%/read/out", "%/read/../other/file", "/etc/passwd"} {
		assert.Contains(t, do("reads", path), "!", path)
	}
	assert.Equal(t, "held", do("holds", "1000000"))
	assert.Contains(t, do("holds", "20000000"), "no memory")
	p, _ := sys.Plugin("wasm_files")
	assert.Equal(t, []string{"read " + filepath.Join(top, "read"), "read " + filepath.Join(top, "single"), "write " + filepath.Join(top, "write")}, p.Permits)
	assert.False(t, p.Declared, "all of it is enforced")

	s.Configure(fmt.Sprintf("plugins: [{name: wasm_files, permit: {read: ['%s/other']}}]", at))
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "text of other", do("reads", "%/other/file"))
	assert.Contains(t, do("reads", "%/read/file"), "!")
	assert.Equal(t, "held", do("holds", "20000000"))

	s.Configure("plugins: [wasm_files]")
	sys = s.Start(wasm.Engine())
	assert.Contains(t, do("reads", "%/other/file"), "!", "nothing was permitted")
}

// What no module can have, and what it needs not, is an error with a type and a remedy, before anything of it runs.
func TestRefused(t *testing.T) {
	gone := filepath.ToSlash(filepath.Join(t.TempDir(), "gone"))
	for _, c := range []struct {
		name, entry string
		asks        string // what its manifest asks for
		kind        error
		says        []string
	}{
		{"connect", "permit: {connect: [443]}", "", plugins.ErrEngine, []string{"connect to (443)", "no network", "host function", "line 2"}},
		{"listen", "permit: {listen: [0]}", "", plugins.ErrEngine, []string{"listen on (0)", "no network"}},
		{"asked for", "enabled: true", "connect", plugins.ErrEngine, []string{"manifest that asks", "connect to (443)"}},
		{"asked for and permitted", "permit: {connect: [443]}", "connect", plugins.ErrEngine, []string{"connect to (443)"}},
		{"isolate", "isolate: true", "", plugins.ErrEngine, []string{"isolate for a WebAssembly module", "permit.memory", "line 2"}},
		{"isolate with keys", "isolate: {memory: 1GiB, sandbox: none}", "", plugins.ErrEngine, []string{"isolate for a WebAssembly module"}},
		{"a folder that is not there", "permit: {read: ['" + gone + "']}", "", plugins.ErrOpen, []string{"gone", "a path that the module is to see"}},
		{"more memory than there is", "enabled: true", "memory", plugins.ErrGrant, []string{"memory 536870912 (of 268435456)", "memory: 536870912"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site.New(t)
			pairs := []string{}
			if c.asks != "" {
				pairs = append(pairs, "x_rmit."+c.asks, "permit."+c.asks)
			}
			module(t, "wasm_files", filepath.Join(s.Folder, "x.wasm"), pairs...)
			s.Configure("plugins: [{name: wasm_files, " + c.entry + "}]")
			sys := s.Start(wasm.Engine())
			if f, err := sys.Func("wasm_files", "reads"); err == nil {
				_, err = f.Call(t.Context(), nil)
				require.ErrorIs(t, err, c.kind)
			}
			e := site.Why(t, sys, "wasm_files", c.kind)
			for _, says := range c.says {
				assert.ErrorContains(t, e, says)
			}
			if c.kind == plugins.ErrEngine {
				over, err := plugins.Survey(t.Context(), plugins.Config(s.Config), plugins.Engines(wasm.Engine()))
				require.NoError(t, err)
				assert.ErrorIs(t, over.Plugins[0].Err, c.kind, "whoever looks beforehand is told the same")
			}
		})
	}
}

// A hook of a module that traps fails its call, counts for the breaker, and is let in again when it does not.
func TestTrapAndBreaker(t *testing.T) {
	s := site.New(t)
	module(t, "system", filepath.Join(s.Folder, "a.wasm"))
	fixture.Variant(t, "system", filepath.Join(s.Folder, "b"+fixture.Ext()), "aaaa", "bbbb")
	s.Configure("plugins: [plugin_aaaa, plugin_bbbb]\nhooks: {asked: [plugin_aaaa, plugin_bbbb]}")
	var mu sync.Mutex
	var seen []plugins.EventKind
	told := make(chan struct{}, 1)
	sys := s.System(wasm.Engine(), plugins.OnEvent(func(e plugins.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Plugin == "plugin_aaaa" && (e.Kind == plugins.EventLeftOut || e.Kind == plugins.EventRecovered) {
			seen = append(seen, e.Kind)
			told <- struct{}{}
		}
	}))
	asked := plugins.First[[]byte, []byte](sys, "asked", plugins.Codec(site.Raw{}), plugins.OnError(plugins.Skip), plugins.Breaker(3, time.Millisecond))
	require.NoError(t, sys.Start(t.Context()))
	ask := func(in string) string {
		out, _, err := asked.Call(t.Context(), []byte(in))
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "aaaa", ask(""))
	f, err := sys.Func("plugin_aaaa", "answer")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), []byte("aaaa=crash"))
	require.ErrorIs(t, err, loader.ErrPanic)
	assert.ErrorContains(t, err, "unreachable")
	for range 3 {
		assert.Equal(t, "bbbb", ask("aaaa=crash"), "the others go on")
	}
	<-told
	require.Eventually(t, func() bool { return ask("") == "aaaa" }, time.Minute, time.Millisecond)
	<-told
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []plugins.EventKind{plugins.EventLeftOut, plugins.EventRecovered}, seen)
	p, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateStarted, p.State)
}

// A hook that does not look at its limit is ended, and the plug-in goes on: it is not left out meanwhile, as one is that nothing can end.
func TestLimit(t *testing.T) {
	s := site.New(t)
	module(t, "system", filepath.Join(s.Folder, "a.wasm"))
	s.Configure("plugins: [{name: plugin_aaaa, limit: 20ms}]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(site.Quiet()), plugins.Config(s.Config), plugins.Engines(wasm.Engine(wasm.WithGrace(2*engine.OverdueAfter))))
	defer sys.Close()
	asked := plugins.First[[]byte, []byte](sys, "asked", plugins.Codec(site.Raw{}))
	require.NoError(t, sys.Start(t.Context()))
	_, _, err := asked.Call(t.Context(), []byte("aaaa=loops"))
	var late *loader.DeadlineError
	require.ErrorAs(t, err, &late)
	out, _, err := asked.Call(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "aaaa", string(out))
}

// A module that is replaced while it is called loses no call, whatever is wrong with a version in between; and so does a library that a module takes the place of.
func TestReplaced(t *testing.T) {
	s := site.New(t)
	path := filepath.Join(s.Folder, "x.wasm")
	version := func(to string, more ...string) { module(t, "system", path, append([]string{"1.0.0", to}, more...)...) }
	version("1.0.0")
	s.Configure("plugins: [plugin_aaaa]")
	events := make(chan plugins.Event, 1000)
	sys := s.Start(wasm.Engine(), plugins.Watch(), plugins.OnEvent(func(e plugins.Event) { events <- e }))
	next := func(kind plugins.EventKind) plugins.Event {
		t.Helper()
		var others []plugins.Event
		for {
			select {
			case e := <-events:
				if e.Kind == kind {
					return e
				}
				others = append(others, e)
			case <-time.After(time.Minute):
				t.Fatalf("no event %s, but %v", kind, others)
			}
		}
	}
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	// It is started by its first call, which fails where another file comes to its path meanwhile.
	out, err := f.Call(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", string(out))
	done := make(chan struct{})
	var callers sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				out, err := f.Call(t.Context(), nil)
				mu.Lock()
				if err != nil {
					seen["!"+err.Error()]++
				} else {
					seen[string(out)]++
				}
				mu.Unlock()
			}
		})
	}
	version("1.1.0")
	assert.Equal(t, "1.1.0", next(plugins.EventReplaced).Version)
	version("1.2.0", "start:ok", "start:no")
	assert.ErrorIs(t, next(plugins.EventKept).Err, loader.ErrStart)
	version("1.3.0", "start:ok", "start:cr")
	assert.ErrorContains(t, next(plugins.EventKept).Err, "unreachable")
	version("1.4.0", "health:ok", "health:no")
	assert.ErrorIs(t, next(plugins.EventKept).Err, plugins.ErrHealth)
	require.NoError(t, os.WriteFile(filepath.Join(s.Folder, ".broken"), []byte("\x00asm\x01\x00\x00\x00and what is none"), 0o644))
	require.NoError(t, os.Rename(filepath.Join(s.Folder, ".broken"), path))
	assert.ErrorIs(t, next(plugins.EventKept).Err, plugins.ErrUnreadable)
	version("1.5.0")
	assert.Equal(t, "1.5.0", next(plugins.EventReplaced).Version)

	library := filepath.Join(t.TempDir(), "x"+fixture.Ext())
	fixture.Variant(t, "system", library, "1.0.0", "1.6.0")
	require.NoError(t, sys.Replace(t.Context(), "plugin_aaaa", library))
	assert.Equal(t, "1.6.0", site.Call(t, sys, "plugin_aaaa", "version", ""))
	other := filepath.Join(t.TempDir(), "x.wasm")
	module(t, "system", other, "1.0.0", "1.7.0")
	require.NoError(t, sys.Replace(t.Context(), "plugin_aaaa", other))
	assert.Equal(t, "1.7.0", site.Call(t, sys, "plugin_aaaa", "version", ""))
	close(done)
	callers.Wait()
	for _, v := range []string{"1.0.0", "1.1.0", "1.5.0", "1.6.0", "1.7.0"} {
		delete(seen, v) // whether a version got a call in its time is the scheduler's to say
	}
	assert.Empty(t, seen)
}

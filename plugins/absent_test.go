package plugins_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// called is the error of a call of a plug-in's function.
func called(t *testing.T, sys *plugins.System, plugin string) error {
	t.Helper()
	f, err := sys.Func(plugin, "version")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	return err
}

// TestDisabledSaysSo: what is disabled says that it is, by which line, and how it is enabled: whatever else would be wrong with it, which nobody has to mend. Nobody is told that it
// has failed.
func TestDisabledSaysSo(t *testing.T) {
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "here"+fixture.Ext()), "1.0.0", "1.0.1")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "broken"+fixture.Ext()), []byte("no library"), 0o644))
	names := []string{"plugin_aaaa", "gone", "broken", "program", "dev", "compiled"}
	path, write := written(t, "folders: ["+folder+"]\nplugins:\n  - {name: plugin_aaaa, enabled: false}\n  - {name: gone, enabled: false}\n  - {name: broken, enabled: false}\n"+
		"  - {name: program, program: "+filepath.Join(folder, "none")+", enabled: false}\n  - {name: dev, enabled: false}\n  - {name: compiled, enabled: false}\n  - plugin_bbbb\n"+
		"dev: {dev: "+filepath.Join(folder, "broken"+fixture.Ext())+"}\n")
	var mu sync.Mutex
	told := map[string]plugins.State{}
	opts := []plugins.Option{plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("compiled", "1.0.0", nil), double("bbbb")), plugins.OnEvent(func(e plugins.Event) {
		mu.Lock()
		defer mu.Unlock()
		told[e.Plugin] = e.State
	})}
	holds := func(list []plugins.Plugin) {
		t.Helper()
		for _, p := range list {
			for i, name := range names {
				if p.Name == name {
					assert.Equal(t, plugins.StateDisabled, p.State, name)
					assert.ErrorIs(t, p.Err, plugins.ErrDisabled, name)
					assert.EqualError(t, p.Err, name+": run: found a plug-in that is disabled: enabled is false in its entry, line "+string(rune('3'+i))+" of "+path+
						", expected one that is enabled. Enable it there (ferrule enable)")
				}
			}
		}
	}
	sys := plugins.New("app", "1.0.0", opts...)
	require.NoError(t, sys.Start(t.Context()))
	assert.Len(t, sys.List(), len(names)+1)
	holds(sys.List())
	for _, name := range names {
		p, _ := sys.Plugin(name)
		assert.ErrorContains(t, called(t, sys, name), p.Err.Error())
		assert.ErrorContains(t, sys.Replace(t.Context(), "plugin_aaaa", filepath.Join(folder, "here"+fixture.Ext())), "plugin_aaaa: run: found a plug-in that is disabled")
	}
	over, err := plugins.Survey(t.Context(), plugins.Config(path))
	require.NoError(t, err)
	holds(over.Plugins)
	write("folders: [" + folder + "]\nplugins: [{name: plugin_bbbb, enabled: false}]")
	running, err := sys.Func("plugin_bbbb", "version")
	require.NoError(t, err)
	require.NoError(t, sys.Reload(t.Context()))
	_, err = running.Call(t.Context(), nil)
	assert.ErrorContains(t, err, "enabled is false in its entry, line 2 of ")
	require.NoError(t, closed(sys))
	mu.Lock()
	defer mu.Unlock()
	for _, name := range names {
		assert.NotEqual(t, plugins.StateFailed, told[name], name)
	}
}

// TestRequiredAndDisabled: what the application cannot be without, config.yaml cannot take away, also where no file of it is there.
func TestRequiredAndDisabled(t *testing.T) {
	path, _ := written(t, "plugins: [{name: gone, enabled: false}]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Required("gone"))
	assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrDisabled)
	require.NoError(t, closed(sys))
}

// TestNeedsWhatIsNotThere: who needs a plug-in that is disabled, or not listed, is told that, and not that there is none.
func TestNeedsWhatIsNotThere(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "f"+fixture.Ext()), []byte("no library"), 0o644))
	variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()), "1.0.0", "1.0.0")
	fixture.Variant(t, "serves", filepath.Join(folder, "s"+fixture.Ext()))
	path, _ := written(t, "folders: ["+folder+"]\nplugins: [{name: gone, enabled: false}, {name: f, enabled: false}, {name: imports, grant: ['*']}]")
	requires := func(name, other string) *builtin.Plugin {
		return simple(name, "1.0.0", map[string]string{"requires": other})
	}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(requires("x1", "gone"), requires("x2", "f ^1"), requires("x3", "plugin_aaaa ^1"), requires("x4", "nobody"),
		simple("imports", "1.0.0", nil, "geo_lookup")))
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	for name, says := range map[string]string{"x1": "found gone, which is disabled", "x2": "found f, which is disabled", "x3": "found plugin_aaaa, which is not listed", "x4": "found no plug-in nobody",
		"imports": "found serves, which provides it and is not listed"} {
		p, _ := sys.Plugin(name)
		assert.Equal(t, plugins.StateFailed, p.State, name)
		assert.ErrorContains(t, p.Err, says)
	}
}

// TestCallsOfWhatIsNotThere: the error of a call of a plug-in that does not run, and of a lookup, is that of its cause.
func TestCallsOfWhatIsNotThere(t *testing.T) {
	t.Run("before Start, after one that failed, and after Close", func(t *testing.T) {
		var sys *plugins.System
		var kept *plugins.Func
		path, _ := written(t, "plugins: [{name: a, required: true}]")
		a := simple("a", "1.0.0", nil)
		a.Start = func(context.Context, []byte) (any, error) {
			var err error
			if kept == nil {
				kept, err = sys.Func("b", "version")
			}
			return nil, err
		}
		sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(a, simple("b", "1.0.0", nil)), plugins.Required("c"))
		_, err := sys.Func("a", "version")
		assert.ErrorIs(t, err, plugins.ErrNotStarted)
		assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrNotFound)
		_, err = sys.Func("a", "version")
		assert.ErrorIs(t, err, plugins.ErrNotStarted)
		_, err = kept.Call(t.Context(), nil)
		assert.ErrorIs(t, err, plugins.ErrNotStarted)
		require.NoError(t, closed(sys))
		_, err = sys.Func("a", "version")
		assert.ErrorIs(t, err, plugins.ErrClosed)
		_, err = kept.Call(t.Context(), nil)
		assert.ErrorIs(t, err, plugins.ErrClosed)
	})
	t.Run("a file that was taken away", func(t *testing.T) {
		h := newHost(t, "in-process").add("aaaa")
		sys := h.new()
		require.NoError(t, sys.Start(t.Context()))
		require.NoError(t, called(t, sys, "plugin_aaaa"))
		require.NoError(t, os.Remove(filepath.Join(h.folder, "plugin_aaaa"+fixture.Ext())))
		require.NoError(t, sys.Reload(t.Context()))
		err := called(t, sys, "plugin_aaaa")
		assert.ErrorIs(t, err, plugins.ErrNotFound)
		assert.ErrorContains(t, err, "whose file is not there any more")
	})
	t.Run("an entry that was taken away", func(t *testing.T) {
		folder := t.TempDir()
		file := filepath.Join(folder, "a"+fixture.Ext())
		variant(t, "system", file, "1.0.0", "1.0.0")
		path, write := written(t, "folders: ["+folder+"]\nplugins: [plugin_aaaa]")
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
		defer func() { require.NoError(t, closed(sys)) }()
		require.NoError(t, sys.Start(t.Context()))
		require.NoError(t, called(t, sys, "plugin_aaaa"))
		write("folders: [" + folder + "]\nplugins: []")
		require.NoError(t, sys.Reload(t.Context()))
		for _, err := range []error{called(t, sys, "plugin_aaaa"), sys.Replace(t.Context(), "plugin_aaaa", file)} {
			assert.ErrorIs(t, err, plugins.ErrDisabled)
			assert.ErrorContains(t, err, "found a plug-in that "+path+" does not name")
		}
		p, _ := sys.Plugin("plugin_aaaa")
		assert.NoError(t, p.Err, "nobody wants it, and nothing is wrong with it")
	})
}

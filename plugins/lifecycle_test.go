package plugins_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestOverlappingDrains: a plug-in is disabled when the last call in any of its versions has come back, and not before.
func TestOverlappingDrains(t *testing.T) {
	const on, off = "plugins: [a]", "plugins: [{name: a, enabled: false}]"
	inside, release := make(chan struct{}), make(chan struct{})
	p := simple("a", "1.0.0", nil)
	p.Threads = abi.Concurrent
	p.Funcs = append(p.Funcs, builtin.Function{Name: "wait", Call: func(context.Context, []byte) ([]byte, error) {
		close(inside)
		<-release
		return nil, nil
	}})
	path, write := written(t, on)
	var all told
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(p), plugins.OnEvent(func(e plugins.Event) { all = append(all, e) }))
	require.NoError(t, sys.Start(t.Context()))
	state := func() plugins.State { p, _ := sys.Plugin("a"); return p.State }
	become := func(text string) {
		t.Helper()
		write(text)
		require.NoError(t, sys.Reload(t.Context()))
	}
	call := func(name string) {
		f, err := sys.Func("a", name)
		require.NoError(t, err)
		_, err = f.Call(context.Background(), nil)
		assert.NoError(t, err)
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		call("wait")
	}()
	<-inside
	become(off)
	become(on)
	assert.Equal(t, plugins.StateReady, state())
	become(off) // nothing runs but the call in the version before
	assert.Equal(t, plugins.StateDraining, state())
	become(on)
	call("version")
	assert.Equal(t, plugins.StateStarted, state())
	become(off)
	time.Sleep(100 * time.Millisecond) // the version that has no calls is closed meanwhile
	assert.Equal(t, plugins.StateDraining, state())
	close(release)
	<-back
	assert.Eventually(t, func() bool { return state() == plugins.StateDisabled }, time.Minute, time.Millisecond)
	require.NoError(t, closed(sys))
	assert.Equal(t, []plugins.State{"started", "draining", "ready", "draining", "ready", "started", "draining", "disabled"}, all.states("a"))
}

// TestEventsOfWhatDoesNotRun: each change of a plug-in's state is told, also of one that was never opened.
func TestEventsOfWhatDoesNotRun(t *testing.T) {
	path, write := written(t, "plugins: [{name: a, enabled: false}]")
	var all told
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("a", "1.0.0", nil)), plugins.OnEvent(func(e plugins.Event) { all = append(all, e) }))
	require.NoError(t, sys.Start(t.Context()))
	for _, text := range []string{"plugins: [a]", "plugins: [{name: a, enabled: false}]", "plugins: [{name: a, limit: 1s}]", "plugins: [{name: a, limit: 2s}]"} {
		write(text)
		require.NoError(t, sys.Reload(t.Context()))
	}
	require.NoError(t, closed(sys))
	assert.Equal(t, []plugins.State{"ready", "disabled", "ready", "gone"}, all.states("a"))
}

// opens counts how often each plug-in was opened.
func opens(n *atomic.Int64) plugins.Option {
	return plugins.LoaderOptions(func(string) []loader.Option {
		n.Add(1)
		return nil
	})
}

// TestBadVersionIsTriedOnce: a file that was not let in is not tried again at each look, but when it, or what it would get, has changed. Its error has the step at
// which it failed in the worker.
func TestBadVersionIsTriedOnce(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "a"+fixture.Ext())
	variant(t, "system", file)
	path, write := written(t, "folders: ["+folder+"]\nplugins: [plugin_aaaa]")
	var n atomic.Int64
	var kept atomic.Int64
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), opens(&n), plugins.OnEvent(func(e plugins.Event) {
		if e.Kind == plugins.EventKept {
			kept.Add(1)
		}
	}))
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	reload := func(tries int64) {
		t.Helper()
		n.Store(0)
		err := sys.Reload(t.Context())
		var why, inner *plugins.Error
		require.ErrorAs(t, err, &why)
		assert.Equal(t, plugins.StepProbe, why.Step)
		require.ErrorAs(t, why.Err, &inner)
		assert.Equal(t, plugins.StepStart, inner.Step)
		assert.Equal(t, tries, n.Load())
		p, _ := sys.Plugin("plugin_aaaa")
		assert.Equal(t, why, p.Err)
	}
	variant(t, "system", file, "start:ok", "start:no", "1.0.0", "1.0.1")
	reload(1)
	reload(0)
	reload(0)
	assert.Eventually(t, func() bool { return kept.Load() == 1 }, time.Minute, time.Millisecond)
	variant(t, "system", file, "start:ok", "start:no", "1.0.0", "1.0.2")
	reload(1)
	reload(0)
	write("folders: [" + folder + "]\nplugins: [{name: plugin_aaaa, config: {n: 1}}]")
	reload(1)
	reload(0)
	n.Store(0)
	assert.Error(t, sys.Replace(t.Context(), "plugin_aaaa", file))
	assert.EqualValues(t, 1, n.Load(), "by hand it is tried each time")
	variant(t, "system", file, "1.0.0", "1.0.3")
	require.NoError(t, sys.Reload(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.NoError(t, p.Err)
	require.NoError(t, closed(sys))
}

// TestGrantedWhenItIsIn: what a version asks for that the one before had not is told as granted when it has taken its place, and not while it is tried, nor when it
// fails. What it logs while it is tried in a worker says so.
func TestGrantedWhenItIsIn(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "a"+fixture.Ext())
	variant(t, "system", file)
	var all told
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Folder(folder), plugins.OnEvent(func(e plugins.Event) { all = append(all, e) }))
	plugins.Offer(sys, "host", func(context.Context, []byte) ([]byte, error) { return nil, nil }, plugins.Public())
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	variant(t, "system_asks", file, "start:ok", "start:no", "1.0.0", "1.0.1")
	require.Error(t, sys.Reload(t.Context()))
	variant(t, "system_asks", file, "1.0.0", "1.0.2")
	require.NoError(t, sys.Reload(t.Context()))
	require.NoError(t, closed(sys))
	var got []string
	for _, e := range all {
		if e.Kind == plugins.EventGranted || e.Kind == plugins.EventReplaced || e.Kind == plugins.EventKept {
			got = append(got, fmt.Sprint(e.Kind, " ", e.Version, " ", e.Name))
		}
	}
	assert.Equal(t, []string{"kept 1.0.0 ", "replaced 1.0.2 ", "granted 1.0.2 host"}, got)
	assert.Len(t, log.with("msg=starts"), 3)
	assert.Len(t, log.with("msg=starts", "step=probe"), 2)
}

// TestGroupsAreForgotten: a group that no plug-in is in any more, or whose permits have changed, is not kept.
func TestGroupsAreForgotten(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()))
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(entry string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte("folders: ["+folder+"]\nplugins: [{name: plugin_aaaa, required: true"+entry+"}]"), 0o644))
	}
	write(", isolate: {group: g0, sandbox: none}")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, 1, sys.Groups())
	for i := range 3 {
		write(fmt.Sprintf(", isolate: {group: g%d, sandbox: none}", 1+i))
		require.NoError(t, sys.Reload(t.Context()))
		assert.Equal(t, 1, sys.Groups())
	}
	write("")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Zero(t, sys.Groups())
	require.NoError(t, closed(sys))
}

// A file that was replaced before its plug-in is first called is not opened as what it was: the error says what to do, and that helps. With Watch it happens by itself.
func TestReplacedBeforeItIsOpened(t *testing.T) {
	for name, opts := range map[string][]plugins.Option{"reload": nil, "watch": {plugins.Watch()}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "in-process")
			file := filepath.Join(h.folder, "plugin_aaaa"+fixture.Ext())
			h.listed = "  - {name: plugin_aaaa}\n"
			variant(t, "system", file)
			sys := h.new(opts...)
			require.NoError(t, sys.Start(t.Context()))
			f, err := sys.Func("plugin_aaaa", "version")
			require.NoError(t, err)
			variant(t, "system", file, "1.0.0", "1.1.0")
			if name == "watch" {
				require.Eventually(t, func() bool {
					out, err := f.Call(t.Context(), nil)
					return err == nil && string(out) == "1.1.0"
				}, time.Minute, time.Millisecond)
				return
			}
			_, err = f.Call(t.Context(), nil)
			require.ErrorIs(t, err, plugins.ErrRange)
			assert.ErrorContains(t, err, `found version "1.1.0" in the file that was opened, expected "1.0.0", which was checked before. Call Reload`)
			require.NoError(t, sys.Reload(t.Context()))
			out, err := f.Call(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, "1.1.0", string(out))
		})
	}
}

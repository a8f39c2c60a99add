package monitor_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// system is one of five plug-ins: gggg in Go, aaaa in this process, bbbb and cccc isolated, and dddd, which does not start. The test closes it.
func system(t *testing.T, opts ...plugins.Option) (sys *plugins.System, piped *plugins.PipePoint[[]byte]) {
	t.Helper()
	fixture.Loadable(t)
	folder := t.TempDir()
	for _, tag := range []string{"aaaa", "bbbb", "cccc"} {
		fixture.Variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
	}
	fixture.Variant(t, "system", filepath.Join(folder, "dddd"+fixture.Ext()), "aaaa", "dddd", "start:ok", "start:no")
	text := "folders: [" + strconv.Quote(folder) + "]\nplugins:\n  - plugin_aaaa\n  - {name: plugin_bbbb, isolate: {sandbox: none}}\n" +
		"  - {name: plugin_cccc, isolate: {sandbox: none}}\n  - plugin_dddd\n  - plugin_gggg\n"
	path := filepath.Join(folder, "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	inGo := &builtin.Plugin{Name: "plugin_gggg", Version: "2.0.0", Hooks: []builtin.Function{{Name: "piped",
		Call: func(_ context.Context, in []byte) ([]byte, error) { return append(in, '!'), nil }}}}
	opts = append(opts, plugins.Config(path), plugins.Builtin(inGo), plugins.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	sys = plugins.New("app", "1.2.3", opts...)
	t.Cleanup(func() { require.NoError(t, sys.Close()) })
	piped = plugins.Pipe[[]byte](sys, "piped", plugins.OnError(plugins.Skip), plugins.Breaker(3, time.Hour))
	require.NoError(t, sys.Start(t.Context()))
	return sys, piped
}

// of is the plug-in of a name in a picture.
func of(t *testing.T, s *monitor.Snapshot, name string) monitor.Plugin {
	t.Helper()
	for _, p := range s.Plugins {
		if p.Name == name {
			return p
		}
	}
	require.Fail(t, "not in the picture", name)
	return monitor.Plugin{}
}

// TestTake: what a picture has of each kind of plug-in, also as JSON.
func TestTake(t *testing.T) {
	sys, piped := system(t, plugins.Counting())
	first := monitor.Take(sys)
	assert.Len(t, first.Plugins, 5)
	for _, p := range first.Plugins {
		assert.Zero(t, p.Memory, "%s has no worker yet", p.Name)
		assert.Zero(t, p.Worker)
		assert.Equal(t, &monitor.Calls{}, p.Calls, "it was not called")
	}
	const calls = 130
	for range calls {
		out, err := piped.Call(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, "+aaaa+bbbb+cccc!", string(out))
	}
	worker := of(t, monitor.Take(sys), "plugin_bbbb").Worker
	for _, in := range []string{"bbbb=crash", "aaaa=fail", "aaaa=pass", "cccc=fail", "cccc=fail", "cccc=fail", ""} {
		_, err := piped.Call(t.Context(), []byte(in))
		require.NoError(t, err)
	}
	seen := monitor.Take(sys)
	text, err := json.Marshal(seen)
	require.NoError(t, err)
	var read monitor.Snapshot
	require.NoError(t, json.Unmarshal(text, &read))
	assert.True(t, seen.Time.Equal(read.Time))
	read.Time = seen.Time
	for i := range read.Plugins {
		assert.True(t, seen.Plugins[i].RetryAt.Equal(read.Plugins[i].RetryAt))
		read.Plugins[i].RetryAt = seen.Plugins[i].RetryAt
	}
	assert.Equal(t, *seen, read)

	assert.Equal(t, []any{monitor.Format, "app", "1.2.3", os.Getpid(), true}, []any{seen.Format, seen.App, seen.Version, seen.PID, seen.Counting})
	linux := runtime.GOOS == "linux"
	assert.Equal(t, linux, seen.Memory > 0)
	for name, want := range map[string]monitor.Plugin{
		"plugin_aaaa": {Version: "1.0.0", State: plugins.StateStarted, Runs: "in-process", Calls: &monitor.Calls{Calls: calls + 7, Passed: 1, Failed: 1}},
		"plugin_bbbb": {Version: "1.0.0", State: plugins.StateStarted, Runs: "isolated", Calls: &monitor.Calls{Calls: calls + 7, Failed: 1, Crashed: 1}, Restarts: 1},
		"plugin_cccc": {Version: "1.0.0", State: plugins.StateStarted, Runs: "isolated", Calls: &monitor.Calls{Calls: calls + 6, Failed: 3}},
		"plugin_dddd": {Version: "1.0.0", State: plugins.StateFailed, Runs: "in-process", Calls: &monitor.Calls{}},
		"plugin_gggg": {Version: "2.0.0", State: plugins.StateStarted, Runs: "in-process", Calls: &monitor.Calls{Calls: calls + 7}},
	} {
		got := of(t, seen, name)
		assert.Equal(t, []any{want.Version, want.State, want.Runs, true, want.Restarts}, []any{got.Version, got.State, got.Runs, got.Enabled, got.Restarts}, name)
		assert.Equal(t, []uint64{want.Calls.Calls, want.Calls.Passed, want.Calls.Failed, want.Calls.Crashed, want.Calls.Late},
			[]uint64{got.Calls.Calls, got.Calls.Passed, got.Calls.Failed, got.Calls.Crashed, got.Calls.Late}, name)
		if want.Calls.Calls > 0 {
			assert.Equal(t, (want.Calls.Calls+63)/64, got.Calls.Timed, name)
			assert.Positive(t, got.Calls.Mean())
			assert.LessOrEqual(t, got.Calls.Mean(), got.Calls.Longest)
			require.Len(t, got.Counted, 1)
			assert.Equal(t, "piped", got.Counted[0].Point)
			assert.Equal(t, *got.Calls, got.Counted[0].Calls, "there is one hook")
		} else {
			assert.Zero(t, got.Calls.Mean())
		}
		assert.Equal(t, linux && want.Runs == "isolated", got.Memory > 0, name)
		assert.Equal(t, want.Runs == "isolated", got.Worker > 0, name)
		assert.Equal(t, name == "plugin_cccc", got.LeftOut > 0, "three failures in a row: %s", name)
		assert.Equal(t, name == "plugin_dddd", got.Error != "", "%s: %s", name, got.Error)
	}
	assert.NotEqual(t, worker, of(t, seen, "plugin_bbbb").Worker, "that one has crashed")

	rate, known := monitor.Rates(first, seen)("plugin_aaaa")
	assert.True(t, known)
	assert.InEpsilon(t, float64(calls+7)/seen.Time.Sub(first.Time).Seconds(), rate, 1e-9)
	again := *seen
	again.PID++
	for what, before := range map[string]*monitor.Snapshot{"no other picture": nil, "the same": seen, "the next one": {PID: seen.PID, App: "app", Time: seen.Time.Add(-time.Second)},
		"of another process": &again} {
		_, known = monitor.Rates(before, seen)("plugin_aaaa")
		assert.False(t, known, what)
	}

	require.NoError(t, sys.Close())
	for _, p := range monitor.Take(sys).Plugins {
		assert.Zero(t, p.Memory, p.Name)
		assert.Contains(t, []plugins.State{plugins.StateGone, plugins.StateFailed}, p.State)
	}
}

// TestNotCounted: without Counting nothing is said of calls, and that is said.
func TestNotCounted(t *testing.T) {
	sys, piped := system(t)
	_, err := piped.Call(t.Context(), nil)
	require.NoError(t, err)
	seen := monitor.Take(sys)
	assert.False(t, seen.Counting)
	for _, p := range seen.Plugins {
		assert.Nil(t, p.Calls)
		assert.Empty(t, p.Counted)
	}
	_, known := monitor.Rates(seen, monitor.Take(sys))("plugin_aaaa")
	assert.False(t, known)
	empty, err := json.Marshal(monitor.Take(plugins.New("app", "1.0.0")))
	require.NoError(t, err)
	assert.Contains(t, string(empty), `"counting":false,"plugins":[]`, "a system that was not started")
}

// TestGroup: plug-ins that share a worker have its memory.
func TestGroup(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	for _, tag := range []string{"aaaa", "bbbb"} {
		fixture.Variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
	}
	path := filepath.Join(folder, "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("folders: ["+strconv.Quote(folder)+"]\nplugins:\n  - {name: plugin_aaaa, isolate: {group: both, sandbox: none}}\n"+
		"  - {name: plugin_bbbb, isolate: {group: both, sandbox: none}}\n"), 0o644))
	sys := plugins.New("app", "1.0.0", plugins.Config(path), plugins.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	t.Cleanup(func() { require.NoError(t, sys.Close()) })
	told := plugins.Notify[[]byte](sys, "told")
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, told.Call(t.Context(), nil))
	seen := monitor.Take(sys)
	a, b := of(t, seen, "plugin_aaaa"), of(t, seen, "plugin_bbbb")
	assert.Equal(t, []string{"group", "both", "group", "both"}, []string{a.Runs, a.Group, b.Runs, b.Group})
	assert.Positive(t, a.Worker)
	assert.Equal(t, a.Worker, b.Worker)
}

// TestTakeMeanwhile: pictures are taken while plug-ins are called, replaced and closed.
func TestTakeMeanwhile(t *testing.T) {
	sys, piped := system(t, plugins.Counting(), plugins.Watch())
	server, path := served(t, sys)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = piped.Call(context.Background(), nil)
				}
			}
		})
	}
	for range 3 {
		all.Go(func() {
			c, err := monitor.Dial(context.Background(), path)
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			before := uint64(0)
			for range 5 {
				seen, err := c.Snapshot(context.Background())
				if !assert.NoError(t, err) {
					return
				}
				assert.GreaterOrEqual(t, of(t, seen, "plugin_aaaa").Calls.Calls, before)
				before = of(t, seen, "plugin_aaaa").Calls.Calls
			}
			assert.Positive(t, before)
		})
	}
	for range 3 {
		assert.NoError(t, sys.Reload(t.Context()))
	}
	time.Sleep(300 * time.Millisecond) // with the calls
	assert.NoError(t, sys.Close())
	close(stop)
	all.Wait()
	assert.NoError(t, server.Close())
}

// TestRefusedConfig: a config.yaml that was not taken over is in the picture as long as it is not, with since when and why.
func TestRefusedConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o644)) }
	write("plugins: []")
	sys := plugins.New("app", "1.2.3", plugins.Config(path), plugins.Logger(slog.New(slog.DiscardHandler)))
	defer func() { require.NoError(t, sys.Close()) }()
	require.NoError(t, sys.Start(t.Context()))
	assert.Nil(t, monitor.Take(sys).Config)
	before := time.Now()
	write("\nplugings: []")
	require.Error(t, sys.Reload(t.Context()))
	refused := monitor.Take(sys).Config
	require.NotNil(t, refused)
	assert.False(t, refused.Since.Before(before) || refused.Since.After(time.Now()))
	assert.Contains(t, refused.Error, path+":2:1: ")
	assert.NotContains(t, refused.Error, "not taken over", "who shows it says so")
	write("plugins: []")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Nil(t, monitor.Take(sys).Config)
}

package plugins_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

// lines is a log that a test reads.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// with returns the lines that have all of these words.
func (l *lines) with(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.Lines(l.buf.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		found = append(found, strings.TrimSpace(line))
	}
	return found
}

// logger returns a logger whose lines, of all levels, are in l.
func (l *lines) logger() plugins.Option {
	return plugins.Logger(slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// told is what an OnEvent was told. The race detector sees it when two are told at the same time.
type told []plugins.Event

// states returns the states of a plug-in that events told of, in their order.
func (all told) states(plugin string) (states []plugins.State) {
	for _, e := range all {
		if e.Kind == plugins.EventState && e.Plugin == plugin {
			states = append(states, e.State)
		}
	}
	return states
}

// TestEventsInOrder: each event is told once, in order, to each that listens; one that panics or ends its goroutine keeps nothing from the others.
func TestEventsInOrder(t *testing.T) {
	var log lines
	var first, last told
	heard := 0
	sys := newHost(t, "go").add("aaaa", "bbbb").new(log.logger(),
		plugins.OnEvent(func(e plugins.Event) { first = append(first, e) }),
		plugins.OnEvent(func(plugins.Event) {
			heard++
			if heard%2 == 0 {
				runtime.Goexit()
			}
			panic("as it was told")
		}),
		plugins.OnEvent(func(e plugins.Event) { last = append(last, e) }))
	notify := plugins.Notify[[]byte](sys, "told")
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, notify.Call(t.Context(), nil))
	require.NoError(t, closed(sys))
	for _, plugin := range []string{"plugin_aaaa", "plugin_bbbb"} {
		assert.Equal(t, []plugins.State{plugins.StateStarted, plugins.StateDraining, plugins.StateGone}, first.states(plugin))
	}
	assert.Equal(t, first, last)
	assert.Len(t, first, heard)
	for i, e := range first {
		assert.False(t, e.Time.IsZero())
		assert.False(t, i > 0 && e.Time.Before(first[i-1].Time), "%v", first)
	}
	assert.Len(t, log.with("level=ERROR", "OnEvent", "as it was told"), (heard+1)/2)
}

// TestEventsThatWait: one that blocks delays events alone. Close waits for it; Shutdown as long as its context says; of what waits meanwhile, the
// oldest are dropped.
func TestEventsThatWait(t *testing.T) {
	const bound = 4096
	release := make(chan struct{})
	var got told
	var mu sync.Mutex
	sys := newHost(t, "go").add("aaaa").new(plugins.OnEvent(func(e plugins.Event) {
		<-release
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e)
	}))
	notify := plugins.Notify[[]byte](sys, "told", plugins.Breaker(1, time.Nanosecond))
	require.NoError(t, sys.Start(t.Context()))
	for range bound { // each has the hook left out, and let in again
		assert.Error(t, notify.Call(t.Context(), []byte("aaaa=fail")))
		for notify.Call(t.Context(), nil) != nil {
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := sys.Shutdown(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "OnEvent has not come back, with 4096 events")
	close(release)
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 1+bound
	}, time.Minute, time.Millisecond, "the one that blocked, and the last of the others")
	assert.Equal(t, plugins.StateStarted, got[0].State)
	assert.Equal(t, plugins.StateGone, got[bound].State)
}

// TestCloseWaitsForEvents: when Close returns, all were told.
func TestCloseWaitsForEvents(t *testing.T) {
	var all told
	sys := newHost(t, "go").add("aaaa", "bbbb").new(plugins.OnEvent(func(e plugins.Event) {
		time.Sleep(10 * time.Millisecond)
		all = append(all, e)
	}))
	notify := plugins.Notify[[]byte](sys, "told")
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, notify.Call(t.Context(), nil))
	require.NoError(t, sys.Close())
	assert.Equal(t, plugins.StateGone, all.states("plugin_aaaa")[2])
	assert.Equal(t, plugins.StateGone, all.states("plugin_bbbb")[2])
}

// traced adds the fixture traced.c, or its double in Go.
func (h *host) traced() *host {
	h.t.Helper()
	if h.engine == "go" {
		call := func(ctx context.Context, _ []byte) ([]byte, error) {
			parent, err := builtin.Info(ctx, "traceparent")
			if err != nil && !errors.Is(err, loader.ErrUnsupported) {
				return nil, err
			}
			return builtin.Import(ctx, "note", []byte(parent))
		}
		traced := builtin.Function{Name: "traced", Call: call}
		h.opts = append(h.opts, plugins.Builtin(&builtin.Plugin{Name: "traced", Version: "1.0.0", Imports: []string{"note"},
			Wants: []string{"extra"}, Threads: abi.Concurrent, Funcs: []builtin.Function{traced}, Hooks: []builtin.Function{traced}}))
		return h
	}
	variant(h.t, "traced", h.folder+"/traced"+fixture.Ext())
	return h
}

// TestQuota: a plug-in calls a host function as often as its offer says, within a second, and again in the next one.
func TestQuota(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			host := newHost(t, engine).traced()
			if engine == "isolated" {
				host.listed = "  - {name: traced, isolate: {sandbox: none}}\n"
			}
			sys := host.new()
			ran := 0
			plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) {
				ran++
				return []byte("noted"), nil
			}, plugins.Public(), plugins.PerSecond(3))
			require.NoError(t, sys.Start(t.Context()))
			f, err := sys.Func("traced", "traced")
			require.NoError(t, err)
			call := func() error {
				out, err := f.Call(t.Context(), nil)
				if err == nil {
					assert.Equal(t, "noted", string(out))
				}
				return err
			}
			begun := time.Now()
			for range 3 {
				require.NoError(t, call())
			}
			err = call()
			if time.Since(begun) < time.Second { // a machine that is as slow as that has begun the next second
				require.ErrorIs(t, err, loader.ErrFailed)
				assert.Equal(t, 3, ran, "it was not run")
			}
			assert.Eventually(t, func() bool { return call() == nil }, time.Minute, 50*time.Millisecond)
			assert.Equal(t, 4, ran)
		})
	}
}

// TestAudit: what a plug-in was granted and refused is told, once, and is in the log at its level: a refusal with which it cannot run is a warning.
func TestAudit(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			var log lines
			var all told
			host := newHost(t, engine).traced()
			isolate := ""
			if engine == "isolated" {
				isolate = ", isolate: {sandbox: none}"
			}
			path := filepath.Join(t.TempDir(), "config.yaml")
			configure := func(grant string) {
				text := "folders: [" + host.folder + "]\nplugins:\n  - {name: traced, grant: [" + grant + "]" + isolate + "}\n"
				require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			}
			configure("")
			sys := host.new(plugins.Config(path), log.logger(), plugins.OnEvent(func(e plugins.Event) {
				if e.Kind == plugins.EventGranted || e.Kind == plugins.EventRefused {
					all = append(all, e)
				}
			}))
			nothing := func(context.Context, []byte) ([]byte, error) { return nil, nil }
			plugins.Offer(sys, "note", nothing)
			plugins.Offer(sys, "extra", nothing)
			require.NoError(t, sys.Start(t.Context()))
			for _, grant := range []string{"", "note", "note", "note, extra"} {
				configure(grant)
				require.NoError(t, sys.Reload(t.Context()))
			}
			require.NoError(t, sys.Close())

			type line struct {
				kind plugins.EventKind
				name string
				fail bool
			}
			var got []line
			for _, e := range all {
				assert.Equal(t, []string{"traced", "1.0.0"}, []string{e.Plugin, e.Version})
				got = append(got, line{e.Kind, e.Name, e.Err != nil})
				if e.Err != nil {
					var failed *plugins.Error
					require.ErrorAs(t, e.Err, &failed)
					assert.ErrorIs(t, failed, plugins.ErrGrant)
				}
			}
			assert.Equal(t, []line{{plugins.EventRefused, "extra", false}, {plugins.EventRefused, "", true},
				{plugins.EventGranted, "note", false}, {plugins.EventGranted, "extra", false}}, got)
			assert.Len(t, log.with("level=WARN", "plug-in refused", "plugin=traced", "imports that it was not granted: note"), 1)
			assert.Len(t, log.with("level=INFO", "plug-in refused", "plugin=traced", "name=extra"), 1)
			assert.Len(t, log.with("level=INFO", "plug-in granted", "plugin=traced", "name=note"), 1)
			assert.Len(t, log.with("level=INFO", "plug-in granted", "plugin=traced", "name=extra"), 1)
		})
	}
}

// TestAuditOfWhoIsNotIn: what is granted to a plug-in that cannot be, for want of a permit, is told when it can.
func TestAuditOfWhoIsNotIn(t *testing.T) {
	pts := simple("pts", "1.0.0", map[string]string{"permit.connect": "443"}, "note")
	path, write := written(t, "plugins: [{name: pts, grant: [note]}]")
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Config(path), plugins.Builtin(pts))
	plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, sys.Reload(t.Context()))
	assert.Empty(t, log.with("plug-in granted"))
	assert.Len(t, log.with("plug-in refused"), 1)
	write("plugins: [{name: pts, grant: [note], permit: {connect: [443]}}]")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Len(t, log.with("plug-in granted", "name=note"), 1)
	assert.Len(t, log.with("plug-in granted", `name="connect 443"`), 1)
}

// TestConfigInTheLog: the log says of config.yaml whether it was taken over, in words that are about the file and no plug-in.
func TestConfigInTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("plugins: [aaaa]"), 0o644))
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Config(path), plugins.Builtin(simple("aaaa", "1.0.0", nil)))
	require.NoError(t, sys.Start(t.Context()))
	defer sys.Close()
	require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: aaaa, limit: 2s}]"), 0o644))
	require.NoError(t, sys.Reload(t.Context()))
	assert.Len(t, log.with(`level=INFO msg="config.yaml taken over"`), 1)
	require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: aaaa, limit: long}]"), 0o644))
	require.Error(t, sys.Reload(t.Context()))
	assert.Len(t, log.with(`level=WARN msg="config.yaml refused"`, "was not taken over"), 1)
	assert.Empty(t, log.with(`"plug-in config"`))
}

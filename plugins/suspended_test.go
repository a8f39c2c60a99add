package plugins_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestMendedWhileSuspended: what mends a plug-in whose workers crash is taken over while none is started: other settings, and another file, also of a plug-in
// that would hand its state over.
func TestMendedWhileSuspended(t *testing.T) {
	for what, c := range map[string]struct{ fixture, plugin, group, crashes, asked, says string }{
		"settings":            {"system", "plugin_aaaa", "", "answer", "config", `{"mode":"ok"}`},
		"a file":              {"system", "plugin_aaaa", "", "answer", "version", "1.0.1"},
		"state":               {"system_counter", "system_counter", "", "crash", "count", "1"},
		"settings in a group": {"system", "plugin_aaaa", ", group: g", "answer", "config", `{"mode":"ok"}`},
		"a file in a group":   {"system", "plugin_aaaa", ", group: g", "answer", "version", "1.0.1"},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t, "isolated")
			file := filepath.Join(h.folder, c.plugin+fixture.Ext())
			variant(t, c.fixture, file)
			config := filepath.Join(t.TempDir(), "config.yaml")
			write := func(mode string) {
				require.NoError(t, os.WriteFile(config, []byte("folders: ["+h.folder+"]\nplugins:\n  - {name: "+c.plugin+", isolate: {sandbox: none"+c.group+"}, config: {mode: "+mode+"}}\n"), 0o644))
			}
			write("crash")
			var mu sync.Mutex
			var kinds []plugins.EventKind
			sys := h.new(plugins.Config(config), plugins.OnEvent(func(e plugins.Event) {
				mu.Lock()
				defer mu.Unlock()
				kinds = append(kinds, e.Kind)
			}))
			require.NoError(t, sys.Start(t.Context()))
			crashes, err := sys.Func(c.plugin, c.crashes)
			require.NoError(t, err)
			for !errors.Is(err, loader.ErrSuspended) {
				_, err = crashes.Call(t.Context(), []byte("aaaa=crash"))
				require.ErrorIs(t, err, loader.ErrCrash)
			}
			known, _ := sys.Plugin(c.plugin)
			assert.Equal(t, plugins.StateSuspended, known.State)
			assert.ErrorContains(t, known.Err, "none is started for a while")

			if c.asked == "config" {
				write("ok")
			} else {
				variant(t, c.fixture, file, "1.0.0", "1.0.1")
			}
			require.NoError(t, sys.Reload(t.Context()))
			known, _ = sys.Plugin(c.plugin)
			assert.Equal(t, plugins.StateStarted, known.State)
			assert.NoError(t, known.Err)
			f, err := sys.Func(c.plugin, c.asked)
			require.NoError(t, err)
			out, err := f.Call(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, c.says, string(out))
			require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(kinds, plugins.EventReplaced) }, time.Minute, time.Millisecond)
		})
	}
}

// TestSuspendedAtTheCrash: that a plug-in is suspended is told with the crash that it is for, and not when a call meets it; and when the time is over, that the next
// call has a worker started.
func TestSuspendedAtTheCrash(t *testing.T) {
	var mu sync.Mutex
	var told []plugins.Event
	sys := newHost(t, "isolated").add("aaaa").new(plugins.OnEvent(func(e plugins.Event) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, e)
	}))
	asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Breaker(0, 0))
	require.NoError(t, sys.Start(t.Context()))
	state := func() plugins.Plugin { known, _ := sys.Plugin("plugin_aaaa"); return known }
	for state().State != plugins.StateSuspended {
		_, err := asked.Call(t.Context(), []byte("aaaa=crash"))
		require.ErrorIs(t, err, loader.ErrCrash)
		require.NotErrorIs(t, err, loader.ErrSuspended, "it is known before a call meets it")
	}
	require.Eventually(t, func() bool { // events are told of by themselves
		mu.Lock()
		defer mu.Unlock()
		last := told[len(told)-1]
		return last.Kind == plugins.EventSuspended && last.For > 0
	}, time.Minute, time.Millisecond)
	assert.ErrorContains(t, state().Err, "none is started for a while")
	require.Eventually(t, func() bool { return strings.Contains(state().Err.Error(), "the next call has another one started") }, time.Minute, time.Millisecond)
	assert.Equal(t, plugins.StateSuspended, state().State)
}

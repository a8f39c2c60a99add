package plugins_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestRejectedOnce: a version that did not take the place of the one that runs is started once, and told of once, whatever else in config.yaml changes, also when the file's time
// is no more that of a moment ago.
func TestRejectedOnce(t *testing.T) {
	h := newHost(t, "isolated").add("aaaa")
	file, config := filepath.Join(h.folder, "limits"+fixture.Ext()), filepath.Join(t.TempDir(), "config.yaml")
	variant(t, "limits", file)
	change := func(mode string) {
		require.NoError(t, os.WriteFile(config, []byte("folders: ["+h.folder+"]\nplugins:\n  - {name: limits, isolate: {sandbox: none}, grant: [outside]}\n"+h.listed+
			"    config: {mode: "+mode+"}\n"), 0o644))
	}
	h.listed = "  - name: plugin_aaaa\n    isolate: {sandbox: none}\n"
	change("0")
	var refuses atomic.Bool
	var starts, kept atomic.Int32
	sys := plugins.New("shop", "1.4.0", plugins.Config(config), plugins.Logger(quiet()), plugins.OnEvent(func(e plugins.Event) {
		if e.Kind == plugins.EventKept {
			kept.Add(1)
		}
	}))
	defer sys.Close()
	plugins.Offer(sys, "outside", func(_ context.Context, in []byte) ([]byte, error) {
		if string(in) == "start" {
			starts.Add(1)
			if refuses.Load() {
				return nil, errors.New("refused")
			}
		}
		return nil, nil
	})
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("limits", "works")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), []byte("1"))
	require.NoError(t, err)
	require.EqualValues(t, 1, starts.Load())

	refuses.Store(true)
	variant(t, "limits", file, "1.0.0", "1.0.1")
	require.Error(t, sys.Reload(t.Context()))
	require.EqualValues(t, 2, starts.Load())
	for _, mode := range []string{"1", "2", "3", "4"} {
		if mode == "2" {
			time.Sleep(4 * time.Second)
		}
		change(mode)
		_ = sys.Reload(t.Context())
		config, err := sys.Func("plugin_aaaa", "config")
		require.NoError(t, err)
		out, err := config.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, `{"mode":`+mode+`}`, string(out))
	}
	assert.EqualValues(t, 2, starts.Load())
	known, _ := sys.Plugin("limits")
	assert.ErrorContains(t, known.Err, "ferrule_start: failed")

	refuses.Store(false)
	variant(t, "limits", file) // as it was
	require.NoError(t, sys.Reload(t.Context()))
	known, _ = sys.Plugin("limits")
	assert.NoError(t, known.Err)
	require.NoError(t, closed(sys)) // all events have been told of
	assert.EqualValues(t, 1, kept.Load())
}

//go:build unix

package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/plugins"
)

// tariff is a plug-in of a node's, with settings that it cannot do without, an import and a hook.
func tariff(version string) serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "tariff", Version: version, Threads: abi.Concurrent, Imports: []string{"points"},
		ConfigSchema: `{"type": "object", "required": ["currency"]}`,
		Start:        func(context.Context, []byte) (any, error) { return nil, nil },
		Funcs: []builtin.Function{
			{Name: "version", Call: func(context.Context, []byte) ([]byte, error) { return []byte(version), nil }},
			{Name: "points", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "points", in) }},
		},
		Hooks: []builtin.Function{{Name: "checkout", Call: func(context.Context, []byte) ([]byte, error) { return []byte(version), nil }}}})
}

// node serves a plug-in in this process until the test ends, or leave is called.
func node(t *testing.T, way, url string, p serve.Plugin) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	with := loader.WithConfig([]byte(`{"currency": "EUR"}`))
	go func() {
		if way == "--mqtt" {
			done <- mqtt.Serve(ctx, p, mqtt.Node{Servers: url, Workers: 4, Ready: func(id string) { ready <- id }}, with)
		} else {
			done <- nats.Serve(ctx, p, nats.Node{Servers: url, Workers: 4, Ready: func(id string) { ready <- id }}, with)
		}
	}()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		require.NoError(t, err)
	}
	left := false
	leave = func() {
		cancel()
		if !left {
			left = true
			assert.NoError(t, <-done)
		}
	}
	t.Cleanup(leave)
	return leave
}

type asItIs struct{}

func (asItIs) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (asItIs) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// A system has a plug-in of other machines by the URL in its entry: with the host functions and the points of the application, whichever nodes there are.
func TestNodesInConfig(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, k kind, b broker) {
		config := filepath.Join(t.TempDir(), "config.yaml")
		url := b.URL() + "/tariff@^1"
		require.NoError(t, os.WriteFile(config, []byte("plugins:\n- {name: tariff, url: '"+url+"', grant: [points]}\n"), 0o600))
		system := func(engines ...engine.Engine) *plugins.System {
			sys := plugins.New("shop", "1.4.0", plugins.Config(config), plugins.Logger(slog.New(slog.DiscardHandler)), plugins.Engines(engines...))
			plugins.Offer(sys, "points", func(_ context.Context, customer string) (string, error) { return customer + " has 7", nil })
			t.Cleanup(func() { assert.NoError(t, sys.Close()) })
			return sys
		}
		// Without the engine it has failed, and says which.
		sys := system()
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("tariff")
		require.ErrorIs(t, p.Err, loader.ErrNoEngine)
		assert.ErrorContains(t, p.Err, "plugins.Engines("+k.way[2:]+".Engine()), of github.com/ferrule-dev/ferrule/loader/remote/"+k.way[2:])
		survey, err := plugins.Survey(t.Context(), plugins.Config(config))
		require.NoError(t, err)
		assert.Equal(t, plugins.StateReady, survey.Plugins[0].State, "the application may have one")

		// With it, and no node yet, it is tried again by itself; a node of another version is none.
		own := []engine.Engine{nats.Engine(nats.WithSilence(time.Minute)), mqtt.Engine(mqtt.WithSilence(time.Minute))}
		node(t, k.way, b.URL(), tariff("2.0.0"))
		sys = system(own...)
		asked := plugins.First[[]byte, []byte](sys, "checkout", plugins.Codec(asItIs{}))
		require.NoError(t, sys.Start(t.Context()))
		p, _ = sys.Plugin("tariff")
		require.ErrorIs(t, p.Err, remote.ErrNoNode)
		leave := node(t, k.way, b.URL(), tariff("1.0.0"))
		for p.Err != nil {
			require.NoError(t, t.Context().Err())
			time.Sleep(time.Millisecond)
			p, _ = sys.Plugin("tariff")
		}
		assert.Equal(t, url, p.Source)
		assert.Equal(t, "1.0.0", p.Version)
		version, err := sys.Func("tariff", "version")
		require.NoError(t, err)
		points, err := sys.Func("tariff", "points")
		require.NoError(t, err)
		out, err := version.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "1.0.0", string(out))
		out, err = points.Call(t.Context(), []byte(`"Ada"`))
		require.NoError(t, err)
		assert.Equal(t, `"Ada has 7"`, string(out))
		answer, found, err := asked.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "1.0.0", string(answer))

		// Another node takes its place without a lost call, and none is an error that says so.
		next := node(t, k.way, b.URL(), tariff("1.1.0"))
		leave()
		out, err = version.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "1.1.0", string(out))
		next()
		_, err = version.Call(t.Context(), nil)
		require.ErrorIs(t, err, remote.ErrNoNode)

		// What its manifest imports it is granted, or it is not there.
		require.NoError(t, os.WriteFile(config, []byte("plugins:\n- {name: tariff, url: '"+strings.Replace(url, "^1", "^2", 1)+"'}\n"), 0o600))
		sys = system(own...)
		require.NoError(t, sys.Start(t.Context()))
		p, _ = sys.Plugin("tariff")
		assert.ErrorIs(t, p.Err, plugins.ErrGrant)

		// The entry's name is the plug-in's.
		require.NoError(t, os.WriteFile(config, []byte("plugins:\n- {name: prices, url: '"+strings.Replace(url, "^1", "^2", 1)+"', grant: [points]}\n"), 0o600))
		sys = system(own...)
		require.NoError(t, sys.Start(t.Context()))
		p, _ = sys.Plugin("prices")
		assert.ErrorContains(t, p.Err, "found the plug-in tariff, expected prices")
	})
}

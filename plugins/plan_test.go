package plugins_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// simple is a plug-in in Go with keys of its manifest, and imports.
func simple(name, version string, keys map[string]string, imports ...string) *builtin.Plugin {
	return &builtin.Plugin{Name: name, Version: version, Keys: keys, Imports: imports,
		Funcs: []builtin.Function{{Name: "version", Call: func(context.Context, []byte) ([]byte, error) { return []byte(version), nil }}}}
}

func states(sys *plugins.System) string {
	var words []string
	for _, p := range sys.List() {
		words = append(words, p.Name+" "+string(p.State))
	}
	return strings.Join(words, ", ")
}

// TestRegistration: each reason why a plug-in cannot be there, as its typed error; the healthy ones are.
func TestRegistration(t *testing.T) {
	keys := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	service := &builtin.Plugin{Name: "geo", Version: "1.2.0", Keys: keys("provides", "geo_lookup"),
		Funcs: []builtin.Function{{Name: "geo_lookup", Call: func(context.Context, []byte) ([]byte, error) { return []byte("52 N"), nil }}}}
	broken := &builtin.Plugin{Name: "geo", Version: "1.2.0", Keys: keys("provides", "geo_lookup"),
		Funcs: service.Funcs, Start: func(context.Context, []byte) (any, error) { return nil, failure("no map") }}
	for _, c := range []struct {
		name, config string
		plugins      []*builtin.Plugin
		want         string // the states
		who          string
		step         plugins.Step
		kind         error
		says         []string
	}{
		{name: "missing", config: "plugins: [gone]", plugins: []*builtin.Plugin{simple("gine", "1.0.0", nil)}, want: "gine ready, gone failed",
			who: "gone", step: plugins.StepDiscover, kind: plugins.ErrNotFound, says: []string{"gone", "Did you mean gine?"}},
		{name: "a requirement that is missing", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("requires", "geo ^1")), simple("other", "1.0.0", nil)}, want: "other ready, tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrMissing, says: []string{"geo"}},
		{name: "a range that is not met", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("requires", "geo ^2")), service}, want: "geo ready, tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrRange, says: []string{"geo", "1.2.0", "^2"}},
		{name: "another version than was asked for", config: "plugins: [{name: geo, version: ^2}]", plugins: []*builtin.Plugin{service}, want: "geo failed",
			who: "geo", step: plugins.StepResolve, kind: plugins.ErrRange, says: []string{"1.2.0", "^2"}},
		{name: "another application", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("host.app", "^3"))}, want: "tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrRange, says: []string{"^3", "1.0.0"}},
		{name: "a circle", plugins: []*builtin.Plugin{simple("a", "1.0.0", keys("requires", "b")), simple("b", "1.0.0", keys("requires", "a")), simple("c", "1.0.0", nil)}, want: "a failed, b failed, c ready",
			who: "a", step: plugins.StepResolve, kind: plugins.ErrCircle, says: []string{"a", "b"}},
		{name: "a conflict", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("conflicts", "geo")), service}, want: "geo ready, tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrConflict, says: []string{"geo"}},
		{name: "a dependency that fails", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("requires", "geo")), simple("geo", "1.0.0", keys("requires", "map"))}, want: "geo failed, tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrDependency, says: []string{"geo", "map"}},
		{name: "an import that nobody offers", plugins: []*builtin.Plugin{simple("tax", "1.0.0", nil, "loyalty_point")}, want: "tax failed",
			who: "tax", step: plugins.StepGrant, kind: plugins.ErrImport, says: []string{"loyalty_point", "Did you mean loyalty_points?"}},
		{name: "a function that was not granted", config: "plugins: [tax]", plugins: []*builtin.Plugin{simple("tax", "1.0.0", nil, "loyalty_points")}, want: "tax failed",
			who: "tax", step: plugins.StepGrant, kind: plugins.ErrGrant, says: []string{"loyalty_points", "grant: [loyalty_points]", "line 2"}},
		{name: "a service that was not granted", plugins: []*builtin.Plugin{simple("tax", "1.0.0", nil, "geo_lookup"), service}, want: "geo ready, tax failed",
			who: "tax", step: plugins.StepGrant, kind: plugins.ErrGrant, says: []string{"geo_lookup"}},
		{name: "a service whose provider is disabled", config: "plugins: [{name: tax, grant: [geo_lookup]}, {name: geo, enabled: false}]",
			plugins: []*builtin.Plugin{simple("tax", "1.0.0", nil, "geo_lookup"), service}, want: "geo disabled, tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrService, says: []string{"geo_lookup", "geo"}},
		{name: "a permit that was not given", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("permit.connect", "443"))}, want: "tax failed",
			who: "tax", step: plugins.StepGrant, kind: plugins.ErrGrant, says: []string{"connect 443"}},
		{name: "a permit that makes no sense", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("permit.read", "rates", "permit.connect", "https"))}, want: "tax failed",
			who: "tax", step: plugins.StepGrant, kind: plugins.ErrManifest, says: []string{`permit.read="rates"`, `permit.connect="https"`, "absolute paths"}},
		{name: "more memory than its limit", config: "plugins: [{name: tax, permit: {memory: 64MiB}, isolate: {memory: 32MiB}}]", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("permit.memory", "67108864"))},
			want: "tax failed", who: "tax", step: plugins.StepGrant, kind: plugins.ErrGrant, says: []string{"isolate: {memory: 67108864}"}},
		{name: "a function that a point needs", plugins: []*builtin.Plugin{{Name: "tax", Version: "1.0.0",
			Hooks: []builtin.Function{{Name: "checked", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}}}, want: "tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrFunction, says: []string{"checked", "describe"}},
		{name: "a health that is not there", plugins: []*builtin.Plugin{simple("tax", "1.0.0", keys("health", "well"))}, want: "tax failed",
			who: "tax", step: plugins.StepResolve, kind: plugins.ErrFunction, says: []string{"well"}},
		{name: "a provider that does not start", config: "plugins: [{name: tax, grant: [geo_lookup], required: false}]", plugins: []*builtin.Plugin{simple("tax", "1.0.0", nil, "geo_lookup"), broken},
			want: "geo ready, tax ready", who: "tax", step: plugins.StepResolve, kind: plugins.ErrDependency, says: []string{"geo", "no map"}},
		{name: "settings that its schema does not take", config: "plugins: [{name: tax, config: {rate: high}}]",
			plugins: []*builtin.Plugin{{Name: "tax", Version: "1.0.0", ConfigSchema: `{"type":"object","properties":{"rate":{"type":"integer"}}}`,
				Funcs: simple("", "", nil).Funcs, Start: func(context.Context, []byte) (any, error) { return nil, nil }}}, want: "tax failed",
			who: "tax", step: plugins.StepSettings, kind: plugins.ErrSettings, says: []string{"config.rate", "config.yaml:2:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := []plugins.Option{plugins.Logger(quiet()), plugins.Builtin(c.plugins...)}
			if c.config != "" {
				path := filepath.Join(t.TempDir(), "config.yaml")
				require.NoError(t, os.WriteFile(path, []byte("# of a test\n"+c.config+"\n"), 0o644))
				opts = append(opts, plugins.Config(path))
			}
			sys := plugins.New("app", "1.0.0", opts...)
			defer func() { require.NoError(t, closed(sys)) }()
			plugins.Offer(sys, "loyalty_points", func(context.Context, []byte) ([]byte, error) { return nil, nil })
			plugins.Notify[[]byte](sys, "checked", plugins.Needs("describe"))
			require.NoError(t, sys.Start(t.Context()), "none of them is required")
			assert.Equal(t, c.want, states(sys))
			p, ok := sys.Plugin(c.who)
			require.True(t, ok)
			if p.State == plugins.StateReady { // it shows when it is used
				f, err := sys.Func(c.who, "version")
				require.NoError(t, err)
				_, err = f.Call(t.Context(), nil)
				require.Error(t, err)
				p, _ = sys.Plugin(c.who)
			}
			var e *plugins.Error
			require.ErrorAs(t, p.Err, &e)
			assert.Equal(t, c.who, e.Plugin)
			assert.Equal(t, c.step, e.Step)
			assert.ErrorIs(t, p.Err, c.kind)
			for _, word := range c.says {
				assert.ErrorContains(t, p.Err, word)
			}
		})
	}
}

// TestDoubles: two files of one name in one folder are an error that names both; of two folders, the first counts.
func TestDoubles(t *testing.T) {
	fixture.Loadable(t)
	one, two := t.TempDir(), t.TempDir()
	variant(t, "system", filepath.Join(one, "a"+fixture.Ext()), "1.0.0", "1.0.1")
	variant(t, "system", filepath.Join(one, "b"+fixture.Ext()), "1.0.0", "1.0.2")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(one))
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.ErrorIs(t, p.Err, plugins.ErrDouble)
	assert.ErrorContains(t, p.Err, filepath.Join(one, "a"+fixture.Ext()))
	assert.ErrorContains(t, p.Err, filepath.Join(one, "b"+fixture.Ext()))
	require.NoError(t, closed(sys))

	require.NoError(t, os.Remove(filepath.Join(one, "b"+fixture.Ext())))
	variant(t, "system", filepath.Join(two, "c"+fixture.Ext()), "1.0.0", "1.0.3")
	sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(one, two, filepath.Join(two, "not there")), plugins.Builtin(double("aaaa")))
	require.NoError(t, sys.Start(t.Context()))
	p, _ = sys.Plugin("plugin_aaaa")
	assert.NoError(t, p.Err)
	assert.Equal(t, "1.0.1", p.Version)
	require.NoError(t, closed(sys))
}

// TestStartAndStopOrder: what others need is started before these, and stopped after them.
func TestStartAndStopOrder(t *testing.T) {
	var order []string
	made := func(name string, requires string) *builtin.Plugin {
		return &builtin.Plugin{Name: name, Version: "1.0.0", Keys: map[string]string{"requires": requires},
			Hooks: []builtin.Function{{Name: "told", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}},
			Start: func(context.Context, []byte) (any, error) { order = append(order, "+"+name); return nil, nil },
			Stop:  func(any) { order = append(order, "-"+name) }}
	}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(made("a", "b\nc"), made("b", "d"), made("c", "d ^1"), made("d", "")), plugins.Required("a"))
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, closed(sys))
	assert.Equal(t, []string{"+d", "+b", "+c", "+a", "-a", "-c", "-b", "-d"}, order)
}

// TestRequired: a plug-in that is required fails Start, which leaves nothing behind and may be called again.
func TestRequired(t *testing.T) {
	fails := true
	p := &builtin.Plugin{Name: "a", Version: "1.0.0", Funcs: simple("", "", nil).Funcs, Start: func(context.Context, []byte) (any, error) {
		if fails {
			return nil, failure("no disk")
		}
		return nil, nil
	}}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(p), plugins.Required("a"))
	err := sys.Start(t.Context())
	var e *plugins.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, plugins.StepStart, e.Step)
	assert.ErrorContains(t, err, "no disk")
	assert.ErrorContains(t, err, "It was started without a config: write one in its entry in config.yaml where it needs one", "no option of Go's: nobody has called Open")
	path, _ := written(t, "plugins: [{name: a, config: {disk: 1}}]")
	with := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(p), plugins.Required("a"), plugins.Config(path))
	err = with.Start(t.Context())
	assert.ErrorContains(t, err, "It was started with the config of its entry in config.yaml: correct that where it is the reason")
	assert.NotContains(t, err.Error(), "without")
	require.NoError(t, closed(with))
	assert.Empty(t, sys.List())
	fails = false
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "a started", states(sys))
	assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrOption)
	require.NoError(t, closed(sys))
	assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrClosed)
	assert.Equal(t, "a gone", states(sys))

	sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Required("b"))
	assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrNotFound)
	require.NoError(t, closed(sys))
}

// TestService: a plug-in calls another one through the host, whichever way each of them runs.
func TestService(t *testing.T) {
	var asked []string
	geo := &builtin.Plugin{Name: "geo", Version: "1.0.0", Keys: map[string]string{"provides": "geo_lookup"}, Funcs: []builtin.Function{{Name: "geo_lookup",
		Call: func(_ context.Context, in []byte) ([]byte, error) {
			asked = append(asked, string(in))
			if string(in) == "nowhere" {
				return nil, fmt.Errorf("no such place: %w", loader.ErrInvalid)
			}
			return []byte("52 N"), nil
		}}}}
	tax := &builtin.Plugin{Name: "tax", Version: "1.0.0", Imports: []string{"geo_lookup"}, Funcs: []builtin.Function{{Name: "tax", Call: func(ctx context.Context, in []byte) ([]byte, error) {
		return builtin.Import(ctx, "geo_lookup", in)
	}}}}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(geo, tax), plugins.Grants(func(r plugins.Request) bool {
		return r == plugins.Request{Plugin: "tax", Version: "1.0.0", What: "service", Name: "geo_lookup"}
	}))
	require.NoError(t, sys.Start(t.Context()))
	defer func() { require.NoError(t, closed(sys)) }()
	f, err := sys.Func("tax", "tax")
	require.NoError(t, err)
	out, err := f.Call(t.Context(), []byte("Berlin"))
	require.NoError(t, err)
	assert.Equal(t, "52 N", string(out))
	_, err = f.Call(t.Context(), []byte("nowhere"))
	assert.ErrorIs(t, err, loader.ErrInvalid)
	assert.ErrorContains(t, err, "no such place")
	assert.Equal(t, []string{"Berlin", "nowhere"}, asked)
	p, _ := sys.Plugin("tax")
	assert.Equal(t, []string{"geo_lookup"}, p.Grants)
	assert.Equal(t, []string{"geo"}, p.Requires)
}

// TestUnknownPoint: a hook that nobody calls is a line in the log with the point that was meant, unless it says that it is optional.
func TestUnknownPoint(t *testing.T) {
	var lines strings.Builder
	hook := func(name string, keys map[string]string) builtin.Function {
		return builtin.Function{Name: name, Keys: keys, Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}
	}
	p := &builtin.Plugin{Name: "a", Version: "1.0.0", Hooks: []builtin.Function{hook("before_safe", nil), hook("elsewhere", map[string]string{"optional": "yes"}), hook("wrapped", nil)}}
	sys := plugins.New("app", "1.0.0", plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil))), plugins.Builtin(p))
	plugins.Pipe[string](sys, "before_save")
	plugins.Wrap(sys, "wrapped", func(context.Context, string) (string, error) { return "", nil })
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, closed(sys))
	assert.Contains(t, lines.String(), "Did you mean before_save?")
	assert.Contains(t, lines.String(), "point=wrapped")
	assert.NotContains(t, lines.String(), "elsewhere")
}

// TestLogOfTheSystem: what is wrong with an order is said once, however often somebody looks at it; an event's line has what there is, and an error's no full
// stop twice.
func TestLogOfTheSystem(t *testing.T) {
	var lines strings.Builder
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: a, grant: [points]}]\nhooks: {told: [gone, '*']}\n"), 0o644))
	hooks := []builtin.Function{{Name: "told", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}
	a := &builtin.Plugin{Name: "a", Version: "1.0.0", Imports: []string{"points"}, Hooks: hooks, Start: func(context.Context, []byte) (any, error) { return nil, failure("no map.") }}
	b := &builtin.Plugin{Name: "b", Version: "1.0.0", Hooks: hooks}
	sys := plugins.New("app", "1.0.0", plugins.Config(path), plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil))), plugins.Builtin(a, b))
	plugins.Offer(sys, "points", func(context.Context, string) (int, error) { return 0, nil })
	told := plugins.Notify[string](sys, "told")
	require.NoError(t, sys.Start(t.Context()))
	sys.Hooks()
	sys.Hooks()
	require.NoError(t, sys.Reload(t.Context()))
	assert.Error(t, told.Call(t.Context(), ""))
	p, _ := sys.Plugin("a")
	require.NoError(t, closed(sys))
	assert.Equal(t, 1, strings.Count(lines.String(), "the order of hooks"), "%s", &lines)
	assert.Contains(t, lines.String(), `"the order of hooks" point=told err=`)
	assert.Contains(t, lines.String(), `"plug-in granted" plugin=a version=1.0.0 name=points`)
	assert.NotContains(t, lines.String(), `=""`)
	require.Error(t, p.Err)
	assert.NotContains(t, p.Err.Error(), "..")
}

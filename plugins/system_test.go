package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestHistory: plug-ins that come later get the last event of each kind that was kept, once, in order, and before newer ones.
func TestHistory(t *testing.T) {
	type happened struct{ Kind, What string }
	var mu sync.Mutex
	heard := map[string][]string{}
	listener := func(name string) *builtin.Plugin {
		return &builtin.Plugin{Name: name, Version: "1.0.0", Hooks: []builtin.Function{{Name: "saved", Call: builtin.JSON(func(_ context.Context, h happened) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			heard[name] = append(heard[name], h.Kind+" "+h.What)
			return "", nil
		})}}}
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: late, enabled: false}]"), 0o644))
	var r recorder
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(listener("early"), listener("late")), plugins.Counting(), plugins.Trace(r.trace))
	defer func() { require.NoError(t, closed(sys)) }()
	saved := plugins.Notify[happened](sys, "saved", plugins.Keep(func(h happened) string { return h.Kind }))
	require.NoError(t, sys.Start(t.Context()))
	for _, h := range []happened{{"order", "1"}, {"cart", "1"}, {"order", "2"}, {"", "not kept"}} {
		require.NoError(t, saved.Call(t.Context(), h))
	}
	require.NoError(t, os.WriteFile(path, []byte("plugins: [late]"), 0o644))
	require.NoError(t, sys.Reload(t.Context()))
	require.NoError(t, saved.Call(t.Context(), happened{"order", "3"}))
	require.NoError(t, sys.Reload(t.Context()))
	require.NoError(t, saved.Call(t.Context(), happened{"cart", "2"}))
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"order 1", "cart 1", "order 2", " not kept", "order 3", "cart 2"}, heard["early"])
	assert.Equal(t, []string{"cart 1", "order 2", "order 3", "cart 2"}, heard["late"])
	for name, all := range heard { // past events are calls as others are
		assert.EqualValues(t, len(all), stat(t, sys, name, "saved", "").Calls, name)
		begun := slices.DeleteFunc(slices.Clone(r.begun), func(c recorded) bool { return c.call.Plugin != name })
		assert.Len(t, begun, len(all), name)
	}
	assert.Len(t, r.ended, len(r.begun))
}

// TestOpenedWhenUsed: a plug-in that nobody uses is not opened; one at a point with a limit is opened by Start.
func TestOpenedWhenUsed(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			sys := newHost(t, engine).add("aaaa", "bbbb").new()
			piped := plugins.Pipe[[]byte](sys, "piped")
			require.NoError(t, sys.Start(t.Context()))
			assert.Equal(t, "plugin_aaaa ready, plugin_bbbb ready", states(sys))
			f, err := sys.Func("plugin_bbbb", "answer")
			require.NoError(t, err)
			assert.Equal(t, "plugin_aaaa ready, plugin_bbbb ready", states(sys))
			out, err := f.Call(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, "bbbb", string(out))
			assert.Equal(t, "plugin_aaaa ready, plugin_bbbb started", states(sys))
			out, err = piped.Append(t.Context(), nil, nil)
			require.NoError(t, err)
			assert.Equal(t, "+aaaa+bbbb", string(out))
			_, err = sys.Func("plugin_cccc", "answer")
			assert.ErrorContains(t, err, "There are plugin_aaaa, plugin_bbbb")
			none, err := sys.Func("plugin_aaaa", "answers")
			require.NoError(t, err)
			_, err = none.Call(t.Context(), nil)
			assert.ErrorIs(t, err, plugins.ErrFunction)
			assert.ErrorContains(t, err, "Did you mean answer?")
			require.NoError(t, closed(sys))
			_, err = f.Call(t.Context(), nil)
			assert.ErrorIs(t, err, plugins.ErrClosed)
			_, err = piped.Append(t.Context(), nil, nil)
			assert.ErrorIs(t, err, plugins.ErrClosed)
		})
	}
	sys := newHost(t, "go").add("aaaa").new()
	plugins.Pipe[[]byte](sys, "piped", plugins.Limit(time.Second))
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "plugin_aaaa started", states(sys))
}

// TestGrantsInEachEngine: of the functions that the application has, a plug-in gets those that it was granted, and no others, whatever it imports.
func TestGrantsInEachEngine(t *testing.T) {
	fixture.Loadable(t)
	each := engines
	if runtime.GOOS == "linux" {
		each = append(slices.Clone(engines), "sandbox")
	}
	for _, engine := range each {
		t.Run(engine, func(t *testing.T) {
			var callers []string
			var mu sync.Mutex
			start := func(entry string) (*plugins.System, plugins.Plugin) {
				h := newHost(t, engine)
				if sandbox := map[string]string{"isolated": "none", "sandbox": "full"}[engine]; sandbox != "" {
					entry = strings.Replace(entry, "}", ", isolate: {sandbox: "+sandbox+"}}", 1)
				}
				name := "foreign_concurrent"
				if engine == "go" {
					h.opts = append(h.opts, plugins.Builtin(&builtin.Plugin{Name: name, Version: "1.0.0", Imports: []string{"host"}, Funcs: []builtin.Function{{Name: "ask",
						Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "host", in) }}}}))
				} else {
					variant(t, name, filepath.Join(h.folder, name+fixture.Ext()))
				}
				h.listed = "  - " + entry + "\n"
				sys := h.new()
				for _, offer := range []string{"host", "other", "host_too"} {
					plugins.Offer(sys, offer, func(ctx context.Context, in []byte) ([]byte, error) {
						mu.Lock()
						defer mu.Unlock()
						who, _ := plugins.Caller(ctx)
						callers = append(callers, offer+" by "+who)
						return []byte("yes"), nil
					})
				}
				require.NoError(t, sys.Start(t.Context()))
				p, _ := sys.Plugin(name)
				return sys, p
			}
			for _, refused := range []string{"{name: foreign_concurrent}", "{name: foreign_concurrent, grant: [other]}", "{name: foreign_concurrent, grant: [hos, host_*]}"} {
				_, p := start(refused)
				assert.ErrorIs(t, p.Err, plugins.ErrGrant, refused)
				assert.Equal(t, plugins.StateFailed, p.State)
				assert.Empty(t, p.Grants)
			}
			assert.Empty(t, callers)
			sys, p := start("{name: foreign_concurrent, grant: ['host*', other]}")
			require.NoError(t, p.Err)
			assert.Equal(t, []string{"host"}, p.Grants, "what it does not ask for it does not get")
			f, err := sys.Func("foreign_concurrent", "ask")
			require.NoError(t, err)
			out, err := f.Call(t.Context(), []byte("x"))
			require.NoError(t, err)
			assert.Equal(t, "yes", string(out))
			assert.Equal(t, []string{"host by foreign_concurrent"}, callers)
			assert.Equal(t, engine == "isolated" || engine == "sandbox", p.Isolated)
			if engine == "sandbox" {
				p, _ = sys.Plugin("foreign_concurrent")
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Worker))
				require.NoError(t, err)
				assert.Contains(t, string(status), "\nSeccomp:\t2\n", "its worker is in a sandbox")
			}
		})
	}
}

// TestAsksForMore: a version that asks for more than was granted waits, with its reason, until it is granted.
func TestAsksForMore(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(grant string) {
		require.NoError(t, os.WriteFile(path, []byte("folders: ["+folder+"]\nplugins: [{name: plugin_aaaa"+grant+"}]"), 0o644))
	}
	write("")
	file := filepath.Join(folder, "a"+fixture.Ext())
	variant(t, "system", file)
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
	defer func() { require.NoError(t, closed(sys)) }()
	plugins.Offer(sys, "host", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	call := func() string {
		out, err := f.Call(t.Context(), nil)
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "1.0.0", call())
	variant(t, "system_asks", file, "1.0.0", "1.1.0")
	assert.ErrorIs(t, sys.Reload(t.Context()), plugins.ErrGrant)
	assert.Equal(t, "1.0.0", call(), "the old one stays")
	p, _ := sys.Plugin("plugin_aaaa")
	assert.ErrorContains(t, p.Err, "grant: [host]")
	assert.Equal(t, plugins.StateStarted, p.State)
	write(", grant: [host]")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "1.1.0", call())
	p, _ = sys.Plugin("plugin_aaaa")
	assert.NoError(t, p.Err)
	write("")
	assert.ErrorContains(t, sys.Reload(t.Context()), "all is as it was", "what it has is not taken away under it")
	assert.Equal(t, "1.1.0", call())
}

// TestStartThatUsesItself: a host function that the start of a plug-in calls, and that calls at a point where this plug-in is, is refused and does not hang.
func TestStartThatUsesItself(t *testing.T) {
	var piped *plugins.PipePoint[[]byte]
	var inner error
	p := double("aaaa")
	p.Imports = []string{"save"}
	p.Start = func(ctx context.Context, _ []byte) (any, error) { return builtin.Import(ctx, "save", nil) }
	q := double("bbbb")
	q.Imports = []string{"save"}
	q.Start = p.Start
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(p, q))
	piped = plugins.Pipe[[]byte](sys, "piped")
	plugins.Offer(sys, "save", func(ctx context.Context, in []byte) ([]byte, error) {
		out, err := piped.Append(ctx, nil, in)
		if err != nil {
			inner = err
		}
		return out, nil
	}, plugins.Public())
	require.NoError(t, sys.Start(t.Context()))
	defer func() { require.NoError(t, closed(sys)) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := piped.Append(ctx, nil, []byte("v"))
	require.NoError(t, err)
	assert.Equal(t, "v+aaaa+bbbb", string(out))
	assert.ErrorIs(t, inner, plugins.ErrReentrant)
}

// TestTriedAgain: a plug-in that could not be opened is tried again by itself, and is at its points then.
func TestTriedAgain(t *testing.T) {
	fails := true
	var mu sync.Mutex
	p := double("aaaa")
	p.Start = func(context.Context, []byte) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		if fails {
			return nil, failure("no disk")
		}
		return nil, nil
	}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(p, double("bbbb")))
	defer func() { require.NoError(t, closed(sys)) }()
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Limit(time.Second))
	require.NoError(t, sys.Start(t.Context()))
	out, err := piped.Append(t.Context(), nil, nil)
	require.NoError(t, err, "one that has failed is not at its points")
	assert.Equal(t, "+bbbb", string(out))
	known, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateFailed, known.State)
	assert.False(t, known.RetryAt.IsZero())
	mu.Lock()
	fails = false
	mu.Unlock()
	assert.Eventually(t, func() bool {
		out, err := piped.Append(t.Context(), nil, nil)
		return err == nil && string(out) == "+aaaa+bbbb"
	}, time.Minute, 10*time.Millisecond)
}

// TestSecrets: what config.yaml takes from the environment reaches the plug-in, and no line of a log and no error.
func TestSecrets(t *testing.T) {
	t.Setenv("SHOP_TOKEN", "s3cr3t-token")
	var lines strings.Builder
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: a, config: {token: '${env:SHOP_TOKEN}'}}, {name: b, config: {token: '${env:SHOP_TOKEN}'}}]"), 0o644))
	var got string
	p := &builtin.Plugin{Name: "a", Version: "1.0.0", Start: func(ctx context.Context, config []byte) (any, error) { got = string(config); return nil, nil },
		Funcs: []builtin.Function{{Name: "log", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			builtin.Log(ctx, 2, "the token is "+got, slog.String("token", got))
			return nil, nil
		}}}}
	q := &builtin.Plugin{Name: "b", Version: "1.0.0", ConfigSchema: `{"properties":{"token":{"type":"integer"}}}`, Start: p.Start, Funcs: p.Funcs}
	sys := plugins.New("app", "1.0.0", plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil))), plugins.Config(path), plugins.Builtin(p, q))
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("a", "log")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	b, _ := sys.Plugin("b")
	assert.ErrorIs(t, b.Err, plugins.ErrSettings)
	assert.NotContains(t, b.Err.Error(), "s3cr3t")
	require.NoError(t, closed(sys))
	assert.JSONEq(t, `{"token":"s3cr3t-token"}`, got)
	assert.Contains(t, lines.String(), "the token is")
	assert.NotContains(t, lines.String(), "s3cr3t")
}

// TestPermits: what is permitted in config.yaml is what an isolated plug-in can do; in this process it is said to be a declaration.
func TestPermits(t *testing.T) {
	fixture.Loadable(t)
	folder, mine := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(mine, "yes"), []byte("yes"), 0o644))
	variant(t, "sandbox_attempts", filepath.Join(folder, "s"+fixture.Ext()))
	start := func(entry string) (*plugins.System, plugins.Plugin) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, []byte("folders: ["+folder+"]\nplugins: [{name: sandbox_attempts, "+entry+"}]"), 0o644))
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
		t.Cleanup(func() { require.NoError(t, closed(sys)) })
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("sandbox_attempts")
		require.NoError(t, p.Err)
		return sys, p
	}
	read := func(sys *plugins.System, path string) error {
		f, err := sys.Func("sandbox_attempts", "read_file")
		require.NoError(t, err)
		_, err = f.Call(t.Context(), []byte(path))
		return err
	}
	begun, p := start("isolate: {sandbox: full}, permit: {read: [" + mine + "], connect: [443]}")
	assert.Equal(t, []string{"connect 443", "read " + mine}, p.Permits)
	assert.False(t, p.Declared)
	if err := read(begun, filepath.Join(mine, "yes")); errors.Is(err, loader.ErrSandbox) {
		t.Skip("this system has no such sandbox, and says so: ", err)
	} else {
		assert.NoError(t, err)
	}
	begun, _ = start("isolate: {sandbox: full}")
	assert.Error(t, read(begun, filepath.Join(mine, "yes")), "nobody has permitted it")
	begun, p = start("isolate: {sandbox: best-effort}, permit: {read: [" + mine + "], connect: [443]}")
	assert.True(t, p.Declared, "nobody knows yet")
	assert.NoError(t, read(begun, filepath.Join(mine, "yes")))
	p, _ = begun.Plugin("sandbox_attempts")
	assert.Equal(t, read(begun, filepath.Join(folder, "s"+fixture.Ext())) == nil, p.Declared, "the sandbox keeps it to what is permitted, or does not and says so")
	_, p = start("permit: {connect: [443]}")
	assert.True(t, p.Declared, "nothing holds a plug-in in this process to it")
}

// TestGroup: plug-ins of one group share a worker, a crash of one ends the calls of all, and says whose it was; one with other grants is refused.
func TestGroup(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	for _, tag := range []string{"aaaa", "bbbb", "cccc"} {
		variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	isolated := "isolate: {group: untrusted, sandbox: none}"
	require.NoError(t, os.WriteFile(path, []byte("folders: ["+folder+"]\nplugins:\n  - {name: plugin_aaaa, "+isolated+"}\n  - {name: plugin_bbbb, "+isolated+"}\n  - {name: plugin_cccc, grant: [host], "+isolated+"}\n"), 0o644))
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
	defer func() { require.NoError(t, closed(sys)) }()
	piped := plugins.Pipe[[]byte](sys, "piped")
	require.NoError(t, sys.Start(t.Context()))
	out, err := piped.Append(t.Context(), nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "+aaaa+bbbb", string(out))
	p, _ := sys.Plugin("plugin_cccc")
	assert.ErrorIs(t, p.Err, plugins.ErrGrant)
	assert.ErrorContains(t, p.Err, "found grant: [host] in the group untrusted, expected grant: [] of plugin_aaaa")
	_, err = piped.Append(t.Context(), nil, []byte("bbbb=crash"))
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, "untrusted", crash.Group)
	assert.Equal(t, "plugin_bbbb", crash.Culprit)
	out, err = piped.Append(t.Context(), nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "+aaaa+bbbb", string(out))
}

// BenchmarkThousand: what a folder of 1,000 plug-ins costs: to inspect them by hand, and to start a system with them, none of which is opened.
func BenchmarkThousand(b *testing.B) {
	fixture.Loadable(b)
	folder := b.TempDir()
	for i := range 1000 {
		variant(b, "system", filepath.Join(folder, fmt.Sprintf("p%d%s", i, fixture.Ext())), "aaaa", fmt.Sprintf("%04d", i))
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(b, err)
	b.Run("inspect", func(b *testing.B) {
		for b.Loop() {
			for _, f := range files {
				_, err := loader.Inspect(f)
				require.NoError(b, err)
			}
		}
	})
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(folder))
			plugins.Pipe[[]byte](sys, "piped")
			require.NoError(b, sys.Start(b.Context()))
			require.Len(b, sys.List(), 1000)
			require.NoError(b, sys.Close())
		}
	})
}

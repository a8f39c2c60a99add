package plugins_test

import (
	"context"
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
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// written is a config.yaml that a test writes anew.
func written(t *testing.T, text string) (path string, write func(text string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "config.yaml")
	write = func(text string) { t.Helper(); require.NoError(t, os.WriteFile(path, []byte(text), 0o644)) }
	write(text)
	return path, write
}

// TestRefusedIsNotInForce: what a config.yaml that was not taken over grants is not had, also by a plug-in that could not be opened.
func TestRefusedIsNotInForce(t *testing.T) {
	path, write := written(t, "plugins: [{name: x, enabled: false}]")
	x := simple("x", "1.0.0", nil, "danger")
	release := make(chan struct{})
	x.Start = func(ctx context.Context, _ []byte) (any, error) {
		<-release
		_, err := builtin.Import(ctx, "danger", nil)
		return nil, err
	}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(x))
	plugins.Offer(sys, "danger", func(context.Context, []byte) ([]byte, error) {
		return nil, nil
	})
	require.NoError(t, sys.Start(t.Context()))
	write("plugins: [{name: x, required: true, grant: [danger]}]")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	assert.ErrorContains(t, sys.Reload(ctx), "all is as it was")
	close(release)
	p, _ := sys.Plugin("x")
	assert.Equal(t, plugins.StateDisabled, p.State)
	assert.Empty(t, p.Grants)
	require.NoError(t, closed(sys))
}

// TestEmptiedConfig: a config.yaml that has become empty is being written, or was cut off: the plug-ins that veto stay, until one says that there are none.
func TestEmptiedConfig(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "guard"+fixture.Ext()))
	for _, none := range []string{"plugins: []", "{}"} {
		path, write := written(t, "folders: ["+folder+"]\nplugins: [plugin_aaaa]\nhooks: {objected: [plugin_aaaa]}")
		refused := make(chan error, 8)
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Watch(), plugins.OnEvent(func(e plugins.Event) {
			if e.Kind == plugins.EventConfig && e.Err != nil {
				refused <- e.Err
			}
		}))
		objected := plugins.Veto[[]byte](sys, "objected")
		require.NoError(t, sys.Start(t.Context()))
		for _, empty := range []string{"", "\ufeff\n", "# the shop's plug-ins\n\n", "---\n# here they come\n"} {
			write(empty)
			select {
			case err := <-refused: // by the watch
				require.ErrorContains(t, err, "found an empty file")
			case <-time.After(time.Minute):
				require.Fail(t, "it was taken over, or not seen", "%q", empty)
			}
			err := sys.Reload(t.Context())
			require.ErrorContains(t, err, "all is as it was")
			assert.ErrorContains(t, err, "plugins: []")
			assert.ErrorAs(t, objected.Call(t.Context(), nil), new(*plugins.Objection))
		}
		_, why := sys.ConfigRefused()
		assert.Error(t, why)
		for len(refused) > 0 {
			<-refused
		}
		write(none)
		require.NoError(t, sys.Reload(t.Context()))
		require.NoError(t, objected.Call(t.Context(), nil))
		write("") // which says what held already
		require.NoError(t, sys.Reload(t.Context()))
		require.NoError(t, closed(sys))
	}
}

// TestRequiredByTheApplication: what the application cannot be without, config.yaml cannot take away.
func TestRequiredByTheApplication(t *testing.T) {
	for _, text := range []string{"plugins: [{name: plugin_aaaa, enabled: false}]"} {
		path, _ := written(t, text)
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(double("aaaa")), plugins.Required("plugin_aaaa"))
		assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrDisabled, text)
		require.NoError(t, closed(sys))
	}
}

// TestOtherProvider: who uses a service uses whoever provides it by now; what a plug-in only wants does not keep it from starting.
func TestOtherProvider(t *testing.T) {
	provider := func(name, answer string) *builtin.Plugin {
		return &builtin.Plugin{Name: name, Version: "1.0.0", Keys: map[string]string{"provides": "lookup"}, Funcs: []builtin.Function{{Name: "lookup",
			Call: func(context.Context, []byte) ([]byte, error) { return []byte(answer), nil }}}}
	}
	broken := provider("p3", "")
	broken.Keys["provides"] = "luck"
	broken.Funcs[0].Name = "luck"
	broken.Start = func(context.Context, []byte) (any, error) { return nil, failure("no luck") }
	user := &builtin.Plugin{Name: "user", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"lookup"}, Wants: []string{"luck"}, Funcs: []builtin.Function{{Name: "ask",
		Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "lookup", in) }}}}
	path, write := written(t, "plugins: [{name: user, grant: ['*']}, p1, p3, {name: p2, enabled: false}]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(provider("p1", "one"), provider("p2", "two"), broken, user))
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("user", "ask")
	require.NoError(t, err)
	out, err := f.Call(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "one", string(out))
	write("plugins: [{name: user, grant: ['*']}, p2, p3, {name: p1, enabled: false}]")
	require.NoError(t, sys.Reload(t.Context()))
	out, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "two", string(out))
}

// TestSecretsThatChange: a secret that config.yaml takes from the environment is in no line and no error, nor is the one that has taken its place; a new level
// holds at once.
func TestSecretsThatChange(t *testing.T) {
	t.Setenv("TOKEN", "first-secret")
	var lines lockedText
	var config string
	p := &builtin.Plugin{Name: "a", Version: "1.0.0", Start: func(_ context.Context, c []byte) (any, error) { config = string(c); return nil, nil },
		Configure: func(_ context.Context, _ any, c []byte) error { config = string(c); return nil },
		Funcs: []builtin.Function{{Name: "log", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			builtin.Log(ctx, abi.LogDebug, "debug "+config)
			builtin.Log(ctx, abi.LogWarn, "warn "+config)
			return nil, failure("cannot connect with " + config)
		}}}}
	path, write := written(t, "plugins: [{name: a, config: {n: 1, token: '${env:TOKEN}'}}]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))), plugins.Config(path), plugins.Builtin(p))
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("a", "log")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	assert.ErrorContains(t, err, "cannot connect with")
	assert.NotContains(t, err.Error(), "first-secret")
	assert.NotContains(t, lines.String(), "debug")
	t.Setenv("TOKEN", "second-secret")
	write("logging: {plugins: {a: DEBUG}}\nplugins: [{name: a, config: {n: 2, token: '${env:TOKEN}'}}]")
	require.NoError(t, sys.Reload(t.Context()))
	_, err = f.Call(t.Context(), nil)
	assert.NotContains(t, err.Error(), "second-secret")
	require.NoError(t, closed(sys))
	assert.Contains(t, config, "second-secret")
	assert.Contains(t, lines.String(), "debug")
	assert.NotContains(t, lines.String(), "-secret")
}

// lockedText is a text that several goroutines write.
type lockedText struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

// TestCloseWaitsForVersionsOfBefore: also for calls in a plug-in that was disabled meanwhile.
func TestCloseWaitsForVersionsOfBefore(t *testing.T) {
	path, write := written(t, "plugins: [plugin_aaaa]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(double("aaaa")))
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "answer")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	back := make(chan struct{})
	begun := make(chan struct{})
	go func() {
		defer close(back)
		close(begun)
		_, _ = f.Call(t.Context(), []byte("aaaa=slow"))
	}()
	<-begun
	time.Sleep(50 * time.Millisecond) // it is inside
	write("plugins: [{name: plugin_aaaa, enabled: false}]")
	require.NoError(t, sys.Reload(t.Context()))
	require.NoError(t, sys.Close())
	select {
	case <-back:
	case <-time.After(time.Minute): // the goroutine has to be scheduled
		t.Error("Close has not waited for the call")
	}
}

// TestSecondShutdown: of several that close at the same time each has its own bound, and the first that ends kills.
func TestSecondShutdown(t *testing.T) {
	h := newHost(t, "isolated").add("aaaa")
	path, _ := written(t, "folders: ["+h.folder+"]\nplugins:\n"+h.listed)
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "answer")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	go func() { _, _ = f.Call(context.Background(), []byte("aaaa=polls")) }() // it polls for an end that does not come
	time.Sleep(50 * time.Millisecond)
	slow := make(chan error, 1)
	go func() { slow <- sys.Close() }()
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = sys.Shutdown(ctx)
	select {
	case <-slow:
	case <-time.After(time.Minute):
		t.Error("Close waits for a worker that nobody has killed")
	}
}

// TestToldWhenItComes: past events reach a plug-in whose first opening failed.
func TestToldWhenItComes(t *testing.T) {
	var mu sync.Mutex
	fails := true
	var heard []string
	late := &builtin.Plugin{Name: "late", Version: "1.0.0", Start: func(context.Context, []byte) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		if fails {
			return nil, failure("not yet")
		}
		return nil, nil
	}, Hooks: []builtin.Function{{Name: "saved", Call: func(_ context.Context, in []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, string(in))
		return nil, nil
	}}}}
	path, write := written(t, "plugins: [{name: late, enabled: false}]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(late))
	defer func() { require.NoError(t, closed(sys)) }()
	saved := plugins.Notify[[]byte](sys, "saved", plugins.Keep(func(e []byte) string { return string(e[:1]) }))
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, saved.Call(t.Context(), []byte("a1")))
	write("plugins: [late]")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Eventually(t, func() bool { p, _ := sys.Plugin("late"); return p.State == plugins.StateFailed }, time.Minute, 5*time.Millisecond)
	mu.Lock()
	fails = false
	mu.Unlock()
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) == 1 && heard[0] == "a1"
	}, time.Minute, 10*time.Millisecond)
}

// TestOddFiles: what is no regular file, and half a file in the place of a good one, whatever its name is, hold up nothing, and the version that runs goes on.
func TestOddFiles(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "other"+fixture.Ext())
	variant(t, "system", file)
	makeFifo(t, filepath.Join(folder, "fifo"+fixture.Ext()))
	require.NoError(t, os.Mkdir(filepath.Join(folder, "folder"+fixture.Ext()), 0o755))
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(folder))
	defer func() { require.NoError(t, closed(sys)) }()
	piped := plugins.Pipe[[]byte](sys, "piped")
	require.NoError(t, sys.Start(t.Context()))
	call := func() string {
		out, err := piped.Append(t.Context(), nil, nil)
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "+aaaa", call())
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".half", data[:len(data)/2], 0o755))
	require.NoError(t, os.Rename(file+".half", file))
	assert.ErrorIs(t, sys.Reload(t.Context()), plugins.ErrUnreadable)
	assert.Equal(t, "+aaaa", call())
	p, _ := sys.Plugin("plugin_aaaa")
	assert.ErrorIs(t, p.Err, plugins.ErrUnreadable)
	variant(t, "system", file, "1.0.0", "1.0.1")
	require.NoError(t, sys.Reload(t.Context()))
	p, _ = sys.Plugin("plugin_aaaa")
	assert.NoError(t, p.Err)
	assert.Equal(t, "1.0.1", p.Version)
}

// TestEndedContexts: a context that has ended is the caller's matter, whatever the policy: nobody has agreed, and no hook is blamed. One that is nil is an error.
func TestEndedContexts(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			sys := newHost(t, engine).add("aaaa").new()
			veto := plugins.Veto[[]byte](sys, "objected", plugins.OnError(plugins.Skip), plugins.Breaker(1, time.Hour))
			told := plugins.Notify[[]byte](sys, "told", plugins.Parallel())
			require.NoError(t, sys.Start(t.Context()))
			var none context.Context
			assert.Error(t, told.Call(none, nil))
			assert.Error(t, veto.Call(none, nil))
			var o *plugins.Objection
			require.ErrorAs(t, veto.Call(t.Context(), nil), &o)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			assert.ErrorIs(t, veto.Call(ctx, nil), context.Canceled)
			assert.ErrorAs(t, veto.Call(t.Context(), nil), &o)
		})
	}
}

// TestChangeInACall: a host function cannot have the plug-ins changed in a call that the change would wait for, and Close waits for nobody who tries.
func TestChangeInACall(t *testing.T) {
	var sys *plugins.System
	p := double("aaaa")
	p.Imports = []string{"change"}
	p.Hooks = append(p.Hooks, builtin.Function{Name: "changes", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "change", in) }})
	sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(p))
	closing := make(chan struct{})
	plugins.Offer(sys, "change", func(ctx context.Context, in []byte) ([]byte, error) {
		if string(in) == "own" {
			return nil, sys.Reload(ctx)
		}
		closing <- struct{}{}
		time.Sleep(50 * time.Millisecond) // Close has begun
		return nil, sys.Reload(context.Background())
	}, plugins.Public())
	changes := plugins.Notify[[]byte](sys, "changes", plugins.Limit(0))
	require.NoError(t, sys.Start(t.Context()))
	assert.ErrorContains(t, changes.Call(t.Context(), []byte("own")), "in a call of one of them")
	go func() { _ = changes.Call(context.Background(), nil) }()
	<-closing
	require.NoError(t, closed(sys))
}

// TestGrantsThatPanics: nothing is granted then, and nothing else happens.
func TestGrantsThatPanics(t *testing.T) {
	for name, decide := range map[string]func(plugins.Request) bool{"panics": func(plugins.Request) bool { panic("oh") }, "ends": func(plugins.Request) bool { runtime.Goexit(); return true }} {
		t.Run(name, func(t *testing.T) {
			sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(simple("a", "1.0.0", nil, "danger")), plugins.Grants(decide))
			plugins.Offer(sys, "danger", func(context.Context, []byte) ([]byte, error) { return nil, nil })
			require.NoError(t, sys.Start(t.Context()))
			p, _ := sys.Plugin("a")
			assert.ErrorIs(t, p.Err, plugins.ErrGrant)
			require.NoError(t, closed(sys))
		})
	}
}

// TestMutualStarts: plug-ins whose starts call each other are refused, whoever opens them.
func TestMutualStarts(t *testing.T) {
	var sys *plugins.System
	made := func(name, other string) *builtin.Plugin {
		p := simple(name, "1.0.0", nil, "call")
		p.Start = func(ctx context.Context, _ []byte) (any, error) { return builtin.Import(ctx, "call", []byte(other)) }
		return p
	}
	sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(made("a", "b"), made("b", "a")))
	var mu sync.Mutex
	var refused []error
	plugins.Offer(sys, "call", func(ctx context.Context, in []byte) ([]byte, error) {
		f, err := sys.Func(string(in), "version")
		if err != nil {
			return nil, err
		}
		if _, err = f.Call(ctx, nil); err != nil {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, err)
		}
		return nil, nil
	}, plugins.Public())
	require.NoError(t, sys.Start(t.Context()))
	var all sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		f, err := sys.Func(name, "version")
		require.NoError(t, err)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := f.Call(ctx, nil)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	require.NotEmpty(t, refused)
	assert.ErrorIs(t, refused[0], plugins.ErrReentrant)
	require.NoError(t, closed(sys))
}

// TestBlame: what fails behind a wrapper is not the wrapper's fault.
func TestBlame(t *testing.T) {
	sys := newHost(t, "go").add("aaaa").new()
	wrapped := plugins.Wrap(sys, "wrapped", func(_ context.Context, in []byte) ([]byte, error) {
		if len(in) == 0 {
			return nil, failure("no such order")
		}
		return in, nil
	}, plugins.Breaker(2, time.Hour))
	require.NoError(t, sys.Start(t.Context()))
	for range 5 {
		_, err := wrapped.Call(t.Context(), nil)
		assert.ErrorContains(t, err, "no such order")
	}
	out, err := wrapped.Call(t.Context(), []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "aaaa(x)", string(out))
}

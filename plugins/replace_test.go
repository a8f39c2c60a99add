package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// replacements is how many versions a test of replacing has: 200 in a long run.
func replacements() int {
	if n, err := strconv.Atoi(os.Getenv("FERRULE_REPLACEMENTS")); err == nil {
		return n
	}
	return 25
}

// versions waits for what becomes of new versions of a plug-in.
type versions struct{ events chan plugins.Event }

func (v *versions) option() plugins.Option {
	v.events = make(chan plugins.Event, 10000)
	return plugins.OnEvent(func(e plugins.Event) {
		if e.Kind == plugins.EventReplaced || e.Kind == plugins.EventKept {
			v.events <- e
		}
	})
}

func (v *versions) next(t *testing.T) plugins.Event {
	t.Helper()
	select {
	case e := <-v.events:
		return e
	case <-time.After(time.Minute):
		t.Fatal("nothing became of the new version")
		return plugins.Event{}
	}
}

// load calls from 8 goroutines until it is ended, and has every error.
type load struct {
	calls  atomic.Int64
	mu     sync.Mutex
	failed []error
	stop   context.CancelFunc
	all    sync.WaitGroup
}

func newLoad(call func(ctx context.Context) error) *load {
	l := &load{}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for range 8 {
		l.all.Go(func() {
			for ctx.Err() == nil {
				if err := call(context.Background()); err != nil {
					l.mu.Lock()
					l.failed = append(l.failed, err)
					l.mu.Unlock()
				}
				l.calls.Add(1)
			}
		})
	}
	return l
}

func (l *load) end() []error {
	l.stop()
	l.all.Wait()
	return l.failed
}

// TestReplaceUnderLoad: files are replaced while 8 goroutines call, a fifth of them by what is no good: no call fails, and what is no good is not let in.
func TestReplaceUnderLoad(t *testing.T) {
	fixture.Loadable(t)
	for _, engine := range []string{"in-process", "isolated"} {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			file := filepath.Join(h.folder, "plugin_aaaa"+fixture.Ext())
			h.listed = "  - {name: plugin_aaaa, version: ^1}\n"
			if engine == "isolated" {
				h.listed = "  - {name: plugin_aaaa, version: ^1, isolate: {sandbox: none}}\n"
			}
			variant(t, "system", file)
			var v versions
			sys := h.new(plugins.Watch(), v.option())
			piped := plugins.Pipe[[]byte](sys, "piped", plugins.Limit(10*time.Second))
			require.NoError(t, sys.Start(t.Context()))
			f, err := sys.Func("plugin_aaaa", "version")
			require.NoError(t, err)
			// It is started by its first call, which fails where another file comes meanwhile.
			_, err = f.Call(t.Context(), nil)
			require.NoError(t, err)
			l := newLoad(func(ctx context.Context) error {
				out, err := piped.Append(ctx, nil, []byte("v"))
				if err == nil && string(out) != "v+aaaa" {
					err = fmt.Errorf("found %q", out)
				}
				if err == nil {
					_, err = f.Call(ctx, nil)
				}
				return err
			})
			good := 0
			for i := range replacements() {
				version := fmt.Sprintf("1.%d.%d", i/10%10, i%10)
				bad := []struct {
					pairs []string
					step  plugins.Step
				}{
					{[]string{"start:ok", "start:no", "1.0.0", "1.9.1"}, plugins.StepProbe},
					{[]string{"health:ok", "health:no", "1.0.0", "1.9.2"}, plugins.StepProbe},
					{[]string{"start:ok", "start:cr", "1.0.0", "1.9.3"}, plugins.StepProbe},
					{[]string{"1.0.0", "2.0.0"}, plugins.StepResolve},
					{nil, plugins.StepDiscover},
				}
				if i%5 == 4 {
					b := bad[i/5%len(bad)]
					if b.pairs == nil { // half of the file
						data, err := os.ReadFile(fixture.C(t, "system"))
						require.NoError(t, err)
						require.NoError(t, os.WriteFile(file+".half", data[:len(data)/2], 0o755))
						require.NoError(t, os.Rename(file+".half", file))
					} else {
						variant(t, "system", file, b.pairs...)
					}
					e := v.next(t)
					require.Equal(t, plugins.EventKept, e.Kind, "%d", i)
					var why *plugins.Error
					require.ErrorAs(t, e.Err, &why)
					want := b.step
					if engine == "isolated" && want == plugins.StepProbe {
						want = why.Step // the new worker itself is the trial
						assert.Contains(t, []plugins.Step{plugins.StepOpen, plugins.StepStart, plugins.StepHealth}, why.Step)
					}
					assert.Equal(t, want, why.Step, "%d: %v", i, why)
					p, _ := sys.Plugin("plugin_aaaa")
					assert.Equal(t, plugins.StateStarted, p.State)
					assert.Error(t, p.Err)
					continue
				}
				variant(t, "system", file, "1.0.0", version)
				e := v.next(t)
				require.Equal(t, plugins.EventReplaced, e.Kind, "%d: %v", i, e.Err)
				assert.Equal(t, version, e.Version)
				out, err := f.Call(t.Context(), nil)
				require.NoError(t, err)
				assert.Equal(t, version, string(out))
				good++
			}
			failed := l.end()
			assert.Empty(t, failed)
			t.Log(l.calls.Load(), "calls over", replacements(), "replacements,", len(failed), "failed")
			p, _ := sys.Plugin("plugin_aaaa")
			assert.Equal(t, good, p.Replaced)
			assert.Greater(t, l.calls.Load(), int64(100))
		})
	}
}

// TestStateIsHandedOver: what one version counts, the next goes on with; no call is lost or counted twice.
func TestStateIsHandedOver(t *testing.T) {
	fixture.Loadable(t)
	for _, engine := range []string{"in-process", "isolated"} {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			file := filepath.Join(h.folder, "counter"+fixture.Ext())
			if engine == "isolated" {
				h.listed = "  - {name: system_counter, isolate: {sandbox: none}}\n"
			}
			variant(t, "system_counter", file)
			var v versions
			sys := h.new(plugins.Watch(), v.option())
			require.NoError(t, sys.Start(t.Context()))
			f, err := sys.Func("system_counter", "count")
			require.NoError(t, err)
			_, err = f.Call(t.Context(), nil)
			require.NoError(t, err)
			l := newLoad(func(ctx context.Context) error {
				_, err := f.Call(ctx, nil)
				return err
			})
			for i := range replacements() / 2 {
				variant(t, "system_counter", file, "1.0.0", fmt.Sprintf("1.0.%d", 1+i%9))
				e := v.next(t)
				require.Equal(t, plugins.EventReplaced, e.Kind, "%v", e.Err)
			}
			assert.Empty(t, l.end())
			out, err := f.Call(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, strconv.FormatInt(l.calls.Load()+2, 10), string(out))
		})
	}
}

// TestReload: a config.yaml that changes is taken over as a whole, or not at all.
func TestReload(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	for _, tag := range []string{"aaaa", "bbbb", "cccc"} {
		variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path+".new", []byte("folders: ["+folder+"]\n"+text), 0o644))
		require.NoError(t, os.Rename(path+".new", path))
	}
	write("plugins: [plugin_aaaa, {name: plugin_bbbb, config: {n: 1}}]")
	var configs []plugins.Event
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.OnEvent(func(e plugins.Event) {
		if e.Kind == plugins.EventConfig {
			configs = append(configs, e)
		}
	}))
	piped := plugins.Pipe[[]byte](sys, "piped")
	require.NoError(t, sys.Start(t.Context()))
	call := func() string {
		out, err := piped.Append(t.Context(), nil, nil)
		require.NoError(t, err)
		return string(out)
	}
	config := func(name string) string {
		f, err := sys.Func(name, "config")
		require.NoError(t, err)
		out, err := f.Call(t.Context(), nil)
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "+aaaa+bbbb", call())
	assert.JSONEq(t, `{"n":1}`, config("plugin_bbbb"))
	l := newLoad(func(ctx context.Context) error {
		_, err := piped.Append(ctx, nil, []byte("v"))
		return err
	})

	write("plugins: [plugin_cccc, {name: plugin_bbbb, config: {n: 2}}, plugin_aaaa]\nhooks: {piped: [plugin_cccc, '*', plugin_aaaa]}")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "+cccc+bbbb+aaaa", call())
	assert.JSONEq(t, `{"n":2}`, config("plugin_bbbb"))

	for name, bad := range map[string]string{
		"a key that is not known":      "plugins: [plugin_aaaa]\nhoks: {}",
		"a plug-in that is not there":  "plugins: [plugin_aaaa, {name: plugin_bbbb, config: {n: 3}}, plugin_dddd]",
		"settings that are not taken":  "plugins: [{name: plugin_aaaa, config: {n: 4}}, {name: plugin_bbbb, config: {n: \"" + strings.Repeat("long ", 60) + "\"}}, plugin_cccc]",
		"a sandbox that cannot be had": "plugins: [{name: plugin_aaaa, config: {n: 5}}, {name: plugin_bbbb, isolate: true, permit: {read: [/no/such/folder]}}, plugin_cccc]",
	} {
		t.Run(name, func(t *testing.T) {
			write(bad)
			assert.ErrorContains(t, sys.Reload(t.Context()), "all is as it was")
			assert.Equal(t, "+cccc+bbbb+aaaa", call())
			assert.JSONEq(t, `{"n":2}`, config("plugin_bbbb"))
			assert.Empty(t, config("plugin_aaaa"))
		})
	}

	write("plugins: [{name: plugin_bbbb, config: {n: 2}}, {name: plugin_cccc, enabled: false}]")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "+bbbb", call())
	assert.Equal(t, "plugin_aaaa discovered, plugin_bbbb started, plugin_cccc disabled", settled(sys))
	write("plugins: [{name: plugin_bbbb, config: {n: 2}}, plugin_cccc]")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "+bbbb+cccc", call())
	assert.Empty(t, l.end())
	require.NoError(t, closed(sys))
	good, refused := 0, 0
	for _, e := range configs {
		if e.Err == nil {
			good++
		} else {
			refused++
		}
	}
	assert.Equal(t, []int{3, 4}, []int{good, refused})
}

// settled are the states once nothing drains.
func settled(sys *plugins.System) string {
	for range 1000 {
		if s := states(sys); !strings.Contains(s, "draining") {
			return s
		}
		time.Sleep(5 * time.Millisecond)
	}
	return states(sys)
}

// TestFolderIsWatched: files that come and go, without a config.yaml.
func TestFolderIsWatched(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(folder), plugins.Watch(), plugins.Builtin(double("aaaa")))
	defer func() { require.NoError(t, closed(sys)) }()
	piped := plugins.Pipe[[]byte](sys, "piped")
	require.NoError(t, sys.Start(t.Context()))
	becomes := func(want string) {
		t.Helper()
		assert.Eventually(t, func() bool {
			out, err := piped.Append(t.Context(), nil, nil)
			return assert.NoError(t, err) && string(out) == want
		}, time.Minute, 10*time.Millisecond, want)
	}
	becomes("+aaaa")
	variant(t, "system", filepath.Join(folder, "b"+fixture.Ext()), "aaaa", "bbbb")
	becomes("+aaaa+bbbb")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "readme"+fixture.Ext()), []byte("no library"), 0o644))
	variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()), "1.0.0", "1.0.7")
	assert.Eventually(t, func() bool {
		p, _ := sys.Plugin("plugin_aaaa")
		return p.Version == "1.0.7" && p.Source != "compiled in"
	}, time.Minute, 10*time.Millisecond)
	becomes("+aaaa+bbbb")
	require.NoError(t, os.Remove(filepath.Join(folder, "b"+fixture.Ext())))
	becomes("+aaaa")
	require.NoError(t, os.Remove(filepath.Join(folder, "a"+fixture.Ext())))
	assert.Eventually(t, func() bool { p, _ := sys.Plugin("plugin_aaaa"); return p.Source == "compiled in" }, time.Minute, 10*time.Millisecond)
	becomes("+aaaa")
}

// TestFolderIsMadeLater: a folder that is not there when the system starts, or is removed and made again, is watched as soon as it is there.
func TestFolderIsMadeLater(t *testing.T) {
	fixture.Loadable(t)
	folder := filepath.Join(t.TempDir(), "lib", "plugins")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(folder), plugins.Watch())
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	for _, tag := range []string{"aaaa", "bbbb"} {
		require.NoError(t, os.MkdirAll(folder, 0o755))
		variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
		assert.Eventually(t, func() bool {
			p, known := sys.Plugin("plugin_" + tag)
			return known && p.State == plugins.StateReady
		}, time.Minute, 10*time.Millisecond)
		require.NoError(t, os.RemoveAll(filepath.Dir(folder)))
		assert.Eventually(t, func() bool {
			p, _ := sys.Plugin("plugin_" + tag)
			return p.State != plugins.StateReady
		}, time.Minute, 10*time.Millisecond)
	}
}

// TestCloseWhileItIsReloaded: Close ends a change that is being taken over, by Watch or by somebody's Reload, and does not wait for a start that hangs.
func TestCloseWhileItIsReloaded(t *testing.T) {
	for _, watch := range []bool{true, false} {
		t.Run(fmt.Sprint("watch ", watch), func(t *testing.T) {
			started, release, reloaded := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			defer close(release)
			hangs := &builtin.Plugin{Name: "hangs", Version: "1.0.0", Start: func(context.Context, []byte) (any, error) {
				close(started)
				<-release
				return nil, nil
			}}
			path := filepath.Join(t.TempDir(), "config.yaml")
			require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: hangs, enabled: false}]"), 0o644))
			opts := []plugins.Option{plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(hangs)}
			if watch {
				opts = append(opts, plugins.Watch())
			}
			sys := plugins.New("app", "1.0.0", opts...)
			require.NoError(t, sys.Start(t.Context()))
			require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: hangs, required: true}]"), 0o644))
			if !watch {
				go func() { reloaded <- sys.Reload(t.Context()) }()
			}
			<-started
			require.NoError(t, closed(sys))
			p, _ := sys.Plugin("hangs")
			assert.NotEqual(t, plugins.StateStarted, p.State)
			if !watch {
				assert.ErrorIs(t, <-reloaded, plugins.ErrClosed)
			}
		})
	}
}

// TestReplace: a version is put in the place of another by hand; one that is no good is not.
func TestReplace(t *testing.T) {
	fixture.Loadable(t)
	h := newHost(t, "in-process").add("aaaa")
	sys := h.new()
	require.ErrorIs(t, sys.Replace(t.Context(), "plugin_aaaa", "x"), plugins.ErrNotStarted)
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	version := func() string {
		out, err := f.Call(t.Context(), nil)
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "1.0.0", version())
	other := filepath.Join(t.TempDir(), "other"+fixture.Ext())
	variant(t, "system", other, "1.0.0", "1.0.4")
	require.NoError(t, sys.Replace(t.Context(), "plugin_aaaa", other))
	assert.Equal(t, "1.0.4", version())
	variant(t, "system", other, "1.0.0", "1.0.5", "start:ok", "start:cr")
	err = sys.Replace(t.Context(), "plugin_aaaa", other)
	var why *plugins.Error
	require.True(t, errors.As(err, &why))
	assert.Equal(t, plugins.StepProbe, why.Step)
	assert.Equal(t, "1.0.4", version())
	assert.ErrorIs(t, sys.Replace(t.Context(), "plugin_bbbb", other), plugins.ErrUnreadable)
	assert.ErrorIs(t, sys.Replace(t.Context(), "plugin_aaaa", filepath.Join(t.TempDir(), "none")), os.ErrNotExist)
}

package plugins_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// publisher is a folder of releases, which a host knows by an https:// url, and what the host has.
type publisher struct {
	t        *testing.T
	releases string
	key      sign.PrivateKey
	folder   string // of config.yaml and its lock
	store    string
	requests atomic.Int64
	offline  atomic.Bool
	fixture  string // "" is released

	mu   sync.Mutex
	text bytes.Buffer // what is logged
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	key, err := sign.Generate()
	require.NoError(t, err)
	return &publisher{t: t, releases: filepath.Join(t.TempDir(), "releases"), key: key, folder: t.TempDir(), store: filepath.Join(t.TempDir(), "store")}
}

// publish publishes versions of released.c's plug-in under names dist_<tag>, with a few more bytes changed.
func (p *publisher) publish(tag, version string, more ...string) {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "dist"+fixture.Ext())
	pairs := []string{"dist_aaaa", "dist_" + tag, "1.0.0", version, "conflicts=", "x_nflicts="}
	for _, key := range []string{"requires=", "permit.connect="} {
		if !strings.Contains(strings.Join(more, " "), key) {
			pairs = append(pairs, key, "x_"+key[2:])
		}
	}
	for _, m := range more {
		if from, to, ok := strings.Cut(m, " -> "); ok {
			pairs = append(pairs, from, to)
		}
	}
	variant(p.t, cmp.Or(p.fixture, "released"), path, pairs...)
	r, platform, err := install.Describe(path)
	require.NoError(p.t, err)
	data, err := os.ReadFile(path)
	require.NoError(p.t, err)
	signature, err := sign.Sign(p.key, sign.Subject{Name: r.Name, Version: r.Version, Platform: platform}, bytes.NewReader(data))
	require.NoError(p.t, err)
	to, err := files.NewFolder(p.releases)
	require.NoError(p.t, err)
	require.NoError(p.t, to.Push(p.t.Context(), r, map[string]registry.Content{platform: {Path: path, Signature: signature}}))
}

// asked is the publisher's source; it counts what it is asked.
type asked struct {
	registry.Source
	p *publisher
}

func (a *asked) Versions(ctx context.Context, name string) ([]string, error) {
	a.p.requests.Add(1)
	if a.p.offline.Load() {
		return nil, &registry.Error{Plugin: name, Kind: registry.ErrUnavailable, Found: "no network", Remedy: "Try again"}
	}
	return a.Source.Versions(ctx, name)
}

// Index is the folder's: there is none.
func (a *asked) Index() index.Fetcher {
	a.p.requests.Add(1)
	return a.Source.(*files.Folder).Index()
}

func (p *publisher) pages(r config.Registry) (registry.Source, bool, error) {
	if !strings.HasPrefix(r.URL, "https://") {
		return nil, false, nil
	}
	f, err := files.NewFolder(p.releases)
	return &asked{f, p}, true, err
}

// configure writes config.yaml in one step, with the publisher's key.
func (p *publisher) configure(listed ...string) {
	p.t.Helper()
	text := "registry: {url: 'https://plugins.example/{tag}', keys: [" + p.key.Public().String() + "]}\nplugins:\n"
	for _, l := range listed {
		text += "  - " + l + "\n"
	}
	path := filepath.Join(p.folder, "config.yaml")
	require.NoError(p.t, errors.Join(os.WriteFile(path+".new", []byte(text), 0o644), os.Rename(path+".new", path)))
}

func (p *publisher) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *publisher) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// system makes the system, which the test closes.
func (p *publisher) system(opts ...plugins.Option) *plugins.System {
	p.t.Helper()
	sys := plugins.New("shop", "1.4.0", append([]plugins.Option{plugins.Config(filepath.Join(p.folder, "config.yaml")), plugins.StoreFolder(p.store), plugins.Download(p.pages),
		plugins.Logger(slog.New(slog.NewTextHandler(p, nil)))}, opts...)...)
	p.t.Cleanup(func() { require.NoError(p.t, closed(sys)) })
	return sys
}

// version calls a plug-in.
func version(t *testing.T, sys *plugins.System, name string) string {
	t.Helper()
	f, err := sys.Func(name, "version")
	require.NoError(t, err)
	out, err := f.Call(t.Context(), nil)
	require.NoError(t, err)
	return string(out)
}

// A config.yaml that only names plug-ins ends with them installed, verified and running, from the store; the next start asks nobody, and works without a network.
func TestDownload(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0", "requires=")
	p.publish("bbbb", "1.2.0")
	p.configure("dist_aaaa")
	var events []plugins.Event
	sys := p.system(plugins.OnEvent(func(ev plugins.Event) { events = append(events, ev) }))
	told := plugins.Collect[[]byte, []byte](sys, "told")
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
	a, _ := sys.Plugin("dist_aaaa")
	assert.NoError(t, a.Err)
	store, err := filepath.EvalSymlinks(p.store)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(a.Source, store), a.Source)
	assert.FileExists(t, filepath.Join(p.folder, install.LockName))
	all, err := told.Call(t.Context(), nil)
	require.NoError(t, err)
	assert.Len(t, all, 2, "what it requires runs, too")
	require.NoError(t, closed(sys))
	var installed []string
	for _, ev := range events {
		if ev.Kind == plugins.EventInstalled {
			installed = append(installed, ev.Plugin+" "+ev.Version)
		}
	}
	assert.Equal(t, []string{"dist_aaaa 1.0.0", "dist_bbbb 1.2.0"}, installed)

	requests := p.requests.Load()
	p.offline.Store(true)
	p.publish("bbbb", "1.3.0")
	again := p.system()
	require.NoError(t, again.Start(t.Context()))
	assert.Equal(t, "1.2.0", version(t, again, "dist_bbbb"), "nothing is updated by itself")
	require.NoError(t, again.Reload(t.Context()))
	assert.Equal(t, requests, p.requests.Load())

	overview, err := plugins.Survey(t.Context(), plugins.Config(filepath.Join(p.folder, "config.yaml")), plugins.StoreFolder(p.store), plugins.Download())
	require.NoError(t, err)
	require.Len(t, overview.Plugins, 2)
	assert.Equal(t, plugins.StateReady, overview.Plugins[0].State)
	assert.Equal(t, overview.Plugins[0].Source, overview.Installed["dist_aaaa"].Path)

	p.configure("dist_aaaa", "dist_cccc")
	nowhere := filepath.Join(t.TempDir(), "store")
	for _, c := range []struct {
		store, want string
		failed      int
	}{{p.store, "no plug-in of this name in the lock", 1}, {nowhere, "no store", 2}} {
		overview, err = plugins.Survey(t.Context(), plugins.Config(filepath.Join(p.folder, "config.yaml")), plugins.StoreFolder(c.store), plugins.Download(p.pages))
		require.NoError(t, err)
		failed := 0
		for _, got := range overview.Plugins {
			if got.State == plugins.StateFailed {
				failed++
				assert.ErrorContains(t, got.Err, c.want)
				assert.ErrorIs(t, got.Err, plugins.ErrNotFound)
			}
		}
		assert.Equal(t, c.failed, failed)
	}
	assert.NoDirExists(t, nowhere)
	assert.Equal(t, requests, p.requests.Load(), "a survey asks nobody")
}

// What one plug-in's installation ends with is its own error, which says why. The others run; only one that is required fails Start.
func TestDownloadFails(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.publish("cccc", "1.0.0", "permit.connect=")
	p.publish("dddd", "1.0.0", "host.shop=>=1.1 -> host.shop=>=1.9")
	p.publish("eeee", "1.0.0", "permit.connect=443 -> permit.connect=x43")
	p.configure("dist_aaaa", "dist_cccc", "dist_dddd", "dist_eeee", "dist_none")
	sys := p.system()
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
	for name, want := range map[string]struct {
		step           plugins.Step
		kind, registry error
	}{"dist_cccc": {plugins.StepGrant, plugins.ErrGrant, registry.ErrGrant}, "dist_dddd": {plugins.StepFetch, plugins.ErrRange, registry.ErrHost}, "dist_eeee": {plugins.StepFetch, plugins.ErrFetch, registry.ErrMalformed},
		"dist_none": {plugins.StepFetch, plugins.ErrNotFound, registry.ErrNotFound}} {
		got, _ := sys.Plugin(name)
		var e *plugins.Error
		require.ErrorAs(t, got.Err, &e, name)
		assert.Equal(t, want.step, e.Step, name)
		assert.ErrorIs(t, e, want.kind, name)
		assert.ErrorIs(t, e, want.registry, name)
	}
	text, err := os.ReadFile(filepath.Join(p.folder, install.LockName))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "dist_cccc", "what was not granted is not in the lock")
	assert.NotContains(t, string(text), "dist_eeee", "nor is what nobody can grant")

	p.configure("dist_aaaa", "{name: dist_cccc, permit: {connect: [443]}}")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_cccc"))

	p.configure("dist_aaaa", "{name: dist_none, required: true}")
	required := p.system()
	assert.ErrorIs(t, required.Start(t.Context()), registry.ErrNotFound)

	unknown := plugins.New("shop", "1.4.0", plugins.Config(filepath.Join(p.folder, "config.yaml")), plugins.StoreFolder(filepath.Join(t.TempDir(), "store")), plugins.Download(), plugins.Logger(quiet()))
	defer unknown.Close()
	assert.ErrorContains(t, unknown.Start(t.Context()), "plugins.Download(release.Pages)")
}

// What is written wrong is told as it is where nothing is installed, with what the registry says besides.
func TestDownloadOfMisspelt(t *testing.T) {
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()))
	empty := filepath.ToSlash(t.TempDir())
	for url, says := range map[string]string{"": "found no source at all. Write registry.url in config.yaml", "file://" + empty: "Look at the registry's url", "file:///nowhere": "the source cannot be reached"} {
		path, _ := written(t, "registry: {url: '"+url+"'}\nfolders: ["+folder+"]\nplugins: [plugin_aaab, other]\n")
		options := []plugins.Option{plugins.Config(path), plugins.StoreFolder(filepath.Join(t.TempDir(), "store")), plugins.Download()}
		sys := plugins.New("shop", "1.4.0", append(options, plugins.Logger(quiet()))...)
		require.NoError(t, sys.Start(t.Context()))
		here := "found no plug-in of this name (in " + folder + "; 1 other), expected a library whose manifest has this name"
		got, _ := sys.Plugin("plugin_aaab")
		for _, part := range []string{here, says, "Did you mean plugin_aaaa?"} {
			assert.ErrorContains(t, got.Err, part, url)
		}
		got, _ = sys.Plugin("other")
		assert.ErrorContains(t, got.Err, says)
		if errors.Is(got.Err, registry.ErrNotFound) { // else it may be there
			assert.ErrorContains(t, got.Err, here)
		}
		require.NoError(t, closed(sys))
		over, err := plugins.Survey(t.Context(), options...)
		require.NoError(t, err)
		assert.ErrorContains(t, of(t, over, "plugin_aaab").Err, "Did you mean plugin_aaaa?")
	}
}

// What config.yaml comes to name while the application runs is installed then.
func TestDownloadWatched(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.publish("bbbb", "1.0.0")
	p.configure("dist_aaaa")
	sys := p.system(plugins.Watch())
	require.NoError(t, sys.Start(t.Context()))
	p.configure("dist_aaaa", "dist_bbbb")
	require.Eventually(t, func() bool { b, _ := sys.Plugin("dist_bbbb"); return b.State == plugins.StateReady }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, "1.0.0", version(t, sys, "dist_bbbb"))
	p.configure("dist_aaaa") // nothing is left of one whose entry is taken out
	require.Eventually(t, func() bool { _, known := sys.Plugin("dist_bbbb"); return !known }, time.Minute, 10*time.Millisecond)
	require.Len(t, sys.List(), 1)
	assert.Equal(t, "dist_aaaa", sys.List()[0].Name)
}

// One that was installed and is disabled says so, also while a call of it runs: that it has no file then is nothing to mend.
func TestDownloadedAndDisabled(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.configure("dist_aaaa", "slow")
	begun, release := make(chan struct{}), make(chan struct{})
	slow := &builtin.Plugin{Name: "slow", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "version", Call: func(context.Context, []byte) ([]byte, error) {
		close(begun)
		<-release
		return []byte("1.0.0"), nil
	}}}}
	sys := p.system(plugins.Builtin(slow))
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
	f, err := sys.Func("slow", "version")
	require.NoError(t, err)
	var calling sync.WaitGroup
	calling.Go(func() {
		_, err := f.Call(t.Context(), nil)
		assert.NoError(t, err)
	})
	<-begun
	p.configure("{name: dist_aaaa, enabled: false}", "{name: slow, enabled: false}")
	require.NoError(t, sys.Reload(t.Context()))
	for _, name := range []string{"dist_aaaa", "slow"} {
		f, err := sys.Func(name, "version")
		require.NoError(t, err)
		_, err = f.Call(t.Context(), nil)
		assert.ErrorIs(t, err, plugins.ErrDisabled)
		assert.ErrorContains(t, err, "(ferrule enable)")
	}
	close(release)
	calling.Wait()
}

// update publishes a version, and takes it into the lock and the store, as a command beside the system would.
func (p *publisher) update(version string) {
	p.t.Helper()
	p.publish("aaaa", version)
	c, err := config.Load(filepath.Join(p.folder, "config.yaml"))
	require.NoError(p.t, err)
	o, err := install.Configured(c, p.pages)
	require.NoError(p.t, err)
	st, err := store.Open(p.store)
	require.NoError(p.t, err)
	defer st.Close()
	o.Lock, o.Store = install.LockOf(filepath.Join(p.folder, "config.yaml")), st
	in, err := install.New(o)
	require.NoError(p.t, err)
	_, _, err = in.Update(p.t.Context(), install.Wants(c, func(string) bool { return false }), install.UpdateOptions{})
	require.NoError(p.t, err)
}

// collect is a GC of another process, which keeps nothing but what is in use.
func (p *publisher) collect() {
	p.t.Helper()
	st, err := store.Open(p.store)
	require.NoError(p.t, err)
	defer st.Close()
	_, _, err = st.GC(p.t.Context(), func(string) bool { return false }, 0)
	require.NoError(p.t, err)
}

// What updates have put aside is no longer in use once no version runs from it: a GC of another process takes it, and what runs stays. As long as a call runs in a version that
// was replaced, its file is in use, and no longer: nobody has to reload for that. A call that stays in one plug-in holds no other's file.
func TestUpdatedFilesAreForgotten(t *testing.T) {
	fixture.Loadable(t)
	for how, isolation := range map[string]string{"isolated": "{sandbox: none}", "in this process": "false"} {
		t.Run(how, func(t *testing.T) {
			p := newPublisher(t)
			p.fixture = "released_stays"
			p.publish("aaaa", "1.0.0")
			p.publish("bbbb", "1.0.0")
			p.configure("{name: dist_aaaa, isolate: "+isolation+"}", "{name: dist_bbbb, isolate: "+isolation+"}")
			sys := p.system()
			require.NoError(t, sys.Start(t.Context()))
			var calling sync.WaitGroup
			stay := func(name string) (end func()) {
				path := filepath.Join(t.TempDir(), name)
				require.NoError(t, os.WriteFile(path, nil, 0o600))
				f, err := sys.Func(name, "stays")
				require.NoError(t, err)
				calling.Go(func() {
					out, err := f.Call(context.Background(), []byte(path))
					assert.NoError(t, err)
					assert.Equal(t, "1.0.0", string(out))
				})
				require.Eventually(t, func() bool { _, err := os.Stat(path + "+"); return err == nil }, time.Minute, time.Millisecond, "it runs")
				return func() { require.NoError(t, os.Remove(path+"+")) }
			}
			end, endOther := stay("dist_aaaa"), stay("dist_bbbb")
			before, _ := sys.Plugin("dist_aaaa")
			other, _ := sys.Plugin("dist_bbbb")
			p.configure("{name: dist_aaaa, isolate: "+isolation+"}", "{name: dist_bbbb, enabled: false, isolate: "+isolation+"}")
			require.NoError(t, sys.Reload(t.Context()))
			for _, next := range []string{"1.1.0", "1.2.0", "1.3.0"} {
				p.update(next)
				require.NoError(t, sys.Reload(t.Context()))
				assert.Equal(t, next, version(t, sys, "dist_aaaa"))
			}
			p.collect()
			assert.FileExists(t, before.Source, "a call runs in it")
			assert.FileExists(t, other.Source)
			end()
			gone := func(path string) {
				t.Helper()
				assert.Eventually(t, func() bool {
					p.collect()
					_, err := os.Stat(path)
					return errors.Is(err, os.ErrNotExist)
				}, time.Minute, 10*time.Millisecond)
			}
			gone(before.Source)
			after, _ := sys.Plugin("dist_aaaa")
			assert.FileExists(t, after.Source)
			assert.Equal(t, "1.3.0", version(t, sys, "dist_aaaa"))
			endOther()
			calling.Wait()
		})
	}
}

// A watched system whose downloads fail asks nobody again while nothing changes, whatever else lies beside config.yaml, and at once when somebody asks it to.
func TestDownloadWatchedRests(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.publish("cccc", "1.0.0", "permit.connect=")
	p.configure("dist_aaaa", "dist_cccc")
	sys := p.system(plugins.Watch())
	require.NoError(t, sys.Start(t.Context()))
	rests := func() {
		t.Helper()
		time.Sleep(time.Second) // what has changed is seen
		before := p.requests.Load()
		for range 10 {
			require.NoError(t, os.WriteFile(filepath.Join(p.folder, "host.log"), []byte("x"), 0o644))
			time.Sleep(200 * time.Millisecond)
		}
		assert.Equal(t, before, p.requests.Load())
	}
	rests()
	before := p.requests.Load()
	require.NoError(t, sys.Reload(t.Context()))
	assert.Greater(t, p.requests.Load(), before)
	p.configure("dist_aaaa", "dist_cccc", "dist_none") // which is not taken over
	require.Eventually(t, func() bool { return strings.Contains(p.logged(), "dist_none") }, time.Minute, 10*time.Millisecond)
	rests()
	p.configure("dist_aaaa", "{name: dist_cccc, permit: {connect: [443]}}")
	require.Eventually(t, func() bool { c, _ := sys.Plugin("dist_cccc"); return c.State == plugins.StateReady }, time.Minute, 10*time.Millisecond)
	assert.Equal(t, "1.0.0", version(t, sys, "dist_cccc"))
}

// What is deleted from the store under a running system is there again after a Reload, and so is the store.
func TestDownloadHeals(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.configure("dist_aaaa")
	sys := p.system()
	require.NoError(t, sys.Start(t.Context()))
	a, _ := sys.Plugin("dist_aaaa")
	for what, harm := range map[string]func() error{
		"the store":   func() error { return os.RemoveAll(p.store) },
		"the folder":  func() error { return os.RemoveAll(filepath.Dir(a.Source)) },
		"other bytes": func() error { return errors.Join(os.Remove(a.Source), os.WriteFile(a.Source, []byte("x"), 0o555)) },
		"a short file": func() error {
			return errors.Join(os.Chmod(a.Source, 0o755), os.Truncate(a.Source, 100), os.Chmod(a.Source, 0o555))
		},
	} {
		require.NoError(t, harm(), what)
		require.NoError(t, sys.Reload(t.Context()), what)
		now, _ := sys.Plugin("dist_aaaa")
		assert.NoError(t, now.Err, what)
		assert.Equal(t, plugins.StateReady, now.State, what)
		assert.FileExists(t, a.Source, what)
	}
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
}

// What is in a folder, or is put in a plug-in's place by dev, is not installed, and never in the lock; dev is said loudly.
func TestDownloadLocal(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0", "requires=")
	p.publish("bbbb", "1.5.0")
	p.publish("eeee", "1.5.0")
	folder := t.TempDir()
	build := func(tag string) string {
		path := filepath.Join(folder, tag+fixture.Ext())
		variant(t, "released", path, "dist_aaaa", "dist_"+tag, "requires=", "x_quires=", "conflicts=", "x_nflicts=", "permit.connect=", "x_rmit.connect=")
		return path
	}
	build("bbbb")
	dev := filepath.Join(t.TempDir(), "dev"+fixture.Ext())
	require.NoError(t, os.Rename(build("eeee"), dev))
	p.configure("dist_aaaa", "dist_bbbb", "dist_eeee")
	f, err := os.OpenFile(filepath.Join(p.folder, "config.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("folders: ['" + folder + "']\ndev: {dist_eeee: '" + dev + "'}\n")
	require.NoError(t, errors.Join(err, f.Close()))
	sys := p.system()
	require.NoError(t, sys.Start(t.Context()))
	for name, want := range map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.0.0", "dist_eeee": "1.0.0"} {
		assert.Equal(t, want, version(t, sys, name), name)
	}
	text, err := os.ReadFile(filepath.Join(p.folder, install.LockName))
	require.NoError(t, err)
	assert.Contains(t, string(text), "dist_aaaa")
	assert.NotContains(t, string(text), "dist_bbbb")
	assert.NotContains(t, string(text), "dist_eeee")
	assert.Contains(t, p.logged(), "NOT INSTALLED, NOT VERIFIED")
}

// A folder or a bundle by its file:// url is a registry without any further source.
func TestDownloadFile(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	path := filepath.Join(p.folder, "config.yaml")
	url := "file://" + strings.TrimSuffix("/"+strings.TrimPrefix(filepath.ToSlash(p.releases), "/"), "/")
	require.NoError(t, os.WriteFile(path, []byte("registry: {url: '"+url+"'}\nplugins: [dist_aaaa]\n"), 0o644))
	sys := plugins.New("shop", "1.4.0", plugins.Config(path), plugins.StoreFolder(p.store), plugins.Download(), plugins.Logger(slog.New(slog.NewTextHandler(p, nil))))
	defer sys.Close()
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
	assert.Contains(t, p.logged(), "NOT VERIFIED: no key is set for it", "without keys, which is said")
}

// TestDownloadJitter: the first request waits for its turn, and Start ends with its context meanwhile. What is there already waits for nothing.
func TestDownloadJitter(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.configure("dist_aaaa")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	late := p.system(plugins.DownloadJitter(1000 * time.Hour))
	require.ErrorIs(t, late.Start(ctx), context.DeadlineExceeded)
	assert.Zero(t, p.requests.Load())
	require.NoError(t, p.system().Start(t.Context()))
	again := p.system(plugins.DownloadJitter(1000 * time.Hour))
	require.NoError(t, again.Start(t.Context()))
	assert.Equal(t, "1.0.0", version(t, again, "dist_aaaa"))

	wrong := p.system(plugins.DownloadJitter(-1))
	require.ErrorIs(t, wrong.Start(t.Context()), plugins.ErrOption)
}

// TestLoadedWithItsDigest: what is loaded has the digest of the lock, however long after it was looked at, in each engine.
func TestLoadedWithItsDigest(t *testing.T) {
	fixture.Loadable(t)
	for _, isolate := range []string{"", ", isolate: {sandbox: none}"} {
		p := newPublisher(t)
		p.publish("aaaa", "1.0.0")
		p.configure("{name: dist_aaaa" + isolate + "}")
		sys := p.system()
		require.NoError(t, sys.Start(t.Context()))
		a, ok := sys.Plugin("dist_aaaa")
		require.True(t, ok)
		require.Equal(t, plugins.StateReady, a.State, "it is opened when it is used")
		text, err := os.ReadFile(a.Source)
		require.NoError(t, err)
		text[len(text)-1] ^= 1
		require.NoError(t, os.Chmod(a.Source, 0o755))
		require.NoError(t, os.WriteFile(a.Source, text, 0o755))
		f, err := sys.Func("dist_aaaa", "version")
		require.NoError(t, err)
		_, err = f.Call(t.Context(), nil)
		require.ErrorIs(t, err, loader.ErrDigest, isolate)
	}
}

package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// linked makes, or swaps as a deployment does, a symbolic link.
func linked(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at+".new"); err != nil {
		t.Skip("this user may make no symbolic links: ", err)
	}
	require.NoError(t, os.Rename(at+".new", at))
}

// TestLinksAreWatched: a symbolic link that leads elsewhere by now is seen, wherever on the way to a folder or a file it is, and what changes where it leads to now.
func TestLinksAreWatched(t *testing.T) {
	fixture.Loadable(t)
	root := t.TempDir()
	at := func(names ...string) string { return filepath.Join(append([]string{root}, names...)...) }
	for i, version := range []string{"1.0.1", "1.0.2"} {
		folder := at("releases", version, "lib", "plugins")
		require.NoError(t, os.MkdirAll(folder, 0o755))
		variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()), "1.0.0", version)
		require.NoError(t, os.MkdirAll(at("store", version), 0o755))
		variant(t, "system", at("store", version, "b"+fixture.Ext()), "1.0.0", version, "aaaa", "bbbb")
		require.NoError(t, os.MkdirAll(at("config", ".."+version), 0o755))
		text := "folders: [" + at("app", "current", "lib", "plugins") + ", " + at("app", "links") + "]\nplugins: [plugin_aaaa, {name: plugin_bbbb, config: {release: " + []string{"1", "2"}[i] + "}}]\n"
		if i == 1 {
			text += "hooks: {piped: [plugin_bbbb, plugin_aaaa]}\n"
		}
		require.NoError(t, os.WriteFile(at("config", ".."+version, "config.yaml"), []byte(text), 0o644))
	}
	require.NoError(t, os.MkdirAll(at("app", "links"), 0o755))
	linked(t, filepath.Join("..", "releases", "1.0.1"), at("app", "current"))               // on the way to a folder
	linked(t, at("store", "1.0.1"), at("store", "now"))                                     // on the way to a file
	linked(t, at("store", "now", "b"+fixture.Ext()), at("app", "links", "b"+fixture.Ext())) // the file
	linked(t, "..1.0.1", at("config", "..data"))                                            // as volumes of Kubernetes have it
	linked(t, filepath.Join("..data", "config.yaml"), at("config", "config.yaml"))
	linked(t, at("config", "config.yaml"), at("app", "config.yaml"))
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(at("app", "config.yaml")), plugins.Watch())
	defer func() { require.NoError(t, closed(sys)) }()
	piped := plugins.Pipe[[]byte](sys, "piped")
	require.NoError(t, sys.Start(t.Context()))
	become := func(what string, ready func() bool) {
		t.Helper()
		assert.Eventually(t, ready, time.Minute, 10*time.Millisecond, what)
	}
	version := func(name, want string) func() bool {
		return func() bool { p, _ := sys.Plugin(name); return p.Version == want && p.Err == nil }
	}
	is := func(want string) func() bool {
		return func() bool {
			out, err := piped.Append(t.Context(), nil, nil)
			return err == nil && string(out) == want
		}
	}
	become("begins", is("+aaaa+bbbb"))
	become("begins", version("plugin_aaaa", "1.0.1"))
	time.Sleep(200 * time.Millisecond) // the look after the start is over: what follows is seen by itself
	linked(t, filepath.Join("..", "releases", "1.0.2"), at("app", "current"))
	become("a link on the way to a folder", version("plugin_aaaa", "1.0.2"))
	variant(t, "system", at("releases", "1.0.2", "lib", "plugins", "a"+fixture.Ext()), "1.0.0", "1.0.3")
	become("a file in a folder that a link leads to now", version("plugin_aaaa", "1.0.3"))
	linked(t, at("store", "1.0.2"), at("store", "now"))
	become("a link on the way to a file that is a link", version("plugin_bbbb", "1.0.2"))
	linked(t, "..1.0.2", at("config", "..data"))
	become("a link on the way to config.yaml", is("+bbbb+aaaa"))
	require.NoError(t, os.WriteFile(at("config", "..1.0.2", "config.yaml"), []byte("folders: ["+at("app", "links")+"]\nplugins: [plugin_bbbb]\n"), 0o644))
	become("config.yaml where a link leads to now", is("+bbbb"))
}

// TestRightsAreWatched: a file that may not be read is taken in by itself once it may.
func TestRightsAreWatched(t *testing.T) {
	if !fixture.Unprivileged(t) {
		return
	}
	fixture.Loadable(t)
	folder := t.TempDir()
	library := filepath.Join(folder, "plugin_aaaa"+fixture.Ext())
	variant(t, "system", library)
	require.NoError(t, os.Chmod(library, 0))
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(folder), plugins.Watch())
	defer func() { require.NoError(t, closed(sys)) }()
	asked := plugins.Collect[[]byte, []byte](sys, "asked")
	require.NoError(t, sys.Start(t.Context()))
	time.Sleep(200 * time.Millisecond) // the look after the start is over
	all, err := asked.Call(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, all)
	require.NoError(t, os.Chmod(library, 0o644))
	require.Eventually(t, func() bool {
		all, err := asked.Call(t.Context(), nil)
		return err == nil && len(all) == 1
	}, time.Minute, 10*time.Millisecond)
}

// TestRightsOfTheConfigurationAreWatched: so is a config.yaml that may not be read, and a file that it reads.
func TestRightsOfTheConfigurationAreWatched(t *testing.T) {
	if !fixture.Unprivileged(t) {
		return
	}
	path, write := written(t, "plugins: []")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Watch(), plugins.Builtin(simple("a", "1.0.0", nil)))
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	refused := func() error { _, why := sys.ConfigRefused(); return why }
	token := filepath.Join(filepath.Dir(path), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret"), 0))
	for file, text := range map[string]string{path: "plugins: [{name: a, config: {n: 1}}]", token: "plugins: [{name: a, config: {token: '${file:token}'}}]"} {
		if file == path {
			require.NoError(t, os.Chmod(path, 0o200))
		}
		write(text)
		require.Eventually(t, func() bool { return errors.Is(refused(), fs.ErrPermission) }, time.Minute, 10*time.Millisecond, "%v", refused())
		time.Sleep(200 * time.Millisecond) // the look is over
		require.NoError(t, os.Chmod(file, 0o600))
		require.Eventually(t, func() bool { return refused() == nil }, time.Minute, 10*time.Millisecond)
	}
}

// TestRefusedIsSaidOnce: a config.yaml that is refused is a line in the log, once, and is tried once, as long as nothing that it reads has changed; not even where the log is
// beside it, or among the plug-ins, does a line have anybody look again.
func TestRefusedIsSaidOnce(t *testing.T) {
	path, write := written(t, "plugins: [{name: a, config: {token: '${file:token}'}}]\nfolders: [.]")
	beside := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o644))
	}
	beside("token", "first")
	out, err := os.Create(filepath.Join(filepath.Dir(path), "shop.log"))
	require.NoError(t, err)
	defer out.Close()
	var looked, tried atomic.Int32
	var has atomic.Value
	p := simple("a", "1.0.0", nil, "note")
	p.Start = func(context.Context, []byte) (any, error) { return "", nil }
	p.Configure = func(_ context.Context, _ any, config []byte) error {
		if strings.Contains(string(config), "bad") {
			tried.Add(1)
			return errors.New("bad settings")
		}
		has.Store(string(config))
		return nil
	}
	sys := plugins.New("app", "1.0.0", plugins.Logger(slog.New(slog.NewTextHandler(out, nil))), plugins.Config(path), plugins.Watch(), plugins.Builtin(p), plugins.Required("a"),
		plugins.Grants(func(plugins.Request) bool { looked.Add(1); return true }))
	plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	said := func() int {
		text, err := os.ReadFile(out.Name())
		require.NoError(t, err)
		return strings.Count(string(text), "was not taken over")
	}
	become := func(what string, ready func() bool) {
		t.Helper()
		require.Eventually(t, ready, time.Minute, 10*time.Millisecond, what)
	}
	first := time.Time{}
	for i, bad := range []string{"hoks: {}", "plugins: [a, nobody]", "plugins: [{name: a, config: {bad: 1}}]"} {
		write(bad)
		become(bad, func() bool { return said() > i })
		time.Sleep(200 * time.Millisecond)
		before := looked.Load()
		_, err = out.WriteString("a line of the application's\n")
		require.NoError(t, err)
		beside("notes.txt", bad)
		time.Sleep(200 * time.Millisecond)
		assert.Equal(t, before, looked.Load(), "%s: nothing that counts has changed", bad)
		next := fmt.Sprint("token ", i)
		beside("token", next)
		become("a secret of the settings in force", func() bool { text, _ := has.Load().(string); return strings.Contains(text, next) })
		assert.Equal(t, i+1, said(), bad)
		since, why := sys.ConfigRefused()
		if assert.Error(t, why, bad); i == 0 {
			first = since
		}
		assert.Equal(t, first, since, "since when what holds is not what is written")
	}
	assert.EqualValues(t, 1, tried.Load(), "it is not tried again")
	require.Error(t, sys.Reload(t.Context()))
	assert.EqualValues(t, 2, tried.Load(), "but for who asks for it")

	write("plugins: [{name: a, config: {token: '${file:late}'}}]")
	become("refused", func() bool { return said() == 4 })
	beside("late", "at last")
	become("a file that what was refused reads", func() bool { _, why := sys.ConfigRefused(); return why == nil })
	assert.Contains(t, has.Load(), "at last")
}

// TestRefusedFileIsSaid: each file that is refused is said, also for the reason of the one before, once; and so is why, in that line alone, where a plug-in had failed before
// and fails anew. What moves only the lines of a file is taken over.
func TestRefusedFileIsSaid(t *testing.T) {
	late := simple("late", "1.0.0", nil)
	var tries atomic.Int32 // with what is in force: a second after it has failed it is tried again, which is said, too
	var mended atomic.Bool
	late.Start = func(_ context.Context, config []byte) (any, error) {
		if len(config) == 0 {
			if tries.Add(1); mended.Load() {
				return "", nil
			}
		}
		return nil, failure("no disk")
	}
	welcome := simple("welcome", "1.0.0", nil)
	pts := simple("pts", "1.0.0", map[string]string{"permit.connect": "443"}, "note")
	path, write := written(t, "plugins: [welcome, pts, late]\nlogging: {level: INFO}")
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Config(path), plugins.Builtin(late, welcome, pts))
	plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("late", "version")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.Error(t, err, "it has failed")
	before, warnings := settled(sys), len(log.with("level=WARN"))
	failures := func() int { return len(log.with("level=ERROR")) }
	errs := failures() - 1
	require.Equal(t, "late failed, pts failed, welcome ready", before)

	write("# a line above\n\nplugins: [welcome, pts, late]\nlogging: {level: INFO}")
	require.NoError(t, sys.Reload(t.Context()), "all is as it was, but for the line that a remedy has")
	p, _ := sys.Plugin("pts")
	assert.ErrorContains(t, p.Err, "line 3 of")
	assert.LessOrEqual(t, failures(), errs+int(tries.Load()))

	said := func() int { return len(log.with("level=WARN", "was not taken over")) }
	for i, c := range []struct{ text, why string }{
		{"plugins: [welcome, {name: pts, grant: [note]}, late]\nlogging: {level: INFO}", "a manifest that asks for connect 443"},
		{"plugins: [{name: welcome, enabled: false}, {name: pts, grant: [note]}, late]\nlogging: {level: INFO}", "a manifest that asks for connect 443"},
		{"plugins: [welcome, pts, {name: late, required: true, config: {n: 1}}]\nlogging: {level: INFO}", "no disk"},
		{"plugins: [welcome, pts, {name: late, limit: 1s, required: true, config: {n: 1}}]\nlogging: {level: INFO}", "no disk"},
		{"hoks: {}", "hoks"},
		{"hoks: {}\nplugins: [welcome]", "hoks"},
	} {
		write(c.text)
		require.ErrorContains(t, sys.Reload(t.Context()), "all is as it was")
		require.Error(t, sys.Reload(t.Context()))
		assert.Equal(t, i+1, said(), c.text)
		assert.Contains(t, log.with("level=WARN", "was not taken over")[i], c.why)
		assert.Len(t, log.with("level=WARN"), warnings+i+1, "the cause is in no other line")
		assert.LessOrEqual(t, failures(), errs+int(tries.Load()), c.text)
		assert.Eventually(t, func() bool { // not in the moment in which it is tried
			p, _ := sys.Plugin("late")
			return settled(sys) == before && p.Err != nil && strings.Contains(p.Err.Error(), "no disk") && !p.RetryAt.IsZero()
		}, time.Minute, time.Millisecond, "%s: it is to be tried again as it would have been", c.text)
	}
	mended.Store(true)
	becomes(t, sys, "late", plugins.StateStarted)
}

// TestFailedBefore: a plug-in that had failed, and of which nothing has changed but the words for why, has no edit of another one refused. An edit of its own that does not mend it
// is, where it fails otherwise.
func TestFailedBefore(t *testing.T) {
	var asked atomic.Int32
	resets := plugins.Download(func(config.Registry) (registry.Source, bool, error) {
		return nil, true, fmt.Errorf("read tcp 127.0.0.1:%d: connection reset by peer", 40000+asked.Add(1))
	})
	dies := filepath.Join(t.TempDir(), "dies.py")
	require.NoError(t, os.WriteFile(dies, []byte("import os, sys\nsys.exit('%s of process %d' % (sys.argv[1:], os.getpid()))\n"), 0o644))
	started := func(args string) string {
		return "{name: late, program: " + dies + ", interpreter: [" + python(t) + "], args: [" + args + "]}"
	}
	for _, c := range []struct {
		text    string // has NOW, LATE
		late    string
		other   string // an edit of late that does not mend it; or none
		options []plugins.Option
	}{
		{"folders: [fNOW]\nplugins: [{name: welcome, limit: NOWs}, LATE]", "late", "", nil},
		{"plugins: [{name: welcome, limit: NOWs}, LATE]", started("a"), started("b"), nil},
		{"registry: {url: 'https://127.0.0.1/{name}'}\nplugins: [{name: welcome, limit: NOWs}, LATE]", "late", "{name: late, version: ^2}", []plugins.Option{resets, plugins.StoreFolder(t.TempDir())}},
	} {
		text := func(now, late string) string { return strings.NewReplacer("NOW", now, "LATE", late).Replace(c.text) }
		path, write := written(t, text("1", c.late))
		sys := plugins.New("app", "1.0.0", append(c.options, plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("welcome", "1.0.0", nil)))...)
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("late")
		require.Equal(t, plugins.StateFailed, p.State)
		write(text("2", c.late))
		assert.NoError(t, sys.Reload(t.Context()))
		now, _ := sys.Plugin("late")
		assert.NotEqual(t, p.Err.Error(), now.Err.Error(), "why it fails now")
		_, why := sys.ConfigRefused()
		assert.NoError(t, why)
		if c.other != "" {
			write(text("2", c.other))
			assert.ErrorContains(t, sys.Reload(t.Context()), "all is as it was")
		}
		require.NoError(t, closed(sys))
	}
}

// becomes waits until a plug-in has a state.
func becomes(t *testing.T, sys *plugins.System, name string, state plugins.State) {
	t.Helper()
	require.Eventually(t, func() bool { p, _ := sys.Plugin(name); return p.State == state }, 2*time.Minute, 5*time.Millisecond)
}

// TestSetBackToFailed: a plug-in that had failed, and ran for a moment in a config.yaml that another one then refused, has failed as before.
func TestSetBackToFailed(t *testing.T) {
	late := simple("late", "1.0.0", nil)
	var mended atomic.Bool
	late.Start = func(_ context.Context, config []byte) (any, error) {
		if len(config) == 0 && !mended.Load() {
			return nil, failure("no disk")
		}
		return "", nil
	}
	// It holds up its own end, and has a say until then and afterwards.
	stops := make(chan struct{})
	late.Stop = func(any) { <-stops }
	late.Hooks = []builtin.Function{{Name: "may", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}
	other := simple("other", "1.0.0", nil)
	other.Start = func(context.Context, []byte) (any, error) { return nil, failure("no luck") }
	path, write := written(t, "plugins: [late, {name: other, enabled: false}]")
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Config(path), plugins.Builtin(late, other))
	defer func() { require.NoError(t, closed(sys)) }()
	may := plugins.Veto[string](sys, "may")
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("late", "version")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.ErrorContains(t, err, "no disk")
	write("plugins: [{name: late, required: true, config: {disk: 1}}, {name: other, required: true}]")
	require.ErrorContains(t, sys.Reload(t.Context()), "no luck")
	assert.Equal(t, "late draining, other disabled", states(sys))
	require.ErrorContains(t, may.Call(t.Context(), ""), "no disk", "who may object has failed")
	close(stops)
	assert.Eventually(t, func() bool { // not in the moment in which it is tried again
		p, _ := sys.Plugin("late")
		return settled(sys) == "late failed, other disabled" && p.Err != nil && strings.Contains(p.Err.Error(), "no disk") && !p.RetryAt.IsZero()
	}, time.Minute, time.Millisecond)
	assert.Empty(t, log.with("could not be set back"))
	require.ErrorContains(t, may.Call(t.Context(), ""), "no disk")
	mended.Store(true)
	becomes(t, sys, "late", plugins.StateStarted)
	require.NoError(t, may.Call(t.Context(), ""))
}

// TestSetBackWhileDraining: so has one of which an earlier version still drains, and it is tried again once that is gone.
func TestSetBackWhileDraining(t *testing.T) {
	late := simple("late", "1.0.0", nil)
	var mended atomic.Bool
	mended.Store(true)
	late.Start = func(context.Context, []byte) (any, error) {
		if !mended.Load() {
			return nil, failure("no disk")
		}
		return "", nil
	}
	stops := make(chan struct{})
	late.Stop = func(any) { <-stops }
	path, write := written(t, "plugins: [{name: late, required: true}]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(late))
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	write("plugins: [{name: late, enabled: false}]")
	require.NoError(t, sys.Reload(t.Context()))
	require.Equal(t, "late draining", states(sys))
	mended.Store(false)
	write("plugins: [late]")
	require.NoError(t, sys.Reload(t.Context()))
	f, err := sys.Func("late", "version")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.ErrorContains(t, err, "no disk")
	write("plugins: [{name: late, required: true, config: {disk: 1}}]")
	require.ErrorContains(t, sys.Reload(t.Context()), "no disk")
	require.Equal(t, "late draining", states(sys))
	mended.Store(true)
	close(stops)
	becomes(t, sys, "late", plugins.StateStarted)
}

// TestFolderUnread: a folder that cannot be read keeps neither the system from starting, nor what runs from it from running. Its like is a symbolic link that leads nowhere.
func TestFolderUnread(t *testing.T) {
	root := t.TempDir()
	good, bad, aside := filepath.Join(root, "good"), filepath.Join(root, "bad"), filepath.Join(root, "aside")
	require.NoError(t, os.Mkdir(good, 0o755))
	variant(t, "system", filepath.Join(good, "plugin_good"+fixture.Ext()), "aaaa", "good")
	spoil := func(folder string) {
		if err := os.Symlink(folder, folder); err != nil { // a link to itself
			t.Skip("no symbolic links: ", err)
		}
	}
	spoil(bad)
	dangling := filepath.Join(good, "plugin_link"+fixture.Ext())
	require.NoError(t, os.Symlink(filepath.Join(root, "nowhere"), dangling))

	path, _ := written(t, "folders: ["+good+", "+bad+"]\nplugins: [plugin_good, plugin_late, plugin_link]\n")
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Config(path), plugins.Watch())
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "plugin_good ready, plugin_late failed, plugin_link failed", settled(sys))
	p, _ := sys.Plugin("plugin_late")
	assert.ErrorContains(t, p.Err, bad+", which cannot be read; 1 other)")
	assert.ErrorContains(t, p.Err, "Look into "+bad+", which this process cannot")
	p, _ = sys.Plugin("plugin_link")
	assert.ErrorContains(t, p.Err, "found "+dangling+", a symbolic link to "+filepath.Join(root, "nowhere")+", which is not there, expected a library. Correct or remove the link")
	_ = sys.Reload(t.Context())
	assert.Len(t, log.with("level=WARN", "a folder of plug-ins cannot be read", "folder="+bad), 1)
	f, err := sys.Func("plugin_good", "answer")
	require.NoError(t, err)
	answer := func() {
		t.Helper()
		out, err := f.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "good", string(out))
	}
	answer()

	require.NoError(t, os.Remove(bad))
	require.NoError(t, os.Mkdir(bad, 0o755))
	variant(t, "system", filepath.Join(bad, "plugin_late"+fixture.Ext()), "aaaa", "late")
	variant(t, "system", filepath.Join(root, "nowhere"), "aaaa", "link")
	becomes(t, sys, "plugin_late", plugins.StateReady)
	becomes(t, sys, "plugin_link", plugins.StateReady)

	require.NoError(t, os.Rename(good, aside))
	spoil(good)
	require.Eventually(t, func() bool { return len(log.with("a folder of plug-ins cannot be read", "folder="+good)) == 1 }, time.Minute, time.Millisecond)
	require.Error(t, sys.Reload(t.Context()))
	answer()
	require.NoError(t, os.Remove(good))
	require.NoError(t, os.Rename(aside, good))
	require.Eventually(t, func() bool { p, _ := sys.Plugin("plugin_good"); return p.Err == nil }, time.Minute, time.Millisecond)
	answer()
	p, _ = sys.Plugin("plugin_good")
	assert.Zero(t, p.Replaced)
}

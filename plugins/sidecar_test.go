package plugins_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"github.com/ferrule-dev/ferrule/loader"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// sidecar writes testdata/system.py to a file, with further words in the place of its own.
func sidecarFile(t testing.TB, to string, pairs ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "system.py"))
	require.NoError(t, err)
	script := strings.NewReplacer(pairs...).Replace(string(text))
	require.NoError(t, os.WriteFile(to+".new", []byte(script), 0o755))
	require.NoError(t, os.Rename(to+".new", to))
}

// python is config.yaml's interpreter of scripts: Python itself, where what is called python3 only finds it.
func python(t testing.TB) string {
	t.Helper()
	found := fixture.Tool(t, "python3", "install Python 3.8 or later")
	out, err := itself(found)
	require.NoError(t, err)
	return out
}

var itself = func() func(string) (string, error) {
	var once sync.Once
	var path string
	var err error
	return func(python string) (string, error) {
		once.Do(func() {
			var out []byte
			out, err = exec.Command(python, "-c", "import sys; print(sys.executable)").Output()
			path = strings.TrimSpace(string(out))
		})
		return path, err
	}
}()

// configured is a system of a config.yaml that a test changes.
type configured struct {
	t    *testing.T
	path string
}

func newConfigured(t *testing.T) *configured {
	return &configured{t, filepath.Join(t.TempDir(), "config.yaml")}
}

func (c *configured) write(text string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(c.path+".new", []byte(text), 0o600))
	require.NoError(c.t, os.Rename(c.path+".new", c.path))
}

func (c *configured) new(opts ...plugins.Option) *plugins.System {
	sys := plugins.New("app", "1.0.0", append([]plugins.Option{plugins.Logger(quiet()), plugins.Config(c.path)}, opts...)...)
	c.t.Cleanup(func() { assert.NoError(c.t, closed(sys)) })
	return sys
}

func ask(t testing.TB, sys *plugins.System, plugin, function, in string) string {
	t.Helper()
	f, err := sys.Func(plugin, function)
	require.NoError(t, err)
	out, err := f.Call(t.Context(), []byte(in))
	require.NoError(t, err)
	return string(out)
}

// bytesAsTheyAre is a codec.
type bytesAsTheyAre struct{}

func (bytesAsTheyAre) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (bytesAsTheyAre) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// One config.yaml has a library, an isolated one, a program and a sidecar that somebody else has started; they run at a point in one order, have what they were granted, and their settings.
func TestSidecars(t *testing.T) {
	c := newConfigured(t)
	script := filepath.Join(filepath.Dir(c.path), "prog.py")
	sidecarFile(t, script, "aaaa", "prog")
	other := filepath.Join(t.TempDir(), "far.py")
	sidecarFile(t, other, "aaaa", "farr")
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "n"+fixture.Ext()), "aaaa", "nati")
	variant(t, "system", filepath.Join(folder, "w"+fixture.Ext()), "aaaa", "work")
	address := listening(t, other, "127.0.0.1:0", "s3cr3t")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(c.path), "token"), []byte("s3cr3t\n"), 0o600))
	t.Setenv("FERRULE_TEST_SECRET", "hidden")
	c.write(`folders: [` + folder + `]
plugins:
  - plugin_nati
  - {name: plugin_work, isolate: {sandbox: none}}
  - name: plugin_prog
    program: prog.py
    interpreter: [` + python(t) + `, -u]
    args: [one, one]
    env: {SECRET: '<${env:FERRULE_TEST_SECRET}>'}
    grant: [points]
    data: data/prog
    config: {is: program}
  - name: plugin_farr
    url: tcp:` + address + `
    token-file: token
hooks: {piped: [plugin_prog, plugin_nati, plugin_farr, plugin_work], wrapped: [plugin_nati, plugin_farr, plugin_prog, plugin_work]}
`)
	sys := c.new()
	plugins.Offer(sys, "points", func(ctx context.Context, in []byte) ([]byte, error) {
		by, _ := plugins.Caller(ctx)
		return []byte(string(in) + " for " + by), nil
	})
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Codec(bytesAsTheyAre{}))
	wrapped := plugins.Wrap[[]byte, []byte](sys, "wrapped", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }, plugins.Codec(bytesAsTheyAre{}))
	require.NoError(t, sys.Start(t.Context()))
	for _, p := range sys.List() {
		require.NoError(t, p.Err, p.Name)
	}
	out, err := piped.Call(t.Context(), []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "x+prog+nati+farr+work", string(out))
	out, err = wrapped.Call(t.Context(), []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "nati(farr(prog(work(x))))", string(out))
	assert.Equal(t, "3 for plugin_prog", ask(t, sys, "plugin_prog", "points", "3"))
	f, err := sys.Func("plugin_farr", "points")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.Error(t, err, "it was not granted")
	assert.Equal(t, `{"is":"program"}`, ask(t, sys, "plugin_prog", "config", ""))
	assert.Equal(t, "<hidden>", ask(t, sys, "plugin_prog", "environment", "SECRET"))
	assert.Equal(t, "(none)", ask(t, sys, "plugin_prog", "environment", "FERRULE_TEST_SECRET"))
	assert.Equal(t, "one one", ask(t, sys, "plugin_prog", "argument", ""))
	assert.Equal(t, filepath.Join(filepath.Dir(c.path), "data", "prog"), ask(t, sys, "plugin_prog", "data", ""))
	p, _ := sys.Plugin("plugin_prog")
	assert.Equal(t, script, p.Source)
	assert.Equal(t, plugins.StateStarted, p.State)
	assert.Equal(t, []string{"points"}, p.Grants)
	assert.Equal(t, ask(t, sys, "plugin_prog", "process", ""), itoa(p.Worker))
	p, _ = sys.Plugin("plugin_farr")
	assert.Equal(t, "tcp:"+address, p.Source)
	assert.Zero(t, p.Worker)
}

func itoa(n int) string { return strconv.Itoa(n) }

// listening has a script of sidecarFile listen at an address, until the test ends, and returns it: 127.0.0.1:0 is one that the system chooses.
func listening(t testing.TB, script, address string, token ...string) string {
	t.Helper()
	_, where := listen(t, script, address, token...)
	return where
}

// listeningUntil is listening until end is called.
func listeningUntil(t testing.TB, script, address string) (end func()) {
	t.Helper()
	end, _ = listen(t, script, address)
	return end
}

func listen(t testing.TB, script, address string, token ...string) (end func(), where string) {
	t.Helper()
	cmd := exec.Command(python(t), append([]string{script, "--listen", address}, token...)...)
	in, err := cmd.StdinPipe() // its end ends the sidecar, and what it has started
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	end = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return end, strings.TrimSpace(line)
}

// news are the events of a system.
type news chan plugins.Event

func (e news) option() plugins.Option { return plugins.OnEvent(func(ev plugins.Event) { e <- ev }) }

func (e news) next(t testing.TB, kind plugins.EventKind) plugins.Event {
	t.Helper()
	for {
		select {
		case ev := <-e:
			if ev.Kind == kind {
				return ev
			}
		case <-time.After(60 * time.Second):
			require.Fail(t, "no event "+string(kind))
		}
	}
}

// A sidecar whose program, or whose entry, is changed while it is called loses no call, whatever is wrong with a version in between.
func TestSidecarReplaced(t *testing.T) {
	c := newConfigured(t)
	script := filepath.Join(t.TempDir(), "x.py")
	entry := func(more string) string {
		return "plugins:\n  - {name: plugin_aaaa, program: " + script + ", interpreter: [" + python(t) + "]" + more + "}\n"
	}
	sidecarFile(t, script)
	c.write(entry(""))
	events := make(news, 1000)
	sys := c.new(plugins.Watch(), events.option())
	require.NoError(t, sys.Start(t.Context()))
	require.Equal(t, "1.0.0", ask(t, sys, "plugin_aaaa", "version", "")) // it is opened when it is used first
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	done := make(chan struct{})
	var callers sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 2 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				out, err := f.Call(t.Context(), nil)
				mu.Lock()
				if err != nil {
					out = []byte("!" + err.Error())
				}
				seen[string(out)]++
				mu.Unlock()
			}
		})
	}
	sidecarFile(t, script, "1.0.0", "1.1.0")
	assert.Equal(t, "1.1.0", events.next(t, plugins.EventReplaced).Version)
	sidecarFile(t, script, "1.0.0", "1.2.0", `START = "ok"`, `START = "cr"`)
	kept := events.next(t, plugins.EventKept).Err
	assert.ErrorIs(t, kept, loader.ErrCrash)
	assert.ErrorContains(t, kept, "crashing as it was told")
	sidecarFile(t, script, "1.0.0", "1.3.0", `HEALTH = "ok"`, `HEALTH = "fa"`)
	assert.ErrorIs(t, events.next(t, plugins.EventKept).Err, plugins.ErrHealth)
	require.NoError(t, os.WriteFile(script, []byte("this is no Python\n"), 0o755))
	assert.ErrorIs(t, events.next(t, plugins.EventKept).Err, plugins.ErrUnreadable)
	sidecarFile(t, script, "1.0.0", "1.4.0")
	assert.Equal(t, "1.4.0", events.next(t, plugins.EventReplaced).Version)
	process := ask(t, sys, "plugin_aaaa", "process", "")
	c.write(entry(", args: [changed]"))
	assert.Equal(t, "1.4.0", events.next(t, plugins.EventReplaced).Version)
	require.NoError(t, events.next(t, plugins.EventConfig).Err)
	assert.Equal(t, "changed", ask(t, sys, "plugin_aaaa", "argument", ""))
	assert.NotEqual(t, process, ask(t, sys, "plugin_aaaa", "process", ""))
	t.Setenv("FERRULE_TEST_SECRET", "hidden")
	c.write(entry(", args: [changed], env: {K: '<${env:FERRULE_TEST_SECRET}>'}"))
	assert.Equal(t, "1.4.0", events.next(t, plugins.EventReplaced).Version)
	require.NoError(t, events.next(t, plugins.EventConfig).Err)
	assert.Equal(t, "<hidden>", ask(t, sys, "plugin_aaaa", "environment", "K"))
	other := filepath.Join(t.TempDir(), "other.py")
	sidecarFile(t, other, "1.0.0", "1.4.5")
	c.write(strings.ReplaceAll(entry(", args: [changed]"), script, other))
	assert.Equal(t, "1.4.5", events.next(t, plugins.EventReplaced).Version)
	require.NoError(t, events.next(t, plugins.EventConfig).Err)
	address := listening(t, other, "127.0.0.1:0") // somebody else starts it
	c.write("plugins:\n  - {name: plugin_aaaa, url: 'tcp:" + address + "'}\n")
	assert.Equal(t, "1.4.5", events.next(t, plugins.EventReplaced).Version)
	require.NoError(t, events.next(t, plugins.EventConfig).Err)
	assert.Equal(t, "--listen "+address[:strings.LastIndexByte(address, ':')]+":0", ask(t, sys, "plugin_aaaa", "argument", ""))
	c.write(entry(", args: [changed]"))
	assert.Equal(t, "1.4.0", events.next(t, plugins.EventReplaced).Version)
	require.NoError(t, events.next(t, plugins.EventConfig).Err)

	process = ask(t, sys, "plugin_aaaa", "process", "")
	c.write(entry(", args: [changed], config: {n: 1}"))
	require.NoError(t, events.next(t, plugins.EventConfig).Err)
	assert.Equal(t, `{"n":1}`, ask(t, sys, "plugin_aaaa", "config", ""))
	assert.Equal(t, process, ask(t, sys, "plugin_aaaa", "process", ""), "its process goes on")
	c.write(entry(", args: [changed], config: {refuse: 1}"))
	require.ErrorIs(t, events.next(t, plugins.EventConfig).Err, plugins.ErrSettings)
	assert.Equal(t, `{"n":1}`, ask(t, sys, "plugin_aaaa", "config", ""))

	c.write(entry(", args: [changed], config: {n: 1}, env: {FERRULE_SIDECAR: x}"))
	require.ErrorIs(t, events.next(t, plugins.EventConfig).Err, loader.ErrOption, "how it is started is a question of config.yaml")
	assert.Equal(t, process, ask(t, sys, "plugin_aaaa", "process", ""))

	library := filepath.Join(t.TempDir(), "x.py")
	sidecarFile(t, library, "1.0.0", "1.5.0")
	require.NoError(t, sys.Replace(t.Context(), "plugin_aaaa", library))
	assert.Equal(t, "1.5.0", ask(t, sys, "plugin_aaaa", "version", ""))
	assert.Equal(t, "changed", ask(t, sys, "plugin_aaaa", "argument", ""), "started as the entry says")
	close(done)
	callers.Wait()
	for _, v := range []string{"1.0.0", "1.1.0", "1.4.0", "1.4.5", "1.5.0"} {
		delete(seen, v) // whether a version got a call in its time is the scheduler's to say
	}
	assert.Empty(t, seen)
}

// A sidecar that crashes fails its call, is started anew by the next one, counts for the breaker, and is let in again; one that does not come back within its limit is ended.
func TestSidecarCrashes(t *testing.T) {
	c := newConfigured(t)
	folder := t.TempDir()
	script := filepath.Join(t.TempDir(), "a.py")
	sidecarFile(t, script)
	variant(t, "system", filepath.Join(folder, "b"+fixture.Ext()), "aaaa", "bbbb")
	c.write("folders: [" + folder + "]\nplugins:\n  - {name: plugin_aaaa, limit: 2s, program: " + script + ", interpreter: [" + python(t) + "]}\n  - plugin_bbbb\nhooks: {asked: [plugin_aaaa, plugin_bbbb]}\n")
	events := make(news, 1000)
	sys := c.new(events.option())
	asked := plugins.First[[]byte, []byte](sys, "asked", plugins.Codec(bytesAsTheyAre{}), plugins.OnError(plugins.Skip), plugins.Breaker(3, 50*time.Millisecond))
	alone := plugins.First[[]byte, []byte](sys, "decided", plugins.Codec(bytesAsTheyAre{}), plugins.Breaker(0, 0))
	require.NoError(t, sys.Start(t.Context()))
	on := func(in string) string {
		out, _, err := asked.Call(t.Context(), []byte(in))
		require.NoError(t, err)
		return string(out)
	}
	require.Equal(t, "aaaa", on(""))
	for range 3 {
		assert.Equal(t, "bbbb", on("aaaa=cr"), "the others go on")
	}
	crash := events.next(t, plugins.EventCrashed)
	assert.ErrorIs(t, crash.Err, loader.ErrCrash)
	assert.ErrorContains(t, crash.Err, "crashing as it was told")
	assert.Equal(t, "plugin_aaaa", events.next(t, plugins.EventLeftOut).Plugin)
	require.Eventually(t, func() bool { return on("") == "aaaa" }, 60*time.Second, 10*time.Millisecond)
	events.next(t, plugins.EventRestarted)
	p, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateStarted, p.State)
	assert.Positive(t, p.Restarts)

	_, _, err := alone.Call(t.Context(), []byte("aaaa=ha"))
	var late *loader.DeadlineError
	require.ErrorAs(t, err, &late)
	assert.Equal(t, "plugin_aaaa", events.next(t, plugins.EventKilled).Plugin)
	out, _, err := alone.Call(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "aaaa", string(out), "it is not left out, as one is that nothing can end")

	for range 20 { // suspended where it crashes again and again, and started again by a call that goes well
		_, _, err = alone.Call(t.Context(), []byte("aaaa=cr"))
		if errors.Is(err, loader.ErrSuspended) {
			break
		}
	}
	require.ErrorIs(t, err, loader.ErrSuspended)
	p, _ = sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateSuspended, p.State)
	require.Eventually(t, func() bool { _, _, err := alone.Call(t.Context(), nil); return err == nil }, 60*time.Second, 10*time.Millisecond)
	p, _ = sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateStarted, p.State)
}

// A sidecar that somebody else starts may come later than the application, go, and come back as another version.
func TestSidecarElsewhere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its sockets have no files")
	}
	c := newConfigured(t)
	folder := filepath.Dir(c.path)
	script := filepath.Join(t.TempDir(), "x.py")
	sidecarFile(t, script)
	c.write("plugins:\n  - {name: plugin_aaaa, url: 'unix:x.sock'}\n  - {name: plugin_bbbb, url: 'tcp:" + free(t) + "', version: ^2}\n")
	events := make(news, 1000)
	sys := c.new(plugins.Watch(), events.option())
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	require.Equal(t, plugins.StateFailed, p.State)
	assert.ErrorIs(t, p.Err, plugins.ErrUnreadable)
	assert.ErrorContains(t, p.Err, "no sidecar that answers")
	assert.False(t, p.RetryAt.IsZero(), "it is tried again by itself")
	state := func(name string, state plugins.State) {
		t.Helper()
		require.Eventually(t, func() bool { p, _ := sys.Plugin(name); return p.State == state }, 60*time.Second, 5*time.Millisecond, "%s is not %s", name, state)
	}
	socket := filepath.Join(folder, "x.sock")
	first := listeningUntil(t, script, socket)
	state("plugin_aaaa", plugins.StateReady)
	assert.Equal(t, "1.0.0", ask(t, sys, "plugin_aaaa", "version", ""))

	first()
	require.NoError(t, os.Remove(socket))
	sidecarFile(t, script, "1.0.0", "1.1.0")
	listeningUntil(t, script, socket)
	assert.Equal(t, "1.1.0", events.next(t, plugins.EventReplaced).Version)
	assert.Equal(t, "1.1.0", ask(t, sys, "plugin_aaaa", "version", ""))
}

// What is at an address, of which nothing tells when it has changed, is asked until it is there, and again where it says something else of itself.
func TestSidecarChangesItself(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the script forks")
	}
	c := newConfigured(t)
	script := filepath.Join(t.TempDir(), "x.py")
	sidecarFile(t, script)
	address := free(t)
	c.write("plugins:\n  - {name: plugin_aaaa, url: 'tcp:" + address + "', config: {a: 1}}\n")
	events := make(news, 1000)
	sys := c.new(events.option())
	require.NoError(t, sys.Start(t.Context()))
	first := listeningUntil(t, script, address)
	require.Eventually(t, func() bool { p, _ := sys.Plugin("plugin_aaaa"); return p.State == plugins.StateReady }, 60*time.Second, 5*time.Millisecond)
	assert.Equal(t, "1.0.0", ask(t, sys, "plugin_aaaa", "version", ""))
	first()
	sidecarFile(t, script, "1.0.0", "2.0.0")
	listeningUntil(t, script, address)
	f, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	require.Eventually(t, func() bool { out, _ := f.Call(t.Context(), nil); return string(out) == "2.0.0" }, 60*time.Second, 5*time.Millisecond)
	assert.Equal(t, `{"a":1}`, ask(t, sys, "plugin_aaaa", "config", ""))
}

// A sidecar calls what it was granted, whether it is started here or listens somewhere: what it imports without that keeps it out, and what it only wants is refused to it, however
// often it asks.
func TestGrantsOfSidecars(t *testing.T) {
	imports := []string{"MORE = {}", `MORE = {"wants": {}, "imports": {"points": {}}}`}
	for name, entry := range map[string]func(t *testing.T, pairs ...string) string{
		"a program": func(t *testing.T, pairs ...string) string {
			script := filepath.Join(t.TempDir(), "x.py")
			sidecarFile(t, script, pairs...)
			return "program: " + script + ", interpreter: [" + python(t) + "]"
		},
		"a URL": func(t *testing.T, pairs ...string) string {
			script := filepath.Join(t.TempDir(), "x.py")
			sidecarFile(t, script, pairs...)
			return "url: 'tcp:" + listening(t, script, "127.0.0.1:0") + "'"
		},
	} {
		t.Run(name, func(t *testing.T) {
			var callers []string
			start := func(entry string) *plugins.System {
				c := newConfigured(t)
				c.write("plugins: [{name: plugin_aaaa, " + entry + "}]")
				sys := c.new()
				for _, offer := range []string{"points", "other"} {
					plugins.Offer(sys, offer, func(ctx context.Context, _ []byte) ([]byte, error) {
						by, _ := plugins.Caller(ctx)
						callers = append(callers, offer+" by "+by)
						return []byte("yes"), nil
					})
				}
				require.NoError(t, sys.Start(t.Context()))
				return sys
			}
			for _, grant := range []string{"", ", grant: [other]"} {
				p, _ := start(entry(t, imports...) + grant).Plugin("plugin_aaaa")
				assert.ErrorIs(t, p.Err, plugins.ErrGrant)
				assert.ErrorContains(t, p.Err, "points")

				sys := start(entry(t) + grant)
				f, err := sys.Func("plugin_aaaa", "points")
				require.NoError(t, err)
				_, err = f.Call(t.Context(), nil)
				assert.ErrorIs(t, err, loader.ErrUnsupported)
				p, _ = sys.Plugin("plugin_aaaa")
				assert.NoError(t, p.Err)
				assert.Empty(t, p.Grants)
			}
			assert.Empty(t, callers)
			for _, pairs := range [][]string{imports, nil} {
				assert.Equal(t, "yes", ask(t, start(entry(t, pairs...)+", grant: [points]"), "plugin_aaaa", "points", ""))
			}
			assert.Equal(t, []string{"points by plugin_aaaa", "points by plugin_aaaa"}, callers)
		})
	}
}

// What no sidecar can have is an error, with the place in config.yaml where it says so before anything runs, and with the plug-in's name where the sidecar itself does.
func TestSidecarRefused(t *testing.T) {
	script := filepath.Join(t.TempDir(), "x.py")
	for name, r := range map[string]struct {
		entry string
		pairs []string
		says  []string
	}{
		"a group":          {"program: $S\n    isolate: {group: g}", nil, []string{"config.yaml:5:22: plugins[0].isolate.group: found a group beside program"}},
		"a permit":         {"program: $S\n    interpreter: [$P]", []string{"MORE = {}", `MORE = {"keys": {"permit.connect": "443"}}`}, []string{"plugin_aaaa: grant", "a manifest that asks for connect 443, which it was not permitted", "Write permit: {connect: [443]} in its entry, line 2 of "}},
		"another name":     {"program: $S\n    interpreter: [$P]", []string{"aaaa", "cccc"}, []string{"found the plug-in plugin_cccc, expected plugin_aaaa"}},
		"a version":        {"program: $S\n    interpreter: [$P]\n    version: ^2", nil, []string{"found 1.0.0, expected \"^2\", as config.yaml says"}},
		"no program":       {"program: $S.gone", nil, []string{"found no program, expected one that can be started"}},
		"no interpreter":   {"program: $S\n    interpreter: [ferrule-has-none]", nil, []string{"found an interpreter that is not there"}},
		"no hello":         {"program: $S\n    interpreter: [$P, -c, 'import sys; sys.exit(\"-s3c\" + \"r3t\")']\n    env: {X: '${env:FERRULE_TEST_SECRET}'}", nil, []string{"a sidecar that does not say what it is", "ended with exit code 1", "[secret]"}},
		"no token-file":    {"url: tcp:127.0.0.1:1\n    token-file: gone", nil, []string{"found no token-file that can be read"}},
		"no certificate":   {"url: tcp:127.0.0.1:1\n    tls: true\n    ca: config.yaml", nil, []string{"found no certificate in "}},
		"no such variable": {"program: $S\n    env: {K: '${env:FERRULE_TEST_GONE}'}", nil, []string{"plugins[0].env.K: found ${env:FERRULE_TEST_GONE}"}},
		"the variable":     {"program: $S\n    env: {FERRULE_SIDECAR: x}", nil, []string{"another variable: this one is the host's"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FERRULE_TEST_SECRET", "-s3cr3t")
			c := newConfigured(t)
			sidecarFile(t, script, r.pairs...)
			c.write("plugins:\n  - required: true\n    name: plugin_aaaa\n    " + strings.NewReplacer("$P", python(t), "$S", script).Replace(r.entry) + "\n")
			err := c.new().Start(t.Context())
			for _, says := range r.says {
				assert.ErrorContains(t, err, says)
			}
			assert.NotContains(t, fmt.Sprint(err), "s3cr3t")
		})
	}
}

// A sidecar that is disabled is not started, nor is any by a Survey: what it says of itself is not known then, and is no error but that it is disabled.
func TestSidecarUnasked(t *testing.T) {
	c := newConfigured(t)
	dir := t.TempDir()
	script, ran := filepath.Join(dir, "x.py"), filepath.Join(dir, "ran")
	sidecarFile(t, script, "MORE = {}", "MORE = {}; open("+strconv.Quote(ran)+", 'w').close()")
	entry := "plugins:\n  - {name: plugin_aaaa, program: " + script + ", interpreter: [" + python(t) + "], version: ^1, enabled: "
	c.write(entry + "false}\n")
	sys := c.new()
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateDisabled, p.State)
	assert.ErrorIs(t, p.Err, plugins.ErrDisabled)
	c.write(entry + "true}\n")
	over, err := plugins.Survey(t.Context(), plugins.Config(c.path))
	require.NoError(t, err)
	assert.Equal(t, plugins.StateReady, over.Plugins[0].State)
	assert.NoError(t, over.Plugins[0].Err)
	assert.Equal(t, script, over.Plugins[0].Source)
	assert.True(t, over.Plugins[0].Sidecar)
	assert.NoFileExists(t, ran)
	for more, says := range map[string]string{
		"program: " + script + ".gone":                                  "found no program, expected one that can be started",
		"program: " + script + ", interpreter: [ferrule-has-none]":      "give its path by interpreter in its entry",
		"url: 'tcp:127.0.0.1:1', token-file: gone":                      "found no token-file that can be read",
		"url: 'tcp:127.0.0.1:1', tls: true, ca: " + script:              "found no certificate in ",
		"program: " + script + ", env: {K: '${env:FERRULE_TEST_GONE}'}": "found ${env:FERRULE_TEST_GONE}",
	} { // what is missing is seen all the same, of one that is enabled
		for enabled, state := range map[string]plugins.State{"true": plugins.StateFailed, "false": plugins.StateDisabled} {
			c.write("plugins:\n  - {name: plugin_aaaa, enabled: " + enabled + ", " + more + "}\n")
			over, err := plugins.Survey(t.Context(), plugins.Config(c.path))
			require.NoError(t, err)
			require.Equal(t, state, over.Plugins[0].State, more)
			if assert.True(t, over.Plugins[0].Sidecar); enabled == "true" {
				assert.ErrorContains(t, over.Plugins[0].Err, says)
			} else {
				assert.ErrorIs(t, over.Plugins[0].Err, plugins.ErrDisabled)
			}
		}
	}
	assert.NoFileExists(t, ran)
	c.write(entry + "true}\n")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "aaaa", ask(t, sys, "plugin_aaaa", "answer", ""))
	assert.FileExists(t, ran)
}

// An entry's program is in the place of a file of a folder that has its name, also where it fails; dev is in the place of both.
func TestSidecarInPlace(t *testing.T) {
	c := newConfigured(t)
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()), "1.0.0", "3.0.0")
	script := filepath.Join(t.TempDir(), "x.py")
	sidecarFile(t, script)
	text := "folders: [" + folder + "]\nplugins:\n  - {name: plugin_aaaa, program: " + script + ", interpreter: [" + python(t) + "]}\n"
	c.write(text)
	sys := c.new(plugins.Builtin(double("aaaa")))
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, script, p.Source)
	assert.Equal(t, "1.0.0", ask(t, sys, "plugin_aaaa", "version", ""))
	c.write(text + "dev: {plugin_aaaa: " + filepath.Join(folder, "a"+fixture.Ext()) + "}\n")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "3.0.0", ask(t, sys, "plugin_aaaa", "version", ""))
	c.write(strings.ReplaceAll(text, script, script+".gone"))
	other := c.new(plugins.Builtin(double("aaaa")))
	require.NoError(t, other.Start(t.Context()))
	p, _ = other.Plugin("plugin_aaaa")
	assert.ErrorIs(t, p.Err, plugins.ErrUnreadable)
}

// free is an address where nobody listens.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// A program is not run because it lies in a folder of plug-ins: it is said once that it does, and what an entry has to say that means it; so written, it is a plug-in.
func TestSidecarInFolder(t *testing.T) {
	c := newConfigured(t)
	folder := t.TempDir()
	path, ran := filepath.Join(folder, "plugin_aaaa.py"), filepath.Join(t.TempDir(), "ran")
	script(t, path, "MORE = {}", "MORE = {}; open("+strconv.Quote(ran)+", 'w').close()")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, mode := range map[string]os.FileMode{"notes.py": 0o644, ".hidden.py": 0o755} { // neither is to be run
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), text, mode))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "data"), []byte("no program"), 0o755))
	variant(t, "system", filepath.Join(folder, "b"+fixture.Ext()), "aaaa", "bbbb")
	var mu sync.Mutex
	var lines strings.Builder
	logger := slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return lines.Write(b)
	}), nil))
	said := func() int {
		mu.Lock()
		defer mu.Unlock()
		return strings.Count(lines.String(), "a program in a folder of plug-ins")
	}
	head := "folders: [" + folder + "]\nplugins:\n  - plugin_bbbb\n"
	c.write(head)
	sys := c.new(plugins.Logger(logger))
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, 1, said(), lines.String())
	for name, says := range map[string]bool{"plugin_aaaa.py": true, "notes.py": false, ".hidden.py": false, "data": false} {
		assert.Equal(t, says, strings.Contains(lines.String(), filepath.Join(folder, name)), name)
	}
	_, found := sys.Plugin("plugin_aaaa")
	assert.False(t, found)

	c.write(head + "  - plugin_aaaa\n")
	other := c.new()
	require.NoError(t, other.Start(t.Context()))
	p, _ := other.Plugin("plugin_aaaa")
	require.ErrorIs(t, p.Err, plugins.ErrNotFound)
	_, entry, ok := strings.Cut(p.Err.Error(), "There is a program "+path+", which is not run because it lies there. Where it is this plug-in, write its entry so: ")
	require.True(t, ok, "%v", p.Err)
	beside := filepath.Join(folder, "plugin_bbbb.py") // which is another file's name already
	require.NoError(t, os.WriteFile(beside, text, 0o755))
	over, err := plugins.Survey(t.Context(), plugins.Config(c.path))
	require.NoError(t, err)
	assert.ErrorContains(t, over.Plugins[0].Err, "There is a program "+path)
	assert.Equal(t, map[string]string{path: entry, beside: config.ProgramEntry("", beside)}, over.Programs)
	require.NoError(t, os.Remove(beside))
	for registry, says := range map[string]string{"": "no source at all", "registry: {url: 'https://plugins.example'}\n": "a url of a kind that the application does not know"} {
		c.write(registry + head + "  - plugin_aaaa\n")
		fetching := c.new(plugins.Download(), plugins.StoreFolder(filepath.Join(t.TempDir(), "store")))
		require.NoError(t, fetching.Start(t.Context()))
		p, _ = fetching.Plugin("plugin_aaaa")
		assert.ErrorContains(t, p.Err, "There is a program "+path+", which is not run because it lies there. Where it is this plug-in, write its entry so: "+entry)
		assert.ErrorContains(t, p.Err, says, "and why it is not installed")
	}
	c.write("folders: [" + folder + "]\nplugins:\n  - plugin_bbbb\ndev: {plugin_aaaa: " + path + "}\n")
	dev := c.new()
	require.NoError(t, dev.Start(t.Context()))
	p, _ = dev.Plugin("plugin_aaaa")
	assert.ErrorContains(t, p.Err, "found a program as its file of dev in "+c.path+", expected a library, or a WebAssembly module. Have its entry name the program")
	assert.NoFileExists(t, ran, "nothing has run it")

	c.write(head + "  - " + entry + "\n")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "aaaa", ask(t, sys, "plugin_aaaa", "answer", ""))
	assert.Equal(t, 1, said())
}

// writer is an io.Writer.
type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

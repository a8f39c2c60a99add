package plugins_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	_ "github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestLate: a point that is made after Start, of any kind and with any policy, says so in each of its calls, and a late offer in Reload; each is in the log once.
func TestLate(t *testing.T) {
	var lines strings.Builder
	sys := newHost(t, "go").add("aaaa").new(plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil))))
	early := plugins.First[[]byte, []byte](sys, "decided")
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, sys.Reload(t.Context()))
	for _, policy := range []plugins.Policy{plugins.Stop, plugins.Skip, plugins.Join} {
		for kind, call := range kinds(sys, plugins.OnError(policy)) {
			_, err := call(t.Context(), "")
			require.ErrorIs(t, err, plugins.ErrLate, "%s, %s", kind, policy)
			function := strings.ToUpper(kind[:1]) + kind[1:]
			assert.Regexp(t, `^plugins\.`+function+` of [a-z]+: too late: found a point made after Start, expected one made before\. Move plugins\.`+function+` before sys\.Start$`, err)
		}
	}
	kept := plugins.Notify[[]byte](sys, "told", plugins.Keep(func([]byte) string { return "any" }), plugins.Parallel())
	assert.ErrorIs(t, kept.Call(t.Context(), nil), plugins.ErrLate)
	assert.ErrorIs(t, plugins.Veto[[]byte](sys, "objected").Ask(t.Context(), nil), plugins.ErrLate)
	_, err := plugins.Pipe[[]byte](sys, "piped").Append(t.Context(), nil, nil)
	assert.ErrorIs(t, err, plugins.ErrLate)
	_, _, err = plugins.First[[]byte, []byte](sys, "decided").Append(t.Context(), nil, nil)
	assert.ErrorIs(t, err, plugins.ErrLate)
	plugins.Offer(sys, "points", func(context.Context, []byte) ([]byte, error) { return nil, nil })

	err = sys.Reload(t.Context())
	require.ErrorIs(t, err, plugins.ErrLate)
	assert.Contains(t, err.Error(), "plugins.Offer of points: too late: found an offer made after Start, expected one made before. Move plugins.Offer before sys.Start")
	for _, part := range []string{"plugins.Offer of points: ", "plugins.First of decided: ", "plugins.Wrap of wrapped: "} {
		assert.Equal(t, 1, strings.Count(err.Error(), part), part)
		assert.Equal(t, 1, strings.Count(lines.String(), part), part)
	}
	answer, found, err := early.Call(t.Context(), nil)
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, "aaaa", string(answer))
}

// TestLateInStart: what is made while Start asks somebody is too late as well. A Start that failed leaves the system open for more.
func TestLateInStart(t *testing.T) {
	var sys *plugins.System
	var inside *plugins.FirstPoint[[]byte, []byte]
	need := &builtin.Plugin{Name: "needy", Version: "1.0.0", Imports: []string{"points"}, Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}}
	sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(need), plugins.Required("needy"), plugins.Grants(func(plugins.Request) bool {
		inside = plugins.First[[]byte, []byte](sys, "decided")
		return false
	}))
	defer func() { require.NoError(t, closed(sys)) }()
	plugins.Offer(sys, "points", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	require.ErrorIs(t, sys.Start(t.Context()), plugins.ErrGrant)
	require.NotNil(t, inside)
	_, _, err := inside.Call(t.Context(), nil)
	assert.ErrorIs(t, err, plugins.ErrLate)
	assert.ErrorIs(t, sys.Start(t.Context()), plugins.ErrLate) // the line is where it should not be, whatever the first Start came to
	_, _, err = plugins.First[[]byte, []byte](sys, "another").Call(t.Context(), nil)
	assert.ErrorIs(t, err, plugins.ErrNotStarted)
}

// TestBeforeStart: nobody has a say before Start, and after one that failed; that is an error of every kind of point, and not that nobody objects.
func TestBeforeStart(t *testing.T) {
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Required("missing"))
	defer func() { require.NoError(t, closed(sys)) }()
	told, asked := plugins.Notify[string](sys, "told"), plugins.Collect[string, string](sys, "asked")
	decided, changed := plugins.First[string, string](sys, "decided"), plugins.Pipe[string](sys, "changed")
	may := plugins.Veto[string](sys, "may")
	around := plugins.Wrap(sys, "around", func(context.Context, string) (string, error) { return "run", nil })
	for range 2 {
		_, collected := asked.Call(t.Context(), "x")
		_, _, first := decided.Call(t.Context(), "x")
		_, piped := changed.Call(t.Context(), "x")
		_, wrapped := around.Call(t.Context(), "x")
		for kind, err := range map[string]error{"Notify": told.Call(t.Context(), "x"), "Collect": collected, "First": first, "Pipe": piped, "Veto": may.Call(t.Context(), "x"), "Wrap": wrapped} {
			require.ErrorIs(t, err, plugins.ErrNotStarted, kind)
			assert.ErrorContains(t, err, "plugins."+kind+" of ")
		}
		require.Error(t, sys.Start(t.Context()))
	}
}

// TestVetoOfWhoCannotStart: who may object and could not be started has not agreed. Other kinds of points go on without it, and a Veto does where a failure is skipped.
func TestVetoOfWhoCannotStart(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	guard := &builtin.Plugin{Name: "guard", Version: "1.0.0",
		Start: func(context.Context, []byte) (any, error) {
			if broken.Load() {
				return nil, errors.New("no database")
			}
			return "", nil
		},
		Hooks: []builtin.Function{{Name: "may", Call: func(context.Context, []byte) ([]byte, error) { return []byte("never"), nil }},
			{Name: "skipped", Call: func(context.Context, []byte) ([]byte, error) { return []byte("never"), nil }},
			{Name: "changed", Call: func(context.Context, []byte) ([]byte, error) { return []byte("changed"), nil }}}}
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("hooks: {may: [guard], changed: [guard], skipped: [guard, nobody]}\n"), 0o666))
	for name, opts := range map[string][]plugins.PointOption{"opened at the first call": nil, "opened at Start": {plugins.Limit(time.Minute)}} {
		t.Run(name, func(t *testing.T) {
			broken.Store(true)
			sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(guard), plugins.Config(path))
			defer func() { require.NoError(t, closed(sys)) }()
			may, changed := plugins.Veto[string](sys, "may", opts...), plugins.Pipe[[]byte](sys, "changed")
			skipped := plugins.Veto[string](sys, "skipped", append(opts, plugins.OnError(plugins.Skip))...)
			require.NoError(t, sys.Start(t.Context()))
			for range 3 {
				err := may.Call(t.Context(), "order")
				require.ErrorContains(t, err, "no database")
				var objection *plugins.Objection
				assert.False(t, errors.As(err, &objection))
				require.NoError(t, skipped.Call(t.Context(), "order"))
			}
			out, err := changed.Append(t.Context(), nil, []byte("as it was"))
			require.NoError(t, err)
			assert.Equal(t, "as it was", string(out))
			for _, order := range sys.Hooks() { // it has its hooks: that it has failed is said of the plug-in
				if order.Point == "skipped" {
					require.Len(t, order.Faults, 1)
					assert.ErrorContains(t, order.Faults[0], "found nobody")
				} else {
					assert.Empty(t, order.Faults, order.Point)
				}
			}
			broken.Store(false)
			require.Eventually(t, func() bool {
				var objection *plugins.Objection
				return errors.As(may.Call(t.Context(), "order"), &objection)
			}, time.Minute, time.Millisecond, "it is tried again")
		})
	}
}

// TestVetoOfWhoCannotBeRead: of who may object and cannot be read, the configuration says where it has a say; without its word there, it has none.
func TestVetoOfWhoCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "guard.sh"), []byte("#!/bin/sh\nexit 1\n"), 0o777))
	for name, of := range map[string]struct{ entry, says string }{
		"gone":           {"- guard", "guard"},
		"cut":            {"- plugin_cut", "plugin_cut"},
		"ends at once":   {"- {name: guard, program: guard.sh}", "exit code 1"},
		"no such script": {"- {name: guard, program: none.py}", "none.py"},
	} {
		t.Run(name, func(t *testing.T) {
			plugin := "guard"
			if name == "cut" {
				plugin = "plugin_cut"
				require.NoError(t, os.WriteFile(filepath.Join(folder, plugin+fixture.Ext()), []byte("\x7fELF"), 0o666))
			}
			path := filepath.Join(folder, "config.yaml")
			require.NoError(t, os.WriteFile(path, []byte("folders: [.]\nhooks: {may: ["+plugin+"], changed: ["+plugin+"]}\nplugins:\n  "+of.entry+"\n"), 0o666))
			sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
			defer func() { require.NoError(t, closed(sys)) }()
			may, other, changed := plugins.Veto[string](sys, "may"), plugins.Veto[string](sys, "other"), plugins.Pipe[[]byte](sys, "changed")
			require.NoError(t, sys.Start(t.Context()))
			err := may.Call(t.Context(), "order")
			require.ErrorContains(t, err, of.says)
			var objection *plugins.Objection
			assert.False(t, errors.As(err, &objection))
			require.NoError(t, other.Call(t.Context(), "order"))
			_, err = changed.Append(t.Context(), nil, nil)
			require.NoError(t, err)
			for _, order := range sys.Hooks() {
				assert.Empty(t, order.Faults, order.Point)
			}
		})
	}
}

// TestAbsentHooks: a name in config.yaml's list of a point that no hook there has is said with why, and with what helps then, also where no hook is there at all.
func TestAbsentHooks(t *testing.T) {
	hook := func(name string, keys map[string]string) builtin.Function {
		return builtin.Function{Name: name, Keys: keys, Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}
	}
	off, other, wrapper := simple("off", "1.0.0", nil), simple("other", "1.0.0", nil), simple("wrapper", "1.0.0", nil)
	off.Hooks, other.Hooks, wrapper.Hooks = []builtin.Function{hook("may_ship", nil)}, []builtin.Function{hook("told", nil)}, []builtin.Function{hook("may_ship", map[string]string{"wrap": "yes"})}
	path, _ := written(t, "plugins: [other, wrapper, {name: off, enabled: false}]\nhooks: {may_ship: [other, off, wrapper, nobody]}")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(off, other, wrapper))
	defer func() { require.NoError(t, closed(sys)) }()
	plugins.Veto[string](sys, "may_ship")
	require.NoError(t, sys.Start(t.Context()))
	orders := sys.Hooks()
	at := slices.IndexFunc(orders, func(o plugins.Order) bool { return o.Point == "may_ship" })
	require.GreaterOrEqual(t, at, 0)
	const out = "Take it out of config.yaml: hooks.may_ship"
	var got [][2]string
	for _, err := range orders[at].Faults {
		var fault *plugins.Error
		require.ErrorAs(t, err, &fault)
		got = append(got, [2]string{fault.Found, fault.Remedy})
	}
	assert.Equal(t, [][2]string{{"other, which has no hook may_ship", out}, {"off, which is disabled", out + ", or enable the plug-in (ferrule enable)"},
		{"wrapper, whose hook is never called: at points of the kind wrap a hook says wrap=yes, and at others it does not", out},
		{"nobody, and no plug-in of this name", out + ", or install the plug-in"}}, got)
}

// TestWarnings: what nobody calls and what is not there is in the log once for each version, and not after each reload; a remedy is there where there is one.
func TestWarnings(t *testing.T) {
	var lines strings.Builder
	logger := plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil)))
	folder, gone := t.TempDir(), filepath.Join(t.TempDir(), "gone")
	variant(t, "system", filepath.Join(folder, "plugin_aaaa"+fixture.Ext()))
	sys := plugins.New("app", "1.0.0", logger, plugins.Folder(folder, gone))
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	counts := func(hooks, folders int) {
		t.Helper()
		assert.Equal(t, hooks, strings.Count(lines.String(), "the application has no such point\" plugin=plugin_aaaa version="))
		assert.Equal(t, folders, strings.Count(lines.String(), "a folder of plug-ins is not there\" folder="))
	}
	points := strings.Count(lines.String(), "no such point")
	require.Positive(t, points)
	counts(points, 1)
	assert.NotContains(t, lines.String(), "no such point\" plugin=plugin_aaaa version=1.0.0 point=told remedy")
	require.NoError(t, sys.Reload(t.Context()))
	counts(points, 1)
	variant(t, "system", filepath.Join(folder, "plugin_aaaa"+fixture.Ext()), "1.0.0", "1.0.1")
	require.NoError(t, os.Mkdir(gone, 0o700))
	require.NoError(t, sys.Reload(t.Context()))
	counts(2*points, 1)
	require.NoError(t, os.Remove(gone))
	require.NoError(t, sys.Reload(t.Context()))
	counts(2*points, 2)
}

// TestNew: the application's own name and version are what plug-ins are compared with, so that Start says what is wrong with them, and no plug-in is blamed.
func TestNew(t *testing.T) {
	for _, version := range []string{"", "x", "2024-01", "1.2.3.4"} {
		sys := plugins.New("shop", version, plugins.Logger(quiet()))
		err := sys.Start(t.Context())
		require.ErrorIs(t, err, plugins.ErrOption, version)
		_, _, late := plugins.First[[]byte, []byte](sys, "decided").Call(t.Context(), nil)
		require.ErrorIs(t, late, plugins.ErrNotStarted)
		assert.EqualError(t, err, fmt.Sprintf("plugins.New: an option is not valid: found %q for the application's version, expected a semantic version, such as 1.4.0", version))
		require.NoError(t, closed(sys))
	}
	sys := plugins.New("", "1", plugins.Logger(quiet()))
	assert.ErrorContains(t, sys.Start(t.Context()), `found "" for the application's name`)
	require.NoError(t, closed(sys))
}

// TestMissing: a plug-in that is nowhere is an error that says where it may come from.
func TestMissing(t *testing.T) {
	for text, remedy := range map[string]string{
		"registry: {url: 'https://plugins.example'}\nplugins: [tax]": ". Name a folder in folders:, or have the application install it: plugins.Download; by hand: ferrule install",
		"plugins: [tax]": ". Name a folder in folders:, or have the application install it: plugins.Download; by hand: ferrule install",
		"folders: [.]\nregistry: {url: 'https://plugins.example'}\nplugins: [tax]":        ". Put its file into a folder of folders:, or have the application install it: plugins.Download; by hand: ferrule install",
		"folders: [.]\nplugins: [tax]":                                                    ". Put its file into a folder of folders:, or have the application install it: plugins.Download; by hand: ferrule install",
		"registry: {url: 'https://plugins.example'}\nplugins: [plugin_aaab, plugin_aaaa]": ". Did you mean plugin_aaaa?",
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		options := []plugins.Option{plugins.Logger(quiet()), plugins.Config(path)}
		if strings.Contains(text, "aaaa") {
			options = append(options, plugins.Builtin(double("aaaa")))
		}
		sys := plugins.New("app", "1.0.0", options...)
		require.NoError(t, sys.Start(t.Context()))
		var err error
		for _, p := range sys.List() {
			if p.Err != nil {
				err = p.Err
			}
		}
		require.ErrorIs(t, err, plugins.ErrNotFound, text)
		assert.True(t, strings.HasSuffix(err.Error(), remedy), "%s: %v", text, err)
		require.NoError(t, closed(sys))
	}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()))
	require.NoError(t, sys.Start(t.Context()))
	_, err := sys.Func("tax", "rate")
	assert.EqualError(t, err, "tax: run: found no such plug-in, expected one of those in List")
	require.NoError(t, closed(sys))
}

// dispatch calls a point of one kind on a text, and has what came of it in words.
type dispatch func(ctx context.Context, in string) (string, error)

// kinds makes a point of each kind, whose dispatch is in words.
func kinds(sys *plugins.System, opts ...plugins.PointOption) map[string]dispatch {
	told := plugins.Notify[[]byte](sys, "told", opts...)
	asked := plugins.Collect[[]byte, []byte](sys, "asked", opts...)
	decided := plugins.First[[]byte, []byte](sys, "decided", opts...)
	piped := plugins.Pipe[[]byte](sys, "piped", opts...)
	objected := plugins.Veto[[]byte](sys, "objected", opts...)
	wrapped := plugins.Wrap(sys, "wrapped", func(_ context.Context, in []byte) ([]byte, error) { return []byte("core"), nil }, opts...)
	return map[string]dispatch{
		"notify": func(ctx context.Context, in string) (string, error) { return "told", told.Call(ctx, []byte(in)) },
		"collect": func(ctx context.Context, in string) (string, error) {
			all, err := asked.Call(ctx, []byte(in))
			var words []string
			for _, r := range all {
				words = append(words, strings.TrimPrefix(r.Plugin, "plugin_")+":"+string(r.Value))
			}
			return strings.Join(words, " "), err
		},
		"first": func(ctx context.Context, in string) (string, error) {
			out, found, err := decided.Call(ctx, []byte(in))
			return fmt.Sprintf("%s %v", out, found), err
		},
		"pipe": func(ctx context.Context, in string) (string, error) {
			out, err := piped.Call(ctx, []byte(in))
			return strings.TrimPrefix(string(out), in), err
		},
		"veto": func(ctx context.Context, in string) (string, error) {
			err := objected.Call(ctx, []byte(in))
			var o *plugins.Objection
			if errors.As(err, &o) {
				return o.Plugin + " " + o.Reason, nil
			}
			return "", err
		},
		"wrap": func(ctx context.Context, in string) (string, error) {
			out, err := wrapped.Call(ctx, []byte(in))
			return string(out), err
		},
	}
}

// TestHooks: each kind, with a first plug-in that does each of what a hook can do, under each policy, in each engine.
func TestHooks(t *testing.T) {
	type outcome struct {
		text string
		err  string // of which the error must have; "" is none
	}
	const failed = "as it was told"
	for _, engine := range engines {
		for _, policy := range []plugins.Policy{plugins.Stop, plugins.Skip, plugins.Join} {
			stop := func(with, without, err string) outcome { // what comes of a failure
				switch policy {
				case plugins.Stop:
					return outcome{with, err}
				case plugins.Skip:
					return outcome{without, ""}
				}
				return outcome{without, err}
			}
			t.Run(engine+"/"+policy.String(), func(t *testing.T) {
				started := func(limit time.Duration) (*plugins.System, map[string]dispatch) {
					sys := newHost(t, engine).add("aaaa", "bbbb").new()
					call := kinds(sys, plugins.OnError(policy), plugins.Breaker(0, 0), plugins.Limit(limit))
					require.NoError(t, sys.Start(t.Context()))
					for _, p := range sys.List() {
						require.NoError(t, p.Err)
					}
					return sys, call
				}
				sys, call := started(time.Minute)
				_, soon := started(150 * time.Millisecond) // for what is to be late: on a busy machine others are, too
				for _, c := range []struct {
					kind, in string
					want     outcome
				}{
					{"notify", "", outcome{"told", ""}},
					{"collect", "", outcome{"aaaa:aaaa bbbb:bbbb", ""}},
					{"first", "", outcome{"aaaa true", ""}},
					{"pipe", "", outcome{"+aaaa+bbbb", ""}},
					{"veto", "", outcome{"plugin_aaaa aaaa", ""}},
					{"wrap", "", outcome{"aaaa(bbbb(core))", ""}},

					{"notify", "aaaa=pass", outcome{"told", ""}},
					{"collect", "aaaa=pass", outcome{"bbbb:bbbb", ""}},
					{"first", "aaaa=pass", outcome{"bbbb true", ""}},
					{"first", "aaaa=pass bbbb=pass", outcome{" false", ""}},
					{"pipe", "aaaa=pass", outcome{"+bbbb", ""}},
					{"pipe", "aaaa=pass bbbb=pass", outcome{"", ""}},
					{"veto", "aaaa=pass", outcome{"plugin_bbbb bbbb", ""}},
					{"veto", "aaaa=pass bbbb=none", outcome{"", ""}},
					{"wrap", "aaaa=pass", outcome{"bbbb(core)", ""}},
					{"wrap", "aaaa=pass bbbb=pass", outcome{"core", ""}},

					{"notify", "aaaa=fail", stop("told", "told", failed)},
					{"collect", "aaaa=fail", stop("", "bbbb:bbbb", failed)},
					{"collect", "bbbb=fail", stop("aaaa:aaaa", "aaaa:aaaa", failed)},
					{"first", "aaaa=fail", stop(" false", "bbbb true", failed)},
					{"pipe", "aaaa=fail", stop("", "+bbbb", failed)},
					{"pipe", "bbbb=fail", stop("", "+aaaa", failed)},
					{"veto", "aaaa=fail bbbb=none", stop("", "", failed)},
					{"wrap", "aaaa=fail", stop("", "bbbb(core)", failed)},
					{"wrap", "bbbb=fail", stop("", "aaaa(core)", failed)},

					{"pipe", "aaaa=invalid", stop("", "+bbbb", "invalid")},
					{"pipe", "aaaa=unsound", stop("", "+bbbb", "panic")},
					{"first", "aaaa=unsound", stop(" false", "bbbb true", "panic")},
					{"wrap", "aaaa=unsound", stop("", "bbbb(core)", "panic")},
					{"veto", "aaaa=unsound bbbb=pass", stop("", "", "panic")},
					{"notify", "bbbb=unsound", stop("told", "told", "panic")},
					{"collect", "aaaa=unsound", stop("", "bbbb:bbbb", "panic")},

					{"pipe", "aaaa=polls", stop("", "+bbbb", "150ms")},
					{"first", "aaaa=polls", stop(" false", "bbbb true", "150ms")},
					{"notify", "aaaa=polls", stop("told", "told", "150ms")},
					{"collect", "aaaa=polls", stop("", "bbbb:bbbb", "150ms")},
					{"veto", "aaaa=polls bbbb=pass", stop("", "", "150ms")},
					{"wrap", "aaaa=polls", stop("", "bbbb(core)", "150ms")},

					{"pipe", "aaaa=crash", stop("", "+bbbb", "")},
					{"first", "aaaa=crash", stop(" false", "bbbb true", "")},
					{"notify", "aaaa=crash", stop("told", "told", "")},
					{"collect", "aaaa=crash", stop("", "bbbb:bbbb", "")},
					{"veto", "aaaa=crash bbbb=pass", stop("", "", "")},
					{"wrap", "aaaa=crash", stop("", "bbbb(core)", "")},
				} {
					crash := strings.Contains(c.in, "crash")
					if crash && engine == "in-process" {
						continue // it would end this process
					}
					call := call
					if strings.Contains(c.in, "polls") {
						call = soon
					}
					out, err := call[c.kind](t.Context(), c.in)
					assert.Equal(t, c.want.text, out, "%s %q", c.kind, c.in)
					switch {
					case crash && policy != plugins.Skip:
						var crashed *loader.CrashError
						assert.Equal(t, engine == "isolated", errors.As(err, &crashed), "%s %q: %v", c.kind, c.in, err)
						assert.Error(t, err)
					case c.want.err == "":
						assert.NoError(t, err, "%s %q", c.kind, c.in)
					default:
						if assert.ErrorContains(t, err, c.want.err, "%s %q", c.kind, c.in) {
							var hook *plugins.HookError
							require.ErrorAs(t, err, &hook)
							assert.Contains(t, c.in, strings.TrimPrefix(hook.Plugin, "plugin_"))
						}
					}
				}
				known, _ := sys.Plugin("plugin_aaaa")
				if engine == "isolated" {
					assert.Equal(t, plugins.StateSuspended, known.State, "it has crashed six times")
					return
				}
				_, err := call["pipe"](t.Context(), "")
				assert.NoError(t, err, "all of them go on")
			})
		}
	}
}

// TestHooksAtTheSameTime: a Notify and a Collect that call all at once.
func TestHooksAtTheSameTime(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			sys := newHost(t, engine).add("aaaa", "bbbb", "cccc").new()
			asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Parallel())
			told := plugins.Notify[[]byte](sys, "told", plugins.Parallel(), plugins.Limit(0))
			require.NoError(t, sys.Start(t.Context()))
			all, err := asked.Call(t.Context(), []byte("bbbb=fail"))
			assert.ErrorContains(t, err, "as it was told")
			require.Len(t, all, 2)
			assert.Equal(t, "aaaacccc", string(all[0].Value)+string(all[1].Value))
			begun := time.Now()
			assert.NoError(t, told.Call(t.Context(), []byte("aaaa=slow bbbb=slow cccc=slow")))
			t.Log("three that take 300 ms took", time.Since(begun))
		})
	}
}

// TestWrapperRunsMoreThanOnce: what stands behind a wrapper is run as often as it says, and its error is the application's own.
func TestWrapperAndCore(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			broken := errors.New("the application's own")
			var fails atomic.Bool
			sys := newHost(t, engine).add("aaaa").new()
			wrapped := plugins.Wrap(sys, "wrapped", func(_ context.Context, in string) (string, error) {
				if fails.Load() {
					return "", broken
				}
				return strings.ToUpper(in), nil
			}, plugins.Codec(text{}))
			require.NoError(t, sys.Start(t.Context()))
			out, err := wrapped.Call(t.Context(), "hello")
			assert.NoError(t, err)
			assert.Equal(t, "aaaa(HELLO)", out)
			fails.Store(true)
			_, err = wrapped.Call(t.Context(), "hello")
			assert.ErrorIs(t, err, broken)
		})
	}
}

// text is a codec of strings.
type text struct{}

func (text) Marshal(v any) ([]byte, error) { return []byte(v.(string)), nil }
func (text) Unmarshal(data []byte, v any) error {
	*v.(*string) = string(data)
	return nil
}

// picky is a codec of strings that takes none with these words in it.
type picky struct {
	text
	words []string
}

func (p picky) Unmarshal(data []byte, v any) error {
	for _, w := range p.words {
		if strings.Contains(string(data), w) {
			return errors.New("it has " + w + " in it")
		}
	}
	return p.text.Unmarshal(data, v)
}

// TestResultsThatAreNone: a result that cannot be decoded is a failure of the hook that has returned it, of which the policy says what becomes.
func TestResultsThatAreNone(t *testing.T) {
	for _, c := range []struct {
		policy plugins.Policy
		words  []string // what no result may have
		first  string
		pipe   string
		wrap   string
		blamed map[string]string // by kind, whose failures the error has
	}{
		{plugins.Stop, nil, "aaaa of plugin_aaaa", "v+aaaa+bbbb+cccc", "aaaa(bbbb(cccc(v)))", nil},
		{plugins.Stop, []string{"aaaa", "cccc"}, "", "v", "", map[string]string{"first": "plugin_aaaa", "pipe": "plugin_cccc", "wrap": ""}},
		{plugins.Skip, []string{"aaaa", "cccc"}, "bbbb of plugin_bbbb", "v", "bbbb(v)", nil},
		{plugins.Skip, []string{"bbbb"}, "aaaa of plugin_aaaa", "v+aaaa", "aaaa(cccc(v))", nil},
		{plugins.Skip, []string{"aaaa(", "+cccc"}, "aaaa of plugin_aaaa", "v+aaaa+bbbb", "bbbb(cccc(v))", nil},
		{plugins.Join, []string{"+bbbb", "aaaa(", "cccc("}, "aaaa of plugin_aaaa", "v+aaaa", "bbbb(v)", map[string]string{"pipe": "plugin_cccc plugin_bbbb", "wrap": "plugin_cccc plugin_aaaa"}},
	} {
		t.Run(fmt.Sprint(c.policy, c.words), func(t *testing.T) {
			sys := newHost(t, "go").add("aaaa", "bbbb", "cccc").new()
			opts := []plugins.PointOption{plugins.Codec(picky{words: c.words}), plugins.OnError(c.policy)}
			decided := plugins.First[string, string](sys, "decided", opts...)
			piped := plugins.Pipe[string](sys, "piped", opts...)
			wrapped := plugins.Wrap(sys, "wrapped", func(_ context.Context, in string) (string, error) { return in, nil }, opts...)
			require.NoError(t, sys.Start(t.Context()))
			blamed := func(kind string, err error) {
				t.Helper()
				want, fails := c.blamed[kind]
				if !fails {
					assert.NoError(t, err, kind)
					return
				}
				require.Error(t, err, kind)
				all := []error{err}
				if joined, ok := err.(interface{ Unwrap() []error }); ok {
					all = joined.Unwrap()
				}
				var names []string
				for _, err := range all {
					var hook *plugins.HookError
					require.ErrorAs(t, err, &hook, kind)
					names = append(names, hook.Plugin)
				}
				assert.Equal(t, want, strings.Join(names, " "), kind)
			}
			r, found, err := decided.CallBy(t.Context(), "v")
			blamed("first", err)
			assert.Equal(t, c.first != "", found)
			if found {
				assert.Equal(t, c.first, r.Value+" of "+r.Plugin)
			}
			value, again, _ := decided.Call(t.Context(), "v")
			assert.Equal(t, []any{r.Value, found}, []any{value, again})
			out, err := piped.Call(t.Context(), "v")
			blamed("pipe", err)
			assert.Equal(t, c.pipe, out)
			out, err = wrapped.Call(t.Context(), "v")
			blamed("wrap", err)
			assert.Equal(t, c.wrap, out)
		})
	}
}

// TestBreaker: a hook that fails again and again is left out, and let in again.
func TestBreaker(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			events := make(chan plugins.Event, 1000)
			sys := newHost(t, engine).add("aaaa", "bbbb").new(plugins.OnEvent(func(e plugins.Event) { events <- e }))
			piped := plugins.Pipe[[]byte](sys, "piped", plugins.Breaker(3, 100*time.Millisecond))
			require.NoError(t, sys.Start(t.Context()))
			call := func(in string) (string, error) {
				out, err := piped.Append(t.Context(), nil, []byte(in))
				return string(out), err
			}
			for range 3 {
				_, err := call("aaaa=fail")
				assert.ErrorContains(t, err, "as it was told")
			}
			_, err := call("")
			assert.ErrorIs(t, err, plugins.ErrBroken, "it is not called at all")
			assert.Eventually(t, func() bool {
				out, err := call("")
				return err == nil && out == "+aaaa+bbbb"
			}, time.Minute, 5*time.Millisecond)
			var kinds []plugins.EventKind
			for len(kinds) < 2 {
				if e := <-events; e.Kind == plugins.EventLeftOut || e.Kind == plugins.EventRecovered {
					assert.Equal(t, "piped", e.Point)
					kinds = append(kinds, e.Kind)
				}
			}
			assert.Equal(t, []plugins.EventKind{plugins.EventLeftOut, plugins.EventRecovered}, kinds)
			for range 20 {
				_, err = call("aaaa=invalid")
				assert.ErrorIs(t, err, loader.ErrInvalid, "what the caller passes in is no failure of the hook")
			}
		})
	}
}

// TestLeftOutByATrial: while one call tries a hook again, the others are told so, and of no time that is left.
func TestLeftOutByATrial(t *testing.T) {
	tries, end := make(chan bool), make(chan bool)
	hook := builtin.Function{Name: "asked", Call: func(_ context.Context, in []byte) ([]byte, error) {
		if string(in) == "fail" {
			return nil, errors.New("as it was told")
		}
		close(tries)
		<-end
		return nil, nil
	}}
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(&builtin.Plugin{Name: "tried", Version: "1.0.0", Threads: abi.Concurrent, Hooks: []builtin.Function{hook}}))
	defer func() { require.NoError(t, closed(sys)) }()
	asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Breaker(1, time.Nanosecond))
	require.NoError(t, sys.Start(t.Context()))
	_, err := asked.Call(t.Context(), []byte("fail"))
	require.ErrorContains(t, err, "as it was told")
	tried := make(chan error)
	go func() {
		_, err := asked.Call(t.Context(), nil)
		tried <- err
	}()
	<-tries
	_, err = asked.Call(t.Context(), nil)
	close(end)
	assert.NoError(t, <-tried)
	assert.ErrorIs(t, err, plugins.ErrBroken)
	assert.ErrorContains(t, err, "and is left out while it is tried again. See why it fails in the log")
}

// TestHookThatHangs: in this process a hook that does not stop holds its caller, and is left out for all others until it can be tried again; isolated it is
// killed.
func TestHookThatHangs(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			left := make(chan plugins.Event, 100)
			sys := newHost(t, engine).add("aaaa", "bbbb").new(plugins.OnEvent(func(e plugins.Event) {
				if e.Kind == plugins.EventLeftOut {
					left <- e
				}
			}))
			piped := plugins.Pipe[[]byte](sys, "piped", plugins.OnError(plugins.Skip), plugins.Limit(20*time.Millisecond), plugins.Breaker(5, time.Second))
			require.NoError(t, sys.Start(t.Context()))
			call := func(in string) string {
				out, err := piped.Append(t.Context(), nil, []byte(in))
				assert.NoError(t, err)
				return strings.TrimPrefix(string(out), in)
			}
			held := make(chan string)
			go func() { held <- call("aaaa=slow") }()
			if engine == "isolated" { // it is killed when it has not come back some time later, and holds nobody for longer
				<-held
				assert.Empty(t, left)
				return
			}
			e := <-left
			assert.Equal(t, []string{"plugin_aaaa", "piped"}, []string{e.Plugin, e.Point})
			assert.ErrorIs(t, e.Err, plugins.ErrBroken)
			assert.Equal(t, "+bbbb", call(""), "nobody else waits for it")
			assert.Contains(t, []string{"", "+bbbb"}, <-held)
			assert.Eventually(t, func() bool { return call("") == "+aaaa+bbbb" }, time.Minute, 10*time.Millisecond)
		})
	}
}

// TestSuspensionEnds: a call that goes well ends a suspension, whichever function it is of; and a worker that was started again is told of before it crashes.
func TestSuspensionEnds(t *testing.T) {
	var all told
	sys := newHost(t, "isolated").add("aaaa").new(plugins.OnEvent(func(e plugins.Event) {
		if e.Kind != plugins.EventState {
			all = append(all, e)
		}
	}))
	asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Breaker(0, 0))
	require.NoError(t, sys.Start(t.Context()))
	version, err := sys.Func("plugin_aaaa", "version")
	require.NoError(t, err)
	_, err = version.Call(t.Context(), nil)
	require.NoError(t, err)
	for !errors.Is(err, loader.ErrSuspended) {
		_, err = asked.Call(t.Context(), []byte("aaaa=crash"))
		require.ErrorIs(t, err, loader.ErrCrash)
	}
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	time.Sleep(crash.Suspended + 100*time.Millisecond) // no call sees that it is suspended, and the one that ends that is of a function got since
	late, err := sys.Func("plugin_aaaa", "config")
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := late.Call(t.Context(), nil); return err == nil }, time.Minute, time.Millisecond)
	known, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateStarted, known.State)
	assert.NoError(t, known.Err)
	require.NoError(t, closed(sys))
	before, suspended := plugins.EventRestarted, false
	for i, e := range all {
		suspended = suspended || e.Kind == plugins.EventSuspended
		switch e.Kind {
		case plugins.EventCrashed:
			assert.Equal(t, plugins.EventRestarted, before, "%d: a worker that nobody was told of", i)
		case plugins.EventRestarted:
			assert.NotEqual(t, plugins.EventRestarted, before, i)
		}
		before = e.Kind
	}
	assert.Equal(t, plugins.EventRestarted, before, "the last one goes on")
	assert.True(t, suspended)
}

// TestContextOfTheCaller: why a call was cancelled is in its error, of a function and at a point.
func TestContextOfTheCaller(t *testing.T) {
	for _, engine := range []string{"in-process", "isolated"} {
		t.Run(engine, func(t *testing.T) {
			sys := newHost(t, engine).add("aaaa").new()
			defer func() { require.NoError(t, closed(sys)) }()
			piped := plugins.Pipe[[]byte](sys, "piped", plugins.Limit(0))
			require.NoError(t, sys.Start(t.Context()))
			_, err := piped.Append(t.Context(), nil, nil) // which opens it: that is not to take the time of the next
			require.NoError(t, err)
			why := errors.New("the caller has changed his mind")
			for _, end := range []struct {
				of   func() (context.Context, context.CancelFunc)
				want error
			}{
				{func() (context.Context, context.CancelFunc) {
					return context.WithTimeout(t.Context(), 50*time.Millisecond)
				}, context.DeadlineExceeded},
				{func() (context.Context, context.CancelFunc) {
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
					return ctx, func() { cancel(nil) }
				}, why},
			} {
				ctx, cancel := end.of()
				_, err := piped.Append(ctx, nil, []byte("aaaa=polls"))
				cancel()
				assert.ErrorIs(t, err, loader.ErrCancelled)
				assert.ErrorIs(t, err, end.want)
			}
		})
	}
}

// TestKilledByItsLimit: that a worker was killed for a call that went on after its limit is an event, which has the words of the call's error; so has the log.
func TestKilledByItsLimit(t *testing.T) {
	var all told
	var lines bytes.Buffer
	sys := newHost(t, "isolated").add("aaaa").new(plugins.OnEvent(func(e plugins.Event) { all = append(all, e) }), plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil))))
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Limit(20*time.Millisecond), plugins.Breaker(1, time.Nanosecond))
	require.NoError(t, sys.Start(t.Context()))
	_, err := piped.Append(t.Context(), nil, []byte("aaaa=hangs"))
	var late *loader.DeadlineError
	require.ErrorAs(t, err, &late)
	_, words, _ := strings.Cut(err.Error(), "did not return")
	assert.Contains(t, words, "after 20ms (the limit of config.yaml, or the point's) and 500ms more (isolate.grace); its worker was killed")
	_, err = piped.Append(t.Context(), nil, nil)
	require.NoError(t, err)
	require.NoError(t, closed(sys))
	assert.Equal(t, 2, strings.Count(lines.String(), words), "plug-in killed, plug-in left out: %s", &lines)
	var kinds []plugins.EventKind
	for _, e := range all {
		if e.Kind != plugins.EventState {
			kinds = append(kinds, e.Kind)
			assert.Equal(t, "plugin_aaaa", e.Plugin)
		}
		if e.Kind == plugins.EventKilled || e.Kind == plugins.EventLeftOut {
			assert.ErrorAs(t, e.Err, &late)
			assert.ErrorContains(t, e.Err, words)
		}
	}
	assert.Equal(t, []plugins.EventKind{plugins.EventKilled, plugins.EventLeftOut, plugins.EventRestarted, plugins.EventRecovered}, kinds)
}

// TestEncodedOnce: a value is encoded once for all plug-ins, and decoded only where one has changed it.
func TestEncodedOnce(t *testing.T) {
	sys := newHost(t, "go").add("aaaa", "bbbb", "cccc").new()
	counts := &counting{}
	piped := plugins.Pipe[string](sys, "piped", plugins.Codec(counts))
	require.NoError(t, sys.Start(t.Context()))
	out, err := piped.Call(t.Context(), "v")
	require.NoError(t, err)
	assert.Equal(t, "v+aaaa+bbbb+cccc", out)
	assert.Equal(t, []int{1, 1}, []int{counts.encoded, counts.decoded})
	_, err = piped.Call(t.Context(), "aaaa=pass bbbb=pass cccc=pass")
	require.NoError(t, err)
	assert.Equal(t, []int{2, 1}, []int{counts.encoded, counts.decoded})
}

type counting struct {
	text
	encoded, decoded int
}

func (c *counting) Marshal(v any) ([]byte, error) { c.encoded++; return c.text.Marshal(v) }
func (c *counting) Unmarshal(data []byte, v any) error {
	c.decoded++
	return c.text.Unmarshal(data, v)
}

// TestPointsThatAreWrong: what is wrong with points and offers is an error of Start's, all of it.
func TestPointsThatAreWrong(t *testing.T) {
	sys := newHost(t, "go").new(nil)
	plugins.Pipe[string](sys, "no name", plugins.OnError(9), plugins.Limit(-1), plugins.Breaker(-1, 0), plugins.Parallel(), plugins.Codec(nil))
	plugins.Pipe[string](sys, "twice")
	plugins.Veto[string](sys, "twice")
	plugins.Notify[string](sys, "none", nil)
	plugins.Notify[string](sys, "kept", plugins.Keep(func(event int) string { return "" }))
	plugins.Offer[string, string](sys, "nil", nil)
	plugins.Offer(sys, "none", func(context.Context, string) (string, error) { return "", nil }, nil)
	plugins.Offer(sys, "few", func(context.Context, string) (string, error) { return "", nil }, plugins.PerSecond(0))
	err := sys.Start(t.Context())
	require.ErrorIs(t, err, plugins.ErrOption)
	for _, want := range []string{"nil for an option", `"no name"`, "OnError", "Limit", "Breaker", "Parallel", "Codec", "a second point of this name", "Offer of nil with nil", "PerSecond",
		"notify of the point none: an option is not valid: found nil for an option", "Offer of none with nil for an option", "Keep of the point kept: an option is not valid: found a function of a int, expected one of a string"} {
		assert.ErrorContains(t, err, want)
	}
}

// TestSkippedIsSaidOnce: the log of a hook that fails again and again has one line of each failure that is skipped in a while, with their number, one of that it is left out, and
// one of that it is back; a call without it makes no error and no line.
func TestSkippedIsSaidOnce(t *testing.T) {
	var log lines
	sys := newHost(t, "go").add("aaaa", "bbbb").new(log.logger())
	decided := plugins.First[[]byte, []byte](sys, "decided", plugins.OnError(plugins.Skip), plugins.Breaker(3, 200*time.Millisecond))
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.OnError(plugins.Skip), plugins.Breaker(1, time.Hour))
	told := plugins.Notify[[]byte](sys, "told", plugins.OnError(plugins.Skip), plugins.Breaker(0, 0))
	require.NoError(t, sys.Start(t.Context()))
	warned := func(words ...string) int { return len(log.with(append(words, "level=WARN")...)) }
	for range 100 {
		out, _, err := decided.Append(t.Context(), nil, []byte("aaaa=fail"))
		require.NoError(t, err)
		assert.Equal(t, "bbbb", string(out))
		require.NoError(t, told.Call(t.Context(), []byte("aaaa=fail")))
	}
	assert.Equal(t, 1, warned("was skipped", "point=decided"))
	assert.Equal(t, 1, warned("was skipped", "point=told"), "also where it is never left out")
	assert.Equal(t, 1, warned("left out", "point=decided"))
	assert.Eventually(t, func() bool {
		_, _, err := decided.Append(t.Context(), nil, []byte("aaaa=fail"))
		return assert.NoError(t, err) && len(log.with("left out", "point=decided")) > 1
	}, time.Minute, 5*time.Millisecond, "it is tried again")
	assert.Eventually(t, func() bool {
		out, _, err := decided.Append(t.Context(), nil, nil)
		return assert.NoError(t, err) && string(out) == "aaaa"
	}, time.Minute, 5*time.Millisecond)
	assert.Equal(t, []int{1, 1, 1}, []int{warned("was skipped", "point=decided"), warned("left out", "point=decided"), len(log.with("recovered", "point=decided"))})

	in, out := []byte("aaaa=fail"), make([]byte, 0, 64)
	call := func() {
		got, err := piped.Append(t.Context(), out, in)
		require.NoError(t, err)
		require.Equal(t, "aaaa=fail+bbbb", string(got))
	}
	well := testing.AllocsPerRun(100, func() { _, _ = piped.Append(t.Context(), out, nil) })
	least := well + 1
	for tries := 0; least > well && tries < 50; tries++ { // it is tried again after a while, which may be meanwhile
		call()
		least = testing.AllocsPerRun(100, call)
	}
	assert.LessOrEqual(t, least, well, "left out, it costs nothing")
}

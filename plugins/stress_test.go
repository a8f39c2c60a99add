package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// member is what the model knows of one plug-in.
type member struct {
	tag      string
	isolated bool
	present  bool // its file is there
	enabled  bool
	granted  bool   // host, which the version that asks needs
	asks     bool   // the file is the version that asks for it
	version  string // of the file that is good
	runs     string // the version that runs, or would; "" is none
	settings int
	has      int // the settings that it runs with
	crashes  int
}

// world is a model of a system: it says what each change brings about.
type world struct {
	t       *testing.T
	rand    *rand.Rand
	folder  string
	path    string
	members []*member
	user    []string // the order at the point
}

// config is the config.yaml of the model.
func (w *world) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "folders: [%s]\nplugins:\n", w.folder)
	for _, m := range w.members {
		if !m.present && m.runs == "" {
			continue // what is not there cannot be asked for
		}
		fmt.Fprintf(&b, "  - {name: plugin_%s, version: ^1, enabled: %v, config: {n: %d}", m.tag, m.enabled, m.settings)
		if m.granted {
			b.WriteString(", grant: [host]")
		}
		if m.isolated {
			b.WriteString(", isolate: {sandbox: none}")
		}
		b.WriteString("}\n")
	}
	if w.user != nil {
		fmt.Fprintf(&b, "hooks: {piped: ['%s']}\n", strings.Join(w.user, "', '"))
	}
	return b.String()
}

// piped is what the point makes of nothing: those that are there, in the user's order, else by name.
func (w *world) piped() string {
	var front, middle, back []string
	star := slices.Index(w.user, "*")
	for _, m := range w.members {
		if m.runs == "" || !m.enabled {
			continue
		}
		switch i := slices.Index(w.user, "plugin_"+m.tag); {
		case i < 0:
			middle = append(middle, m.tag)
		case star < 0 || i < star:
			front = append(front, m.tag)
		default:
			back = append(back, m.tag)
		}
	}
	place := func(a, b string) int { return slices.Index(w.user, "plugin_"+a) - slices.Index(w.user, "plugin_"+b) }
	slices.SortFunc(front, place)
	slices.SortFunc(back, place)
	slices.Sort(middle)
	text := ""
	for _, tag := range slices.Concat(front, middle, back) {
		text += "+" + tag
	}
	return text
}

// TestStress: random plug-ins, orders, grants, versions, good and bad, crashes and settings, with a model that says what becomes of each, while others call.
// FERRULE_STRESS is how long it takes, such as 1h.
func TestStress(t *testing.T) {
	fixture.Loadable(t)
	long, err := time.ParseDuration(os.Getenv("FERRULE_STRESS"))
	if err != nil {
		long = 4 * time.Second
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("FERRULE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Log("FERRULE_SEED =", seed)
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 1)), folder: t.TempDir(), path: filepath.Join(t.TempDir(), "config.yaml")}
	for i, tag := range []string{"aaaa", "bbbb", "cccc", "dddd", "eeee"} {
		m := &member{tag: tag, isolated: i%2 == 1, present: true, enabled: true, version: "1.0.0", runs: "1.0.0"}
		variant(t, "system", w.file(m), "aaaa", tag)
		w.members = append(w.members, m)
	}
	write := func() { require.NoError(t, os.WriteFile(w.path, []byte(w.config()), 0o644)) }
	write()
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(w.path), plugins.Counting())
	defer func() { require.NoError(t, closed(sys)) }()
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Breaker(0, 0))
	plugins.Offer(sys, "host", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	require.NoError(t, sys.Start(t.Context()))
	l := newLoad(func(ctx context.Context) error {
		_, err := piped.Append(ctx, nil, nil)
		if errors.Is(err, loader.ErrCrash) || errors.Is(err, loader.ErrSuspended) {
			return nil // the model had the worker crash
		}
		return err
	})
	w.compare(sys, piped, "at first") // and all are open from here on: there is a version that can stay
	end, steps := time.Now().Add(long), 0
	for time.Now().Before(end) {
		steps++
		m := w.members[w.rand.IntN(len(w.members))]
		what := w.step(m)
		switch what {
		case "":
			continue
		case "crash":
			f, err := sys.Func("plugin_"+m.tag, "answer")
			require.NoError(t, err)
			_, err = f.Call(t.Context(), []byte(m.tag+"=crash"))
			require.ErrorIs(t, err, loader.ErrCrash, "step %d, %s of %s", steps, what, m.tag)
		default:
			write()
			err := sys.Reload(t.Context())
			if strings.HasPrefix(what, "bad") {
				require.Error(t, err, "step %d, %s of %s", steps, what, m.tag)
			} else if err != nil && !w.anyBad() {
				require.NoError(t, err, "step %d, %s of %s", steps, what, m.tag)
			}
		}
		w.compare(sys, piped, fmt.Sprintf("step %d, %s of %s", steps, what, m.tag))
	}
	require.Empty(t, l.end())
	t.Log(steps, "steps,", l.calls.Load(), "calls beside them")
}

func (w *world) file(m *member) string { return filepath.Join(w.folder, m.tag+fixture.Ext()) }

// anyBad reports whether some file is one that is not let in: each look says so again.
func (w *world) anyBad() bool {
	return slices.ContainsFunc(w.members, func(m *member) bool { return m.enabled && (m.asks && !m.granted || m.version != m.runs) })
}

// step changes the model and the files, and says what it was; "" is nothing.
func (w *world) step(m *member) string {
	good := func() {
		m.asks, m.version = false, fmt.Sprintf("1.%d.%d", w.rand.IntN(10), w.rand.IntN(10))
		variant(w.t, "system", w.file(m), "aaaa", m.tag, "1.0.0", m.version)
		if m.enabled {
			m.runs, m.has, m.crashes = m.version, m.settings, 0
		} else {
			m.runs = m.version
		}
	}
	switch w.rand.IntN(8) {
	case 0:
		good()
		return "a good version"
	case 1:
		if !m.enabled {
			return ""
		}
		pairs := [][]string{{"start:ok", "start:no"}, {"health:ok", "health:no"}, {"start:ok", "start:cr"}}[w.rand.IntN(3)]
		m.version = "bad"
		variant(w.t, "system", w.file(m), append([]string{"aaaa", m.tag, "1.0.0", "1.9.9"}, pairs...)...)
		return "bad version " + pairs[1]
	case 2:
		if !m.enabled {
			return ""
		}
		m.version = "bad"
		variant(w.t, "system", w.file(m), "aaaa", m.tag, "1.0.0", "2.0.0")
		return "bad range"
	case 3:
		if m.version == "bad" {
			return ""
		}
		m.enabled = !m.enabled
		if m.enabled {
			m.has, m.crashes = m.settings, 0
		}
		return "enabled " + strconv.FormatBool(m.enabled)
	case 4:
		if m.version == "bad" {
			return ""
		}
		m.settings = w.rand.IntN(1000)
		m.has = m.settings
		return "settings"
	case 5:
		w.user = nil
		for _, i := range w.rand.Perm(len(w.members))[:w.rand.IntN(len(w.members))] {
			w.user = append(w.user, "plugin_"+w.members[i].tag)
		}
		if at := w.rand.IntN(len(w.user) + 2); at <= len(w.user) {
			w.user = slices.Insert(w.user, at, "*")
		}
		return "order"
	case 6:
		if !m.isolated || !m.enabled || m.crashes == 3 {
			return ""
		}
		m.crashes++
		return "crash"
	}
	return ""
}

// compare has the system be what the model says.
func (w *world) compare(sys *plugins.System, piped *plugins.PipePoint[[]byte], when string) {
	var out []byte
	var err error
	for range 3 { // a worker that the model had crash may have had a call of the others'
		if out, err = piped.Append(w.t.Context(), nil, nil); !errors.Is(err, loader.ErrCrash) {
			break
		}
	}
	require.NoError(w.t, err, when)
	require.Equal(w.t, w.piped(), string(out), when)
	for _, m := range w.members {
		p, ok := sys.Plugin("plugin_" + m.tag)
		require.True(w.t, ok, when)
		if !m.enabled {
			require.Contains(w.t, []plugins.State{plugins.StateDisabled, plugins.StateDraining}, p.State, "%s: %s", when, m.tag)
			continue
		}
		require.Equal(w.t, plugins.StateStarted, p.State, "%s: %s: %v", when, m.tag, p.Err)
		require.Equal(w.t, m.version == "bad", p.Err != nil, "%s: %s: %v", when, m.tag, p.Err)
		for function, want := range map[string]string{"version": m.runs, "config": fmt.Sprintf(`{"n":%d}`, m.has)} {
			f, err := sys.Func("plugin_"+m.tag, function)
			require.NoError(w.t, err)
			got, err := f.Call(w.t.Context(), nil)
			if errors.Is(err, loader.ErrCrash) {
				got, err = f.Call(w.t.Context(), nil)
			}
			require.NoError(w.t, err, when)
			require.Equal(w.t, want, string(got), "%s: %s of %s", when, function, m.tag)
		}
	}
}

package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/sidecar/web"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// patience is how long anything may take on a machine that is busy: what takes longer hangs.
const patience = 2 * time.Minute

// raw has bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// run is one run.
type run struct {
	t       testing.TB
	seed    uint64
	rand    *rand.Rand // the disturber's
	folder  string
	tmp     string
	all     []*plugin
	byName  map[string]*plugin
	sys     *plugins.System
	each    *plugins.CollectPoint[[]byte, []byte]
	chain   *plugins.PipePoint[[]byte]
	work    map[string]*plugins.Func
	key     sign.PrivateKey
	to      *files.Folder
	address string
	stored  string

	broker *process
	port   string
	nodes  [2]*process
	roles  map[string]*process

	begun   time.Time
	ctx     context.Context // ends with the run, or with the first fault
	stop    context.CancelFunc
	callers []*caller
	opened  int // how often a library was opened in this process, after the first time

	mu     sync.Mutex
	fault  error
	latest []string // what happened last
	done   map[string]int64
	worst  map[string]time.Duration
	harm   map[Kind]int64                                // how the disturber's own calls ended
	wrong  func(p *plugin, in string, out []byte) []byte // a planted fault; nil is none
}

// note keeps what has happened.
func (r *run) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3f s  ", time.Since(r.begun).Seconds()) + fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, last, _ := strings.Cut(strings.Join(r.latest[max(0, len(r.latest)-1):], ""), "s  ")
	if _, this, _ := strings.Cut(line, "s  "); strings.HasPrefix(this, "event: crashed") && strings.HasPrefix(last, this[:min(len(this), 40)]) {
		return // as many calls as there are crash with one worker
	}
	if r.latest = append(r.latest, line); len(r.latest) > 60 {
		r.latest = append([]string(nil), r.latest[20:]...)
	}
}

// fail ends the run, with what has happened before.
func (r *run) fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	r.mu.Lock()
	if r.fault == nil {
		r.fault = fmt.Errorf("seed %d, after %.3f s: %w\nwhat happened last:\n%s", r.seed, time.Since(r.begun).Seconds(), err, strings.Join(r.latest, "\n"))
	}
	r.mu.Unlock()
	r.stop()
}

func (r *run) path(name string) string { return filepath.Join(r.folder, filepath.FromSlash(name)) }

// newRun makes the files, starts the processes, and the system. The run that is returned with an error has begun some of it.
func newRun(t testing.TB, seed uint64) (*run, error) {
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		return nil, err
	}
	r := &run{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), folder: folder, tmp: filepath.Join(folder, "tmp"), stored: filepath.Join(folder, "store"), byName: map[string]*plugin{}, work: map[string]*plugins.Func{},
		roles: map[string]*process{}, begun: time.Now(), done: map[string]int64{}, worst: map[string]time.Duration{}, harm: map[Kind]int64{}, port: fixture.FreePort(t)}
	adapter := fixture.PythonAdapter(t)
	r.all = fixtures(t, fixture.Socket(t), "127.0.0.1:"+fixture.FreePort(t), "nats://127.0.0.1:"+r.port)
	t.Setenv("TMPDIR", r.tmp)
	r.ctx, r.stop = context.WithCancel(context.Background())
	for _, name := range []string{"tmp", "releases", "plugins", "programs"} {
		if err := os.MkdirAll(r.path(name), 0o755); err != nil {
			return r, err
		}
	}
	if r.key, err = sign.Generate(); err != nil {
		return r, err
	}
	if r.to, err = files.NewFolder(r.path("releases")); err != nil {
		return r, err
	}
	r.address = (&url.URL{Scheme: "file", Path: r.path("releases")}).String()
	if r.broker, err = begin("broker", r.port); err != nil {
		return r, err
	}
	for _, p := range r.all {
		r.byName[p.Name] = p
		switch {
		case p.file != "":
			err = put(r.path(p.file), p.bytesOf(0))
		case p.registry != "":
			err = p.publish(r.ctx, r.to, r.key, r.folder, 0)
		case p.role == "node":
			for i := range r.nodes {
				if r.nodes[i], err = begin("node", p.address, version(0)); err != nil {
					return r, err
				}
			}
		case p.role != "":
			r.roles[p.role], err = begin(p.role, p.address, version(0))
		}
		if err != nil {
			return r, err
		}
	}
	if err := r.configure(); err != nil {
		return r, err
	}
	cache := filepath.Join(fixture.Root(), "build", "compiled")
	r.sys = plugins.New("soak", "1.0.0", plugins.Config(r.path("config.yaml")), plugins.Watch(), plugins.Logger(quiet()), plugins.Download(), plugins.StoreFolder(r.stored),
		plugins.Builtin(inGo("soak_inside", version(0), 0, false)), plugins.Engines(wasm.Engine(wasm.WithCache(cache)), script.Engine(script.WithWasm(wasm.WithCache(cache)), script.WithPython(adapter, nil)), web.Engine(), nats.Engine()),
		plugins.OnEvent(func(e plugins.Event) { r.note("event: %s %s %s %s %v", e.Kind, e.Plugin, e.Version, e.State, e.Err) }))
	plugins.Offer(r.sys, "points", func(ctx context.Context, in []byte) ([]byte, error) {
		plugin, _ := plugins.Caller(ctx)
		return fmt.Appendf(nil, "%s %08x", plugin, Hash(string(in))), nil
	})
	// A call that nothing happens to may take long on a machine that has much else to do: it is no outcome that the model predicts.
	r.each = plugins.Collect[[]byte, []byte](r.sys, "each", plugins.Parallel(), plugins.Limit(time.Minute), plugins.Codec(raw{}))
	r.chain = plugins.Pipe[[]byte](r.sys, "chain", plugins.OnError(plugins.Skip), plugins.Limit(time.Minute), plugins.Codec(raw{}))
	if err := r.sys.Start(r.ctx); err != nil {
		return r, err
	}
	for _, p := range r.all {
		if r.work[p.Name], err = r.sys.Func(p.Name, "work"); err != nil {
			return r, err
		}
	}
	return r, nil
}

// configure writes config.yaml as the model has it.
func (r *run) configure() error {
	return put(r.path("config.yaml"), []byte(configOf(r.all, r.address, r.key.Public().String())))
}

// update takes what was published into the lock.
func (r *run) update(ctx context.Context) error {
	c, err := config.Load(r.path("config.yaml"))
	if err != nil {
		return err
	}
	o, err := install.Configured(c, files.Open)
	if err != nil {
		return err
	}
	st, err := store.Open(r.stored)
	if err != nil {
		return err
	}
	defer st.Close()
	o.App, o.Version, o.Lock, o.Store = "soak", "1.0.0", install.LockOf(r.path("config.yaml")), st
	in, err := install.New(o)
	if err != nil {
		return err
	}
	changes, _, err := in.Update(ctx, wants(r.all), install.UpdateOptions{})
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Err != nil {
			return c.Err
		}
	}
	if len(changes) != 1 {
		return fmt.Errorf("found %d changes by the update, expected 1", len(changes))
	}
	_, _, err = in.GC(ctx, 0)
	return err
}

// caller makes calls, one after the other.
type caller struct {
	r        *run
	rand     *rand.Rand
	seq      atomic.Uint64
	calls    map[string]int64
	outcomes map[Kind]int64
	answers  map[string]map[string]int64
}

// input is a random text in ASCII, which every engine has as it is.
func input(r *rand.Rand) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789 .,!"
	n := r.IntN(60)
	if r.IntN(50) == 0 {
		n = r.IntN(5000)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

func (c *caller) count(p *plugin, kind Kind, out string) {
	c.outcomes[kind]++
	if kind == Answered {
		version, _, _ := strings.Cut(out, " ")
		if c.answers[p.Name] == nil {
			c.answers[p.Name] = map[string]int64{}
		}
		c.answers[p.Name][version]++
	}
}

func (c *caller) loop() {
	for c.r.ctx.Err() == nil {
		c.seq.Add(1)
		c.once()
	}
	c.seq.Store(1 << 63) // whoever waits for it waits no more
}

// once makes one call, and judges how it ended.
func (c *caller) once() {
	r := c.r
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	in := input(c.rand)
	p := r.all[c.rand.IntN(len(r.all))]
	from := p.Now()
	switch n := c.rand.IntN(100); {
	case n < 55:
		c.calls["a function"]++
		out, err := r.work[p.Name].Call(ctx, []byte(in))
		if r.wrong != nil {
			out = r.wrong(p, in, out)
		}
		c.count(p, KindOf(err), string(out))
		if err != nil {
			if fault := p.Fault(from, err); fault != "" {
				r.fail("%s of work: %s", p.Name, fault)
			}
		} else if fault := p.Judge(from, in, string(out)); fault != "" {
			r.fail("%s of work: %s", p.Name, fault)
		}
	case n < 75:
		if p.plain {
			return
		}
		c.calls["a function that calls the host"]++
		f, err := r.sys.Func(p.Name, "asks")
		if err != nil {
			r.fail("%s: %w", p.Name, err)
			return
		}
		out, err := f.Call(ctx, []byte(in))
		c.outcomes[KindOf(err)]++
		if err != nil {
			if fault := p.Fault(from, err); fault != "" {
				r.fail("%s of asks: %s", p.Name, fault)
			}
		} else if want := fmt.Sprintf("%s %08x", p.Name, Hash(in)); string(out) != want {
			r.fail("%s of asks: found %.200q, expected %q", p.Name, out, want)
		} else if !since(from, func(e *Expectation) bool { return !e.Silent }) {
			r.fail("%s of asks: found an answer, expected none", p.Name)
		}
	case n < 88:
		c.calls["all hooks of a point"]++
		r.collect(ctx, in, c.count)
	default:
		c.calls["a chain of hooks"]++
		r.pipe(ctx, in, c.count)
	}
}

// nows are the expectations of all.
func (r *run) nows() []*Expectation {
	all := make([]*Expectation, len(r.all))
	for i, p := range r.all {
		all[i] = p.Now()
	}
	return all
}

// absent judges that a plug-in had no say at a point.
func (r *run) absent(p *plugin, from *Expectation, where string) {
	if !since(from, func(e *Expectation) bool { return len(e.Kinds) > 0 }) {
		r.fail("%s at %s: found nothing of it, expected %s", p.Name, where, p.expected(from))
	}
}

// collect asks all, and judges each. It returns what each has answered.
func (r *run) collect(ctx context.Context, in string, count func(*plugin, Kind, string)) map[string]string {
	froms := r.nows()
	results, err := r.each.Call(ctx, []byte(in))
	seen, said := map[string]string{}, map[string]bool{}
	for _, x := range results {
		if _, twice := seen[x.Plugin]; twice || r.byName[x.Plugin] == nil {
			r.fail("each: found an answer of %s, expected one of each plug-in", x.Plugin)
		}
		seen[x.Plugin] = string(x.Value)
	}
	for _, one := range unjoined(err) {
		var hook *plugins.HookError
		if !errors.As(one, &hook) || r.byName[hook.Plugin] == nil {
			r.fail("each: found the error %v, expected one of a plug-in's hook", one)
			return seen
		}
		p := r.byName[hook.Plugin]
		if _, answered := seen[hook.Plugin]; answered || said[hook.Plugin] {
			r.fail("each: found two outcomes of %s, one of them %v, expected one", hook.Plugin, one)
		}
		said[hook.Plugin] = true
		count(p, KindOf(one), "")
		for i := range r.all {
			if r.all[i] != p {
				continue
			}
			if fault := p.Fault(froms[i], one); fault != "" && !(KindOf(one) == LeftOut && since(froms[i], func(e *Expectation) bool { return len(e.Kinds) > 0 })) {
				r.fail("%s at each: %s", p.Name, fault)
			}
		}
	}
	for i, p := range r.all {
		if out, ok := seen[p.Name]; ok {
			count(p, Answered, out)
			if fault := p.Judge(froms[i], in, out); fault != "" {
				r.fail("%s at each: %s", p.Name, fault)
			}
		} else if !said[p.Name] {
			count(p, Absent, "")
			r.absent(p, froms[i], "each")
		}
	}
	return seen
}

// unjoined are the errors that were joined.
func unjoined(err error) []error {
	if err == nil {
		return nil
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		if _, hook := err.(*plugins.HookError); !hook {
			return all.Unwrap()
		}
	}
	return []error{err}
}

// pipe has all add to a value, and judges what each has added.
func (r *run) pipe(ctx context.Context, in string, count func(*plugin, Kind, string)) map[string]string {
	froms := r.nows()
	out, err := r.chain.Append(ctx, nil, []byte(in))
	if err != nil {
		r.fail("chain: %w", err)
		return nil
	}
	rest, ok := strings.CutPrefix(string(out), in)
	if !ok {
		r.fail("chain: found %.200q, expected %.200q and more", out, in)
		return nil
	}
	seen := map[string]string{}
	last := ""
	for _, part := range strings.Split(strings.TrimPrefix(rest, ";"), ";") {
		if part == "" {
			continue
		}
		var plugin, version string
		var number uint32
		if n, err := fmt.Sscanf(part, "%s %s %d", &plugin, &version, &number); n != 3 || err != nil || r.byName[plugin] == nil || plugin <= last {
			r.fail("chain: found %.300q, expected parts by the plug-ins' names, each once", rest)
			return nil
		}
		last = plugin
		seen[plugin] = fmt.Sprintf("%s %d", version, number)
		for i, p := range r.all {
			if p.Name == plugin && !p.Answers(froms[i], version, number) {
				r.fail("%s at chain: found %s with %d, expected %s", plugin, version, number, p.expected(froms[i]))
			}
		}
	}
	for i, p := range r.all {
		if out, ok := seen[p.Name]; ok {
			count(p, Answered, out)
		} else {
			count(p, Absent, "")
			r.absent(p, froms[i], "chain")
		}
	}
	return seen
}

// quiesce waits until every call is over that runs now.
func (r *run) quiesce() {
	begun := time.Now()
	for _, c := range r.callers {
		for at := c.seq.Load(); c.seq.Load() == at && r.ctx.Err() == nil; {
			if time.Since(begun) > 2*patience { // its context has ended long ago
				r.fail("found a call that does not come back, expected it when its context ends, after %v", patience)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// settled waits until a plug-in is as the model says, by its function and both its hooks, also once every call is over that may still have met how it was.
func (r *run) settled(p *plugin, e *Expectation) error {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	nobody := func(*plugin, Kind, string) {}
	why := ""
	well := func() bool {
		out, err := r.work[p.Name].Call(ctx, []byte("settled"))
		if e.Silent {
			why = fmt.Sprintf("%.200q, %v", out, err)
			return err != nil && KindOf(err) == e.Kinds[0]
		}
		is := NewMember(p.Name, e)
		if err != nil {
			why = err.Error()
			return false
		}
		if why = is.Judge(e, "settled", string(out)); why != "" {
			return false
		}
		if out := r.collect(ctx, "settled", nobody)[p.Name]; out == "" || is.Judge(e, "settled", out) != "" {
			why = fmt.Sprintf("at each %q", out)
			return false
		}
		if out := r.pipe(ctx, "settled", nobody)[p.Name]; out != fmt.Sprintf("%s %d", e.Versions[0], e.Numbers[0]) {
			why = fmt.Sprintf("at chain %q", out)
			return false
		}
		return true
	}
	for ctx.Err() == nil {
		if well() {
			if r.quiesce(); well() {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	what, _ := r.sys.Plugin(p.Name)
	return fmt.Errorf("%s: found %s (%s, %v) after %v, expected %s", p.Name, why, what.State, what.Err, patience, p.expected(e))
}

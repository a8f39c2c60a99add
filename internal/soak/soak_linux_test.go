package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// length is how long a run is: FERRULE_SOAK, such as 1h.
func length(without time.Duration) (time.Duration, error) {
	text := os.Getenv("FERRULE_SOAK")
	if text == "" {
		return without, nil
	}
	long, err := time.ParseDuration(text)
	if err != nil || long <= 0 {
		return 0, fmt.Errorf("found %q for how long, expected a time such as 30s, 90m or 8h", text)
	}
	return long, nil
}

func seedOf() (uint64, error) {
	text := os.Getenv("FERRULE_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano()), nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("found the seed %q, expected a number that is not negative", text)
	}
	return seed, nil
}

// plant are faults that a run is to find.
type plant struct {
	wrong func(p *plugin, in string, out []byte) []byte // changes an answer
	leak  func()                                        // is called after each disturbance
}

// flats are what is to be flat, and by how much it may grow.
func flats() []*Series {
	return []*Series{
		{Name: "memory of the host", Unit: "MiB", Slack: 12, Share: 0.15},
		{Name: "memory of its processes", Unit: "MiB", Slack: 12, Share: 0.15},
		{Name: "descriptors of the host", Slack: 8, Share: 0.1},
		{Name: "descriptors of its processes", Slack: 12, Share: 0.1},
		{Name: "threads of the host", Slack: 6, Share: 0.15},
		{Name: "threads of its processes", Slack: 16, Share: 0.15},
		{Name: "goroutines", Slack: 12, Share: 0.1},
		{Name: "processes", Slack: 2},
		{Name: "mappings of the host", Slack: 30, Share: 0.05},
		{Name: "temporary files", Slack: 2},
	}
}

// fewest is how often it is looked at, at least.
const fewest = 8

// soaked is one run: what it was, and what was wrong.
func soaked(t testing.TB, seed uint64, long time.Duration, planted plant) (*Summary, error) {
	t.Helper()
	// What a process keeps from its first worker on is there before.
	first, err := loader.Open(fixture.C(t, "soak"), isolate.InWorker(), loader.WithHostFunc("points", func(context.Context, []byte) ([]byte, error) { return nil, nil }))
	if err != nil {
		return nil, err
	}
	if err := first.Close(); err != nil {
		return nil, err
	}
	before := holds(os.TempDir())
	r, err := newRun(t, seed)
	if r != nil { // also where it could not begin: processes of it may run
		defer r.end()
	}
	if err != nil {
		return nil, err
	}
	r.wrong = planted.wrong
	series := flats()
	for i := range 2 * runtime.NumCPU() {
		r.callers = append(r.callers, &caller{r: r, rand: rand.New(rand.NewPCG(seed, uint64(i)+1)), calls: map[string]int64{}, outcomes: map[Kind]int64{}, answers: map[string]map[string]int64{}})
	}
	var calling sync.WaitGroup
	for _, c := range r.callers {
		calling.Go(c.loop)
	}
	// All are open, and well, before anything happens to them.
	for _, p := range r.all {
		if err := r.settled(p, p.is()); err != nil {
			r.fail("at first: %w", err)
		}
	}
	begun := time.Now()
	every := min(max(long/60, 500*time.Millisecond), time.Minute)
	sampled, samples := begun.Add(long/4), 0                                   // after a warm-up
	for r.ctx.Err() == nil && (time.Since(begun) < long || samples < fewest) { // however slow the machine is
		if err := r.disturb(); err != nil {
			r.fail("%w", err)
			break
		}
		if planted.leak != nil {
			planted.leak()
		}
		if time.Now().After(sampled) {
			h, at := holds(r.tmp), time.Since(begun).Seconds()
			stays := float64(r.opened)
			for i, v := range []float64{h.memory - stays*35/1024, h.below, float64(h.descriptors), float64(h.theirFiles), float64(h.threads), float64(h.theirTasks), float64(h.goroutines), float64(h.processes),
				float64(h.mappings) - 5*stays, float64(h.files)} {
				series[i].Add(at, v)
			}
			samples++
			t.Log(progress(time.Since(begun), total(r.done), series))
			sampled = time.Now().Add(every)
		}
	}
	took := time.Since(begun)
	if r.ctx.Err() == nil {
		for _, p := range r.all {
			if err := r.settled(p, p.is()); err != nil {
				r.fail("at last: %w", err)
			}
		}
	}
	r.stop()
	if err := within(calling.Wait); err != nil {
		r.fail("calls that run when all is over: %w", err)
		return nil, r.fault
	}
	s := &Summary{Date: begun.UTC(), Machine: machine(), Duration: took, Seed: seed, Callers: len(r.callers), Calls: map[string]int64{}, Outcomes: map[Kind]int64{}, Done: r.done, Worst: r.worst, Series: series, Samples: samples,
		Answers: map[string]map[string]int64{}}
	for k, n := range r.harm {
		s.Calls["a function that does harm"] += n
		s.Outcomes[k] += n
	}
	for _, c := range r.callers {
		for k, n := range c.calls {
			s.Calls[k] += n
		}
		for k, n := range c.outcomes {
			s.Outcomes[k] += n
		}
		for p, versions := range c.answers {
			if s.Answers[p] == nil {
				s.Answers[p] = map[string]int64{}
			}
			for v, n := range versions {
				s.Answers[p][v] += n
			}
		}
	}
	for _, p := range r.all {
		is, _ := r.sys.Plugin(p.Name)
		told := Told{Name: p.Name, Form: p.form, Place: p.place, Versions: len(s.Answers[p.Name]), Replaced: is.Replaced, Restarts: is.Restarts}
		for _, n := range s.Answers[p.Name] {
			told.Answers += n
		}
		s.Plugins = append(s.Plugins, told)
	}
	if r.fault != nil {
		return s, r.fault
	}
	var faults []error
	for _, x := range series {
		if fault := x.Fault(); fault != "" {
			faults = append(faults, fmt.Errorf("seed %d: %s", seed, fault))
		}
	}
	// Everything is closed, and nothing is left of what had come.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.sys.Shutdown(ctx); err != nil {
		faults = append(faults, fmt.Errorf("closing: %w", err))
	}
	r.end()
	var after held
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		after = holds(r.tmp)
		if after.processes <= before.processes && after.goroutines <= before.goroutines && after.files == 0 && after.descriptors <= before.descriptors {
			break
		}
	}
	s.Left = map[string]int{"processes": after.processes - before.processes, "goroutines": after.goroutines - before.goroutines, "temporary files": after.files, "descriptors": after.descriptors - before.descriptors}
	for _, k := range sorted(s.Left) {
		s.Left[k] = max(0, s.Left[k])
		if s.Left[k] > 0 {
			faults = append(faults, fmt.Errorf("found %d %s left after all was closed, expected none: %s", s.Left[k], k, remains(r.tmp)))
		}
	}
	return s, errors.Join(faults...)
}

// within waits for what has to be over in a while.
func within(wait func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(2 * patience): // a call has once that
		stack := make([]byte, 1<<20)
		return fmt.Errorf("not over after %v:\n%s", 2*patience, stack[:runtime.Stack(stack, true)])
	}
}

// remains says what there is, for an error.
func remains(tmp string) string {
	var b strings.Builder
	for _, pid := range descendants() {
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		fmt.Fprintf(&b, "process %d %q; ", pid, line)
	}
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		to, _ := os.Readlink(link)
		b.WriteString(to + "; ")
	}
	found, _ := filepath.Glob(filepath.Join(tmp, "*"))
	stack := make([]byte, 1<<20)
	return fmt.Sprintf("%s%v\n%s", &b, found, stack[:runtime.Stack(stack, true)])
}

func total(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// machine is what it runs on.
func machine() string {
	text, _ := os.ReadFile("/proc/meminfo")
	var kb int
	_, _ = fmt.Sscanf(string(text), "MemTotal: %d kB", &kb)
	return fmt.Sprintf("%d cores and %d GiB of memory", runtime.NumCPU(), (kb+1<<19)>>20)
}

// end closes all that it may have begun.
func (r *run) end() {
	r.stop()
	if r.sys != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = r.sys.Shutdown(ctx)
	}
	for _, p := range r.roles {
		if p != nil {
			p.kill()
		}
	}
	for _, p := range append(r.nodes[:], r.broker) {
		if p != nil {
			p.kill()
		}
	}
	clear(r.roles)
	r.nodes, r.broker = [2]*process{}, nil
}

// TestSoak is the run. FERRULE_SOAK says how long, FERRULE_SEED which; FERRULE_SOAK_PAGE is a page that gets its summary.
func TestSoak(t *testing.T) {
	fixture.Loadable(t)
	seed, err := seedOf()
	require.NoError(t, err)
	long, err := length(20 * time.Second)
	require.NoError(t, err)
	page := os.Getenv("FERRULE_SOAK_PAGE")
	if page != "" { // before the hours, and not after
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		_, err = new(Summary).Put(string(text))
		require.NoError(t, err)
	}
	t.Logf("FERRULE_SEED=%d FERRULE_SOAK=%s", seed, long)
	s, err := soaked(t, seed, long, plant{})
	require.NoError(t, err)
	t.Log("\n" + s.Markdown())
	if page != "" {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		put, err := s.Put(string(text))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(page, []byte(put), 0o644))
	}
}

// TestSoakOptions: what is no time, or no seed, is said, and no run of another length is made for it.
func TestSoakOptions(t *testing.T) {
	for text, want := range map[string]time.Duration{"": time.Second, "90m": 90 * time.Minute, "1d": 0, "8": 0, "-1h": 0, "x": 0} {
		t.Setenv("FERRULE_SOAK", text)
		long, err := length(time.Second)
		if want == 0 {
			require.ErrorContains(t, err, "expected a time such as 30s", text)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, long)
	}
	for text, ok := range map[string]bool{"": true, "42": true, "abc": false, "-1": false, "1e3": false} {
		t.Setenv("FERRULE_SEED", text)
		_, err := seedOf()
		require.Equal(t, ok, err == nil, text)
	}
}

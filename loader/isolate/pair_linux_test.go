package isolate_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// The oracle of what an isolated call costs is testdata/pair.c: a bare pair of processes that does the same over one
// mapping. Each iteration of these benchmarks is a round of it and a round of Ferrule's, in turn; so -benchtime 100x
// is a hundred rounds. The figure is the least of the rounds, and the ratio that of the two least: what disturbs a
// machine makes both longer, and not alike. The 50th and the 99th percentile of single calls are the medians of the
// rounds'.

const roundFor = 10 * time.Millisecond

// tally is what one round came to.
type tally struct {
	calls    int
	took     time.Duration // of all calls, by the wall
	p50, p99 time.Duration // of one
}

func (t tally) each() float64 { return float64(t.took) / float64(t.calls) }

// pair is the oracle, running.
type pair struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Reader
}

var buildPair = sync.OnceValues(func() (string, error) {
	path := filepath.Join(fixture.Local().Dir, "pair")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return "", err
	}
	text, err := exec.Command("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread",
		"-o", path, filepath.Join("testdata", "pair.c")).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return path, err
})

// startPair starts one with so many callers, which copy size bytes each way. It spins for up to spin before it
// sleeps; pinned has each of the two processes on a processor of its own, which is the best there is for it where
// both spin.
func startPair(b *testing.B, callers, size int, spin time.Duration, pinned bool) *pair {
	b.Helper()
	fixture.Tool(b, "gcc", "apt-get install gcc")
	path, err := buildPair()
	require.NoError(b, err)
	pin := "0"
	if pinned {
		pin = "1"
	}
	cmd := exec.Command(path, strconv.Itoa(callers), strconv.Itoa(size), strconv.FormatInt(spin.Nanoseconds(), 10), pin)
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		require.NoError(b, cmd.Wait())
	})
	p := &pair{b, in, bufio.NewReader(out)}
	p.round(roundFor, 0)
	return p
}

func (p *pair) round(length, pause time.Duration) (t tally) {
	_, err := fmt.Fprintln(p.in, length.Milliseconds(), pause.Microseconds())
	require.NoError(p.b, err)
	_, err = fmt.Fscanln(p.out, &t.calls, &t.took, &t.p50, &t.p99)
	require.NoError(p.b, err)
	return t
}

// callers make calls of an isolated function as the pair's do.
type callers struct {
	b       *testing.B
	f       *loader.Func
	n, size int
	ins     [][]byte
	outs    [][]byte
	took    [][]time.Duration // by caller, of the calls that are timed: the first ones of a round
	all     []time.Duration
}

// kept is how many times of a caller are kept in a round. There is room for all beforehand: a round leaves no
// garbage.
const kept = 1 << 14

func newCallers(b *testing.B, n, size int) *callers {
	b.Helper()
	f, err := open(b, fixture.C(b, "echo"), isolate.InWorker()).Func("echo")
	require.NoError(b, err)
	c := &callers{b: b, f: f, n: n, size: size, took: make([][]time.Duration, n)}
	for range n {
		c.ins, c.outs = append(c.ins, make([]byte, size)), append(c.outs, make([]byte, 0, size))
	}
	for i := range n {
		c.took[i] = make([]time.Duration, 0, kept)
	}
	c.all = make([]time.Duration, 0, n*kept)
	c.round(roundFor, 0)
	return c
}

func (c *callers) round(length, pause time.Duration) (t tally) {
	const every = 8 // of short calls, one of so many is timed
	start := time.Now()
	var all sync.WaitGroup
	calls := make([]int, c.n)
	for i := range c.n {
		all.Go(func() {
			took := c.took[i][:0]
			for n := 0; ; n++ {
				if pause > 0 {
					time.Sleep(pause)
				}
				timed := pause > 0 || c.size > 4096 || n%every == 0
				var begun time.Time
				if timed {
					begun = time.Now()
				}
				if _, err := c.f.Append(ctx, c.outs[i], c.ins[i]); err != nil {
					c.b.Error(err)
					return
				}
				if timed {
					if len(took) < cap(took) {
						took = append(took, time.Since(begun))
					}
					if time.Since(start) >= length {
						c.took[i], calls[i] = took, n+1
						return
					}
				}
			}
		})
	}
	all.Wait()
	t.took = time.Since(start)
	times := c.all[:0]
	for i := range c.n {
		t.calls += calls[i]
		times = append(times, c.took[i]...)
	}
	slices.Sort(times)
	t.p50, t.p99 = times[len(times)/2], times[len(times)*99/100]
	return t
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// beside runs rounds of both in turn. by is what of a round is compared.
func beside(b *testing.B, p *pair, c *callers, length, pause time.Duration, by func(tally) float64) {
	b.Helper()
	var pairs, ours, p50, p99, pairP50, pairP99 []float64
	for b.Loop() {
		theirs, mine := p.round(length, pause), c.round(length, pause)
		pairs, ours = append(pairs, by(theirs)), append(ours, by(mine))
		p50, p99 = append(p50, float64(mine.p50)), append(p99, float64(mine.p99))
		pairP50, pairP99 = append(pairP50, float64(theirs.p50)), append(pairP99, float64(theirs.p99))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(slices.Min(ours), "ns")
	b.ReportMetric(slices.Min(pairs), "pair-ns")
	b.ReportMetric(slices.Min(ours)/slices.Min(pairs), "ratio")
	b.ReportMetric(median(p50), "p50-ns")
	b.ReportMetric(median(p99), "p99-ns")
	b.ReportMetric(median(pairP50), "pair-p50-ns")
	b.ReportMetric(median(pairP99), "pair-p99-ns")
}

func typical(t tally) float64 { return float64(t.p50) }

const longSpin = 50 * time.Microsecond // of the pair

// BenchmarkBesidePair is so many callers at once, that call without a pause: wall time over the calls of all. The
// pair that spins has a processor for each process; the one that sleeps goes straight to the futex.
func BenchmarkBesidePair(b *testing.B) {
	for _, n := range []int{1, 2, 4, 16, 64} {
		for _, spin := range []time.Duration{longSpin, 0} {
			b.Run(fmt.Sprintf("callers=%d/spin=%v", n, spin), func(b *testing.B) {
				beside(b, startPair(b, n, 64, spin, spin > 0), newCallers(b, n, 64), roundFor, 0, tally.each)
			})
		}
	}
}

// BenchmarkLargeBesidePair is one caller with 1 MiB each way.
func BenchmarkLargeBesidePair(b *testing.B) {
	beside(b, startPair(b, 1, 1<<20, longSpin, true), newCallers(b, 1, 1<<20), roundFor, 0, tally.each)
}

// BenchmarkRareBesidePair is one caller that pauses for 10 ms before each call: both sides sleep.
func BenchmarkRareBesidePair(b *testing.B) {
	beside(b, startPair(b, 1, 64, 0, false), newCallers(b, 1, 64), 20*roundFor, 10*time.Millisecond, typical)
}

// BenchmarkBusyBesidePair is one caller on a machine that four other processes keep busy.
func BenchmarkBusyBesidePair(b *testing.B) {
	for _, spin := range []time.Duration{longSpin, 0} {
		b.Run(fmt.Sprintf("spin=%v", spin), func(b *testing.B) {
			p, c := startPair(b, 1, 64, spin, false), newCallers(b, 1, 64)
			keepBusy(b, nil)
			beside(b, p, c, 20*roundFor, 0, typical)
		})
	}
}

// BenchmarkSessionsBesidePair is three callers that pause, on a machine that is kept busy by four processes that lead a session each.
// A kernel that shares the processors by sessions gives each of those as much as all that the host's session has.
func BenchmarkSessionsBesidePair(b *testing.B) {
	p, c := startPair(b, 3, 64, 0, false), newCallers(b, 3, 64)
	keepBusy(b, &syscall.SysProcAttr{Setsid: true})
	beside(b, p, c, 20*roundFor, time.Millisecond, typical)
}

// keepBusy starts four processes that take what processor time they get, up to the benchmark's end.
func keepBusy(b *testing.B, attr *syscall.SysProcAttr) {
	b.Helper()
	for range 4 {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		busy.SysProcAttr = attr
		require.NoError(b, busy.Start())
		b.Cleanup(func() {
			_ = busy.Process.Kill()
			_ = busy.Wait()
		})
	}
}

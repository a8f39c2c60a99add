package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

func TestBenchText(t *testing.T) {
	input := filepath.Join(t.TempDir(), "input")
	require.NoError(t, os.WriteFile(input, bytes.Repeat([]byte("x"), 64), 0o666))
	stdout, stderr, code := ferrule(t, "", "bench", fixture.C(t, "echo"), "echo", "--in", "@"+input, "--duration", "300ms")
	require.Equal(t, 0, code, stderr)
	assert.Empty(t, stderr)
	for _, want := range []string{
		`^echo of echo 1\.2\.3: 64 bytes in, 64 out, 1 at a time, \d+\.\d s\n\n`,
		`\n +mean +p50 +p90 +p99 +p99\.9 +max +calls/s\n`,
		`\nbare crossing( +[0-9.]+ [nµm]s){6} +\d+\n`,
		`\nin-process( +[0-9.]+ [nµm]s){6} +\d+\n`,
		`\nisolated( +[0-9.]+ [nµm]?s){6} +\d+\n`,
		`\nIn-process is [0-9.]+ bare crossings, isolated [0-9.]+ calls in-process\.\n`,
		`\n +from  in-process +isolated\n( +[0-9.]+ [nµm]?s.*\n)+$`,
	} {
		assert.Regexp(t, want, stdout)
	}
	assert.Contains(t, stdout, "####")
	assert.NotContains(t, stdout, "█", "not a terminal")
	assert.NotContains(t, stdout, "\x1b")
	assert.NotRegexp(t, `(?m) $`, stdout)
}

func TestBenchJSON(t *testing.T) {
	stdout, stderr, code := ferrule(t, "", "bench", fixture.C(t, "echo"), "echo", "--in", "hello", "--duration", "500ms", "--json")
	require.Equal(t, 0, code, stderr)
	var r benchResult
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&r))
	assert.Equal(t, "echo", r.Plugin)
	assert.Equal(t, "1.2.3", r.Version)
	assert.Equal(t, "echo", r.Function)
	assert.Equal(t, 5, r.InputBytes)
	assert.Equal(t, 5, r.OutputBytes)
	assert.Equal(t, 1, r.Parallel)
	assert.GreaterOrEqual(t, r.Seconds, 0.5)
	for name, c := range map[string]*costs{"bare": r.Bare, "in-process": r.InProcess, "isolated": r.Isolated} {
		assert.Positive(t, c.Calls, name) // a busy machine may let one of an isolated plug-in wait for a processor all the time
		assert.Greater(t, c.MeanNS, 0.0, name)
		assert.InEpsilon(t, 1e9/c.MeanNS, c.PerSecond, 0.001, "%s: one call at a time", name)
		assert.True(t, slices.IsSorted([]int64{c.P50, c.P90, c.P99, c.P999, c.Max}), "%s: %+v", name, c)
	}
	assert.Zero(t, r.Bare.Ratio)
	assert.InEpsilon(t, r.InProcess.MeanNS/r.Bare.MeanNS, r.InProcess.Ratio, 0.001)
	assert.InEpsilon(t, r.Isolated.MeanNS/r.InProcess.MeanNS, r.Isolated.Ratio, 0.001)
	for _, field := range []string{"file", "input_bytes", "clock_ns", "bare", "in_process", "isolated", "p999_ns", "per_second"} {
		assert.Contains(t, stdout, `"`+field+`"`)
	}
	assert.NotContains(t, stdout, "#", "no histogram")
}

// Serial plug-ins get an instance for each call at a time; hooks and functions that use their host are measured, too.
func TestBenchKinds(t *testing.T) {
	for _, args := range [][]string{
		{fixture.C(t, "state"), "next", "--parallel", "3"},
		{fixture.C(t, "echo"), "before_echo", "--hook"},
		{fixture.C(t, "rounds"), "rounds", "--answer", "host=" + strings.Repeat("x", 64)},
		{fixture.C(t, "host"), "upper", "--in", "a", "--import", "upper=cat", "--answer", "again=x"},
	} {
		stdout, stderr, code := ferrule(t, "", append([]string{"bench", "--json", "--duration", "200ms"}, args...)...)
		require.Equal(t, 0, code, stderr)
		var r benchResult
		require.NoError(t, json.Unmarshal([]byte(stdout), &r))
		assert.Positive(t, r.Isolated.Calls)
		assert.Less(t, r.Seconds, 30.0)
	}
}

// A slow function is called as often as there is time for, but once in each process.
func TestBenchSlow(t *testing.T) {
	slow := fixture.C(t, "fault_slow")
	for duration, calls := range map[string]int64{"200ms": 6, "1ns": 1} {
		stdout, stderr, code := ferrule(t, "", "bench", slow, "fault", "--in", "20", "--json", "--duration", duration)
		require.Equal(t, 0, code, stderr)
		var r benchResult
		require.NoError(t, json.Unmarshal([]byte(stdout), &r))
		for _, c := range []*costs{r.InProcess, r.Isolated} {
			assert.Positive(t, c.Calls)
			assert.LessOrEqual(t, c.Calls, calls)
			assert.GreaterOrEqual(t, c.P50, int64(19_800_000))
			assert.GreaterOrEqual(t, c.MeanNS, 20e6)
		}
	}
}

func TestBenchFails(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	require.NoError(t, os.WriteFile(text, []byte("not a library\n"), 0o666))
	echo := fixture.C(t, "echo")
	hangs := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("hangs") FERRULE_VERSION("1"));
		static int calls;
		FERRULE_FN(f) { (void)call; while (calls++ >= 50) calls--; return FERRULE_OK; }`)
	stopsInWorker := compiled(t, `#include <stdlib.h>
		FERRULE_PLUGIN(FERRULE_NAME("stops_in_worker") FERRULE_VERSION("1"));
		FERRULE_STOP { (void)call; if (!getenv("PATH")) abort(); return FERRULE_OK; }
		FERRULE_FN(f) { (void)call; return FERRULE_OK; }`)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{echo, "ecko"}, 2, `found no function "ecko" in plug-in echo, expected one that it has. Did you mean "echo"?`},
		{[]string{echo}, 2, "found no FUNCTION on the command line, expected ferrule bench FILE FUNCTION"},
		{[]string{echo, "echo", "--duration", "0s"}, 2, "found --duration 0s, expected more than 0"},
		{[]string{echo, "echo", "--timeout", "-1s"}, 2, "found --timeout -1s, expected more than 0"},
		{[]string{echo, "echo", "--parallel", "0"}, 2, "found --parallel 0, expected 1 to 256"},
		{[]string{echo, "echo", "--in", "@" + dir + "/missing"}, 2, "found --in @" + dir + "/missing: "},
		{[]string{fixture.C(t, "state"), "next", "--config", "@" + dir + "/missing"}, 2, "found --config @" + dir + "/missing: "},
		{[]string{echo, "echo", "--config", "x"}, 2, "found --config for plug-in echo, which takes no configuration"},
		{[]string{echo, "echo", "--parallel", "257"}, 2, "found --parallel 257, expected 1 to 256"},
		{[]string{echo, "echo", "--answer", "x"}, 2, `found --answer x, expected NAME=TEXT or NAME=@FILE`},
		{[]string{text, "echo"}, 3, "not a shared library: found a text file"},
		{[]string{dir, "echo"}, 3, "found a folder, expected"},
		{[]string{dir + "/missing.so", "echo"}, 3, "missing.so"},
		{[]string{fixture.C(t, "import_not_offered"), "answer"}, 2, "--answer loyalty_pionts=7"},
		{[]string{echo, "echo", "--import", "x=y"}, 2, "an answer for x, which plug-in echo does not import"},
		{[]string{echo, "echo", "--allow-read", "/"}, 2, "found --allow-read without --sandbox"},
		{[]string{echo, "fail", "--in", "no reason"}, 1, "no reason"},
		{[]string{fixture.C(t, "fault_sigsegv"), "fault"}, 4, "segmentation fault"},
		{[]string{hangs, "f", "--timeout", "2s", "--duration", "100ms"}, 4, "plug-in hangs: f: out of time after 2s (--timeout)"},
		{[]string{stopsInWorker, "f", "--duration", "50ms"}, 4, "plug-in stops_in_worker: ferrule_stop: the worker was ended by the signal"},
		{[]string{fixture.C(t, "fault_infinite_loop"), "fault", "--timeout", "2s"}, 4, "fault_infinite_loop"},
	} {
		stdout, stderr, code := ferrule(t, "", append([]string{"bench"}, test.args...)...)
		assert.Equal(t, test.code, code, "%v: %s", test.args, stderr)
		assert.Contains(t, stderr, test.want)
		assert.Empty(t, stdout)
	}
}

// The percentiles are those of the values, to less than 1 %.
func TestLatencies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h, rest latencies
	values := make([]int64, 100_000)
	for i := range values {
		values[i] = int64(1) << random.IntN(40)
		values[i] += random.Int64N(values[i])
		if i%2 == 0 {
			h.add(time.Duration(values[i]))
		} else {
			rest.add(time.Duration(values[i]))
		}
	}
	h.merge(&rest)
	slices.Sort(values)
	for _, q := range []float64{0.00001, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[max(0, int(q*float64(len(values)))-1)]
		assert.InEpsilon(t, want, h.quantile(q), 0.01, "%v", q)
	}
	assert.Equal(t, values[len(values)-1], h.max)
	assert.Zero(t, new(latencies).quantile(0.5))

	for i := range len(h.counts) {
		from := bucketFrom(i)
		if i > 0 {
			assert.Greater(t, from, bucketFrom(i-1))
			assert.Equal(t, i-1, bucketOf(uint64(from-1)))
		}
		assert.Equal(t, i, bucketOf(uint64(from)))
	}
}

func TestNanoseconds(t *testing.T) {
	for ns, want := range map[float64]string{
		0: "0 ns", 1: "1 ns", 36.64: "36.6 ns", 999.4: "999 ns", 999.6: "1 µs", 1234: "1.23 µs", 9_996: "10 µs",
		123_456: "123 µs", 2.5e6: "2.5 ms", 1e9: "1 s", 6.1234e12: "6123 s",
	} {
		assert.Equal(t, want, nanoseconds(ns))
	}
}

func TestHistogram(t *testing.T) {
	var quick, slow latencies
	for range 3 {
		quick.add(70)
	}
	quick.add(150)
	for range 1_000_000 {
		slow.add(30_000)
	}
	slow.add(time.Minute)
	var b strings.Builder
	histogram(&b, false, []string{"quick", "slow"}, []*latencies{&quick, &slow})
	want := `
     from  quick                             slow
    50 ns  ##################        75.00%
   100 ns  ######                    25.00%
    20 µs                                    ######################## 100.00%
`
	squeezed := regexp.MustCompile(`(?m)^ *\d+ .s\n`).ReplaceAllString(b.String(), "") // rows with nothing
	assert.Equal(t, want, squeezed)

	b.Reset()
	histogram(&b, true, []string{"quick"}, []*latencies{&quick})
	assert.Contains(t, b.String(), "    50 ns  ██████████████████        75.00%\n")
	assert.Equal(t, "▏"+strings.Repeat(" ", barWidth-1), bar(1e-6, true))
	assert.Equal(t, strings.Repeat(" ", barWidth), bar(0, true))
}

package web

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
)

// bounds are what a call may take to count in a bucket: 1, 2.5 and 5 of each power of ten from 10 µs to 10 s.
var bounds = func() (all []time.Duration) {
	for d := 10 * time.Microsecond; d < 10*time.Second; d *= 10 {
		all = append(all, d, d*5/2, d*5)
	}
	return append(all, 10*time.Second)
}()

// numbers are those of one function's calls.
type numbers struct {
	running atomic.Int64
	by      counters[abi.Status]
	buckets [20]atomic.Uint64 // each has those that are in none before it; the last one all others
	nanos   atomic.Int64      // of all
}

// begin counts a call that begins, and returns when that was.
func (n *numbers) begin() time.Time {
	n.running.Add(1)
	return time.Now()
}

// end counts one that has ended.
func (n *numbers) end(begun time.Time, status abi.Status) {
	took := time.Since(begun)
	n.running.Add(-1)
	i, _ := slices.BinarySearch(bounds, took)
	n.buckets[i].Add(1)
	n.nanos.Add(int64(took))
	n.by.add(status)
}

// most is how many keys are counted by themselves: a plug-in has two thousand million statuses of its own.
const most = 64

// counters count by keys. Those beyond most are counted together, as the key -1.
type counters[K ~int | ~int32] struct {
	mu sync.Mutex
	of map[K]uint64
}

func (c *counters[K]) add(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[K]uint64)
	}
	if _, known := c.of[key]; !known && len(c.of) >= most {
		key = -1
	}
	c.of[key]++
}

// each goes through them in the order of their keys, with the key as a label has it.
func (c *counters[K]) each(do func(key string, n uint64)) {
	c.mu.Lock()
	of := maps.Clone(c.of)
	c.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(of)) {
		label := strconv.Itoa(int(key))
		if key < 0 {
			label = "other"
		}
		do(label, of[key])
	}
}

// metrics are the numbers in the text format of Prometheus.
func (h *Handler) metrics() []byte {
	var b bytes.Buffer
	family := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	labels := func(f *function) string { return fmt.Sprintf(`kind="%s",function="%s"`, f.kind, f.name) }
	info := h.plugin.Info()
	family("ferrule_plugin_info", "gauge", "1, with the plug-in's name and version")
	fmt.Fprintf(&b, "ferrule_plugin_info{name=\"%s\",version=\"%s\"} 1\n", label(info.Manifest.Name), label(info.Manifest.Version))
	family("ferrule_calls_total", "counter", "Calls that have ended, by the status that they had: 0 is success, 9 that it had nothing to say, others are failures")
	for _, f := range h.all {
		f.numbers.by.each(func(status string, n uint64) {
			fmt.Fprintf(&b, "ferrule_calls_total{%s,status=\"%s\"} %d\n", labels(f), status, n)
		})
	}
	family("ferrule_calls_in_flight", "gauge", "Calls that run, or wait for an instance")
	for _, f := range h.all {
		fmt.Fprintf(&b, "ferrule_calls_in_flight{%s} %d\n", labels(f), f.numbers.running.Load())
	}
	family("ferrule_call_duration_seconds", "histogram", "How long calls took, with waiting for an instance")
	for _, f := range h.all {
		sum := uint64(0)
		for i, bound := range bounds {
			sum += f.numbers.buckets[i].Load()
			fmt.Fprintf(&b, "ferrule_call_duration_seconds_bucket{%s,le=\"%s\"} %d\n", labels(f), strconv.FormatFloat(bound.Seconds(), 'g', -1, 64), sum)
		}
		sum += f.numbers.buckets[len(bounds)].Load()
		fmt.Fprintf(&b, "ferrule_call_duration_seconds_bucket{%s,le=\"+Inf\"} %d\n", labels(f), sum)
		fmt.Fprintf(&b, "ferrule_call_duration_seconds_sum{%s} %s\n", labels(f), strconv.FormatFloat(time.Duration(f.numbers.nanos.Load()).Seconds(), 'g', -1, 64))
		fmt.Fprintf(&b, "ferrule_call_duration_seconds_count{%s} %d\n", labels(f), sum)
	}
	family("ferrule_requests_refused_total", "counter", "Requests that were no call, by their HTTP status")
	h.refused.each(func(code string, n uint64) {
		fmt.Fprintf(&b, "ferrule_requests_refused_total{code=\"%s\"} %d\n", code, n)
	})
	return b.Bytes()
}

// label is text as the value of a label.
func label(text string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(text)
}

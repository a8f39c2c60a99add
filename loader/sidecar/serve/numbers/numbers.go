// Package numbers counts what is served of a plug-in, and writes that in the text format of Prometheus.
package numbers

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
)

// Metrics are the numbers of one plug-in, for all who are served with it. The zero value counts; its methods may be called from any goroutine.
type Metrics struct {
	// Connections are what hosts or clients have open; Sessions are those of hosts that have said hello.
	Connections, Sessions Gauge
	// Ended are sessions and connections of hosts, by how they have ended: see the words of End.
	Ended [len(Ends)]atomic.Uint64
	// Refused are requests by HTTP that were no call, by status.
	Refused Counters[int]
	// Unknown are calls by the wire that nothing was run for, by status.
	Unknown Counters[abi.Status]

	once  sync.Once
	known atomic.Bool
	about *abi.Description
	funcs [3]map[string]*Function
	all   []*Function // in the order of their kinds, and of what the plug-in says
	web   bool
}

// Gauge is how many there are, and how many there were.
type Gauge struct {
	Open  atomic.Int64
	Total atomic.Uint64
}

// Begin counts one, until the function that it returns is called, once: each call counts one less. Both may be called from any goroutine.
func (g *Gauge) Begin() (end func()) {
	g.Total.Add(1) // first, as what is open is read first
	g.Open.Add(1)
	return func() { g.Open.Add(-1) }
}

// End is how a host's connection has ended.
type End int

// The ends.
const (
	Closed  End = iota // as one side may
	Broken             // it broke the wire, or off
	Refused            // before it was a session: without the token, a place, or a hello
)

// Ends are their words.
var Ends = [...]string{Closed: "closed", Broken: "broken", Refused: "refused"}

// Kind is what can be called.
type Kind int

// The kinds.
const (
	Func Kind = iota
	Hook
	Service // by the wire alone
)

var kinds = [...]string{Func: "fn", Hook: "hook", Service: "service"}

// Function has the numbers of one that can be called.
type Function struct {
	kind, name string
	running    atomic.Int64
	by         Counters[abi.Status]
	buckets    [20]atomic.Uint64 // each has those that are in none before it; the last one all others
	nanos      atomic.Int64      // of all
	in, out    atomic.Uint64     // bytes
}

// bounds are what a call may take to count in a bucket: 1, 2.5 and 5 of each power of ten from 10 µs to 10 s.
var bounds = func() (all []time.Duration) {
	for d := 10 * time.Microsecond; d < 10*time.Second; d *= 10 {
		all = append(all, d, d*5/2, d*5)
	}
	return append(all, 10*time.Second)
}()

// Of says which plug-in that is, and whether it is served by HTTP. Whatever serves it says so; before that, it is for who shows the numbers earlier. The first one counts.
func (m *Metrics) Of(about *abi.Description, web bool) {
	m.once.Do(func() {
		m.about, m.web = about, web
		var names [3][]string
		if !web {
			names[Service] = []string{"start"}
			for i, has := range []bool{about.HasConfigure, about.HasSave, about.HasResume} {
				if has {
					names[Service] = append(names[Service], [...]string{"configure", "save", "resume"}[i])
				}
			}
		}
		for kind, symbols := range [][]abi.Symbol{about.Funcs, about.Hooks} {
			for _, s := range symbols {
				names[kind] = append(names[kind], s.Name)
			}
		}
		for kind, of := range names {
			m.funcs[kind] = make(map[string]*Function)
			for _, name := range of {
				f := &Function{kind: kinds[kind], name: name}
				m.funcs[kind][name] = f
				m.all = append(m.all, f)
			}
		}
		m.known.Store(true)
	})
}

// Function returns the numbers of one; nil of what the plug-in does not have. Of comes first.
func (m *Metrics) Function(kind Kind, name string) *Function { return m.funcs[kind][name] }

// Begin counts a call that begins, and returns when that was. On nil it does nothing, as the other methods.
func (f *Function) Begin() (at time.Time) {
	if f != nil {
		f.running.Add(1)
		at = time.Now()
	}
	return at
}

// Took counts bytes of an input, or of its stream.
func (f *Function) Took(n int) {
	if f != nil {
		f.in.Add(uint64(n))
	}
}

// Gave counts bytes of an output, or of its stream.
func (f *Function) Gave(n int) {
	if f != nil {
		f.out.Add(uint64(n))
	}
}

// End counts a call that has ended.
func (f *Function) End(begun time.Time, status abi.Status) {
	if f == nil {
		return
	}
	took := time.Since(begun)
	i, _ := slices.BinarySearch(bounds, took)
	f.buckets[i].Add(1)
	f.nanos.Add(int64(took))
	f.by.Add(status)
	f.running.Add(-1) // last: a call that is not in flight is counted everywhere
}

// most is how many keys are counted by themselves: a plug-in has two thousand million statuses of its own.
const most = 64

// Counters count by keys. Those beyond most are counted together, as the key -1.
type Counters[K ~int | ~int32] struct {
	mu sync.Mutex
	of map[K]uint64
}

// Add counts one.
func (c *Counters[K]) Add(key K) {
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
func (c *Counters[K]) each(do func(key string, n uint64)) {
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

// WriteTo writes the numbers in the text format of Prometheus, version 0.0.4; nothing before anything is served.
func (m *Metrics) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(m.text())
	return int64(n), err
}

func (m *Metrics) text() []byte {
	if !m.known.Load() {
		return nil
	}
	// What is open and in flight is read before what there was: what has ended by then is in each number of the text, but for pieces of its streams that still come.
	connections, sessions := m.Connections.Open.Load(), m.Sessions.Open.Load()
	running := make([]int64, len(m.all))
	for i, f := range m.all {
		running[i] = f.running.Load()
	}
	var b bytes.Buffer
	family := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	number := func(name, kind, help string, n any) {
		family(name, kind, help)
		fmt.Fprintf(&b, "%s %d\n", name, n)
	}
	labels := func(f *Function) string { return fmt.Sprintf(`kind="%s",function="%s"`, f.kind, f.name) }
	family("ferrule_plugin_info", "gauge", "1, with the plug-in's name and version")
	fmt.Fprintf(&b, "ferrule_plugin_info{name=\"%s\",version=\"%s\"} 1\n", label(m.about.Manifest.Name), label(m.about.Manifest.Version))
	family("ferrule_calls_total", "counter", "Calls that have ended, by the status that they had: 0 is success, 9 that it had nothing to say, others are failures")
	for _, f := range m.all {
		f.by.each(func(status string, n uint64) {
			fmt.Fprintf(&b, "ferrule_calls_total{%s,status=\"%s\"} %d\n", labels(f), status, n)
		})
	}
	family("ferrule_calls_in_flight", "gauge", "Calls that run, or wait for an instance")
	for i, f := range m.all {
		fmt.Fprintf(&b, "ferrule_calls_in_flight{%s} %d\n", labels(f), running[i])
	}
	family("ferrule_call_duration_seconds", "histogram", "How long calls took, with waiting for an instance")
	for _, f := range m.all {
		sum := uint64(0)
		for i, bound := range bounds {
			sum += f.buckets[i].Load()
			fmt.Fprintf(&b, "ferrule_call_duration_seconds_bucket{%s,le=\"%s\"} %d\n", labels(f), seconds(bound), sum)
		}
		sum += f.buckets[len(bounds)].Load()
		fmt.Fprintf(&b, "ferrule_call_duration_seconds_bucket{%s,le=\"+Inf\"} %d\n", labels(f), sum)
		fmt.Fprintf(&b, "ferrule_call_duration_seconds_sum{%s} %s\n", labels(f), seconds(time.Duration(f.nanos.Load())))
		fmt.Fprintf(&b, "ferrule_call_duration_seconds_count{%s} %d\n", labels(f), sum)
	}
	family("ferrule_call_input_bytes_total", "counter", "Bytes of inputs, with those of streams")
	for _, f := range m.all {
		fmt.Fprintf(&b, "ferrule_call_input_bytes_total{%s} %d\n", labels(f), f.in.Load())
	}
	family("ferrule_call_output_bytes_total", "counter", "Bytes of outputs and of messages of failures, with those of streams")
	for _, f := range m.all {
		fmt.Fprintf(&b, "ferrule_call_output_bytes_total{%s} %d\n", labels(f), f.out.Load())
	}
	number("ferrule_connections_open", "gauge", "Connections that are open", connections)
	number("ferrule_connections_total", "counter", "Connections that there were", m.Connections.Total.Load())
	if m.web {
		family("ferrule_requests_refused_total", "counter", "Requests that were no call, by their HTTP status")
		m.Refused.each(func(code string, n uint64) {
			fmt.Fprintf(&b, "ferrule_requests_refused_total{code=\"%s\"} %d\n", code, n)
		})
		return b.Bytes()
	}
	number("ferrule_sessions_open", "gauge", "Hosts that have said hello, and have not ended", sessions)
	number("ferrule_sessions_total", "counter", "Hosts that have said hello", m.Sessions.Total.Load())
	family("ferrule_connections_ended_total", "counter", "Connections that have ended: closed as one side may, broken as by what is no message, or refused without a token, a place or a hello")
	for end, word := range Ends {
		fmt.Fprintf(&b, "ferrule_connections_ended_total{end=\"%s\"} %d\n", word, m.Ended[end].Load())
	}
	family("ferrule_calls_unknown_total", "counter", "Calls of what the plug-in does not have, by status")
	m.Unknown.each(func(status string, n uint64) {
		fmt.Fprintf(&b, "ferrule_calls_unknown_total{status=\"%s\"} %d\n", status, n)
	})
	return b.Bytes()
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) }

// label is text as the value of a label.
func label(text string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(text)
}

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// What a call costs as the work grows, and as its callers do: in-process, isolated, as streams, and by three peers.

// costContenders are one of each kind, in the order of the pictures' reports.
var costContenders = append(pick("ferrule-append", "ferrule-isolated"), append([]*contender{stream, streamIsolated},
	pick("cgo", "go-plugin-grpc", "extism")...)...)

// pick returns those of all with these ids, in this order.
func pick(ids ...string) (some []*contender) {
	for _, id := range ids {
		some = append(some, all[slices.IndexFunc(all, func(c *contender) bool { return c.id() == id })])
	}
	return some
}

// sizeCases are payloads from nothing to 256 MiB, each of which goes in and comes back.
var sizeCases = []work{
	{fn: "echo", size: 0}, {fn: "echo", size: 64, quick: true}, {fn: "echo", size: 1 << 10},
	{fn: "echo", size: 16 << 10, quick: true}, {fn: "echo", size: 256 << 10}, {fn: "echo", size: 1 << 20, quick: true},
	{fn: "echo", size: 16 << 20}, {fn: "echo", size: 256 << 20},
}

// callerCounts are how many goroutines make calls at the same time.
var callerCounts = []int{1, 2, 4, 8, 16, 32, 64}

// percentiles are what is measured of a call's time under so many callers, beside the throughput.
var percentiles = []int{50, 99}

// callerSize is how long the payload is that they send.
const callerSize = 64

// callerCases are, for each count, the throughput and the percentiles.
var callerCases = func() (cases []work) {
	for _, n := range callerCounts {
		quick := n == 1 || n == 8
		for _, percent := range append([]int{0}, percentiles...) {
			cases = append(cases, work{fn: "echo", size: callerSize, callers: n, percent: percent, quick: quick})
		}
	}
	return cases
}()

// at returns the row of a case, or -1 where the plan does not have it.
func (r *results) at(w work) int {
	return slices.IndexFunc(r.cases, func(other work) bool { return other.String() == w.String() })
}

// sizeReport is what RESULTS.md has of cost over size.
func (r *results) sizeReport(m *machine) string {
	return "![time of one call over the size of its payload, one line for each way to call, both axes logarithmic]" +
		"(sizes.svg)\n\n" +
		r.head(m) +
		"### Medians by size\n\nTime of one call, whose payload goes in and comes back.\n\n" + r.overview() +
		"\n### All figures by size\n\n" + aboutFigures + r.table()
}

// sizePicture is cost over size.
func (r *results) sizePicture(m *machine) string {
	p := picture{title: "Time of one call over the size of its payload, which goes in and comes back", notes: r.notes(m),
		unit: duration, tick: tick}
	for _, w := range r.cases {
		p.x = append(p.x, mark{sizeAt(w.size), bytesText(w.size)})
	}
	for k, c := range r.contenders {
		s := series{contender: c}
		for i, w := range r.cases {
			if cell := r.cells[i][k]; cell.why == "" {
				s.points = append(s.points, point{sizeAt(w.size), median(cell.ns)})
			}
		}
		p.series = append(p.series, s)
	}
	return p.String()
}

// sizeAt is where a size is on a logarithmic axis of base two. Nothing has no logarithm: it is as far from 64 B as that is
// from 1 KiB.
func sizeAt(size int) float64 {
	if size == 0 {
		return 2
	}
	return math.Log2(float64(size))
}

// wantCores is the size of machine that the callers' figures are asked for on, beside whatever they were measured on.
const wantCores = 16

// notHad says, on a smaller machine, that there are no figures of one with so many cores.
func notHad(cores int) string {
	if cores >= wantCores {
		return ""
	}
	return fmt.Sprintf("%d cores: not had", wantCores)
}

// notes are the lines below the title of a picture.
func (r *results) notes(m *machine) []string {
	return []string{fmt.Sprintf("median of %d rounds, both axes logarithmic", r.rounds),
		fmt.Sprintf("%s, %d cores, %s", m.get("CPU"), m.cores, m.get("Go"))}
}

// callerTable is every count and contender: throughput with its ratios, and percentiles of a call's time.
func (r *results) callerTable() string {
	var s strings.Builder
	s.WriteString("| callers | contender | calls/s | quartiles | to go-plugin | to one caller | p50 | p99 |\n")
	s.WriteString("|--:|---|--:|--:|--:|--:|--:|--:|\n")
	row := func(n, percent, k int) (c cell, ok bool) {
		i := r.at(work{fn: "echo", size: callerSize, callers: n, percent: percent})
		if i < 0 || k < 0 {
			return cell{}, false
		}
		return r.cells[i][k], r.cells[i][k].why == ""
	}
	for _, n := range callerCounts {
		for k, c := range r.contenders {
			own, ok := row(n, 0, k)
			if !ok {
				continue
			}
			faster := func(n, k int) string {
				if other, ok := row(n, 0, k); ok {
					return digits(ratio(other.ns, own.ns)) + " ×"
				}
				return ""
			}
			q1, m, q3 := quartiles(own.ns)
			fmt.Fprintf(&s, "| %d | %s | %s | %s to %s | %s | %s |", n, c.label, rate(m), rate(q3), rate(q1),
				faster(n, r.index(overGRPC)), faster(callerCounts[0], k))
			for _, percent := range percentiles {
				if cell, ok := row(n, percent, k); ok {
					s.WriteString(" " + duration(median(cell.ns)))
				}
				s.WriteString(" |")
			}
			s.WriteString("\n")
		}
	}
	return s.String()
}

// callerReport is what RESULTS.md has of throughput over callers.
func (r *results) callerReport(m *machine) string {
	var s strings.Builder
	s.WriteString("![calls a second over the number of callers, one line for each way to call, both axes logarithmic]" +
		"(callers.svg)\n\n")
	s.WriteString(r.head(m))
	if text := notHad(m.cores); text != "" {
		fmt.Fprintf(&s, "**%s.** What follows is of %d cores: how it goes on where there are more is not measured, and not "+
			"guessed.\n\n", text, m.cores)
	}
	fmt.Fprintf(&s, "Calls a second of all callers together, each a goroutine that makes one `echo` of %s after the other. "+
		"A ratio is the median of the rounds' ratios of throughputs: more than 1 is faster. p50 and p99 are what 50 and 99 of "+
		"100 calls take at most, measured in calls of their own, with some 50 ns for looking at the clock; the time in which a "+
		"goroutine waits for a core before its call is not a call's.\n\n", bytesText(callerSize))
	s.WriteString(r.callerTable())
	return s.String()
}

// callerPicture is throughput over callers.
func (r *results) callerPicture(m *machine) string {
	p := picture{title: fmt.Sprintf("Calls a second over callers at the same time, echo of %s", bytesText(callerSize)),
		notes: r.notes(m),
		unit:  func(calls float64) string { return perSecond(calls, digits) + " calls/s" },
		tick:  func(calls float64) string { return perSecond(calls, whole) + "/s" }}
	if text := notHad(m.cores); text != "" {
		p.notes[1] += "; " + text
	}
	for k, c := range r.contenders {
		s := series{contender: c}
		for _, n := range callerCounts {
			i := r.at(work{fn: "echo", size: callerSize, callers: n})
			if i < 0 {
				continue
			}
			if k == 0 {
				p.x = append(p.x, mark{math.Log2(float64(n)), fmt.Sprint(n)})
			}
			if cell := r.cells[i][k]; cell.why == "" {
				s.points = append(s.points, point{math.Log2(float64(n)), 1e9 / median(cell.ns)})
			}
		}
		p.series = append(p.series, s)
	}
	return p.String()
}

// rate prints calls a second from the nanoseconds of one.
func rate(ns float64) string { return perSecond(1e9/ns, digits) }

// perSecond prints a number, by way of text, with the prefix that suits it.
func perSecond(n float64, text func(float64) string) string {
	for _, u := range []struct {
		name string
		n    float64
	}{{" M", 1e6}, {" k", 1e3}} {
		// What rounds to 1000 of one prefix is 1 of the next.
		if n >= 0.9995*u.n {
			return text(n/u.n) + u.name
		}
	}
	return text(n)
}

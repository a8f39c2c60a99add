package main

import (
	"fmt"
	"strings"
)

// streamSize is how long the streams are. Their pieces are of 64 KiB, which is what Ferrule's are.
const streamSize = 32 << 20

// streamCases are the work on streams: to take one, and to take one and give one.
var streamCases = []work{{fn: "sha256", size: streamSize, quick: true}, {fn: "pipe", size: streamSize, quick: true}}

// What the ratios of streams are of.
const (
	atOnce    = "ferrule-at-once"
	inProcess = "ferrule-stream"
	overGRPC  = "go-plugin-grpc"
)

var (
	stream = &contender{name: inProcess, label: "Ferrule `Stream`", build: workerCgo, ours: true,
		needs: []artifact{streamPlugin}, work: "C"}
	streamIsolated = &contender{name: "ferrule-stream-isolated", label: "Ferrule `Stream`, isolated", build: workerCgo,
		ours: true, needs: []artifact{streamPlugin}, work: "C"}
)

var streamContenders = []*contender{
	{name: atOnce, label: "Ferrule `Append`, all bytes at once", build: workerCgo, ours: true, needs: []artifact{streamPlugin}, work: "C"},
	stream,
	{name: "ferrule-at-once-isolated", label: "Ferrule `Append`, all bytes at once, isolated", build: workerCgo, ours: true,
		needs: []artifact{streamPlugin}, work: "C"},
	streamIsolated,
	{name: overGRPC, label: "go-plugin, gRPC streaming", build: workerCgo, needs: []artifact{hashicorpPlugin}, work: "Go",
		module: "github.com/hashicorp/go-plugin"},
}

// streamTable is every case and contender, as throughput. A ratio of more than 1 is a higher throughput.
func (r *results) streamTable() string {
	var s strings.Builder
	s.WriteString("| case | contender | MB/s | quartiles | to all bytes at once | to `Stream` in process | to gRPC | allocations |\n")
	s.WriteString("|---|---|--:|--:|--:|--:|--:|--:|\n")
	faster := func(i, k int, id string) string {
		other := r.index(id)
		if other < 0 || r.cells[i][other].why != "" {
			return ""
		}
		return digits(ratio(r.cells[i][other].ns, r.cells[i][k].ns)) + " ×"
	}
	for i, w := range r.cases {
		speed := func(ns float64) string { return digits(float64(w.size) / ns * 1e3) }
		for k, c := range r.contenders {
			cell := r.cells[i][k]
			if cell.why != "" {
				fmt.Fprintf(&s, "| %s | %s | none: %s | | | | | |\n", w, c.label, cell.why)
				continue
			}
			q1, m, q3 := quartiles(cell.ns)
			fmt.Fprintf(&s, "| %s | %s | %s | %s to %s | %s | %s | %s | %.0f |\n", w, c.label, speed(m), speed(q3), speed(q1),
				faster(i, k, atOnce), faster(i, k, inProcess), faster(i, k, overGRPC), cell.allocs)
		}
	}
	return s.String()
}

// streamReport is what STREAMS.md has of it.
func (r *results) streamReport(m *machine) string {
	var s strings.Builder
	s.WriteString(r.head(m))
	s.WriteString("Medians of the rounds. A ratio is the median of the rounds' ratios of throughputs: more than 1 is faster. Allocations are for\n" +
		"each whole stream, in the host's process only.\n\n")
	s.WriteString(r.streamTable())
	return s.String()
}

package main

import (
	"fmt"
	"slices"
	"strings"
)

// What a sidecar costs, beside the plug-ins of go-plugin, which are programs as well.

const (
	overStdio  = "sidecar-stdio"
	overNetRPC = "go-plugin-netrpc"
	inPython   = "sidecar-python"
)

// sidecarContenders are those of the part: a program in Go by each of the four ways, one in Python, and what else speaks to a process.
var sidecarContenders = slices.Concat([]*contender{
	{name: overStdio, label: "Ferrule, a sidecar in Go, descriptors", build: workerCgo, ours: true, needs: []artifact{goSidecar}, work: "Go"},
	{name: "sidecar-unix", label: "Ferrule, a sidecar in Go, Unix socket", build: workerCgo, ours: true, needs: []artifact{goSidecar}, work: "Go"},
	{name: "sidecar-tcp", label: "Ferrule, a sidecar in Go, TCP", build: workerCgo, ours: true, needs: []artifact{goSidecar}, work: "Go"},
	{name: "sidecar-fifo", label: "Ferrule, a sidecar in Go, FIFOs", build: workerCgo, ours: true, needs: []artifact{goSidecar}, work: "Go"},
	{name: inPython, label: "Ferrule, a sidecar in Python, standard streams", build: workerCgo, ours: true, needs: []artifact{pythonSidecar}, work: "Python"},
}, pick("ferrule-isolated", overNetRPC, overGRPC))

var sidecarCases = []work{
	{fn: "echo", size: 64, quick: true}, {fn: "echo", size: 4 << 10}, {fn: "echo", size: 64 << 10}, {fn: "echo", size: 1 << 20, quick: true},
	{fn: "echo", size: 64, callers: 4}, {fn: "echo", size: 64, callers: 32, quick: true}, {fn: "echo", size: 64, callers: 256},
	{fn: "ask", size: 64, quick: true}, {fn: opening, size: 64, quick: true},
}

var sidecarGoals = []goal{
	{what: "echo, 64 B, time beside gRPC", of: overStdio, beside: overGRPC, work: work{fn: "echo", size: 64}, bound: 1. / 5},
	{what: "echo, 1 MiB, time beside gRPC", of: overStdio, beside: overGRPC, work: work{fn: "echo", size: 1 << 20}, bound: 1. / 3},
	{what: "echo, 64 B, 32 callers, calls a second beside gRPC", of: overStdio, beside: overGRPC, work: work{fn: "echo", size: 64, callers: 32}, calls: true,
		bound: 5, atLeast: true},
}

// sidecarTable is every case and contender, and behind it the goals.
func (r *results) sidecarTable() string {
	var s strings.Builder
	s.WriteString("| case | contender | least | median | quartiles | to gRPC | to net/rpc | allocations |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for i, w := range r.cases {
		for k, c := range r.contenders {
			cell := r.cells[i][k]
			if cell.why != "" {
				fmt.Fprintf(&s, "| %s | %s | none: %s | | | | | |\n", w, c.label, cell.why)
				continue
			}
			to := func(other string) string {
				if x := r.besides(w, c.id(), other); x > 0 {
					return digits(x) + " ×"
				}
				return ""
			}
			q1, m, q3 := quartiles(cell.ns)
			fmt.Fprintf(&s, "| %s | %s | %s | %s | %s to %s | %s | %s | %.0f |\n", w, c.label, duration(slices.Min(cell.ns)), duration(m), duration(q1),
				duration(q3), to(overGRPC), to(overNetRPC), cell.allocs)
		}
	}
	return s.String() + "\n" + r.goalTable(sidecarGoals)
}

// sidecarReport is what RESULTS.md has of sidecars.
func (r *results) sidecarReport(m *machine) string {
	return r.head(m) + "Time of one call; with several callers, wall time over the calls of all. A ratio is that of the least of the rounds, because whatever else the machine does " +
		"only adds. Allocations are for each call, in the host's process only. Of goals that are missed nothing fails.\n\n" + r.sidecarTable()
}

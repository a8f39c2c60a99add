package main

import (
	"fmt"
	"slices"
	"strings"
)

// What a plug-in in Go costs in each of its forms, which are of one source, beside what else loads or starts Go code.

const (
	goInterface = "go-interface"
	goBuiltin   = "go-builtin"
	goSidecarOf = "go-sidecar"
	goLibrary   = "go-library"
	goModule    = "go-wasm"
)

var goContenders = slices.Concat([]*contender{
	{name: goInterface, label: "a Go call through an interface", build: workerCgo, work: "Go"},
	{name: goBuiltin, label: "Ferrule, compiled in", build: workerCgo, ours: true, work: "Go"},
	{name: goSidecarOf, label: "Ferrule, sidecar", build: workerCgo, ours: true, needs: []artifact{workSidecar}, work: "Go"},
	{name: goLibrary, label: "Ferrule, library, isolated", build: workerCgo, ours: true, needs: []artifact{workLibrary}, work: "Go"},
	{name: goModule, label: "Ferrule, module", build: workerCgo, ours: true, needs: []artifact{workModule}, work: "Go"},
}, pick(overNetRPC, overGRPC, "goplugin"))

var goCases = []work{
	{fn: "count_vowels", size: 64, quick: true}, {fn: "echo", size: 1 << 20, quick: true}, {fn: opening, size: 64, quick: true}, {fn: opening, size: 64, cache: warmCache},
	{fn: panicking, quick: true}, {fn: crashing, quick: true}, {fn: fileSize, quick: true}, {fn: hostMemory}, {fn: processMemory},
}

var goGoals = []goal{
	{what: "compiled in: count_vowels, 64 B, time beside a call through an interface", of: goBuiltin, beside: goInterface, work: work{fn: "count_vowels", size: 64}, bound: 3},
	{what: "sidecar: count_vowels, 64 B, time beside gRPC", of: goSidecarOf, beside: overGRPC, work: work{fn: "count_vowels", size: 64}, bound: 1. / 5},
	{what: "library, isolated: count_vowels, 64 B, time beside gRPC", of: goLibrary, beside: overGRPC, work: work{fn: "count_vowels", size: 64}, bound: 1. / 50},
}

// goTable is every case and contender, and behind it the goals.
func (r *results) goTable() string {
	var s strings.Builder
	s.WriteString("| case | contender | least | median | quartiles | to gRPC | to an interface | allocations |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
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
			figure, allocs := duration, whole(cell.allocs)
			if w.inBytes() {
				figure = memoryText
			}
			if w.inBytes() || w.fails() {
				allocs = ""
			}
			q1, m, q3 := quartiles(cell.ns)
			fmt.Fprintf(&s, "| %s | %s | %s | %s | %s to %s | %s | %s | %s |\n", w, c.label, figure(slices.Min(cell.ns)), figure(m), figure(q1),
				figure(q3), to(overGRPC), to(goInterface), allocs)
		}
	}
	return s.String() + "\n" + r.goalTable(goGoals)
}

// memoryText prints a number of bytes in the unit that suits it, with three digits.
func memoryText(bytes float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if bytes < 1000 {
			return digits(bytes) + " " + unit
		}
		bytes /= 1024
	}
	return digits(bytes) + " GiB"
}

// goReport is what RESULTS.md has of plug-ins in Go.
func (r *results) goReport(m *machine) string {
	return r.head(m) + "Time of one call, or what the case says. A ratio is that of the least of the rounds, because whatever else the machine does only adds. Allocations are for each " +
		"call, in the host's process only. Memory is what Linux calls PSS, in which processes share what they have in common, of one more open plug-in of the same file. Of goals that are " +
		"missed nothing fails.\n\n" + r.goTable()
}

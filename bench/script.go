package main

import (
	"fmt"
	"slices"
	"strings"
)

// What scripts cost: JavaScript in each of the ways to run it, beside interpreters in Go and node as a sidecar; Python, beside itself as a sidecar.

const (
	jsLibrary     = "script-library"
	inGoja        = "goja"
	pythonWorker  = "script-python"
	pythonProgram = "script-python-sidecar"
)

// Each has the one of its language beside which its ratio is.
var scriptContenders = []*contender{
	{name: "script-wasm", label: "Ferrule, JavaScript, WebAssembly", build: workerCgo, ours: true, work: "JavaScript", peer: inGoja},
	{name: jsLibrary, label: "Ferrule, JavaScript, library", build: workerCgo, ours: true, needs: []artifact{javascriptAdapter}, work: "JavaScript", peer: inGoja},
	{name: "script-worker", label: "Ferrule, JavaScript, library in a worker", build: workerCgo, ours: true, needs: []artifact{javascriptAdapter}, work: "JavaScript", peer: inGoja},
	{name: inGoja, label: "goja", build: workerCgo, work: "JavaScript", module: "github.com/dop251/goja", peer: inGoja},
	{name: "quickjs", label: "QuickJS in Go", build: workerCgo, work: "JavaScript", module: "modernc.org/quickjs", peer: inGoja},
	{name: "script-node-sidecar", label: "Ferrule, a sidecar in node, standard streams", build: workerCgo, ours: true, work: "JavaScript", peer: inGoja},
	{name: pythonWorker, label: "Ferrule, Python in a worker", build: workerCgo, ours: true, needs: []artifact{pythonAdapter}, work: "Python", peer: pythonProgram},
	{name: "script-python-here", label: "Ferrule, Python in this process", build: workerCgo, ours: true, needs: []artifact{pythonAdapter}, work: "Python", peer: pythonProgram},
	{name: pythonProgram, label: "Ferrule, the same Python as a sidecar, standard streams", build: workerCgo, ours: true, needs: []artifact{pythonAdapter}, work: "Python",
		peer: pythonProgram},
}

// jsonWithHostCall is the case whose input is not the text of the others, but a cart in JSON.
const jsonWithHostCall = "checkout"

var scriptCases = []work{
	{fn: "count_vowels", size: 64, quick: true}, {fn: "count_vowels", size: 64 << 10}, {fn: jsonWithHostCall, quick: true}, {fn: "echo", size: 64, quick: true},
}

var scriptGoals = []goal{
	{what: "JavaScript, library: count_vowels, 64 B, calls a second beside goja", of: jsLibrary, beside: inGoja, work: work{fn: "count_vowels", size: 64}, calls: true,
		bound: 3, atLeast: true},
	{what: "JavaScript, library: count_vowels, 64 KiB, calls a second beside goja", of: jsLibrary, beside: inGoja, work: work{fn: "count_vowels", size: 64 << 10}, calls: true,
		bound: 3, atLeast: true},
	{what: "Python in a worker: count_vowels, 64 B, time beside a sidecar", of: pythonWorker, beside: pythonProgram, work: work{fn: "count_vowels", size: 64}, bound: 1. / 3},
	{what: "Python in a worker: JSON with a host function, time beside a sidecar", of: pythonWorker, beside: pythonProgram, work: work{fn: jsonWithHostCall}, bound: 1},
}

// scriptTable is every case and contender, and behind it the goals.
func (r *results) scriptTable() string {
	var s strings.Builder
	s.WriteString("| case | contender | least | median | quartiles | to the peer | allocations |\n|---|---|--:|--:|--:|--:|--:|\n")
	for i, w := range r.cases {
		for k, c := range r.contenders {
			cell := r.cells[i][k]
			if cell.why != "" {
				fmt.Fprintf(&s, "| %s | %s | none: %s | | | | |\n", w, c.label, cell.why)
				continue
			}
			to := ""
			if x := r.besides(w, c.id(), c.peer); x > 0 {
				to = digits(x) + " ×"
			}
			q1, m, q3 := quartiles(cell.ns)
			fmt.Fprintf(&s, "| %s | %s | %s | %s | %s to %s | %s | %.0f |\n", w, c.label, duration(slices.Min(cell.ns)), duration(m), duration(q1), duration(q3), to, cell.allocs)
		}
	}
	return s.String() + "\n" + r.goalTable(scriptGoals)
}

// scriptReport is what RESULTS.md has of scripts.
func (r *results) scriptReport(m *machine) string {
	return r.head(m) + "Time of one call. A ratio is that of the least of the rounds, because whatever else the machine does only adds; the peer is goja for JavaScript, and for Python " +
		"the sidecar. Allocations are for each call, in the host's process only. Of goals that are missed nothing fails.\n\n" + r.scriptTable()
}

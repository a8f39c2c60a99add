package main

import (
	"fmt"
	"slices"
	"strings"
)

// What WebAssembly costs: the same source as a library and as a module, and Extism's plug-ins by Ferrule and by Extism's own SDK.

const (
	byHand     = "ferrule-wasm-by-hand" // the file that Ferrule opens, by wazero alone
	ofTheFile  = "ferrule-wasm"
	sameC      = "ferrule-extism"
	ownModule  = "ferrule-extism-own"
	ofThePDK   = "ferrule-extism-pdk"
	inThePDK   = "Rust, extism-pdk"
	intoModule = "C to WebAssembly"
)

// wasmContenders are those of the part, each of Extism's behind the one of Ferrule's that opens the same file.
var wasmContenders = slices.Concat(pick("ferrule-append", "ferrule-isolated"), []*contender{
	{name: ofTheFile, label: "Ferrule, WebAssembly", build: workerCgo, ours: true, needs: []artifact{ferruleModuleWasm}, work: intoModule, peer: byHand},
	{name: byHand, label: "wazero by hand, the same file", build: workerCgo, needs: []artifact{ferruleModuleWasm}, work: intoModule,
		module: "github.com/tetratelabs/wazero"},
}, pick("wazero"), []*contender{
	{name: sameC, label: "Ferrule, the same C for Extism", build: workerCgo, ours: true, needs: []artifact{extismModule}, work: intoModule, peer: "extism"},
}, pick("extism"), []*contender{
	{name: ownModule, label: "Ferrule, Extism's own module", build: workerCgo, ours: true, work: "its own", peer: "extism-own"},
}, pick("extism-own"), []*contender{
	{name: ofThePDK, label: "Ferrule, a plug-in of extism-pdk", build: workerCgo, ours: true, needs: []artifact{pdkModule}, work: inThePDK, peer: "extism-pdk"},
	{name: "extism-pdk", label: "Extism, a plug-in of extism-pdk", build: workerCgo, needs: []artifact{pdkModule}, work: inThePDK,
		module: "github.com/extism/go-sdk"},
})

var wasmCases = []work{
	{fn: "count_vowels", size: 64, quick: true}, {fn: "echo", size: 64, quick: true}, {fn: "echo", size: 4 << 10},
	{fn: "count_vowels", size: 64, callers: perCore, quick: true}, {fn: "echo", size: 64, callers: perCore, quick: true},
	{fn: opening, size: 64, quick: true}, {fn: opening, size: 64, cache: emptyCache}, {fn: opening, size: 64, cache: warmCache},
}

var wasmGoals = []goal{
	{what: "count_vowels, 64 B, beside wazero by hand", of: ofTheFile, beside: byHand, work: work{fn: "count_vowels", size: 64}, bound: 2.5},
	{what: "echo, 64 B, beside wazero by hand", of: ofTheFile, beside: byHand, work: work{fn: "echo", size: 64}, bound: 4},
	{what: "count_vowels, 64 B, the same C for Extism, beside Extism", of: sameC, beside: "extism", work: work{fn: "count_vowels", size: 64}, bound: 1. / 20},
	{what: "count_vowels, 64 B, Extism's own module, beside Extism", of: ownModule, beside: "extism-own", work: work{fn: "count_vowels", size: 64}, bound: 1. / 20},
	{what: "count_vowels, 64 B, a plug-in of extism-pdk, beside Extism", of: ofThePDK, beside: "extism-pdk", work: work{fn: "count_vowels", size: 64}, bound: 1. / 10},
	{what: "echo, 64 B, a plug-in of extism-pdk, beside Extism", of: ofThePDK, beside: "extism-pdk", work: work{fn: "echo", size: 64}, bound: 1. / 10},
	{what: "count_vowels, 64 B, gain by a caller for each core, beside wazero by hand", of: ofTheFile, beside: byHand, work: work{fn: "count_vowels", size: 64}, scaling: true,
		bound: 0.95, atLeast: true},
	{what: "echo, 64 B, gain by a caller for each core, beside wazero by hand", of: ofTheFile, beside: byHand, work: work{fn: "echo", size: 64}, scaling: true,
		bound: 0.95, atLeast: true},
}

// wasmTable is every case and contender, and behind it the goals.
func (r *results) wasmTable() string {
	var s strings.Builder
	s.WriteString("| case | contender | least | median | quartiles | to the peer | to Ferrule, native | to wazero by hand | allocations |\n")
	s.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for i, w := range r.cases {
		for k, c := range r.contenders {
			cell := r.cells[i][k]
			if cell.why != "" {
				fmt.Fprintf(&s, "| %s | %s | none: %s | | | | | | |\n", w, c.label, cell.why)
				continue
			}
			to := func(other string) string {
				if x := r.besides(w, c.id(), other); x > 0 {
					return digits(x) + " ×"
				}
				return ""
			}
			q1, m, q3 := quartiles(cell.ns)
			fmt.Fprintf(&s, "| %s | %s | %s | %s | %s to %s | %s | %s | %s | %.0f |\n", w, c.label, duration(slices.Min(cell.ns)), duration(m), duration(q1),
				duration(q3), to(c.peer), to(subject), to(byHand), cell.allocs)
		}
	}
	return s.String() + "\n" + r.goalTable(wasmGoals)
}

// wasmReport is what RESULTS.md has of WebAssembly.
func (r *results) wasmReport(m *machine) string {
	return r.head(m) + "Time of one call; parallel: wall time over the calls of all goroutines, one for each core, each with an instance. A ratio is that of the " +
		"least of the rounds, because whatever else the machine does only adds; the peer is the contender that runs the same file without Ferrule. Allocations are for " +
		"each call, in the host's process only. An opening with a cache finds it empty, or with the same module in it. Of goals that are missed nothing fails.\n\n" + r.wasmTable()
}

package main

import (
	"fmt"
	"slices"
	"strings"
)

// goal is what a ratio is to be. Missing it is no failure: it says where to look.
type goal struct {
	what       string
	of, beside string // contenders
	work       work
	scaling    bool // the ratio of what one caller for each core makes of one caller's throughput, in place of that of times
	calls      bool // the ratio of calls a second, in place of that of times
	bound      float64
	atLeast    bool
}

// least returns the least of what a contender took in a case; 0 where there is nothing.
func (r *results) least(w work, id string) float64 {
	i, k := r.at(w), r.index(id)
	if i < 0 || k < 0 || len(r.cells[i][k].ns) == 0 {
		return 0
	}
	return slices.Min(r.cells[i][k].ns)
}

// besides returns how many times as long a contender took as another; 0 where one of them has nothing.
func (r *results) besides(w work, id, other string) float64 {
	a, b := r.least(w, id), r.least(w, other)
	if a == 0 || b == 0 {
		return 0
	}
	return a / b
}

// measured returns the goal's ratio; 0 where the run has not what it is of.
func (g goal) measured(r *results) float64 {
	if g.calls {
		return r.besides(g.work, g.beside, g.of)
	}
	one := r.besides(g.work, g.of, g.beside)
	if !g.scaling {
		return one
	}
	parallel := g.work
	parallel.callers = perCore
	all := r.besides(parallel, g.of, g.beside)
	if all == 0 {
		return 0
	}
	return one / all
}

// goalTable says of each goal what was measured.
func (r *results) goalTable(goals []goal) string {
	var s strings.Builder
	s.WriteString("| goal | bound | measured | |\n|---|--:|--:|---|\n")
	for _, g := range goals {
		got := g.measured(r)
		if got == 0 {
			continue
		}
		sign, verdict := "≤", "met"
		if g.atLeast {
			sign = "≥"
		}
		if g.atLeast && got < g.bound || !g.atLeast && got > g.bound {
			verdict = "missed"
		}
		fmt.Fprintf(&s, "| %s | %s %s × | %s × | %s |\n", g.what, sign, digits(g.bound), digits(got), verdict)
	}
	return s.String()
}

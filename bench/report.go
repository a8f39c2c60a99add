package main

import (
	"fmt"
	"strings"
)

// index returns where the contender with this id is, or -1.
func (r *results) index(id string) int {
	for k, c := range r.contenders {
		if c.id() == id {
			return k
		}
	}
	return -1
}

// against returns the ratio of a cell to that of the contender with this id, for people.
func (r *results) against(i, k int, id string) string {
	other := r.index(id)
	if other < 0 || r.cells[i][other].why != "" {
		return ""
	}
	return digits(ratio(r.cells[i][k].ns, r.cells[i][other].ns)) + " ×"
}

// table is the comparison: every case, every contender, in the plan's order.
func (r *results) table() string {
	var s strings.Builder
	s.WriteString("| case | contender | median | quartiles | to cgo by hand | to Ferrule | allocations |\n")
	s.WriteString("|---|---|--:|--:|--:|--:|--:|\n")
	for i, w := range r.cases {
		for k, c := range r.contenders {
			cell := r.cells[i][k]
			if cell.why != "" {
				fmt.Fprintf(&s, "| %s | %s | none: %s | | | | |\n", w, c.label, cell.why)
				continue
			}
			q1, m, q3 := quartiles(cell.ns)
			fmt.Fprintf(&s, "| %s | %s | %s | %s to %s | %s | %s | %.0f |\n", w, c.label, duration(m), duration(q1),
				duration(q3), r.against(i, k, baseline), r.against(i, k, subject), cell.allocs)
		}
	}
	return s.String()
}

// overview is the medians alone, one contender a row.
func (r *results) overview() string {
	var s strings.Builder
	s.WriteString("| contender | plug-in in |")
	for _, w := range r.cases {
		fmt.Fprintf(&s, " %s |", w)
	}
	s.WriteString("\n|---|---|" + strings.Repeat("--:|", len(r.cases)) + "\n")
	for k, c := range r.contenders {
		fmt.Fprintf(&s, "| %s | %s |", c.label, c.work)
		for i := range r.cases {
			if cell := r.cells[i][k]; cell.why == "" {
				s.WriteString(" " + duration(median(cell.ns)))
			}
			s.WriteString(" |")
		}
		s.WriteString("\n")
	}
	return s.String()
}

// head is what the figures depend on, as a table.
func (r *results) head(m *machine) string {
	var s strings.Builder
	s.WriteString("| | |\n|---|---|\n")
	for _, line := range m.lines {
		fmt.Fprintf(&s, "| %s | %s |\n", line[0], line[1])
	}
	fmt.Fprintf(&s, "| rounds | %d, of %v for each contender and case", r.rounds, r.target)
	if r.most > 0 {
		fmt.Fprintf(&s, "; from %d on no more where they have taken %v together", leastRounds, r.most)
	}
	s.WriteString(" |\n\n")
	return s.String()
}

// peerReport is what RESULTS.md has of the comparison with all peers.
func (r *results) peerReport(m *machine) string {
	var s strings.Builder
	s.WriteString("![64 bytes, count_vowels, one bar for each contender on a logarithmic scale](results.svg)\n\n")
	s.WriteString(r.head(m))
	s.WriteString("### Medians\n\nTime of one call; parallel: wall time over the calls of all goroutines, one for each " +
		"core.\n\n")
	s.WriteString(r.overview())
	s.WriteString("\n### All figures\n\n" + aboutFigures)
	s.WriteString(r.table())
	return s.String()
}

const aboutFigures = "Ratios are medians of the rounds' ratios. Allocations are for each call, in the host's process " +
	"only.\n\n"

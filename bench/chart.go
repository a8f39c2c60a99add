package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// chart draws the medians of one case as bars on a logarithmic scale. Its colours follow the reader's theme, and are
// readable on both where a viewer knows none. It is empty when the case was not measured.
func (r *results) chart(of work, m *machine) string {
	at := r.at(of)
	if at < 0 {
		return ""
	}
	const (
		width, left, right = 860.0, 262.0, 84.0
		top, step, bar     = 64.0, 26.0, 16.0
	)
	var medians []float64
	var labels []*contender
	for k, c := range r.contenders {
		if cell := r.cells[at][k]; cell.why == "" {
			medians = append(medians, median(cell.ns))
			labels = append(labels, c)
		}
	}
	low, high := decades(medians)
	x := func(ns float64) float64 {
		return left + (width-left-right)*(math.Log10(ns)-low)/(high-low)
	}
	bottom := top + step*float64(len(labels))
	height := bottom + 32

	var s strings.Builder
	note := fmt.Sprintf("median of %d rounds, logarithmic scale; %s, %s", r.rounds, m.get("CPU"), m.get("Go"))
	begin(&s, width, height, fmt.Sprintf("Time of one call: %s", of), "", []string{note}, `.name { text-anchor: end; }
.bar { fill: #8c959f; }
.bar.ours { fill: #d9822b; }
@media (prefers-color-scheme: light) { .bar { fill: #8c959f; } .bar.ours { fill: #bc5a00; } }
@media (prefers-color-scheme: dark) { .bar { fill: #6e7681; } .bar.ours { fill: #f0883e; } }
`)
	for d := low; d <= high; d++ {
		at := x(math.Pow(10, d))
		fmt.Fprintf(&s, "<line x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\"/>\n", at, top-4, at, bottom)
		fmt.Fprintf(&s, "<text class=\"tick\" x=\"%.1f\" y=\"%.0f\">%s</text>\n", at, bottom+16, tick(math.Pow(10, d)))
	}
	for k, c := range labels {
		ours := ""
		if c.ours {
			ours = " ours"
		}
		y := top + step*float64(k)
		fmt.Fprintf(&s, "<text class=\"name%s\" x=\"%.0f\" y=\"%.0f\">%s</text>\n", ours, left-8, y+13,
			html.EscapeString(plain(c.label)))
		fmt.Fprintf(&s, "<rect class=\"bar%s\" x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" height=\"%.0f\" rx=\"2\"/>\n",
			ours, left, y, max(1, x(medians[k])-left), bar)
		fmt.Fprintf(&s, "<text class=\"value%s\" x=\"%.1f\" y=\"%.0f\">%s</text>\n", ours, x(medians[k])+6, y+13,
			duration(medians[k]))
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// begin writes what a drawing begins with: its size, its title and, if there is one, its description for those who do
// not see it, the style, and notes, lines below the title.
func begin(s *strings.Builder, width, height float64, title, desc string, notes []string, style string) {
	labelled := "title"
	if desc != "" {
		labelled = "title desc"
	}
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" `+
		`role="img" aria-labelledby="%s">`+"\n", width, height, width, height, labelled)
	fmt.Fprintf(s, "<title id=\"title\">%s</title>\n", html.EscapeString(title))
	if desc != "" {
		fmt.Fprintf(s, "<desc id=\"desc\">%s</desc>\n", html.EscapeString(desc))
	}
	s.WriteString(`<style>
text { font: 13px system-ui, sans-serif; fill: #6e7781; }
.tick { text-anchor: middle; font-size: 11px; }
.head { font-size: 15px; font-weight: 600; }
.ours { font-weight: 600; }
line { stroke: #8c959f; stroke-opacity: 0.35; }
@media (prefers-color-scheme: light) { text { fill: #1f2328; } }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
` + style + "</style>\n")
	fmt.Fprintf(s, "<text class=\"head\" x=\"12\" y=\"24\">%s</text>\n", html.EscapeString(title))
	for i, note := range notes {
		fmt.Fprintf(s, "<text x=\"12\" y=\"%d\">%s</text>\n", 44+18*i, html.EscapeString(note))
	}
}

// plain is a contender's label without marks.
func plain(label string) string { return strings.ReplaceAll(label, "`", "") }

// decades returns the powers of ten around the values: two different ones.
func decades(values []float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low = min(low, math.Floor(math.Log10(v)))
		high = max(high, math.Ceil(math.Log10(v)))
	}
	if high <= low {
		high = low + 1
	}
	return low, high
}

// tick prints a power of ten without digits after the point.
func tick(ns float64) string {
	for i := len(units) - 1; i >= 0; i-- {
		if ns >= units[i].ns {
			return fmt.Sprintf("%.0f %s", ns/units[i].ns, units[i].name)
		}
	}
	return fmt.Sprintf("%g ns", ns)
}

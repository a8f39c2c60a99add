package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// steps are where the rows of a histogram begin, in nanoseconds: 1, 2 and 5 of every power of ten.
var steps = func() (steps []int64) {
	for power := int64(1); power <= 1e12; power *= 10 {
		steps = append(steps, power, 2*power, 5*power)
	}
	return append([]int64{0}, steps...)
}()

const barWidth = 24

// histogram draws how the calls are spread, one column for each of columns: with block characters when pretty. The last row
// has the slowest thousandth and what is in the same step.
func histogram(b *strings.Builder, pretty bool, names []string, columns []*latencies) {
	rows := make([][]int64, len(steps))
	from, to := len(steps), 0
	for i := range rows {
		rows[i] = make([]int64, len(columns))
	}
	last := 0
	for _, h := range columns {
		for last+1 < len(steps) && h.quantile(0.999) >= steps[last+1] {
			last++
		}
	}
	for c, h := range columns {
		row := 0
		for i, n := range h.counts {
			if n == 0 {
				continue
			}
			for row < last && bucketFrom(i) >= steps[row+1] {
				row++
			}
			rows[row][c] += n
			from, to = min(from, row), max(to, row)
		}
	}
	fmt.Fprintf(b, "\n%9s", "from")
	for _, name := range names {
		fmt.Fprintf(b, "  %-*s", barWidth+8, name)
	}
	trimEnd(b)
	for row := from; row <= to; row++ {
		b.WriteString(padded(nanoseconds(float64(steps[row])), 9))
		for c, h := range columns {
			share := float64(rows[row][c]) / float64(max(1, h.total))
			percent := ""
			if rows[row][c] > 0 {
				percent = fmt.Sprintf("%.2f%%", 100*share)
				if share < 0.00005 {
					percent = "<0.01%"
				}
			}
			fmt.Fprintf(b, "  %s%8s", bar(share, pretty), percent)
		}
		trimEnd(b)
	}
}

// bar draws a share of the whole, at the left of its width.
func bar(share float64, pretty bool) string {
	var drawn string
	if pretty {
		eighths := int(math.Round(share * barWidth * 8))
		if eighths == 0 && share > 0 {
			eighths = 1
		}
		drawn = strings.Repeat("█", eighths/8)
		if rest := eighths % 8; rest > 0 {
			drawn += string([]rune(" ▏▎▍▌▋▊▉")[rest])
		}
	} else {
		drawn = strings.Repeat("#", int(math.Ceil(share*barWidth)))
	}
	return drawn + strings.Repeat(" ", barWidth-utf8.RuneCountInString(drawn))
}

// trimEnd ends a line, without blanks at its end.
func trimEnd(b *strings.Builder) {
	text := strings.TrimRight(b.String(), " ")
	b.Reset()
	b.WriteString(text + "\n")
}

// padded puts blanks before a text; unlike fmt's width for bytes it counts characters, of which µ is one.
func padded(text string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text))) + text
}

// nanoseconds prints a time in the unit that suits it, with three digits that count.
func nanoseconds(ns float64) string {
	unit, name := 1.0, "ns"
	for _, next := range []struct {
		ns   float64
		name string
	}{{1e3, "µs"}, {1e6, "ms"}, {1e9, "s"}} {
		if ns >= 0.9995*next.ns { // what rounds to 1000 of one unit is 1 of the next
			unit, name = next.ns, next.name
		}
	}
	return threeDigits(ns/unit) + " " + name
}

// threeDigits prints a number with three digits that count, and all those before the point.
func threeDigits(x float64) string {
	if x <= 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return "0"
	}
	// Rounded first: what rounds to 10 has one digit less behind the point than what does not.
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'e', 2, 64), 64)
	text := strconv.FormatFloat(x, 'f', max(0, 2-int(math.Floor(math.Log10(rounded)))), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

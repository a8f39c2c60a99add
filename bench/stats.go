package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// quartiles returns the first quartile, the median and the third of values, of which there is at least one. Between two
// values it interpolates.
func quartiles(values []float64) (q1, median, q3 float64) {
	sorted := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 {
		place := q * float64(len(sorted)-1)
		low := int(place)
		high := min(low+1, len(sorted)-1)
		return sorted[low] + (sorted[high]-sorted[low])*(place-float64(low))
	}
	return at(0.25), at(0.5), at(0.75)
}

func median(values []float64) float64 {
	_, m, _ := quartiles(values)
	return m
}

// ratio returns the median of a's values over b's of the same rounds: a machine that was slow in one round was so for
// both.
func ratio(a, b []float64) float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

// digits prints a number with three digits that count, and all those before the point.
func digits(x float64) string {
	if x == 0 {
		return "0"
	}
	// Rounded first: what rounds to 10 has one digit less after the point than what does not.
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'e', 2, 64), 64)
	after := 2 - int(math.Floor(math.Log10(math.Abs(rounded))))
	return strconv.FormatFloat(x, 'f', max(0, after), 64)
}

var units = []struct {
	name string
	ns   float64
}{{"ns", 1}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}}

// bytesText prints a number of bytes that is a power of two, or below 1024, without digits after the point.
func bytesText(n int) string {
	unit := 0
	for n >= 1024 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%d %s", n, []string{"B", "KiB", "MiB", "GiB"}[unit])
}

// duration prints nanoseconds in the unit that suits them.
func duration(ns float64) string {
	u := units[0]
	for _, next := range units {
		// What rounds to 1000 of one unit is 1 of the next.
		if ns >= 0.9995*next.ns {
			u = next
		}
	}
	return digits(ns/u.ns) + " " + u.name
}

// whole prints a number without digits after the point.
func whole(x float64) string { return strconv.FormatFloat(x, 'f', 0, 64) }

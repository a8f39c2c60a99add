package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuartiles(t *testing.T) {
	for _, c := range []struct{ in, want []float64 }{
		{[]float64{7}, []float64{7, 7, 7}},
		{[]float64{3, 1}, []float64{1.5, 2, 2.5}},
		{[]float64{5, 1, 4, 2, 3}, []float64{2, 3, 4}},
		{[]float64{4, 1, 3, 2}, []float64{1.75, 2.5, 3.25}},
	} {
		before := append([]float64(nil), c.in...)
		q1, m, q3 := quartiles(c.in)
		require.Equal(t, c.want, []float64{q1, m, q3})
		require.Equal(t, before, c.in, "the rounds keep their order, which ratios need")
	}
}

// A round in which the machine was ten times slower does not move a ratio, whatever it does to the medians.
func TestRatioIsOfEachRound(t *testing.T) {
	require.Equal(t, 2.0, ratio([]float64{20, 200, 20}, []float64{10, 100, 10}))
	require.Equal(t, 0.5, ratio([]float64{10, 100}, []float64{20, 200}))
}

func TestDuration(t *testing.T) {
	for ns, want := range map[float64]string{
		0: "0 ns", 0.5: "0.500 ns", 5.004: "5.00 ns", 62.14: "62.1 ns", 999.4: "999 ns", 999.6: "1.00 µs",
		1234: "1.23 µs", 45678: "45.7 µs", 2.9e7: "29.0 ms", 1.5e9: "1.50 s",
	} {
		require.Equal(t, want, duration(ns), "%v", ns)
	}
}

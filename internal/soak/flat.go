package soak

import (
	"fmt"
	"slices"
)

// Series is a number over the time of a run.
type Series struct {
	Name  string
	Unit  string // what its values are: "", "MiB"
	Slack float64
	Share float64 // of its first quarter, beside Slack: how much it may grow
	At    []float64
	Value []float64
}

// Add adds a value at a time.
func (s *Series) Add(at, value float64) {
	s.At = append(s.At, at)
	s.Value = append(s.Value, value)
}

// quarter returns the values of the first or of the last quarter.
func (s *Series) quarter(last bool) []float64 {
	n := max(1, len(s.Value)/4)
	if last {
		return s.Value[len(s.Value)-n:]
	}
	return s.Value[:min(n, len(s.Value))]
}

// Bounds are the least and the greatest of the first or of the last quarter.
func (s *Series) Bounds(last bool) (least, most float64) {
	q := s.quarter(last)
	return slices.Min(q), slices.Max(q)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// Growth is by how much it grew from the first value to the last, by the median of the slopes between any two of its values (Theil and Sen): some values that lie far off do not
// move it.
func (s *Series) Growth() float64 {
	var slopes []float64
	for i := range s.Value {
		for j := range i {
			if span := s.At[i] - s.At[j]; span > 0 {
				slopes = append(slopes, (s.Value[i]-s.Value[j])/span)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	return median(slopes) * (s.At[len(s.At)-1] - s.At[0])
}

// May is by how much it may grow and is flat.
func (s *Series) May() float64 { return s.Slack + s.Share*median(s.quarter(false)) }

// Fault says that it is not flat; "" is that it is. It is not where both its slope and the medians of its first and last quarters say that it grew by more than it may.
func (s *Series) Fault() string {
	if len(s.Value) < 4 {
		return fmt.Sprintf("%s: found %d values, expected 4 or more: let it run for longer", s.Name, len(s.Value))
	}
	growth, by := s.Growth(), median(s.quarter(true))-median(s.quarter(false))
	if may := s.May(); growth > may && by > may {
		return fmt.Sprintf("%s is not flat: found that it grew by %.1f%s (the medians of its first and last quarters by %.1f), expected %.1f at most: %.1f",
			s.Name, growth, unit(s.Unit), by, may, s.Value)
	}
	return ""
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Summary is what a run has to tell.
type Summary struct {
	Date     time.Time
	Machine  string // cores and memory
	Duration time.Duration
	Seed     uint64
	Callers  int
	Calls    map[string]int64            // by what was called
	Outcomes map[Kind]int64              // of calls of functions and hooks, each hook by itself
	Plugins  []Told                      // in their order
	Done     map[string]int64            // disturbances by kind
	Worst    map[string]time.Duration    // of a kind: the longest until all was as the model says again
	Series   []*Series                   // what was to be flat
	Samples  int                         // how often that was looked at
	Left     map[string]int              // what was left behind at the end
	Answers  map[string]map[string]int64 // of a plug-in: how many answers each version has given
}

// Told is what became of one plug-in.
type Told struct {
	Name, Form, Place string // Place is where it runs
	Versions          int    // how many have answered
	Answers           int64
	Replaced          int
	Restarts          int
}

func sorted[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// number has a comma between thousands.
func number(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Markdown is the summary as a page has it.
func (s *Summary) Markdown() string {
	var b strings.Builder
	total := int64(0)
	for _, n := range s.Calls {
		total += n
	}
	done := int64(0)
	for _, n := range s.Done {
		done += n
	}
	fmt.Fprintf(&b, "The run of %s: %s on a machine with %s. %d callers made %s calls, and %s disturbances happened. The seed was %d.\n\n",
		s.Date.Format("2006-01-02"), s.Duration.Round(time.Second), s.Machine, s.Callers, number(total), number(done), s.Seed)
	b.WriteString("| plug-in | form | runs in | versions that answered | answers with a version | taken by another version | started again |\n|---|---|---|--:|--:|--:|--:|\n")
	for _, p := range s.Plugins {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d | %s | %d | %d |\n", p.Name, p.Form, p.Place, p.Versions, number(p.Answers), p.Replaced, p.Restarts)
	}
	b.WriteString("\n| calls of | |\n|---|--:|\n")
	for _, k := range sorted(s.Calls) {
		fmt.Fprintf(&b, "| %s | %s |\n", k, number(s.Calls[k]))
	}
	b.WriteString("\n| they ended | |\n|---|--:|\n")
	for _, k := range sorted(s.Outcomes) {
		fmt.Fprintf(&b, "| %s | %s |\n", k, number(s.Outcomes[k]))
	}
	b.WriteString("\n| disturbance | how often | all was well again after, at most |\n|---|--:|--:|\n")
	for _, k := range sorted(s.Done) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", k, number(s.Done[k]), s.Worst[k].Round(10*time.Millisecond))
	}
	fmt.Fprintf(&b, "\nLooked at %d times, after a warm-up, and between disturbances:\n\n| | first quarter | last quarter | grew by | may grow by |\n|---|--:|--:|--:|--:|\n", s.Samples)
	for _, x := range s.Series {
		a, z := x.Bounds(false)
		c, d := x.Bounds(true)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.Name, between(a, z, x.Unit), between(c, d, x.Unit), round(x.Growth(), x.Unit), round(x.May(), x.Unit))
	}
	b.WriteString("\nAfter it was closed there were left of what had come: ")
	var left []string
	for _, k := range sorted(s.Left) {
		left = append(left, fmt.Sprintf("%d %s", s.Left[k], k))
	}
	b.WriteString(strings.Join(left, ", ") + ".\n")
	return b.String()
}

// progress is a line about a run that goes on: what there is now of all that is to be flat.
func progress(after time.Duration, disturbances int64, series []*Series) string {
	said := []string{"disturbances " + number(disturbances)}
	for _, x := range series {
		v := x.Value[len(x.Value)-1]
		said = append(said, x.Name+" "+between(v, v, x.Unit))
	}
	return fmt.Sprintf("after %v: %s", after.Round(time.Second), strings.Join(said, ", "))
}

func round(v float64, u string) string {
	if u == "" {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.1f %s", v, u)
}

func between(least, most float64, u string) string {
	format := "%.0f"
	if u != "" {
		format = "%.1f"
	}
	text := fmt.Sprintf(format, least)
	if to := fmt.Sprintf(format, most); to != text {
		text += " to " + to
	}
	if u != "" {
		text += " " + u
	}
	return text
}

// The lines of a page between which a summary stands.
const (
	Begin = "<!-- written by make soak: what follows is one run's summary -->\n"
	End   = "<!-- the end of what make soak has written -->\n"
)

// Put puts the summary into a page, in the place of the one that is there.
func (s *Summary) Put(page string) (string, error) {
	before, rest, ok := strings.Cut(page, Begin)
	_, after, closed := strings.Cut(rest, End)
	if !ok || !closed {
		return "", fmt.Errorf("found no lines %q and %q in the page, expected both", strings.TrimSpace(Begin), strings.TrimSpace(End))
	}
	return before + Begin + "\n" + s.Markdown() + "\n" + End + after, nil
}

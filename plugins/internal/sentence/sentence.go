// Package sentence makes the texts of the errors of packages plugins and registry, whose parts are the same: what was found, what was expected, why, what to do.
package sentence

import (
	"fmt"
	"strings"
	"time"
)

// Of returns the parts as one line. Each may be empty. cause and remedy are sentences, with a full stop or without one.
func Of(found, expected, cause, remedy string) string {
	var b strings.Builder
	between := ""
	add := func(before, part, after string) {
		if part != "" {
			b.WriteString(between + before + part)
			between = after
		}
	}
	add("found ", found, ", ")
	add("expected ", expected, "")
	if b.Len() > 0 {
		between = ": "
	}
	add("", strings.TrimSuffix(cause, "."), "")
	if b.Len() > 0 {
		between = ". "
	}
	add("", remedy, "")
	return b.String()
}

// Count returns n of a thing, in the singular or the plural.
func Count[N ~int | ~int64 | ~uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// Wait returns what is left of a wait, in whole units. It is rounded up, so that none is left only where none is.
func Wait(left, unit time.Duration) string {
	whole := left.Round(unit)
	if whole < left {
		whole += unit
	}
	return whole.String()
}

// List joins words as a text does: a, b and c, where last is "and".
func List(words []string, last string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
	}
	return strings.Join(words, "")
}

// Causes are the errors of these that are there, for Unwrap.
func Causes(errs ...error) (all []error) {
	for _, err := range errs {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

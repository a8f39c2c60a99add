// Package sentence makes the texts of the errors of packages plugins and registry, whose parts are the same: what was found, what was expected, why, what to do.
package sentence

import "strings"

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

// Causes are the errors of these that are there, for Unwrap.
func Causes(errs ...error) (all []error) {
	for _, err := range errs {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

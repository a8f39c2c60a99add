package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is what is wrong with a configuration: all of it, so far as it can be known at once.
type Error struct {
	Path   string  // of the file; "" for a text that is no file's
	Faults []Fault // one at least, in the order of the file
}

// Fault is one thing that is wrong. No value below `config:` is in it.
type Fault struct {
	Line, Column int    // from 1; the column counts characters. 0: it is about no place in the file
	Where        string // such as plugins[1].limit; "": the whole file
	Found        string // what is there
	Expected     string // what may be there
	Remedy       string // a sentence without its full stop, or a question; may be empty
}

// shown is how many faults the text of an Error has.
const shown = 20

// Error has a line for each fault, of the first 20.
func (e *Error) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == shown {
			fmt.Fprintf(&b, "… and %d more", len(e.Faults)-shown)
			break
		}
		if path := cmp.Or(e.Path, "config"); f.Line > 0 {
			b.WriteString(path + ":")
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// String is the fault in one line, which begins with line and column, unless it is about no place in the file.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Column)
	}
	if f.Where != "" {
		b.WriteString(f.Where + ": ")
	}
	fmt.Fprintf(&b, "found %s, expected %s", f.Found, f.Expected)
	if f.Remedy != "" {
		b.WriteString(". " + f.Remedy)
		if !strings.HasSuffix(f.Remedy, "?") {
			b.WriteByte('.')
		}
	}
	return b.String()
}

// reader collects the faults of one file.
type reader struct {
	file   string // its path; "": paths in it stay as they are written
	folder string // of the file, absolute
	faults []Fault
}

// fault says that something is wrong at n.
func (r *reader) fault(n *node, found, expected, remedy string) {
	line, column := n.position()
	r.faults = append(r.faults, Fault{line, column, n.where(), found, expected, remedy})
}

// err returns the faults as an error.
func (r *reader) err(path string) error {
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	return &Error{path, r.faults}
}

// quote quotes what a user wrote, cut to what a line bears.
func quote(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return strconv.Quote(s)
}

// alternatives lists words: a, b or c.
func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

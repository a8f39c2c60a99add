package check

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A report has a beginning and a summary of the same place, whatever the plug-in has written before it in the line, and whoever else writes at once. Alone, neither is one.
func TestReports(t *testing.T) {
	const undefined, race = "SUMMARY: UndefinedBehaviorSanitizer: undefined-behavior ", "==================\nWARNING: ThreadSanitizer: data race (pid=7)\n  Read\nSUMMARY: ThreadSanitizer: data race a.c:2 in f\n==================\n"
	for _, c := range []struct {
		name, stderr string
		lived        bool
		seen         string // each finding behind the one before
		beside       string
	}{
		{"undefined behaviour", "a.c:7:2: runtime error: shift\n" + undefined + "a.c:7:2 in \n", false, "a.c:7:2: runtime error: shift", ""},
		{"with notes, and without the function", "b in c/a.c:7:2: runtime error: load\n 00 00\n  ^ \n" + undefined + "b in c/a.c:7:2\nyes\n", true, "b in c/a.c:7:2: runtime error: load", "yes\n"},
		{"without a line", "a.c: runtime error: shift\n" + undefined + "a.c in \n", false, "a.c: runtime error: shift", ""},
		{"of a function", "(p.so+0x1): runtime error: shift\n" + undefined + "(p.so+0x1) in f(int)\n", false, "(p.so+0x1): runtime error: shift", ""},
		{"in a line with what the plug-in wrote", "working: a.c:7:2: runtime error: shift\n" + undefined + "a.c:7:2 in \n", false, "a.c:7:2: runtime error: shift", "working: "},
		{"of two at once", "a.c:7:2: runtime error: shift\nb.c:1:1: runtime error: load\n" + undefined + "a.c:7:2 in \n" + undefined + "b.c:1:1 in \n", false,
			"a.c:7:2: runtime error: shift\nb.c:1:1: runtime error: load", ""},
		{"each place once", strings.Repeat("a.c:7:2: runtime error: shift\n"+undefined+"a.c:7:2 in \n", 2), false, "a.c:7:2: runtime error: shift", ""},
		{"of another place", "a.c:7:2: runtime error: shift\n" + undefined + "a.c:8:2 in \n", true, "", "a.c:7:2: runtime error: shift\n" + undefined + "a.c:8:2 in \n"},
		{"no summary", "a.c:7:2: runtime error: shift\n", true, "", "a.c:7:2: runtime error: shift\n"},
		{"a race", race + "ThreadSanitizer: reported 1 warnings\n", false, "ThreadSanitizer: data race a.c:2 in f", ""},
		{"a race, and half of one", race + race[:60], false, "ThreadSanitizer: data race a.c:2 in f", ""},
		{"the summary of a race", "SUMMARY: ThreadSanitizer: data race a.c:2 in f\n", true, "", "SUMMARY: ThreadSanitizer: data race a.c:2 in f\n"},
		{"leaks", "==7==ERROR: LeakSanitizer: detected memory leaks\nSUMMARY: AddressSanitizer: 9 byte(s) leaked\n", true, "AddressSanitizer: 9 byte(s) leaked",
			"==7==ERROR: LeakSanitizer: detected memory leaks\nSUMMARY: AddressSanitizer: 9 byte(s) leaked\n"},
		{"of what has ended the process", "==7==ERROR: AddressSanitizer: x\nSUMMARY: AddressSanitizer: x\n", false, "", "==7==ERROR: AddressSanitizer: x\nSUMMARY: AddressSanitizer: x\n"},
		{"the summary of what ends a process", "SUMMARY: AddressSanitizer: x\n", true, "", "SUMMARY: AddressSanitizer: x\n"},
	} {
		p, r := &parent{reported: map[string]bool{}}, &Result{Rules: []string{"R7"}}
		p.findReports(r, c.stderr, c.lived)
		var seen []string
		for _, f := range r.Findings {
			seen = append(seen, f.Seen)
		}
		assert.Equal(t, c.seen, strings.Join(seen, "\n"), c.name)
		assert.Equal(t, c.beside, besidesReports(c.stderr), c.name)
	}
}

// What is done for reports grows as what a process has written does, and not as lines times summaries do.
func TestManyReports(t *testing.T) {
	const many = 2000
	var flood strings.Builder
	for n := range many {
		fmt.Fprintf(&flood, "a/folder/whose/name/is/not/short/%d.c:1:1: runtime error: x\n", n)
	}
	for n := range many {
		fmt.Fprintf(&flood, "SUMMARY: UndefinedBehaviorSanitizer: x other/%d.c:1:1 in \n", n)
	}
	allocations := testing.AllocsPerRun(1, func() {
		p, r := &parent{reported: map[string]bool{}}, &Result{Rules: []string{"R7"}}
		p.findReports(r, flood.String(), true)
		besidesReports(flood.String())
		assert.Zero(t, len(r.Findings))
	})
	assert.Less(t, allocations, 100.0*many)
}

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// documents writes README's table and docs/platforms.md, or fails when they are not what was found.
func documents(outcomes []*outcome, update bool) error {
	const begin, end = "<!-- platforms: written by make platforms -->\n", "<!-- /platforms -->\n"
	readme := filepath.Join(fixture.Root(), "README.md")
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		return fmt.Errorf("README.md: found no %q and %q, expected the table between them", begin, end)
	}
	var stale []string
	for _, d := range []struct{ path, text string }{
		{readme, before + begin + table(outcomes) + end + after},
		{filepath.Join(fixture.Root(), "docs", "platforms.md"), page(outcomes)},
	} {
		old, err := os.ReadFile(d.path)
		if err == nil && bytes.Equal(old, []byte(d.text)) {
			continue
		}
		if update {
			if err := os.WriteFile(d.path, []byte(d.text), 0o666); err != nil {
				return err
			}
			continue
		}
		stale = append(stale, filepath.Base(d.path))
		found := filepath.Join(fixture.Root(), "build", "platforms", filepath.Base(d.path))
		if err := os.WriteFile(found, []byte(d.text), 0o666); err != nil {
			return err
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("%s: not what was run; build/platforms has what was. Look at the difference, and write it with make platforms-update",
			strings.Join(stale, ", "))
	}
	return nil
}

// table is README's table.
func table(outcomes []*outcome) string {
	var b strings.Builder
	b.WriteString("| | cgo on | cgo off | crossing | isolated | |\n|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		if o.name == compilers {
			continue
		}
		isolated, how := "", "built and vetted, tests included; not run"
		switch {
		case o.notHad != nil:
			how = "not had"
		case o.isolated > 0:
			isolated, how = "tested", o.where()
		case o.ran > 0:
			how = o.where()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", o.name, o.cgo(true), o.cgo(false), o.crossings(), isolated, strings.TrimSpace(how))
	}
	return b.String()
}

// where says in what the tests ran, and what more there is to say.
func (o *outcome) where() string {
	how := o.how
	if strings.HasPrefix(how, "Go ") { // the newest changes too often for a table
		how = "natively"
	}
	if o.note != "" {
		how += "; " + o.note
	}
	return how
}

// cgo says what was done with cgo on, or off.
func (o *outcome) cgo(on bool) string {
	is := func(r run) bool { return r.cgo == on }
	switch {
	case o.notHad != nil:
		return ""
	case slices.ContainsFunc(o.tested, is) && !loads(o.tested):
		return "layout"
	case slices.ContainsFunc(o.tested, is):
		return "tested"
	case slices.ContainsFunc(o.built, is):
		return "built"
	}
	return ""
}

// loads reports whether plug-ins were loaded.
func loads(runs []run) bool {
	return slices.ContainsFunc(runs, func(r run) bool {
		return slices.Contains(r.tests, "./loader/...") || slices.Contains(r.tests, "./loader")
	})
}

// crossings names those that were run or, in parentheses, only built.
func (o *outcome) crossings() string {
	if o.notHad != nil || len(o.tested) > 0 && !loads(o.tested) {
		return ""
	}
	var names []string
	for _, crossing := range []string{"direct", "portable"} {
		is := func(r run) bool { return r.crossing() == crossing }
		switch {
		case slices.ContainsFunc(o.tested, is):
			names = append(names, crossing)
		case slices.ContainsFunc(o.built, is):
			names = append(names, "("+crossing+")")
		}
	}
	return strings.Join(names, ", ")
}

// grouped sorts tests, and counts those with the same parent where there are many.
func grouped(tests []string) (names []string) {
	const many = 4
	top := func(test string) string { // without subtests; the package's path has slashes, too
		pkg, name, _ := strings.Cut(test, ".")
		name, _, _ = strings.Cut(name, "/")
		return pkg + "." + name
	}
	children := make(map[string]int)
	for _, test := range tests {
		children[top(test)]++
	}
	for _, test := range slices.Sorted(slices.Values(tests)) {
		if n := children[top(test)]; n >= many {
			test = fmt.Sprintf("%s (%d cases)", top(test), n)
		}
		names = append(names, test)
	}
	return slices.Compact(names)
}

// page is docs/platforms.md: what is left out where, and why.
func page(outcomes []*outcome) string {
	var b strings.Builder
	b.WriteString(`# Platforms: what was run, and what was left out

Written by ` + "`make platforms`" + `, which runs the tests of ` + "`abi`" + ` and ` + "`loader`" + ` on every platform that a Debian machine can be
made to have, and compares this page and README's table with what it found. How many tests ran where stands in its
output. Tests that are for one system by their nature are in files that are for it by name (` + "`_linux_test.go`" + `) or by a
build tag, and not listed here: signals, the sandbox and the load tests of ` + "`loader/isolate`" + ` are Linux's, and Windows
has its own table of faults.
`)
	for _, o := range outcomes {
		fmt.Fprintf(&b, "\n## %s\n\n", o.name)
		switch {
		case o.notHad != nil:
			fmt.Fprintf(&b, "Not had: %v\n", o.notHad)
			continue
		case o.ran == 0:
			b.WriteString("Built and vetted, tests included; not run.\n")
			continue
		case o.name == compilers:
			b.WriteString("The SDKs with each of them: [sdk-c](../sdk-c/README.md).\n")
			continue
		}
		if len(o.skipped) == 0 {
			b.WriteString("Nothing is left out.\n")
			continue
		}
		b.WriteString("| left out | because |\n|---|---|\n")
		for _, why := range slices.Sorted(maps.Keys(o.skipped)) {
			fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(grouped(o.skipped[why]), ", "), strings.ReplaceAll(why, "|", "\\|"))
		}
	}
	return b.String()
}

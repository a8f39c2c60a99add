package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// written is the line of docs/platforms.md behind which all is made from what was found.
const written = "<!-- from here on written by make platforms -->\n"

// documents writes docs/platforms.md, or fails when it says something else than what was found.
func documents(outcomes []*outcome, update bool) error {
	path := filepath.Join(fixture.Root(), "docs", "platforms.md")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, _, found := strings.Cut(string(old), written)
	if !found {
		return fmt.Errorf("docs/platforms.md: found no line %q, expected one before the table", strings.TrimSpace(written))
	}
	text := []byte(before + written + table(outcomes) + page(outcomes))
	if bytes.Equal(old, text) {
		return nil
	}
	if update {
		return os.WriteFile(path, text, 0o666)
	}
	if err := os.WriteFile(filepath.Join(fixture.Root(), "build", "platforms", "platforms.md"), text, 0o666); err != nil {
		return err
	}
	return errors.New("docs/platforms.md: not what was run; build/platforms/platforms.md is. Look at the difference, and write it with make platforms-update")
}

// table is the table of all platforms.
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

// page is what is left out where, and why.
func page(outcomes []*outcome) string {
	var b strings.Builder
	b.WriteString("\n# What is left out where, and why\n")
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

package ci_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// tree is what pages name: the functions of tests by their package's folder, whatever system they are for, and the targets of make.
type tree struct {
	root     string
	tests    map[string]map[string]*ast.FuncDecl
	makefile string
}

func newTree(t *testing.T) *tree {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(fixture.Root(), "Makefile"))
	require.NoError(t, err)
	return &tree{fixture.Root(), map[string]map[string]*ast.FuncDecl{}, string(makefile)}
}

// of are the tests of a folder, with those of fuzzing.
func (tr *tree) of(folder string) map[string]*ast.FuncDecl {
	if all, ok := tr.tests[folder]; ok {
		return all
	}
	all := map[string]*ast.FuncDecl{}
	files, _ := filepath.Glob(filepath.Join(tr.root, filepath.FromSlash(folder), "*_test.go"))
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // the compiler says so
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && isTest(f) {
				all[f.Name.Name] = f
			}
		}
	}
	tr.tests[folder] = all
	return all
}

// isTest is whether go test runs it: its one parameter is a *testing.T or a *testing.F.
func isTest(f *ast.FuncDecl) bool {
	if len(f.Type.Params.List) != 1 || len(f.Type.Params.List[0].Names) != 1 {
		return false
	}
	star, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	of, ok := star.X.(*ast.SelectorExpr)
	return ok && (of.Sel.Name == "T" && strings.HasPrefix(f.Name.Name, "Test") || of.Sel.Name == "F" && strings.HasPrefix(f.Name.Name, "Fuzz"))
}

var (
	namedTest   = regexp.MustCompile("`([a-z][a-z0-9/-]*)\\.((?:Test|Fuzz)\\w+)(?:/([^`]+))?`")
	namedTarget = regexp.MustCompile("`make ([a-z-]+)")
	namedScript = regexp.MustCompile("`([\\w./-]+\\.sh)`")
)

// holders are what a text names that can hold something: tests, targets of make, scripts.
func holders(text string) int {
	return len(namedTest.FindAllString(text, -1)) + len(namedTarget.FindAllString(text, -1)) + len(namedScript.FindAllString(text, -1))
}

// absent are the tests, targets and scripts that a page names, and that are not there.
func (tr *tree) absent(page string) (found []string) {
	for _, m := range namedTest.FindAllStringSubmatch(page, -1) {
		f := tr.of(m[1])[m[2]]
		if f == nil {
			found = append(found, fmt.Sprintf("%s has no %s", m[1], m[2]))
			continue
		}
		for _, sub := range strings.Split(m[3], "/") {
			if sub != "" && !says(f, sub) {
				found = append(found, fmt.Sprintf("%s.%s has no subtest %s", m[1], m[2], sub))
			}
		}
	}
	for _, m := range namedTarget.FindAllStringSubmatch(page, -1) {
		if !regexp.MustCompile(`(?m)^([a-z-]+ )*` + m[1] + `( [a-z-]+)*:`).MatchString(tr.makefile) {
			found = append(found, "make has no target "+m[1])
		}
	}
	for _, m := range namedScript.FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join(tr.root, filepath.FromSlash(m[1]))); err != nil {
			found = append(found, "there is no script "+m[1])
		}
	}
	return found
}

// says is whether a function has a text that is a subtest's name.
func says(f *ast.FuncDecl, name string) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
			value, err := strconv.Unquote(text.Value)
			found = found || err == nil && strings.ReplaceAll(value, " ", "_") == name
		}
		return !found
	})
	return found
}

// row is a row of a table that has a head, with the section that it stands in.
type row struct {
	section, text string
	cells         []string
}

// rows are those of a page's tables of such a head.
func rows(page, head string) (all []row) {
	section, within := "", false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "## "):
			section, within = line[3:], false
		case line == head:
			within = true
		case !strings.HasPrefix(line, "|"):
			within = false
		case within && !strings.HasPrefix(line, "|---"):
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			all = append(all, row{section, line, cells})
		}
	}
	return all
}

const (
	enginesHead = "| here | column of [engines](engines.md) | which is |"
	threatsHead = "| what is tried | engine | what stops it | shown by |"
)

// faultsOfSecurity are what is wrong with docs/security.md: a table of engines that is not that of docs/engines.md, an attempt that leaves an engine of its section out or has it
// twice, a row that names no test and says not why, a test that is not there.
func (tr *tree) faultsOfSecurity(page, engines string) (found []string) {
	fault := func(format string, of ...any) { found = append(found, fmt.Sprintf(format, of...)) }
	var here, columns []string
	for _, r := range rows(page, enginesHead) {
		here, columns = append(here, r.cells[0]), append(columns, r.cells[1])
	}
	head := regexp.MustCompile(`(?m)^\| \|(.+)\|$`).FindStringSubmatch(engines)
	if head == nil {
		return []string{"docs/engines.md has no table"}
	}
	var theirs []string
	for _, column := range strings.Split(head[1], "|") {
		column = strings.TrimSpace(column)
		theirs = append(theirs, column)
		if !slices.Contains(columns, column) {
			fault("the column %s of docs/engines.md is none of the engines here", column)
		}
	}
	for _, column := range columns {
		if !slices.Contains(theirs, column) {
			fault("%s is no column of docs/engines.md", column)
		}
	}

	// The engines that each section is about.
	about := map[string][]string{}
	for _, section := range strings.Split(page, "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		m := regexp.MustCompile(`Engines:\s+([^.:]+)[.:]`).FindStringSubmatch(text)
		if m == nil {
			fault("%s: it does not say which engines it is about", name)
			continue
		}
		about[name] = named(m[1], here)
		for _, e := range about[name] {
			if !slices.Contains(here, e) {
				fault("%s: it is about %s, which is no engine here", name, e)
			}
		}
	}

	// Which of them each attempt has.
	tried, attempt, section := map[string][]string{}, "", ""
	var order []string
	for _, r := range rows(page, threatsHead) {
		if len(r.cells) != 4 {
			fault("a row of %d cells: %s", len(r.cells), r.text)
			continue
		}
		if r.cells[0] != "" || section != r.section {
			attempt, section = r.section+": "+r.cells[0], r.section
			if _, twice := tried[attempt]; twice || r.cells[0] == "" {
				fault("%s: it is not one attempt", attempt)
			}
			order, tried[attempt] = append(order, attempt), nil
		}
		tried[attempt] = append(tried[attempt], named(r.cells[1], about[r.section])...)
		stops, shown := r.cells[2], r.cells[3]
		nothing := regexp.MustCompile(`^nothing\b`).MatchString(stops)
		switch {
		case stops == "":
			fault("%s, %s: it does not say what stops it", attempt, r.cells[1])
		case nothing != (shown == "trusted"):
			fault("%s, %s: where nothing stops it, and nowhere else, who does it is trusted; found %q", attempt, r.cells[1], shown)
		case nothing || shown == "does not arise" || strings.HasPrefix(shown, "no test: "):
		case strings.TrimSpace(strings.ReplaceAll(namedTest.ReplaceAllString(shown, ""), ",", "")) != "" || holders(shown) == 0:
			fault("%s, %s: found %q, expected tests", attempt, r.cells[1], shown)
		}
	}
	for _, attempt := range order {
		name, _, _ := strings.Cut(attempt, ": ")
		for _, e := range about[name] {
			if n := count(tried[attempt], e); n != 1 {
				fault("%s: it has %s %d times, expected it once", attempt, e, n)
			}
		}
		for _, e := range tried[attempt] {
			if !slices.Contains(about[name], e) {
				fault("%s: it has %s, which the section is not about", attempt, e)
			}
		}
	}
	if len(order) == 0 {
		fault("there is no attempt")
	}
	return append(found, tr.absent(page)...)
}

// named are the engines that a text names; all is every one.
func named(text string, all []string) []string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "every one" {
		return all
	}
	return strings.Split(text, ", ")
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

func readPage(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{fixture.Root()}, path...)...))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// What docs/security.md says of each engine is shown by tests that are there.
func TestSecurityPage(t *testing.T) {
	page := readPage(t, "docs", "security.md")
	for _, fault := range newTree(t).faultsOfSecurity(page, readPage(t, "docs", "engines.md")) {
		t.Error(fault)
	}
	assert.Greater(t, len(rows(page, threatsHead)), 100)
	assert.True(t, strings.Contains(readPage(t, "SECURITY.md"), "(docs/security.md)"), "SECURITY.md has no link to the page")
}

// A page that leaves something out is found out, by what it leaves out.
func TestSecurityPageThatIsWrong(t *testing.T) {
	tr := newTree(t)
	const engines = "| | native code | Go, compiled in |\n|---|---|---|\n"
	const top = enginesHead + "\n|---|---|---|\n| native | native code | x |\n| Go | Go, compiled in | x |\n\n## An author\n\nEngines: every one.\n\n"
	const table = threatsHead + "\n|---|---|---|---|\n"
	const good = top + table + "| a | native | nothing | trusted |\n| | Go | words | `internal/ci.TestSecurityPage` |\n"
	assert.Empty(t, tr.faultsOfSecurity(good, engines))
	for name, c := range map[string]struct{ old, new, fault string }{
		"a test that was renamed":          {"TestSecurityPage`", "TestSecurityPages`", "internal/ci has no TestSecurityPages"},
		"a test of another package":        {"internal/ci.", "internal/modules.", "internal/modules has no TestSecurityPage"},
		"a function that is no test":       {"ci.TestSecurityPage`", "ci.TestMain`", "internal/ci has no TestMain"},
		"a subtest that was renamed":       {"TestSecurityPage`", "TestSecurityPageThatIsWrong/a_test_that_was_named`", "has no subtest a_test_that_was_named"},
		"an engine that is left out":       {"| | Go | words | `internal/ci.TestSecurityPage` |\n", "", "a: it has Go 0 times"},
		"an engine twice":                  {"| a | native |", "| a | native, Go |", "a: it has Go 2 times"},
		"an engine that is none":           {"| a | native |", "| a | natives |", "it has natives, which the section is not about"},
		"a new column of the other page":   {"| Go | Go, compiled in | x |\n", "| Go | Go | x |\n", "the column Go, compiled in of docs/engines.md"},
		"no test":                          {"`internal/ci.TestSecurityPage`", "", `found "", expected tests`},
		"words in the place of a test":     {"`internal/ci.TestSecurityPage`", "by its nature", `found "by its nature", expected tests`},
		"a test, and words":                {"`internal/ci.TestSecurityPage`", "`internal/ci.TestSecurityPage` and more", "expected tests"},
		"nothing, and a test":              {"| nothing | trusted |", "| nothing | `internal/ci.TestSecurityPage` |", "who does it is trusted"},
		"trusted, and not that nothing is": {"| nothing | trusted |", "| something | trusted |", "who does it is trusted"},
		"a section without engines":        {"Engines: every one.", "", "does not say which engines"},
		"an attempt twice":                 {"| | Go |", "| a | Go |", "it is not one attempt"},
		"no attempt":                       {threatsHead, "| what | engine | stops | shown |", "there is no attempt"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := strings.Replace(good, c.old, c.new, 1)
			require.NotEqual(t, good, wrong)
			assert.Contains(t, strings.Join(tr.faultsOfSecurity(wrong, engines), "\n"), c.fault)
		})
	}
	// The subtest is there under its name.
	assert.Empty(t, tr.absent("`internal/ci.TestSecurityPageThatIsWrong/a_subtest_that_was_renamed`"))
	assert.Equal(t, []string{"make has no target tests", "there is no script sdk-rust/check.sh"},
		tr.absent("`make test`, `make tests`, `sdk-rust/check-msrv.sh`, `sdk-rust/check.sh`"))
}

// faultsOfReports are what is wrong with how SECURITY.md has vulnerabilities reported: another order of times, a disclosure after more than 90 days, a way that is missing, or an
// address of which nothing shows that somebody reads it.
func faultsOfReports(page string) (found []string) {
	last := 0
	var hears []string
	for _, r := range rows(page, "| what the reporter hears | at the latest after |") {
		hears = append(hears, strings.Join(strings.FieldsFunc(r.cells[0], func(c rune) bool { return c == ',' || c == ':' })[:1], ""))
		days, err := strconv.Atoi(strings.TrimSuffix(r.cells[1], " days"))
		if err != nil || days <= last || days > 90 {
			found = append(found, fmt.Sprintf("found %s after %s, expected days, more than %d and 90 at most", r.cells[0], r.cells[1], last))
		}
		last = days
	}
	if want := []string{"a first answer", "the assessment", "the mend", "the disclosure"}; !slices.Equal(hears, want) {
		found = append(found, fmt.Sprintf("a reporter hears %q, expected %q", hears, want))
	}
	for _, need := range []string{"(https://github.com/ferrule-dev/ferrule/security/advisories/new)", "issues/new) that asks for a private contact", "[advisory](", "CVE", "(CHANGELOG.md)"} {
		if !strings.Contains(page, need) {
			found = append(found, "it does not say "+need)
		}
	}
	if address := regexp.MustCompile(`\S+@\S+\.\w+`).FindString(page); address != "" {
		found = append(found, "an address: "+address)
	}
	return found
}

// SECURITY.md says how to report, what a reporter hears and when, and what is said in public.
func TestSecurityReports(t *testing.T) {
	page := readPage(t, "SECURITY.md")
	assert.Empty(t, faultsOfReports(page))
	for change, fault := range map[[2]string]string{
		{"| 90 days |", "| 91 days |"}:            "found the disclosure, mended or not after 91 days",
		{"| 14 days |", "| soon |"}:               "after soon, expected days",
		{"| 5 days |", "| 15 days |"}:             "more than 15",
		{"| a first answer, by a person", "| no"}: "a reporter hears [\"no\"",
		{"private contact", "contact"}:            "it does not say issues/new) that asks for a private contact",
		{"security/advisories/new", "security"}:   "it does not say (https",
		{"It has a CVE", "It has a number"}:       "it does not say CVE",
		{"And nothing", "security@example.com"}:   "an address: security@example.com",
	} {
		wrong := strings.Replace(page+"And nothing", change[0], change[1], 1)
		require.NotEqual(t, page+"And nothing", wrong, change)
		assert.Contains(t, strings.Join(faultsOfReports(wrong), "\n"), fault, change)
	}
}

const (
	promisesHead     = "| promise | held by |"
	experimentalHead = "| experimental package | has |"
)

// faultsOfPromises are what is wrong with docs/promises.md: a promise that nothing holds, what holds one and is not there, and a list of experimental packages that is not that of the
// packages whose comments say it.
func (tr *tree) faultsOfPromises(page string, experimental []string) (found []string) {
	promises := rows(page, promisesHead)
	if len(promises) == 0 {
		found = append(found, "there is no promise")
	}
	for _, r := range promises {
		if len(r.cells) != 2 || holders(r.cells[1]) == 0 && !strings.HasPrefix(r.cells[1], "no test: ") {
			found = append(found, "nothing holds it: "+r.text)
		}
	}
	var listed []string
	for _, r := range rows(page, experimentalHead) {
		listed = append(listed, strings.Trim(r.cells[0], "`"))
	}
	for _, folder := range experimental {
		if !slices.Contains(listed, folder) {
			found = append(found, folder+" says that it is experimental, and is not in the list")
		}
	}
	for _, folder := range listed {
		if !slices.Contains(experimental, folder) {
			found = append(found, folder+" is in the list, and does not say that it is experimental")
		}
	}
	return append(found, tr.absent(page)...)
}

// What docs/promises.md promises is held by what is there, and pages lead to it.
func TestPromisesPage(t *testing.T) {
	var open []string
	for folder, files := range packages(t) {
		if experimental(files) {
			open = append(open, folder)
		}
	}
	page := readPage(t, "docs", "promises.md")
	for _, fault := range newTree(t).faultsOfPromises(page, open) {
		t.Error(fault)
	}
	assert.Greater(t, len(rows(page, promisesHead)), 30)
	for from, link := range map[string]string{"CHANGELOG.md": "docs/promises.md", "CONTRIBUTING.md": "docs/promises.md", "SECURITY.md": "docs/promises.md#", "docs/features.md": "promises.md"} {
		assert.True(t, strings.Contains(readPage(t, from), link), "%s does not lead to the page", from)
	}
}

// A page that promises what nothing holds is found out.
func TestPromisesPageThatIsWrong(t *testing.T) {
	tr := newTree(t)
	const good = promisesHead + "\n|---|---|\n| a | `internal/ci.TestPromisesPage` |\n| b | `make test` |\n| c | no test: people do |\n\n" + experimentalHead + "\n|---|---|\n| `a/b` | x |\n"
	open := []string{"a/b"}
	assert.Empty(t, tr.faultsOfPromises(good, open))
	for name, c := range map[string]struct{ old, new, fault string }{
		"a test that was renamed":   {"TestPromisesPage`", "TestPromises`", "internal/ci has no TestPromises"},
		"a target that is gone":     {"make test", "make tests", "make has no target tests"},
		"nothing":                   {"`make test`", "", "nothing holds it: | b |"},
		"words":                     {"no test: people do", "people do", "nothing holds it: | c |"},
		"a package that is no more": {"`a/b`", "`a/c`", "a/c is in the list"},
		"a package that is not in":  {"| `a/b` | x |\n", "", "a/b says that it is experimental"},
		"no promise":                {promisesHead, "| promises | held |", "there is no promise"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := strings.Replace(good, c.old, c.new, 1)
			require.NotEqual(t, good, wrong)
			assert.Contains(t, strings.Join(tr.faultsOfPromises(wrong, open), "\n"), c.fault)
		})
	}
}

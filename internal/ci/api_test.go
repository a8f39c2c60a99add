package ci_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

var recordAPI = flag.Bool("api", false, "write testdata/api.txt, the public names that later versions keep")

// packages are the files of the packages that others may import, by folder: those for every system, without tests, programs and what is internal.
func packages(t *testing.T) map[string][]*ast.File {
	t.Helper()
	all := map[string][]*ast.File{}
	require.NoError(t, filepath.WalkDir(fixture.Root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		folder, _ := filepath.Rel(fixture.Root(), path)
		folder = filepath.ToSlash(folder)
		switch {
		case d.IsDir() && folder != "." && (regexp.MustCompile(`^(build|bench|examples|cmd)$`).MatchString(folder) || regexp.MustCompile(`(^|/)(internal|testdata|target|[._][^/]*)$`).MatchString(folder)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		if file.Name.Name != "main" {
			in := filepath.ToSlash(filepath.Dir(folder))
			all[in] = append(all[in], file)
		}
		return nil
	}))
	return all
}

// experimental is whether a package's comment says that it is.
func experimental(files []*ast.File) bool {
	return slices.ContainsFunc(files, func(f *ast.File) bool {
		return f.Doc != nil && strings.Contains(strings.Join(strings.Fields(f.Doc.Text()), " "), "It is experimental: ")
	})
}

// api are the lines of what a package exports: a function or a method with its types, a constant or a variable with its type where it is written, a type with each of its exported
// fields; an interface that others can implement is one line, since a method more would be another one.
func api(folder string, files []*ast.File) (lines []string) {
	add := func(words ...string) {
		lines = append(lines, folder+": "+strings.Join(strings.Fields(strings.Join(words, " ")), " "))
	}
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if !d.Name.IsExported() {
					continue
				}
				if d.Recv == nil {
					add("func", d.Name.Name+parameters(d.Type))
				} else if of := d.Recv.List[0].Type; ast.IsExported(base(of)) {
					add("method (" + text(of) + ") " + d.Name.Name + parameters(d.Type))
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.ValueSpec:
						for _, name := range s.Names {
							if name.IsExported() {
								add(d.Tok.String(), name.Name, text(s.Type))
							}
						}
					case *ast.TypeSpec:
						if s.Name.IsExported() {
							types(add, s)
						}
					}
				}
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

func types(add func(...string), s *ast.TypeSpec) {
	name := s.Name.Name
	if s.TypeParams != nil {
		var of []string
		for _, p := range s.TypeParams.List {
			of = append(of, strings.Repeat("_ "+text(p.Type)+",", len(p.Names)))
		}
		name += "[" + strings.Join(of, " ") + "]"
	}
	if s.Assign.IsValid() {
		name += " ="
	}
	switch of := s.Type.(type) {
	case *ast.StructType:
		add("type", name, "struct")
		for _, f := range of.Fields.List {
			for _, n := range f.Names {
				if n.IsExported() {
					add("field", s.Name.Name+"."+n.Name, text(f.Type))
				}
			}
			if len(f.Names) == 0 && ast.IsExported(base(f.Type)) {
				add("field", s.Name.Name, "embeds", text(f.Type))
			}
		}
	case *ast.InterfaceType:
		var methods []string
		closed := false // to implementations of others
		for _, m := range of.Methods.List {
			function, ok := m.Type.(*ast.FuncType)
			switch {
			case !ok:
				methods = append(methods, text(m.Type))
			case m.Names[0].IsExported():
				methods = append(methods, m.Names[0].Name+parameters(function))
			default:
				closed = true
			}
		}
		slices.Sort(methods)
		if !closed {
			add("type", name, "interface {", strings.Join(methods, "; "), "}")
			return
		}
		add("type", name, "interface, closed")
		for _, m := range methods {
			add("method (" + s.Name.Name + ") " + m)
		}
	default:
		add("type", name, text(s.Type))
	}
}

// parameters are a function's types, without the names of its parameters.
func parameters(f *ast.FuncType) string {
	list := func(fields *ast.FieldList) string {
		var all []string
		if fields != nil {
			for _, p := range fields.List {
				for range max(1, len(p.Names)) {
					all = append(all, text(p.Type))
				}
			}
		}
		return "(" + strings.Join(all, ", ") + ")"
	}
	constraints := ""
	if f.TypeParams != nil {
		constraints = "[" + list(f.TypeParams) + "]"
	}
	return constraints + list(f.Params) + " " + list(f.Results)
}

// text is an expression as it is written; of a function's type without the names of parameters.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case nil:
		return ""
	case *ast.FuncType:
		return "func" + parameters(e)
	case *ast.Ellipsis:
		return "..." + text(e.Elt)
	}
	var b bytes.Buffer
	_ = printer.Fprint(&b, token.NewFileSet(), e)
	return b.String()
}

// base is the name of a type, without pointers and parameters.
func base(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return base(e.X)
	case *ast.IndexExpr:
		return base(e.X)
	case *ast.IndexListExpr:
		return base(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// Public names stay: what testdata/api.txt has of packages that are not experimental is there, with the same types. More may be there; each release writes the file anew, and a
// line that leaves it is seen in the change.
func TestPublicNamesStay(t *testing.T) {
	var found []string
	for folder, files := range packages(t) {
		if !experimental(files) {
			found = append(found, api(folder, files)...)
		}
	}
	slices.Sort(found)
	path := filepath.Join("testdata", "api.txt")
	if *recordAPI {
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(found, "\n")+"\n"), 0o666))
		return
	}
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	there := map[string]bool{}
	for _, line := range found {
		there[line] = true
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(kept), "\r\n", "\n")), "\n")
	require.Greater(t, len(lines), 1000)
	for _, line := range lines {
		assert.True(t, there[line], "gone, or another one: %s. docs/promises.md says that it stays; before 1.0: go test ./internal/ci -run TestPublicNamesStay -args -api", line)
	}
}

// Another type, a name that is gone, and a method more of an interface that others implement are other lines; a parameter's name and a field more are not.
func TestPublicNamesAreTold(t *testing.T) {
	lines := func(source string) []string {
		file, err := parser.ParseFile(token.NewFileSet(), "a.go", "package a\n"+source, parser.SkipObjectResolution)
		require.NoError(t, err)
		return api("a", []*ast.File{file})
	}
	const before = `
type T struct { A int; b int }
type Open interface { M(n int) }
type Closed interface { M(n int); own() }
type Of[K comparable, V any] map[K]V
type Same = T
func F(a, b int, more ...string) (n int, err error)
func G[V any](v V, do func(n int) error)
func (t *T) Has(name string) bool
func (t *T) has()
const C, D = 1, 2
var ErrX error
`
	kept := lines(before)
	assert.Equal(t, []string{"a: const C", "a: const D", "a: field T.A int", "a: func F(int, int, ...string) (int, error)", "a: func G[(any)](V, func(int) (error)) ()",
		"a: method (*T) Has(string) (bool)", "a: method (Closed) M(int) ()", "a: type Closed interface, closed", "a: type Of[_ comparable, _ any,] map[K]V", "a: type Open interface { M(int) () }",
		"a: type Same = T", "a: type T struct", "a: var ErrX error"}, kept)
	for change, stays := range map[[2]string]bool{
		{"n int, err error", "int, error"}:                true,
		{"b int }", "b int; More string }"}:               true,
		{"func F", "// Deprecated: G is better.\nfunc F"}: true,
		{"own() }", "own(); More() }"}:                    true,
		{"A int;", "A int64;"}:                            false,
		{"A int;", "a int;"}:                              false,
		{"M(n int) }", "M(n int); More() }"}:              false,
		{"name string) bool", "name string)"}:             false,
		{"func (t *T) Has", "func (t T) Has"}:             false,
		{"more ...string", "more []string"}:               false,
		{"C, D = 1, 2", "C = 1"}:                          false,
		{"type Same = T", "type Same T"}:                  false,
		{"func(n int) error", "func(n string)"}:           false,
	} {
		after := strings.Replace(before, change[0], change[1], 1)
		require.NotEqual(t, before, after)
		now := lines(after)
		gone := slices.ContainsFunc(kept, func(line string) bool { return !slices.Contains(now, line) })
		assert.Equal(t, !stays, gone, change)
	}
}

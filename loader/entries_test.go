package loader_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// Every public function and type is in an example that runs, whose output is compared: it is what the example is named after,
// or what the example uses.
func TestExamplesShowEveryEntry(t *testing.T) {
	folders := []string{"loader", "loader/inspect", "loader/isolate", "loader/isolate/sandbox", "loader/builtin", "plugins"}
	used := map[string]bool{} // by package and name, as in loader.Open
	entries := map[string][]string{}
	for _, folder := range folders {
		name := filepath.Base(folder)
		files, err := filepath.Glob(filepath.Join(fixture.Root(), folder, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, folder)
		if folder == "plugins" { // what takes an engine of another module is shown in one of its own
			files = append(files, filepath.Join(fixture.Root(), folder, "enginetest", "wasmtest", "example_test.go"))
		}
		var tests []*ast.File
		for _, path := range files {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
			require.NoError(t, err)
			if strings.HasSuffix(path, "_test.go") {
				tests = append(tests, file)
				continue
			}
			for _, d := range file.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil && d.Name.IsExported() {
						entries[name] = append(entries[name], d.Name.Name)
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() {
							entries[name] = append(entries[name], s.Name.Name)
						}
					}
				}
			}
		}
		for _, e := range doc.Examples(tests...) {
			if e.Output == "" {
				continue // it is compiled, and does not run
			}
			symbol, _, _ := strings.Cut(e.Name, "_")
			used[name+"."+symbol] = true
			ast.Inspect(e.Code, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if of, ok := s.X.(*ast.Ident); ok {
						used[of.Name+"."+s.Sel.Name] = true
					}
				}
				return true
			})
		}
	}
	for name, symbols := range entries {
		assert.Greater(t, len(symbols), 1, name)
		for _, symbol := range symbols {
			assert.True(t, used[name+"."+symbol], "%s.%s is in no example with an output", name, symbol)
		}
	}
}

// What `go doc` shows first is a page: the details are where the names are that they are about.
func TestDocIsAPage(t *testing.T) {
	for _, folder := range []string{"loader", "loader/isolate", "loader/isolate/sandbox", "loader/builtin", "loader/inspect"} {
		cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "doc", "./"+folder)
		cmd.Dir = fixture.Root()
		text, err := cmd.Output()
		require.NoError(t, err, folder)
		assert.LessOrEqual(t, strings.Count(string(text), "\n"), 100, "lines of go doc ./%s", folder)
	}
}

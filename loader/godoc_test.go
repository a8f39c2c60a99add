package loader_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// What go doc shows of a public type are its fields: none is another name of an internal type, and one that is another name of a public
// structure says its fields.
func TestAliasesAreExplained(t *testing.T) {
	const module = "github.com/ferrule-dev/ferrule/"
	// types returns the types that are declared in a folder of the project, and the imports of the file that each is in.
	types := func(dir string) (specs map[*ast.TypeSpec]*ast.CommentGroup, imports map[*ast.TypeSpec]map[string]string) {
		specs, imports = make(map[*ast.TypeSpec]*ast.CommentGroup), make(map[*ast.TypeSpec]map[string]string)
		files, err := filepath.Glob(filepath.Join(fixture.Root(), dir, "*.go"))
		require.NoError(t, err)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			require.NoError(t, err)
			names := make(map[string]string)
			for _, i := range file.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				name := path[strings.LastIndex(path, "/")+1:]
				if i.Name != nil {
					name = i.Name.Name
				}
				names[name] = path
			}
			for _, d := range file.Decls {
				group, ok := d.(*ast.GenDecl)
				if !ok || group.Tok != token.TYPE {
					continue
				}
				for _, s := range group.Specs {
					spec := s.(*ast.TypeSpec)
					specs[spec], imports[spec] = group.Doc, names
				}
			}
		}
		return specs, imports
	}
	// fields returns the names of the exported fields of a structure.
	fields := func(dir, name string) (names []string) {
		specs, _ := types(dir)
		for spec := range specs {
			if s, ok := spec.Type.(*ast.StructType); ok && spec.Name.Name == name {
				for _, field := range s.Fields.List {
					for _, n := range field.Names {
						if n.IsExported() {
							names = append(names, n.Name)
						}
					}
				}
			}
		}
		return names
	}
	assert.Equal(t, []string{"Path", "Symbol", "Kind", "Found", "Expected", "Remedy", "Err"}, fields("loader/inspect", "Error"))

	packages, aliases := 0, 0
	for _, top := range []string{"abi", "loader"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(fixture.Root(), top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if d.Name() == "internal" || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			dir, err := filepath.Rel(fixture.Root(), path)
			require.NoError(t, err)
			specs, imports := types(dir)
			if len(specs) > 0 {
				packages++
			}
			for spec, doc := range specs {
				target, ok := spec.Type.(*ast.SelectorExpr)
				if !spec.Name.IsExported() || !ok || !spec.Assign.IsValid() {
					continue
				}
				aliases++
				from := imports[spec][target.X.(*ast.Ident).Name]
				assert.NotEmpty(t, from, "%s: %s", dir, spec.Name)
				assert.NotContains(t, from, "/internal/", "%s: %s", dir, spec.Name)
				for _, field := range fields(strings.TrimPrefix(from, module), target.Sel.Name) {
					assert.Regexp(t, `(?m)^\t`+field+` `, doc.Text(), "%s: %s", dir, spec.Name)
				}
			}
			return nil
		}))
	}
	assert.GreaterOrEqual(t, packages, 6)
	assert.GreaterOrEqual(t, aliases, 2)
}

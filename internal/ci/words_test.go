package ci

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// Every exported name of the public packages says what it is: functions, methods, types, their fields, constants and
// variables. In a group, or on a field, a comment beside the name will do.
func TestExportedNamesAreDocumented(t *testing.T) {
	names := 0
	check := func(name *ast.Ident, at *token.FileSet, docs ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		names++
		for _, doc := range docs {
			if strings.TrimSpace(doc.Text()) != "" {
				return
			}
		}
		t.Errorf("%s: %s has no comment", at.Position(name.Pos()), name.Name)
	}
	for _, folder := range []string{"abi", "loader", "loader/escape", "loader/inspect", "loader/isolate", "loader/isolate/sandbox", "plugins/config"} {
		at := token.NewFileSet()
		files, err := filepath.Glob(filepath.Join(fixture.Root(), folder, "*.go"))
		require.NoError(t, err)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(at, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, decl := range file.Decls {
				switch d := decl.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil || receiverIsExported(d) {
						check(d.Name, at, d.Doc)
					}
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						switch s := spec.(type) {
						case *ast.TypeSpec:
							check(s.Name, at, s.Doc, s.Comment, d.Doc)
							members(s, func(name *ast.Ident, docs ...*ast.CommentGroup) {
								if s.Name.IsExported() {
									check(name, at, docs...)
								}
							})
						case *ast.ValueSpec:
							for _, name := range s.Names {
								if d.Lparen.IsValid() {
									check(name, at, s.Doc, s.Comment, d.Doc)
								} else {
									check(name, at, d.Doc)
								}
							}
						}
					}
				}
			}
		}
	}
	assert.Greater(t, names, 200, "of names that were looked at")
}

func receiverIsExported(f *ast.FuncDecl) bool {
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

// members visits the fields of a struct and the methods of an interface. A comment on a line of several names, or on the one
// before them without an empty line between, is for all.
func members(s *ast.TypeSpec, visit func(*ast.Ident, ...*ast.CommentGroup)) {
	var list *ast.FieldList
	switch kind := s.Type.(type) {
	case *ast.StructType:
		list = kind.Fields
	case *ast.InterfaceType:
		list = kind.Methods
	default:
		return
	}
	for _, field := range list.List {
		for _, name := range field.Names {
			visit(name, field.Doc, field.Comment)
		}
	}
}

// No file names a folder of the machine that it was written on.
func TestNoFileNamesAMachine(t *testing.T) {
	git := fixture.Tool(t, "git", "apt-get install git")
	out, err := exec.Command(git, "-C", fixture.Root(), "ls-files", "-z").Output()
	if err != nil {
		t.Skip("not a checkout: ", err)
	}
	machine := regexp.MustCompile(`(?:^|[^\w.~-])/(?:home/\w+|root|work|Users/\w+)/[\w.]`)
	for _, name := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		path := filepath.Join(fixture.Root(), name)
		if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeType != 0 {
			continue
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		if strings.Contains(string(text), "\x00") {
			continue // built elsewhere, and kept as it is
		}
		for n, line := range strings.Split(string(text), "\n") {
			assert.NotRegexp(t, machine, line, "%s:%d", name, n+1)
		}
	}
}

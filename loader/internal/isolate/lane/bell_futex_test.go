//go:build linux && !ferrule_portable

package lane

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a system call gets as a number is not kept alive by it, unless it is converted within the call. So whoever passes
// an address that package raw gave out says with runtime.KeepAlive how long that is needed; words in mapped memory need
// none.
func TestSystemCallsKeepTheirArguments(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			var passed, kept []string
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch name := called(call); {
				case name == "runtime.KeepAlive":
					kept = append(kept, called(call.Args[0]))
				case strings.HasPrefix(name, "syscall.") || strings.HasPrefix(name, "unix."):
					for _, arg := range call.Args {
						if inner, ok := arg.(*ast.CallExpr); ok && (called(inner) == "raw.AddrOf" || called(inner) == "raw.Addr") {
							passed = append(passed, called(inner.Args[0]))
						}
					}
				}
				return true
			})
			found += len(passed)
			assert.Subset(t, kept, passed, "%s: %s", path, fn.Name.Name)
		}
		return nil
	})
	require.NoError(t, err)
	assert.NotZero(t, found, "the bell's limit is one")
}

// called returns the name of an expression: package.Function, or a variable.
func called(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.CallExpr:
		return called(e.Fun)
	case *ast.SelectorExpr:
		return called(e.X) + "." + e.Sel.Name
	case *ast.Ident:
		return e.Name
	case *ast.UnaryExpr:
		return called(e.X)
	case *ast.IndexExpr:
		return called(e.X)
	}
	return ""
}

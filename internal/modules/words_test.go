//go:build unix

package modules

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// compiled is what `go list -export` says of a package.
type compiled struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool
}

var (
	verbs    = regexp.MustCompile(`%[-+# 0]*\d*(?:\.\d+)?([a-zA-Z%])`)
	counting = regexp.MustCompile(`^ (?:more |other )?(?:bytes|calls|entries|files|inputs|instances|items|keys|others|records|redirects|releases|threads|values|words)\b`)
)

// neverOne are formats whose numbers are limits, or are more than one.
var neverOne = map[string]bool{
	"there are %d others": true, // more than twelve
	"at most %d bytes":    true, "%d bytes at most": true, "more than %d bytes": true, "more than %d redirects": true,
	"%d descriptors, not %d at most": true,
	"%d instances at the same time":  true, "%d instances on %d threads each, at the same time": true,
	"%d more bytes after each %d instances": true, "%s: %d more bytes after each %d calls": true, "cancelled before it began, it ran all %d records": true,
	"%d, %d, %d and %d threads more after %d, %d, %d and %d instances that have stopped": true,
	"%d %ses": true,
}

// forMachines are formats of texts that nobody reads.
var forMachines = map[string]bool{
	"%q %v %v %v %+v": true, "%q %q %v %q %s": true, // compared with others of the kind
}

// written finds, in the calls of a file that write texts with verbs, what is not in words: lists, maps and structures as Go writes them,
// and numbers before a plural, of which one may be 1.
func written(fset *token.FileSet, file *ast.File, info *types.Info) (found []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || call.Ellipsis != token.NoPos {
			return true
		}
		s, ok := info.TypeOf(call.Fun).(*types.Signature)
		if !ok || !s.Variadic() {
			return true
		}
		first := s.Params().Len() - 1
		if !types.Identical(s.Params().At(first).Type(), types.NewSlice(types.NewInterfaceType(nil, nil))) {
			return true
		}
		args, format := call.Args[min(first, len(call.Args)):], ""
		if first > 0 {
			if v := info.Types[call.Args[first-1]].Value; v != nil && v.Kind() == constant.String {
				format = constant.StringVal(v)
			}
		}
		say := func(arg ast.Expr) {
			found = append(found, fmt.Sprintf("%s: %q: %s", fset.Position(arg.Pos()), format, types.ExprString(arg)))
		}
		at := verbs.FindAllStringSubmatchIndex(strings.ReplaceAll(format, "%%", "  "), -1)
		for i, arg := range args {
			verb, behind := "v", ""
			if i < len(at) {
				verb, behind = format[at[i][2]:at[i][3]], format[at[i][1]:]
			} else if format != "" {
				continue // it is no format: of slog, where values are for machines
			}
			if verb != "x" && verb != "p" && !forMachines[format] && structured(info.TypeOf(arg), verb) {
				say(arg)
			}
			if verb == "d" && info.Types[arg].Value == nil && !neverOne[format] && counting.MatchString(behind) {
				say(arg)
			}
		}
		return true
	})
	return found
}

// structured reports whether Go writes a value in its own syntax.
func structured(of types.Type, verb string) bool {
	for _, name := range []string{"Error", "String"} {
		if m, _, _ := types.LookupFieldOrMethod(of, true, nil, name); m != nil {
			if _, ok := m.(*types.Func); ok {
				return false
			}
		}
	}
	switch u := of.Underlying().(type) {
	case *types.Slice:
		b, ok := u.Elem().Underlying().(*types.Basic)
		return !ok || b.Kind() != types.Byte || verb == "v" || verb == "d"
	case *types.Map, *types.Struct, *types.Array:
		return true
	}
	return false
}

// check returns what written finds in files of a package, whose imports come from exports.
func check(t *testing.T, path string, exports map[string]string, files map[string]string) (found []string) {
	t.Helper()
	fset := token.NewFileSet()
	var parsed []*ast.File
	for name, text := range files {
		file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		require.NoError(t, err)
		parsed = append(parsed, file)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{FakeImportC: true, Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	_, err := config.Check(path, fset, parsed, info)
	require.NoError(t, err)
	for _, file := range parsed {
		found = append(found, written(fset, file, info)...)
	}
	return found
}

// What the modules write for people is in words: a, b and c, 1 byte, 2 bytes; and not [a b c], 1 bytes.
func TestMessagesAreInWords(t *testing.T) {
	t.Parallel()
	exports, looked := map[string]string{}, 0
	packages := decode[compiled](t, goCommand(t, fixture.Root(), nil, "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly",
		"./abi/...", "./loader/...", "./plugins/...", "./plugins/oci/...", "./plugins/otel/...", "./cmd/ferrule/..."))
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	for _, p := range packages {
		if p.DepOnly || strings.HasSuffix(p.ImportPath, "/sourcetest") || strings.HasSuffix(p.ImportPath, "/reexec") { // they are for tests
			continue
		}
		files := map[string]string{}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			require.NoError(t, err)
			files[filepath.Join(p.Dir, name)] = string(text)
			looked++
		}
		assert.Empty(t, check(t, p.ImportPath, exports, files), "write lists by strings.Join, and counts by what the package has for it")
	}
	assert.Greater(t, looked, 200)

	assert.Len(t, check(t, "p", exports, map[string]string{"p.go": `package p
import "fmt"
func f(list []string, m map[string]int, n int, text []byte, err error) {
	fmt.Printf("expected %v", list)
	fmt.Printf("%% of %q and %s", list, m)
	fmt.Println(list)
	fmt.Printf("a file of %d bytes", n)
	fmt.Printf("a file of %d bytes, %s, %q, %x, %v", 7, text, text, list, err)
}`}), 5)
}

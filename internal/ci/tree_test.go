package ci_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A wait of a test whose end is a failure lasts a minute at the least: where a machine is busy, what takes a moment takes seconds.
func TestWaitsThatFailAreLong(t *testing.T) {
	t.Parallel()
	waits := 0
	for _, name := range tracked(t, "*_test.go") {
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, filepath.Join(fixture.Root(), name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for at, d := range shortWaits(file, &waits) {
			t.Errorf("%s: found a wait of %v that ends in a failure, expected time.Minute or more", files.Position(at), d)
		}
	}
	assert.Greater(t, waits, 100, "waits were looked at")

	planted, err := parser.ParseFile(token.NewFileSet(), "planted_test.go", `package p
func f() {
	require.Eventually(t, done, 20*time.Second, time.Millisecond)
	assert.Eventually(t, done, time.Minute, time.Millisecond)
	select {
	case <-time.After(3 * time.Second):
		t.Fatal("late")
	case <-time.After(time.Second):
		again()
	}
}`, 0)
	require.NoError(t, err)
	assert.Len(t, shortWaits(planted, &waits), 2)
}

// tracked are the files of the tree that git has, of these names.
func tracked(t *testing.T, names ...string) []string {
	t.Helper()
	list := exec.Command(fixture.Tool(t, "git", "apt-get install git"), append([]string{"ls-files", "-z", "--"}, names...)...)
	list.Dir = fixture.Root()
	out, err := list.Output()
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// Every file that is released has a name that somebody has given it, and something in it: a slip of a command leaves files with others.
func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.@+=~-]*(/[A-Za-z0-9_.][A-Za-z0-9_.@+=~-]*)*$`)
	files := tracked(t)
	assert.Greater(t, len(files), 1000)
	for _, name := range files {
		assert.Regexp(t, named, name)
	}
	assert.NotRegexp(t, named, "riter struct {,$p")
}

// shortWaits are those of a file that are shorter than a minute; waits counts all.
func shortWaits(file *ast.File, waits *int) map[token.Pos]time.Duration {
	short := make(map[token.Pos]time.Duration)
	note := func(e ast.Expr) {
		*waits++
		if d, ok := constantTime(e); ok && d < time.Minute {
			short[e.Pos()] = d
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if name := called(n); strings.HasPrefix(name, "Eventually") && len(n.Args) > 3 {
				note(n.Args[2])
			}
		case *ast.CommClause:
			receive, ok := n.Comm.(*ast.ExprStmt)
			if !ok || len(n.Body) == 0 {
				break
			}
			from, ok := receive.X.(*ast.UnaryExpr)
			if !ok {
				break
			}
			after, ok := from.X.(*ast.CallExpr)
			if !ok || called(after) != "After" || len(after.Args) != 1 {
				break
			}
			if first, ok := n.Body[0].(*ast.ExprStmt); ok {
				if c, ok := first.X.(*ast.CallExpr); ok {
					switch called(c) {
					case "Fatal", "Fatalf", "Error", "Errorf", "Fail", "Failf", "FailNow", "panic":
						note(after.Args[0])
					}
				}
			}
		}
		return true
	})
	return short
}

// called is the name of a function or method without what stands before it.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// constantTime is a time that is written as time.UNIT, or a number of these.
func constantTime(e ast.Expr) (time.Duration, bool) {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		unit, ok := map[string]time.Duration{"Microsecond": time.Microsecond, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}[e.Sel.Name]
		return unit, ok
	case *ast.BasicLit:
		n, err := strconv.Atoi(e.Value)
		return time.Duration(n), err == nil
	case *ast.BinaryExpr:
		x, ok := constantTime(e.X)
		y, ok2 := constantTime(e.Y)
		return x * y, ok && ok2 && e.Op == token.MUL
	}
	return 0, false
}

// A path that somebody gives is made absolute by package abspath: filepath.Abs takes link/.. for another folder than the system does.
func TestPathsAreOfAbspath(t *testing.T) {
	t.Parallel()
	looked := 0
	for _, name := range tracked(t, "*.go") {
		if strings.HasSuffix(name, "_test.go") || !strings.HasPrefix(name, "loader/") && !strings.HasPrefix(name, "plugins/") && !strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "loader/abspath/") {
			continue
		}
		looked++
		text, err := os.ReadFile(filepath.Join(fixture.Root(), name))
		require.NoError(t, err)
		assert.NotContains(t, string(text), "filepath.Abs(", name)
	}
	assert.Greater(t, looked, 300)
}

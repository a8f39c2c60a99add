package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// repository makes a module in a git repository, whose one commit has these files.
func repository(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("TMPDIR", t.TempDir()) // of compare: it leaves nothing there
	write(t, dir, map[string]string{"go.mod": "module example.com/tiny\n\ngo 1.26\n"})
	write(t, dir, files)
	git(t, dir, "init", "--quiet")
	git(t, dir, "add", "--all")
	git(t, dir, "-c", "user.name=tiny", "-c", "user.email=tiny@example.com", "commit", "--quiet", "--message=base")
	return dir
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %s: %s", args, out)
	return string(out)
}

// compare runs a comparison of the packages with HEAD, each benchmark once in each round, and returns what it prints.
func compare(t *testing.T, dir string, change func(*comparison)) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := comparison{base: "HEAD", packages: []string{"./..."}, bench: ".", time: "1x", count: 1, dir: dir, to: &out,
		progress: io.Discard}
	if change != nil {
		change(&c)
	}
	err := c.run(t.Context())
	nothingLeft(t)
	return out.String(), err
}

// nothingLeft fails where a comparison left its folder behind.
func nothingLeft(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "compare*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// benchmark is a test file whose benchmark reports a number of its own, and writes a name into the file LOG.
func benchmark(name, number string) string {
	return `package tiny

import (
	"os"
	"testing"
)

func BenchmarkWidgets(b *testing.B) {
	for b.Loop() {
	}
	b.ReportMetric(` + number + `, "widgets")
	log, err := os.OpenFile(os.Getenv("LOG"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	if _, err := log.WriteString("` + name + ` "); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkOther(b *testing.B) { b.Fatal("nobody asked for it") }
`
}

// What is not committed is compared with what is, in turns, and nothing of the repository changes.
func TestCompare(t *testing.T) {
	dir := repository(t, map[string]string{"tiny_test.go": benchmark("base", "100")})
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOG", log)
	write(t, dir, map[string]string{"tiny_test.go": benchmark("tree", "more"),
		"more_test.go": "package tiny\n\nconst more = 150\n"})
	before := git(t, dir, "status", "--porcelain")
	table, err := compare(t, filepath.Join(dir, "."), func(c *comparison) { c.bench, c.count = "Widgets", 6 })
	require.NoError(t, err)
	require.Regexp(t, `HEAD +│ +working tree`, table)
	require.Regexp(t, `Widgets\S* +100\.0 ± 0% +150\.0 ± 0% +\+50\.00% \(p=0\.002 n=6\)`, table)
	order, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("base tree tree base ", 3), string(order))
	require.Equal(t, before, git(t, dir, "status", "--porcelain"))
	require.Equal(t, 1, strings.Count(git(t, dir, "worktree", "list"), "\n"))
}

// What cannot be compared is an error that says which side it is, and what is wrong with it.
func TestCompareFails(t *testing.T) {
	const empty = "package tiny\n\nimport \"testing\"\n\nfunc BenchmarkNothing(b *testing.B) { for b.Loop() {} }\n"
	for name, c := range map[string]struct {
		committed, changed map[string]string
		change             func(*comparison)
		want               []string
	}{
		"no revision":      {change: func(c *comparison) { c.base = "" }, want: []string{"BASE=rev"}},
		"unknown revision": {change: func(c *comparison) { c.base = "no-such" }, want: []string{`"no-such" is no revision`}},
		"like an option":   {change: func(c *comparison) { c.base = "--all" }, want: []string{`"--all" is no revision`}},
		"no package":       {change: func(c *comparison) { c.packages = nil }, want: []string{"no package"}},
		"no count":         {change: func(c *comparison) { c.count = 0 }, want: []string{"the count is 0"}},
		"base does not build": {committed: map[string]string{"tiny_test.go": "package tiny\n\nvar x = nowhere\n"},
			changed: map[string]string{"tiny_test.go": empty}, want: []string{"HEAD does not build", "undefined: nowhere"}},
		"tree does not build": {changed: map[string]string{"tiny_test.go": "package tiny\n\nvar x = nowhere\n"},
			want: []string{"working tree does not build", "undefined: nowhere"}},
		"no such benchmark": {change: func(c *comparison) { c.bench = "Absent" }, want: []string{`matches "Absent"`, "example.com/tiny"}},
		"no tests": {committed: map[string]string{"other/other.go": "package other\n"},
			want: []string{"example.com/tiny/other has no tests"}},
		"a package of one side": {changed: map[string]string{"new/new_test.go": strings.Replace(empty, "tiny", "fresh", 1)},
			want: []string{"working tree has the package example.com/tiny/new and HEAD has not"}},
		"it fails": {changed: map[string]string{"tiny_test.go": strings.Replace(empty, "for b.Loop() {}", `b.Fatal("broken")`, 1)},
			want: []string{"working tree: the benchmarks of example.com/tiny", "broken"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"tiny_test.go": empty}
			for name, text := range c.committed {
				files[name] = text
			}
			dir := repository(t, files)
			write(t, dir, c.changed)
			table, err := compare(t, dir, c.change)
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.Empty(t, table)
		})
	}
}

// An interrupted comparison ends the benchmark that runs, and removes what it wrote.
func TestCompareInterrupted(t *testing.T) {
	dir := repository(t, map[string]string{"tiny_test.go": `package tiny

import (
	"fmt"
	"os"
	"testing"
	"time"
)

func BenchmarkForever(b *testing.B) {
	if err := os.WriteFile(os.Getenv("LOG"), fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		b.Fatal(err)
	}
	time.Sleep(time.Hour)
}
`})
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOG", log)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		c := comparison{base: "HEAD", packages: []string{"."}, bench: ".", count: 1, dir: dir, to: io.Discard, progress: io.Discard}
		ended <- c.run(ctx)
	}()
	var pid int
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		_, scan := fmt.Sscanln(string(text), &pid)
		return err == nil && scan == nil
	}, 2*time.Minute, 10*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	nothingLeft(t)
}

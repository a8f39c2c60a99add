// Command compare runs benchmarks of another revision and of the working tree, as it is, in turns, and prints benchstat's
// table of them. Run it anywhere in a git repository of Go code: packages are named from the repository's root.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// benchstat is what compares the figures.
const benchstat = "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da"

func main() {
	c := comparison{to: os.Stdout, progress: os.Stderr}
	var packages string
	flag.StringVar(&c.base, "base", "", "`revision` to compare the working tree with")
	flag.StringVar(&packages, "pkg", "", "`packages`, separated by spaces")
	flag.StringVar(&c.bench, "bench", ".", "`regexp` of the benchmarks, as for go test")
	flag.StringVar(&c.time, "benchtime", "", "`duration` of each, or a count such as 100x, as for go test")
	flag.IntVar(&c.count, "count", 10, "how often each runs on each side; fewer than 6 can show no difference")
	flag.Parse()
	c.packages = strings.Fields(packages)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// comparison is what to compare.
type comparison struct {
	base         string   // the revision
	packages     []string // go's patterns, from the root of the repository
	bench, time  string
	count        int
	dir          string // in the repository; empty for the current folder
	to, progress io.Writer
}

// side is one of the two sources that are compared.
type side struct {
	name    string // for people, and benchstat's column
	root    string
	tests   []test
	figures bytes.Buffer
}

// test is the tests of one package, compiled.
type test struct{ path, dir, binary string }

func (c *comparison) run(ctx context.Context) error {
	switch {
	case c.base == "":
		return errors.New("there is no revision to compare with: BASE=rev, for example BASE=main")
	case len(c.packages) == 0:
		return errors.New("there is no package to compare: -pkg './loader ./loader/isolate'")
	case c.count < 1:
		return fmt.Errorf("the count is %d, expected 1 or more", c.count)
	}
	root, err := c.git(ctx, c.dir, nil, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	commit, err := c.git(ctx, root, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", c.base+"^{commit}")
	if err != nil {
		return fmt.Errorf("%q is no revision here: `git log --oneline --all` shows what there is; a shallow clone gets more "+
			"by git fetch", c.base)
	}
	temp, err := os.MkdirTemp("", "compare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	old := &side{name: c.base, root: filepath.Join(temp, "base")}
	tree := &side{name: "working tree", root: root}
	if err := c.export(ctx, root, commit, old.root, filepath.Join(temp, "index")); err != nil {
		return err
	}
	for i, s := range []*side{old, tree} {
		fmt.Fprintf(c.progress, "building %s\n", s.name)
		if err := c.build(ctx, s, filepath.Join(temp, fmt.Sprint("tests", i))); err != nil {
			return err
		}
	}
	if err := samePackages(old, tree); err != nil {
		return err
	}
	for round := range c.count {
		fmt.Fprintf(c.progress, "round %d of %d\n", round+1, c.count)
		sides := []*side{old, tree}
		if round%2 == 1 { // neither is always the one that finds a warm machine
			sides = []*side{tree, old}
		}
		for i := range old.tests {
			for _, s := range sides {
				if err := c.measure(ctx, s, s.tests[i]); err != nil {
					return err
				}
			}
		}
	}
	return c.report(ctx, temp, old, tree)
}

// export writes the files of a commit to a folder. It uses an index of its own, so that nothing of the repository changes,
// and leaves nothing there that would have to be removed, as a work tree of git's would.
func (c *comparison) export(ctx context.Context, root, commit, to, index string) error {
	env := []string{"GIT_INDEX_FILE=" + index}
	if _, err := c.git(ctx, root, env, "read-tree", commit); err != nil {
		return err
	}
	_, err := c.git(ctx, root, env, "checkout-index", "--all", "--prefix="+to+string(filepath.Separator))
	return err
}

// build compiles the tests of the packages.
func (c *comparison) build(ctx context.Context, s *side, to string) error {
	list, err := c.goCommand(ctx, s, append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}"}, c.packages...)...)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		path, dir, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		t := test{path, dir, filepath.Join(to, fmt.Sprintf("%d.test", len(s.tests)))}
		if _, err := c.goCommand(ctx, s, "test", "-c", "-o", t.binary, path); err != nil {
			return err
		}
		if _, err := os.Stat(t.binary); err != nil {
			return fmt.Errorf("%s: %s has no tests", s.name, path)
		}
		s.tests = append(s.tests, t)
	}
	return nil
}

// samePackages says which package only one side has, as a pattern can match more on one than on the other.
func samePackages(a, b *side) error {
	for _, s := range [][2]*side{{a, b}, {b, a}} {
		has := make(map[string]bool)
		for _, t := range s[1].tests {
			has[t.path] = true
		}
		for _, t := range s[0].tests {
			if !has[t.path] {
				return fmt.Errorf("%s has the package %s and %s has not: name packages that both have",
					s[0].name, t.path, s[1].name)
			}
		}
	}
	return nil // in the same order, because the patterns are the same
}

// measure runs the benchmarks of a package once, and keeps the figures.
func (c *comparison) measure(ctx context.Context, s *side, t test) error {
	args := []string{"-test.run=^$", "-test.bench=" + c.bench, "-test.benchmem", "-test.timeout=0"}
	if c.time != "" {
		args = append(args, "-test.benchtime="+c.time)
	}
	out, err := command(ctx, t.dir, nil, t.binary, args...)
	if err != nil {
		return fmt.Errorf("%s: the benchmarks of %s: %w", s.name, t.path, err)
	}
	if !strings.Contains(out, "\nBenchmark") {
		return fmt.Errorf("%s: no benchmark of %s matches %q: it printed\n%s", s.name, t.path, c.bench, out)
	}
	s.figures.WriteString(out + "\n")
	return nil
}

// report prints benchstat's table.
func (c *comparison) report(ctx context.Context, temp string, sides ...*side) error {
	args := []string{"run", benchstat}
	for i, s := range sides {
		file := filepath.Join(temp, fmt.Sprintf("figures%d", i))
		if err := os.WriteFile(file, s.figures.Bytes(), 0o644); err != nil {
			return err
		}
		args = append(args, s.name+"="+file)
	}
	table, err := command(ctx, temp, nil, goProgram(), args...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.to, table)
	return err
}

// goCommand runs the go command on a side's sources, with the workspace that is there.
func (c *comparison) goCommand(ctx context.Context, s *side, args ...string) (string, error) {
	flags := strings.TrimSpace(os.Getenv("GOFLAGS") + " -buildvcs=false")
	out, err := command(ctx, s.root, []string{"GOWORK=", "GOFLAGS=" + flags}, goProgram(), args...)
	if err != nil {
		return "", fmt.Errorf("%s does not build: %w", s.name, err)
	}
	return out, nil
}

// goProgram is the go command that the Makefile was told to use.
func goProgram() string {
	if program := os.Getenv("GO"); program != "" {
		return program
	}
	return "go"
}

func (c *comparison) git(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	return command(ctx, dir, env, "git", args...)
}

// command runs a program and returns what it prints. When ctx ends, the program is asked to end, with what it started.
func command(ctx context.Context, dir string, env []string, program string, args ...string) (string, error) {
	var out, diagnostics bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &diagnostics
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out.String(),
			diagnostics.String())
	}
	return strings.TrimSpace(out.String()), nil
}

//go:build unix

package modules

import (
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// invocation is one run of the go command by make.
type invocation struct {
	dir, goos string
	args      []string
}

// recorded runs targets of the Makefile with a go command that writes down what it is asked for, and does only what is quick.
func recorded(t *testing.T, tree string, targets ...string) (all []invocation) {
	t.Helper()
	program := fixture.Tool(t, "make", "apt-get install make")
	dir := t.TempDir()
	record, script := filepath.Join(dir, "record"), filepath.Join(dir, "go")
	require.NoError(t, os.WriteFile(record, nil, 0o666))
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"+
		`(printf '%s\0%s' "$PWD" "$GOOS"; printf '\0%s' "$@"; echo) >>"$RECORD"`+"\n"+
		`case "$1 $2" in "list "* | "mod edit") exec "$REAL" "$@" ;; esac`+"\n"), 0o777))
	cmd := exec.Command(program, append([]string{"-C", tree, "CARGO=true", "CC=true"}, targets...)...)
	cmd.Env = append(os.Environ(), "RECORD="+record, "REAL="+fixture.Tool(t, "go", "see https://go.dev/dl"),
		"GO="+script, "GOTEST="+script+" test", "MAKEFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "make %v\n%s", targets, out)
	text, err := os.ReadFile(record)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\x00")
		all = append(all, invocation{fields[0], fields[1], fields[2:]})
	}
	return all
}

// packages returns the packages that invocations named, of those that took is true for.
func packages(t *testing.T, all []invocation, took func(invocation) bool) (paths []string) {
	t.Helper()
	seen := map[string]bool{} // go list of the same once
	for _, i := range all {
		var patterns []string
		for _, arg := range i.args {
			if strings.HasPrefix(arg, "./") {
				patterns = append(patterns, arg)
			}
		}
		key := i.dir + "\x00" + strings.Join(patterns, "\x00")
		if len(patterns) == 0 || !took(i) || seen[key] {
			continue
		}
		seen[key] = true
		paths = append(paths, strings.Fields(string(goCommand(t, i.dir, nil, append([]string{"list"}, patterns...)...)))...)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// verb takes the runs of a go command, and those for a platform if it is given.
func verb(name, goos string) func(invocation) bool {
	return func(i invocation) bool { return i.args[0] == name && (goos == "" || i.goos == goos) }
}

// without leaves out the packages of modules.
func without(t *testing.T, paths []string, modules ...string) (rest []string) {
	t.Helper()
	for _, path := range paths {
		if !slices.ContainsFunc(modules, func(m string) bool { return strings.HasPrefix(path+"/", root+"/"+m+"/") }) {
			rest = append(rest, path)
		}
	}
	require.Less(t, len(rest), len(paths), "%v are modules", modules)
	return rest
}

// No target of the Makefile leaves out a package of any module, but for those that are said here.
func TestMakeLeavesNoModuleOut(t *testing.T) {
	t.Parallel()
	tree := fixture.Root()
	every := strings.Fields(string(goCommand(t, tree, nil, "list", "work")))
	slices.Sort(every)
	modules := strings.Fields(string(goCommand(t, tree, nil, "list", "-m", "-f", "{{.Dir}}")))

	lint := recorded(t, tree, "lint")
	assert.Equal(t, every, packages(t, lint, verb("vet", "")), "vet")
	assert.Equal(t, every, packages(t, lint, func(i invocation) bool {
		return i.args[0] == "run" && strings.Contains(i.args[1], "staticcheck")
	}), "staticcheck")
	var tidy []string
	for _, i := range lint {
		if slices.Equal(i.args[:2], []string{"mod", "tidy"}) && slices.Contains(i.args, "-diff") {
			tidy = append(tidy, i.dir)
		}
	}
	assert.ElementsMatch(t, modules, tidy, "mod tidy -diff")

	tests := recorded(t, tree, "test", "rest-go", "bench-test")
	assert.Equal(t, every, packages(t, tests, verb("test", "")), "test")
	both := slices.Concat(packages(t, tests[:1], verb("test", "")), packages(t, tests[1:2], verb("test", "")))
	slices.Sort(both)
	assert.Equal(t, without(t, every, "bench"), both, "each once, by one go test for what is quick and one for the rest: it keeps the processors busy")

	// The programs race no more than the libraries do, nor does what tests several of these.
	assert.Equal(t, without(t, every, "bench", "cmd/ferrule", "examples", "plugins/enginetest", "plugins/web/browsertest", "sdk-go/formstest", "internal", "include", "sdk-c", "sdk-rust"),
		packages(t, recorded(t, tree, "race"), verb("test", "")), "race")

	cross := recorded(t, tree, "cross")
	for _, goos := range systems {
		want := every
		if goos == "windows" {
			want = without(t, every, "bench") // purego has no Dlopen there
		}
		assert.Equal(t, want, packages(t, cross, verb("build", goos)), "build for %s", goos)
		assert.Equal(t, want, packages(t, cross, verb("vet", goos)), "vet for %s", goos)
	}
}

// testFiles are the texts of a package's tests, by their files' paths.
func testFiles(t *testing.T, tree, pkg string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(tree, filepath.FromSlash(strings.TrimPrefix(pkg, root)), "*_test.go"))
	require.NoError(t, err)
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		texts[file] = string(text)
	}
	return texts
}

// What `make test` and `make rest` leave out because it takes long is there, and `make long` runs it.
func TestMakeNamesLongTests(t *testing.T) {
	t.Parallel()
	tree := fixture.Root()
	option := func(target, name string) string {
		for _, i := range recorded(t, tree, target) {
			if at := slices.Index(i.args, name); at >= 0 && i.args[0] == "test" {
				return i.args[at+1]
			}
		}
		return ""
	}
	run := option("long", "-run")
	require.Regexp(t, `^\^\((Test\w+\|)+Test\w+\)\$$`, run)
	assert.Equal(t, run, option("test", "-skip"))
	assert.Equal(t, run, option("rest-go", "-skip"))

	// The tests of those names that packages have.
	names := regexp.MustCompile(`(?m)^func (` + strings.Trim(run, "^()$") + `)\(t \*testing\.T\)`)
	fetched := regexp.MustCompile(`fixture\.Tool\(.*, "(make \w+)`)
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	some := false // of those files
	found := func(targets ...string) (tests []string) {
		for _, pkg := range packages(t, recorded(t, tree, targets...), verb("test", "")) {
			for file, text := range testFiles(t, tree, pkg) {
				// A bare checkout has not what another target fetches; a file whose tests need it has no others.
				if wants := fetched.FindStringSubmatch(text); wants != nil {
					some = true
					for _, m := range test.FindAllStringSubmatch(text, -1) {
						assert.Regexp(t, run, m[1], "%s: it is run by make test or make rest, and needs what %s makes", file, wants[1])
					}
				}
				for _, m := range names.FindAllStringSubmatch(text, -1) {
					tests = append(tests, pkg+" "+m[1])
				}
			}
		}
		return tests
	}
	long := found("long")
	assert.True(t, some, "a file whose tests need what another target fetches")
	assert.ElementsMatch(t, found("test", "rest-go"), long, "what one leaves out the other runs, in whatever package it is")
	for _, name := range strings.Split(strings.Trim(run, "^()$"), "|") {
		assert.True(t, slices.ContainsFunc(long, func(test string) bool { return strings.HasSuffix(test, " "+name) }), "%s is in no package of make long", name)
	}
}

// What `make race` leaves out because it is one goroutine is there, in one package each.
func TestMakeNamesRacelessTests(t *testing.T) {
	t.Parallel()
	tree := fixture.Root()
	race := recorded(t, tree, "race")
	require.Len(t, race, 1)
	skip := slices.Index(race[0].args, "-skip")
	require.Positive(t, skip)
	names := strings.Split(strings.TrimSuffix(strings.TrimPrefix(race[0].args[skip+1], "^("), ")$"), "|")
	require.True(t, slices.IsSorted(names))
	found := map[string]int{}
	for _, pkg := range packages(t, race, verb("test", "")) {
		for _, text := range testFiles(t, tree, pkg) {
			for _, name := range names {
				if strings.Contains(text, "\nfunc "+name+"(t *testing.T)") {
					found[name]++
				}
			}
		}
	}
	for _, name := range names {
		assert.Equal(t, 1, found[name], name)
	}
}

// The test of the Makefile sees a package that is left out, and one that is looked at in another folder.
func TestMakeThatLeavesOneOut(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"go.work":  "go 1.26.0\n\nuse (\n\t.\n\t./a\n\t./b\n)\n",
		"go.mod":   "module m\n\ngo 1.26.0\n",
		"m.go":     "package m\n",
		"a/go.mod": "module m/a\n\ngo 1.26.0\n",
		"a/a.go":   "package a\n",
		"b/go.mod": "module m/b\n\ngo 1.26.0\n",
		"b/b.go":   "package b\n",
		"Makefile": "x:\n\t$(GO) vet ./... ./a/...\n\tcd b && GOOS=plan9 $(GO) vet ./...\n\t$(GO) build ./b\n",
	})
	all := recorded(t, dir, "x")
	assert.Equal(t, []string{"m", "m/a", "m/b"}, packages(t, all, verb("vet", "")))
	assert.Equal(t, []string{"m/b"}, packages(t, all, verb("vet", "plan9")))
	assert.Equal(t, []string{"m/b"}, packages(t, all, verb("build", "")))
}

// untrapped returns the lines of a script at which something is to be cleaned up when it exits, and not when it is interrupted: dash runs no EXIT trap then.
func untrapped(script string) (found []string) {
	lines := strings.Split(script, "\n")
	for i, line := range lines {
		if regexp.MustCompile(`\btrap .*\bEXIT\b`).MatchString(line) && !strings.Contains(line+lines[min(i+1, len(lines)-1)], "trap 'exit 130' INT TERM HUP") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// A script that cleans up does so when it is interrupted, too.
func TestTraps(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"trap 'rm a' EXIT # c", "trap x EXIT"}, untrapped("trap 'rm a' EXIT # c\necho\ntrap 'exit 130' INT TERM HUP\ntrap x EXIT"))
	assert.Empty(t, untrapped("trap x EXIT && trap 'exit 130' INT TERM HUP && y\n  trap x EXIT\n  trap 'exit 130' INT TERM HUP # c\n"))

	seen := 0
	require.NoError(t, filepath.WalkDir(fixture.Root(), func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "build" || name == "target" || name == ".git"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".sh" && name != "Makefile" && filepath.Base(filepath.Dir(path)) != ".ci":
			return nil
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		seen += strings.Count(string(text), "trap 'exit 130' INT TERM HUP")
		assert.Empty(t, untrapped(string(text)), path)
		return nil
	}))
	assert.Greater(t, seen, 4)
}

// What tidy.sh makes for itself is gone after a signal.
func TestTidyInterrupted(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(filepath.Join(fixture.Root(), "internal", "modules", "tidy.sh"))
	require.NoError(t, err)
	dir := tree(t, map[string]string{"internal/modules/tidy.sh": string(script), "go.mod": "module m\n",
		"go": "#!/bin/sh\ncase $1 in list) echo \"m $PWD\" ;; *) touch \"$AT\"; exec sleep 60 ;; esac\n"})
	require.NoError(t, os.Chmod(filepath.Join(dir, "go"), 0o777))
	for _, by := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(by) {
			continue // as nohup has it: a shell cannot trap what was ignored before
		}
		at := filepath.Join(dir, "at "+by.String())
		cmd := exec.Command("sh", filepath.Join(dir, "internal", "modules", "tidy.sh"))
		cmd.Env = append(os.Environ(), "GO="+filepath.Join(dir, "go"), "AT="+at)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool {
			_, err := os.Stat(at)
			return err == nil
		}, time.Minute, 5*time.Millisecond)
		made, err := os.ReadDir(filepath.Join(dir, "build"))
		require.NoError(t, err)
		assert.Len(t, made, 1)
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, by)) // as a terminal does, to all of it
		assert.Error(t, cmd.Wait())
		made, err = os.ReadDir(filepath.Join(dir, "build"))
		require.NoError(t, err)
		assert.Empty(t, made, by)
	}
}

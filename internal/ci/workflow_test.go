//go:build unix

package ci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

func read(t *testing.T, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{fixture.Root()}, name...)...))
	require.NoError(t, err)
	return string(text)
}

// stepsOf are the steps that a budget has run.
func stepsOf(budget string) (steps []string) {
	for _, line := range regexp.MustCompile(`(?m)^(\w+) +\d+ +(?:bounded|open)$`).FindAllStringSubmatch(budget, -1) {
		steps = append(steps, line[1])
	}
	return steps
}

var (
	quoted  = regexp.MustCompile(`='[^'\n]*'`)
	comment = regexp.MustCompile(`(?m)(^|\s)#.*$`)
	steps   = regexp.MustCompile(`(?m)^ +step: \[(.*)\]$`)
	// A command is at the beginning of a line, or behind another one.
	command = regexp.MustCompile(`(?m)(?:^[ \t]*(?:- )?(?:run: )?|[|&;{(][ \t]*)(?:env (?:-u \w+ )?)?(?:\w+=\S* )*(make|\.ci/run)((?: [^\s|&;})]+)*)`)
)

// called are the targets of make, and the steps of .ci/run, that a workflow or a script runs, in their order.
func called(text string) (targets, run []string) {
	text = quoted.ReplaceAllString(comment.ReplaceAllString(text, "$1"), "=")
	if list := steps.FindStringSubmatch(text); list != nil {
		text = strings.ReplaceAll(text, "${{ matrix.step }}", strings.ReplaceAll(list[1], ",", ""))
	}
	for _, m := range command.FindAllStringSubmatch(text, -1) {
		for _, arg := range strings.Fields(m[2]) {
			switch {
			case strings.Contains(arg, "=") || strings.HasPrefix(arg, "-"):
			case m[1] == "make":
				targets = append(targets, arg)
			default:
				run = append(run, arg)
			}
		}
	}
	return targets, run
}

// uncalled are what a workflow or a script runs that is not there: targets of a Makefile, steps of a budget.
func uncalled(text, makefile, budget string) (found []string) {
	targets, run := called(text)
	for _, target := range targets {
		if !regexp.MustCompile(`(?m)^([\w/-]+ )*` + regexp.QuoteMeta(target) + `( [\w/-]+)*:([^=]|$)`).MatchString(makefile) {
			found = append(found, "make has no target "+target)
		}
	}
	for _, step := range run {
		if !slices.Contains(stepsOf(budget), step) {
			found = append(found, "the budget has no step "+step)
		}
	}
	return found
}

// Workflows, and the steps of .ci/run, call what is there.
func TestWorkflowsCallWhatIsThere(t *testing.T) {
	t.Parallel()
	makefile, budget := read(t, "Makefile"), read(t, ".ci", "budget")
	files, err := filepath.Glob(filepath.Join(fixture.Root(), ".github", "workflows", "*.yml"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, path := range append(files, filepath.Join(fixture.Root(), ".ci", "steps")) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		targets, run := called(string(text))
		assert.NotEmpty(t, append(targets, run...), path)
		for _, fault := range uncalled(string(text), makefile, budget) {
			t.Errorf("%s: %s", path, fault)
		}
		if filepath.Base(path) != "steps" {
			assert.Contains(t, string(text), "\npermissions:\n  contents: read\n", "%s: what it does not ask for by itself it may read only", path)
		}
	}
	targets, _ := called(read(t, ".ci", "steps"))
	assert.Greater(t, len(targets), 20)
}

// A workflow that calls what is not there is found out.
func TestWorkflowsThatCallWhatIsNot(t *testing.T) {
	t.Parallel()
	const makefile, budget = "DIST = x\n.PHONY: test\ntest: lint ## x\nbuild/a b:\n\tc\n", "install 1 bounded\nfuzz 2 open\nkept 1 reserved\n"
	for text, want := range map[string][]string{
		"    - run: make test":                                                       nil,
		"    - run: make tests":                                                      {"make has no target tests"},
		"    - run: make DIST":                                                       {"make has no target DIST"},
		"    - run: |\n        cd x && make test lint X=y\n":                         {"make has no target lint"},
		"    - run: x | env -u K make b build/a c":                                   {"make has no target c"},
		"do_x() { make build/a A='x y' d; }":                                         {"make has no target d"},
		"    - run: CI=1 make e":                                                     {"make has no target e"},
		"    - run: .ci/run install fuzz":                                            nil,
		"    - run: .ci/run install kept":                                            {"the budget has no step kept"},
		"step: [a]\n  step: [fuzz, b]\n run: .ci/run ${{ matrix.step }}":             {"the budget has no step b"},
		"    - name: make x\n    - run: apt-get install make gcc # make y\n# make z": nil,
	} {
		assert.Equal(t, want, uncalled(text, makefile, budget), text)
	}
}

// The workflow of changes runs every step of the budget, each behind the first one, which installs what they need.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	targets, run := called(read(t, ".github", "workflows", "ci.yml"))
	assert.Equal(t, []string{"site"}, targets)
	budget := stepsOf(read(t, ".ci", "budget"))
	require.Greater(t, len(budget), 10)
	assert.Equal(t, budget, run)
}

// The workflow of releases begins with a tag of the root's module, compares, makes what has the key, and publishes it.
func TestReleaseWorkflow(t *testing.T) {
	t.Parallel()
	workflow := read(t, ".github", "workflows", "release.yml")
	targets, run := called(workflow)
	assert.Equal(t, []string{"apidiff", "semver-checks", "release", "attach"}, targets)
	assert.Equal(t, []string{"install"}, run)
	assert.Contains(t, workflow, "\non:\n  push:\n    tags: ['v[0-9]+.[0-9]+.[0-9]+'] ")
	for _, of := range []string{"release", "attach"} {
		assert.Regexp(t, `make `+of+` VERSION="\$GITHUB_REF_NAME"`, workflow)
	}
	assert.Equal(t, 1, strings.Count(workflow, "secrets.FERRULE_KEY"), "one step has the key")
	// One version of the program for the crate's names.
	version := regexp.MustCompile(`const semverChecks = "(.+)"`).FindStringSubmatch(read(t, "internal", "release", "since.go"))
	require.NotNil(t, version)
	for _, text := range []string{workflow, read(t, "CONTRIBUTING.md")} {
		assert.Contains(t, text, "cargo install cargo-semver-checks --locked --version "+version[1])
	}
}

// What is published is the release that is asked for, with the bytes that were signed, and nothing else.
func TestAttach(t *testing.T) {
	t.Parallel()
	program := fixture.Tool(t, "make", "apt-get install make")
	fixture.Tool(t, "sha256sum", "it is part of GNU's coreutils")
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o777))
	}
	attach := func(version string) (said, asked string) {
		_ = os.Remove(filepath.Join(dir, "asked"))
		cmd := exec.Command(program, "-s", "-C", dir, "-f", filepath.Join(fixture.Root(), "Makefile"), "attach", "VERSION="+version)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"), "MAKEFLAGS=", "MAKELEVEL=")
		out, err := cmd.CombinedOutput()
		text, _ := os.ReadFile(filepath.Join(dir, "asked"))
		assert.Equal(t, err == nil, len(text) > 0, "%s", out)
		return string(out), string(text)
	}
	write("bin/gh", "#!/bin/sh\nprintf '%s\\n' \"$@\" >asked\n")
	said, _ := attach("v1.2.3")
	assert.Contains(t, said, "found no release 'v1.2.3' in build/release/dist")

	dist := "build/release/dist/"
	write(dist+"a.tar.gz", "a")
	write(dist+"SHA256SUMS", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.tar.gz\n")
	for comment, goes := range map[string]bool{"release v1.2.3 SHA256SUMS": true, "release v1.2.4 SHA256SUMS": false, "rehearsal v1.2.3 SHA256SUMS": false, "release v1.2.3 a.tar.gz": false} {
		write(dist+"SHA256SUMS.minisig", fmt.Sprintf("untrusted comment: x\nRW\ntrusted comment: ferrule %s\nRW\n", comment))
		said, asked := attach("v1.2.3")
		if !goes {
			assert.Contains(t, said, "found no release 'v1.2.3'", comment)
			continue
		}
		assert.Regexp(t, `^release\ncreate\nv1\.2\.3\n--verify-tag\n`, asked)
		assert.Regexp(t, `\n`+dist+`SHA256SUMS\n`+dist+`SHA256SUMS\.minisig\n`+dist+`a\.tar\.gz\n$`, asked)
	}
	write(dist+"SHA256SUMS.minisig", "untrusted comment: x\nRW\ntrusted comment: ferrule release v1.2.3 SHA256SUMS\nRW\n")
	write(dist+"a.tar.gz", "b")
	said, _ = attach("v1.2.3")
	assert.Contains(t, said, "a.tar.gz: FAILED")
}

//go:build unix

// Package ci tests .ci/run with small steps of its own.
package ci

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// run runs .ci/run with a budget whose minutes are seconds, and returns its status and output.
func run(t *testing.T, budget, steps string, args ...string) (status int, output string) {
	t.Helper()
	bash := fixture.Tool(t, "bash", "apt-get install bash")
	if _, err := exec.LookPath("timeout"); err != nil {
		t.Skip("timeout is missing: .ci/run is for Debian")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "budget"), []byte(budget), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "steps"), []byte(steps), 0o666))
	cmd := exec.Command(bash, append([]string{filepath.Join(fixture.Root(), ".ci", "run")}, args...)...)
	cmd.Env = append(os.Environ(), "FERRULE_CI="+dir, "FERRULE_CI_MINUTE=1", "FERRULE_CI_LOGS="+filepath.Join(dir, "logs"))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil {
		require.ErrorAs(t, err, &exit)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestRun(t *testing.T) {
	t.Parallel()
	const budget = "# name minutes kind\nquick 10 bounded\nslow 1 bounded\nkept 9 reserved\nends 20 open\nopen 1 open\n"
	steps := `
do_quick() {
	echo "ok m/a 1s: 4 passed, 0 failed, 1 left out"
	echo "test result: ok. 45 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s"
	echo "ok: a case of a script"
	echo "linux/amd64 (Go 1.99): ran 7, passed 7; 3 left out"
	if read -r line; then echo "found standard input"; fi
}
do_ends() { echo "told: $DURATION"; }
`
	for _, c := range []struct {
		name, steps string
		args        []string
		status      int
		want, not   []string
	}{
		{"all is well", steps, []string{"quick", "ends"}, 0,
			[]string{`(?m)^quick +0:\d\d +0:10 +57 `, `(?m)^ends `, `told: 16s`, `tests: 57 passed, 0 failed, 6 left out`, `ci: passed`},
			[]string{`slow`, `kept`, `found standard input`}},
		{"a step fails", steps + "do_slow() { echo oh; return 3; }", []string{"quick", "slow", "ends"}, 3,
			[]string{`(?m)^slow .*FAILED with status 3$`, `(?m)^quick `, `ci: failed`}, []string{`(?m)^ends `, `told`}},
		{"a step hangs", steps + "do_slow() { sleep 1000 & sleep 1000; }", []string{"slow"}, 124,
			[]string{`(?m)^slow .*FAILED: stopped after 0:1\d`, `slow: found it still running .* expected an end within 0:01`, `ci: failed`}, nil},
		{"a step is slow", steps + "do_slow() { sleep 2; }", []string{"slow"}, 0,
			[]string{`(?m)^slow .*over its budget$`, `ci: passed`}, nil},
		{"an open step is cut", steps + "do_open() { sleep 1000; }", []string{"open"}, 0,
			[]string{`(?m)^open .*cut short$`, `ci: passed`}, nil},
		{"an open step has failed before it is cut", steps + "do_open() { echo '--- FAIL: TestX (0.00s)'; sleep 1000; }", []string{"open"}, 124,
			[]string{`(?m)^open .*FAILED, then cut short$`, `ci: failed`}, nil},
		{"a platform has failed before it is cut", steps + "do_open() { echo '    failed: TestX'; sleep 1000; }", []string{"open"}, 124,
			[]string{`(?m)^open .*FAILED, then cut short$`}, nil},
		{"no such step", steps, []string{"quick", "sloww"}, 2, []string{`there is no step sloww`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, output := run(t, budget, c.steps, c.args...)
			assert.Equal(t, c.status, status, output)
			for _, want := range c.want {
				assert.Regexp(t, want, output)
			}
			for _, not := range c.not {
				assert.NotRegexp(t, not, output)
			}
		})
	}
}

// What has no end of its own gets the time that is left when others took long, and less than its minutes.
func TestRunInTime(t *testing.T) {
	t.Parallel()
	steps := "do_long() { sleep 5; }\ndo_open() { echo told: $DURATION; sleep 1000; }\ndo_last() { :; }\n"
	status, output := run(t, "long 2 bounded\nopen 50 open\nlast 53 bounded\n", steps, "long", "open", "last")
	assert.Zero(t, status, output)
	// Of 59, 53 are for what still comes and 5 are over.
	assert.Regexp(t, `told: 0s|(?m)^open .*not run: no time is left$`, output)
	assert.Regexp(t, `(?m)^last `, output)
}

// A budget that is not one is an error with words.
func TestRunBudget(t *testing.T) {
	t.Parallel()
	status, output := run(t, "quick ten bounded\n", "do_quick() { :; }\n")
	assert.Equal(t, 2, status)
	assert.Contains(t, output, "found 'quick ten bounded', expected a name, its minutes")
}

// The project's own budget stays within an hour, and each of its lines has a step, and each step a line.
func TestBudget(t *testing.T) {
	folder := filepath.Join(fixture.Root(), ".ci")
	budget, err := os.ReadFile(filepath.Join(folder, "budget"))
	require.NoError(t, err)
	steps, err := os.ReadFile(filepath.Join(folder, "steps"))
	require.NoError(t, err)
	total, lines := 0, map[string]bool{}
	for line := range strings.Lines(string(budget)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		require.Len(t, fields, 3, line)
		minutes, err := strconv.Atoi(fields[1])
		require.NoError(t, err, line)
		total += minutes
		assert.False(t, lines[fields[0]], "two lines for "+fields[0])
		lines[fields[0]] = true
		has := strings.Contains(string(steps), "\ndo_"+fields[0]+"() {")
		assert.Equal(t, fields[2] != "reserved", has, "a step that is not reserved has a function, and no other has: "+line)
	}
	assert.LessOrEqual(t, total, 60)
	for _, step := range regexp.MustCompile(`(?m)^do_(\w+)\(`).FindAllStringSubmatch(string(steps), -1) {
		assert.True(t, lines[step[1]], "the step "+step[1]+" has no line")
	}
}

// What a package wrote is shown where it failed, also when none of its tests did.
func TestGotest(t *testing.T) {
	t.Parallel()
	bash := fixture.Tool(t, "bash", "apt-get install bash")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"a/a_test.go": "package a\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"testing\"\n)\n\n" +
			"func TestMain(m *testing.M) { m.Run(); fmt.Println(\"the end is bad\"); os.Exit(3) }\n" +
			"func TestSays(t *testing.T) { fmt.Println(\"of no interest\") }\n",
		"b/b_test.go": "package b\n\nimport (\n\t\"fmt\"\n\t\"testing\"\n)\n\n" +
			"func TestGood(t *testing.T) { fmt.Println(\"of no interest\") }\n" +
			"func TestBad(t *testing.T) { t.Run(\"part\", func(t *testing.T) { fmt.Println(\"in a bad part\"); t.Fail() }) }\n",
		"c/c_test.go": "package c\n\nimport (\n\t\"fmt\"\n\t\"testing\"\n)\n\nfunc TestGood(t *testing.T) { fmt.Println(\"of no interest\") }\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	}
	cmd := exec.Command(bash, filepath.Join(fixture.Root(), ".ci", "gotest"), "./...")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	assert.Error(t, err)
	for _, want := range []string{`(?m)^the end is bad$`, `(?m)^FAIL m/a .*: 1 passed, 0 failed, 0 left out$`, `(?m)^in a bad part$`,
		`(?m)^ +--- FAIL: TestBad/part`, `(?m)^FAIL m/b .*: 1 passed, 1 failed, 0 left out$`, `(?m)^ok m/c .*: 1 passed, 0 failed, 0 left out$`} {
		assert.Regexp(t, want, string(out))
	}
	assert.NotContains(t, string(out), "of no interest")
}

// Which tests fail in some rounds only is found, and said; and where none does, that none does.
func TestFlakes(t *testing.T) {
	t.Parallel()
	sh := fixture.Tool(t, "sh", "it is part of every system")
	flakes := func(of string, more ...string) (string, error) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"), 0o666))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "m_test.go"), []byte("package m\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestGood(t *testing.T) {}\n\n"+of+"\n\nvar _ = os.Args\n"), 0o666))
		cmd := exec.Command(sh, filepath.Join(fixture.Root(), "internal", "soak", "flakes.sh"))
		cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "GOWORK=off", "PKG=./...", "ROUNDS=3", "BUSY=1"), more...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := flakes(`func TestOnceInAWhile(t *testing.T) {
	said, _ := os.ReadFile("rounds")
	os.WriteFile("rounds", append(said, 'x'), 0o666)
	if len(said) == 1 {
		t.Fatal("the second time")
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	for range 1000 {
		println("much else")
	}
	os.Exit(code)
}`)
	assert.Error(t, err, out)
	assert.Regexp(t, `(?m)^ +1 --- FAIL: TestOnceInAWhile m$`, out)
	assert.Contains(t, out, "the second time")
	assert.NotContains(t, out, "FAIL: TestGood")
	assert.Contains(t, out, "flakes: 1 of 3 rounds failed")
	out, err = flakes(`func TestEnds(t *testing.T) { os.Exit(3) }`)
	assert.Error(t, err, out)
	assert.Regexp(t, `(?m)^ +3 --- FAIL: m$`, out, "a package that ends in the middle")
	out, err = flakes(`func TestFine(t *testing.T) {}`)
	assert.NoError(t, err, out)
	assert.Contains(t, out, "flakes: none of 3 rounds failed")
	out, err = flakes(`func TestFine(t *testing.T) {}`, "SKIP=.*")
	assert.Error(t, err, out)
	assert.Contains(t, out, "no test ran in the first round")
	for _, rounds := range []string{"ROUNDS=x", "ROUNDS=0", "ROUNDS=-1", "JOBS=0", "BUSY=one"} {
		out, err = flakes(``, rounds)
		assert.Error(t, err, out)
		assert.Contains(t, out, "expected numbers", rounds)
	}
}

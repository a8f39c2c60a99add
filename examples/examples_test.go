// Package examples_test runs the examples as their READMEs say, and looks at the plug-ins more closely than those do.
package examples_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// hosts is the folder of the hosts that the tests start, each built once.
var hosts string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if hosts, err = os.MkdirTemp("", "ferrule-examples-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(hosts)
		return m.Run()
	}())
}

// TestREADMEs runs the console blocks of each README, and compares what is printed; the first one's with cgo and without.
func TestREADMEs(t *testing.T) {
	blocks := regexp.MustCompile("(?ms)^```console( numbers vary)?\n(.*?)^```$")
	numbers := regexp.MustCompile(`\d+`)
	for _, example := range []struct {
		name     string
		plugins  []string
		programs map[string]string // with how to install them
	}{
		{"first", []string{"countvowels-c"}, nil},
		{"countvowels", []string{"countvowels-c", "countvowels-cpp", "countvowels-rust"}, nil},
		{"checkout", []string{"newcomer", "loyal"}, nil},
		{"zstd", []string{"zstd"}, map[string]string{"zstd": "apt-get install zstd"}},
		{"digest", []string{"digest"}, nil},
		{"thumbnail", []string{"thumbnail"}, nil},
		{"untrusted", []string{"untrusted"}, nil},
		{"sql", []string{"sql"}, nil},
		{"watch", []string{"watch"}, nil},
		{"shop", []string{"merchants/welcome", "merchants/regulars", "merchants/shipping", "merchants/scrutiny", "regulars-2", "regulars-3"}, nil},
		{"market", []string{"market/sample-plugin", "market/advance-plugin"}, nil},
	} {
		t.Run(example.name, func(t *testing.T) {
			for _, plugin := range example.plugins {
				build(t, plugin)
			}
			for program, install := range example.programs {
				fixture.Tool(t, program, install)
			}
			if example.name == "thumbnail" {
				picture(t, "video-001.jpeg")
			}
			text, err := os.ReadFile(filepath.Join(fixture.Root(), "examples", example.name, "README.md"))
			require.NoError(t, err)
			found := blocks.FindAllStringSubmatch(strings.ReplaceAll(string(text), ".so", fixture.Ext()), -1)
			require.NotEmpty(t, found)
			modes := []string{"0", "1"}
			if example.name != "countvowels" { // the same programs, and an engine that is tested with both
				modes = modes[:1]
			}
			for _, cgo := range modes {
				for _, block := range found {
					want, got := block[2], console(t, block[2], "CGO_ENABLED="+cgo)
					if block[1] != "" {
						want, got = numbers.ReplaceAllString(want, "N"), numbers.ReplaceAllString(got, "N")
					}
					assert.Equal(t, want, got, "CGO_ENABLED=%s", cgo)
				}
			}
		})
	}
}

// TestDemo runs what make demo runs.
func TestDemo(t *testing.T) {
	for _, plugin := range []string{"countvowels-c", "newcomer", "loyal", "merchants/welcome", "merchants/shipping"} {
		build(t, plugin)
	}
	const replaced = "$72.70 - 15 % + $4.90 shipping = $66.70\n"
	out := console(t, "$ sh examples/demo.sh\n", "CARGO=cargo")
	for _, want := range []string{" vowels in README.md\n", "to pay    $124.80\n", "to pay    $45.20\n", "$156.00 - 20 % + $0.00 shipping = $124.80\n", "$72.70 - 10 % + $4.90 shipping = $70.33\n", replaced,
		"regulars 2.0.0 started\n", "the discounts of this version are not decided yet", "advance-plugin 1.2.0 ready\n", "grace@example.com gets 10 % off $72.70\n"} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "\x1b", "no colours where no terminal is")

	out = console(t, "$ sh examples/demo.sh\n", "CARGO=no-such-cargo")
	assert.Contains(t, out, " vowels in README.md\n")
	assert.Equal(t, 2, strings.Count(out, replaced), "the shop is open without the plug-in in Rust")
	assert.Contains(t, out, "no-such-cargo is missing: apt-get install cargo, or see https://rustup.rs")
}

// TestBuildNamesWhatIsMissing holds build.sh to its word, on which the tests' skipping stands.
func TestBuildNamesWhatIsMissing(t *testing.T) {
	for name, want := range map[string]string{
		"countvowels-c":   "no-such-tool is missing: apt-get install gcc",
		"countvowels-cpp": "no-such-tool is missing: apt-get install g++",
		"newcomer":        "no-such-tool is missing: apt-get install cargo, or see https://rustup.rs",
		"zstd":            "no-such-tool is missing: apt-get install gcc",
		"digest":          "no-such-tool is missing: apt-get install gcc",
	} {
		cmd := exec.Command(sh(t), "examples/build.sh", name)
		cmd.Dir = fixture.Root()
		cmd.Env = append(os.Environ(), "CC=no-such-tool", "CXX=no-such-tool", "CARGO=no-such-tool")
		out, err := cmd.CombinedOutput()
		assert.Equal(t, 3, exitCode(err), "%s: %s", name, out)
		assert.Contains(t, string(out), want)
	}
}

// TestWarningsOfCompilers compiles the plug-ins in C and C++ with everything that compilers warn of as an error.
func TestWarningsOfCompilers(t *testing.T) {
	for _, source := range []string{"countvowels/c/countvowels.c", "zstd/c/zstd.c", "digest/c/digest.c", "countvowels/cpp/countvowels.cpp", "shop/c/regulars.c", "shop/c/scrutiny.c", "market/c/sample.c", "market/c/advance.c",
		"shop/cpp/shipping.cpp", "everywhere/c/discount.c", "everywhere/cpp/discount.cpp"} {
		compilers, std := map[string]string{"gcc": "gcc", "clang": "clang"}, "-std=c11"
		if strings.HasSuffix(source, ".cpp") {
			compilers, std = map[string]string{"g++": "g++", "clang++": "clang"}, "-std=c++17"
		}
		for compiler, debian := range compilers {
			t.Run(compiler+" "+source, func(t *testing.T) {
				switch name := path.Dir(source); name { // skips where its header is missing
				case "zstd/c", "digest/c":
					build(t, path.Dir(name))
				case "everywhere/c", "everywhere/cpp":
					build(t, name)
				}
				args := []string{std, "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-Iinclude", "-Isdk-c/include", filepath.Join("examples", source)}
				if strings.HasPrefix(compiler, "clang") { // it warns of nothing that it finds by making code
					args = append(args, "-fsyntax-only")
				} else {
					args = append(args, "-c", "-o", filepath.Join(t.TempDir(), "o"))
				}
				cmd := exec.Command(fixture.Tool(t, compiler, "apt-get install "+debian), args...)
				cmd.Dir = fixture.Root()
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s", out)
			})
		}
	}
}

// TestHostsFailWell: a wrong use has status 2, what does not work status 1, both with words on the standard error.
func TestHostsFailWell(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for host, operands := range map[string][]string{
		"countvowels": {missing, missing}, "checkout": {missing, missing},
		"zstd": {missing, missing, missing}, "thumbnail": {missing, missing, missing}, "shop": {missing},
	} {
		t.Run(host, func(t *testing.T) {
			stdout, stderr, code := run(t, host)
			assert.Equal(t, 2, code)
			assert.Contains(t, stderr, "usage: "+host)
			assert.Empty(t, stdout)

			stdout, stderr, code = run(t, host, operands...)
			assert.Equal(t, 1, code)
			assert.Contains(t, stderr, host+": ")
			assert.Contains(t, stderr, missing)
			assert.Empty(t, stdout)
		})
	}
	library := build(t, "countvowels-c")
	_, stderr, code := run(t, "countvowels", library, missing)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, missing)
	_, stderr, code = run(t, "checkout", library, cartFile("ada"))
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "before_checkout: no such function")
}

// TestCountVowels: what the plug-ins in three languages say of themselves and do is the same.
func TestCountVowels(t *testing.T) {
	for _, name := range []string{"countvowels-c", "countvowels-cpp", "countvowels-rust"} {
		t.Run(name, func(t *testing.T) {
			p := open(t, build(t, name))
			assert.Equal(t, "countvowels", p.Name())
			countVowels(t, p)
		})
	}
}

// countVowels looks at what a plug-in says of its one function, and calls that with texts of all kinds.
func countVowels(t *testing.T, p *loader.Plugin) {
	t.Helper()
	assert.Equal(t, "1.0.0", p.Version())
	require.Len(t, p.Info().Funcs, 1)
	assert.Equal(t, "Counts the vowels of a text.", p.Info().Funcs[0].Doc)
	for text, want := range map[string]string{
		"": "0", "rhythm": "0", "aeiouAEIOU": "10", "\x00a\x00": "1", "café": "1",
		strings.Repeat("The quick brown fox. ", 100000): "500000",
	} {
		got, err := p.Call(t.Context(), "count_vowels", []byte(text))
		require.NoError(t, err)
		assert.Equal(t, want, string(got), "%.20q", text)
	}
}

// build builds a plug-in as users do, and returns the library's path.
func build(t *testing.T, plugin string) string {
	t.Helper()
	require.NoError(t, watchSources())
	cmd := exec.Command(sh(t), "examples/build.sh", plugin)
	cmd.Dir = fixture.Root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exitCode(err) == 3 && os.Getenv("CI") == "" {
		t.Skip(stderr.String())
	}
	require.NoError(t, err, "%s", &stderr)
	return filepath.Join(fixture.Root(), strings.TrimSpace(string(out)))
}

// watchSources lists every file that the examples are built from. That is how go test learns what the result that it
// keeps depends on.
var watchSources = sync.OnceValue(func() error {
	for _, folder := range []string{"examples", "include", "sdk-c/include", "sdk-rust"} {
		folder = filepath.Join(fixture.Root(), folder)
		err := filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "target" {
				return fs.SkipDir
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
})

func open(t *testing.T, library string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(library, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// run starts an example's host.
func run(t *testing.T, host string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(program(t, host, "./examples/"+host), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	code = exitCode(cmd.Run())
	return out.String(), errs.String(), code
}

// program builds a program once, and returns its path.
func program(t *testing.T, name, folder string) string {
	t.Helper()
	program := hostPath(name)
	if _, err := os.Stat(program); err != nil {
		cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "build", "-o", program, folder)
		cmd.Dir = fixture.Root()
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return program
}

func hostPath(host string) string {
	if runtime.GOOS == "windows" {
		host += ".exe"
	}
	return filepath.Join(hosts, host)
}

// console runs the lines of a console block that start with a dollar sign, in one shell at the module's root, and
// returns what a user sees: the lines, each with what it prints.
func console(t *testing.T, block string, env ...string) string {
	t.Helper()
	var script strings.Builder
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			fmt.Fprintf(&script, "printf '%%s' '%s'\n%s", strings.ReplaceAll(line, "'", `'\''`), command)
		}
	}
	cmd := exec.Command(sh(t), "-ec", script.String())
	cmd.Dir = fixture.Root()
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func sh(t *testing.T) string {
	t.Helper()
	return fixture.Tool(t, "sh", "on Windows see https://gitforwindows.org")
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestAuthorGuide does what docs/author-guide.md says, from its top to its end: it runs the commands of the console blocks
// and compares what they print, adds the code after "Add to `file`:" to that file, and makes a file of that after "Write `file`:".
func TestAuthorGuide(t *testing.T) {
	for _, lang := range []string{"c", "cpp", "go", "rust"} {
		need(t, lang)
	}
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "author-guide.md"))
	require.NoError(t, err)
	guide := regexp.MustCompile(`lib(words|titles)\.so`).ReplaceAllString(string(text), libraryPrefix()+"${1}"+libraryExt())
	guide = strings.ReplaceAll(guide, ".so", libraryExt())

	dir := t.TempDir()
	seeds := regexp.MustCompile(`--seed \d+`)
	if runtime.GOOS != "linux" {
		seeds = regexp.MustCompile(`\d+ (skipped)|--seed \d+`) // some cases are Linux's
	}
	steps := blocks(guide)
	added, ran := 0, 0
	for _, step := range steps {
		block := step.text
		switch {
		case step.language == "console":
			ran++
			seen := session(t, dir, block)
			if step.seedsVary {
				block, seen = seeds.ReplaceAllString(block, "N $1"), seeds.ReplaceAllString(seen, "N $1")
			}
			assert.Equal(t, block, seen)
		case step.file != "":
			added++
			flag := os.O_APPEND
			if step.isNew {
				flag = os.O_CREATE | os.O_EXCL
			}
			f, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(step.file)), flag|os.O_WRONLY, 0o666)
			require.NoError(t, err)
			_, err = f.WriteString(block)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		default:
			t.Errorf("this block is neither run nor added to a file:\n%s", block)
		}
	}
	assert.GreaterOrEqual(t, added, 17, "one for each language, and one for each thing that is more than a call")
	assert.GreaterOrEqual(t, ran, 7)
}

// The C of the C SDK's manual is one plug-in, and its C++ another: in the place of what `ferrule new` has made, they compile
// without a warning, and check finds nothing.
func TestManualOfC(t *testing.T) {
	for lang, name := range map[string]string{"c": "vowels", "cpp": "words"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			need(t, lang)
			p := made(t, lang, name)
			var code strings.Builder
			found := codeOf(t, lang, "sdk-c", "README.md")
			require.GreaterOrEqual(t, len(found), 6)
			for _, text := range found {
				code.WriteString(text)
			}
			require.NoError(t, os.WriteFile(filepath.Join(p.Dir, name+"."+lang), []byte(code.String()), 0o666))
			shell(t, p.Dir, "make "+languages[lang].Flags+"='-O2 -Wall -Wextra -pedantic -Werror'")
			checked(t, filepath.Join(p.Dir, p.Library))
		})
	}
}

// Each block of Rust in the Rust SDK's manual is a plug-in, of which check finds nothing. That they compile without a warning
// is tested with the SDK.
func TestManualOfRust(t *testing.T) {
	need(t, "rust")
	sdk := filepath.Join(fixture.Root(), "sdk-rust")
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	}
	lock, err := os.ReadFile(filepath.Join(sdk, "Cargo.lock"))
	require.NoError(t, err)
	write("Cargo.lock", string(lock))
	write("src/lib.rs", "")
	manifest := fmt.Sprintf("[package]\nname = \"manual\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n[dependencies]\n"+
		"ferrule-plugin = { path = %q }\n", filepath.ToSlash(filepath.Join(sdk, "ferrule")))

	// Inputs that a function takes, and the configuration that a start does.
	options := map[string][]string{"add": {"--in", "add=3", "--config", `{"limit": 9}`}, "reserve": {"--in", "reserve=3"},
		"squares": {"--in", "squares=9"}, "visit": {"--config", "3"}}
	exported := regexp.MustCompile(`(?m)^#\[ferrule::(?:export|hook).*\n(?:pub )?fn (\w+)`)
	args := map[string][]string{}
	for i, text := range codeOf(t, "rust", "sdk-rust", "README.md") {
		name := fmt.Sprintf("block%d", i)
		functions := exported.FindAllStringSubmatch(text, -1)
		for _, function := range functions {
			args[name] = append(args[name], options[function[1]]...)
			delete(options, function[1])
		}
		if strings.Contains(text, "fn loyalty_points(") {
			args[name] = append(args[name], "--answer", "loyalty_points=7") // with any answer but a number the function has no result
		}
		if len(functions) == 0 {
			args[name], text = nil, text+"\n#[ferrule::export]\nfn nothing() {}\n" // the block is about something else
		}
		write("examples/"+name+".rs", text)
		manifest += fmt.Sprintf("\n[[example]]\nname = %q\ncrate-type = [\"cdylib\"]\n", name)
	}
	require.GreaterOrEqual(t, len(args), 10)
	require.Empty(t, options, "functions that the manual does not have")
	write("Cargo.toml", manifest)
	shell(t, dir, "cargo build --quiet --examples --target-dir target")
	for name, args := range args {
		checked(t, filepath.Join(dir, "target", "debug", "examples", libraryPrefix()+name+libraryExt()), args...)
	}
}

// checked has all cases of check find nothing wrong with a library.
func checked(t *testing.T, library string, args ...string) {
	t.Helper()
	stdout, stderr, code := ferrule(t, "", append([]string{"check", "--level", "10", "--strict", library}, args...)...)
	assert.Zero(t, code, "%s%s", stdout, stderr)
	assert.Contains(t, stdout, "; 0 errors, 0 warnings (--level 10 ")
}

// block is a fenced block of a page.
type block struct {
	file      string // what "Add to", or "Write", names before it
	isNew     bool   // it is "Write"
	language  string
	seedsVary bool // what it prints has random seeds
	text      string
}

func blocks(page string) (found []block) {
	fenced := regexp.MustCompile("(?ms)(?:(Add to|Write)\\s`([^`]+)`:\n\n)?^```(\\w+)( seeds vary)?\n(.*?)^```$")
	for _, m := range fenced.FindAllStringSubmatch(page, -1) {
		found = append(found, block{m[2], m[1] == "Write", m[3], m[4] != "", m[5]})
	}
	return found
}

// codeOf returns the blocks of a language in a page of the project.
func codeOf(t *testing.T, language string, page ...string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{fixture.Root()}, page...)...))
	require.NoError(t, err)
	for _, block := range blocks(string(text)) {
		if block.language == language {
			found = append(found, block.text)
		}
	}
	return found
}

// session runs the lines of a console block that start with a dollar sign, and returns what a user sees: each with what
// it prints.
func session(t *testing.T, dir, block string) string {
	t.Helper()
	var seen strings.Builder
	for line := range strings.Lines(block) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		out := shell(t, dir, command)
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n" // results are printed byte for byte
		}
		seen.WriteString(line + out)
	}
	return seen.String()
}

// builtInGo builds a package, which is a whole plug-in, as a program of its name, and returns the folder. gofmt, ferrule gen and go vet find nothing wrong with it.
func builtInGo(t *testing.T, text string) string {
	t.Helper()
	name := submatch(`(?m)^package (\w+)$`, text)
	dir := t.TempDir()
	mod := "module example.com/" + name + "\n\ngo 1.24\n\nrequire github.com/ferrule-dev/ferrule/sdk-go v0.1.0\n\nreplace github.com/ferrule-dev/ferrule/sdk-go => " +
		filepath.ToSlash(filepath.Join(fixture.Root(), "sdk-go")) + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".go"), []byte(text), 0o666))
	shell(t, dir, `export GOWORK=off
		[ -z "$(gofmt -l .)" ]
		ferrule gen
		go vet ./...
		go build ./cmd/`+name)
	return dir
}

// TestHooksInGo: the plug-in in Go of docs/hooks.md has a hook for each kind of point, which does there what the page says.
func TestHooksInGo(t *testing.T) {
	need(t, "go")
	code := slices.DeleteFunc(codeOf(t, "go", "docs", "hooks.md"), func(text string) bool { return submatch(`(?m)^package (\w+)$`, text) == "" })
	require.Len(t, code, 1)
	dir := builtInGo(t, code[0])
	out := shell(t, dir, "ferrule check --strict --timeout 60s --sidecar ./desk")
	assert.Contains(t, out, "; 0 errors, 0 warnings (--level 8 ")
	program := filepath.Join(dir, "desk")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	config := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte("plugins: [{name: desk, required: true, program: '"+program+"'}]\n"), 0o666))

	type order struct{ ID string }
	type cart struct{ TotalInCents int64 }
	type discount struct{ DiscountPercent int64 }
	var lines bytes.Buffer
	sys := plugins.New("shop", "1.4.0", plugins.Config(config), plugins.Logger(slog.New(slog.NewTextHandler(&lines, nil))))
	saved := plugins.Notify[order](sys, "saved", plugins.Limit(0))
	offers := plugins.Collect[order, string](sys, "shipping_offers", plugins.Limit(0))
	first := plugins.First[cart, discount](sys, "before_checkout", plugins.Limit(0))
	beforeSave := plugins.Pipe[order](sys, "before_save", plugins.Limit(0))
	mayShip := plugins.Veto[order](sys, "may_ship", plugins.Limit(0))
	tries := 0
	quote := plugins.Wrap(sys, "quote", func(context.Context, order) (int64, error) {
		if tries++; tries == 1 {
			return 0, errors.New("busy")
		}
		return 490, nil
	}, plugins.Limit(0))
	require.NoError(t, sys.Start(t.Context()))
	stop := sync.OnceFunc(func() { assert.NoError(t, sys.Close()) })
	defer stop()

	require.NoError(t, saved.Call(t.Context(), order{"A-17"}))
	all, err := offers.Call(t.Context(), order{"17"})
	require.NoError(t, err)
	assert.Equal(t, []plugins.Result[string]{{Plugin: "desk", Value: "by bicycle"}}, all)
	for cents, percent := range map[int64]int64{20000: 5, 200: 0} {
		d, found, err := first.Call(t.Context(), cart{cents})
		require.NoError(t, err)
		assert.Equal(t, percent, d.DiscountPercent)
		assert.Equal(t, percent > 0, found)
	}
	changed, err := beforeSave.Call(t.Context(), order{"17"})
	require.NoError(t, err)
	assert.Equal(t, order{"A-17"}, changed)
	require.NoError(t, mayShip.Call(t.Context(), order{"17"}))
	var objection *plugins.Objection
	require.ErrorAs(t, mayShip.Call(t.Context(), order{}), &objection)
	assert.Equal(t, "an order without a number", objection.Reason)
	cents, err := quote.Call(t.Context(), order{"17"})
	require.NoError(t, err)
	assert.Equal(t, int64(490), cents)
	stop()
	assert.Contains(t, lines.String(), "msg=saved plugin=desk id=A-17")
	assert.Contains(t, lines.String(), `msg="tried again" plugin=desk`)
}

// TestManualOfGo: each block of Go in the Go SDK's manual is a plug-in, of which `ferrule gen` and go vet find nothing wrong, and check nothing in any form. The first one is a whole plug-in
// in at most 12 lines, and does what it says.
func TestManualOfGo(t *testing.T) {
	need(t, "go")
	code := codeOf(t, "go", "sdk-go", "README.md")
	require.Len(t, code, 3)
	assert.LessOrEqual(t, strings.Count(code[0], "\n"), 12)
	options := map[string]string{"vowels": "", "till": ` --in sell=3 --in in=EUR --answer rate=0.5 --config '{"first": 1}'`, "desk": ""}
	for _, text := range code {
		name := submatch(`(?m)^package (\w+)$`, text)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args, known := options[name]
			require.True(t, known)
			dir := builtInGo(t, text)
			shell(t, dir, `export GOWORK=off
				go build -buildmode=c-shared -o library`+libraryExt()+` ./cmd/`+name+`
				GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o module.wasm ./cmd/`+name)
			for _, form := range []string{"--sidecar ./" + name, "library" + libraryExt(), "module.wasm"} {
				out := shell(t, dir, "ferrule check --strict --timeout 60s"+args+" "+form)
				assert.Contains(t, out, "; 0 errors, 0 warnings (--level 8 ", form)
			}
			if name == "vowels" {
				for _, form := range []string{"--sidecar ./vowels", "--isolated library" + libraryExt(), "module.wasm"} {
					assert.Equal(t, "5", shell(t, dir, "ferrule call "+form+" count_vowels --in 'a quick bee'"))
				}
			}
		})
	}
}

package script_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// block is one of code on a page.
type block struct{ language, text string }

func pageOfScripts(t *testing.T) (page string, blocks []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "scripts.md"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, block{m[1], m[2]})
	}
	return string(text), blocks
}

func of(blocks []block, language string) (all []string) {
	for _, b := range blocks {
		if b.language == language {
			all = append(all, b.text)
		}
	}
	return all
}

// onPage opens a script of the page, which is alone in its folder.
func onPage(t *testing.T, e form, text string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	name := regexp.MustCompile(`name=(\w+)`).FindStringSubmatch(text)
	require.NotNil(t, name)
	path := filepath.Join(t.TempDir(), name[1]+e.ext)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	p, err := loader.Open(path, append([]loader.Option{loader.WithEngine(e.engine)}, opts...)...)
	require.NoError(t, err)
	assert.Equal(t, name[1], p.Name())
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

func points(_ context.Context, customer []byte) ([]byte, error) {
	return fmt.Append(nil, len(customer)*50), nil
}

// pageScripts are what the scripts of the page do, in their order for each language.
var pageScripts = map[string][]func(t *testing.T, e form, text string){".js": {discounts, taxes, counts, fails}, ".py": {discounts, counts}}

func says(t *testing.T, p *loader.Plugin, fn, in, want string) {
	t.Helper()
	out, err := p.Call(t.Context(), fn, []byte(in))
	require.NoError(t, err)
	assert.Equal(t, want, string(out))
}

func discounts(t *testing.T, e form, text string) {
	p := onPage(t, e, text, loader.WithHostFunc("loyalty_points", points))
	says(t, p, "before_checkout", `{"customer":"ada"}`, `{"percent":10}`)
	says(t, p, "before_checkout", `{"customer":"al"}`, `{"percent":5}`)
}

func taxes(t *testing.T, e form, text string) {
	p := onPage(t, e, text, loader.WithConfig([]byte(`{"rate":0.5}`)))
	assert.JSONEq(t, `{"type":"object","required":["rate"],"properties":{"rate":{"type":"number","minimum":0}}}`, p.Info().ConfigSchema)
	total, err := p.Hook("total")
	require.NoError(t, err)
	out, err := total.Call(t.Context(), []byte(`{"total":10}`))
	require.NoError(t, err)
	assert.Equal(t, `{"total":15}`, string(out))
	_, err = total.Call(t.Context(), []byte(`{"total":10,"taxed":true}`))
	assert.ErrorIs(t, err, loader.ErrPass)
	require.NoError(t, p.Configure(t.Context(), []byte(`{"rate":0.25}`)))
	says(t, p, "rate", "", "0.25")
}

func counts(t *testing.T, e form, text string) {
	p := onPage(t, e, text)
	says(t, p, "count", "", "1")
	require.NoError(t, p.Configure(t.Context(), []byte(`{"step":3}`)))
	err := p.Configure(t.Context(), []byte(`{"step":-1}`))
	assert.ErrorIs(t, err, loader.ErrInvalid)
	assert.ErrorContains(t, err, "found step -1, expected 1 or more")
	says(t, p, "count", "", "4")
	next, err := p.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) {
		return onPage(t, e, text, loader.WithState(state), loader.WithConfig([]byte(`{"step":2}`))), nil
	})
	require.NoError(t, err)
	says(t, next, "count", "", "6")
}

func fails(t *testing.T, e form, text string) {
	p := onPage(t, e, text)
	_, blocks := pageOfScripts(t)
	shown := of(blocks, "text")[2]
	for _, c := range []struct {
		fn     string
		status error
	}{{"off", loader.ErrFailed}, {"refuses", loader.Status(1042)}} {
		_, err := p.Call(t.Context(), c.fn, []byte("x"))
		require.ErrorIs(t, err, c.status)
		var call *loader.CallError
		require.ErrorAs(t, err, &call)
		assert.Contains(t, shown, "faulty."+c.fn+": "+call.Message+"\n")
	}
}

// Every script on the page does what the page says, with the interpreter in each of its forms, and the page has no code that nothing runs.
func TestPage(t *testing.T) {
	page, blocks := pageOfScripts(t)
	languages := map[string]string{".js": "js", ".py": "python"}
	each(t, func(t *testing.T, e form) {
		texts := of(blocks, languages[e.ext])
		require.Len(t, texts, len(pageScripts[e.ext]))
		for i, text := range texts {
			t.Run(strconv.Itoa(i), func(t *testing.T) { pageScripts[e.ext][i](t, e, text) })
		}
	})
	tried := map[string]int{"js": 4, "python": 2, "go": 3, "text": 3, "": 1, "sh": 1} // the last two are commands for a machine with a network
	found := map[string]int{}
	for _, b := range blocks {
		found[b.language]++
	}
	assert.Equal(t, tried, found)

	source, err := os.ReadFile("script.go")
	require.NoError(t, err)
	options := regexp.MustCompile(`(?m)^func (With\w+)\(`).FindAllSubmatch(source, -1)
	require.NotEmpty(t, options)
	for _, option := range options {
		assert.Contains(t, page, "| `script."+string(option[1])+"(")
	}
}

// The modules ferrule have what the page's table says, and nothing else.
func TestPageOfTheModule(t *testing.T) {
	page, _ := pageOfScripts(t)
	_, table, ok := strings.Cut(page, "## The module `ferrule`\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n`console`")
	shown := []map[string]bool{{}, {}}
	for _, line := range strings.Split(table, "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 3 {
			continue
		}
		for i := range shown {
			for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[i], -1) {
				if name := regexp.MustCompile(`^(?:for \(?(?:const )?piece (?:of|in) )?(\w+)`).FindStringSubmatch(code[1]); name != nil {
					shown[i][name[1]] = true
				}
			}
		}
	}
	source, err := os.ReadFile("javascript/ferrule.js")
	require.NoError(t, err)
	exports := regexp.MustCompile(`(?m)^export (?:const|class|function) (\w+)`).FindAllSubmatch(source, -1)
	require.NotEmpty(t, exports)
	for _, export := range exports {
		assert.True(t, shown[0][string(export[1])], "%s of JavaScript", export[1])
	}
	source, err = os.ReadFile("python/ferrule.py")
	require.NoError(t, err)
	defined := regexp.MustCompile(`(?m)^(?:def|class) ([a-zA-Z]\w*)|^([a-zA-Z]\w*) = `).FindAllSubmatch(source, -1)
	require.NotEmpty(t, defined)
	for _, names := range defined {
		name := string(names[1]) + string(names[2])
		assert.True(t, shown[1][name], "%s of Python", name)
	}
}

// The errors on the page are those that come.
func TestPageOfErrors(t *testing.T) {
	_, blocks := pageOfScripts(t)
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"bad.js": "// ferrule: name=a version=1 fn=f\n// ferrule: in=json\n", "bare.js": "export const f = 1;\n", "discount.js": of(blocks, "js")[0]} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	e := script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))))
	shown := strings.Split(strings.TrimSpace(of(blocks, "text")[1]), "\n")
	require.Len(t, shown, 3)
	for _, want := range shown {
		path, _, _ := strings.Cut(want, ":")
		_, err := loader.Open(path, loader.WithEngine(e))
		require.Error(t, err)
		assert.Equal(t, want, err.Error())
	}
}

// The program on the page is built as it is there, but for where the compiled interpreter is kept, and prints what the page says, and the same with the lines for Python, and for Python in a sandbox.
func TestPageOfPrograms(t *testing.T) {
	_, blocks := pageOfScripts(t)
	programs := of(blocks, "go")
	build := filepath.Join(fixture.Root(), "build") // within go.work, and not in Git
	require.NoError(t, os.MkdirAll(build, 0o777))
	opens := regexp.MustCompile(`(?s)\tp, err := loader\.Open\(.*?points\)\)\n`)
	inPython := opens.ReplaceAllLiteralString(programs[0], programs[1])
	require.NotEqual(t, programs[0], inPython)
	imports := func(program string, packages ...string) string {
		const before = "\t\"github.com/ferrule-dev/ferrule/loader/wasm\"\n"
		lines := ""
		for _, name := range packages {
			lines += strings.Replace(before, "wasm", name, 1)
		}
		return strings.Replace(program, before, lines, 1)
	}
	inSandbox := opens.ReplaceAllLiteralString(inPython, programs[2])
	require.NotEqual(t, inPython, inSandbox)
	snake := of(blocks, "python")[0]
	for name, c := range map[string]struct{ program, file, script string }{"js": {programs[0], "discount.js", of(blocks, "js")[0]}, "python": {imports(inPython), "discount.py", snake},
		"sandbox": {imports(inSandbox, "isolate", "isolate/sandbox"), "discount.py", snake}} {
		t.Run(name, func(t *testing.T) {
			if name != "js" {
				fixture.PythonAdapter(t) // there is what it takes
			}
			if name == "sandbox" && runtime.GOOS != "linux" {
				t.Skip("sandboxes are Linux's")
			}
			dir, err := os.MkdirTemp(build, "page-")
			require.NoError(t, err)
			defer os.RemoveAll(dir)
			text := strings.ReplaceAll(c.program, `"compiled"`, strconv.Quote(filepath.Join(build, "compiled")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, c.file), []byte(c.script), 0o644))
			cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "build", "-o", "program.exe", ".")
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			cmd = exec.Command(filepath.Join(dir, "program.exe"))
			cmd.Dir = dir
			var said strings.Builder
			cmd.Stderr = &said
			out, err = cmd.Output()
			require.NoError(t, err, said.String())
			assert.Equal(t, of(blocks, "text")[0], string(out))
		})
	}
}

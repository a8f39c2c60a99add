// Package forms has the tests of plug-ins in Go, each of which is one source in four forms: compiled into a host, a program, a WebAssembly module, and a shared library.
package forms

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/sdk-go/formstest/everything"
)

// form is what a plug-in is built as.
type form struct {
	name string
	file string // what fixture.SDKGo calls it; empty for what is compiled in
	with []loader.Option
}

var (
	inHost  = form{name: "compiled in"}
	program = form{"program", fixture.GoProgram, []loader.Option{sidecar.Program()}}
	module  = form{"module", fixture.GoModule, []loader.Option{loader.WithEngine(wasm.Engine(cached))}}
	library = form{"library", fixture.GoLibrary, []loader.Option{isolate.InWorker()}}

	forms = []form{inHost, program, module, library}
	files = forms[1:]

	cached = wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))
)

// path is where the plug-in everything is in a form.
func (f form) path(tb testing.TB) string {
	tb.Helper()
	if f.file == "" {
		return ""
	}
	return fixture.SDKGo(tb, "everything", f.file)
}

// try opens it from a path.
func (f form) try(path string, opts ...loader.Option) (*loader.Plugin, error) {
	opts = append(opts[:len(opts):len(opts)], f.with...)
	if f.file == "" {
		return builtin.Open(builtin.From(everything.Plugin), opts...)
	}
	return loader.Open(path, opts...)
}

// open opens it for as long as a test runs.
func (f form) open(tb testing.TB, opts ...loader.Option) *loader.Plugin {
	tb.Helper()
	p, err := f.try(f.path(tb), opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// each runs a test with each of some forms.
func each(t *testing.T, forms []form, test func(t *testing.T, f form)) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			if raced && f.name == "module" && !strings.HasPrefix(t.Name(), "TestForms/") {
				t.Skip("what runs in this process takes ten times as long with the race detector: TestForms has it")
			}
			test(t, f)
		})
	}
}

// What `ferrule gen` has written is what it writes.
func TestGenerated(t *testing.T) {
	for _, name := range []string{"everything", "small"} {
		cmd := exec.CommandContext(t.Context(), fixture.Tool(t, "go", "see https://go.dev/dl"), "run", "./cmd/ferrule", "gen", "--check", "sdk-go/formstest/"+name)
		cmd.Dir = fixture.Root()
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s", out)
	}
}

// differs is what a form does otherwise than the plug-in that is compiled into its host: a line of a transcript that begins so, what stands in its place, and why.
type differs struct{ entry, begins, instead, why string }

var differences = map[string][]differs{
	"module": {
		{"goroutines", `  double("between")`, "", noThreads},
		{"goroutines", `  log: level=INFO msg="between calls"`, "", noThreads},
		{"goroutines", `between("between")`, `between("between") fails: "plug-in everything: between: unsupported: background: nothing goes on between calls here: a start function asks for it (rule R27), and a WebAssembly module has no threads for it" *loader.CallError ` +
			`{everything between 3 "background: nothing goes on between calls here: a start function asks for it (rule R27), and a WebAssembly module has no threads for it"} is "unsupported"; ""`, noThreads},
	},
}

const noThreads = "a module has no threads that could do something while no call runs (R27)"

// otherwise are the lines of an entry as a form has them.
func (f form) otherwise(entry string, lines []string) (own []string) {
	for _, line := range lines {
		for _, d := range differences[f.name] {
			if d.entry == entry && strings.HasPrefix(line, d.begins) {
				line = d.instead
			}
		}
		if line != "" {
			own = append(own, line)
		}
	}
	return own
}

// told is a transcript without what the forms have in words of their own: where they are, and what imports and start functions are called there.
func told(lines []string, path string) (told []string) {
	pairs := []string{"ferrule_start", "ferrule.start", "ferrule_stop", "ferrule.stop", "ferrule_configure", "ferrule.configure", "ferrule_save", "ferrule.save", "ferrule_resume", "ferrule.resume"}
	if path != "" {
		pairs = append(pairs, path, "FILE")
	} else {
		pairs = append(pairs, `: "everything: `, `: "FILE: `, `{"everything" `, `{"FILE" `)
	}
	words := strings.NewReplacer(pairs...)
	for _, line := range lines {
		if path == "" {
			line = services.ReplaceAllStringFunc(line, func(found string) string {
				at := strings.IndexAny(found, "SCR")
				return found[:at] + "ferrule." + strings.ToLower(found[at:])
			})
		}
		told = append(told, imports.ReplaceAllString(words.Replace(line), "IMPORT $1"))
	}
	return told
}

var (
	imports  = regexp.MustCompile(`(?:ferrule_import_|[iI]mports: )(\w+)`)
	services = regexp.MustCompile(`(?:plug-in everything: |\{everything |msg=")(?:Start|Stop|Configure|Save|Resume)\b`)
)

var update = flag.Bool("update", false, "write testdata/transcript.txt, which is what the plug-in compiled in does")

// golden is what testdata/transcript.txt says of each entry.
var golden = sync.OnceValues(func() (map[string][]string, error) {
	text, err := os.ReadFile(goldenFile)
	entries := make(map[string][]string)
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n\n") {
		lines := strings.Split(entry, "\n")
		entries[strings.TrimPrefix(lines[0], "## ")] = lines[1:]
	}
	return entries, err
})

var goldenFile = filepath.Join("testdata", "transcript.txt")

// compare records an entry with a form, and compares it with what there is to be. It returns how many calls that were.
func compare(t *testing.T, f form, c transcript.Transcript, path string) int {
	t.Helper()
	entries, err := golden()
	require.NoError(t, err)
	r := c.Record(t, f.try, path)
	expected, found := f.otherwise(c.Name, entries[c.Name]), told(r.Lines, path)
	for i := range min(len(expected), len(found)) {
		if expected[i] != found[i] {
			require.FailNow(t, "it is another", "line %d\nfound    %s\nexpected %s", i+1, found[i], expected[i])
		}
	}
	assert.Equal(t, len(expected), len(found), "of lines")
	return r.Calls
}

// What is done with the plug-in comes to the same in all four forms: results, errors with their types, fields and texts, what host functions get, and log lines with their
// fields, in their order. What that is stands in testdata/transcript.txt.
func TestForms(t *testing.T) {
	if *update {
		write(t)
	}
	entries, err := golden()
	require.NoError(t, err)
	assert.Len(t, entries, len(transcript.Everything))
	each(t, forms, func(t *testing.T, f form) {
		path, calls := f.path(t), 0
		for _, c := range transcript.Everything {
			t.Run(c.Name, func(t *testing.T) { calls += compare(t, f, c, path) })
		}
		t.Logf("%d calls", calls)
		assert.GreaterOrEqual(t, calls, 280)
		for _, d := range differences[f.name] {
			assert.True(t, slices.ContainsFunc(entries[d.entry], func(line string) bool { return strings.HasPrefix(line, d.begins) }), "%s: nothing begins with %q, which is to differ", d.entry, d.begins)
		}
	})
}

// write writes what there is to be, as the plug-in that is compiled in does it.
func write(t *testing.T) {
	t.Helper()
	var text bytes.Buffer
	for i, c := range transcript.Everything {
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString("## " + c.Name + "\n" + strings.Join(told(c.Record(t, inHost.try, "").Lines, ""), "\n") + "\n")
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(goldenFile), 0o777))
	require.NoError(t, os.WriteFile(goldenFile, text.Bytes(), 0o666))
}

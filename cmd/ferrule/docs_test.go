package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

var update = flag.Bool("update", false, "write the pages in docs that are made from the command's help")

const docsUpdate = "go test ./cmd/ferrule -run TestDocs -update"

// TestDocs holds the manual in docs to the command's help, from which it is made.
func TestDocs(t *testing.T) {
	root := command(&app{})
	pages := map[string]string{"ferrule.md": overview(root)}
	for _, verb := range manual(root) {
		pages[pageOf(verb)] = page(verb)
	}
	folder := filepath.Join(fixture.Root(), "docs")
	there, err := filepath.Glob(filepath.Join(folder, "ferrule*.md"))
	require.NoError(t, err)
	if *update {
		for _, path := range there {
			if pages[filepath.Base(path)] == "" {
				require.NoError(t, os.Remove(path))
			}
		}
		for name, text := range pages {
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o666))
		}
		return
	}
	for _, path := range there {
		assert.Contains(t, pages, filepath.Base(path), "a page without a verb; "+docsUpdate)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err, docsUpdate)
		assert.Equal(t, want, strings.ReplaceAll(string(got), "\r\n", "\n"), docsUpdate)
	}
}

func pageOf(verb *cobra.Command) string { return "ferrule-" + verb.Name() + ".md" }

const docsNote = "<!-- Made from the command's help: " + docsUpdate + " -->\n\n"

// overview is the page of the command as a whole.
func overview(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# ferrule\n\n%s%s\n", docsNote, markdown(root.Long))
	fmt.Fprintf(&b, "```sh\ngo install github.com/ferrule-dev/ferrule/cmd/ferrule@latest\n```\n\n")
	b.WriteString("| Command | |\n|---|---|\n")
	for _, verb := range manual(root) {
		fmt.Fprintf(&b, "| [ferrule %s](%s) | %s |\n", verb.Name(), pageOf(verb), cell(verb.Short))
	}
	b.WriteString("\n" + examples(root) + options("Options of all commands", root.PersistentFlags()))
	b.WriteString("Colours are for terminals only, and not where `NO_COLOR` is set. `ferrule --version` says which version\n" +
		"it is.\n\n" +
		"`ferrule completion bash` (or `zsh`, `fish`, `powershell`) prints a script that completes verbs, options,\n" +
		"libraries and the names of a library's functions, of plug-ins and of what they ask for; `ferrule completion bash --help` says where it goes.\n" +
		"`make install` of a checkout puts these, and a manual page for each page here (`man ferrule-call`), where systems look for them.\n")
	return b.String()
}

// page is a verb's page.
func page(verb *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# ferrule %s\n\n%s```text\nferrule %s [options]\n```\n\n%s\n", verb.Name(), docsNote, verb.Use,
		markdown(verb.Long))
	b.WriteString(examples(verb) + options("Options", verb.LocalNonPersistentFlags()))
	b.WriteString("And those of all commands: [ferrule](ferrule.md).\n")
	return b.String()
}

func examples(cmd *cobra.Command) string {
	var b strings.Builder
	b.WriteString("## Examples\n\n```sh\n")
	for line := range strings.Lines(cmd.Example) {
		b.WriteString(strings.TrimPrefix(strings.TrimRight(line, "\n"), "  ") + "\n")
	}
	b.WriteString("```\n\n")
	return b.String()
}

func options(title string, flags *pflag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n| Option | |\n|---|---|\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := optionHead(f)
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, cell(usage+withoutIt(f)))
	})
	b.WriteString("\n")
	return b.String()
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(strings.TrimSpace(text))
}

// markdown turns a help text into Markdown: its indented lists are lists, and other indented lines stay as they are.
func markdown(help string) string {
	var b strings.Builder
	for i, part := range helpParts(help) {
		if i > 0 && part.lines[0] != "" {
			b.WriteString("\n")
		}
		text := strings.Join(part.lines, "\n") + "\n"
		switch part.kind {
		case helpText:
			text = strings.ReplaceAll(text, "<", "&lt;")
		case helpBlock:
			text = "```text\n" + text + "```\n"
		}
		b.WriteString(text)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func TestMarkdown(t *testing.T) {
	for _, c := range []struct{ help, want string }{
		{"One line\nand two.", "One line\nand two.\n"},
		{"List:\n  - one\n    goes on\n  - two\nText.", "List:\n\n- one\n  goes on\n- two\n\nText.\n"},
		{"Codes:\n  0  good\n  1  bad <x>\n\nText <y>.", "Codes:\n\n```text\n0  good\n1  bad <x>\n```\n\nText &lt;y>.\n"},
		{"Codes:\n  0  good", "Codes:\n\n```text\n0  good\n```\n"},
	} {
		assert.Equal(t, c.want, markdown(c.help))
	}
}

// TestVerbsInTexts: what the library tells people to run is there: "ferrule VERB" in a string of the packages of plugins names a verb.
func TestVerbsInTexts(t *testing.T) {
	t.Parallel()
	named, root, found := regexp.MustCompile(`\bferrule ([a-z]+)\b`), command(&app{}), 0
	require.NoError(t, filepath.WalkDir(filepath.Join(fixture.Root(), "plugins"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			text, ok := n.(*ast.BasicLit)
			if !ok || text.Kind != token.STRING {
				return true
			}
			for _, m := range named.FindAllStringSubmatch(text.Value, -1) {
				verb, _, err := root.Find(m[1:])
				assert.True(t, err == nil && verb != root, "%s: %s", path, text.Value)
				found++
			}
			return true
		})
		return nil
	}))
	assert.Greater(t, found, 10)
}

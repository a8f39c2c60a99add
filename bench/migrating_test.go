package main

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// yamux finds what go-plugin's transport says where its two ends close at the same moment.
var yamux = regexp.MustCompile(`(?m)^\S+ \S+ \[ERR\] yamux: .*\n`)

// The code of each chapter of the page on migration is all that it needs: built and run by the page's commands, it prints what the page says, and
// what is after gives the same results as what was before.
func TestPageOfMigration(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the last chapter's sandbox is Linux's")
	}
	for _, tool := range []string{"sh", "cc", "clang", "wasm-ld"} {
		fixture.Tool(t, tool, tools[tool])
	}
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "migrating.md"))
	require.NoError(t, err)
	chapters := strings.Split(string(text), "\n## From ")
	require.Len(t, chapters, 4)
	main := pageBlocks(chapters[0], "go")
	setup := pageBlocks(chapters[0], "sh")
	require.Len(t, main, 1)
	require.Len(t, setup, 1)
	for _, chapter := range chapters[1:] {
		title, _, _ := strings.Cut(chapter, "\n")
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			dir := userModule(t)
			files := regexp.MustCompile("(?ms)`((?:before|after)/[^`]+)`(?:\\. [^\n]*)?:\n\n```\\w+\n(.*?)^```$").FindAllStringSubmatch(chapter, -1)
			require.Equal(t, strings.Count(chapter, "\n```go\n")+strings.Count(chapter, "\n```c\n"), len(files), "each block has a name")
			for _, file := range files {
				write(t, filepath.Join(dir, file[1]), file[2])
				if filepath.Ext(file[1]) == ".go" {
					formatted, err := format.Source([]byte(file[2]))
					require.NoError(t, err, file[1])
					assert.Equal(t, string(formatted), file[2], file[1])
				}
			}
			sessions := pageBlocks(chapter, "console")
			require.Len(t, sessions, 2)
			for i, half := range []string{"before", "after"} {
				write(t, filepath.Join(dir, half, "host", "main.go"), main[0])
				said := shellSession(t, dir, setup[0], sessions[i])
				assert.Equal(t, sessions[i], yamux.ReplaceAllString(said, ""))
			}
			vet := exec.Command("go", "vet", "./before/...", "./after/host")
			vet.Dir, vet.Env = dir, userEnv()
			out, err := vet.CombinedOutput()
			assert.NoError(t, err, "%s", out)

			call := func(session, text string) string {
				command := regexp.MustCompile(`(?m)^\$ (\S+ \S+) "Hello`).FindStringSubmatch(session)
				require.NotNil(t, command, session)
				args := append(strings.Fields(command[1]), text)
				cmd := exec.Command(filepath.Join(dir, args[0]), args[1:]...)
				cmd.Dir = dir
				out, err := cmd.Output()
				require.NoError(t, err, "%s %q", command[1], text)
				return string(out)
			}
			for _, text := range []string{"x", "AEIOU", "Ähnlich, naïve \"quotes\"\n\\ and 東京", strings.Repeat("tea and coffee ", 5_000)} {
				assert.Equal(t, call(sessions[0], text), call(sessions[1], text), "%.40q", text)
			}
			assert.NotEqual(t, call(sessions[0], "a"), call(sessions[1], "aa"), "this test can fail")
		})
	}
}

// pageBlocks returns the blocks of a page in one language.
func pageBlocks(page, language string) (all []string) {
	for _, b := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		all = append(all, b[1])
	}
	return all
}

// userModule makes a module of a user's own, which requires what this one does, and has the tree's version of the project.
func userModule(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	sums := ""
	for _, module := range []string{".", ".."} {
		sum, err := os.ReadFile(filepath.Join(module, "go.sum"))
		require.NoError(t, err)
		sums += string(sum)
	}
	text := strings.Replace(string(mod), "module "+ferruleModule+"/bench", "module example.com/vowels", 1)
	// The tree's own modules, whichever they are, need not be published.
	own := regexp.MustCompile(`(?m)^\s+`+regexp.QuoteMeta(ferruleModule)+`(\S*) v`).FindAllStringSubmatch(string(mod), -1)
	require.NotEmpty(t, own)
	for _, module := range own {
		text += fmt.Sprintf("\nreplace %s%s => %s\n", ferruleModule, module[1], filepath.Join(fixture.Root(), filepath.FromSlash(module[1])))
	}
	write(t, filepath.Join(dir, "go.mod"), text)
	write(t, filepath.Join(dir, "go.sum"), sums)
	return dir
}

func userEnv() []string {
	return append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=1")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
}

// shellSession runs the lines of a console block that begin with a dollar sign in one shell, and returns what a user sees.
func shellSession(t *testing.T, dir, setup, block string) string {
	t.Helper()
	script := setup
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			script += fmt.Sprintf("cat <<'LINE'\n%sLINE\n%s", line, command)
		}
	}
	cmd := exec.Command("sh", "-c", "exec 2>&1\n"+script)
	cmd.Dir, cmd.Env = dir, userEnv()
	out, _ := cmd.CombinedOutput() // the last command of a session may fail as the page says
	return string(out)
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// The commands of the tour work as they stand there, one after the other, but for the installation.
func TestTour(t *testing.T) {
	t.Parallel()
	fixture.Tool(t, "make", "apt-get install make")
	fixture.Tool(t, "cc", "apt-get install gcc")
	shell := fixture.Tool(t, "sh", "")
	tour, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "tour.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(tour), "```sh\n")
	require.True(t, ok)
	block, _, _ := strings.Cut(rest, "```")
	dir, cache, ran := t.TempDir(), t.TempDir(), ""
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, "go install ") {
			continue
		}
		cmd := exec.Command(shell, "-c", line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"),
			"XDG_CACHE_HOME="+cache, "LocalAppData="+cache, "HOME="+cache) // where the store is
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, out)
		ran += line
		if strings.Contains(line, "ferrule call ") {
			assert.Equal(t, "Hello, Ada!", string(out))
		}
	}
	for _, verb := range command(&app{}).Commands() {
		if verb.IsAvailableCommand() && verb.Name() != "completion" && verb.Name() != "help" {
			assert.Contains(t, ran, "ferrule "+verb.Name()+" ", "each verb is shown")
		}
	}
}

// The lines that docs/start.md has for a module which uses a checkout are enough behind those of go mod init, whichever version of Go that names; a use in a go.work is not.
func TestStartFromACheckout(t *testing.T) {
	t.Parallel()
	tool := fixture.Tool(t, "go", "see https://go.dev/dl")
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "start.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "A module that is to use a checkout ")
	require.True(t, ok)
	_, section, ok = strings.Cut(section, "```\n")
	require.True(t, ok)
	lines, _, _ := strings.Cut(section, "```")
	lines = strings.ReplaceAll(lines, "../ferrule", filepath.ToSlash(fixture.Root()))
	requires, _, ok := strings.Cut(lines, "replace (")
	require.True(t, ok)
	for _, c := range []struct {
		name, first, mod, work string
		works                  bool
	}{
		{"this Go", "", lines, "", true},
		{"an older line", "module example.com/user\n\ngo 1.25.0\n", lines, "", true},
		{"use alone", "", requires, "use (\n\t.\n\t" + filepath.ToSlash(fixture.Root()) + "\n)\n", false},
	} {
		dir := t.TempDir()
		write := func(name, text string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		write("main.go", hostOfDistribution(t))
		if c.first == "" {
			init := exec.Command(tool, "mod", "init", "example.com/user")
			init.Dir, init.Env = dir, append(os.Environ(), "GOWORK=off")
			out, err := init.CombinedOutput()
			require.NoError(t, err, "%s", out)
			first, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			require.NoError(t, err)
			c.first = string(first)
		}
		write("go.mod", c.first+"\n"+c.mod)
		if c.work != "" { // with the line of go.mod
			_, version, ok := strings.Cut(c.first, "\n\n")
			require.True(t, ok)
			c.work = version + "\n" + c.work
		}
		env := append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOSUMDB=off")
		if c.work != "" {
			write("go.work", c.work)
			env = append(os.Environ(), "GOWORK=", "GOFLAGS=", "GOSUMDB=off")
		}
		if !c.works {
			env = append(env, "GOPROXY=off") // nobody is asked for what is not there
		}
		cmd := exec.Command(tool, "build", "-o", os.DevNull, ".")
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		assert.Equal(t, c.works, err == nil, "%s: %s", c.name, out)
	}
}

// hostOfDistribution is a program with what docs/distribution.md says that a host writes.
func hostOfDistribution(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "distribution.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "\n## What a host writes\n")
	require.True(t, ok)
	block := blocks(section)[0]
	require.Equal(t, "go", block.language)
	imports, statements, ok := strings.Cut(block.text, "\n)\n")
	require.True(t, ok)
	return "package main\n\n" + imports + "\n)\n\nfunc main() {\n" + statements + "\t_ = sys\n}\n"
}

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

// The commands in the project's README work as they stand there, one after the other, but for the installation.
func TestProjectREADME(t *testing.T) {
	t.Parallel()
	fixture.Tool(t, "make", "apt-get install make")
	fixture.Tool(t, "cc", "apt-get install gcc")
	shell := fixture.Tool(t, "sh", "")
	readme, err := os.ReadFile(filepath.Join(fixture.Root(), "README.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(readme), "\n## The command\n")
	require.True(t, ok)
	_, rest, ok := strings.Cut(section, "```sh\n")
	require.True(t, ok)
	block, _, _ := strings.Cut(rest, "```")
	dir, ran := t.TempDir(), ""
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, "go install ") {
			continue
		}
		cmd := exec.Command(shell, "-c", line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
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

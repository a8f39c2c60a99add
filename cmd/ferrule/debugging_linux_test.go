package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// The commands of docs/debugging.md print what stands there, one after the other.
func TestPageOfDebugging(t *testing.T) {
	t.Parallel()
	fixture.NotMusl(t, "it has no sanitizers")
	for _, tool := range []string{"gcc", "make", "gdb", "valgrind", "pgrep"} {
		fixture.Tool(t, tool, "apt-get install "+tool)
	}
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "debugging.md"))
	require.NoError(t, err)
	dir := t.TempDir()
	steps := blocks(string(page))
	require.Len(t, steps, 7)
	for _, step := range steps {
		if strings.Contains(step.text, "ulimit -c") {
			if where, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || strings.TrimSpace(string(where)) != "core" {
				t.Logf("cores are %q here, and not in the working directory: the command is not run", where)
				continue
			}
		}
		if step.language == "console" {
			assert.Equal(t, step.text, session(t, dir, step.text))
			continue
		}
		require.NotEmpty(t, step.file)
		f, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(step.file)), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(step.text)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

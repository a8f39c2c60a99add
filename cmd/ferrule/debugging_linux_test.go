package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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
		if why := unlike(step.text); why != "" {
			t.Logf("these commands are not run here, where %s: %s", why, step.text)
			continue
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

// unlike says what this system has of its own that the page's reader need not have.
func unlike(commands string) string {
	read := func(path string) string {
		text, _ := os.ReadFile(path)
		return strings.TrimSpace(string(text))
	}
	var limit unix.Rlimit
	switch {
	case strings.Contains(commands, "ulimit -c"):
		if where := read("/proc/sys/kernel/core_pattern"); where != "core" || read("/proc/sys/kernel/core_uses_pid") != "0" {
			return fmt.Sprintf("cores are %q", where)
		}
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Max != unix.RLIM_INFINITY {
			return "cores are limited"
		}
	case strings.Contains(commands, "gdb -batch -p"):
		if scope := read("/proc/sys/kernel/yama/ptrace_scope"); scope > "0" && os.Geteuid() != 0 {
			return "only root may attach"
		}
	}
	return ""
}

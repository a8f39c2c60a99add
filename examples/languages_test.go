package examples_test

import (
	"cmp"
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
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// TestLanguagesZig runs what the README of the languages says of Zig, with the Zig that ZIG in the environment or PATH
// names.
func TestLanguagesZig(t *testing.T) {
	path := "PATH=" + zig(t) + string(os.PathListSeparator) + os.Getenv("PATH")
	languages(t, "Zig", path)
	library := filepath.Join(fixture.Root(), "build", "examples", "vowels-zig"+fixture.Ext())
	countVowels(t, open(t, library))
	countVowels(t, open(t, library, isolate.InWorker()))
}

// TestLanguagesGo runs what the README of the languages says of Go.
func TestLanguagesGo(t *testing.T) {
	fixture.Tool(t, cmp.Or(strings.Fields(os.Getenv("CC")+" gcc")...), "apt-get install gcc")
	languages(t, "Go")
	library := filepath.Join(fixture.Root(), "build", "examples", "vowels-go"+fixture.Ext())
	_, err := loader.Open(library)
	assert.ErrorIs(t, err, loader.ErrGoRuntime)
	countVowels(t, open(t, library, isolate.InWorker()))
}

// languages runs the console blocks at the head of the README of the languages and those of one section, and compares
// what is printed.
func languages(t *testing.T, section string, env ...string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the README shows what is printed on Linux")
	}
	fixture.Tool(t, "go", "see https://go.dev/dl")
	require.NoError(t, watchSources())
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "examples", "languages", "README.md"))
	require.NoError(t, err)
	head, rest, _ := strings.Cut(string(text), "\n## ")
	parts := []string{head}
	for part := range strings.SplitSeq(rest, "\n## ") {
		if strings.HasPrefix(part, section+"\n") {
			parts = append(parts, part)
		}
	}
	require.Len(t, parts, 2, "the head and one section %s", section)
	numbers := regexp.MustCompile(`\d+`)
	for _, part := range parts {
		blocks := regexp.MustCompile("(?ms)^```console( numbers vary)?\n(.*?)^```$").FindAllStringSubmatch(part, -1)
		require.NotEmpty(t, blocks)
		for _, block := range blocks {
			want, got := block[2], console(t, block[2], env...)
			if block[1] != "" {
				want, got = numbers.ReplaceAllString(want, "N"), numbers.ReplaceAllString(got, "N")
			}
			assert.Equal(t, want, got)
		}
	}
}

// zig returns a folder with a program zig, which runs the command that ZIG in the environment names, or the one in PATH.
// Where neither is, the test is skipped.
func zig(t *testing.T) string {
	t.Helper()
	command := os.Getenv("ZIG")
	if command == "" {
		path, err := exec.LookPath("zig")
		if err != nil {
			t.Skip(`zig is missing: pip install ziglang, and set ZIG="python3 -m ziglang"`)
		}
		return filepath.Dir(path)
	}
	script := "#!/bin/sh\nexec " + command + " \"$@\"\n"
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "zig"), []byte(script), 0o777))
	return folder
}

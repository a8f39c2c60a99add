package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestAuthorGuide does what docs/author-guide.md says, from its top to its end: it runs the commands of the console blocks
// and compares what they print, and adds the code after "Add to `file`:" to that file.
func TestAuthorGuide(t *testing.T) {
	for _, lang := range []string{"c", "cpp", "rust"} {
		need(t, lang)
	}
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "author-guide.md"))
	require.NoError(t, err)
	guide := strings.ReplaceAll(string(text), "libwords.so", libraryPrefix()+"words"+libraryExt())
	guide = strings.ReplaceAll(guide, ".so", libraryExt())

	dir := t.TempDir()
	seeds := regexp.MustCompile(`--seed \d+`)
	if runtime.GOOS != "linux" {
		seeds = regexp.MustCompile(`\d+ (skipped)|--seed \d+`) // some cases are Linux's
	}
	steps := regexp.MustCompile("(?ms)(?:Add to\\s`([^`]+)`:\n\n)?^```(\\w+)( seeds vary)?\n(.*?)^```$").FindAllStringSubmatch(guide, -1)
	added, ran := 0, 0
	for _, step := range steps {
		file, language, seedsVary, block := step[1], step[2], step[3] != "", step[4]
		switch {
		case language == "console":
			ran++
			seen := session(t, dir, block)
			if seedsVary {
				block, seen = seeds.ReplaceAllString(block, "N $1"), seeds.ReplaceAllString(seen, "N $1")
			}
			assert.Equal(t, block, seen)
		case file != "":
			added++
			f, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(file)), os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteString(block)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		default:
			t.Errorf("this block is neither run nor added to a file:\n%s", block)
		}
	}
	assert.Equal(t, 3, added, "one for each language")
	assert.GreaterOrEqual(t, ran, 7)
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

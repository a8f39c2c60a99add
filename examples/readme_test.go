package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// The code in the project's README is that of an example, to the letter.
func TestProjectREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(fixture.Root(), "README.md"))
	require.NoError(t, err)
	snippets := map[string]string{
		"```c\n":    "countvowels/c/countvowels.c",
		"```go\n":   "countvowels/main.go",
		"```rust\n": "countvowels/rust/src/lib.rs",
	}
	for fence, file := range snippets {
		_, rest, ok := strings.Cut(string(readme), fence)
		require.True(t, ok, fence)
		snippet, _, _ := strings.Cut(rest, "```")
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Contains(t, string(source), snippet)
		assert.LessOrEqual(t, strings.Count(snippet, "\n"), 8, "%s fits beside the others", file)
	}
}

// So is the code by which it opens a plug-in that is not trusted, which does not fall back to fewer layers than it names.
func TestProjectREADMEOfIsolation(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(fixture.Root(), "README.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(readme), "\n## When you do not trust it\n")
	require.True(t, ok)
	_, rest, ok := strings.Cut(section, "```go\n")
	require.True(t, ok)
	snippet, _, _ := strings.Cut(rest, "```")
	source, err := os.ReadFile("untrusted/main.go")
	require.NoError(t, err)
	assert.Contains(t, string(source), snippet)
	assert.Contains(t, snippet, "sandbox.With(")
	assert.NotContains(t, string(source), "BestEffort")
}

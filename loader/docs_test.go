package loader_test

import (
	"bytes"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The code on the page for hosts is that of examples, which run.
func TestPageForHosts(t *testing.T) {
	page, err := os.ReadFile("../docs/hosts.md")
	require.NoError(t, err)
	var examples []byte
	for _, file := range []string{"example_test.go", "example_linux_test.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		examples = append(examples, text...)
	}
	examples = bytes.ReplaceAll(examples, []byte("openExample("), []byte("loader.Open(path, ")) // which it calls, where a compiler is
	indented := regexp.MustCompile(`(?m)^\t+`)                                                  // less on the page than in a function
	code := string(indented.ReplaceAll(examples, nil))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllSubmatch(page, -1)
	for _, block := range blocks {
		assert.Contains(t, code, string(indented.ReplaceAll(block[1], nil)))
	}
	shown := len(regexp.MustCompile(`(?m)^func Example`).FindAll(examples, -1))
	assert.Len(t, blocks, shown, "one for each example")
}

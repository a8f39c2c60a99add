package loader_test

import (
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
	examples, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	indented := regexp.MustCompile(`(?m)^\t+`) // less on the page than in a function
	code := string(indented.ReplaceAll(examples, nil))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllSubmatch(page, -1)
	for _, block := range blocks {
		assert.Contains(t, code, string(indented.ReplaceAll(block[1], nil)))
	}
	shown := len(regexp.MustCompile(`(?m)^func Example`).FindAll(examples, -1))
	assert.Len(t, blocks, shown, "one for each example")
}

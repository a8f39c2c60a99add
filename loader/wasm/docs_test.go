package wasm_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The code on the page about this package is that of its example, which runs, and its table has every option.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/wasm.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllSubmatch(page, -1)
	require.Len(t, blocks, 1)
	assert.Contains(t, string(example), string(blocks[0][1]))
	source, err := os.ReadFile("wasm.go")
	require.NoError(t, err)
	options := regexp.MustCompile(`(?m)^func (With\w+)\(`).FindAllSubmatch(source, -1)
	require.NotEmpty(t, options)
	for _, option := range options {
		assert.Contains(t, string(page), "| `wasm."+string(option[1])+"(")
	}
}

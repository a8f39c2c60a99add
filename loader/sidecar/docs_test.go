package sidecar_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The code on the page about this package is that of its examples, which run, and its table has every option.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/sidecars.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllSubmatch(page, -1)
	require.Len(t, blocks, 5)
	for i, path := range []string{"example_test.go", "example_test.go", "../../sdk-go/sidecar/testdata/vowels/main.go", "../../examples/sidecar/serve/main.go", "serve/example_test.go"} {
		example, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Contains(t, string(example), string(blocks[i][1]))
	}
	source, err := os.ReadFile("options.go")
	require.NoError(t, err)
	options := regexp.MustCompile(`(?m)^func (With\w+)\(`).FindAllSubmatch(source, -1)
	require.NotEmpty(t, options)
	for _, option := range options {
		assert.Contains(t, string(page), "| `sidecar."+string(option[1])+"(")
	}
}

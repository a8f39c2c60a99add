package builtin_test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The code on the page, where that is about this package, is that of its examples, which run, but for a line that stands alone.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/go-plug-ins.md")
	require.NoError(t, err)
	examples, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, page, found := bytes.Cut(page, []byte("\n## Functions of the host's own\n"))
	require.True(t, found)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllSubmatch(page, -1)
	long := 0
	for _, block := range blocks {
		if code := string(block[1]); strings.Contains(code, "\n") {
			long++
			assert.Contains(t, string(examples), code)
		}
	}
	assert.Equal(t, 4, long)
}

package otel_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/otel"
)

// The code on the page about watching a system is that of the examples, which run, and its table has the instruments that there are.
func TestPageOnObserving(t *testing.T) {
	page, err := os.ReadFile("../../docs/observing.md")
	require.NoError(t, err)
	var examples []byte
	for _, path := range []string{"example_test.go", "../monitor/example_test.go", "../web/example_test.go"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		examples = append(examples, text...)
	}
	indented := regexp.MustCompile(`(?m)^\t+`) // less on the page than in a function
	code := string(indented.ReplaceAll(examples, nil))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllSubmatch(page, -1)
	require.Len(t, blocks, 8)
	for _, block := range blocks {
		assert.Contains(t, code, string(indented.ReplaceAll(block[1], nil)))
	}

	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(ferrule\\.plugin\\.[a-z._]+)` \\|").FindAllSubmatch(page, -1) {
		listed = append(listed, string(row[1]))
	}
	reader := metric.NewManualReader()
	sys := newSystem(t, "in-process", "system", plugins.Counting())
	told := plugins.Notify[[]byte](sys, "told")
	_, err = otel.Metrics(sys, metric.NewMeterProvider(metric.WithReader(reader)))
	require.NoError(t, err)
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, told.Call(t.Context(), nil))
	there := map[string]bool{}
	for name := range read(t, reader) {
		name, _, _ = strings.Cut(name, " ")
		there[name] = true
	}
	assert.Len(t, listed, len(there))
	for _, name := range listed {
		assert.True(t, there[name], "%s", name)
	}
}

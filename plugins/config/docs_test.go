package config_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
)

// docs/config.md has every key in a table and in an example, and its examples are valid.
func TestThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/config.md")
	require.NoError(t, err)
	var examples strings.Builder
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	assert.Equal(t, field, blocks[0][1])
	for _, block := range blocks {
		_, err := config.Parse("", []byte(block[1]))
		assert.NoError(t, err, block[1])
		assert.NoError(t, valid(t, []byte(block[1])))
		examples.WriteString(block[1])
	}
	var schema any
	require.NoError(t, json.Unmarshal(config.Schema(), &schema))
	keys := map[string]bool{}
	var walk func(any)
	walk = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			for key, item := range v {
				if properties, ok := item.(map[string]any); ok && key == "properties" {
					for name, property := range properties {
						keys[name] = true
						assert.NotEmpty(t, property.(map[string]any)["description"], name)
					}
				}
				if key != "dependencies" { // which say nothing new of a key
					walk(item)
				}
			}
		}
	}
	walk(schema)
	require.Greater(t, len(keys), 25)
	var rows []string
	for _, line := range strings.Split(string(page), "\n") {
		if strings.HasPrefix(line, "| `") || strings.HasPrefix(line, "## ") {
			rows = append(rows, line)
		}
	}
	for key := range keys {
		assert.True(t, slices.ContainsFunc(rows, func(row string) bool { return regexp.MustCompile(`\b` + key + `\b`).MatchString(row) }), "%s is not described", key)
		assert.Regexp(t, `(^|[\s{,])`+key+`:`, examples.String(), "%s is in no example", key)
	}
}

// The faults that the page shows are what such a file has.
func TestThePagesFaults(t *testing.T) {
	page, err := os.ReadFile("../../docs/config.md")
	require.NoError(t, err)
	shown := regexp.MustCompile("(?s)```console\n(.*?)\n```").FindSubmatch(page)
	require.NotNil(t, shown)
	_, err = config.Parse("config.yaml", []byte("plugins:\n  - sample-plugin\n\n  - name: advance-plugin\n    limit: 50\n    grnat: [loyalty_points]\n"))
	assert.EqualError(t, err, string(shown[1]))
}

package ci_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// What CONTRIBUTING.md names is there: files and folders, targets of make, tests.
func TestContributing(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "CONTRIBUTING.md"))
	require.NoError(t, err)
	makefile, err := os.ReadFile(filepath.Join(fixture.Root(), "Makefile"))
	require.NoError(t, err)
	var there []string
	for _, of := range [][]string{{"ls-files"}, {"ls-files", "--others", "--exclude-standard"}} { // also what is not committed yet
		list := exec.Command("git", of...)
		list.Dir = fixture.Root()
		out, err := list.Output()
		if err != nil {
			t.Skipf("git does not list the tree: %v", err)
		}
		there = append(there, strings.Fields(string(out))...)
	}
	tree := "/" + strings.Join(there, "\n/") + "\n"
	paths := 0
	for _, m := range regexp.MustCompile("`([^`\\s]+)`").FindAllStringSubmatch(string(page), -1) {
		name := m[1]
		if !strings.Contains(name, "/") || strings.ContainsAny(name, "*'{(") || name == strings.ToUpper(name) || strings.Contains(name, "NAME") {
			continue
		}
		paths++
		end := "\n"
		if strings.HasSuffix(name, "/") || filepath.Ext(name) == "" && !strings.HasSuffix(name, "run") && !strings.HasSuffix(name, "budget") {
			name, end = strings.TrimSuffix(name, "/"), "/"
		}
		assert.True(t, strings.Contains(tree, "/"+name+end), "%s is named in CONTRIBUTING.md, and not there", name)
	}
	assert.Greater(t, paths, 40)
	tests := regexp.MustCompile("`([a-z]+)\\.(Test[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	assert.NotEmpty(t, tests)
	for _, m := range tests {
		files, err := filepath.Glob(filepath.Join(fixture.Root(), m[1], "*_test.go"))
		require.NoError(t, err)
		deeper, err := filepath.Glob(filepath.Join(fixture.Root(), "*", m[1], "*_test.go"))
		require.NoError(t, err)
		files = append(files, deeper...)
		assert.True(t, slices.ContainsFunc(files, func(path string) bool {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			return strings.Contains(string(text), "func "+m[2]+"(")
		}), "%s.%s is named in CONTRIBUTING.md", m[1], m[2])
	}
	targets := regexp.MustCompile("`make ([a-z-]+)").FindAllStringSubmatch(string(page), -1)
	assert.Greater(t, len(targets), 8)
	for _, m := range targets {
		assert.Regexp(t, "(?m)^"+m[1]+":", string(makefile))
	}
}

// The files of which docs/macos.md says what they rely on are there.
func TestMacOSPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "macos.md"))
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `((?:loader|cmd)/[^`]+)`").FindAllStringSubmatch(string(page), -1)
	assert.Greater(t, len(rows), 15)
	for _, row := range rows {
		_, err := os.Stat(filepath.Join(fixture.Root(), row[1]))
		assert.NoError(t, err)
	}
}

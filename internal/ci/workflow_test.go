//go:build unix

package ci

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// The workflow runs every step of the budget, each behind the first one, which installs what they need.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	workflow, err := os.ReadFile(filepath.Join(fixture.Root(), ".github", "workflows", "ci.yml"))
	require.NoError(t, err)
	list := regexp.MustCompile(`(?m)^        step: \[(.*)\]$`).FindSubmatch(workflow)
	require.NotNil(t, list)
	budget, err := os.ReadFile(filepath.Join(fixture.Root(), ".ci", "budget"))
	require.NoError(t, err)
	var steps []string
	for _, line := range regexp.MustCompile(`(?m)^(\w+) +\d+ +(bounded|open)$`).FindAllSubmatch(budget, -1) {
		if name := string(line[1]); name != "install" {
			steps = append(steps, name)
		}
	}
	require.Greater(t, len(steps), 10)
	assert.Equal(t, steps, strings.Split(string(list[1]), ", "))
	assert.Contains(t, string(workflow), "\n      - run: .ci/run install ${{ matrix.step }}\n")
}

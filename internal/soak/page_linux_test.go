package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestPage: docs/soak.md has the summary of a run as this one makes it, of every plug-in, disturbance and number that there is, long enough, flat, and with nothing left.
func TestPage(t *testing.T) {
	fixture.Loadable(t)
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "soak.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), Begin)
	require.True(t, ok)
	told, _, ok := strings.Cut(rest, End)
	require.True(t, ok)

	head := regexp.MustCompile(`^\nThe run of (\d{4}-\d\d-\d\d): (\S+) on a machine with \d+ cores and \d+ GiB of memory\. (\d+) callers made [\d,]+ calls, and [\d,]+ disturbances happened\. The seed was \d+\.\n`).FindStringSubmatch(told)
	require.NotNil(t, head, "%.300s", told)
	_, err = time.Parse(time.DateOnly, head[1])
	assert.NoError(t, err)
	long, err := time.ParseDuration(head[2])
	require.NoError(t, err)
	assert.GreaterOrEqual(t, long, 20*time.Minute)

	row := func(first string, cells int) []string {
		t.Helper()
		var found []string
		for line := range strings.Lines(told) {
			if all := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); strings.TrimSpace(all[0]) == first {
				found = append(found, line)
				assert.Len(t, all, cells, line)
			}
		}
		require.Len(t, found, 1, "rows that begin with %s", first)
		cell := strings.Split(strings.Trim(strings.TrimSpace(found[0]), "|"), "|")
		for i := range cell {
			cell[i] = strings.TrimSpace(cell[i])
		}
		return cell
	}
	plugins := fixtures(t, "socket", "server", "broker")
	assert.GreaterOrEqual(t, len(plugins), 12)
	for _, p := range plugins {
		cells := row("`"+p.Name+"`", 7)
		assert.Equal(t, []string{p.form, p.place}, cells[1:3])
		assert.NotEqual(t, "0", cells[4])
	}
	for _, d := range disturbances {
		assert.NotEqual(t, "0", row(d.name, 3)[1])
	}
	row(string(Answered), 2)
	for _, kind := range []Kind{Unforeseen, WrongAnswer} {
		assert.NotContains(t, told, "| "+string(kind)+" |")
	}
	for _, s := range flats() {
		cells := row(s.Name, 5)
		var grew, may float64
		_, err := fmt.Sscan(cells[3], &grew)
		require.NoError(t, err)
		_, err = fmt.Sscan(cells[4], &may)
		require.NoError(t, err)
		assert.LessOrEqual(t, grew, may, s.Name)
	}
	assert.Contains(t, told, "After it was closed there were left of what had come: 0 descriptors, 0 goroutines, 0 processes, 0 temporary files.\n")
}

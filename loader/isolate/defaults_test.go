package isolate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// What holds without an option is what docs/isolation.md says. To wait for each of these would take a minute.
func TestDefaults(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "isolation.md"))
	require.NoError(t, err)
	documented := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			name, _, _ := strings.Cut(strings.Trim(cells[1], " `"), "(")
			documented[name] = strings.TrimSpace(cells[2])
		}
	}
	o, err := options("InWorker", nil)
	require.NoError(t, err)
	for name, value := range map[string]string{
		"WithGrace":        o.Grace.String(),
		"WithStartTimeout": o.StartTimeout.String(),
		"WithStopTimeout":  o.StopTimeout.String(),
		"WithMaxMessage":   fmt.Sprintf("%gMiB, or the sandbox's `Memory` where that is less", float64(o.MaxMessage)/(1<<20)),
		"WithRestart":      fmt.Sprintf("%v, %dcrashes, %v", o.Restart.Delay, o.Restart.Limit, o.Restart.Suspend),
	} {
		assert.Equal(t, strings.ReplaceAll(documented[name], " ", ""), strings.ReplaceAll(value, " ", ""), name)
	}
}

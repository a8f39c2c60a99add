package check_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestSidecarOfSDK: what sdk-go makes of a plug-in keeps to all of the page, at the highest level, whatever its threads are.
func TestSidecarOfSDK(t *testing.T) {
	program := fixture.Everything(t)
	t.Run("group", func(t *testing.T) {
		fixture.SideBySide(t, atOnce, []string{"concurrent", "serial", "pinned"}, strings.Clone, func(t *testing.T, threads string) {
			o := sidecarOptions()
			skipped := []string{noToken, noListener}
			if threads != "concurrent" {
				skipped = append(skipped, "concurrent")
			} else {
				o.Level = 10
			}
			v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: program, Args: []string{threads}}, o)
			require.NoError(t, err)
			sidecarPasses(t, v, skipped...)
		})
	})
}

//go:build !linux

package plugins_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
)

// A system that cannot shut a program in does not run it, unless its entry says that less is enough.
func TestPermitsOfProgramsElsewhere(t *testing.T) {
	c, script := newConfigured(t), filepath.Join(t.TempDir(), "x.py")
	sidecarFile(t, script)
	entry := "plugins: [{name: plugin_aaaa, program: '" + script + "', interpreter: ['" + python(t) + "'], permit: {connect: [443]}"
	c.write(entry + "}]")
	sys := c.new()
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.ErrorIs(t, p.Err, loader.ErrSandbox)
	assert.ErrorContains(t, p.Err, "isolate.sandbox: best-effort")
	for _, enough := range []string{"best-effort", "none"} {
		c.write(entry + ", isolate: {sandbox: " + enough + "}}]")
		require.NoError(t, sys.Reload(t.Context()))
		assert.Equal(t, "aaaa", ask(t, sys, "plugin_aaaa", "answer", ""))
		p, _ = sys.Plugin("plugin_aaaa")
		assert.NoError(t, p.Err)
		assert.True(t, p.Declared)
	}
}

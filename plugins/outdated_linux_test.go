package plugins_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestOutdated: an edit of what hangs while it is opened, or tried again, ends the worker that hangs, and those who wait get what the edit has made of it.
func TestOutdated(t *testing.T) {
	folder := t.TempDir()
	variant(t, "fault_start", filepath.Join(folder, "fault_start"+fixture.Ext()))
	path, write := written(t, "")
	edit := func(config string) {
		write("folders: [" + folder + "]\nplugins: [{name: fault_start, isolate: {sandbox: none}, config: {do: " + config + "}}]")
	}
	edit("hang")
	var log lines
	sys := plugins.New("app", "1.0.0", log.logger(), plugins.Config(path))
	defer func() { require.NoError(t, closed(sys)) }()
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("fault_start", "echo")
	require.NoError(t, err)

	before := fixture.Holds(t).Children
	answer := make(chan error, 1)
	go func() {
		_, err := f.Call(t.Context(), []byte("hello"))
		answer <- err
	}()
	require.Eventually(t, func() bool { return fixture.Holds(t).Children > before }, time.Minute, time.Millisecond)
	began := time.Now()
	edit("well")
	require.NoError(t, sys.Reload(t.Context()))
	require.NoError(t, <-answer)
	assert.Less(t, time.Since(began), 25*time.Second, "of the 30 that the worker that hangs would have had")
	assert.Empty(t, log.with("level=ERROR"))
}

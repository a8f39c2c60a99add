package scripttest

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// A picture of a system has scripts as they run: JavaScript in this process, Python in a worker, with its process and that one's memory, and the calls of each.
func TestMonitor(t *testing.T) {
	s := site.New(t)
	s.Put("java.js", "// ferrule: name=java version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.Put("pyth.py", "# ferrule: name=pyth version=2.0.0 fn=f\nimport os\ndef f(x):\n    if x == 'bad': raise ValueError(x)\n    return str(os.getpid())\n")
	s.Put("off.py", "# ferrule: name=off version=1.0.0 fn=f\ndef f(x): return x\n")
	s.Configure("plugins: [java, pyth, {name: off, enabled: false}]")
	sys := s.Start(both(t), plugins.Counting())
	for range 3 {
		assert.Equal(t, "1", site.Call(t, sys, "java", "f", ""))
	}
	pid := site.Call(t, sys, "pyth", "f", "")
	assert.Contains(t, site.Call(t, sys, "pyth", "f", "bad"), "ValueError: bad")
	shown := map[string]monitor.Plugin{}
	for _, p := range monitor.Take(sys).Plugins {
		shown[p.Name] = p
	}
	require.Len(t, shown, 3)
	java, pyth, off := shown["java"], shown["pyth"], shown["off"]
	assert.Equal(t, "in-process", java.Runs)
	assert.Zero(t, java.Worker)
	assert.Zero(t, java.Memory)
	assert.EqualValues(t, 3, java.Calls.Calls)
	assert.Equal(t, "isolated", pyth.Runs)
	assert.Equal(t, "2.0.0", pyth.Version)
	assert.Equal(t, pid, strconv.Itoa(pyth.Worker))
	assert.NotEqual(t, os.Getpid(), pyth.Worker)
	if measured := monitor.Take(sys).Memory > 0; measured { // where the system says it
		assert.Greater(t, pyth.Memory, int64(1<<20))
	}
	assert.EqualValues(t, 2, pyth.Calls.Calls)
	assert.EqualValues(t, 1, pyth.Calls.Failed)
	assert.Zero(t, off.Worker)
	assert.False(t, off.Enabled)

	s.Put("pyth.py", "# ferrule: name=pyth version=2.1.0 fn=f\nimport os\ndef f(x):\n    return str(os.getpid())\n")
	require.NoError(t, sys.Reload(t.Context()))
	for _, p := range monitor.Take(sys).Plugins {
		if p.Name == "pyth" {
			assert.Equal(t, "2.1.0", p.Version)
			assert.Equal(t, 1, p.Replaced)
			assert.NotEqual(t, pid, strconv.Itoa(p.Worker))
			assert.EqualValues(t, 2, p.Calls.Calls, "of all versions together")
		}
	}
}

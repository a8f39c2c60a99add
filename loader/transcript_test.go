package loader_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/internal/transcript"
)

// Everything that a host sees of a plug-in is written down, in this process and isolated: results, errors with their
// types, fields and texts, statuses, what host functions get, and log lines, in their order. It is the same.
//
// What may differ is not in the table, but in tests of its own, which ask way.isolated. There is:
//   - the room for a result that the caller brings no room for, as no caller of View does: isolated, there is more of it,
//     and a violation of R8 that tells of it says another number (TestCallDefects);
//   - what a plug-in knows of other plug-ins of the same file: isolated, nothing (TestInstancesAreApart, TestOpenDigest,
//     TestLateThread), and a view is no reason not to call release (TestView);
//   - a host function that ends its goroutine: isolated, the plug-in gets an error and goes on, and the goroutine is the
//     caller's also for a pinned plug-in (TestHostFuncEndsItsGoroutine);
//   - a library with a Go runtime, which only a worker can load (TestOpenFiles).
func TestTranscripts(t *testing.T) {
	calls, libraries := 0, make(map[string]bool)
	for _, c := range transcript.Table {
		t.Run(c.Name, func(t *testing.T) {
			path := c.Library.Built(t)
			libraries[path] = true
			if c.Fresh {
				path = tempLibrary(t, path)
			}
			here, there := c.Record(t, inProcess.try, path), c.Record(t, isolated.try, path)
			assert.Equal(t, here.Lines, there.Lines)
			assert.Equal(t, here.Calls, there.Calls)
			calls += here.Calls
		})
	}
	t.Logf("%d calls of %d libraries", calls, len(libraries))
	assert.GreaterOrEqual(t, calls, 200)
	assert.GreaterOrEqual(t, len(libraries), 20)
}

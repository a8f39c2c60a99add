package isolate_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A worker has none of the host's environment but its time zone, and what WithEnv gives it.
func TestEnvironment(t *testing.T) {
	t.Setenv("FERRULE_TEST_SECRET", "secret")
	t.Setenv("TZ", "Asia/Tokyo")
	p := open(t, fixture.C(t, "sandbox_attempts"), isolate.InWorker(isolate.WithEnv("A=1")))
	text := call(t, p, "read_file", "/proc/self/environ")
	require.Less(t, len(text), 256, "it is the whole of it")
	var names []string
	for variable := range strings.SplitSeq(strings.TrimSuffix(text, "\x00"), "\x00") {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	assert.ElementsMatch(t, []string{"A", "TZ", "FERRULE_WORKER"}, names)
}

// A worker is in the host's session, with a process group of its own: a kernel that shares the processors by sessions (autogroup)
// gives both sides of a call one share then.
func TestSessionOfTheHost(t *testing.T) {
	for name, opt := range map[string]loader.Option{"alone": isolate.InWorker(), "group": isolate.InGroup(isolate.NewGroup("kin"))} {
		t.Run(name, func(t *testing.T) {
			state, ok := open(t, fixture.C(t, "echo"), opt).Isolation()
			require.True(t, ok)
			fixture.CheckSession(t, state.PID, state.Layers)
		})
	}
}

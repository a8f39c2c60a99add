package confine

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestReachedMemory: what a process with a limit of memory says last is believed, where it may have ended for that.
func TestReachedMemory(t *testing.T) {
	const noThread = "pthread_create failed: Resource temporarily unavailable"
	for _, c := range []struct {
		signal os.Signal
		lines  []string
		says   string
	}{
		{syscall.SIGABRT, []string{noThread, ""}, "ended by itself, and says that it has no memory left: it had 64 KiB (sandbox.Policy.Memory)"},
		{nil, []string{"malloc: Cannot allocate memory"}, "ended by itself, and says that it has no memory left: it had 64 KiB (sandbox.Policy.Memory)"},
		{syscall.SIGSEGV, []string{"fatal error: runtime: cannot allocate memory", "", "goroutine 1:"}, "ended by its own runtime, which says that it has no memory left: it had 64 KiB (sandbox.Policy.Memory)"},
		{nil, []string{"runtime: failed to create new OS thread (have 2 already; errno=11)", "fatal error: newosproc"}, "ended by its own runtime, which says that it has no memory left: it had 64 KiB (sandbox.Policy.Memory)"},
		{syscall.SIGSEGV, []string{noThread}, ""},
		{nil, []string{noThread, "but it went on"}, ""},
		{nil, []string{"", ""}, ""},
	} {
		assert.Equal(t, c.says, (&Bounds{Memory: 64 << 10}).Reached(c.signal, time.Second, c.lines), c.lines)
		assert.Empty(t, (&Bounds{}).Reached(c.signal, time.Second, c.lines), "no limit was set")
	}
	assert.Equal(t, []string{"1 byte", "10 bytes", "4 MiB"}, []string{amount(1), amount(10), amount(4<<20 + 1)})
}

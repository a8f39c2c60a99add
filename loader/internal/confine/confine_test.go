package confine

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// TestReachedMemory: what a process with a limit of memory says is believed, where it may have ended for that. A fault or a kill is none of its runtime's, Go's either: that one exits or aborts.
func TestReachedMemory(t *testing.T) {
	const noThread = "pthread_create failed: Resource temporarily unavailable"
	const byRuntime, byItself = "ended by its own runtime, which says that it has no memory left: it had 64 KiB (sandbox.Policy.Memory)",
		"ended by itself, and says that it has no memory left: it had 64 KiB (sandbox.Policy.Memory)"
	failFast, accessViolation := windows(0xc0000409), windows(0xc0000005)
	ofGo := []string{"fatal error: runtime: cannot allocate memory", "", "goroutine 1:"}
	ofRust := []string{"memory allocation of 1073741824 bytes failed", "caught, goes on", "request 7 done"}
	ofCpp := []string{"terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"}
	for _, c := range []struct {
		signal os.Signal
		code   int
		lines  []string
		says   string
	}{
		{syscall.SIGABRT, -1, []string{noThread, ""}, byItself},
		{nil, 1, []string{"malloc: Cannot allocate memory"}, byItself},
		{nil, 2, ofGo, byRuntime},
		{syscall.SIGABRT, -1, ofGo, byRuntime},
		{syscall.SIGABRT, -1, ofRust[:1], byRuntime},
		{syscall.SIGABRT, -1, ofCpp, byRuntime},
		{nil, failFast, ofCpp, byRuntime}, // Windows has that for an abort
		{nil, 2, []string{"runtime: failed to create new OS thread (have 2 already; errno=11)", "fatal error: newosproc"}, byRuntime},
		{syscall.SIGSEGV, -1, ofGo, ""},
		{syscall.SIGSEGV, -1, ofRust, ""},
		{syscall.SIGSEGV, -1, ofCpp, ""},
		{os.Kill, -1, ofGo, ""},
		{os.Kill, -1, ofRust, ""},
		{os.Kill, -1, ofCpp, ""},
		{nil, accessViolation, ofRust, ""}, // and that for a fault
		{syscall.SIGSEGV, -1, []string{noThread}, ""},
		{nil, accessViolation, []string{noThread}, ""},
		{nil, 2, []string{"runtime/cgo: pthread_create failed: Resource temporarily unavailable", "SIGABRT: abort", "PC=0x1"}, byRuntime},
		{nil, 3, []string{"runtimes: failed to create thread for one, the others run", "done"}, ""},
		{nil, 3, []string{"runtime: free out of memory hints list", "done"}, ""},
		{nil, 3, []string{noThread, "but it went on"}, ""},
		{nil, 3, []string{"", ""}, ""},
	} {
		want := End{Reason: c.says}
		if c.says != "" {
			want.Bound = engine.BoundMemory
		}
		assert.Equal(t, want, (&Bounds{Memory: 64 << 10}).Reached(c.signal, c.code, time.Second, c.lines), "%v %#x %q", c.signal, c.code, c.lines)
		assert.Empty(t, (&Bounds{}).Reached(c.signal, c.code, time.Second, c.lines), "no limit was set")
	}
	assert.Equal(t, []string{"1 byte", "10 bytes", "4 MiB"}, []string{amount(1), amount(10), amount(4<<20 + 1)})
}

// windows is an exit code of Windows as an int is one on every architecture.
func windows(code uint32) int { return int(code) }

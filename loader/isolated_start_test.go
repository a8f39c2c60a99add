package loader

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// A file that a worker's start lacks is what the remedy is about: the program is one, the null device another.
func TestRemedyOfAStartThatLacksAFile(t *testing.T) {
	for path, want := range map[string]string{os.DevNull: "Have " + os.DevNull, "/srv/worker": "isolate.WithBinary"} {
		err := crashAtOpen("p", "p.so", &engine.Crash{Err: &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}}, engine.NativeCode("", ""))
		assert.ErrorContains(t, err, want, path)
	}
}

// What has ended a worker is why more memory may help, or not: neither what it wrote before a fault, nor the words of the reason.
func TestRemedyOfMemory(t *testing.T) {
	accessViolation := uint32(0xc0000005) // an exit code of Windows, where a fault is no signal
	goes := []string{"fatal error: runtime: cannot allocate memory"}
	for _, c := range []struct {
		crash  engine.Crash
		memory bool
	}{
		{engine.Crash{Code: -1, Signal: os.Kill, Reason: "killed", Bound: engine.BoundMemory}, true},
		{engine.Crash{Code: -1, Signal: os.Kill, Reason: "killed, and says (sandbox.Policy.Memory)"}, false},
		{engine.Crash{Code: 2, Output: goes}, true},
		{engine.Crash{Code: -1, Signal: syscall.SIGABRT, Output: goes}, true},
		{engine.Crash{Code: -1, Signal: syscall.SIGSEGV, Output: goes}, false},
		{engine.Crash{Code: int(accessViolation), Output: goes}, false},
		{engine.Crash{Code: 3, Output: []string{"fatal error: plug-in table out of memory, going on"}}, false},
	} {
		want := "Look for a fault in "
		if c.memory {
			want = "Free memory, or raise the limit (ulimit -v"
		}
		assert.ErrorContains(t, crashAtOpen("p", "p.so", &c.crash, engine.NativeCode("", "")), want, "%+v", c.crash)
	}
}

package host

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A panic that the program's output has is why it ended where a runtime has ended it: of a fault, or a kill, the signal is said.
func TestBeforeServing(t *testing.T) {
	const output = "panic: no database\n\ngoroutine 1 [running]:\nexample.com/db.init.0()\n\t/src/db.go:9 +0x25\n"
	for signal, want := range map[os.Signal]string{
		nil:             "ended by an init function of its program, before it could serve: panic: no database (example.com/db.init.0, /src/db.go:9)",
		syscall.SIGABRT: "ended by an init function of its program, before it could serve: panic: no database (example.com/db.init.0, /src/db.go:9)",
		syscall.SIGSEGV: `ended with the signal "segmentation fault" before it could serve, when its program's init functions ran`,
		os.Kill:         `ended with the signal "killed" before it could serve, when its program's init functions ran`,
	} {
		assert.Equal(t, want, beforeServing(signal, 2, output), "%v", signal)
	}
}

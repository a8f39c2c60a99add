//go:build unix

package host

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// A worker that a bound of its sandbox has ended is said to have been, by the name of the bound; others are not.
func TestBoundsInWords(t *testing.T) {
	accessViolation := uint32(0xc0000005) // an exit code of Windows, where a fault is no signal
	all := Options{Memory: 64 << 20, Time: time.Second, CPU: time.Second}
	for _, c := range []struct {
		options Options
		signal  os.Signal
		code    int
		lived   time.Duration
		output  string
		want    string
	}{
		{Options{Time: time.Second}, os.Kill, -1, time.Second, "", "had lived for 1s (sandbox.Policy.Time)"},
		{Options{Time: time.Second}, os.Kill, -1, time.Second - 1, "", ""},
		{Options{Time: time.Second}, syscall.SIGSEGV, -1, time.Hour, "", ""},
		{all, syscall.SIGXCPU, -1, 2 * time.Second, "", "used 1s of processor time (sandbox.Policy.CPU)"},
		{Options{CPU: time.Second}, os.Kill, -1, 2 * time.Second, "", "(sandbox.Policy.CPU), or by another process"},
		{Options{CPU: time.Second}, os.Kill, -1, time.Second / 2, "", ""},
		{Options{}, syscall.SIGXCPU, -1, time.Hour, "", ""},
		{all, nil, 2, 0, "fatal error: runtime: out of memory\n\nruntime stack:\n", "no memory left: it had 64 MiB (sandbox.Policy.Memory)"},
		{all, syscall.SIGABRT, -1, 0, "runtime/cgo: pthread_create failed: Resource temporarily unavailable\n", "(sandbox.Policy.Memory)"},
		{all, nil, 2, 0, "runtime: failed to create new OS thread (have 9 already; errno=11)\n", "(sandbox.Policy.Memory)"},
		{all, nil, 2, 0, "panic: out of memory\n", "ended by itself, and says that it has no memory left: it had 64 MiB (sandbox.Policy.Memory)"},
		{Options{}, nil, 2, 0, "fatal error: runtime: out of memory\n", ""},
		{all, syscall.SIGSEGV, -1, 0, "memory allocation of 1073741824 bytes failed\n", ""},
		{all, nil, int(accessViolation), 0, "memory allocation of 1073741824 bytes failed\n", ""},
	} {
		w := &worker{group: &Group{options: c.options}, output: process.NewTail(nil), ended: true, signal: c.signal, code: c.code, lived: c.lived}
		wrote(t, w.output, c.output)
		crash := w.words()
		if c.want == "" {
			assert.NotContains(t, crash.Reason, "sandbox.", "%+v", c)
			assert.Empty(t, crash.Bound, "%+v", c)
		} else {
			assert.Contains(t, crash.Reason, c.want, "%+v", c)
			assert.Contains(t, crash.Reason, "(sandbox.Policy."+string(crash.Bound)+")", "%+v", c)
		}
		w.reason = "killed by the host, because of something else"
		crash = w.words()
		assert.Equal(t, w.reason, crash.Reason, "the host knows")
		assert.Empty(t, crash.Bound)
	}
}

// wrote has a worker's output be text.
func wrote(t *testing.T, output *process.Tail, text string) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	output.Read(read)
	_, err = write.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, write.Close())
	require.Eventually(t, func() bool { return output.Text() == strings.TrimRight(text, "\n") }, time.Minute, time.Millisecond)
}

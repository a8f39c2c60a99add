//go:build unix

package isolate_test

import (
	"bytes"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// output is a WithOutput that remembers.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// What a plug-in prints arrives although it flushes nothing: lines at once, the rest by Close, with the words of exit handlers
// and destructors.
func TestPrintedOutput(t *testing.T) {
	var out output
	p, err := loader.Open(fixture.C(t, "fault_prints"), isolate.InWorker(isolate.WithOutput(&out)))
	require.NoError(t, err)
	call(t, p, "print", "xyz")
	require.Eventually(t, func() bool { return out.String() == "line of 3 bytes\n" }, time.Minute, time.Millisecond, "%q", &out)
	call(t, p, "print_part", "")
	require.NoError(t, p.Close())
	assert.Equal(t, "line of 3 bytes\npart exit handler ran\ndestructor of object ran, last words", out.String())
}

// The last words that a plug-in printed are those of its crash.
func TestPrintedLastWords(t *testing.T) {
	p := open(t, fixture.C(t, "fault_prints"), isolate.InWorker())
	_, err := p.Call(ctx, "fault", nil)
	said := crash(t, err).Output
	if os.Getenv(fixture.Emulated) != "" { // which has last words of its own
		assert.Contains(t, said, "words before the end")
		return
	}
	assert.Equal(t, []string{"words before the end"}, said)
	assert.ErrorContains(t, err, "words before the end")
}

// What a library marks as its destructor runs in an orderly end where the worker's program has cgo; exit handlers always do.
func TestDestructors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("that is glibc's")
	}
	fixture.NotMusl(t, "that is glibc's")
	var out output
	p, err := loader.Open(fixture.C(t, "fault_destructor"), isolate.InWorker(isolate.WithOutput(&out)))
	require.NoError(t, err)
	require.NoError(t, p.Close())
	want := "constructor handler "
	if buildSetting("CGO_ENABLED") == "1" {
		want += "destructor "
	}
	assert.Equal(t, want, out.String())
}

// An exit handler that does not return does not hold up Close.
func TestExitHandlerThatHangs(t *testing.T) {
	var out output
	p, err := loader.Open(fixture.C(t, "fault_exit_hang"), isolate.InWorker(isolate.WithOutput(&out)))
	require.NoError(t, err)
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		assert.NoError(t, err)
	case <-time.After(time.Minute):
		require.Fail(t, "Close waits for the exit handler")
	}
	assert.Equal(t, "exit handler hangs\n", out.String())
}

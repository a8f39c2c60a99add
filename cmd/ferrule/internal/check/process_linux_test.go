package check

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What a thread waits for a processor, which another one has, is not its own time.
func TestWaited(t *testing.T) {
	var all, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	over := make(chan struct{})
	var stop atomic.Bool
	go func() { // it is not unlocked: its thread ends with it
		defer close(over)
		runtime.LockOSThread()
		_ = unix.SchedSetaffinity(0, &one)
		for !stop.Load() {
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if !assert.NoError(t, unix.SchedSetaffinity(0, &one)) {
			return
		}
		used := func() time.Duration {
			var u unix.Rusage
			assert.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &u))
			return time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		begun, before, had := time.Now(), used(), waited(thread())
		for waited(thread())-had < 200*time.Millisecond && time.Since(begun) < time.Minute {
		}
		took := time.Since(begun)
		waits, works := waited(thread())-had, used()-before
		assert.GreaterOrEqual(t, waits, 200*time.Millisecond, "the other thread has the processor half of the time")
		assert.InDelta(t, works.Seconds(), (took - waits).Seconds(), took.Seconds()/4, "%v of %v waited, %v worked", waits, took, works)
	}()
	<-done
	stop.Store(true)
	<-over
}

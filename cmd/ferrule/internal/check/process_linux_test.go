package check

import (
	"runtime"
	"strconv"
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

// Where no crash was recorded, an address near a stack's end is taken for the stack's, but for memory of a call, which may lie there.
func TestOverflowed(t *testing.T) {
	const bottom = 0x7f0000000000
	areas := []area{{What: areaInput, Begin: bottom - 0x20000, End: bottom - 0x10000}}
	for said, expected := range map[string]bool{
		"":                                            false,
		"SIGSEGV: segmentation violation":             false,
		"SIGSEGV: x\naddr=0x7effffffff00":             true,
		"SIGSEGV: x\naddr=0x7f0000000008":             true,
		"SIGBUS: x\naddr=0x7effffffff00":              false,
		"SIGSEGV: x\naddr=0x7efffffeff00":             false, // in the area
		"SIGSEGV: x\naddr=0x7efffffe0000":             false,
		"SIGSEGV: x\naddr=0x7efffffdffff":             true,
		"SIGSEGV: x\naddr=0x7effff000000":             false,
		"SIGSEGV: x\naddr=0xffffffffffffffffffffffff": false,
	} {
		assert.Equal(t, expected, overflowed(bottom, areas, said), said)
	}
	assert.False(t, overflowed(0, nil, "SIGSEGV: x\naddr=0x8"), "it is not known where the stack is")
}

// What Go's heap takes and gives back is not counted, so that it cannot hide what a library keeps; other memory is.
func TestResident(t *testing.T) {
	if strconv.IntSize == 32 {
		t.Skip("Go's heap cannot be told apart where addresses have 32 bits")
	}
	if raceDetector {
		t.Skip("the race detector has a shadow of the heap, which lies elsewhere")
	}
	const size, some = 64 << 20, 8 << 20 // some: what the test itself may need
	fill := func(b []byte) {
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	before, ok := resident()
	require.True(t, ok)
	b := make([]byte, size)
	fill(b)
	with, _ := resident()
	assert.InDelta(t, before, with, some, "Go's heap has grown")
	runtime.KeepAlive(b)
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	defer func() { assert.NoError(t, unix.Munmap(m)) }()
	fill(m)
	mapped, _ := resident()
	assert.InDelta(t, before+size, mapped, some, "memory that is not Go's has grown")
}

//go:build linux && (amd64 || arm64)

package threads

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// slack returns what PR_SET_TIMERSLACK, whose effect is one thread's, has set on this thread.
func slack() int {
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return -1
	}
	return n
}

// held starts n goroutines, each on a thread of its own, that run fn when the function it returns is called.
func held(n int, fn func()) func() {
	var ready, over sync.WaitGroup
	begin := make(chan struct{})
	for range n {
		ready.Add(1)
		over.Add(1)
		go func() {
			defer over.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-begin
			fn()
		}()
	}
	ready.Wait()
	return func() {
		close(begin)
		over.Wait()
	}
}

func TestSyscallOnEveryThread(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]int{}
	look := held(20, func() {
		mu.Lock()
		defer mu.Unlock()
		seen[slack()]++
	})
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Add(1)
	go func() { // threads that come and go meanwhile
		defer churn.Done()
		for {
			select {
			case <-stop:
				return
			default:
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
				}()
				<-gone
			}
		}
	}()
	for _, want := range []int{123_000, 50_000} {
		require.NoError(t, Syscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(want)))
		assert.Equal(t, want, slack())
	}
	close(stop)
	churn.Wait()
	require.NoError(t, Syscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 77_000))
	look()
	assert.Equal(t, map[int]int{77_000: 20}, seen)
	assert.Equal(t, 77_000, slack(), "whichever thread this is on now")
}

func TestSyscallThatFails(t *testing.T) {
	assert.Equal(t, unix.EINVAL, Syscall(unix.SYS_PRCTL, 1<<30))
	assert.Equal(t, unix.ENOSYS, Syscall(1<<20))
}

// A call that works on this thread and fails on the next: closing one descriptor.
func TestSyscallThatFailsElsewhere(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	look := held(1, func() {})
	defer look()
	fd, err := unix.Dup(0)
	require.NoError(t, err)
	err = Syscall(unix.SYS_CLOSE, uintptr(fd))
	assert.ErrorIs(t, err, unix.EBADF)
	assert.ErrorContains(t, err, "on thread ")
}

func TestThreadThatBlocksTheSignal(t *testing.T) {
	defer func(before time.Duration) { wait = before }(wait)
	wait = 50 * time.Millisecond
	var ready sync.WaitGroup
	ready.Add(1)
	stop, over := make(chan struct{}), make(chan struct{})
	var tid int
	go func() {
		defer close(over)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var set, old unix.Sigset_t
		set.Val[0] = 1 << (sig - 1)
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err != nil {
			panic(err)
		}
		tid = unix.Gettid()
		ready.Done()
		<-stop
		// The signal that is pending comes now, to Go's own handler, which has nothing to do with it.
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
			panic(err)
		}
	}()
	ready.Wait()
	err := Syscall(unix.SYS_GETPID)
	assert.ErrorContains(t, err, fmt.Sprintf("thread %d has not run a signal handler for 50ms", tid))
	close(stop)
	<-over
}

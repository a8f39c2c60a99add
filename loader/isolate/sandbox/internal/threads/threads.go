//go:build linux && (amd64 || arm64)

// Package threads makes a system call on every thread of the process, for the calls whose effect is one thread's.
//
// It is for programs without cgo that use purego: there syscall.AllThreadsSyscall answers ENOTSUP, because threads
// are made by the C library, and libpsx, which does this for programs with cgo, is C. It works as both of them do: a
// signal whose handler makes the call.
package threads

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported says whether Syscall works in this build.
const Supported = true

// sig is a real-time signal that nobody is known to send. Go leaves it unblocked. (Not the last ones: they are qemu's.)
const sig = 60

// What the handler reads and writes; see the assembly.
var (
	call   struct{ nr, a, b, c, d, e uintptr }
	done   uint32 // how many times the handler ran
	failed uint32 // the last error number of a call that did not work, else 0
)

var busy sync.Mutex

// wait is how long a thread may take until it runs the handler.
var wait = 5 * time.Second

// action is the kernel's struct sigaction.
type action struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// addresses returns where the handler and the code that returns from it are; no restorer where the kernel has one.
func addresses() (handler, restorer uintptr)

// Syscall makes one system call with at most five arguments on every thread. It is made on this thread first: when that
// fails, nothing has changed elsewhere. When it fails later, some threads have made it and some have not, and the
// process should end. A thread made meanwhile has inherited from a thread that made the call, or makes it itself.
func Syscall(nr uintptr, args ...uintptr) error {
	busy.Lock()
	defer busy.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Opened before the call, which may be the one that forbids it.
	tasks, err := os.Open("/proc/self/task")
	if err != nil {
		return err
	}
	defer tasks.Close()

	var a [5]uintptr
	copy(a[:], args)
	if _, _, e := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], 0); e != 0 {
		return e
	}
	call.nr, call.a, call.b, call.c, call.d, call.e = nr, a[0], a[1], a[2], a[3], a[4]
	atomic.StoreUint32(&failed, 0)

	const onStack, restart, hasRestorer = 0x08000000, 0x10000000, 0x04000000
	ours := action{flags: onStack | restart, mask: ^uint64(0)}
	if ours.handler, ours.restorer = addresses(); ours.restorer != 0 {
		ours.flags |= hasRestorer
	}
	var before action
	if err := sigaction(&ours, &before); err != nil {
		return err
	}
	err = signalAll(tasks)
	if restored := sigaction(&before, nil); err == nil {
		err = restored
	}
	return err
}

func sigaction(set, old *action) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)),
		unsafe.Sizeof(set.mask), 0, 0)
	if e != 0 {
		return fmt.Errorf("rt_sigaction: %w", e)
	}
	return nil
}

// signalAll signals each thread but this one, one after the other, until a list of them brings up no new one twice: a
// thread that is made while the list is read may be missing in it.
func signalAll(tasks *os.File) error {
	pid, self := unix.Getpid(), unix.Gettid()
	seen := map[int]bool{self: true}
	for quiet := 0; quiet < 2; quiet++ {
		if _, err := tasks.Seek(0, 0); err != nil {
			return err
		}
		names, err := tasks.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, name := range names {
			tid, err := strconv.Atoi(name)
			if err != nil || seen[tid] {
				continue
			}
			seen[tid] = true
			quiet = -1
			if err := signalOne(pid, tid); err != nil {
				return err
			}
		}
	}
	return nil
}

func signalOne(pid, tid int) error {
	before := atomic.LoadUint32(&done)
	if err := unix.Tgkill(pid, tid, unix.Signal(sig)); err != nil {
		return ended(err)
	}
	for start := time.Now(); atomic.LoadUint32(&done) == before; {
		if err := unix.Tgkill(pid, tid, 0); err != nil {
			return ended(err)
		}
		switch since := time.Since(start); {
		case since > wait:
			return fmt.Errorf("thread %d has not run a signal handler for %v; does it block signal %d?", tid, wait, sig)
		case since > time.Millisecond:
			time.Sleep(time.Millisecond)
		default: // it takes some microseconds; time.Sleep would hand this thread's work to another one
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
	if e := atomic.LoadUint32(&failed); e != 0 {
		return fmt.Errorf("on thread %d: %w", tid, unix.Errno(e))
	}
	return nil
}

// ended makes of the error of a signal that the thread is no more, and so needs nothing, no error.
func ended(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	return fmt.Errorf("tgkill: %w", err)
}

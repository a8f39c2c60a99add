//go:build linux && !ferrule_portable

package lane

import (
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// bell wakes the other side of a lane, and waits to be woken by it: a futex on the word itself, which is known to the
// kernel by the file that the memory is mapped from. One goroutine waits at a time.
type bell struct{ limit unix.Timespec } // of a wait, here so that a wait allocates nothing

const (
	futexWait = 0
	futexWake = 1
)

// wait sleeps while word is value, until it is woken or limit is over. It may also return for no reason.
func (b *bell) wait(word *atomic.Uint32, value uint32, limit time.Duration) {
	var ts *unix.Timespec
	if limit != Forever {
		b.limit = unix.NsecToTimespec(limit.Nanoseconds())
		ts = &b.limit
	}
	// Blocking: the runtime gives this thread's processor to others meanwhile.
	// The kernel reads the limit when the call has begun; the compiler takes it for dead by then.
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, raw.Word(word), futexWait, uintptr(value), raw.AddrOf(ts), 0, 0)
	runtime.KeepAlive(ts)
}

// ring wakes whoever waits for word.
func (*bell) ring(word *atomic.Uint32) {
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, raw.Word(word), futexWake, 1<<30, 0, 0, 0)
}

// alarm wakes this side.
func (b *bell) alarm(word *atomic.Uint32) { b.ring(word) }

// bells are the bells of one side.
type bells struct {
	list [bellCount]bell // of the lanes, the header, and the lanes' rings
	lost chan error      // nil: there is nothing to lose
}

// bellPipes is how many pipes this platform's bells need in each direction.
const bellPipes = 0

func newBells(_, _ *os.File, _ bool) *bells { return new(bells) }

func (bs *bells) at(i int) *bell { return &bs.list[i] }

func (*bells) close() {}

// processor returns the number of the processor that this thread runs on.
func processor() uint32 {
	var cpu uint32
	// Sound because the kernel writes the number and does not keep the pointer.
	_, _, _ = syscall.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	return cpu
}

// leave moves this thread to another processor, where it may use another one.
func leave() {
	var all unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil || all.Count() < 2 {
		return
	}
	others := all
	others.Clear(int(processor()))
	if unix.SchedSetaffinity(0, &others) == nil {
		_ = unix.SchedSetaffinity(0, &all)
	}
}

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// system is what this system has; tests put something less in its place. The functions say why not, or nothing.
var system = struct {
	landlock func() (abi int, why string)
	seccomp  func() (why string)
}{landlockABI, seccompLacks}

// apply takes the bounds of a policy, as resolve writes it, upon this process: all its threads, for as long as it lives.
// libraries are the plug-in's file and those that it brings along. It returns the layers that
// are active. After an error some may be, and the process should end.
func apply(text []byte, libraries []wire.Library) ([]string, error) {
	return take(text, libraries, nil)
}

// take is apply. Where another program is to take this one's place, launched is that: its bounds are then those that outlast an execve.
func take(text []byte, libraries []wire.Library, launched *successor) ([]string, error) {
	c, err := decodeConfig(text)
	if err != nil {
		return nil, err
	}
	p := c.Policy
	// Much of what follows concerns one thread, and is passed on from it to the others in the end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var r report
	abi, why := system.landlock()
	if why != "" {
		r.lacks("landlock: files", why)
	}
	if why == "" && abi < landlockTCP && len(p.Connect)+len(p.Listen) > 0 {
		r.lacks("landlock: tcp", fmt.Sprintf("the kernel's Landlock v%d has no rules for ports, Linux 6.7 has", abi))
	}
	noSeccomp := system.seccomp()
	if noSeccomp != "" {
		r.lacks("seccomp", noSeccomp)
	}
	var uncounted string
	if p.Processes > 0 {
		if uncounted = uncountedUser(); uncounted != "" {
			r.lacksFor("rlimit processes", uncounted, "run as another user, or do without Policy.Processes")
		}
	}
	if err := r.err(&p); err != nil {
		return nil, err
	}

	if abi > 0 || noSeccomp == "" { // both set it on all threads
		r.has("no-new-privs")
	}
	// What is measured for the limits is in /proc, which Landlock closes.
	if err := applyLimits(&p, &r, uncounted == "", launched); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if abi > 0 {
		layers, err := applyLandlock(abi, &c, libraries, launched)
		if err != nil {
			return nil, fmt.Errorf("landlock: %w", err)
		}
		r.layers = append(r.layers, layers...)
	}
	// Landlock's own descriptors are closed by now.
	if err := limitFiles(&p, &r, launched); err != nil {
		return nil, fmt.Errorf("rlimit files: %w", err)
	}
	timer := int32(-1)
	if launched == nil { // no timer outlasts an execve: the host has one
		if timer, err = applyTime(&p, &r); err != nil {
			return nil, fmt.Errorf("wall time: %w", err)
		}
	}
	// Landlock has sent its signals to this process's threads by now, and the timer is there.
	if err := limitSignals(&r); err != nil {
		return nil, fmt.Errorf("rlimit signals: %w", err)
	}
	if noSeccomp == "" {
		if err := applySeccomp(&p, timer, abi >= landlockScopes, launched); err != nil {
			return nil, fmt.Errorf("seccomp: %w", err)
		}
		r.has("seccomp")
	}
	return r.layers, nil
}

// applyLimits sets resource limits, as hard ones: seccomp refuses to set them again, and without it only root can.
func applyLimits(p *Policy, r *report, countable bool, launched *successor) error {
	if p.Memory > 0 {
		// RLIMIT_AS counts addresses, of which the C library reserves 64 MiB and more for each thread, and the Go
		// runtime a gigabyte at once. RLIMIT_DATA counts what is writable and private; seccomp refuses what it does not
		// count. What neither sees are the page tables of large mappings that are read here and there: of these the
		// limit of addresses is the bound, and generous otherwise.
		//
		// Another program begins with nothing, and this process may have more than its limit by then.
		set, addresses, writable, err := func(which int, value uint64) error { return limit(which, value, 0) }, uint64(0), uint64(0), error(nil)
		if launched != nil {
			set = launched.later
		} else if addresses, writable, err = memoryInUse(); err != nil {
			return fmt.Errorf("rlimit memory: %w", err)
		}
		if err := set(unix.RLIMIT_DATA, add(writable, uint64(p.Memory))); err != nil {
			return fmt.Errorf("rlimit memory: %w", err)
		}
		if err := set(unix.RLIMIT_AS, add(addresses, addressSpace(p.Memory))); err != nil {
			return fmt.Errorf("rlimit memory: %w", err)
		}
		if err := limit(unix.RLIMIT_STACK, mainStack, 0); err != nil {
			return fmt.Errorf("rlimit memory: %w", err)
		}
		r.has("rlimit memory")
	}
	if p.CPU > 0 {
		// By the signal's own default the host sees what ended its worker, where the Go runtime would print a trace. A
		// plug-in that ignores the signal is killed a second later.
		byDefault(unix.SIGXCPU)
		seconds := uint64((p.CPU + time.Second - 1) / time.Second)
		if err := limit(unix.RLIMIT_CPU, seconds, 1); err != nil {
			return fmt.Errorf("rlimit cpu: %w", err)
		}
		r.has("rlimit cpu")
	}
	if p.Processes > 0 && countable {
		tasks, err := tasksOfUser()
		if err != nil {
			return fmt.Errorf("rlimit processes: %w", err)
		}
		if err := limit(unix.RLIMIT_NPROC, add(tasks+spareThreads, uint64(p.Processes)), 0); err != nil {
			return fmt.Errorf("rlimit processes: %w", err)
		}
		r.has("rlimit processes")
	}
	if len(p.Write) == 0 {
		// No file grows, the shared memory neither.
		byDefault(unix.SIGXFSZ)
		if err := limit(unix.RLIMIT_FSIZE, 0, 0); err != nil {
			return fmt.Errorf("rlimit file size: %w", err)
		}
		r.has("rlimit file size")
	}
	// The limit does not count where the system pipes dumps to a program; the mark does. It also keeps other
	// processes of the same user from looking into this one. An execve takes the mark off: of a launcher's program, and of what a
	// worker starts, other processes of the user may look into it, and it may be dumped again where dumps are piped.
	if err := limit(unix.RLIMIT_CORE, 0, 0); err != nil {
		return fmt.Errorf("no core dumps: %w", err)
	}
	if launched != nil { // the filter outlasts the execve: what the program has in memory is in no dump. It is set first, since the mark makes the file root's
		if err := os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no core dumps: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("no core dumps: %w", err)
	}
	r.has("no core dumps")
	return nil
}

// mainStack is how long the stack of the first thread may grow, which RLIMIT_DATA does not count.
const mainStack = 8 << 20

// spareThreads is how many threads a worker may make without taking from Policy.Processes.
const spareThreads = 64

// limit sets a limit that is raised by nobody any more. Where the process has a lower one already, that stays.
func limit(which int, soft, slack uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(which, &now); err != nil {
		return err
	}
	l := unix.Rlimit{Cur: min(soft, now.Max), Max: min(add(soft, slack), now.Max)}
	return unix.Setrlimit(which, &l)
}

func add(a, b uint64) uint64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// addressSpace returns how many bytes of addresses a plug-in with so much memory may map. A page of tables, 4 KiB, serves 2 MiB
// of them, so that they come to a quarter of the memory and 8 MiB.
func addressSpace(memory int64) uint64 {
	const generous = 128
	if memory > math.MaxInt64/generous {
		return math.MaxInt64
	}
	return add(generous*uint64(memory), 4<<30)
}

// memoryInUse returns how many bytes of memory this process has that RLIMIT_AS and RLIMIT_DATA count.
func memoryInUse() (addresses, writable uint64, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		var to *uint64
		switch fields[0] {
		case "VmSize:":
			to = &addresses
		case "VmData:":
			to = &writable
		default:
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 53)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/self/status: %w", err)
		}
		*to = n << 10
		found++
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("/proc/self/status has no lines VmSize and VmData")
	}
	return addresses, writable, nil
}

// limitFiles leaves the plug-in its number of descriptors. The system limits how high they may be, so what counts is
// how many below are free.
func limitFiles(p *Policy, r *report, launched *successor) error {
	left := p.Files
	if left == 0 {
		left = defaultFiles
	}
	if launched != nil { // it has its first ones, and no other
		r.has("rlimit files")
		return launched.later(unix.RLIMIT_NOFILE, add(uint64(launched.Files), uint64(left)))
	}
	const highest = 4096 // a worker has no descriptor above
	fd := 0
	for ; left > 0 && fd < highest; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			left--
		}
	}
	if err := limit(unix.RLIMIT_NOFILE, add(uint64(fd), uint64(left)), 0); err != nil {
		return err
	}
	r.has("rlimit files")
	return nil
}

// limitSignals leaves others of the user half of what the system queues for it: timers, and signals that carry something. The kernel counts
// these for all processes of a user together, and asks the limit of each. Who had taken all of it would keep every program of the user from making
// a change on all of its threads, and so the next sandbox from beginning.
func limitSignals(r *report) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &now); err != nil {
		return err
	}
	if err := limit(unix.RLIMIT_SIGPENDING, min(now.Cur, now.Max/2), 0); err != nil {
		return err
	}
	r.has("rlimit signals")
	return nil
}

// byDefault has a signal end the process, as it does without the Go runtime.
func byDefault(sig unix.Signal) {
	var action [40]byte // a struct sigaction of nothing but zeros: SIG_DFL
	// Sound because the kernel copies the structure, and does not keep the pointer. It cannot fail for a signal of
	// these.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// applyTime starts the timer that kills the process, and returns its number, or -1. It is the kernel's, so that it
// works also when the host is stopped or the worker is stuck.
func applyTime(p *Policy, r *report) (timer int32, err error) {
	if p.Time <= 0 {
		return -1, nil
	}
	event := struct { // struct sigevent
		value          uintptr
		signal, notify int32
		_              [52]byte
	}{signal: int32(unix.SIGKILL)}
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&event)),
		uintptr(unsafe.Pointer(&timer))); e != 0 {
		return -1, fmt.Errorf("timer_create: %w", e)
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(p.Time))}
	_, _, e := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if e != 0 {
		return -1, fmt.Errorf("timer_settime: %w", e)
	}
	r.has("wall time")
	return timer, nil
}

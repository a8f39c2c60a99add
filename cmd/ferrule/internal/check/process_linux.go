package check

import (
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// resident returns the bytes of this process's memory that no file backs, without Go's heap where that can be told apart: Go's runtime
// gives memory back to the system at times of its own, which would hide what a library keeps.
func resident() (int, bool) {
	if strconv.IntSize == 32 {
		return residentOf(os.Getpid())
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return 0, false
	}
	// Go's heap begins at a multiple of 4 GiB that the system gives to nobody by itself, and goes on from there.
	goes := uint64(reflect.ValueOf(new([64]byte)).Pointer()) >> 32
	all, skip := 0, false
	for line := range strings.Lines(string(text)) {
		if kB, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kB), "kB")))
			if err != nil {
				return 0, false
			}
			if !skip {
				all += n << 10
			}
		} else if begin, _, ok := strings.Cut(line, "-"); ok {
			if at, err := strconv.ParseUint(begin, 16, 64); err == nil {
				skip = at>>32 == goes
			}
		}
	}
	return all, true
}

// residentOf returns the bytes of another process's memory that no file backs.
func residentOf(pid int) (int, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if kB, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kB), "kB")))
			return n << 10, err == nil
		}
	}
	return 0, false
}

// threads returns how many threads this process has.
func threads() (int, bool) {
	tasks, err := os.ReadDir("/proc/self/task")
	return len(tasks), err == nil
}

// thread is this thread's number.
func thread() int { return unix.Gettid() }

// waited is how long a thread has waited for a processor since it began; 0 where the system does not say.
func waited(thread int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", thread))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[1], 10, 64)
	return time.Duration(n)
}

// childless waits until this process has no children.
func childless() {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err == unix.ECHILD {
			return
		}
		time.Sleep(wait)
	}
}

// elsewhereAndBack takes a thread, says that it has it, and leaves it to Go when the channel is closed.
func elsewhereAndBack(there func(), until chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	there()
	<-until
}

// scratch is memory for what the system writes.
var scratch []byte

func fresh() []byte {
	if scratch == nil {
		var err error
		if scratch, err = guarded(4096); err != nil {
			panic(err)
		}
	}
	clear(scratch)
	return scratch
}

const kernelSet = 8 // bytes of the kernel's sigset_t

func signalHandlers() (facts, string) {
	all := facts{}
	for n := 1; n <= 64; n++ {
		if n >= 32 && n <= 34 || n == int(unix.SIGKILL) || n == int(unix.SIGSTOP) {
			continue // the C library's own, and those that have no handler
		}
		b := fresh()
		if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), 0, addr(b), kernelSet, 0, 0); e != 0 {
			return nil, "signal handlers cannot be read: " + e.Error()
		}
		name := unix.SignalName(unix.Signal(n))
		if name == "" {
			name = "signal " + strconv.Itoa(n)
		}
		all["the handler of "+name] = fmt.Sprintf("%#x with flags %#x", binary.NativeEndian.Uint64(b),
			binary.NativeEndian.Uint64(b[8:]))
	}
	return all, ""
}

func signalMask() (facts, string) {
	b := fresh()
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, 0, 0, addr(b), kernelSet, 0, 0); e != 0 {
		return nil, "the signal mask cannot be read: " + e.Error()
	}
	return facts{"the signal mask": fmt.Sprintf("%#x", binary.NativeEndian.Uint64(b))}, ""
}

func locale() (facts, string) {
	const all = 6 // LC_ALL
	set, use := libc("setlocale"), libc("uselocale")
	if set == 0 || use == 0 {
		return nil, "the C library has no setlocale and uselocale"
	}
	name, _, _ := purego.SyscallN(set, all, 0)
	own, _, _ := purego.SyscallN(use, 0)
	return facts{"the locale": strconv.Quote(text(name)), "the thread's locale": fmt.Sprintf("%#x", own)}, ""
}

func floatingPoint() (facts, string) {
	get := libc("fegetenv")
	for _, name := range []string{"libm.so.6", "libm.so", "libc.so"} {
		if get == 0 {
			if m, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL); err == nil {
				get, _ = purego.Dlsym(m, "fegetenv")
			}
		}
	}
	if get == 0 {
		return nil, "the C library has no fegetenv"
	}
	b := fresh()
	purego.SyscallN(get, addr(b))
	switch runtime.GOARCH {
	case "amd64":
		const modes = 0xFFC0 // of MXCSR: all but the flags of what has happened
		return facts{"the x87 control word": fmt.Sprintf("%#x", binary.NativeEndian.Uint16(b)),
			"MXCSR": fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b[28:])&modes)}, ""
	case "arm64":
		return facts{"FPCR": fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b))}, ""
	}
	return nil, "the floating-point environment is not read on " + runtime.GOARCH
}

func umask() (facts, string) {
	mask := unix.Umask(0o777) // nothing else of this process makes files meanwhile
	unix.Umask(mask)
	return facts{"the umask": fmt.Sprintf("%#o", mask)}, ""
}

func limits() (facts, string) {
	all := facts{}
	for n, name := range []string{"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
		"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS"} { // in the kernel's order on amd64, arm64, riscv64
		var l unix.Rlimit
		if err := unix.Getrlimit(n, &l); err != nil {
			return nil, "resource limits cannot be read: " + err.Error()
		}
		all["the limit "+name] = fmt.Sprintf("%d, %d", l.Cur, l.Max)
	}
	return all, ""
}

func environment() (facts, string) {
	variable := libc("environ")
	if variable == 0 {
		return nil, "the C library has no environ"
	}
	all := facts{}
	for p := word(variable); p != 0 && word(p) != 0; p += sizeWord {
		name, value, _ := strings.Cut(text(word(p)), "=")
		all["the variable "+name] = strconv.Quote(value)
	}
	return all, ""
}

func streams() (facts, string) {
	all := facts{}
	for fd, name := range []string{"the standard input", "the standard output", "the standard error output"} {
		var s unix.Stat_t
		if err := unix.Fstat(fd, &s); err != nil {
			all[name] = "closed"
			continue
		}
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		all[name] = fmt.Sprintf("file %d:%d with flags %#x", s.Dev, s.Ino, flags)
	}
	return all, ""
}

// handler is what a process does with SIGCHLD.
type handler struct{ action []byte }

// childHandler returns what this process does with it now, or why that is not known.
func childHandler() (*handler, string) {
	b, err := guarded(4096)
	if err != nil {
		return nil, err.Error()
	}
	if e := childAction(0, addr(b)); e != 0 {
		return nil, "signal handlers cannot be read: " + e.Error()
	}
	return &handler{b}, ""
}

func childAction(set, get uintptr) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), set, get, kernelSet, 0, 0)
	return e
}

// restore puts it back.
func (h *handler) restore() { childAction(addr(h.action), 0) }

// ignores reports whether it is ignored now, so that the system reaps this process's children by itself.
func (h *handler) ignores() bool {
	b := fresh()
	const ignore = 1 // SIG_IGN
	return childAction(0, addr(b)) == 0 && binary.NativeEndian.Uint64(b) == ignore
}

// hostChild is a child process that has ended and that nobody has waited for.
type hostChild struct{ pid int }

// newChild starts one. It is this program again, which is there for certain.
func (k *kit) newChild() (*hostChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	err = gob.NewEncoder(in).Encode(task{Case: child})
	if closed := in.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	c := &hostChild{cmd.Process.Pid}
	for { // until it has ended; it stays to be waited for
		if err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return c, err
		}
	}
}

// taken reports whether somebody else has waited for the child.
func (c *hostChild) taken() bool {
	for {
		if _, err := unix.Wait4(c.pid, nil, unix.WNOHANG, nil); err != unix.EINTR {
			return err == unix.ECHILD
		}
	}
}

// stackBottom is the lowest address of this thread's stack of the system, on which native code runs, or 0.
func stackBottom() uintptr {
	self, of, get := libc("pthread_self"), libc("pthread_getattr_np"), libc("pthread_attr_getstack")
	if self == 0 || of == 0 || get == 0 {
		return 0
	}
	b := fresh() // more than any pthread_attr_t has
	const bottom, size = 2048, 2048 + 64
	thread, _, _ := purego.SyscallN(self)
	if failed, _, _ := purego.SyscallN(of, thread, addr(b)); int32(failed) != 0 {
		return 0
	}
	if failed, _, _ := purego.SyscallN(get, addr(b), addr(b[bottom:]), addr(b[size:])); int32(failed) != 0 {
		return 0
	}
	return word(addr(b[bottom:]))
}

//go:build linux && (amd64 || arm64)

package crash

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the handler uses. It is read and written in assembly.
var (
	//lint:ignore U1000 the handler reads it
	process, recordFile int32 // whose faults are recorded, and into which descriptor
	//lint:ignore U1000 the handler reads it
	codeStart, codeEnd uintptr // of the program's own code
	//lint:ignore U1000 the handler reads it
	recording uint32 // not 0 once a fault is being recorded
	//lint:ignore U1000 the handler reads it
	oldHandlers [32]uintptr // by signal
	//lint:ignore U1000 the handler writes it
	scratch [16 << 10]byte
	//lint:ignore U1000 the handler reads it
	mapsPath = [...]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 'm', 'a', 'p', 's', 0}
)

func handlerAddress() uintptr
func restorerAddress() uintptr

// action is the kernel's struct sigaction.
type action struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// The kernel's flags.
const (
	withInfo    = 0x4        // SA_SIGINFO
	hasRestorer = 0x4000000  // SA_RESTORER
	onStack     = 0x8000000  // SA_ONSTACK
	once        = 0x80000000 // SA_RESETHAND
)

// Record has the first crash of this process written to a file, which stays open as long as the process lives. Then the handler
// that was there before goes on, such as Go's, which ends the process; where there was none, the signal itself ends it. Faults in the
// program's own code are not recorded. A thread that Go does not know, and whose stack overflows, ends the process without a record.
func Record(file *os.File) error {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	own := uint64(handlerAddress())
	for _, m := range code(mappings(text)) {
		if own >= m.start && own < m.end {
			codeStart, codeEnd = uintptr(m.start), uintptr(m.end)
		}
	}
	if _, err := file.WriteAt(binary.NativeEndian.AppendUint64(nil, own), programAt); err != nil {
		return err
	}
	process, recordFile = int32(os.Getpid()), int32(file.Fd())
	for _, signal := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT} {
		var a action
		if err := change(signal, nil, &a); err != nil {
			return err
		}
		switch a.handler {
		case 0: // SIG_DFL
			a = action{flags: withInfo | onStack | once}
			if runtime.GOARCH == "amd64" { // elsewhere the kernel has a restorer of its own
				a.flags, a.restorer = a.flags|hasRestorer, restorerAddress()
			}
		case 1: // SIG_IGN
			continue
		default:
			oldHandlers[signal] = a.handler
		}
		a.handler = handlerAddress()
		if err := change(signal, &a, nil); err != nil {
			return err
		}
	}
	return nil
}

// File makes a file for Record, in memory: it has no path, and goes with the last who has it open.
func File() (*os.File, error) {
	fd, err := unix.MemfdCreate("crash", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "crash"), nil
}

// change sets and gets what is done on a signal. Sound because the kernel copies the structures, and keeps no pointer.
func change(signal syscall.Signal, set, get *action) error {
	_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 8, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

func signalName(n int) string { return unix.SignalName(syscall.Signal(n)) }

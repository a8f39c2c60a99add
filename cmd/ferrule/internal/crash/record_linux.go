//go:build linux && (amd64 || arm64)

package crash

import (
	"encoding/binary"
	"errors"
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
	//lint:ignore U1000 a file that nobody has any more is closed
	kept *os.File
	//lint:ignore U1000 the handler reads it
	codeStart, codeEnd uintptr // of the program's own code
	//lint:ignore U1000 the handler reads it
	recordDevice, recordInode uint64 // which file that is
	//lint:ignore U1000 the handler reads it
	recorder int32 // the thread that records a fault, once there is one
	//lint:ignore U1000 the handler reads it
	systems action // SIG_DFL
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
	saSiginfo  = 0x4
	saRestorer = 0x4000000
	saOnStack  = 0x8000000
)

// Record has the first crash of this process written to a file, which stays open as long as the process lives. Then the handler
// that was there before goes on, such as Go's, which ends the process; where there was none, the signal itself ends it. Other threads that
// crash meanwhile wait for that. Nothing is recorded of faults in the program's own code, of a thread that Go does not know and whose stack
// overflows, where the library has closed the file, and where files may not be longer than 2 MiB (RLIMIT_FSIZE, which a file in memory is
// under as well).
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
	var which unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &which); err != nil {
		return err
	}
	recordDevice, recordInode = which.Dev, which.Ino
	process, recordFile, kept = int32(os.Getpid()), int32(file.Fd()), file
	for _, signal := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT} {
		var a action
		if err := change(signal, nil, &a); err != nil {
			return err
		}
		switch a.handler {
		case 0: // SIG_DFL
			a = action{flags: saSiginfo | saOnStack, mask: ^uint64(0)}
			if runtime.GOARCH == "amd64" { // elsewhere the kernel has a restorer of its own
				a.flags, a.restorer = a.flags|saRestorer, restorerAddress()
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
	fd, err := unix.MemfdCreate("crash", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate("crash", unix.MFD_CLOEXEC)
	}
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

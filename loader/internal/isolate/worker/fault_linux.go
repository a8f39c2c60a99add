//go:build linux && (amd64 || arm64)

package worker

import (
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// What the handler of faults uses. It is read and written in assembly.
var (
	//lint:ignore U1000 the handler reads it
	faultRecord *lane.Fault // in the memory shared with the host, or nil
	//lint:ignore U1000 the handler reads it
	faultProcess int32
	//lint:ignore U1000 the handler reads it
	faultDefault [32]byte // a struct sigaction: SIG_DFL
	// Where the system's loader puts what it loads next: the last link of its list, which points to a struct link_map when there
	// is a next one, which begins with what is added to the library's own addresses. 0 where that is not known.
	faultNext uintptr
)

// beforeLoading finds the end of the loader's list. The library is what is put there first; its own libraries follow.
//
// Sound because the handle of the program itself is the list's first link (glibc, musl), as is its layout, which debuggers
// rely on, and because nothing else loads or unloads libraries meanwhile.
func beforeLoading() {
	dlopen, err := purego.Dlsym(purego.RTLD_DEFAULT, "dlopen")
	if err != nil {
		return
	}
	link, _, _ := purego.SyscallN(dlopen, 0, uintptr(purego.RTLD_LAZY))
	for link != 0 {
		faultNext = link + 3*ptrSize // l_addr, l_name, l_ld, l_next
		link = wordAt(faultNext)
	}
}

// afterLoading ends what beforeLoading has begun: what is loaded from now on is not the library.
func afterLoading() { faultNext = 0 }

func wordAt(addr uintptr) uintptr { return *raw.At[uintptr](raw.Bytes(addr, ptrSize), 0) }

func faultAddresses() (handler, restorer uintptr)

// recordFaults has the first fault of this process written to record, before the signal ends it as by default. Threads of the
// plug-in's own have no alternate stack: where theirs overflows the kernel ends the process by itself.
func recordFaults(record *lane.Fault) {
	faultRecord, faultProcess = record, int32(unix.Getpid())
	const restorerGiven, onStack, withInfo = 0x04000000, 0x08000000, 4
	action := struct {
		handler  uintptr
		flags    uint64
		restorer uintptr
		mask     uint64
		_        uint64
	}{flags: onStack | withInfo}
	if action.handler, action.restorer = faultAddresses(); action.restorer != 0 {
		action.flags |= restorerGiven
	}
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL} {
		// Sound because the kernel copies the structure, and does not keep the pointer.
		_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

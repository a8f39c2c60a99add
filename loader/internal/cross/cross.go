// Package cross makes the crossing into native code: it enters a function of the contract's one signature,
// int32_t f(ferrule_call *), on the system stack, and returns its status.
//
// There are two ways in. The direct one is runtime.cgocall, which takes a function and one pointer, and so is the
// contract's signature to the letter; it allocates nothing. The portable one is purego.SyscallN; the build tag
// ferrule_portable chooses it, and so does a platform where the direct one has not been run.
package cross

import (
	"runtime"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// Call fills the input and the room into the frame and enters fn with it. room's whole length is the room.
//
// Sound because: the frame is on the heap (it is part of an arena that is never freed) and holds addresses only, which
// the collector does not follow; cmem.Addr has moved in and room to the heap; both are kept alive until fn is back.
// What fn leaves in the frame is native data, to be checked before use.
func Call(fn uintptr, frame *abi.Call, in, room []byte) abi.Status {
	frame.In, frame.InLen = cmem.Addr(in), uintptr(len(in))
	frame.Out, frame.OutLen, frame.OutCap = cmem.Addr(room), 0, uintptr(len(room))
	frame.Release = 0
	stress.Cross()
	status := enter(fn, unsafe.Pointer(frame))
	stress.Cross()
	runtime.KeepAlive(in)
	runtime.KeepAlive(room)
	return abi.Status(status)
}

// Batch enters ferrule_batch. Sound as Call is: everything that frames refers to is kept alive by the caller, and on the
// heap.
func Batch(batch uintptr, frames *abi.Frames) abi.Status {
	stress.Cross()
	status := enter(batch, unsafe.Pointer(frames))
	stress.Cross()
	return abi.Status(status)
}

// Release enters the release function that a call left in the frame (R9), with the frame as it is.
func Release(frame *abi.Call) {
	stress.Cross()
	enter(frame.Release, unsafe.Pointer(frame))
}

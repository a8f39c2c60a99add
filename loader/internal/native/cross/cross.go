// Package cross makes the crossing into native code: it enters a function of the contract's one signature,
// int32_t f(ferrule_call *), on the system stack, and returns its status.
//
// There are two ways in. The direct one is runtime.cgocall, which takes a function and one pointer, and so is the
// contract's signature to the letter; it allocates nothing. The portable one is purego.SyscallN; the build tag
// ferrule_portable chooses it, and so does a platform where the direct one has not been run.
package cross

import (
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// Fill puts the input and the room into the frame; room's whole length is the room.
//
// Sound because the frame holds addresses only, which the collector does not follow, and because raw.Addr moves in and
// room to the heap. The caller keeps both alive until the call is over.
func Fill(frame *abi.Call, in, room []byte) {
	frame.In, frame.InLen = raw.Addr(in), uintptr(len(in))
	frame.Out, frame.OutLen, frame.OutCap = raw.Addr(room), 0, uintptr(len(room))
	frame.Release = 0
}

// Enter enters fn with the frame, which is on the heap: it is part of an arena that is never freed. What fn leaves in
// the frame is native data, to be checked before use.
func Enter(fn uintptr, frame *abi.Call) abi.Status {
	stress.Cross()
	status := enter(fn, unsafe.Pointer(frame))
	stress.Cross()
	return abi.Status(status)
}

// Batch enters ferrule_batch. Sound as Enter is: everything that frames refers to is kept alive by the caller, and on the
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

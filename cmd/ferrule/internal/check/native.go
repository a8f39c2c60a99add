package check

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
)

// All of the kit's unsafe code is in this file. What it hands to native code lies in memory that is mapped, never in Go's
// heap: the collector knows nothing of it, it does not move, and it stays mapped as long as the worker process lives.

// addr returns the address of mapped memory. Sound because mapped memory does not move.
func addr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// at returns the T that lies at b[off:]. Sound for mapped memory that b covers, for a T without pointers, and at offsets
// that are aligned for T; it panics where the first or the last does not hold.
func at[T any](b []byte, off int) *T {
	var t T
	p := unsafe.Pointer(unsafe.SliceData(b[off : off+int(unsafe.Sizeof(t))]))
	if uintptr(p)%unsafe.Alignof(t) != 0 {
		panic("at: not aligned")
	}
	return (*T)(p)
}

// pointer turns an address that native code gave into a pointer. Sound because native code has no addresses of Go's heap.
// The detour over memory tells vet that this is meant.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

// firstPage is where the first page ends, which no system maps.
const firstPage = 1 << 12

// valid reports whether n bytes can lie at addr, as far as the numbers tell.
func valid(addr, n uintptr) bool {
	return n == 0 || addr >= firstPage && n <= math.MaxInt && addr+(n-1) >= addr
}

// view returns n bytes of native memory. Where the plug-in lied about them the process dies, which is a finding.
func view(addr, n uintptr) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(addr)), n)
}

// nativeRequest returns the plug-in's request, or nil when there cannot be one at this address.
func nativeRequest(addr uintptr) *abi.Request {
	if addr < firstPage || addr%unsafe.Alignof(abi.Request{}) != 0 {
		return nil
	}
	return (*abi.Request)(pointer(addr))
}

// word and setUint32 read and write one word of a library's data.
func word(addr uintptr) uintptr        { return *(*uintptr)(pointer(addr)) }
func setUint32(addr uintptr, v uint32) { *(*uint32)(pointer(addr)) = v }

// text returns a copy of the C library's NUL-terminated text; "" for NULL.
func text(addr uintptr) string {
	n := uintptr(0)
	for addr != 0 && *(*byte)(pointer(addr + n)) != 0 {
		n++
	}
	return string(view(addr, n))
}

// putCall writes the frame to b[off:], and getCall reads the one there: as many of its bytes as its size says, and no
// more than this version knows. Both are sound because abi.Call has no pointers and no padding.
func putCall(b []byte, off int, c abi.Call) {
	n := min(c.Size, sizeCall)
	copy(b[off:off+int(n)], unsafe.Slice((*byte)(unsafe.Pointer(&c)), n))
}

func getCall(b []byte, off int, size uintptr) (c abi.Call) {
	n := min(size, sizeCall)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), n), b[off:off+int(n)])
	return c
}

// putHost writes the table to b[off:], as putCall does a frame.
func putHost(b []byte, off int, h abi.Host) {
	n := min(h.Size, sizeHost)
	copy(b[off:off+int(n)], unsafe.Slice((*byte)(unsafe.Pointer(&h)), n))
}

// setWord writes one word of the plug-in's. Where there is none the process dies, which is a finding.
func setWord(addr, v uintptr) { *(*uintptr)(pointer(addr)) = v }

// loadWord reads a cancel word. Sound for the address of one, which is aligned, and only written as an atomic.
func loadWord(addr uintptr) uint32 { return (*atomic.Uint32)(pointer(addr)).Load() }

// member is the word at an offset of a frame's. Sound for the members of version 1.0, which every frame has.
func member(frame, offset uintptr) *uintptr { return (*uintptr)(pointer(frame + offset)) }

// The sizes of what this version of the contract has. abi.CallSize10 and abi.HostSize10 are what the first one had.
const (
	sizeCall    = unsafe.Sizeof(abi.Call{})
	sizeHost    = unsafe.Sizeof(abi.Host{})
	sizeRequest = unsafe.Sizeof(abi.Request{})
	sizeFrames  = unsafe.Sizeof(abi.Frames{})
	sizeWord    = unsafe.Sizeof(uintptr(0))
)

// Where members of a frame are, for member.
const (
	offsetOut     = unsafe.Offsetof(abi.Call{}.Out)
	offsetOutLen  = unsafe.Offsetof(abi.Call{}.OutLen)
	offsetOutCap  = unsafe.Offsetof(abi.Call{}.OutCap)
	offsetCancel  = unsafe.Offsetof(abi.Call{}.Cancel)
	offsetRelease = unsafe.Offsetof(abi.Call{}.Release)
)

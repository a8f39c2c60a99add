package check

import (
	"math"
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

// The sizes of what this version of the contract has.
const (
	sizeCall    = unsafe.Sizeof(abi.Call{})
	sizeHost    = unsafe.Sizeof(abi.Host{})
	sizeRequest = unsafe.Sizeof(abi.Request{})
	sizeFrames  = unsafe.Sizeof(abi.Frames{})
	sizeWord    = unsafe.Sizeof(uintptr(0))
)

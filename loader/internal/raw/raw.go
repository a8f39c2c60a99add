// Package raw is where memory is handled that Go's rules do not cover: addresses of Go memory that native code gets,
// and native memory that Go reads. It is small so that each line can be checked against the rule that makes it sound.
package raw

import (
	"context"
	"math"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
)

// zero is what an empty slice is said to lie at: the contract promises a pointer that is not NULL (R7, R8).
var zero [8]byte

// never is false; the compiler does not know, so that what would be stored in sink escapes. sink is never written.
var (
	never bool
	//lint:ignore U1000 that it could be written is what it is for
	sink unsafe.Pointer
)

// Addr returns the address of b's first byte for native code, never 0.
//
// Sound because it makes b escape, so that b is not on a stack, which could move; the collector does not move the
// heap. The caller keeps b alive (runtime.KeepAlive) until the native code is done with it.
func Addr(b []byte) uintptr {
	if cap(b) == 0 {
		return uintptr(unsafe.Pointer(&zero))
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if never {
		sink = p
	}
	return uintptr(p)
}

// KeepAlive is runtime.KeepAlive for b's memory, for which the slice need not be kept.
func KeepAlive(b []byte) { runtime.KeepAlive(unsafe.SliceData(b)) }

// AddrOf returns the address of *p for native code. Sound as in Addr: it makes *p escape, and the caller keeps it alive.
func AddrOf[T any](p *T) uintptr {
	if never {
		sink = unsafe.Pointer(p)
	}
	return uintptr(unsafe.Pointer(p))
}

// pointer turns an address of native memory into a pointer. Sound only for addresses that lie outside Go's heap, or
// in Go memory that the caller keeps alive otherwise. The detour over memory tells vet that this is meant.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

// firstPage is where the first page ends.
const firstPage = 1 << 12

// Valid reports whether n bytes at addr can be native memory: unless n is 0, addr is not on the first page, which no system
// maps and where Go ends a process that has a pointer to it on its stack; and they are neither more than any processor has
// addresses for a process, 2^56, nor beyond the end of the address space. Whether they may be read is the native side's promise.
func Valid(addr, n uintptr) bool {
	return n == 0 || addr >= firstPage && n <= math.MaxInt && uint64(n) <= 1<<56 && addr+(n-1) >= addr
}

// Allocatable reports whether Go can have memory for n bytes behind some others. Where it cannot, append panics, or ends the
// process: so a length that native code says is asked for first. The system is asked for 1 GiB or more only: the memory for
// less is small beside what a process has, and asking takes a microsecond or two.
func Allocatable(some, n int) bool {
	const asked, addresses = 1 << 30, 1 << 47
	total := uint64(some) + uint64(n)
	return total < asked || total < addresses && obtainable(total)
}

// Bytes returns a view of n bytes of native memory. It is valid as long as the native side's promise about that memory
// is (R7 to R9); nothing may hold it longer. addr and n are Valid.
func Bytes(addr uintptr, n int) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(addr)), n)
}

// Reads reports whether native memory begins with text. It reads no further than to the first byte that differs.
func Reads(addr uintptr, text string) bool {
	for i := range len(text) {
		if *(*byte)(pointer(addr + uintptr(i))) != text[i] {
			return false
		}
	}
	return true
}

// Request returns the plug-in's request at addr, or nil when addr cannot be one. The plug-in owns it; it is valid
// until the host service returns, and only its first version's members may be touched unless Size says more.
func Request(addr uintptr) *abi.Request {
	if addr < firstPage || addr%unsafe.Alignof(abi.Request{}) != 0 {
		return nil
	}
	r := (*abi.Request)(pointer(addr))
	if r.Size < unsafe.Sizeof(abi.Request{}) {
		return nil
	}
	return r
}

// SetUint32 writes an import slot (R5): addr is a uint32_t of the plug-in's, and nothing of the plug-in runs yet.
func SetUint32(addr uintptr, v uint32) { *(*uint32)(pointer(addr)) = v }

// Words returns the interface's own two words, which tell contexts apart that are in use: its type's, 0 for nil only, and its value's.
// Unlike ==, who compares them does not panic for a type that cannot be compared.
func Words(ctx context.Context) (kind, value uintptr) {
	words := (*[2]uintptr)(unsafe.Pointer(&ctx))
	return words[0], words[1] // one by one: together they would be read before the processor is done with writing them
}

// IsBackground reports whether ctx is context.Background(), which is the only value of its type.
func IsBackground(ctx context.Context) bool {
	kind, _ := Words(ctx)
	return kind == background
}

var background, _ = Words(context.Background())

// Hint returns a number below 1<<HintBits that is likely to stay the same for one goroutine and to differ between goroutines:
// where its stack is. It only spreads load; nothing depends on it.
func Hint() uint32 {
	var here byte
	return uint32(uintptr(unsafe.Pointer(&here))>>11) * 0x9E3779B1 >> (32 - HintBits)
}

// HintBits is how many bits a Hint has.
const HintBits = 16

// At returns the T that lies at b[off:], in memory that is mapped rather than allocated, and shared with another process.
// Sound because b covers all of it, because it is aligned, and as long as b stays mapped and T has no pointers in it. It
// panics where the first two do not hold.
func At[T any](b []byte, off int) *T {
	var t T
	p := unsafe.Pointer(unsafe.SliceData(b[off : off+int(unsafe.Sizeof(t))]))
	if uintptr(p)%unsafe.Alignof(t) != 0 {
		panic("raw.At: not aligned")
	}
	return (*T)(p)
}

// Word returns the address of a word for a system call, or for native code.
//
// Sound for words in mapped memory, and for those of the heap that the caller keeps alive: neither moves.
func Word(word *atomic.Uint32) uintptr { return uintptr(unsafe.Pointer(word)) }

// SameMemory reports whether a begins where b's backing memory does.
func SameMemory(a, b []byte) bool {
	return unsafe.SliceData(a) == unsafe.SliceData(b)
}

// IsWord reports whether addr can be that of a word of native memory, for SetUintptr.
func IsWord(addr uintptr) bool {
	return Valid(addr, unsafe.Sizeof(addr)) && addr%unsafe.Alignof(addr) == 0
}

// SetUintptr writes a word of a plug-in's, which IsWord has looked at, and which the plug-in has passed for that.
func SetUintptr(addr, v uintptr) { *(*uintptr)(pointer(addr)) = v }

// Frame returns the call frame at addr. Sound only for an address that was found to be that of a frame of the host's, which
// lives as long as the process: the members that a plug-in writes may change at any time.
func Frame(addr uintptr) *abi.Call { return (*abi.Call)(pointer(addr)) }

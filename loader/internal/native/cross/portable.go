//go:build ferrule_portable || !((linux || darwin) && (amd64 || arm64))

package cross

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// Direct reports which way in this build has.
const Direct = false

// enter calls fn(arg) through purego. Sound because the conversion stands in the call's own arguments, and arg points
// to the heap. The result is cut to 32 bits: how a register's upper half is filled depends on the architecture.
func enter(fn uintptr, arg unsafe.Pointer) int32 {
	r, _, _ := purego.SyscallN(fn, uintptr(arg))
	return int32(r)
}

//go:build !ferrule_portable && (linux || darwin) && (amd64 || arm64)

package cross

import (
	"unsafe"

	_ "github.com/ebitengine/purego" // with cgo off, it is what makes runtime.cgocall work
)

// Direct reports which way in this build has.
const Direct = true

// enter is runtime.cgocall: it enters fn(arg) on the system stack, with the goroutine marked as being outside Go, and
// returns fn's int32_t. Sound because that is the contract's signature, and because the runtime keeps this name and
// type for purego, which relies on it in the same way. arg must not point to a stack: it may move meanwhile.
//
//go:linkname enter runtime.cgocall
func enter(fn uintptr, arg unsafe.Pointer) int32

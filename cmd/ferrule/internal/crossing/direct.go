//go:build !ferrule_portable && (linux || darwin) && (amd64 || arm64)

package crossing

import (
	"unsafe"

	_ "github.com/ebitengine/purego" // with cgo off, it is what makes runtime.cgocall work
)

// Direct reports which way in this build has.
const Direct = true

// enter is runtime.cgocall, as in package loader: see loader/internal/native/cross. Sound because fn takes at most one argument
// and keeps nothing, and arg points to the heap.
//
//go:linkname enter runtime.cgocall
func enter(fn uintptr, arg unsafe.Pointer) int32

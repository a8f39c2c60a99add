//go:build !cgo

package hostcall

import "github.com/ebitengine/purego"

// entries makes the two callbacks. Arguments are machine words, which every platform's callbacks take; what is shorter
// in C is cut to its width, because the rest of a register is undefined.
func entries() (call, log uintptr) {
	call = purego.NewCallback(func(call, request uintptr) uintptr {
		return uintptr(uint32(services.Call(call, request)))
	})
	log = purego.NewCallback(func(call, level, text, textLen uintptr) uintptr {
		return uintptr(uint32(services.Log(call, uint32(level), text, textLen)))
	})
	return call, log
}

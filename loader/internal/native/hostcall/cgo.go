//go:build cgo

package hostcall

// #include <stddef.h>
// #include <stdint.h>
// extern int32_t ferrule_go_call(uintptr_t call, uintptr_t request);
// extern int32_t ferrule_go_log(uintptr_t call, uint32_t level, uintptr_t text, size_t text_len);
import "C"

import "unsafe"

// entries returns the addresses of the two exported functions below. In C their pointer arguments are uintptr_t, which
// is passed in the same way on every platform that Go has, and keeps the garbage collector away from native pointers.
func entries() (call, log uintptr) {
	return uintptr(unsafe.Pointer(C.ferrule_go_call)), uintptr(unsafe.Pointer(C.ferrule_go_log))
}

//export ferrule_go_call
func ferrule_go_call(call, request C.uintptr_t) C.int32_t {
	return C.int32_t(services.Call(uintptr(call), uintptr(request)))
}

//export ferrule_go_log
func ferrule_go_log(call C.uintptr_t, level C.uint32_t, text C.uintptr_t, textLen C.size_t) C.int32_t {
	return C.int32_t(services.Log(uintptr(call), uint32(level), uintptr(text), uintptr(textLen)))
}

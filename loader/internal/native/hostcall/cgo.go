//go:build cgo && (ferrule_portable || !((linux || darwin) && (amd64 || arm64)))

package hostcall

// #include <stddef.h>
// #include <stdint.h>
// extern int32_t ferrule_go_call(uintptr_t call, uintptr_t request);
// extern int32_t ferrule_go_log(uintptr_t call, uint32_t level, uintptr_t text, size_t text_len);
// extern int32_t ferrule_go_log_fields(uintptr_t call, uint32_t level, uintptr_t text, size_t text_len, uintptr_t fields, size_t fields_len);
// extern int32_t ferrule_go_info(uintptr_t call, uintptr_t request);
// extern int32_t ferrule_go_room(uintptr_t call, size_t n);
// extern int32_t ferrule_go_read(uintptr_t call, uintptr_t piece, uintptr_t piece_len);
// extern int32_t ferrule_go_write(uintptr_t call, uintptr_t piece, size_t piece_len);
// extern int32_t ferrule_go_next(uintptr_t call, uintptr_t request);
// extern uintptr_t ferrule_go_background(uintptr_t call);
import "C"

import (
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
)

// entries returns the addresses of the exported functions below. In C their pointer arguments are uintptr_t, which
// is passed in the same way on every platform that Go has, and keeps the garbage collector away from native pointers.
func entries() abi.Host {
	return abi.Host{
		Call:       uintptr(unsafe.Pointer(C.ferrule_go_call)),
		Log:        uintptr(unsafe.Pointer(C.ferrule_go_log)),
		LogFields:  uintptr(unsafe.Pointer(C.ferrule_go_log_fields)),
		Info:       uintptr(unsafe.Pointer(C.ferrule_go_info)),
		Room:       uintptr(unsafe.Pointer(C.ferrule_go_room)),
		Read:       uintptr(unsafe.Pointer(C.ferrule_go_read)),
		Write:      uintptr(unsafe.Pointer(C.ferrule_go_write)),
		Next:       uintptr(unsafe.Pointer(C.ferrule_go_next)),
		Background: uintptr(unsafe.Pointer(C.ferrule_go_background)),
	}
}

//export ferrule_go_call
func ferrule_go_call(call, request C.uintptr_t) C.int32_t {
	return C.int32_t(services.Call(uintptr(call), uintptr(request)))
}

//export ferrule_go_log
func ferrule_go_log(call C.uintptr_t, level C.uint32_t, text C.uintptr_t, textLen C.size_t) C.int32_t {
	return C.int32_t(services.Log(uintptr(call), uint32(level), uintptr(text), uintptr(textLen)))
}

//export ferrule_go_log_fields
func ferrule_go_log_fields(call C.uintptr_t, level C.uint32_t, text C.uintptr_t, textLen C.size_t, fields C.uintptr_t, fieldsLen C.size_t) C.int32_t {
	return C.int32_t(services.LogFields(uintptr(call), uint32(level), uintptr(text), uintptr(textLen), uintptr(fields), uintptr(fieldsLen)))
}

//export ferrule_go_info
func ferrule_go_info(call, request C.uintptr_t) C.int32_t {
	return C.int32_t(services.Info(uintptr(call), uintptr(request)))
}

//export ferrule_go_room
func ferrule_go_room(call C.uintptr_t, n C.size_t) C.int32_t {
	return C.int32_t(services.Room(uintptr(call), uintptr(n)))
}

//export ferrule_go_read
func ferrule_go_read(call, piece, pieceLen C.uintptr_t) C.int32_t {
	return C.int32_t(services.Read(uintptr(call), uintptr(piece), uintptr(pieceLen)))
}

//export ferrule_go_write
func ferrule_go_write(call, piece C.uintptr_t, pieceLen C.size_t) C.int32_t {
	return C.int32_t(services.Write(uintptr(call), uintptr(piece), uintptr(pieceLen)))
}

//export ferrule_go_next
func ferrule_go_next(call, request C.uintptr_t) C.int32_t {
	return C.int32_t(services.Next(uintptr(call), uintptr(request)))
}

//export ferrule_go_background
func ferrule_go_background(call C.uintptr_t) C.uintptr_t {
	return C.uintptr_t(services.Background(uintptr(call)))
}

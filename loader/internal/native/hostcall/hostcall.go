// Package hostcall gives plug-ins their way back into Go: one table of host services (struct ferrule_host) for the
// whole process. Which plug-in and which call a service is used for is found from the frame that it gets.
//
// There are three ways back, of which a build has one:
//
//   - Assembly that puts the arguments in a block and calls crosscall2, as what cgo exports does: with cgo and
//     without, on the platforms where the crossing (package cross) is the direct one.
//   - Elsewhere functions that cgo exports; the build tag ferrule_portable chooses them, too.
//   - Without cgo purego's callbacks there, of which a process has 2,000 that are never freed; this package takes
//     one for each service, whatever the number of plug-ins and host functions.
package hostcall

import (
	"sync"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Services is what the table's entries lead to. The arguments are what native code passed: nothing about them is
// known. The functions are called on any thread, at the same time, and must not panic.
type Services struct {
	Call       func(frame, request uintptr) abi.Status
	Log        func(frame uintptr, level uint32, text, textLen uintptr) abi.Status
	LogFields  func(frame uintptr, level uint32, text, textLen, fields, fieldsLen uintptr) abi.Status
	Info       func(frame, request uintptr) abi.Status
	Room       func(frame, n uintptr) abi.Status
	Read       func(frame, piece, pieceLen uintptr) abi.Status
	Write      func(frame, piece, pieceLen uintptr) abi.Status
	Next       func(frame, request uintptr) abi.Status
	Background func(frame uintptr) uintptr
}

var (
	once     sync.Once
	services Services
	table    abi.Host // a package variable: it has a fixed address, and lives as long as the process
)

// Table returns the address of the process's ferrule_host. The first call decides where its entries lead.
func Table(s Services) uintptr {
	once.Do(func() {
		services = s
		table = entries()
		table.Size = unsafe.Sizeof(table)
	})
	return raw.AddrOf(&table)
}

// mark is what the guard of the services looks for; 0 has it look for nothing, which costs a host service nothing.
//
//lint:ignore U1000 the assembly reads it
var mark uintptr

// Guard has every service refuse, with FERRULE_MISUSE or NULL, what comes from a quick call, by cross.QuickMark's mark. It
// is called before the first quick call, and may be called again. Only where there is a mark are services guarded: the
// assembly's.
func Guard(m uintptr) { guardOnce.Do(func() { mark = m }) }

var guardOnce sync.Once

// result is a status as C returns an int32_t: nothing is known of the upper half of the word.
func result(status abi.Status) uintptr { return uintptr(uint32(status)) }

//go:build amd64 || arm64

package worker

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// What fault needs to know: where this program's own code is, and the address of TerminateProcess.
var (
	imageStart, imageEnd uintptr
	//lint:ignore U1000 fault reads it
	terminate uintptr
)

// fault is a vectored continue handler in the system's calling convention. It ends the process with the exception's code
// when a library has raised an exception that is an error. It returns 0, and so leaves the exception to the next handler,
// where it is none or comes from this program's own code, to which the Go runtime gives a meaning.
//
//lint:ignore U1000 the system calls it
func fault()

// addressOfFault returns where fault begins.
func addressOfFault() uintptr

// surrender lets a fault of the plug-in's end the process with the exception's own code. The Go runtime has a continue
// handler for exceptions that nothing has handled, which would print its own state and exit with code 2; this one comes
// before it.
func surrender() {
	var info windows.ModuleInfo
	var self windows.Handle
	if windows.GetModuleHandleEx(windows.GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, nil, &self) != nil ||
		windows.GetModuleInformation(windows.CurrentProcess(), self, &info, uint32(unsafe.Sizeof(info))) != nil {
		return // a fault is exit code 2 then
	}
	kernel := windows.NewLazySystemDLL("kernel32.dll")
	end, add := kernel.NewProc("TerminateProcess"), kernel.NewProc("AddVectoredContinueHandler")
	if end.Find() != nil || add.Find() != nil {
		return
	}
	imageStart, imageEnd, terminate = info.BaseOfDll, info.BaseOfDll+uintptr(info.SizeOfImage), end.Addr()
	_, _, _ = add.Call(1, addressOfFault())
}

package check

import (
	"os"

	"golang.org/x/sys/windows"
)

// tempVariable names the folder for temporary files.
const tempVariable = "TMP"

// openLibrary opens the library; what it links to is searched for in its own folder and in the system's.
func openLibrary(path string) (uintptr, error) {
	h, err := windows.LoadLibraryEx(path, 0,
		windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR|windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
	return uintptr(h), err
}

func findSymbol(library uintptr, name string) (uintptr, error) {
	return windows.GetProcAddress(windows.Handle(library), name)
}

// libc returns a function or a variable of the C library, or 0: a process of Windows may have several C libraries.
func libc(string) uintptr { return 0 }

// closeLibrary unloads it.
func closeLibrary(library uintptr) { _ = windows.FreeLibrary(windows.Handle(library)) }

// nameOfSignal is "": no signal ends a process here.
func nameOfSignal(os.Signal) string { return "" }

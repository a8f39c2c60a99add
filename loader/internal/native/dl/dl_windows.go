package dl

import (
	"runtime"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/ferrule-dev/ferrule/loader/internal/native/fpenv"
)

// Open loads the library at path, an absolute path. What it links to is searched for in its own folder, in the
// program's and in the system's, and nowhere else: not in the working directory, not along PATH. The thread's
// floating-point control is put back, which code that runs meanwhile may change.
//
// beside are further folders to search, absolute paths: the folder that a copy of a library comes from. They are the
// process's for as long as this takes, behind the library's own.
func Open(path string, beside ...string) (Library, error) {
	if err := check(path); err != nil {
		return Library{}, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	control := fpenv.Get()
	defer control.Set()
	const search = windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS
	for _, folder := range beside {
		name, err := windows.UTF16PtrFromString(folder)
		if err != nil {
			return Library{}, errPath
		}
		cookie, err := windows.AddDllDirectory(name)
		if err != nil {
			return Library{}, &Error{strings.TrimSuffix(err.Error(), ".")}
		}
		defer func() { _ = windows.RemoveDllDirectory(cookie) }()
	}
	handle, err := windows.LoadLibraryEx(path, 0, search)
	if err != nil {
		return Library{}, &Error{strings.TrimSuffix(err.Error(), ".")}
	}
	return Library{uintptr(handle)}, nil
}

// Musl reports whether the C library of this process is musl, on Linux.
func Musl() bool { return false }

// Lookup returns the address of an exported symbol.
func (l Library) Lookup(symbol string) (uintptr, error) {
	addr, err := windows.GetProcAddress(windows.Handle(l.handle), symbol)
	if err != nil {
		return 0, &Error{err.Error()}
	}
	return addr, nil
}

// Close drops one reference to the library; the system unmaps it after the last one.
func (l Library) Close() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	control := fpenv.Get()
	defer control.Set()
	if err := windows.FreeLibrary(windows.Handle(l.handle)); err != nil {
		return &Error{err.Error()}
	}
	return nil
}

// Loaded reports whether the system has a library for this path, without loading it.
func Loaded(path string) bool {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false
	}
	var handle windows.Handle
	return windows.GetModuleHandleEx(windows.GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, name, &handle) == nil
}

//go:build unix

package dl

import (
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/loader/internal/native/fpenv"
)

// Open loads the library at path, an absolute path. All its symbols are bound now rather than when they are first used,
// so that a missing one is an error here, and they stay invisible to other libraries.
//
// dlerror keeps its text per thread and purego fetches it by a second call, so the goroutine stays on one thread. So does
// what the library's constructors leave there of their own; the floating-point control is put back.
//
// The second parameter is for Windows: here the system's loader has a library's search path from the library alone.
func Open(path string, _ ...string) (Library, error) {
	if err := check(path); err != nil {
		return Library{}, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	control := fpenv.Get()
	defer control.Set()
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return Library{}, &Error{err.Error()}
	}
	return Library{handle}, nil
}

// Musl reports whether the C library of this process is musl, on Linux.
func Musl() bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, err := purego.Dlsym(purego.RTLD_DEFAULT, "gnu_get_libc_version")
	return err != nil
}

// dlsym is the address of the function, 0 where it does not find itself.
var dlsym = sync.OnceValue(func() uintptr {
	if runtime.GOOS != "linux" { // elsewhere it may not be the one that programs get
		return 0
	}
	addr, _ := purego.Dlsym(purego.RTLD_DEFAULT, "dlsym")
	return addr
})

// Lookup returns the address of an exported symbol.
func (l Library) Lookup(symbol string) (uintptr, error) {
	// purego's function finds the same by way of reflection, which costs more than the look-up. It also has the text of the
	// error, and so comes second.
	if at := dlsym(); at != 0 && strings.IndexByte(symbol, 0) < 0 {
		name := append([]byte(symbol), 0)
		// Sound: SyscallN keeps what its arguments point to alive, and on the heap, until it returns.
		if addr, _, _ := purego.SyscallN(at, l.handle, uintptr(unsafe.Pointer(&name[0]))); addr != 0 {
			return addr, nil
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	addr, err := purego.Dlsym(l.handle, symbol)
	if err != nil {
		return 0, &Error{err.Error()}
	}
	return addr, nil
}

// Close drops one reference to the library; the system unmaps it after the last one, if it can.
func (l Library) Close() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	control := fpenv.Get()
	defer control.Set()
	if err := purego.Dlclose(l.handle); err != nil {
		return &Error{err.Error()}
	}
	return nil
}

// Loaded reports whether the system has a library for this path, without loading it; also where the system does not say.
func Loaded(path string) bool {
	if noLoad == 0 || check(path) != nil {
		return true
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := purego.Dlopen(path, purego.RTLD_LAZY|noLoad)
	if err != nil || handle == 0 {
		return false
	}
	_ = purego.Dlclose(handle)
	return true
}

//go:build unix

package check

import (
	"os"
	"syscall"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// tempVariable names the folder for temporary files.
const tempVariable = "TMPDIR"

// openLibrary opens the library with every symbol bound at once, and its own ones kept from other libraries.
func openLibrary(path string) (uintptr, error) {
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func findSymbol(library uintptr, name string) (uintptr, error) { return purego.Dlsym(library, name) }

// libc returns a function or a variable of the C library, or 0.
func libc(name string) uintptr {
	a, err := purego.Dlsym(purego.RTLD_DEFAULT, name)
	if err != nil {
		return 0
	}
	return a
}

// closeLibrary unloads it, where the system does: not what has said that it stays, nor what another one is linked to.
func closeLibrary(library uintptr) { _ = purego.Dlclose(library) }

// nameOfSignal is as in "SIGSEGV".
func nameOfSignal(s os.Signal) string { return unix.SignalName(s.(syscall.Signal)) }

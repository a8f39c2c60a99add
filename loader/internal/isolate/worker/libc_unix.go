//go:build unix

package worker

import (
	"os"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// cExit is the address of the C library's exit, or 0. It is looked up before anything of the plug-in's is loaded.
var cExit uintptr

// prepareLibc has the C library write out its standard output line by line: to a pipe it would keep the plug-in's words
// until there are some kilobytes of them, and lose them when the process crashes.
func prepareLibc() {
	look := func(names ...string) uintptr {
		for _, name := range names {
			if address, err := purego.Dlsym(purego.RTLD_DEFAULT, name); err == nil && address != 0 {
				return address
			}
		}
		return 0 // the output comes in blocks then
	}
	cExit = look("exit")
	const lineBuffered = 1 // _IOLBF of glibc, musl, Darwin and the BSDs
	stdout, setvbuf := look("stdout", "__stdoutp"), look("setvbuf")
	if stdout == 0 || setvbuf == 0 {
		return
	}
	// Sound because the symbol is a variable of the C library, a FILE *, which is there as long as the process.
	file := *raw.At[uintptr](raw.Bytes(stdout, ptrSize), 0)
	_, _, _ = purego.SyscallN(setvbuf, file, 0, lineBuffered, 0)
}

const ptrSize = 4 << (^uintptr(0) >> 63) // bytes

// leave ends the process after an orderly stop, as a C program ends: what stdio has buffered is written, and the handlers of
// atexit and the destructors of static objects run. (Functions that a library marks as destructors do with cgo only: without it
// nobody has told glibc about them at the program's start.) The host kills the process when they take
// longer than it has for an orderly end; see isolate.WithStopTimeout.
func leave() {
	if cExit != 0 {
		_, _, _ = purego.SyscallN(cExit, 0)
	}
	os.Exit(0)
}

//go:build unix

package crossing

import (
	"runtime"

	"github.com/ebitengine/purego"
)

// function finds abs of the C library, which is some three instructions, in what is loaded already.
func function() (uintptr, error) {
	runtime.LockOSThread() // for the error's text, which the system keeps for each thread
	defer runtime.UnlockOSThread()
	return purego.Dlsym(purego.RTLD_DEFAULT, "abs")
}

//go:build amd64 || arm64

package dl

import "github.com/ebitengine/purego"

// AtFork has the C library call child, a C function without parameters, in each child that this process forks, and reports whether it will. It is for what plug-ins fork by fork;
// what only executes a program (posix_spawn, system, popen, vfork) calls nothing.
func AtFork(child uintptr) bool {
	if at := program("__register_atfork"); at != 0 { // glibc, which has pthread_atfork in programs alone
		failed, _, _ := purego.SyscallN(at, 0, 0, child, 0)
		return int32(failed) == 0
	}
	if at := program("pthread_atfork"); at != 0 {
		failed, _, _ := purego.SyscallN(at, 0, 0, child)
		return int32(failed) == 0
	}
	return false
}

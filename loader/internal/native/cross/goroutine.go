//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64 || ppc64le || s390x

package cross

// goroutine returns the address of the runtime's descriptor of this goroutine, which is in a register or in thread-local
// storage. It is only compared, never followed.
func goroutine() uintptr

// Goroutine returns a number that no other running goroutine has, and that this one keeps; or 0 where there is none. A
// function that native code calls back on its caller's thread runs on the caller's goroutine.
func Goroutine() uintptr { return goroutine() }

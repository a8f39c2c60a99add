//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64 || ppc64le || s390x

// Package goroutine tells goroutines apart. The engines find by it which calls a call comes from that was made without
// their contexts.
package goroutine

// id returns the address of the runtime's descriptor of this goroutine, which is in a register or in thread-local
// storage. It is only compared, never followed.
func id() uintptr

// ID returns a number that no other running goroutine has, and that this one keeps; or 0 where there is none. A function
// that native code calls back on its caller's thread runs on the caller's goroutine.
func ID() uintptr { return id() }

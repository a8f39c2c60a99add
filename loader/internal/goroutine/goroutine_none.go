//go:build !(amd64 || arm64 || 386 || arm || riscv64 || loong64 || ppc64le || s390x)

// Package goroutine tells goroutines apart, where somebody has said how.
package goroutine

// ID returns 0: on this architecture nobody has said where the runtime keeps that number.
func ID() uintptr { return 0 }

//go:build linux && !amd64 && !arm64

// Package threads makes a system call on every thread of the process; not on this architecture.
package threads

import "golang.org/x/sys/unix"

// Supported says whether Syscall works in this build.
const Supported = false

// Syscall returns ENOTSUP.
func Syscall(uintptr, ...uintptr) error { return unix.ENOTSUP }

//go:build unix && !linux

package sidecar

import "syscall"

// redirect has a descriptor lead where another one does.
func redirect(to, descriptor int) error { return syscall.Dup2(to, descriptor) }

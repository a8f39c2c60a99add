package sidecar

import "syscall"

// redirect has a descriptor lead where another one does. Not every Linux has dup2.
func redirect(to, descriptor int) error { return syscall.Dup3(to, descriptor, 0) }

//go:build unix && !linux

package serve

import "golang.org/x/sys/unix"

// redirect has a descriptor lead where another one does.
func redirect(to, descriptor int) error { return unix.Dup2(to, descriptor) }

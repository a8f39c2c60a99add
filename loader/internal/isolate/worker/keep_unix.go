//go:build unix

package worker

import "syscall"

// keep makes an inherited descriptor this process's own: what the plug-in starts does not inherit it.
func keep(fd uintptr) { syscall.CloseOnExec(int(fd)) }

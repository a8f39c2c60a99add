package lane

import "syscall"

var switchToThread = kernel.NewProc("SwitchToThread").Addr()

// yield lets another thread have the processor that waits for it, which may be the other side's.
func yield() { _, _, _ = syscall.SyscallN(switchToThread) }

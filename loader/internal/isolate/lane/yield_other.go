//go:build !linux && !windows

package lane

import "runtime"

// yield lets another goroutine have the processor that waits for it. It does not reach the threads of the other side: that
// call is no system call here, but one of the C library.
func yield() { runtime.Gosched() }

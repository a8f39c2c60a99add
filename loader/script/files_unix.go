//go:build unix

package script

import "syscall"

// nonblock keeps the opening of a FIFO from waiting.
const nonblock = syscall.O_NONBLOCK

//go:build unix

package folder

import "syscall"

// notBlocking has nothing wait for whoever opens a named pipe from its other side.
const notBlocking = syscall.O_NONBLOCK

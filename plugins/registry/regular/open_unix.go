//go:build unix

package regular

import "syscall"

// nonblock has the opening of a pipe wait for nobody. Of a regular file it changes nothing.
const nonblock = syscall.O_NONBLOCK

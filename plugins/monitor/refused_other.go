//go:build !windows

package monitor

import "syscall"

// refusedHere is what this system says where nobody listens.
var refusedHere error = syscall.ECONNREFUSED

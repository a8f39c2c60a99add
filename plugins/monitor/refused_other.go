//go:build !windows

package monitor

import "syscall"

// refusedHere is what this system says where nobody listens.
var refusedHere error = syscall.ECONNREFUSED

// takenHere is what this system says where a socket cannot be made because something is at its path.
var takenHere error = syscall.EADDRINUSE

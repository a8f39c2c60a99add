//go:build unix

package host

import "golang.org/x/sys/unix"

// openFlags are what a program's file is opened with: what is at its path may be a pipe by now, on which opening would wait.
const openFlags = unix.O_NONBLOCK | unix.O_NOCTTY

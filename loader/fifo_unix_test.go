//go:build unix

package loader_test

import "syscall"

func makeFifo(path string) error { return syscall.Mkfifo(path, 0o644) }

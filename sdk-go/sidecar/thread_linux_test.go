package sidecar

import "syscall"

func thread() int { return syscall.Gettid() }

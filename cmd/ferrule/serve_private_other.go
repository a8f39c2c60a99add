//go:build !linux

package main

import "syscall"

// private does nothing here: a socket has no mode before it is bound.
func private(string, string, syscall.RawConn) error { return nil }

//go:build !unix

package main

import "os"

// Here nobody stops a command for a while.
func heedSuspension(chan<- os.Signal) {}
func suspend(bool)                    {}
